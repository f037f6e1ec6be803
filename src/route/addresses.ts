/**
 * Where one mail host is, and which names its TLSA records may hang from (RFC 7672 §2.2.2).
 *
 * The addresses are always asked for before TLSA, because name servers of unsigned zones are known to break on TLSA
 * questions. A host takes part in DANE when its addresses are signed, or when at least the alias that its name is, is
 * signed. `gather` asks; `judge` decides from the answers alone.
 */
import type { DnsAnswer, Resolve } from '../model/dns.ts';
import type { Location } from '../model/route.ts';
import { machineHasIpv6 } from './ipv6.ts';

export interface LocatorOptions {
  readonly resolve: Resolve;
  /** Whether to connect over IPv6 too, in turn with IPv4 and before it; by default as the machine can. */
  readonly ipv6?: boolean;
}

/** Looks up one host: A-labels, lower case, no trailing dot. Never rejects. */
export type Locate = (hostName: string) => Promise<Location>;

export function createLocator({ resolve, ipv6 = machineHasIpv6() }: LocatorOptions): Locate {
  return async (hostName) => {
    const [a, aaaa] = await Promise.all([resolve(hostName, 'A'), resolve(hostName, 'AAAA')]);
    const families: Families = { a, aaaa };
    const alias = needsAlias(hostName, families) ? await resolve(hostName, 'CNAME') : null;
    return judge(hostName, families, alias, ipv6);
  };
}

export interface Families {
  readonly a: DnsAnswer<string>;
  readonly aaaa: DnsAnswer<string>;
}

type Found = Extract<DnsAnswer<string>, { kind: 'found' }>;

/**
 * Whether the CNAME at the name itself must be asked for: the addresses are insecure and were found behind an alias,
 * which may be signed even so (RFC 7672 §2.1.3).
 */
function needsAlias(hostName: string, families: Families): boolean {
  const found = foundIn(families);
  return found.length > 0 && !found.some(({ secure }) => secure) && found.some(({ name }) => name !== hostName);
}

/**
 * The whole decision. One family that could not be looked up does no harm while the other has addresses; the strictest
 * security of those that have any holds for all of them.
 *
 * @param alias the answer for CNAME where `needsAlias` asks for one, else null
 * @param ipv6 false: IPv6 addresses are only used when there are no others, so that the host fails as unreachable
 */
export function judge(hostName: string, families: Families, alias: DnsAnswer<string> | null, ipv6: boolean): Location {
  const found = foundIn(families);
  if (found.length === 0) return nowhere(families);

  const [signed] = found.filter(({ secure }) => secure);
  if (signed) {
    // TLSA under the end of an alias says nothing of addresses at another end (the zone changed in between).
    const together = found.filter(({ name }) => name === signed.name);
    const bases = signed.name === hostName ? [hostName] : [signed.name, hostName];
    return located(together, ipv6, 'secure', bases);
  }

  if (found.every(({ name }) => name === hostName)) return located(found, ipv6, 'insecure', []);
  if (alias === null || alias.kind === 'failed') {
    return { kind: 'failed', reason: `CNAME of ${hostName}: ${alias?.reason ?? 'not asked for'}` };
  }
  if (alias.kind === 'absent') {
    return { kind: 'failed', reason: `CNAME of ${hostName}: gone between two questions` };
  }
  return located(found, ipv6, 'insecure', alias.secure ? [hostName] : []);
}

function foundIn({ a, aaaa }: Families): readonly Found[] {
  return [a, aaaa].filter((answer) => answer.kind === 'found');
}

function nowhere({ a, aaaa }: Families): Location {
  const reasons: string[] = [];
  if (a.kind === 'failed') reasons.push(`A: ${a.reason}`);
  if (aaaa.kind === 'failed') reasons.push(`AAAA: ${aaaa.reason}`);
  if (reasons.length > 0) return { kind: 'failed', reason: reasons.join(', ') };
  const secure = [a, aaaa].every((answer) => answer.kind === 'absent' && answer.secure);
  return { kind: 'absent', dnssec: secure ? 'secure' : 'insecure' };
}

/** One of each in turn, however many there are: where one family leads nowhere, the second try is of the other. */
function inTurn(some: readonly string[], others: readonly string[]): readonly string[] {
  const turns = Array.from({ length: Math.max(some.length, others.length) }, (_, at) => [some[at], others[at]]);
  return turns.flat().filter((address) => address !== undefined);
}

function located(
  found: readonly Found[],
  ipv6: boolean,
  dnssec: 'secure' | 'insecure',
  bases: readonly string[],
): Location {
  const all = [...new Set(found.flatMap(({ records }) => records))];
  const v6 = all.filter((address) => address.includes(':'));
  const v4 = all.filter((address) => !address.includes(':'));
  const [first, ...rest] = ipv6 ? inTurn(v6, v4) : v4.length > 0 ? v4 : v6;
  if (first === undefined) return { kind: 'absent', dnssec };
  return { kind: 'found', addresses: [first, ...rest], dnssec, bases };
}
