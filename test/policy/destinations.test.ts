/** The operator's table: first match wins. */
import fc from 'fast-check';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import type { TlsRule } from '../../src/model/tls-policy.ts';
import { createDestinations, type DestinationOptions, type DestinationRule } from '../../src/policy/destinations.ts';

const rule = (domain: string, tls: TlsRule = 'dane-only', via: DestinationRule['via'] = null): DestinationRule => ({
  domain,
  tls,
  pins: [],
  origin: { file: 'relay.yaml', line: 1, text: `domain: ${domain}` },
  reportUntil: null,
  via,
});
const table = (rules: readonly DestinationRule[], change: Partial<DestinationOptions> = {}) =>
  createDestinations({ rules, port: 25, minimum: 'may', reportUntil: null, now: () => 1_000, ...change });

describe('which rule holds for a domain', () => {
  test.each<[string, readonly DestinationRule[], string, TlsRule]>([
    ['POL-05 no rules at all', [], 'example.nl', 'dane'],
    ['no rule that fits', [rule('example.org')], 'example.nl', 'dane'],
    ['the very domain', [rule('example.nl')], 'example.nl', 'dane-only'],
    ['an exact rule does not hold below', [rule('example.nl')], 'www.example.nl', 'dane'],
    ['a rule for all below', [rule('*.example.nl')], 'a.example.nl', 'dane-only'],
    ['a rule for all below, two labels', [rule('*.example.nl')], 'a.b.example.nl', 'dane-only'],
    ['a rule for all below is not for the domain itself', [rule('*.example.nl')], 'example.nl', 'dane'],
    ['a rule for all below is not for a name that ends alike', [rule('*.example.nl')], 'myexample.nl', 'dane'],
    ['a top-level domain', [rule('.nl')], 'example.nl', 'dane-only'],
    ['everything', [rule('*', 'encrypt')], 'example.nl', 'encrypt'],
    ['the first of two', [rule('example.nl', 'may'), rule('*', 'dane-only')], 'example.nl', 'may'],
    [
      'the first of two, the wider one first',
      [rule('*', 'encrypt'), rule('example.nl', 'may')],
      'example.nl',
      'encrypt',
    ],
    [
      'a wide rule before a narrow one',
      [rule('*.nl', 'encrypt'), rule('*.example.nl', 'may')],
      'a.example.nl',
      'encrypt',
    ],
    ['a narrow rule before a wide one', [rule('*.example.nl', 'may'), rule('*.nl', 'encrypt')], 'a.example.nl', 'may'],
    ['twice the same', [rule('example.nl', 'may'), rule('example.nl', 'encrypt')], 'example.nl', 'may'],
    ['an address literal', [rule('[192.0.2.1]', 'may')], '[192.0.2.1]', 'may'],
    [
      'an address literal of version 6, in other letters',
      [rule('[IPv6:2001:DB8::1]', 'may')],
      '[ipv6:2001:db8::1]',
      'may',
    ],
    ['everything holds for literals too', [rule('*', 'encrypt')], '[192.0.2.1]', 'encrypt'],
    ['a literal has no parent domain', [rule('*.0.2.1]', 'may')], '[192.0.2.1]', 'dane'],
  ])('%s', (_, rules, domain, tls) => {
    expect(table(rules)(domain).tls).toBe(tls);
  });

  test('the index gives what reading the table from top to bottom gives', () => {
    const label = fc.constantFrom('a', 'b', 'c');
    const name = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join('.'));
    const pattern = fc.oneof(
      name,
      name.map((text) => `*.${text}`),
      fc.constant('*'),
    );
    const rules = fc.array(fc.tuple(pattern, fc.constantFrom<TlsRule>('dane', 'dane-only', 'encrypt', 'may')), {
      maxLength: 8,
    });
    const fits = (text: string, domain: string): boolean =>
      text === '*' || (text.startsWith('*.') ? domain.endsWith(text.slice(1)) : text === domain);
    fc.assert(
      fc.property(rules, name, (written, domain) => {
        const first = written.find(([text]) => fits(text, domain));
        expect(table(written.map(([text, tls]) => rule(text, tls)))(domain).tls).toBe(first?.[1] ?? 'dane');
      }),
    );
  });

  test('a hundred thousand rules are an index, not a list to walk through', () => {
    const rules = Array.from({ length: 100_000 }, (_, n) => rule(n % 2 ? `d${n}.example` : `*.d${n}.example`, 'may'));
    const find = table(rules);
    for (let n = 1; n < 100_000; n += 2) if (find(`d${n}.example`).tls !== 'may') throw new Error(`d${n}`);
    expect(find('x.d99998.example').tls).toBe('may');
  });
});

