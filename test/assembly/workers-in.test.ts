/** How many processes there are. */
import { expect, test } from 'vitest';
import { workersIn } from '../../src/assembly/workers-in.ts';

test.each([
  ['auto', 1, 1],
  ['auto', 2, 1],
  ['auto', 3, 2],
  ['auto', 8, 7],
  ['auto', 64, 8],
  [1, 64, 1],
  [4, 2, 4],
] as const)('workers: %s on %i cores is %i', (workers, cores, expected) => {
  expect(workersIn({ workers }, cores)).toBe(expected);
});
