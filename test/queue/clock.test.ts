/** A clock that is put back: what waits is due when it would have been, also after a restart. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openSqliteStore } from '../../src/queue/sqlite.ts';
import { createClockDoubt } from '../../src/shared/clock-doubt.ts';
import { DAY, everything, HOUR, MINUTE, MONDAY, message, terms } from './good-day.ts';

test('mail that was accepted or put off by a clock that was ahead does not wait for the time to catch up', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dane-relay-clock-'));
  const open = () => openSqliteStore({ folder, mode: 'relay', reserveBytes: 0 });
  try {
    let store = await open();
    await store.accept(message({ id: 'AHEAD', receivedAt: MONDAY + 2 * DAY }), terms);
    const [claim] = await store.claim({ ...everything, now: MONDAY });
    expect(claim?.batch.messageId).toBe('AHEAD');
    await store.settle(
      claim?.lease ?? '',
      [
        {
          kind: 'waits',
          recipientId: 1,
          tried: true,
          nextAttempt: MONDAY + HOUR,
          code: 'remote-later',
          status: '4.2.0',
          explanation: '',
          host: null,
          delayNoticeSent: false,
        },
      ],
      [],
    );
    // Ordinary adjustment changes nothing.
    expect(await store.claim({ ...everything, now: MONDAY - MINUTE / 2 })).toEqual([]);
    expect(await store.claim({ ...everything, now: MONDAY - DAY })).toEqual([]);
    expect(await store.claim({ ...everything, now: MONDAY - DAY + HOUR })).toMatchObject([{}]);
    await store.close();

    store = await open();
    await store.recover(everything.owner);
    await store.accept(message({ id: 'NEWEST', receivedAt: MONDAY + 3 * DAY }), terms);
    await store.close();
    store = await open();
    const due = await store.claim({ ...everything, now: MONDAY });
    expect(due.map(({ batch }) => batch.messageId)).toContain('NEWEST');
    await store.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a leap forwards does not age mail until the clock has kept to it for an hour; nor does the time of a long stop', () => {
  let now = MONDAY;
  let elapsed = 0;
  const pass = (ms: number): void => {
    now += ms;
    elapsed += ms;
  };
  const clock = { now: () => now, elapsed: () => elapsed };
  const doubt = createClockDoubt({ ...clock, lastSeen: null });
  pass(DAY);
  expect(doubt()).toBe(0);
  now += 9 * DAY;
  expect(doubt()).toBe(9 * DAY);
  pass(HOUR / 2);
  expect(doubt()).toBe(9 * DAY);
  now -= 9 * DAY;
  expect(doubt()).toBe(0);
  now += 9 * DAY;
  expect(doubt()).toBe(9 * DAY);
  pass(HOUR);
  expect(doubt()).toBe(0);

  const afterStop = createClockDoubt({ ...clock, lastSeen: now - 6 * DAY });
  expect(afterStop()).toBe(6 * DAY);
  pass(HOUR);
  expect(afterStop()).toBe(0);
  expect(createClockDoubt({ ...clock, lastSeen: now - 1_000 })()).toBe(0);
});
