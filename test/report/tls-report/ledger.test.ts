/** Counts and reports on disk: they add up, they last, they are bounded, and each report is one process's business. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Ledger } from '../../../src/report/tls-report/ledger.ts';
import { openLedger } from '../../../src/report/tls-report/ledger-thread.ts';
import { DAY, folder, HOUR, ledgerIn, MIDNIGHT, tallied } from './good-day.ts';

const LEASE = HOUR / 2;

/** Everything that was counted for a domain, in a few words. */
function told(ledger: Ledger, domain = 'example.nl', day = DAY): string {
  return ledger
    .counts(day, domain)
    .map(({ policy, successes, failures, details }) => {
      const kinds = details.map(({ failure, sessions }) => `${sessions}×${failure.type}@${failure.mxHost ?? ''}`);
      return `${policy.type} ${policy.domain} ${successes}+${failures} ${kinds.join(' ')}`.trimEnd();
    })
    .join(', ');
}

describe('RPT-05 counts', () => {
  test('add up over several processes, and are there after a restart', async () => {
    const dir = folder();
    const [one, other] = [ledgerIn(dir), ledgerIn(dir)];
    for (const ledger of [one, other, one]) ledger.add([tallied(), tallied({ code: 'tlsa-mismatch', sessions: 2 })]);
    expect(told(other)).toBe('tlsa mx.example.nl 3+6 6×validation-failure@mx.example.nl');
    const thread = await openLedger({ file: join(dir, 'tls-reports.db'), mode: 'relay' });
    expect(await thread.add([tallied({ sessions: 5 })])).toBe(0);
    await thread.close();
    expect(told(ledgerIn(dir))).toBe('tlsa mx.example.nl 8+6 6×validation-failure@mx.example.nl');
  });

  test('are kept apart by day, domain and policy', () => {
    const ledger = ledgerIn(folder());
    const none = {
      tlsa: { base: null, records: [] },
      policy: { kind: 'may', code: 'tlsa-absent', sni: null },
    } as const;
    ledger.add([
      tallied(),
      tallied({ day: DAY + 1 }),
      tallied({ domain: 'other.nl' }),
      tallied({ ...none, code: 'encrypted-opportunistic' }),
    ]);
    expect(told(ledger)).toBe('no-policy-found example.nl 1+0, tlsa mx.example.nl 1+0');
    expect(told(ledger, 'example.nl', DAY + 1)).toBe('tlsa mx.example.nl 1+0');
    expect(told(ledger, 'other.nl')).toBe('tlsa mx.example.nl 1+0');
  });

  test('are private', () => {
    const dir = folder();
    ledgerIn(dir).add([tallied()]);
    expect(statSync(join(dir, 'tls-reports.db')).mode & 0o777).toBe(0o600);
  });
});

describe('a stranger cannot make it grow', () => {
  test('by domains, policies or kinds of failure; how many sessions had no place is known', () => {
    const ledger = ledgerIn(folder(), { domains: 3, policies: 2, details: 4 });
    const domains = Array.from({ length: 5 }, (_, at) => tallied({ domain: `d${at}.nl` }));
    expect(ledger.add(domains)).toBe(2);
    const hosts = Array.from({ length: 5 }, (_, at) => tallied({ domain: 'd0.nl', host: `mx${at}.d0.nl` }));
    expect(ledger.add(hosts)).toBe(4);
    const places = Array.from({ length: 300 }, (_, at) =>
      tallied({ domain: 'd1.nl', code: 'tlsa-mismatch', address: `192.0.2.${at % 256}`, greeting: `220 g${at}.nl` }),
    );
    expect(ledger.add(places)).toBe(0);
    const [policy] = ledger.counts(DAY, 'd1.nl');
    expect(policy?.failures).toBe(300);
    expect(policy?.details).toHaveLength(5);
    expect(policy?.details[0]).toMatchObject({ sessions: 296, failure: { mxHost: null, type: 'validation-failure' } });
  });

  test('beyond the size of the file: what is known is counted on, nothing else', () => {
    const dir = folder();
    const before = ledgerIn(dir);
    before.add([tallied()]);
    const full = ledgerIn(dir, { octets: 1 });
    const strange = [tallied({ domain: 'new.nl' }), tallied({ host: 'mx2.example.nl' })];
    expect(full.add([tallied(), ...strange, tallied({ code: 'tlsa-expired' })])).toBe(2);
    expect(told(full)).toBe('tlsa mx.example.nl 2+1 1×certificate-expired@');
  });
});

describe('RPT-15 the end of a day', () => {
  test('its reports are due at a random moment within four hours, and those of today go on', () => {
    const ledger = ledgerIn(folder());
    ledger.add(Array.from({ length: 50 }, (_, at) => tallied({ domain: `d${at}.nl` })));
    ledger.add([tallied({ day: DAY + 1 })]);
    expect(ledger.closeDays(DAY, 0, 4 * HOUR)).toBe(0);
    expect(ledger.closeDays(DAY + 1, HOUR / 6, 4 * HOUR)).toBe(50);
    expect(ledger.closeDays(DAY + 1, HOUR / 6, 4 * HOUR)).toBe(0);
    const due = ledger.list().map(({ due }) => (due ?? 0) - MIDNIGHT);
    expect(due).toHaveLength(50);
    expect(Math.min(...due)).toBeGreaterThanOrEqual(HOUR / 6);
    expect(Math.max(...due)).toBeLessThanOrEqual(4 * HOUR);
    expect(new Set(due).size).toBeGreaterThan(10);
  });

  test('counts that come late still count, until the report is on its way', () => {
    const ledger = ledgerIn(folder());
    ledger.add([tallied()]);
    ledger.closeDays(DAY + 1, 0, 1);
    expect(ledger.add([tallied()])).toBe(0);
    const [claim] = ledger.claim(MIDNIGHT + HOUR, LEASE, 9);
    expect(claim?.counts[0]?.successes).toBe(2);
    expect(ledger.add([tallied()])).toBe(1);
  });
});

