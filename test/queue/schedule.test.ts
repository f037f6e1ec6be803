import { describe, expect, test } from 'vitest';
import type { Outcome } from '../../src/model/delivery.ts';
import type { Batch, Notify, QueuedRecipient } from '../../src/model/message.ts';
import { verdictOf } from '../../src/model/verdict.ts';
import { createSchedule, type ScheduleSettings, wantsNotice } from '../../src/queue/schedule.ts';
import { DAY, HOUR, MINUTE, MONDAY, outcome, unreachable } from './good-day.ts';

const settings: ScheduleSettings = {
  retry: [5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR],
  lifetime: 5 * DAY,
  tlsLifetime: null,
  delayNotice: 4 * HOUR,
};

const piet: QueuedRecipient = {
  id: 1,
  address: 'piet@x.example',
  notify: null,
  orcpt: null,
  attempts: 0,
  delayNoticeSent: false,
  lastCode: null,
};

const batch: Batch = {
  messageId: 'ONE',
  receivedAt: MONDAY,
  expiresAt: MONDAY + 5 * DAY,
  client: 'exchange',
  envelope: { sender: 'jan@rijk.example', smtputf8: false, body: '7bit', ret: null, envid: null, tls: 'default' },
  content: { size: 100, eightBit: false, utf8Header: false },
  domain: 'x.example',
  recipients: [piet],
};

const later = outcome(1, unreachable);
const schedule = createSchedule(settings, () => 0);

describe('when mail is tried again', () => {
  test.each([
    ['first', 0, 5 * MINUTE],
    ['second', 1, 15 * MINUTE],
    ['third', 2, 30 * MINUTE],
    ['fourth', 3, HOUR],
    ['fifth', 4, 2 * HOUR],
    ['twentieth', 19, 2 * HOUR],
  ])('TXN-07 after the %s attempt', (_, attempts, interval) => {
    const decision = schedule.decide({ ...piet, attempts }, later, {
      batch,
      now: MONDAY + 1,
      progress: false,
      putOffUntil: null,
    });
    expect(decision).toEqual({
      kind: 'waits',
      nextAttempt: MONDAY + 1 + interval,
      delayed: false,
      until: batch.expiresAt,
    });
  });

  test('TXN-07 recipients of one attempt come back together, those of different attempts as chance wants it', () => {
    const chancy = createSchedule(settings);
    const at = { now: MONDAY + 1, progress: false, putOffUntil: null };
    const nextOf = (messageId: string, id: number): unknown =>
      chancy.decide({ ...piet, id }, later, { ...at, batch: { ...batch, messageId } });
    for (const messageId of ['one', 'two', 'three']) {
      const [first, ...others] = [1, 2, 3, 4].map((id) => nextOf(messageId, id));
      expect(others).toEqual([first, first, first]);
    }
    const different = new Set(Array.from({ length: 20 }, (_, i) => JSON.stringify(nextOf(`message ${i}`, 1))));
    expect(different.size).toBeGreaterThan(10);
  });

  test('TXN-07 chance adds up to a tenth and takes nothing away; the first three retries stay within the hour', () => {
    for (const chance of [0, 0.25, 0.5, 0.999]) {
      const chancy = createSchedule(settings, () => chance);
      let now = MONDAY;
      for (let attempts = 0; attempts < 3; attempts++) {
        const decision = chancy.decide({ ...piet, attempts }, later, {
          batch,
          now,
          progress: false,
          putOffUntil: null,
        });
        if (decision.kind !== 'waits') throw new Error(decision.kind);
        const interval = settings.retry[attempts] ?? 0;
        expect(decision.nextAttempt - now).toBeGreaterThanOrEqual(interval);
        expect(decision.nextAttempt - now).toBeLessThanOrEqual(interval * 1.1);
        now = decision.nextAttempt;
      }
      expect(now - MONDAY).toBeLessThan(HOUR);
    }
  });

  test('the last attempt is at the end of the lifetime, not after it', () => {
    const now = batch.expiresAt - MINUTE;
    const decision = schedule.decide({ ...piet, attempts: 9 }, later, {
      batch,
      now,
      progress: false,
      putOffUntil: null,
    });
    expect(decision).toMatchObject({ kind: 'waits', nextAttempt: batch.expiresAt });
  });

  test('TXN-05 recipients that were too many for one transaction follow at once, if any got through', () => {
    const tooMany = outcome(1, { result: 'deferred', code: 'remote-too-many-recipients', status: '4.5.3' });
    const now = MONDAY + MINUTE;
    expect(schedule.decide(piet, tooMany, { batch, now, progress: true, putOffUntil: null })).toMatchObject({
      kind: 'waits',
      nextAttempt: now,
    });
    expect(schedule.decide(piet, tooMany, { batch, now, progress: false, putOffUntil: null })).toMatchObject({
      nextAttempt: now + 5 * MINUTE,
    });
  });
});

