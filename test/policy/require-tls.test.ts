/** REQUIRETLS over the decision for other mail (RFC 8689 §4.2.1), row by row. */
import { describe, expect, test } from 'vitest';
import type { TlsWish } from '../../src/model/message.ts';
import type { MxFacts, NextHop } from '../../src/model/route.ts';
import { type Destination, forWish, type HostFacts, type TlsRule } from '../../src/model/tls-policy.ts';
import { decide } from '../../src/policy/decide.ts';
import { requiringTls } from '../../src/policy/require-tls.ts';

const HOST = 'mx.provider.net';
const record = { usage: 3, selector: 1, matching: 1, data: Buffer.alloc(32, 7) };

interface Day {
  readonly rule?: TlsRule;
  readonly mx?: Partial<MxFacts>;
  readonly nextHop?: NextHop;
  readonly tlsa?: 'usable' | 'unusable' | 'none' | 'failed' | 'unsigned host';
  readonly sts?: readonly string[];
}

const DOMAIN: NextHop = { kind: 'domain', domain: 'example.nl', port: 25 };

function factsOf({ rule = 'dane', mx, nextHop = DOMAIN, tlsa = 'usable', sts }: Day): HostFacts {
  const unsigned = tlsa === 'unsigned host';
  const destination = forWish({ tls: rule, pins: ['sha256/pin='], nextHop }, 'required');
  return {
    destination,
    mx: { kind: 'mx', dnssec: 'secure', expanded: null, ...mx },
    host: { name: HOST, preference: 10, unusable: null },
    location: {
      kind: 'found',
      addresses: ['192.0.2.1'],
      dnssec: unsigned ? 'insecure' : 'secure',
      bases: unsigned ? [] : [HOST],
    },
    tlsa: unsigned
      ? null
      : {
          name: `_25._tcp.${HOST}`,
          dnssec: tlsa === 'failed' ? 'error' : 'secure',
          base: tlsa === 'none' || tlsa === 'failed' ? null : HOST,
          records: [],
          considered: tlsa === 'usable' ? [record] : [],
          failure: tlsa === 'failed' ? 'SERVFAIL' : null,
        },
    sts: sts
      ? {
          kind: 'policy',
          domain: 'example.nl',
          policy: { mode: 'enforce', mx: sts, maxAge: 1, lines: [] },
          id: '1',
          fetchedAt: 0,
          failure: null,
        }
      : null,
  };
}

function decided(day: Day): string {
  const facts = factsOf(day);
  const policy = requiringTls(decide('dane')(facts), facts);
  if (policy.kind === 'skip') return `skip ${policy.trouble.code}`;
  return `${policy.kind} ${policy.code}${'names' in policy ? ` ${policy.names.join(' ')}` : ''}`;
}

const insecure = { dnssec: 'insecure' } as const;
const NOT_PROVEN = 'skip requiretls-not-proven';

describe('a message that demands TLS on the whole way', () => {
  test.each<[string, Day, string]>([
    ['REQ-02 a signed MX and DANE', {}, 'dane tlsa-usable'],
    ['REQ-02 a signed MX without TLSA: a trusted certificate', { tlsa: 'none' }, `verify rule-requiretls ${HOST}`],
    ['REQ-02 a signed MX, a host that is not', { tlsa: 'unsigned host' }, `verify rule-requiretls ${HOST}`],
    ['REQ-04 TLSA of which none is usable is no proof', { tlsa: 'unusable' }, `verify rule-requiretls ${HOST}`],
    ['REQ-02 an MX that is not signed, DANE at the host', { mx: insecure }, NOT_PROVEN],
    ['REQ-02 an MX that is not signed', { mx: insecure, tlsa: 'none' }, NOT_PROVEN],
    ['REQ-02 the same, named by MTA-STS', { mx: insecure, tlsa: 'none', sts: [HOST] }, `sts sts-enforce ${HOST}`],
    ['REQ-02 the same, with DANE at the host', { mx: insecure, sts: [HOST] }, `sts sts-enforce ${HOST}`],
    ['REQ-02 not named by MTA-STS', { mx: insecure, sts: ['other.net'] }, 'skip sts-mx-not-listed'],
    ['REQ-02 a failed lookup waits', { tlsa: 'failed' }, 'skip tlsa-lookup-failed'],
    [
      'REQ-02 no MX record: the domain itself',
      { mx: { kind: 'implicit' }, tlsa: 'none' },
      `verify rule-requiretls ${HOST}`,
    ],
    ['REQ-02 a rule that asks for little', { rule: 'may' }, 'dane tlsa-usable'],
    ['REQ-02 a rule that asks for encryption', { rule: 'encrypt', tlsa: 'none' }, `verify rule-requiretls ${HOST}`],
    ['REQ-02 the rule verify behind a signed MX', { rule: 'verify', tlsa: 'none' }, `verify rule-verify ${HOST}`],
    ['REQ-02 the rule verify behind another', { rule: 'verify', tlsa: 'none', mx: insecure }, NOT_PROVEN],
    ['REQ-02 a key that the operator named', { rule: 'pin', tlsa: 'none', mx: insecure }, 'pin rule-pin'],
    ['REQ-02 the rule dane-only waits', { rule: 'dane-only', tlsa: 'none' }, 'skip dane-only-no-tlsa'],
    [
      'REQ-02 an address has no name',
      { nextHop: { kind: 'literal', address: '192.0.2.1', port: 25 }, mx: { kind: 'literal' } },
      NOT_PROVEN,
    ],
    [
      'REQ-02 a host that a route names',
      { nextHop: { kind: 'host', host: HOST, port: 25 }, mx: { kind: 'route', dnssec: null }, tlsa: 'none' },
      `verify rule-requiretls ${HOST}`,
    ],
  ])('%s', (_, day, expected) => expect(decided(day)).toBe(expected));

  test('REQ-02 nothing that is granted to other mail counts', () => {
    const granted: Destination = {
      tls: 'dane',
      pins: [],
      nextHop: DOMAIN,
      reportUntil: 1,
      exception: { kind: 'report', until: 1 },
    };
    expect(forWish(granted, 'required')).toMatchObject({ reportUntil: null, exception: null });
  });
});

describe('a message that waives TLS', () => {
  const heeded = (tls: TlsRule, wish: TlsWish): string => {
    const { tls: rule, wish: said } = forWish({ tls, pins: [], nextHop: DOMAIN }, wish);
    return `${rule} ${said}`;
  };

  test('REQ-06 what the recipient publishes does not count', () => {
    expect(heeded('dane', 'optional')).toBe('may optional');
    expect(heeded('may', 'optional')).toBe('may optional');
    const facts = factsOf({ tlsa: 'failed' });
    const destination = forWish({ ...facts.destination, tls: 'dane' }, 'optional');
    expect(decide('dane')({ ...facts, destination })).toMatchObject({ kind: 'may', code: 'rule-tls-optional' });
  });

  test.each<TlsRule>(['dane-only', 'encrypt', 'verify', 'pin'])('REQ-08 the rule %s does', (rule) => {
    expect(heeded(rule, 'optional')).toBe(`${rule} overruled`);
  });

  test('who asks for nothing gets what the table says', () => {
    expect(heeded('dane', 'default')).toBe('dane undefined');
  });
});
