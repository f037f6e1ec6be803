/**
 * What the operator may grant where DANE fails: an exception for a recipient that is known to be broken, or a time in
 * which failures are only reported. This is the only place where anything is weakened. What ordinary mail has to prove
 * is decided before, in decide.ts, and is still tried first; whatever has nothing to do with DANE is left as it is.
 *
 *                        exception                        report
 *   rule dane, dane-only  TLS, or one of its keys          TLS if offered
 *   rule encrypt          TLS, or one of its keys          TLS
 *   rule verify, pin      as the rule, and one of its keys as the rule
 *   MTA-STS enforced      as it says, and one of its keys  as it says
 */
import type { EnoughPolicy, Grant, HostFacts, StrictPolicy, TlsPolicy } from '../model/tls-policy.ts';
import { apartFromDane } from './decide.ts';

export function withGrant(policy: StrictPolicy, facts: HostFacts, grant: Grant | null): TlsPolicy {
  if (grant === null || !isDaneAtStake(policy, grant)) return policy;
  const sni = policy.kind === 'skip' ? nameOf(facts) : policy.sni;
  const rest = apartFromDane(facts, sni, grant.kind === 'report' ? 'may' : 'encrypt');
  // Neither the rule nor MTA-STS is let off; what DANE alone would prove (RFC 8461 §2) still does.
  if (rest.kind === 'skip' || rest.kind === 'dane') return policy.kind === 'skip' ? rest : policy;
  return {
    kind: grant.kind === 'exception' ? 'except' : 'report',
    code: grant.kind === 'exception' ? 'rule-exception' : 'rule-report',
    sni,
    strict: policy,
    enough: withPins(rest, sni, grant),
    grant,
  };
}

/** With the keys that an exception names, which any certificate under TLS has to have. */
function withPins(rest: EnoughPolicy, sni: string | null, grant: Grant): readonly [EnoughPolicy, ...EnoughPolicy[]] {
  if (grant.kind === 'report' || grant.pins.length === 0) return [rest];
  const pinned: EnoughPolicy = { kind: 'pin', code: 'rule-exception', sni, pins: grant.pins, dane: null };
  return rest.kind === 'encrypt' ? [pinned] : [rest, pinned];
}

/** Whether mail could be stopped by what the recipient publishes, or fails to publish, for DANE. */
function isDaneAtStake(policy: StrictPolicy, { kind }: Grant): boolean {
  switch (policy.kind) {
    case 'dane':
      return true;
    case 'verify':
    case 'pin':
    case 'sts':
      return policy.dane !== null;
    case 'encrypt':
      // Records of the recipient demand TLS here; an exception does too.
      return policy.code !== 'rule-encrypt' && kind === 'report';
    case 'may':
      return false;
    case 'skip':
      return ABOUT_DANE.has(policy.trouble.code) || (kind === 'report' && NOT_OF_A_RECIPIENT.has(policy.trouble.code));
  }
}

/** An address has no name in DNS (TLS-02). */
function nameOf({ destination, host }: HostFacts): string | null {
  return destination.nextHop.kind === 'literal' ? null : host.name;
}

/** What DANE stops without a recipient whose records are broken: no exception is for that. */
const NOT_OF_A_RECIPIENT: ReadonlySet<string> = new Set(['resolver-untrusted', 'dane-only-literal']);

const ABOUT_DANE: ReadonlySet<string> = new Set([
  'tlsa-lookup-failed',
  'dane-only-mx-insecure',
  'dane-only-host-insecure',
  'dane-only-no-tlsa',
  'dane-only-unusable',
]);
