/** What the kernel counts, read right: of this very process, and of made-up readings. */
import { expect, test } from 'vitest';
import { diskFlushes, machineInWords, othersBetween, stealBetween, ticks } from '../../bench/machine.ts';
import { between, byKind, scriptThreads, threadTimes } from '../../bench/threads.ts';

const before = { stolen: 10, busy: 100, all: 1000 };
const after = { stolen: 30, busy: 200, all: 1200 };

test('steal and what others took are shares of all that the processors did', () => {
  expect(stealBetween(before, after)).toBe(0.1);
  expect(othersBetween(before, after, 600)).toBe(0.2);
  expect(othersBetween(before, after, 5000)).toBe(0);
});

test('this machine tells its ticks and its name', () => {
  const { stolen, busy, all } = ticks();
  expect(busy).toBeGreaterThan(0);
  expect(all).toBeGreaterThan(busy + stolen);
  expect(machineInWords()).toMatch(/^\d+ × .+, \d+ GB, Linux \d/);
});

test('a folder whose disk tells nothing has no flushes', () => {
  expect(diskFlushes('/proc')).toBeNull();
  expect(diskFlushes('/not/there')).toBeNull();
});

test('the threads of a process are told apart, and what they ran is counted', () => {
  const first = threadTimes([process.pid]);
  const end = performance.now() + 60;
  while (performance.now() < end) Math.hypot(1, 2);
  const ran = between(first, threadTimes([process.pid]));
  const main = byKind(ran).get('main threads') ?? 0;
  expect(main).toBeGreaterThan(1);
  expect(byKind(ran).has('V8 in the background (compiling, collecting)')).toBe(true);
  expect(scriptThreads(ran, process.pid)[0]).toBe(main);
  expect(threadTimes([-1])).toEqual([]);
});