test('a hundred thousand rules take no more steps than ten', () => {
  const steps = (count: number): number => {
    const rules = Array.from({ length: count }, (_, n) => rule(n % 2 ? `d${n}.example` : `*.d${n}.example`, 'may'));
    const find = table(rules);
    const spy = vi.spyOn(Map.prototype, 'get');
    onTestFinished(() => spy.mockRestore());
    for (const domain of ['d7.example', 'x.d8.example', 'nobody.anywhere.test']) find(domain);
    const { length } = spy.mock.calls;
    spy.mockRestore();
    return length;
  };
  expect(steps(100_000)).toBe(steps(10));
  expect(steps(10)).toBeLessThan(12);
});

test('the line that ruled comes with the answer, and nothing where no rule fits', () => {
  const rules = [rule('a.nl'), { ...rule('*.b.nl'), origin: { file: 'partners.txt', line: 41, text: 'domain: b' } }];
  expect(table(rules)('x.b.nl').rule).toEqual({ file: 'partners.txt', line: 41, text: 'domain: b' });
  expect(table(rules)('c.nl').rule).toBeUndefined();
});

test.each<['may' | 'dane' | 'encrypt', TlsRule, TlsRule]>([
  ['may', 'may', 'may'],
  ['dane', 'may', 'dane'],
  ['dane', 'encrypt', 'encrypt'],
  ['encrypt', 'may', 'encrypt'],
  ['encrypt', 'dane', 'encrypt'],
  ['encrypt', 'dane-only', 'dane-only'],
  ['encrypt', 'verify', 'verify'],
  ['encrypt', 'pin', 'pin'],
])('with the minimum %s the rule %s amounts to %s', (minimum, tls, amounts) => {
  expect(table([rule('a.nl', tls)], { minimum })('a.nl').tls).toBe(amounts);
});

test('the minimum that raised a rule stands beside its line, and only there', () => {
  const text = (tls: TlsRule) => table([rule('a.nl', tls)], { minimum: 'encrypt' })('a.nl').rule;
  expect(text('may')).toEqual({
    file: 'relay.yaml',
    line: 1,
    text: 'domain: a.nl; delivery.minimum makes it tls: encrypt',
  });
  expect(text('pin')?.text).toBe('domain: a.nl');
});

test('the minimum holds for domains without a rule', () => {
  expect(table([], { minimum: 'encrypt' })('a.nl').tls).toBe('encrypt');
});

test('POL-03 report-only ends at its very time, for a rule and for all, without anything being read again', () => {
  let now = 999;
  const rules = [{ ...rule('a.nl', 'dane'), reportUntil: 1_000 }];
  const find = table(rules, { now: () => now });
  const findAll = table(rules, { now: () => now, reportUntil: 2_000 });
  expect([find('a.nl').reportUntil, find('b.nl').reportUntil]).toEqual([1_000, null]);
  expect([findAll('a.nl').reportUntil, findAll('b.nl').reportUntil]).toEqual([2_000, 2_000]);
  now = 1_000;
  expect([find('a.nl').reportUntil, findAll('a.nl').reportUntil]).toEqual([null, 2_000]);
  now = 2_000;
  expect(findAll('a.nl').reportUntil).toBeNull();
});

describe('where mail is taken', () => {
  test.each<[string, DestinationRule['via'], string, object]>([
    ['no route', null, 'example.nl', { kind: 'domain', domain: 'example.nl', port: 25 }],
    ['MX-15 no route, a literal', null, '[192.0.2.1]', { kind: 'literal', address: '192.0.2.1', port: 25 }],
    [
      'MX-15 no route, a literal of version 6',
      null,
      '[IPv6:2001:db8::1]',
      { kind: 'literal', address: '2001:db8::1', port: 25 },
    ],
    [
      'MX-16 a host',
      { kind: 'host', host: 'relay.example', port: 587 },
      'example.nl',
      { kind: 'host', host: 'relay.example', port: 587 },
    ],
    [
      'MX-16 a domain, the usual port',
      { kind: 'domain', domain: 'relay.example', port: null },
      'example.nl',
      { kind: 'domain', domain: 'relay.example', port: 25 },
    ],
    [
      'MX-16 an address',
      { kind: 'literal', address: '192.0.2.9', port: null },
      'example.nl',
      { kind: 'literal', address: '192.0.2.9', port: 25 },
    ],
  ])('%s', (_, via, domain, nextHop) => {
    expect(table([rule('*', 'dane', via)])(domain).nextHop).toEqual(nextHop);
  });
});