describe('how it ends', () => {
  test('delivered and bounced end at once', () => {
    const at = { batch, now: batch.expiresAt + DAY, progress: false, putOffUntil: null };
    expect(schedule.decide(piet, outcome(1), at)).toEqual({ kind: 'delivered' });
    const refused = outcome(1, { result: 'bounced', code: 'remote-refused', status: '5.1.1' });
    expect(schedule.decide(piet, refused, at)).toEqual({ kind: 'bounced' });
  });

  test('after the lifetime a deferral ends it with 4.4.7, and says what was wrong at last', () => {
    const at = { batch, now: batch.expiresAt, progress: false, putOffUntil: null };
    const decision = schedule.decide({ ...piet, attempts: 30 }, later, at);
    if (decision.kind !== 'expired') throw new Error(decision.kind);
    expect(decision.outcome).toMatchObject({ result: 'bounced', code: 'lifetime-over', status: '4.4.7' });
    const { code, detail, status } = decision.outcome;
    expect(verdictOf(code, detail, status).explanation).toBe(
      'The message could not be delivered within its lifetime: the last attempt said: ' +
        'No connection to the mail host: 192.0.2.1 port 25 refused it.',
    );
  });
});

describe('a shorter lifetime while TLS will not do', () => {
  const strict = createSchedule({ ...settings, tlsLifetime: 2 * DAY }, () => 0);
  const mismatch = outcome(1, { result: 'deferred', code: 'tlsa-mismatch', status: '4.7.5', detail: 'no record fits' });
  const ends = MONDAY + 2 * DAY;

  test.each<[string, Partial<Outcome>]>([
    ['4.7.5 the certificate fits no TLSA record', { code: 'tlsa-mismatch', status: '4.7.5' }],
    ['4.7.5 the TLSA records cannot be looked up', { code: 'tlsa-lookup-failed', status: '4.7.5' }],
    ['4.7.4 the host does not offer STARTTLS', { code: 'starttls-not-offered', status: '4.7.4' }],
  ])('TXN-07 counts for %s', (_, change) => {
    const at = { batch, now: ends - MINUTE, progress: false, putOffUntil: null };
    const one = outcome(1, { result: 'deferred', ...change });
    expect(strict.decide({ ...piet, attempts: 20 }, one, at)).toMatchObject({ nextAttempt: ends, until: ends });
    const decision = strict.decide({ ...piet, attempts: 20 }, one, { ...at, now: ends });
    expect(decision).toMatchObject({ kind: 'expired', outcome: { result: 'bounced', code: 'tls-lifetime-over' } });
  });

  test('TXN-07 the bounce says that it was TLS, and what was wrong at last', () => {
    const decision = strict.decide(piet, mismatch, { batch, now: ends, progress: false, putOffUntil: null });
    if (decision.kind !== 'expired') throw new Error(decision.kind);
    const { code, detail, status } = decision.outcome;
    expect(verdictOf(code, detail, status)).toMatchObject({ status: '4.4.7' });
    expect(verdictOf(code, detail, status).explanation).toMatch(
      /^The host did not meet the TLS policy within the time .*: the last attempt said: .*: no record fits\.$/,
    );
  });

  test.each<[string, Partial<Outcome>]>([
    ['the host cannot be reached', unreachable],
    ['the host wants mail later, whatever code it gives', { code: 'remote-later', status: '4.7.5' }],
    ['our own resolver is not to be trusted', { code: 'resolver-untrusted', status: '4.4.3' }],
  ])('TXN-07 does not count when %s', (_, change) => {
    const one = outcome(1, { result: 'deferred', ...change });
    const at = { batch, now: ends + DAY, progress: false, putOffUntil: null };
    expect(strict.decide(piet, one, at)).toMatchObject({ kind: 'waits', until: batch.expiresAt });
    expect(strict.decide(piet, one, { ...at, now: batch.expiresAt })).toMatchObject({
      outcome: { code: 'lifetime-over' },
    });
  });
});

