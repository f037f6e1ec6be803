/**
 * What one try to have a TLS session adds to the reports of the day. Pure.
 *
 *   what was known of the host                 policy             its domain
 *   signed TLSA records, usable or not         tlsa               the TLSA base domain (RFC 8460 §4.4)
 *   TLSA records that could not be looked up   tlsa               the name that was asked, without its prefix
 *   DANE demanded here, nothing published      tlsa               the mail host
 *   anything else                              no-policy-found    the domain that the mail is for
 *
 * A session of a domain with an MTA-STS policy, or with one that could not be had, counts under `sts` as well: beside
 * `tlsa`, and in the place of `no-policy-found` (RFC 8460 §4.4).
 *
 * Nothing is counted where the operator's table sends the mail elsewhere or asks for no look at what is published:
 * such a session says nothing of the domain.
 */
import { createHash } from 'node:crypto';
import type { SessionEnd } from '../../model/delivery.ts';
import type { ReasonCode } from '../../model/reasons.ts';
import type { StrictPolicy, TlsaFindings } from '../../model/tls-policy.ts';
import { toDomain } from '../../shared/domain-name.ts';
import { RESULTS, type ResultType } from './result-types.ts';

export interface CountedPolicy {
  readonly type: 'tlsa' | 'sts' | 'no-policy-found';
  readonly domain: string;
  /** TLSA records as `U S M HEX`, or the lines of an MTA-STS policy. */
  readonly strings: readonly string[];
  /** Patterns of an MTA-STS policy. */
  readonly mxHosts: readonly string[];
}

/** How a session failed. What is null was not known, or is left out because there were too many to tell apart. */
export interface Failure {
  readonly type: ResultType;
  readonly sendingAddress: string | null;
  readonly mxHost: string | null;
  readonly greeting: string | null;
  readonly receivingAddress: string | null;
  /** Our own code for it, as `failure-reason-code`. */
  readonly code: ReasonCode;
}

export interface Count {
  /** The domain that the report is for. */
  readonly domain: string;
  readonly policy: CountedPolicy;
  /** Of the policy, the same for equal ones. */
  readonly policyKey: string;
  /** null for a success. */
  readonly failure: Failure | null;
}

/** Octets of policy text that are kept; what is published beyond that is left out. */
const POLICY_OCTETS = 8 * 1024;

/** One entry for each policy that the session was judged by; none for what is not reported. */
export function countsOf(end: SessionEnd): readonly Count[] {
  const { nextHop, tls } = end.destination;
  if (nextHop.kind !== 'domain' || tls === 'may' || end.mx.kind === 'literal') return [];
  const { domain } = nextHop;
  const sts = stsCount(end, domain);
  const result = resultOf(end);
  const policy = policyOf(end, domain);
  if (result === null || (sts && policy.type === 'no-policy-found')) return sts ? [sts] : [];
  const own = counted(domain, policy, result === 'success' ? null : failureOf(end, result, codeOf(end)));
  return sts ? [own, sts] : [own];
}

function counted(domain: string, policy: CountedPolicy, failure: Failure | null): Count {
  const policyKey = createHash('sha256').update(JSON.stringify(policy)).digest('base64url').slice(0, 22);
  return { domain, policy, policyKey, failure };
}

function stsCount(end: SessionEnd, domain: string): Count | null {
  if (!end.sts) return null;
  const { lines, mx, trouble } = end.sts;
  const policy: CountedPolicy = {
    type: 'sts',
    domain: end.sts.domain,
    strings: within(POLICY_OCTETS, lines),
    mxHosts: within(POLICY_OCTETS, mx),
  };
  if (trouble === null) return counted(domain, policy, null);
  const result = RESULTS[trouble.code];
  // What says nothing of TLS says nothing of the policy either.
  if (result === undefined || result === 'success') return null;
  return counted(domain, policy, failureOf(end, result, trouble.code));
}

function resultOf(end: SessionEnd): ResultType | 'success' | null {
  const code = codeOf(end);
  if (code === null) return null;
  const result = RESULTS[code] ?? null;
  const policy = strictPolicyOf(end);
  // What fails by a demand of ours alone is no failure of theirs.
  if (policy?.kind === 'verify' && code.startsWith('webpki-') && result !== 'success') return null;
  if (code === 'tls-too-weak' && tlsaOf(end) === null) return null;
  return result === 'success' && tlsaOf(end)?.considered.length === 0 ? 'tlsa-invalid' : result;
}

/** The TLSA records that ruled; null where there are none, or `insecureMx: encrypt` set them aside. */
function tlsaOf(end: SessionEnd): (TlsaFindings & { readonly base: string }) | null {
  const policy = strictPolicyOf(end);
  const tlsa = end.plan?.tlsa ?? null;
  if (policy === null || tlsa === null || tlsa.base === null) return null;
  const { base } = tlsa;
  const ruled = policy.kind === 'dane' || policy.kind === 'skip' || ('dane' in policy && policy.dane !== null);
  return ruled || tlsa.considered.length === 0 ? { ...tlsa, base } : null;
}

/** Why the session failed, also where mail went over it all the same; how it went where it did not fail. */
function codeOf({ dialled, trouble }: SessionEnd): ReasonCode | null {
  return dialled?.connection.overlooked?.code ?? dialled?.connection.code ?? trouble?.code ?? null;
}

/** What ordinary mail would have had to prove, whatever the operator grants. */
function strictPolicyOf({ plan }: SessionEnd): StrictPolicy | null {
  if (plan === null) return null;
  const { policy } = plan;
  return 'strict' in policy ? policy.strict : policy;
}

function policyOf(end: SessionEnd, domain: string): CountedPolicy {
  const tlsa = (base: string, strings: readonly string[]): CountedPolicy => ({
    type: 'tlsa',
    domain: base,
    strings: within(POLICY_OCTETS, strings),
    mxHosts: [],
  });
  const { plan } = end;
  const code = codeOf(end);
  const published = tlsaOf(end);
  if (published) {
    const records = published.records.map(({ text }) => text);
    return tlsa(published.base, records);
  }
  if (plan && code === 'tlsa-lookup-failed')
    return tlsa(plan.tlsa?.name.replace(/^_\d+\._tcp\./, '') || plan.host.name, []);
  if (plan && code !== null && RESULTS[code] === 'dane-required') return tlsa(plan.host.name, []);
  return { type: 'no-policy-found', domain, strings: [], mxHosts: [] };
}

function failureOf(end: SessionEnd, type: ResultType, code: ReasonCode | null): Failure {
  const { plan, dialled } = end;
  return {
    type,
    sendingAddress: dialled?.opened.localAddress ?? null,
    mxHost: plan?.host.name ?? null,
    greeting: nameIn(dialled?.opened.greeting ?? null),
    receivingAddress: dialled?.connection.address ?? null,
    code: code ?? 'internal-error',
  };
}

/** The name in a greeting (RFC 5321 §4.2), when it is one: these are the words of a stranger. */
function nameIn(greeting: string | null): string | null {
  const [, first = ''] = /^(?:\d{3}[ -])?(\S{1,255})/.exec(greeting ?? '') ?? [];
  const name = toDomain(first);
  return name?.includes('.') ? name : null;
}

function within(octets: number, texts: readonly string[]): readonly string[] {
  let room = octets;
  return texts.filter((text) => {
    room -= text.length;
    return room >= 0;
  });
}
