/** The near end: runs native/load once. */
import { execFile } from 'node:child_process';
import type { Case } from './cases.ts';

/** As native/load.c prints it; times are nanoseconds of the monotonic clock. */
export interface LoadStats {
  readonly accepted: number;
  readonly later: number;
  readonly refused: number;
  readonly lost: number;
  readonly connections: number;
  readonly noConnection: number;
  readonly firstNs: number;
  readonly lastNs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuMs: number;
}

export interface Load extends Pick<Case, 'messages' | 'size' | 'sessions' | 'perConnection'> {
  /** Name of the run, which every message carries. */
  readonly run: string;
  readonly port: number;
  /** One domain by its name, or so many of d001.test, d002.test … */
  readonly to: string | number;
  readonly rate?: number | null;
  readonly seconds?: number;
}

/** Resolves when every message has its answer or the time is over. */
export function sendLoad(program: string, load: Load, signal?: AbortSignal): Promise<LoadStats> {
  const { run, port, to, messages, size, sessions, perConnection, rate = null, seconds = 240 } = load;
  const words = Object.entries({
    run,
    port,
    messages,
    size,
    sessions: Math.min(sessions, messages),
    'per-connection': perConnection,
    seconds,
    [typeof to === 'string' ? 'domain' : 'domains']: to,
    ...(rate === null ? {} : { rate }),
  }).flatMap(([name, value]) => [`--${name}`, String(value)]);
  return new Promise((resolve, reject) => {
    execFile(program, words, { signal }, (error, stdout) => {
      if (error) reject(error);
      else resolve(JSON.parse(stdout) as LoadStats);
    });
  });
}
