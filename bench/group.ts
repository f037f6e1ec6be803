/**
 * A control group of the kernel for each candidate: whatever it starts is in it, so that its CPU time is counted to the
 * last short-lived process, and at the end exactly its processes are stopped.
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';

export interface Group {
  /** Words that put a command into the group: `[...enter, program, argument]`. */
  readonly enter: readonly string[];
  readonly pids: () => readonly number[];
  /** Milliseconds of CPU that all processes of the group have used so far, those that have ended included. */
  readonly cpuMs: () => number;
  /** Proportional set size of all processes now, in MB of a million octets. */
  readonly pssMb: () => number;
  /** Stops what is left in it, and takes it away. */
  readonly close: () => Promise<void>;
}

/** Where groups can be made on this machine: the unified hierarchy, or the older one that counts CPU time. */
function hierarchy(): { readonly path: string; readonly unified: boolean } | null {
  if (existsSync('/sys/fs/cgroup/cgroup.controllers')) return { path: '/sys/fs/cgroup', unified: true };
  if (existsSync('/sys/fs/cgroup/cpuacct')) return { path: '/sys/fs/cgroup/cpuacct', unified: false };
  return null;
}

/** Whether this process may make one. */
export function groupsWork(): boolean {
  const place = hierarchy();
  if (!place) return false;
  const trial = join(place.path, `dane-relay-trial-${process.pid}`);
  try {
    mkdirSync(trial);
    rmdirSync(trial);
    return true;
  } catch {
    return false;
  }
}

let made = 0;

export function createGroup(name: string): Group {
  const place = hierarchy();
  if (!place) throw new Error('this kernel has no control groups that count CPU time');
  const path = join(place.path, `dane-relay-bench-${process.pid}-${made++}-${name}`);
  mkdirSync(path);
  const members = join(path, 'cgroup.procs');
  const pids = (): readonly number[] => read(members).split('\n').filter(Boolean).map(Number);
  return {
    enter: ['sh', '-c', 'echo $$ >"$0" && exec "$@"', members],
    pids,
    cpuMs: () =>
      place.unified
        ? Number(/^usage_usec (\d+)$/m.exec(read(join(path, 'cpu.stat')))?.[1] ?? Number.NaN) / 1e3
        : Number(read(join(path, 'cpuacct.usage'))) / 1e6,
    pssMb: () => pids().reduce((sum, pid) => sum + pssKb(pid), 0) * 1.024e-3,
    close: async () => {
      for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
        for (let tries = 0; tries < 50 && pids().length > 0; tries++) {
          if (tries === 0 || signal === 'SIGKILL') for (const pid of pids()) tell(pid, signal);
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
      }
      rmdirSync(path);
    },
  };
}

function pssKb(pid: number): number {
  return Number(/^Pss:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0);
}

/** Empty when it cannot be read: processes come and go. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function tell(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended by itself.
  }
}
