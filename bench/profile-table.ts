/** Profiles of all threads of one case as text: CPU a message by part. */
import { COLLECTOR, NATIVE, type Times } from './stages.ts';

export interface ProfiledThread {
  /** Process and thread: `4711 main`. */
  readonly name: string;
  readonly times: Times;
}

const STAGES = ['receive', 'queue', 'route', 'policy', 'deliver', 'sign', 'report', 'admin', 'config'];

/** @param messages that were sent while it was profiled */
export function profileTable(threads: readonly ProfiledThread[], messages: number): string {
  return [
    'CPU ms a message, where it was spent:',
    ...grid(threads, messages, ({ self }) => self),
    '',
    'CPU ms a message, by the stage that caused it (with the libraries and the native code that it calls):',
    ...grid(threads, messages, ({ owner }) => owner),
    '',
    'CPU ms a message, the 25 most expensive functions themselves:',
    ...topFunctions(threads, messages),
  ].join('\n');
}

/** A row a part, stages first; a column a thread, and their sum. */
function grid(
  threads: readonly ProfiledThread[],
  messages: number,
  pick: (times: Times) => ReadonlyMap<string, number>,
): readonly string[] {
  const parts = [...new Set(threads.flatMap(({ times }) => [...pick(times).keys()]))];
  const total = (part: string): number => threads.reduce((sum, { times }) => sum + (pick(times).get(part) ?? 0), 0);
  parts.sort((one, other) => rank(one) - rank(other) || total(other) - total(one));
  const rows = parts.map((part) => [
    part,
    ...threads.map(({ times }) => figure((pick(times).get(part) ?? 0) / messages)),
    figure(total(part) / messages),
  ]);
  const all = threads.map(({ times }) => times.busy / messages);
  const sum = all.reduce((one, other) => one + other, 0);
  return aligned([
    ['', ...threads.map(({ name }) => name), 'all'],
    ...rows,
    ['together', ...all.map(figure), figure(sum)],
  ]);
}

function rank(part: string): number {
  const at = STAGES.indexOf(part);
  if (at >= 0) return at;
  if (part === COLLECTOR || part === NATIVE) return 102;
  return part.startsWith('library ') ? 101 : 100;
}

function topFunctions(threads: readonly ProfiledThread[], messages: number): readonly string[] {
  const sums = new Map<string, number>();
  for (const { times } of threads) {
    for (const [name, ms] of times.functions) sums.set(name, (sums.get(name) ?? 0) + ms);
  }
  const top = [...sums].sort(([, one], [, other]) => other - one).slice(0, 25);
  return top.map(([name, ms]) => `${figure(ms / messages).padStart(8)}  ${name}`);
}

function figure(ms: number): string {
  return ms === 0 ? '·' : ms.toFixed(3);
}

function aligned(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}
