import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DnsAnswer } from '../../src/model/dns.ts';
import type { Location } from '../../src/model/route.ts';
import { createLocator, judge } from '../../src/route/addresses.ts';
import { a, type FakeDns, message, soa, startFakeDns, TYPE } from '../support/fake-dns.ts';
import { bogus, type RouteLab, signed, startRouteLab, unsigned } from '../support/route-lab.ts';

let lab: RouteLab;
let authority: FakeDns;

beforeAll(async () => {
  // An authority that answers A and refuses to say anything else: AAAA ends as SERVFAIL behind Unbound.
  authority = await startFakeDns((query) => {
    if (query.type === TYPE.A && query.name === 'mx.half.test')
      return message(query, { aa: true, answers: [a('mx.half.test', '127.0.0.5')] });
    if (query.type === TYPE.AAAA) return message(query, { rcode: 5 });
    return message(query, { aa: true, authorities: [soa('half.test', 0)] });
  });
  lab = await startRouteLab({
    'good.test': {
      ...signed(
        'both A 127.0.0.2',
        'both AAAA 2001:db8::2',
        'four A 127.0.0.2',
        'six AAAA 2001:db8::2',
        'none TXT "no address"',
        'inner CNAME four',
        'first CNAME second',
        'second CNAME four',
        '_25._tcp.second TLSA 3 1 1 ab',
        'outer CNAME mx.plain.test.',
        'detour CNAME inward.plain.test.',
        'lost CNAME mx.broken.test.',
        'dangling CNAME nowhere',
        'halfgood A 127.0.0.2',
      ),
      forged: ['halfgood AAAA 2001:db8::66', 'halfgone AAAA 2001:db8::66'],
    },
    'plain.test': unsigned(
      'mx A 127.0.0.2',
      'mx AAAA 2001:db8::2',
      'inward CNAME four.good.test.',
      'alias CNAME mx',
      'none TXT "x"',
    ),
    'broken.test': bogus('mx A 127.0.0.2'),
    'half.test': { ...unsigned(), server: authority.server },
  });
});
afterAll(async () => {
  await lab.close();
  await authority.close();
});

async function locate(name: string, ipv6 = true): Promise<{ where: Location; asked: string[] }> {
  lab.asked();
  const where = await createLocator({ resolve: lab.resolve, ipv6 })(name);
  return { where, asked: lab.asked() };
}

describe('really signed zones', () => {
  const four = ['127.0.0.2'];
  test.each<[string, string, Location]>([
    [
      'ADDR-06 a signed host: both families, itself the only base',
      'both.good.test',
      { kind: 'found', addresses: ['2001:db8::2', '127.0.0.2'], dnssec: 'secure', bases: ['both.good.test'] },
    ],
    [
      'ADDR-04 one family secure, the other absent',
      'four.good.test',
      { kind: 'found', addresses: ['127.0.0.2'], dnssec: 'secure', bases: ['four.good.test'] },
    ],
    [
      'ADDR-04 only the other family',
      'six.good.test',
      { kind: 'found', addresses: ['2001:db8::2'], dnssec: 'secure', bases: ['six.good.test'] },
    ],
    [
      'ADDR-02 an unsigned host has no base, so TLSA is not asked',
      'mx.plain.test',
      { kind: 'found', addresses: ['2001:db8::2', '127.0.0.2'], dnssec: 'insecure', bases: [] },
    ],
    [
      'ADDR-06 a signed alias: its end, then itself',
      'inner.good.test',
      { kind: 'found', addresses: ['127.0.0.2'], dnssec: 'secure', bases: ['four.good.test', 'inner.good.test'] },
    ],
    [
      'ADDR-08 several links: the end and the beginning, never what is between',
      'first.good.test',
      { kind: 'found', addresses: ['127.0.0.2'], dnssec: 'secure', bases: ['four.good.test', 'first.good.test'] },
    ],
    [
      'ADDR-07 a signed alias into an unsigned zone: itself only',
      'outer.good.test',
      { kind: 'found', addresses: ['2001:db8::2', '127.0.0.2'], dnssec: 'insecure', bases: ['outer.good.test'] },
    ],
    [
      'ADDR-09 signed, unsigned, signed: itself only',
      'detour.good.test',
      { kind: 'found', addresses: four as [string], dnssec: 'insecure', bases: ['detour.good.test'] },
    ],
    [
      'ADDR-07 an unsigned alias: none',
      'alias.plain.test',
      { kind: 'found', addresses: ['2001:db8::2', '127.0.0.2'], dnssec: 'insecure', bases: [] },
    ],
    [
      'DNS-11 an unsigned alias to a signed host: none',
      'inward.plain.test',
      { kind: 'found', addresses: ['127.0.0.2'], dnssec: 'insecure', bases: [] },
    ],
    ['ADDR-05 a name without addresses, proven', 'none.good.test', { kind: 'absent', dnssec: 'secure' }],
    ['ADDR-05 no such name, proven', 'nothing.good.test', { kind: 'absent', dnssec: 'secure' }],
    ['ADDR-05 a name without addresses, not proven', 'none.plain.test', { kind: 'absent', dnssec: 'insecure' }],
    ['ADDR-05 an alias to nothing', 'dangling.good.test', { kind: 'absent', dnssec: 'secure' }],
    [
      'ADDR-03 the other family is bogus: the one that resolved is used, under DANE',
      'halfgood.good.test',
      { kind: 'found', addresses: ['127.0.0.2'], dnssec: 'secure', bases: ['halfgood.good.test'] },
    ],
    [
      'ADDR-03 the other family fails at an unsigned host',
      'mx.half.test',
      { kind: 'found', addresses: ['127.0.0.5'], dnssec: 'insecure', bases: [] },
    ],
  ])('%s', async (_, name, expected) => {
    expect((await locate(name)).where).toEqual(expected);
  });

  test.each([
    ['ADDR-03 no A, and AAAA is bogus', 'halfgone.good.test'],
    ['ADDR-10 an alias into a bogus zone', 'lost.good.test'],
    ['a bogus host', 'mx.broken.test'],
  ])('%s: the lookup failed', async (_, name) => {
    expect((await locate(name)).where).toMatchObject({ kind: 'failed', reason: expect.stringContaining('SERVFAIL') });
  });

  test('ADDR-01 ADDR-02 TLSA is no question of this stage, and CNAME only where it can matter', async () => {
    expect((await locate('mx.plain.test')).asked).toEqual(['A mx.plain.test', 'AAAA mx.plain.test']);
    expect((await locate('inner.good.test')).asked).toEqual(['A inner.good.test', 'AAAA inner.good.test']);
    const { asked } = await locate('outer.good.test');
    expect(asked.toSorted()).toEqual(['A outer.good.test', 'AAAA outer.good.test', 'CNAME outer.good.test']);
  });

  test('without IPv6 only IPv4 addresses are dialled; where there are none, the host is there all the same', async () => {
    expect((await locate('both.good.test', false)).where).toMatchObject({ addresses: ['127.0.0.2'] });
    expect((await locate('six.good.test', false)).where).toMatchObject({ addresses: ['2001:db8::2'] });
  });
});

