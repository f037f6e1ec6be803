/** The policy file of MTA-STS and the hosts that it lists, with mailauth for a second opinion. */
import fc from 'fast-check';
import { parsePolicy, validateMx } from 'mailauth/lib/mta-sts.js';
import { describe, expect, test } from 'vitest';
import type { StsPolicy } from '../../../src/model/sts.ts';
import { lists, readPolicy } from '../../../src/policy/sts/policy.ts';

const read = (text: string): StsPolicy | string => {
  const reading = readPolicy(Buffer.from(text));
  return reading.kind === 'policy' ? reading.policy : reading.why;
};

function otherOpinion(text: string): Pick<StsPolicy, 'mode' | 'mx' | 'maxAge'> | 'invalid' {
  try {
    const { mode, mx = [], maxAge } = parsePolicy(text, { strict: true });
    return { mode: mode as StsPolicy['mode'], mx, maxAge: Number(maxAge) };
  } catch {
    return 'invalid';
  }
}

const GOOD = ['version: STSv1', 'mode: enforce', 'mx: mail.example.nl', 'mx: *.example.net', 'max_age: 604800', ''];
const parsed = { mode: 'enforce', mx: ['mail.example.nl', '*.example.net'], maxAge: 604800 };

describe('STS-08 the policy file', () => {
  test.each<[string, string]>([
    ['with CRLF', GOOD.join('\r\n')],
    ['with LF', GOOD.join('\n')],
    ['with both', `${GOOD.slice(0, 2).join('\r\n')}\n${GOOD.slice(2).join('\r\n')}`],
    ['without a last newline', GOOD.slice(0, -1).join('\n')],
    [
      'in another order',
      GOOD.toReversed()
        .join('\n')
        .replace(/mx: \*.*\nmx: m.*/, 'mx: mail.example.nl\nmx: *.example.net'),
    ],
    ['without white space', GOOD.join('\n').replaceAll(': ', ':')],
    ['with white space at the end of lines', GOOD.join(' \t\r\n')],
    ['with keys that are not known', ['mood: fine', ...GOOD, 'x-y.z_1: é'].join('\n')],
    ['with a key twice: the first counts', [...GOOD, 'mode: none', 'max_age: 1', 'version: STSv9'].join('\n')],
    ['with a host twice', [...GOOD, 'mx: mail.example.nl'].join('\n')],
    ['with a host in capitals', GOOD.join('\n').replace('mail.example', 'MAIL.Example')],
    ['with lines that are none', ['hello', ...GOOD, '<br>'].join('\n')],
  ])('%s', (_, text) => {
    expect(read(text)).toMatchObject(parsed);
    expect(otherOpinion(text)).toEqual(parsed);
  });

  test.each<[string, string, RegExp]>([
    ['another version', GOOD.join('\n').replace('STSv1', 'STSv2'), /version is "STSv2"/],
    ['no version', GOOD.slice(1).join('\n'), /version is missing/],
    ['another mode', GOOD.join('\n').replace('enforce', 'Enforce'), /mode is "Enforce"/],
    ['no mode', GOOD.join('\n').replace('mode', 'mood'), /mode is missing/],
    ['no max_age', GOOD.join('\n').replace('max_age', 'maxage'), /max_age is missing/],
    ['a max_age below zero', GOOD.join('\n').replace('604800', '-1'), /max_age is "-1"/],
    ['a max_age that is no number', GOOD.join('\n').replace('604800', '1e6'), /max_age/],
    ['no mx under enforce', 'version: STSv1\nmode: enforce\nmax_age: 1', /lists no mx/],
    ['no mx under testing', 'version: STSv1\nmode: testing\nmax_age: 1', /lists no mx/],
    ['a wildcard inside', [...GOOD, 'mx: mail.*.nl'].join('\n'), /no wildcard/],
    ['a wildcard for part of a label', [...GOOD, 'mx: m*.example.nl'].join('\n'), /no wildcard/],
    ['only a wildcard', [...GOOD, 'mx: *'].join('\n'), /no wildcard/],
    ['an empty mx', [...GOOD, 'mx:'].join('\n'), /mx ""/],
    ['an address literal', [...GOOD, 'mx: [192.0.2.1]'].join('\n'), /no wildcard/],
    ['a NUL in a host', [...GOOD, 'mx: mail.example.nl\u0000.evil'].join('\n'), /no wildcard/],
    ['a page', '<!doctype html>\n<title>404</title>', /version is missing/],
    ['nothing', '', /version is missing/],
  ])('%s makes it invalid, and says why', (_, text, why) => {
    expect(read(text)).toMatch(why);
    expect(otherOpinion(text)).toBe('invalid');
  });

  test('what is not UTF-8 is invalid', () => {
    expect(readPolicy(Buffer.from([0xff, 0xfe, 0x00])).kind).toBe('invalid');
  });

  test('a max_age of more than a year counts as a year: a policy must not be lost by promising too much', () => {
    expect(read(GOOD.join('\n').replace('604800', '9999999999'))).toMatchObject({ maxAge: 31_557_600 });
    expect(read(GOOD.join('\n').replace('604800', '99999999999'))).toMatch(/max_age/);
  });

  test('mode none needs no mx', () => {
    expect(read('version: STSv1\nmode: none\nmax_age: 86400')).toMatchObject({ mode: 'none', mx: [] });
  });

  test('64 KiB of white space are passed over in one walk: with the square of it, this would take minutes', () => {
    for (const value of [`a.b${' '.repeat(65_000)}x`, `${'\t'.repeat(65_000)}x y`, ' \t'.repeat(32_500)]) {
      for (let i = 0; i < 20; i++) expect(read([...GOOD, `mx: ${value}`].join('\n'))).toMatch(/no wildcard/);
    }
  });

  test('the lines are kept as they came, for the TLS report', () => {
    expect(read(GOOD.join('\r\n'))).toMatchObject({ lines: GOOD.slice(0, -1) });
  });

  test('64 KiB of hosts are read, and a host is found among them, in no time worth a word', () => {
    const many = Array.from({ length: 4600 }, (_, index) => `mx: h${index}.net`);
    const policy = read([...GOOD, ...many].join('\n'));
    if (typeof policy === 'string') throw new Error(policy);
    expect(policy.mx).toHaveLength(4602);
    expect(lists(policy, 'h4599.net')).toBe(true);
  });
});

