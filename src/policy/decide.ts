/**
 * How a mail host must prove itself before it is given mail: RFC 7672 §2.2 with the operator's rules on top.
 *
 * Pure: what is known goes in, a policy comes out. Read from top to bottom it is the decision table of docs/verdicts.md.
 * Whatever was not found out, or ought to have been asked and was not, ends in `skip`: the host is not dialled.
 */
import type { ReasonCode } from '../model/reasons.ts';
import type { StsPolicy } from '../model/sts.ts';
import type { EnoughPolicy, HostFacts, InsecureMx, StrictPolicy, TlsaFindings } from '../model/tls-policy.ts';
import { lists } from './sts/policy.ts';

/**
 * Whether TLSA records may be asked for, now that the addresses are known. Hosts in unsigned zones are not asked:
 * some of their name servers break on the question (RFC 7672 §2.2.2).
 */
export function asksForTlsa(insecureMx: InsecureMx): (facts: HostFacts) => boolean {
  return ({ destination, mx, location }) => {
    if (destination.tls === 'may' || mx.kind === 'literal' || destination.nextHop.kind === 'literal') return false;
    if (hasInsecureMx({ mx }) && (insecureMx === 'may' || destination.tls === 'dane-only')) return false;
    return location?.kind === 'found' && location.bases.length > 0;
  };
}

/** The policy for one host. `asksForTlsa` with the same setting must have decided whether `tlsa` is there. */
export function decide(insecureMx: InsecureMx): (facts: HostFacts) => StrictPolicy {
  const asks = asksForTlsa(insecureMx);
  return (facts) => {
    const { destination, mx, host, location } = facts;
    if (host.unusable) return { kind: 'skip', trouble: { host: host.name, ...host.unusable } };
    if (mx.kind === 'failed' || mx.dnssec === 'error') return skip(facts, 'mx-lookup-failed', '');
    if (location === null) return skip(facts, 'address-lookup-failed', 'the addresses were not looked up');
    if (location.kind === 'failed') return skip(facts, 'address-lookup-failed', location.reason);
    if (location.kind === 'absent') return skip(facts, 'host-without-address', host.name);
    if (destination.nextHop.kind === 'literal' || mx.kind === 'literal') return forLiteral(facts);
    if (destination.tls === 'may') return withoutDemand(facts, host.name);
    return withSts(facts, withRule(facts, byDane(facts)));
  };

  function byDane(facts: HostFacts): StrictPolicy {
    const { tlsa } = facts;
    if (!asks(facts)) return withoutDane(facts, hasInsecureMx(facts) ? 'mx-insecure' : 'host-insecure');
    if (tlsa === null) return skip(facts, 'tlsa-lookup-failed', 'the TLSA records were not looked up');
    if (tlsa.failure !== null || tlsa.dnssec === 'error') {
      return skip(facts, 'tlsa-lookup-failed', [tlsa.name, tlsa.failure].filter(Boolean).join(': '));
    }
    if (tlsa.base === null) return withoutDane(facts, whyNoTlsa(facts, tlsa));
    return withTlsa(facts, tlsa, tlsa.base, insecureMx);
  }
}

/** Where nothing is asked of DANE; TLS all the same where nothing may leave in the clear. */
function withoutDemand({ destination }: HostFacts, sni: string | null): StrictPolicy {
  if (destination.minimum === 'encrypt') return { kind: 'encrypt', code: 'rule-encrypt', sni };
  return { kind: 'may', code: destination.wish === 'optional' ? 'rule-tls-optional' : 'rule-may', sni };
}

/** What the operator demands besides. It never takes the place of what the recipient publishes (RFC 7672 §2.2). */
function withRule(facts: HostFacts, policy: StrictPolicy): StrictPolicy {
  if (policy.kind === 'skip') return policy;
  const besides = besidesDane(facts, policy.sni);
  return besides.kind === 'encrypt' ? policy : { ...besides, dane: policy.kind === 'dane' ? policy : null };
}

/**
 * What is demanded apart from DANE: by the operator's rule and by MTA-STS.
 *
 * @param least what is demanded where neither demands more
 */
export function apartFromDane(facts: HostFacts, sni: string | null, least: 'may' | 'encrypt'): StrictPolicy {
  const besides = besidesDane(facts, sni);
  const { tls, minimum } = facts.destination;
  const weak = besides.kind === 'encrypt' && least === 'may' && tls !== 'encrypt' && minimum !== 'encrypt';
  return withSts(facts, weak ? { kind: 'may', code: 'rule-report', sni } : besides);
}

/** What the operator's rule demands apart from DANE, under TLS. */
function besidesDane(facts: HostFacts, sni: string | null): Exclude<EnoughPolicy, { kind: 'may' }> {
  const { destination, host } = facts;
  const { pins } = destination;
  if (destination.tls === 'pin') return { kind: 'pin', code: 'rule-pin', sni, pins, dane: null };
  if (destination.tls !== 'verify') return { kind: 'encrypt', code: 'rule-encrypt', sni };
  const base = sni ?? host.name;
  const names = [...new Set([host.name, base])];
  return { kind: 'verify', code: 'rule-verify', sni: base, names, wholePath: !hasInsecureMx(facts), dane: null };
}

