/** What loads a relay by the thousand without keeping anything: clients that count replies, a host that counts octets. */
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';

export interface CountingHost {
  readonly port: number;
  /** Octets of content of each message that has ended. */
  readonly messages: readonly { readonly octets: number; readonly at: number; readonly to: string }[];
  readonly close: () => Promise<void>;
}

const END = Buffer.from('\r\n.\r\n');

/** A mail host without TLS that takes everything and keeps nothing. */
export async function startCountingHost(): Promise<CountingHost> {
  const messages: { octets: number; at: number; to: string }[] = [];
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket)).on('error', () => socket.destroy());
    let inData = false;
    let [octets, to, rest] = [0, '', Buffer.alloc(0)];
    socket.write('220 counting.test ESMTP\r\n');
    socket.on('data', (chunk: Buffer) => {
      let left = Buffer.concat([rest, chunk]);
      rest = Buffer.alloc(0);
      while (left.length > 0) {
        if (inData) {
          const end = left.indexOf(END);
          if (end < 0) {
            const keep = Math.min(left.length, END.length - 1);
            octets += left.length - keep;
            rest = left.subarray(left.length - keep);
            return;
          }
          messages.push({ octets: octets + end, at: Date.now(), to });
          inData = false;
          octets = 0;
          left = left.subarray(end + END.length);
          socket.write('250 2.0.0 taken\r\n');
          continue;
        }
        const newline = left.indexOf('\r\n');
        if (newline < 0) {
          rest = left;
          return;
        }
        const line = left.subarray(0, newline).toString();
        left = left.subarray(newline + 2);
        to = /^RCPT TO:<([^>]*)>/i.exec(line)?.[1] ?? to;
        inData = /^DATA$/i.test(line);
        if (/^EHLO /i.test(line)) socket.write('250-counting.test\r\n250-PIPELINING\r\n250 SIZE 200000000\r\n');
        else socket.write(inData ? '354 go on\r\n' : /^QUIT$/i.test(line) ? '221 bye\r\n' : '250 ok\r\n');
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const bound = server.address();
  return {
    port: typeof bound === 'object' && bound ? bound.port : 0,
    messages,
    close: async () => {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** A conversation in the clear; every reply that is not 2xx or 3xx rejects. */
export class Client {
  readonly #socket: Socket;
  readonly #lines: AsyncIterator<string>;

  constructor(port: number) {
    this.#socket = createConnection({ port, host: '127.0.0.1', noDelay: true });
    this.#lines = linesOf(this.#socket);
  }

  async greet(): Promise<void> {
    await this.#reply();
    await this.say('EHLO loader.test');
  }

  /** Sends one line (with everything that follows it, already ended) and waits for the reply. */
  async say(line: string): Promise<string> {
    this.#socket.write(`${line}\r\n`);
    return this.#reply();
  }

  /** One message, commands in one go. The content is made as it is sent. */
  async send(to: string, content: Iterable<Buffer | string>): Promise<void> {
    this.#socket.write(`MAIL FROM:<alice@office.test>\r\nRCPT TO:<${to}>\r\nDATA\r\n`);
    for (let reply = 0; reply < 3; reply++) await this.#reply();
    for (const chunk of content) if (!this.#socket.write(chunk)) await once(this.#socket, 'drain');
    await this.say('\r\n.');
  }

  end(): void {
    this.#socket.destroy();
  }

  async #reply(): Promise<string> {
    for (;;) {
      const { value: line, done } = await this.#lines.next();
      if (done) throw new Error('the relay has closed the connection');
      if (/^[45]/.test(line)) throw new Error(line);
      if (line[3] !== '-') return line;
    }
  }
}

async function* linesOf(socket: Socket): AsyncGenerator<string> {
  let text = '';
  for await (const chunk of socket) {
    text += String(chunk);
    for (let end = text.indexOf('\r\n'); end >= 0; end = text.indexOf('\r\n')) {
      yield text.slice(0, end);
      text = text.slice(end + 2);
    }
  }
}

/** @param octets  size of the content */
export function* longContent(octets: number): Generator<Buffer | string> {
  yield 'Subject: long\r\n\r\n';
  const block = Buffer.from(`${'x'.repeat(998)}\r\n`.repeat(64));
  for (let sent = 0; sent < octets; sent += block.length) yield block;
}

/** Resident memory of a process and all its children, in MB: now, and the sum of what each had at most. */
export function memoryOf(pid: number): { readonly now: number; readonly most: number } {
  let [now, most] = [0, 0];
  for (const each of treeOf(pid)) {
    const status = readFileSync(`/proc/${each}/status`, 'utf8');
    now += Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    most += Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0);
  }
  return { now: Math.round(now / 1024), most: Math.round(most / 1024) };
}

/** Memory of a process and all its children in MB, what they share counted once. */
export function proportionalMemoryOf(pid: number): number {
  const sizes = treeOf(pid).map(
    (each) => /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${each}/smaps_rollup`, 'utf8'))?.[1],
  );
  return sizes.reduce((sum, kilobytes) => sum + Number(kilobytes ?? 0), 0) / 1_000;
}

function treeOf(pid: number): readonly number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  );
  return [pid, ...children.flatMap(treeOf)];
}

/** The process that was started with these words among its arguments. */
export function pidWith(words: string): number {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const found = pids.find((pid) => commandLineOf(pid).includes(words));
  if (found === undefined) throw new Error(`no process was started with ${words}`);
  return Number(found);
}

function commandLineOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
