/** What the machine under all of it says of itself: its name, the time that was taken from it, its disk's flushes. */
import { readFileSync, statSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';

/** One line for a table: processors, memory, kernel. */
export function machineInWords(): string {
  const [first] = cpus();
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${cpus().length} × ${first?.model.trim() ?? 'unknown processor'}, ${memory} GB, Linux ${release()}, Node ${process.version}`;
}

export interface Ticks {
  readonly stolen: number;
  readonly busy: number;
  readonly all: number;
}

/** What the processors have done so far. `stolen` is what another guest of the same machine had. */
export function ticks(): Ticks {
  const numbers = (/^cpu +(.*)$/m.exec(readFileSync('/proc/stat', 'utf8'))?.[1] ?? '').split(' ').map(Number);
  // The ninth and tenth, time of guests of our own, are in the first and second already.
  const [, , , idle = 0, waiting = 0, , , stolen = 0] = numbers;
  const all = numbers.slice(0, 8).reduce((sum, each) => sum + each, 0);
  return { stolen, busy: all - idle - waiting - stolen, all };
}

/** Share of the processors' time that was stolen between two readings, from 0 to 1. */
export function stealBetween(before: Ticks, after: Ticks): number {
  return (after.stolen - before.stolen) / Math.max(1, after.all - before.all);
}

/** Share of the processors' time that everybody had but those who used `ownMs` of it, from 0 to 1. */
export function othersBetween(before: Ticks, after: Ticks, ownMs: number): number {
  const busyMs = (after.busy - before.busy) * TICK_MS;
  return Math.max(0, busyMs - ownMs) / Math.max(1, (after.all - before.all) * TICK_MS);
}

/** Linux tells programs times in hundredths of a second, whatever it counts in itself. */
const TICK_MS = 10;

/** Flushes that the disk of this folder has done so far; null where the kernel does not say. */
export function diskFlushes(folder: string): number | null {
  try {
    const { dev } = statSync(folder);
    const [major, minor] = [(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)];
    const fields = readFileSync(`/sys/dev/block/${major}:${minor}/stat`, 'utf8').trim().split(/\s+/);
    return fields.length > 15 ? Number(fields[15]) : null;
  } catch {
    return null;
  }
}