/**
 * What the recipient demands by MTA-STS. It only ever adds: where DANE has failed nothing changes, and a host that DANE
 * has tied to the domain needs no other proof (RFC 8461 §2). Behind an insecure MX, DANE proves the host and not that it
 * is the domain's, so that both must hold. Keys that the operator has named stand for themselves.
 */
function withSts(facts: HostFacts, policy: StrictPolicy): StrictPolicy {
  const { sts, host } = facts;
  if (sts?.kind !== 'policy' || sts.policy.mode !== 'enforce') return policy;
  if (policy.kind === 'skip' || policy.kind === 'pin') return policy;
  const dane = policy.kind === 'dane' ? policy : policy.kind === 'verify' ? policy.dane : null;
  if (dane?.wholePath) return policy;
  if (!lists(sts.policy, host.name)) return skip(facts, 'sts-mx-not-listed', listedIn(sts.policy, host.name));
  return { kind: 'sts', code: 'sts-enforce', sni: host.name, names: [host.name], wholePath: true, dane };
}

function listedIn({ mx }: StsPolicy, host: string): string {
  const shown = mx.slice(0, LISTED_SHOWN).join(', ');
  return `${host} is none of ${shown}${mx.length > LISTED_SHOWN ? ` and ${mx.length - LISTED_SHOWN} others` : ''}`;
}

/** Of the hosts in a policy, for people. */
const LISTED_SHOWN = 5;

/** A secure RRset is there: TLS is mandatory whether or not a record of it is usable (RFC 7672 §2.2). */
function withTlsa(facts: HostFacts, { considered }: TlsaFindings, base: string, insecureMx: InsecureMx): StrictPolicy {
  const { destination } = facts;
  if (considered.length === 0) {
    // RFC 7671 §10.3: where DANE is demanded there must be no connection.
    if (destination.tls === 'dane-only') return skip(facts, 'dane-only-unusable', facts.host.name);
    return { kind: 'encrypt', code: 'tlsa-all-unusable', sni: base };
  }
  if (hasInsecureMx(facts) && insecureMx === 'encrypt') return { kind: 'encrypt', code: 'mx-insecure', sni: base };
  return {
    kind: 'dane',
    code: 'tlsa-usable',
    sni: base,
    referenceNames: referenceNames(facts, base),
    records: considered,
    wholePath: !hasInsecureMx(facts),
  };
}

/** No DANE for this host: what is left is what the operator demands (RFC 7672 §6). */
function withoutDane(facts: HostFacts, why: WhyNoDane): StrictPolicy {
  const { destination, host } = facts;
  switch (destination.tls) {
    case 'dane-only':
      return skip(facts, DANE_ONLY[why], host.name);
    case 'encrypt':
    case 'verify':
    case 'pin':
      return { kind: 'encrypt', code: 'rule-encrypt', sni: host.name };
    case 'dane':
    case 'may':
      return { kind: 'may', code: why, sni: host.name };
  }
}

const DANE_ONLY = {
  'mx-insecure': 'dane-only-mx-insecure',
  'host-insecure': 'dane-only-host-insecure',
  'tlsa-insecure': 'dane-only-no-tlsa',
  'tlsa-absent': 'dane-only-no-tlsa',
} as const satisfies Partial<Record<ReasonCode, ReasonCode>>;

type WhyNoDane = keyof typeof DANE_ONLY;

/** The first thing that the recipient would have to put right. */
function whyNoTlsa(facts: HostFacts, { records }: TlsaFindings): WhyNoDane {
  if (hasInsecureMx(facts)) return 'mx-insecure';
  return records.length > 0 ? 'tlsa-insecure' : 'tlsa-absent';
}

function forLiteral(facts: HostFacts): StrictPolicy {
  switch (facts.destination.tls) {
    case 'dane-only':
      return skip(facts, 'dane-only-literal', facts.host.name);
    case 'encrypt':
      return { kind: 'encrypt', code: 'rule-encrypt', sni: null };
    case 'verify':
      return skip(facts, 'verify-literal', facts.host.name);
    case 'pin':
      return { kind: 'pin', code: 'rule-pin', sni: null, pins: facts.destination.pins, dane: null };
    case 'dane':
      return { kind: 'may', code: 'literal-address', sni: null };
    case 'may':
      return withoutDemand(facts, null);
  }
}

/**
 * The names that a certificate under DANE-TA may be for (RFC 7672 §3.2.2): the base domain, and the domain that the
 * mail is for where DNSSEC, or its being the host itself, ties the two together. An insecure MX could have been put
 * there by anybody, so it vouches for nothing but the host.
 */
function referenceNames(facts: HostFacts, base: string): readonly string[] {
  const { destination, mx } = facts;
  const { nextHop } = destination;
  if (hasInsecureMx(facts)) return [base];
  const original = nextHop.kind === 'domain' ? [nextHop.domain] : nextHop.kind === 'host' ? [nextHop.host] : [];
  const expanded = mx.kind === 'mx' && mx.expanded !== null ? [mx.expanded] : [];
  return [...new Set([base, ...original, ...expanded])];
}

/** Only an MX record leads to another name; an implicit MX is the domain itself, judged by its addresses (§2.2.2). */
function hasInsecureMx({ mx }: Pick<HostFacts, 'mx'>): boolean {
  return mx.kind === 'mx' && mx.dnssec !== 'secure';
}

function skip({ host }: HostFacts, code: ReasonCode, detail: string): StrictPolicy {
  return { kind: 'skip', trouble: { code, detail, host: host.name } };
}