describe('the decision alone', () => {
  test('PREF-05 where one family leads nowhere, however many addresses it has, the other is tried next', () => {
    const six = Array.from({ length: 9 }, (_, at) => `2001:db8::${at + 1}`);
    const [first = '', ...others] = six;
    const families = { a: found('h.nl', true, '192.0.2.1', '192.0.2.2'), aaaa: found('h.nl', true, first, ...others) };
    expect(judge('h.nl', families, null, true)).toMatchObject({
      addresses: [first, '192.0.2.1', six[1], '192.0.2.2', ...six.slice(2)],
    });
  });

  const found = (name: string, secure: boolean, ...records: [string, ...string[]]): DnsAnswer<string> => ({
    kind: 'found',
    secure,
    name,
    records,
    ttl: 60,
  });
  const absent = (secure: boolean): DnsAnswer<string> => ({ kind: 'absent', secure, name: 'h.nl', nxdomain: false });
  const failed: DnsAnswer<string> = { kind: 'failed', reason: 'SERVFAIL', extended: null };
  const four = found('h.nl', true, '192.0.2.1');

  test.each<[string, DnsAnswer<string>, DnsAnswer<string>, DnsAnswer<string> | null, Partial<Location>]>([
    ['ADDR-04 A secure, AAAA absent and not signed', four, absent(false), null, { dnssec: 'secure', bases: ['h.nl'] }],
    [
      'ADDR-04 one family secure: TLSA holds for every address',
      four,
      found('h.nl', false, '2001:db8::1'),
      null,
      { dnssec: 'secure', addresses: ['2001:db8::1', '192.0.2.1'], bases: ['h.nl'] },
    ],
    [
      'ADDR-04 the other one',
      found('h.nl', false, '192.0.2.1'),
      found('h.nl', true, '2001:db8::1'),
      null,
      { dnssec: 'secure', bases: ['h.nl'] },
    ],
    [
      'two ends of one alias: only the addresses at the signed end that TLSA speaks of',
      found('x.nl', true, '192.0.2.1'),
      found('y.nl', true, '2001:db8::1'),
      null,
      { addresses: ['192.0.2.1'], bases: ['x.nl', 'h.nl'] },
    ],
    ['ADDR-07 the CNAME query fails', found('x.nl', false, '192.0.2.1'), absent(false), failed, { kind: 'failed' }],
    ['ADDR-07 the CNAME is gone', found('x.nl', false, '192.0.2.1'), absent(false), absent(true), { kind: 'failed' }],
    ['ADDR-03 A failed, AAAA absent', failed, absent(true), null, { kind: 'failed', reason: 'A: SERVFAIL' }],
    ['both failed', failed, failed, null, { kind: 'failed', reason: 'A: SERVFAIL, AAAA: SERVFAIL' }],
    [
      'ADDR-05 absent, one of them not proven',
      absent(true),
      absent(false),
      null,
      { kind: 'absent', dnssec: 'insecure' },
    ],
    [
      'an address that stands there twice is dialled once',
      found('h.nl', true, '192.0.2.1', '192.0.2.1'),
      absent(true),
      null,
      { addresses: ['192.0.2.1'] },
    ],
  ])('%s', (_, v4, v6, alias, expected) => {
    expect(judge('h.nl', { a: v4, aaaa: v6 }, alias, true)).toMatchObject(expected);
  });

  test('ADDR-12 a name that differs in case only is no alias', async () => {
    const fake = await startFakeDns((query) =>
      message(query, { ad: true, answers: query.type === TYPE.A ? [a('MX.Good.Test', '127.0.0.2')] : [] }),
    );
    const { createResolver } = await import('../../src/route/resolver.ts');
    const resolver = createResolver({ server: fake.server });
    expect(await createLocator({ resolve: resolver.resolve })('mx.good.test')).toMatchObject({
      bases: ['mx.good.test'],
    });
    resolver.close();
    await fake.close();
  });
});
