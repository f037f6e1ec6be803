/** CPU time by thread, as the kernel counts it: also of those that no profile of JavaScript shows. */
import { readdirSync, readFileSync } from 'node:fs';

interface Thread {
  readonly pid: number;
  readonly tid: number;
  readonly kind: string;
  /** Whether it runs scripts. */
  readonly scripts: boolean;
  readonly ms: number;
}

/** Every thread of these processes, and how long it has run so far. */
export type ThreadTimes = readonly Thread[];

export function threadTimes(pids: readonly number[]): ThreadTimes {
  return pids.flatMap((pid) =>
    list(`/proc/${pid}/task`).map((name) => {
      const tid = Number(name);
      const folder = `/proc/${pid}/task/${tid}`;
      const kind = kindOf(pid, tid, read(`${folder}/comm`).trim());
      return { pid, tid, ...kind, ms: Number(read(`${folder}/schedstat`).split(' ')[0]) / 1e6 };
    }),
  );
}

/** What each ran between two readings. */
export function between(before: ThreadTimes, after: ThreadTimes): ThreadTimes {
  const earlier = new Map(before.map((each) => [each.tid, each.ms]));
  return after.map((each) => ({ ...each, ms: each.ms - (earlier.get(each.tid) ?? 0) }));
}

/** Milliseconds by kind of thread. */
export function byKind(threads: ThreadTimes): ReadonlyMap<string, number> {
  const kinds = new Map<string, number>();
  for (const { kind, ms } of threads) kinds.set(kind, (kinds.get(kind) ?? 0) + ms);
  return kinds;
}

/** Milliseconds of the threads of one process that run scripts, in the order in which they were started. */
export function scriptThreads(threads: ThreadTimes, pid: number): readonly number[] {
  const ours = threads.filter((each) => each.pid === pid && each.scripts);
  return ours.toSorted((one, other) => one.tid - other.tid).map(({ ms }) => ms);
}

function kindOf(pid: number, tid: number, name: string): { readonly kind: string; readonly scripts: boolean } {
  if (pid === tid) return { kind: 'main threads', scripts: true };
  if (/^V8/i.test(name)) return { kind: 'V8 in the background (compiling, collecting)', scripts: false };
  if (/^libuv/.test(name)) return { kind: 'libuv pool (files, cryptography)', scripts: false };
  // Helpers that Node starts in every process, whatever runs in it.
  if (/^(?:SignalInspector|DelayedTaskSche)/.test(name)) return { kind: 'helpers of Node', scripts: false };
  return { kind: `threads named ${name}`, scripts: true };
}

function list(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Empty when the thread has ended meanwhile. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
