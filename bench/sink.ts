/** The far end: starts native/sink and talks to it over its stdin and stdout. It ends when we do. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** As native/ledger.c prints it; times are nanoseconds of the monotonic clock. */
export interface SinkStats {
  readonly unique: number;
  readonly duplicates: number;
  readonly damaged: number;
  readonly misaddressed: number;
  readonly inClear: number;
  readonly strays: number;
  readonly connections: number;
  readonly handshakes: number;
  readonly resumed: number;
  readonly broken: number;
  readonly mostOpen: number;
  readonly firstNs: number;
  readonly lastNs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuMs: number;
}

export interface Sink {
  /** Resolves to `ok`, or to the name of the error: `EADDRINUSE`. */
  readonly listen: (address: string, tls: boolean) => Promise<string>;
  /** Forgets all counts and expects messages of this run. */
  readonly reset: (run: string, messages: number) => Promise<void>;
  readonly delay: (ms: number) => Promise<void>;
  /** Messages of the run that have come, in whatever state. */
  readonly count: () => Promise<number>;
  readonly stats: () => Promise<SinkStats>;
  readonly close: () => Promise<void>;
}

/** @param files of the certificate that all hosts present, and its key */
export function startSink(program: string, port: number, files: { readonly cert: string; readonly key: string }): Sink {
  const child = spawn(program, [String(port), files.cert, files.key], { stdio: ['pipe', 'pipe', 'inherit'] });
  const waiting: { resolve: (line: string) => void; reject: (error: Error) => void }[] = [];
  const ended = new Promise<void>((resolve) => {
    const end = (): void => {
      for (const { reject } of waiting.splice(0)) reject(new Error('the sink has ended'));
      resolve();
    };
    child.once('close', end);
    child.once('error', end);
  });
  createInterface({ input: child.stdout }).on('line', (line) => waiting.shift()?.resolve(line));
  child.stdin.on('error', () => {
    // It has ended, which `ended` tells those who wait.
  });
  const ask = (order: string): Promise<string> =>
    new Promise((resolve, reject) => {
      if (child.exitCode !== null || child.signalCode !== null) return reject(new Error('the sink has ended'));
      waiting.push({ resolve, reject });
      child.stdin.write(`${order}\n`);
    });
  const must = async (order: string): Promise<void> => {
    const answer = await ask(order);
    if (answer !== 'ok') throw new Error(`the sink does not "${order}": ${answer}`);
  };
  return {
    listen: (address, tls) => ask(`listen ${address} ${tls ? 'tls' : 'clear'}`),
    reset: (run, messages) => must(`reset ${run} ${messages}`),
    delay: (ms) => must(`delay ${ms}`),
    count: async () => Number(await ask('count')),
    stats: async () => JSON.parse(await ask('stats')) as SinkStats,
    close: async () => {
      child.stdin.end();
      await ended;
    },
  };
}
