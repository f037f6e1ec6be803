/**
 * How a host must prove itself for a message that came with REQUIRETLS (RFC 8689 §4.2.1): by DANE, by a certificate of a
 * trusted authority or by a key that the operator named, and its name must be tied to the domain by DNSSEC, by MTA-STS or
 * by a route. Encryption alone does not do, and nothing that is granted to other mail counts. That the host offers
 * REQUIRETLS is seen when it has been dialled.
 *
 *   decided for other mail        for this one
 *   dane, verify                  the same behind a signed MX; else the host is not dialled
 *   sts, pin                      the same
 *   encrypt, may                  a trusted certificate for its name behind a signed MX; else the host is not dialled
 */
import type { HostFacts, StrictPolicy } from '../model/tls-policy.ts';

export function requiringTls(policy: StrictPolicy, facts: HostFacts): StrictPolicy {
  switch (policy.kind) {
    case 'skip':
    case 'sts':
    case 'pin':
      return policy;
    case 'dane':
    case 'verify':
      return policy.wholePath ? policy : notTied(facts);
    case 'encrypt':
    case 'may':
      return isTied(facts) ? byItsName(facts, policy.sni ?? facts.host.name) : notTied(facts);
  }
}

function byItsName({ host }: HostFacts, base: string): StrictPolicy {
  const names = [...new Set([host.name, base])];
  return { kind: 'verify', code: 'rule-requiretls', sni: base, names, wholePath: true, dane: null };
}

/** Without an MX record the name is the domain itself, or what the operator wrote; an address has none. */
function isTied({ mx, destination }: HostFacts): boolean {
  if (destination.nextHop.kind === 'literal' || mx.kind === 'literal') return false;
  return mx.kind !== 'mx' || mx.dnssec === 'secure';
}

function notTied({ host, mx }: HostFacts): StrictPolicy {
  const why =
    mx.kind === 'mx'
      ? 'the MX records are not signed, and no MTA-STS policy that is enforced names the host'
      : 'an address has no name to prove';
  return { kind: 'skip', trouble: { code: 'requiretls-not-proven', detail: `${host.name}: ${why}`, host: host.name } };
}