describe('RPT-15 a report', () => {
  function due(): { dir: string; one: Ledger; other: Ledger } {
    const dir = folder();
    const [one, other] = [ledgerIn(dir), ledgerIn(dir)];
    one.add([tallied(), tallied({ domain: 'b.nl' })]);
    one.closeDays(DAY + 1, 0, 1);
    return { dir, one, other };
  }
  const later = MIDNIGHT + HOUR;

  test('is claimed by one process, and by another only when the lease is over', () => {
    const { one, other } = due();
    const mine = one.claim(later, LEASE, 1);
    const theirs = other.claim(later, LEASE, 9);
    expect([...mine, ...theirs].map(({ domain }) => domain).sort()).toEqual(['b.nl', 'example.nl']);
    expect([...one.claim(later, LEASE, 9), ...other.claim(later, LEASE, 9)]).toEqual([]);
    const taken = other.claim(later + LEASE, LEASE, 9);
    expect(taken).toHaveLength(2);
    const [first] = mine;
    if (!first) throw new Error('no claim');
    expect(one.settle(first, { kind: 'sent', explanation: '' })).toBe(false);
    expect(one.heard(first, { uri: 'x', state: 'accepted', explanation: '' }, null)).toBe(false);
    expect(taken.find(({ domain }) => domain === first.domain)).toMatchObject({
      attempts: 1,
      firstAttempt: later,
      reportId: first.reportId,
    });
  });

  test('that was accepted is known to whoever takes it over after a crash', () => {
    const { one, other } = due();
    const [claim] = one.claim(later, LEASE, 1);
    if (!claim) throw new Error('no claim');
    one.heard(claim, { uri: 'https://r.nl/', state: 'accepted', explanation: 'accepted it' }, null);
    const again = other.claim(later + LEASE, LEASE, 9).find(({ domain }) => domain === claim.domain);
    expect(again?.accepted).toEqual(['https://r.nl/']);
  });

  test('that is settled is gone but for a line in the list, and after a week altogether', () => {
    const { one } = due();
    const [claim, other] = one.claim(later, LEASE, 9);
    if (!claim || !other) throw new Error('no claim');
    one.settle(claim, { kind: 'sent', explanation: 'done' });
    one.settle(other, { kind: 'unwanted', explanation: 'no record' });
    expect(one.counts(DAY, claim.domain)).toEqual([]);
    expect(one.list().map(({ domain, state }) => `${domain} ${state}`)).toEqual([`${claim.domain} sent`]);
    one.forget(DAY + 7);
    expect(one.list()).toHaveLength(1);
    one.forget(DAY + 8);
    expect(one.list()).toEqual([]);
  });

  test('that went by mail is failed when all that mail came to nothing', () => {
    const { one } = due();
    const [claim] = one.claim(later, LEASE, 1);
    if (!claim) throw new Error('no claim');
    one.heard(claim, { uri: 'mailto:a@x.nl', state: 'queued', explanation: '' }, 'Q1');
    one.heard(claim, { uri: 'mailto:b@x.nl', state: 'queued', explanation: '' }, 'Q2');
    one.settle(claim, { kind: 'sent', explanation: '' });
    const state = () => one.list().find(({ domain }) => domain === claim.domain)?.state;
    one.mailEnded('Q1', false, 'no such user');
    one.mailEnded('stranger', false, 'no such user');
    expect(state()).toBe('sent');
    one.mailEnded('Q2', false, 'no such user');
    expect(state()).toBe('failed');
    expect(one.counts(DAY, claim.domain)).toEqual([]);
  });
});

test('RPT-15 mail that came back while other addresses were still asked: the report goes again', () => {
  const ledger = ledgerIn(folder());
  ledger.add([tallied()]);
  ledger.closeDays(DAY + 1, 0, HOUR);
  const now = MIDNIGHT + HOUR;
  const [claim] = ledger.claim(now, LEASE, 1);
  if (!claim) throw new Error('no claim');
  ledger.heard(claim, { uri: 'mailto:a@x.nl', state: 'queued', explanation: '' }, 'Q1');
  ledger.mailEnded('Q1', false, 'no such user');
  ledger.heard(claim, { uri: 'https://x.nl/', state: 'failed', explanation: 'no answer' }, null);
  ledger.settle(claim, { kind: 'sent', explanation: '' });
  expect(ledger.list()[0]).toMatchObject({ state: 'waiting', explanation: 'no such user' });
  const [again] = ledger.claim(now, LEASE, 1);
  expect(again).toMatchObject({ accepted: [], returned: ['mailto:a@x.nl'], reportId: claim.reportId });
  expect(again?.counts).toEqual(claim.counts);
});

test('a file that is none is told at once', async () => {
  const { writeFileSync } = await import('node:fs');
  const file = join(folder(), 'tls-reports.db');
  writeFileSync(file, 'this is no database at all, and never was one'.repeat(50));
  await expect(openLedger({ file, mode: 'relay' })).rejects.toThrow(/not a database/);
});
