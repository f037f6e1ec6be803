/** Counts in memory, while the disk does not take them. */
import { expect, test } from 'vitest';
import { Tally } from '../../../src/report/tls-report/tally.ts';
import { counted, DAY, tallied } from './good-day.ts';

test('RPT-05 what ended alike is one entry, and what was taken is not there any more', () => {
  const tally = new Tally();
  tally.add(DAY, counted());
  tally.add(DAY, counted(), 4);
  tally.add(DAY + 1, counted());
  expect(tally.take()).toEqual([tallied({ sessions: 5 }), tallied({ day: DAY + 1 })]);
  expect(tally.take()).toEqual([]);
});

test('a stranger cannot make it grow by ever new hosts; what has no place is counted, what is known goes on', () => {
  const tally = new Tally();
  for (let at = 0; at < 12_000; at++) tally.add(DAY, counted({ code: 'tlsa-mismatch', host: `mx${at}.example.nl` }));
  tally.add(DAY, counted({ code: 'tlsa-mismatch', host: 'mx0.example.nl' }));
  const taken = tally.take();
  expect(taken).toHaveLength(10_000);
  expect(taken[0]?.sessions).toBe(2);
  expect([tally.takeLost(), tally.takeLost()]).toEqual([2_000, 0]);
});

test('nor by ever new policies that are as long as they may be', () => {
  const tally = new Tally();
  const long = (at: number): string[] => [`${at} ${'x'.repeat(8_000)}`];
  for (let at = 0; at < 3_000; at++) {
    const sts = { domain: 'example.nl', mode: 'enforce', lines: long(at), mx: [], trouble: null } as const;
    tally.add(DAY, counted({ tlsa: null, policy: { kind: 'may', code: 'tlsa-absent', sni: null }, sts }));
  }
  const octets = tally.take().reduce((sum, { policy }) => sum + policy.strings.join('').length, 0);
  expect(octets).toBeGreaterThan(1024 * 1024);
  expect(octets).toBeLessThan(9 * 1024 * 1024);
  expect(tally.takeLost()).toBeGreaterThan(1_000);
  tally.add(DAY, counted());
  expect(tally.take()).toHaveLength(1);
});
