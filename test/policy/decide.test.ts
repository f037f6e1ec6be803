/** The decision table of RFC 7672 §2.1.2 to §2.2.3, row by row: a good day with one thing changed. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Location, MxFacts, NextHop } from '../../src/model/route.ts';
import type { HostFacts, InsecureMx, TlsaFindings, TlsaRecord, TlsRule } from '../../src/model/tls-policy.ts';
import { asksForTlsa, decide } from '../../src/policy/decide.ts';

const HOST = 'mx.provider.net';
const record: TlsaRecord = { usage: 3, selector: 1, matching: 1, data: Buffer.alloc(32, 7) };

interface Day {
  readonly rule?: TlsRule;
  readonly insecureMx?: InsecureMx;
  readonly mx?: Partial<MxFacts>;
  readonly nextHop?: NextHop;
  readonly host?: string;
  readonly location?: Location | null;
  readonly tlsa?: Partial<TlsaFindings> | null;
}

const domain: NextHop = { kind: 'domain', domain: 'example.nl', port: 25 };
const literal: NextHop = { kind: 'literal', address: '192.0.2.1', port: 25 };
const configured: NextHop = { kind: 'host', host: HOST, port: 587 };
const at = (bases: readonly string[], dnssec: 'secure' | 'insecure' = 'secure'): Location => ({
  kind: 'found',
  addresses: ['192.0.2.1'],
  dnssec,
  bases,
});
const unsigned = at([], 'insecure');
const usable = (base: string): Partial<TlsaFindings> => ({ base, considered: [record] });
const none: Partial<TlsaFindings> = { base: null, considered: [] };
const unusable: Partial<TlsaFindings> = { base: HOST, considered: [] };
const failed: Partial<TlsaFindings> = { base: null, considered: [], dnssec: 'error', failure: 'SERVFAIL' };

function factsOf({
  rule = 'dane',
  mx,
  nextHop = domain,
  host = HOST,
  location = at([HOST]),
  tlsa = usable(HOST),
}: Day): HostFacts {
  return {
    destination: { tls: rule, pins: ['sha256/pin='], nextHop },
    mx: { kind: 'mx', dnssec: 'secure', expanded: null, ...mx },
    host: { name: host, preference: 10, unusable: null },
    location,
    tlsa: tlsa && {
      name: `_25._tcp.${host}`,
      dnssec: 'secure',
      base: null,
      records: [],
      considered: [],
      failure: null,
      ...tlsa,
    },
    sts: null,
  };
}

/** `dane tlsa-usable mx.provider.net [names]`: kind, code, SNI, and the names that a certificate may be for. */
function story(day: Day): string {
  const insecureMx = day.insecureMx ?? 'dane';
  const facts = factsOf(day);
  const asked = asksForTlsa(insecureMx)(facts);
  const policy = decide(insecureMx)(asked ? facts : { ...facts, tlsa: null });
  const question = asked ? 'asked' : 'not asked';
  switch (policy.kind) {
    case 'skip':
      return `${question}: skip ${policy.trouble.code}`;
    case 'dane':
      return `${question}: dane ${policy.sni} [${policy.referenceNames.join(' ')}]${policy.wholePath ? '' : ' host only'}`;
    case 'verify':
    case 'sts':
    case 'pin': {
      const besides = policy.dane ? ' besides DANE' : '';
      const names = policy.kind === 'pin' ? policy.pins : policy.names;
      const hostOnly = policy.kind !== 'pin' && !policy.wholePath ? ' host only' : '';
      return `${question}: ${policy.kind} ${policy.sni} [${names.join(' ')}]${hostOnly}${besides}`;
    }
    case 'encrypt':
    case 'may':
      return `${question}: ${policy.kind} ${policy.code} ${policy.sni}`;
  }
}

const insecure = { mx: { dnssec: 'insecure' as const } };
const FULL = `dane ${HOST} [${HOST} example.nl]`;
const HALF = `dane ${HOST} [${HOST}] host only`;

