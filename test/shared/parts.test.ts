import { expect, test } from 'vitest';
import { systemClock } from '../../src/shared/clock.ts';
import { createParts } from '../../src/shared/parts.ts';
import { newQueueId } from '../../src/shared/queue-id.ts';

test('what was opened last is closed first, and one that fails does not keep the others open', async () => {
  const closed: string[] = [];
  const parts = createParts();
  parts.opened('store', (part) => void closed.push(part));
  parts.opened('resolver', async () => {
    throw new Error('already gone');
  });
  parts.opened('door', (part) => void closed.push(part));
  const errors = await parts.closeAll();
  expect(closed).toEqual(['door', 'store']);
  expect(errors).toMatchObject([{ message: 'already gone' }]);
  expect(await parts.closeAll()).toEqual([]);
  expect(closed).toHaveLength(2);
});

test('queue ids are short, legal, never the same, and sort by age', () => {
  const ids = Array.from({ length: 10_000 }, newQueueId);
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids.filter((id) => !/^[0-9A-Za-z]{1,32}$/.test(id))).toEqual([]);
  expect(ids.toSorted()).toEqual(ids);
});

test('a sleep ends early, and without an error, when it is called off', async () => {
  const off = new AbortController();
  const sleeping = systemClock.sleep(3_600_000, off.signal);
  off.abort();
  await sleeping;
  await systemClock.sleep(3_600_000, off.signal);
});
