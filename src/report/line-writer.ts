/**
 * Writes lines to a file descriptor, each at once, so that one that was written is there after a crash and nothing
 * piles up in memory. A log that nobody takes any more must not stop mail, nor go silent where somebody may still listen:
 *
 *   closed (EPIPE)          the lines go to stderr from then on, after a line that says so; when that is closed too, nowhere
 *   full, and not blocking  waited for a moment; then lines are dropped, and counted, until it takes them again
 *   full, and blocking      the system makes the relay wait, as it does any program
 */
import { writeSync } from 'node:fs';

const WAITS = 50;
const WAIT_MS = 10;

export interface LineWriter {
  readonly write: (line: string) => void;
}

/** @param put writes octets to a descriptor and returns how many it took; throws as fs.writeSync */
export function createLineWriter(fd: number, put: (fd: number, octets: Buffer) => number = writeSync): LineWriter {
  let target: number | null = fd;
  let dropped = 0;
  const pause = new Int32Array(new SharedArrayBuffer(4));

  /** False when it was full for too long. What was begun of a line is then lost with it. */
  const putAll = (to: number, line: string, waits: number): boolean => {
    let octets = Buffer.from(line);
    for (let waited = 0; octets.length > 0; ) {
      try {
        octets = octets.subarray(put(to, octets));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
        if (waited++ >= waits) return false;
        Atomics.wait(pause, 0, 0, WAIT_MS);
      }
    }
    return true;
  };

  const say = (level: string, msg: string): string =>
    `${JSON.stringify({ level, time: new Date().toISOString(), msg })}\n`;

  const write = (line: string): void => {
    if (target === null) return;
    try {
      // While it is full nobody waits for it again.
      if (dropped > 0) {
        if (!putAll(target, say('warn', `${dropped} lines of the log were lost, because nobody read them`), 0)) {
          dropped++;
          return;
        }
        dropped = 0;
      }
      if (!putAll(target, line, WAITS)) dropped++;
    } catch (error) {
      const closed = target;
      target = closed === 2 ? null : 2;
      const code = (error as NodeJS.ErrnoException).code ?? String(error);
      write(say('error', `the log can no longer be written to descriptor ${closed} (${code}); it goes on here`));
      write(line);
    }
  };
  return { write };
}