describe('mail that is put off without an attempt', () => {
  const putOff = (age: number, attempts = 0): number => {
    const at = { batch, now: MONDAY + age, progress: false, putOffUntil: MONDAY + age + MINUTE };
    const decision = schedule.decide({ ...piet, attempts }, later, at);
    if (decision.kind !== 'waits') throw new Error(decision.kind);
    return decision.nextAttempt - MONDAY - age;
  };

  test('TXN-07 is tried as soon as its destination may be, when it has just come in', () => {
    expect(putOff(0)).toBe(MINUTE);
    expect(putOff(5 * MINUTE - 1)).toBe(MINUTE);
  });

  test('TXN-07 later on it goes by its age, as if it had been tried each time', () => {
    expect(putOff(5 * MINUTE)).toBe(15 * MINUTE);
    expect(putOff(20 * MINUTE, 1)).toBe(30 * MINUTE);
    expect(putOff(50 * MINUTE)).toBe(HOUR);
    expect(putOff(3 * DAY)).toBe(2 * HOUR);
    expect(putOff(5 * DAY - MINUTE)).toBe(MINUTE);
  });
});

describe('delay notice', () => {
  test.each([
    ['before its time', 4 * HOUR - 1, false, false],
    ['at its time', 4 * HOUR, false, true],
    ['after it was sent', 4 * HOUR, true, false],
  ])('%s', (_, age, delayNoticeSent, delayed) => {
    const at = { batch, now: MONDAY + age, progress: false, putOffUntil: null };
    expect(schedule.decide({ ...piet, delayNoticeSent }, later, at)).toMatchObject({ kind: 'waits', delayed });
  });

  test('never, when the configuration has none', () => {
    const never = createSchedule({ ...settings, delayNotice: null }, () => 0);
    const at = { batch, now: MONDAY + 4 * DAY, progress: false, putOffUntil: null };
    expect(never.decide(piet, later, at)).toMatchObject({ kind: 'waits', delayed: false });
  });
});

describe('DSN-03 who is told', () => {
  test.each<[string, readonly Notify[] | null, string]>([
    // NOTIFY                 is told of
    ['none given', null, 'failed delayed'],
    ['NEVER', ['never'], ''],
    ['FAILURE', ['failure'], 'failed'],
    ['DELAY', ['delay'], 'delayed'],
    ['SUCCESS', ['success'], 'relayed'],
    ['SUCCESS,FAILURE,DELAY', ['success', 'failure', 'delay'], 'failed delayed relayed'],
  ])('NOTIFY=%s', (_, notify, told) => {
    const kinds = (['failed', 'delayed', 'relayed'] as const).filter((kind) =>
      wantsNotice(kind, batch, { ...piet, notify }),
    );
    expect(kinds.join(' ')).toBe(told);
    const bounce = { ...batch, envelope: { ...batch.envelope, sender: '' } };
    expect(wantsNotice('failed', bounce, { ...piet, notify })).toBe(false);
  });
});

test('a destination is left alone longer each time, never longer than five minutes or the first interval', () => {
  expect([1, 2, 3, 4, 5, 6, 1_000].map(schedule.backoff)).toEqual([
    15_000, 30_000, 60_000, 120_000, 240_000, 300_000, 300_000,
  ]);
  const brisk = createSchedule({ ...settings, retry: [1_000] });
  expect([1, 9].map(brisk.backoff)).toEqual([1_000, 1_000]);
});
