/** What MTA-STS adds to the decision on a host, and what it leaves alone: a good day with one thing changed. */
import { describe, expect, test } from 'vitest';
import type { StsFindings, StsPolicy } from '../../../src/model/sts.ts';
import {
  type Destination,
  type HostFacts,
  type InsecureMx,
  type TlsaFindings,
  type TlsRule,
  withoutDemands,
} from '../../../src/model/tls-policy.ts';
import { asksForTlsa, decide } from '../../../src/policy/decide.ts';
import { policyDomainOf } from '../../../src/policy/sts/find.ts';

const HOST = 'mx.provider.net';

interface Day {
  readonly rule?: TlsRule;
  readonly mode?: StsPolicy['mode'] | 'not there';
  readonly lists?: string;
  readonly mxSigned?: boolean;
  readonly insecureMx?: InsecureMx;
  readonly tlsa?: 'usable' | 'unusable' | 'none' | 'fails' | 'unsigned host';
}

const RECORDS: Readonly<Record<NonNullable<Day['tlsa']>, Partial<TlsaFindings>>> = {
  usable: { base: HOST, considered: [{ usage: 3, selector: 1, matching: 1, data: Buffer.alloc(32) }] },
  unusable: { base: HOST },
  none: {},
  fails: { dnssec: 'error', failure: 'SERVFAIL' },
  'unsigned host': {},
};

function story({
  rule = 'dane',
  mode = 'enforce',
  lists = HOST,
  mxSigned = true,
  insecureMx = 'dane',
  tlsa = 'none',
}: Day) {
  const domain = 'example.nl';
  const policy = { mode: mode === 'not there' ? 'none' : mode, mx: [lists], maxAge: 86_400, lines: [] } as const;
  const sts: StsFindings =
    mode === 'not there'
      ? { kind: 'none', domain, why: 'it has none', failure: null }
      : { kind: 'policy', domain, policy, id: '1', fetchedAt: 0, failure: null };
  const empty: TlsaFindings = {
    name: `_25._tcp.${HOST}`,
    dnssec: 'secure',
    base: null,
    records: [],
    considered: [],
    failure: null,
  };
  const signed = tlsa !== 'unsigned host';
  const facts: HostFacts = {
    destination: { tls: rule, pins: ['sha256/pin='], nextHop: { kind: 'domain', domain, port: 25 } },
    mx: { kind: 'mx', dnssec: mxSigned ? 'secure' : 'insecure', expanded: null },
    host: { name: HOST, preference: 10, unusable: null },
    location: {
      kind: 'found',
      addresses: ['192.0.2.1'],
      dnssec: signed ? 'secure' : 'insecure',
      bases: signed ? [HOST] : [],
    },
    tlsa: { ...empty, ...RECORDS[tlsa] },
    sts,
  };
  const asked = asksForTlsa(insecureMx)(facts);
  const decided = decide(insecureMx)(asked ? facts : { ...facts, tlsa: null });
  if (decided.kind === 'skip') return `skip ${decided.trouble.code}`;
  const besides = 'dane' in decided && decided.dane ? ' and DANE' : '';
  if (decided.kind !== 'sts') return `${decided.kind}${besides}`;
  return `sts for ${decided.names.join(' or ')}, SNI ${decided.sni}${decided.wholePath ? '' : ', host only'}${besides}`;
}

const STS = `sts for ${HOST}, SNI ${HOST}`;
const other = { lists: 'mx.other.net' };