describe('from what DNS said to what a host must prove', () => {
  test.each<[string, Day, string]>([
    ['POL-05 a secure MX, a signed host, a usable record', {}, `asked: ${FULL}`],
    ['MX-02 the MX lookup failed', { mx: { kind: 'failed', dnssec: 'error' } }, 'asked: skip mx-lookup-failed'],
    [
      'ADDR-03 the address lookup failed',
      { location: { kind: 'failed', reason: 'SERVFAIL' } },
      'not asked: skip address-lookup-failed',
    ],
    ['the addresses were never looked up', { location: null }, 'not asked: skip address-lookup-failed'],
    [
      'ADDR-05 the host has no address',
      { location: { kind: 'absent', dnssec: 'secure' } },
      'not asked: skip host-without-address',
    ],
    [
      'ADDR-02 an unsigned host is not asked',
      { location: unsigned, tlsa: failed },
      `not asked: may host-insecure ${HOST}`,
    ],
    ['ADDR-07 a signed alias into an unsigned zone', { location: at([HOST], 'insecure') }, `asked: ${FULL}`],
    ['no records', { tlsa: none }, `asked: may tlsa-absent ${HOST}`],
    [
      'TLSA-07 unsigned records',
      {
        tlsa: {
          ...none,
          dnssec: 'insecure',
          records: [{ text: '3 1 1 ab', usable: true, considered: false, why: '' }],
        },
      },
      `asked: may tlsa-insecure ${HOST}`,
    ],
    [
      'OPS-04 OPS-05 CONN-07 only unusable records: TLS is mandatory all the same',
      { tlsa: unusable },
      `asked: encrypt tlsa-all-unusable ${HOST}`,
    ],
    ['TLSA-10 the TLSA lookup failed', { tlsa: failed }, 'asked: skip tlsa-lookup-failed'],
    ['TLSA-10 the TLSA lookup was forgotten', { tlsa: null }, 'asked: skip tlsa-lookup-failed'],

    ['MX-11 an insecure MX, a signed host with TLSA: the host alone is authenticated', insecure, `asked: ${HALF}`],
    ['MX-11 insecureMx: encrypt', { ...insecure, insecureMx: 'encrypt' }, `asked: encrypt mx-insecure ${HOST}`],
    [
      'MX-11 insecureMx: encrypt without TLSA',
      { ...insecure, insecureMx: 'encrypt', tlsa: none },
      `asked: may mx-insecure ${HOST}`,
    ],
    [
      'MX-10 MX-12 insecureMx: may, whatever is published',
      { ...insecure, insecureMx: 'may', tlsa: failed },
      `not asked: may mx-insecure ${HOST}`,
    ],
    [
      'MX-12 insecureMx: dane and a TLSA lookup that fails',
      { ...insecure, tlsa: failed },
      'asked: skip tlsa-lookup-failed',
    ],
    [
      'MX-10 an insecure MX and an unsigned host',
      { ...insecure, location: unsigned },
      `not asked: may mx-insecure ${HOST}`,
    ],
    ['MX-11 an insecure MX without TLSA', { ...insecure, tlsa: none }, `asked: may mx-insecure ${HOST}`],
    [
      'MX-11 an insecure MX and unusable records',
      { ...insecure, tlsa: unusable },
      `asked: encrypt tlsa-all-unusable ${HOST}`,
    ],

    [
      'MX-15 TLS-02 an address literal',
      { nextHop: literal, mx: { kind: 'literal', dnssec: null } },
      'not asked: may literal-address null',
    ],
    ['TLS-02 without DANE the SNI is the name of the host', { tlsa: none }, `asked: may tlsa-absent ${HOST}`],

    ['rule dane-only, all well', { rule: 'dane-only' }, `asked: ${FULL}`],
    [
      'POL-01 MX-10 rule dane-only, insecure MX',
      { rule: 'dane-only', ...insecure },
      'not asked: skip dane-only-mx-insecure',
    ],
    [
      'POL-01 rule dane-only, unsigned host',
      { rule: 'dane-only', location: unsigned },
      'not asked: skip dane-only-host-insecure',
    ],
    ['POL-01 rule dane-only, no TLSA', { rule: 'dane-only', tlsa: none }, 'asked: skip dane-only-no-tlsa'],
    [
      'POL-02 OPS-04 rule dane-only, unusable records',
      { rule: 'dane-only', tlsa: unusable },
      'asked: skip dane-only-unusable',
    ],
    [
      'POL-01 rule dane-only, TLSA lookup failed',
      { rule: 'dane-only', tlsa: failed },
      'asked: skip tlsa-lookup-failed',
    ],
    [
      'MX-15 rule dane-only, literal',
      { rule: 'dane-only', nextHop: literal, mx: { kind: 'literal', dnssec: null } },
      'not asked: skip dane-only-literal',
    ],
    ['rule encrypt, all well: as dane', { rule: 'encrypt' }, `asked: ${FULL}`],
    ['rule encrypt, no TLSA', { rule: 'encrypt', tlsa: none }, `asked: encrypt rule-encrypt ${HOST}`],
    ['rule encrypt, unsigned host', { rule: 'encrypt', location: unsigned }, `not asked: encrypt rule-encrypt ${HOST}`],
    ['rule encrypt, TLSA lookup failed', { rule: 'encrypt', tlsa: failed }, 'asked: skip tlsa-lookup-failed'],
    [
      'rule encrypt, insecure MX and insecureMx: may',
      { rule: 'encrypt', ...insecure, insecureMx: 'may' },
      `not asked: encrypt rule-encrypt ${HOST}`,
    ],
    [
      'rule encrypt, literal',
      { rule: 'encrypt', nextHop: literal, mx: { kind: 'literal', dnssec: null } },
      'not asked: encrypt rule-encrypt null',
    ],
    ['rule verify, all well: DANE besides', { rule: 'verify' }, `asked: verify ${HOST} [${HOST}] besides DANE`],
    ['rule verify, no TLSA', { rule: 'verify', tlsa: none }, `asked: verify ${HOST} [${HOST}]`],
    ['rule verify, unusable records', { rule: 'verify', tlsa: unusable }, `asked: verify ${HOST} [${HOST}]`],
    ['rule verify, unsigned host', { rule: 'verify', location: unsigned }, `not asked: verify ${HOST} [${HOST}]`],
    ['rule verify, TLSA lookup failed', { rule: 'verify', tlsa: failed }, 'asked: skip tlsa-lookup-failed'],
    [
      'rule verify, insecure MX: the host only, and DANE besides',
      { rule: 'verify', ...insecure },
      `asked: verify ${HOST} [${HOST}] host only besides DANE`,
    ],
    [
      'rule verify, an alias: the name of the host, or the one where the records are',
      { rule: 'verify', host: 'mx.example.nl', location: at([HOST, 'mx.example.nl']) },
      `asked: verify ${HOST} [mx.example.nl ${HOST}] besides DANE`,
    ],
    [
      'rule verify, literal',
      { rule: 'verify', nextHop: literal, mx: { kind: 'literal', dnssec: null } },
      'not asked: skip verify-literal',
    ],
    ['rule pin, all well: DANE besides', { rule: 'pin' }, `asked: pin ${HOST} [sha256/pin=] besides DANE`],
    ['rule pin, no TLSA', { rule: 'pin', tlsa: none }, `asked: pin ${HOST} [sha256/pin=]`],
    ['rule pin, TLSA lookup failed', { rule: 'pin', tlsa: failed }, 'asked: skip tlsa-lookup-failed'],
    [
      'rule pin, literal',
      { rule: 'pin', nextHop: literal, mx: { kind: 'literal', dnssec: null } },
      'not asked: pin null [sha256/pin=]',
    ],
    ['rule may: TLSA is not even asked', { rule: 'may' }, `not asked: may rule-may ${HOST}`],
    [
      'rule may, literal',
      { rule: 'may', nextHop: literal, mx: { kind: 'literal', dnssec: null } },
      'not asked: may rule-may null',
    ],
  ])('%s', (_, day, expected) => {
    expect(story(day)).toBe(expected);
  });

  test('a host that may not be used stays unused, with its own reason', () => {
    const facts = factsOf({});
    const host = { ...facts.host, unusable: { code: 'own-host' as const, detail: '' } };
    expect(decide('dane')({ ...facts, host })).toMatchObject({
      kind: 'skip',
      trouble: { code: 'own-host', host: HOST },
    });
  });
});

