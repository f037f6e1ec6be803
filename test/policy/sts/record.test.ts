/** The TXT record of MTA-STS, with mailauth for a second opinion. */
import fc from 'fast-check';
import { resolvePolicy } from 'mailauth/lib/mta-sts.js';
import { describe, expect, test } from 'vitest';
import type { DnsAnswer } from '../../../src/model/dns.ts';
import { readRecord } from '../../../src/policy/sts/record.ts';

const answer = (first: string, ...rest: string[]): DnsAnswer<string> => ({
  kind: 'found',
  secure: false,
  name: '_mta-sts.example.nl',
  records: [first, ...rest],
  ttl: 60,
});

const idOf = (first: string, ...rest: string[]): string | null => {
  const record = readRecord(answer(first, ...rest));
  return record.kind === 'found' ? record.id : null;
};

/** What mailauth makes of the same records, as strictly as it can; null also for what it throws at. */
async function otherOpinion(...records: string[]): Promise<string | null> {
  const resolver = async (): Promise<string[][]> => records.map((record) => [record]);
  const id = await resolvePolicy('example.nl', { resolver, strict: true }).catch(() => false);
  return typeof id === 'string' ? id : null;
}

describe('STS-08 the TXT record', () => {
  test.each<[string, string[], string | null]>([
    ['as it should be', ['v=STSv1; id=20260101T000000;'], '20260101T000000'],
    ['without the last delimiter', ['v=STSv1; id=1'], '1'],
    ['without white space', ['v=STSv1;id=1;'], '1'],
    ['with white space at every delimiter', ['v=STSv1 ; id=1 ; '], '1'],
    ['with a field that is not known', ['v=STSv1; what=ever.it:is; id=1;'], '1'],
    ['an id twice: the first counts', ['v=STSv1; id=1; id=2;'], '1'],
    ['among records of others', ['v=spf1 -all', 'v=STSv1; id=7;', 'google-site-verification=x'], '7'],
    ['twice: none counts', ['v=STSv1; id=1;', 'v=STSv1; id=2;'], null],
    ['twice the same: none counts', ['v=STSv1; id=1;', 'v=STSv1; id=1;'], null],
    ['another version', ['v=STSv2; id=1;'], null],
    ['another version besides', ['v=STSv2; id=1;', 'v=STSv1; id=2'], '2'],
    ['the version not first', ['id=1; v=STSv1;'], null],
    ['the version in lower case', ['v=stsv1; id=1;'], null],
    ['no id', ['v=STSv1;'], null],
    ['an empty id', ['v=STSv1; id=;'], null],
    ['an id with a hyphen', ['v=STSv1; id=2026-01-01;'], null],
    ['an id of 32 characters', [`v=STSv1; id=${'a'.repeat(32)};`], 'a'.repeat(32)],
    ['an id of 33 characters', [`v=STSv1; id=${'a'.repeat(33)};`], null],
    ['a field without a name', ['v=STSv1; =1; id=1;'], null],
    ['an empty field', ['v=STSv1;; id=1;'], null],
    ['a NUL', ['v=STSv1; id=1\u0000;'], null],
  ])('%s', async (_, records, id) => {
    const [first = '', ...rest] = records;
    expect(idOf(first, ...rest)).toBe(id);
    expect(await otherOpinion(...records)).toBe(id);
  });

  test('64 KiB of white space are passed over in one walk: with the square of it, this would take minutes', () => {
    const white = ' \t'.repeat(32_000);
    for (let i = 0; i < 50; i++) expect(idOf(`v=STSv1;${white};x${white}y;id=1;`)).toBe(null);
    expect(idOf(`v=STSv1;${white}id=1${white};`)).toBe('1');
  });

  test('no record, and none that could be looked up, are told apart', () => {
    const absent = readRecord({ kind: 'absent', secure: true, name: 'x', nxdomain: true });
    const failed = readRecord({ kind: 'failed', reason: 'SERVFAIL', extended: null });
    expect([absent.kind, failed.kind]).toEqual(['none', 'unknown']);
    expect(failed).toMatchObject({ why: expect.stringContaining('SERVFAIL') });
  });

  test('whatever stands there, mailauth reads the same', async () => {
    const piece = fc.constantFrom(
      'v=STSv1',
      ';',
      ' ',
      '\t',
      'id=',
      'id',
      '=',
      'a1',
      'x_y',
      '-',
      'é',
      '\u0000',
      ':',
      'v=STSv1;',
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 12 }), async (pieces) => {
        const text = `v=STSv1;${pieces.join('')}`;
        // The grammar has no white space at the very end; it does no harm there, and a policy that is seen protects.
        expect(idOf(text)).toBe(await otherOpinion(text.replace(/[ \t]+$/, '')));
      }),
      { numRuns: 500 },
    );
  });
});
