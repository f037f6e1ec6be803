/**
 * The example of RFC 7672 §3.2.2, in zones that are really signed, behind a real Unbound: from the recipient's domain
 * to the names that a certificate of each mail host may be for.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chainOfThree, type Identity, tlsaFor } from '../../lab/certificates.ts';
import type { HostPlan } from '../../src/model/tls-policy.ts';
import { judgeChain } from '../../src/policy/dane/match.ts';
import { createTlsaFinder } from '../../src/policy/dane/tlsa.ts';
import { asksForTlsa, decide } from '../../src/policy/decide.ts';
import { findWay, type Lookups, planHost } from '../../src/relay.ts';
import { createLocator } from '../../src/route/addresses.ts';
import { createRouter } from '../../src/route/mail-hosts.ts';
import { type RouteLab, signed, startRouteLab } from '../support/route-lab.ts';

/** For each of these there is a certificate, and its authority is published for every host. */
const NAMES = [
  'mx10.example.com',
  'mx15.example.com',
  'mx20.example.com',
  'mxbackup.example.com',
  'mxbackup.example.net',
  'exchange.example.org',
  'example.com',
  'mail.example.org',
  'example.net',
] as const;
const chains = await Promise.all(NAMES.map(async (name) => ({ name, ...(await chainOfThree([name])) })));
const anchors = chains.map(({ root }) => tlsaFor(2, 0, 1, root));
const tlsa = (name: string): string[] => anchors.map((record) => `_25._tcp.${name} TLSA ${record}`);

let lab: RouteLab;
const plans = new Map<string, HostPlan>();

beforeAll(async () => {
  lab = await startRouteLab({
    'example.org': signed('exchange CNAME mail.example.org.', 'mail CNAME example.com.'),
    'example.com': signed(
      '@ MX 10 mx10',
      '@ MX 15 mx15',
      '@ MX 20 mx20',
      'mx10 A 192.0.2.10',
      ...tlsa('mx10'),
      'mx15 CNAME mxbackup',
      'mxbackup A 192.0.2.15',
      // No TLSA for mxbackup.example.com: the name in the MX record has it.
      ...tlsa('mx15'),
      'mx20 CNAME mxbackup.example.net.',
    ),
    'example.net': signed('mxbackup A 198.51.100.20', ...tlsa('mxbackup')),
  });
  const { resolve } = lab;
  const locate = createLocator({ resolve });
  const destination = {
    tls: 'dane',
    pins: [],
    nextHop: { kind: 'domain', domain: 'exchange.example.org', port: 25 },
  } as const;
  const lookups: Lookups = {
    destination: () => destination,
    resolverDoubt: () => null,
    route: createRouter({ resolve, locate, self: { names: ['relay.test'] } }),
    findSts: async () => null,
    locate,
    asksForTlsa: asksForTlsa('dane'),
    findTlsa: createTlsaFinder({ resolve }),
    decide: decide('dane'),
  };
  const way = await findWay(destination, lookups);
  if (way.kind !== 'hosts') throw new Error(`no hosts: ${way.trouble.code}`);
  for (const host of way.hosts) plans.set(host.name, await planHost(destination, way.mx, host, null, lookups));
});
afterAll(() => lab?.close());

const BOTH = ['exchange.example.org', 'example.com'] as const;

describe('NAME-07 the worked example of the RFC, in signed zones', () => {
  test('NAME-02 MX-08 the hosts are those at the end of the aliases of the recipient domain, in their order', () => {
    expect([...plans.keys()]).toEqual(['mx10.example.com', 'mx15.example.com', 'mx20.example.com']);
  });

  test.each([
    ['NAME-01 no alias', 'mx10.example.com', 'mx10.example.com'],
    ['NAME-04 OPS-01 no TLSA at the end of the alias', 'mx15.example.com', 'mx15.example.com'],
    ['NAME-03 OPS-01 OPS-02 TLSA at the end of the alias', 'mx20.example.com', 'mxbackup.example.net'],
  ])('%s: %s', (_, host, base) => {
    const policy = plans.get(host)?.policy;
    if (policy?.kind !== 'dane') throw new Error(`${host}: ${policy?.kind}`);
    expect(policy.sni).toBe(base);
    const accepts = ({ chain }: Identity): boolean => {
      const sent = [...chain.matchAll(/-----BEGIN CERTIFICATE-----([^-]+)/g)].map(([, pem = '']) =>
        Buffer.from(pem, 'base64'),
      );
      const { records, referenceNames } = policy;
      return judgeChain({ chain: sent, records, names: referenceNames, at: Date.now() }).verdict === 'authenticated';
    };
    const accepted = chains.filter(({ leaf }) => accepts(leaf)).map(({ name }) => name);
    expect(accepted.toSorted()).toEqual([base, ...BOTH].toSorted());
  });
});