describe('SNI and reference identifiers (RFC 7672 §3.2.2, §8.1)', () => {
  const [near, far] = ['mx.example.nl', 'mx.provider.net'];
  const alias = (base: string, day: Day = {}): Day => ({
    host: near,
    location: at([far, near]),
    tlsa: usable(base),
    ...day,
  });
  const implicit = (base: string, host = 'example.nl'): Day => ({
    mx: { kind: 'implicit', dnssec: 'secure' },
    host,
    location: at([base]),
    tlsa: usable(base),
  });

  test.each<[string, Day, string]>([
    ['NAME-01 no aliases: base and next-hop domain', {}, `dane ${far} [${far} example.nl]`],
    [
      'NAME-02 an alias at the recipient domain adds its end',
      { mx: { expanded: 'mail.example.org' } },
      `dane ${far} [${far} example.nl mail.example.org]`,
    ],
    [
      'NAME-03 TLS-01 OPS-01 OPS-02 base is the end of the alias: not the name in the MX',
      alias(far),
      `dane ${far} [${far} example.nl]`,
    ],
    [
      'NAME-04 TLS-01 OPS-01 base is the name in the MX: not the end of its alias',
      alias(near),
      `dane ${near} [${near} example.nl]`,
    ],
    ['NAME-05 MX-04 implicit MX', implicit('example.nl'), 'dane example.nl [example.nl]'],
    [
      'NAME-05 MX-09 implicit MX with an alias',
      implicit('www.provider.net'),
      'dane www.provider.net [www.provider.net example.nl]',
    ],
    [
      'NAME-05 an implicit MX is judged by its addresses, not by the MX answer',
      { ...implicit('example.nl'), mx: { kind: 'implicit', dnssec: 'insecure' } },
      'dane example.nl [example.nl]',
    ],
    [
      'NAME-05 MX-17 a configured host',
      { nextHop: configured, mx: { kind: 'route', dnssec: null } },
      `dane ${far} [${far}]`,
    ],
    [
      'NAME-05 a configured host with an alias',
      { nextHop: { ...configured, host: near }, mx: { kind: 'route', dnssec: null }, ...alias(far) },
      `dane ${far} [${far} ${near}]`,
    ],
    [
      'NAME-06 an insecure MX: the base and nothing else',
      alias(far, { mx: { dnssec: 'insecure', expanded: 'mail.example.org' } }),
      `dane ${far} [${far}] host only`,
    ],
    [
      'MX-16 a configured domain is the next-hop domain',
      { nextHop: { kind: 'domain', domain: 'relay.example', port: 25 } },
      `dane ${far} [${far} relay.example]`,
    ],
    [
      'NAME-01 a domain that is its own mail host is named once',
      { host: 'example.nl', location: at(['example.nl']), tlsa: usable('example.nl') },
      'dane example.nl [example.nl]',
    ],
  ])('%s', (_, day, expected) => {
    expect(story(day)).toBe(`asked: ${expected}`);
  });

  // Mail to exchange.example.org, an alias through mail.example.org to example.com, which has the MX records.
  test.each<[string, Day, string]>([
    [
      'mx10',
      { host: 'mx10.example.com', location: at(['mx10.example.com']), tlsa: usable('mx10.example.com') },
      'mx10.example.com',
    ],
    [
      'mx15',
      {
        host: 'mx15.example.com',
        location: at(['mxbackup.example.com', 'mx15.example.com']),
        tlsa: usable('mx15.example.com'),
      },
      'mx15.example.com',
    ],
    [
      'mx20',
      {
        host: 'mx20.example.com',
        location: at(['mxbackup.example.net', 'mx20.example.com']),
        tlsa: usable('mxbackup.example.net'),
      },
      'mxbackup.example.net',
    ],
  ])('NAME-07 the worked example of the RFC: %s', (_, day, base) => {
    const nextHop: NextHop = { kind: 'domain', domain: 'exchange.example.org', port: 25 };
    expect(story({ ...day, nextHop, mx: { expanded: 'example.com' } })).toBe(
      `asked: dane ${base} [${base} exchange.example.org example.com]`,
    );
  });
});

test('DNS-06 unknown is never permission: whatever else holds, a failed lookup is never dialled', () => {
  const any = fc.record({
    rule: fc.constantFrom<TlsRule>('dane', 'dane-only', 'encrypt', 'verify', 'pin'),
    insecureMx: fc.constantFrom<InsecureMx>('dane', 'encrypt'),
    mx: fc.record({
      dnssec: fc.constantFrom('secure' as const, 'insecure' as const),
      expanded: fc.constantFrom(null, 'x.example'),
    }),
    trouble: fc.constantFrom<Day>(
      { tlsa: failed },
      { tlsa: null },
      { location: null },
      { location: { kind: 'failed', reason: 'timeout' } },
    ),
  });
  fc.assert(fc.property(any, ({ trouble, ...day }) => void expect(story({ ...day, ...trouble })).toMatch(/: skip /)));
});