describe('STS-06 the hosts that a policy lists', () => {
  test.each<[string, string, boolean]>([
    ['mail.example.nl', 'mail.example.nl', true],
    ['mail.example.nl', 'mail2.example.nl', false],
    ['mail.example.nl', 'sub.mail.example.nl', false],
    ['*.example.nl', 'mail.example.nl', true],
    ['*.example.nl', 'a.mail.example.nl', false],
    ['*.example.nl', 'example.nl', false],
    ['*.example.nl', 'mail.example.nl.evil.test', false],
    ['*.example.nl', 'mailexample.nl', false],
    ['*.nl', 'example.nl', true],
    ['example.nl', 'nl', false],
  ])('%s for %s: %s', (pattern, host, listed) => {
    const policy = { mode: 'enforce', mx: [pattern], maxAge: 1, lines: [] } as const;
    expect(lists(policy, host)).toBe(listed);
    expect(validateMx(host, { mode: 'enforce', mx: [pattern] }).valid).toBe(listed);
  });

  test('whatever the names, mailauth says the same', () => {
    const name = fc
      .array(fc.constantFrom('a', 'b', 'mail'), { minLength: 1, maxLength: 4 })
      .map((labels) => labels.join('.'));
    fc.assert(
      fc.property(name, fc.boolean(), name, (pattern, wild, host) => {
        const mx = [wild ? `*.${pattern}` : pattern];
        expect(lists({ mode: 'enforce', mx, maxAge: 1, lines: [] }, host)).toBe(
          validateMx(host, { mode: 'enforce', mx }).valid,
        );
      }),
    );
  });
});