describe('MTA-STS beside DANE', () => {
  test.each<[string, Day, string]>([
    ['STS-04 no TLSA, enforce', {}, STS],
    ['STS-04 unsigned MX, unsigned host, enforce', { mxSigned: false, tlsa: 'unsigned host' }, STS],
    ['STS-04 signed MX, unsigned host, enforce', { tlsa: 'unsigned host' }, STS],
    ['STS-06 a host that is not listed', other, 'skip sts-mx-not-listed'],
    ['STS-06 a host that a wildcard lists', { lists: '*.provider.net' }, STS],
    ['STS-06 a wildcard for two labels', { lists: '*.net' }, 'skip sts-mx-not-listed'],
    ['STS-08 testing', { mode: 'testing' }, 'may'],
    ['STS-08 testing, not listed', { mode: 'testing', ...other }, 'may'],
    ['STS-08 mode none', { mode: 'none', ...other }, 'may'],
    ['STS-07 no policy to be had', { mode: 'not there' }, 'may'],

    ['STS-01 a TLSA lookup that fails is not made good', { tlsa: 'fails' }, 'skip tlsa-lookup-failed'],
    ['STS-01 STS-02 usable TLSA: DANE judges', { tlsa: 'usable' }, 'dane'],
    ['STS-02 usable TLSA, not listed: DANE judges', { tlsa: 'usable', ...other }, 'dane'],
    ['STS-03 unusable TLSA, enforce', { tlsa: 'unusable' }, STS],
    ['STS-03 unusable TLSA, not listed', { tlsa: 'unusable', ...other }, 'skip sts-mx-not-listed'],
    ['STS-03 unusable TLSA, testing', { tlsa: 'unusable', mode: 'testing' }, 'encrypt'],
    ['STS-02 usable TLSA behind an insecure MX: both', { tlsa: 'usable', mxSigned: false }, `${STS} and DANE`],
    [
      'STS-02 STS-06 usable TLSA behind an insecure MX, not listed: anybody could have put it there',
      { tlsa: 'usable', mxSigned: false, ...other },
      'skip sts-mx-not-listed',
    ],
    ['STS-04 insecureMx: may, listed', { tlsa: 'usable', mxSigned: false, insecureMx: 'may' }, STS],
    [
      'STS-04 insecureMx: encrypt, not listed',
      { tlsa: 'usable', mxSigned: false, insecureMx: 'encrypt', ...other },
      'skip sts-mx-not-listed',
    ],

    ['the rule encrypt', { rule: 'encrypt' }, STS],
    ['the rule dane-only is not content with it', { rule: 'dane-only' }, 'skip dane-only-no-tlsa'],
    ['the rule verify, listed', { rule: 'verify' }, STS],
    ['the rule verify, not listed', { rule: 'verify', ...other }, 'skip sts-mx-not-listed'],
    ['the rule verify under DANE', { rule: 'verify', tlsa: 'usable', ...other }, 'verify and DANE'],
    ['the rule pin stands for itself', { rule: 'pin', ...other }, 'pin'],
    ['the rule may', { rule: 'may', ...other }, 'may'],
  ])('%s', (_, day, expected) => {
    expect(story(day)).toBe(expected);
  });

  test('STS-01 whatever the policy of MTA-STS, what DANE keeps back is kept back', () => {
    for (const mode of ['enforce', 'testing', 'none', 'not there'] as const) {
      for (const rule of ['dane', 'dane-only', 'encrypt', 'verify', 'pin'] as const) {
        expect(story({ mode, rule, tlsa: 'fails' })).toBe('skip tlsa-lookup-failed');
        expect(story({ mode, rule, tlsa: 'fails', ...other })).toBe('skip tlsa-lookup-failed');
      }
    }
  });
});

describe('STS-05 whose policy counts', () => {
  const plain = { tls: 'dane', pins: [], nextHop: { kind: 'domain', domain: 'example.nl', port: 25 } } as const;
  const rule = (nextHop: Destination['nextHop'], tls: TlsRule = 'dane') => policyDomainOf({ tls, pins: [], nextHop });

  test.each<[string, string | null, string | null]>([
    ['the domain of the recipient', rule({ kind: 'domain', domain: 'sub.example.nl', port: 25 }), 'sub.example.nl'],
    ['the host that a route names', rule({ kind: 'host', host: 'smart.example.nl', port: 587 }), 'smart.example.nl'],
    ['STS-09 nobody where nothing may be demanded', policyDomainOf(withoutDemands(plain)), null],
    ['nobody for an address', rule({ kind: 'literal', address: '192.0.2.1', port: 25 }), null],
    [
      'nobody where the operator asks for nothing',
      rule({ kind: 'domain', domain: 'example.nl', port: 25 }, 'may'),
      null,
    ],
  ])('%s', (_, domain, expected) => {
    expect(domain).toBe(expected);
  });
});
