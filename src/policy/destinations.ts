/**
 * The operator's table of destinations: for a recipient domain, how strong TLS must be and where its mail is taken.
 * The first rule that fits wins; where none does it is opportunistic DANE to the domain's own mail hosts.
 *
 *   pattern          fits
 *   example.nl       that domain
 *   *.example.nl     every domain below it, at any depth, but not itself; `.example.nl` means the same
 *   [192.0.2.1]      mail to that address literal
 *   *                everything
 *
 * How patterns and next hops are written, and what is wrong with one, is the business of the configuration.
 */
import type { NextHop } from '../model/route.ts';
import type { Destination, Ruling, TlsMinimum, TlsRule } from '../model/tls-policy.ts';
import { literalAddress } from '../shared/domain-name.ts';

/** A next hop for which the port may be left to the general setting. */
export type Via = NextHop extends infer Hop ? (Hop extends NextHop ? Omit<Hop, 'port'> & PortOrNot : never) : never;

interface PortOrNot {
  readonly port: number | null;
}

export interface DestinationRule {
  /** Canonical: A-labels in lower case. */
  readonly domain: string;
  readonly tls: TlsRule;
  /** `sha256/BASE64=` of the keys for `tls: pin`; else empty. */
  readonly pins: readonly string[];
  readonly origin: Ruling;
  /** Failures under DANE are only told until then; null for never. Milliseconds since the epoch. */
  readonly reportUntil: number | null;
  /** null for the domain's own mail hosts. */
  readonly via: Via | null;
}

export interface DestinationOptions {
  readonly rules: readonly DestinationRule[];
  /** What every rule amounts to at least. */
  readonly minimum: TlsMinimum;
  /** Failures under DANE are only told until then, for all rules; null for never. Milliseconds since the epoch. */
  readonly reportUntil: number | null;
  readonly now: () => number;
  /** TCP port where a rule does not say another. */
  readonly port: number;
}

/**
 * @returns a function of the recipient's domain (canonical, or an address literal)
 */
export function createDestinations(options: DestinationOptions): (domain: string) => Destination {
  const { rules, minimum, port, now } = options;
  const ruleFor = firstMatch(rules);
  return (domain) => {
    const rule = ruleFor(domain);
    const { tls = 'dane', pins = [], via = null } = rule ?? {};
    const raised = atLeast(tls, minimum);
    const until = Math.max(rule?.reportUntil ?? 0, options.reportUntil ?? 0);
    return {
      ...(rule && { rule: raised === tls ? rule.origin : raisedTo(raised, rule.origin) }),
      // Asked anew each time, so that enforcement begins by itself.
      reportUntil: until > now() ? until : null,
      tls: raised,
      ...(minimum === 'encrypt' && { minimum }),
      pins,
      nextHop: via ? { ...via, port: via.port ?? port } : nextHopOf(domain, port),
    };
  };
}

/** What people are told: the rule as it was written is not what rules. */
function raisedTo(tls: TlsRule, origin: Ruling): Ruling {
  return { ...origin, text: `${origin.text}; delivery.minimum makes it tls: ${tls}` };
}

/** The stronger of the two. All rules above `encrypt` demand TLS and what is published for DANE besides. */
function atLeast(tls: TlsRule, minimum: TlsMinimum): TlsRule {
  if (tls === 'may') return minimum;
  return tls === 'dane' && minimum === 'encrypt' ? 'encrypt' : tls;
}

/**
 * The first rule that fits a domain (canonical, or an address literal); undefined where none does. It costs as many
 * steps as the domain has labels, however many rules there are.
 */
export function firstMatch<Rule extends { readonly domain: string }>(
  rules: readonly Rule[],
): (domain: string) => Rule | undefined {
  const exact = new Map<string, Ranked<Rule>>();
  const below = new Map<string, Ranked<Rule>>();
  for (const [rank, rule] of rules.entries()) {
    const { domain } = rule;
    const [index, key] = isBelow(domain) ? [below, parentOf(domain)] : [exact, keyOf(domain)];
    if (!index.has(key)) index.set(key, { rank, rule });
  }
  const everything = exact.get('*');

  return (domain) => {
    const key = keyOf(domain);
    let first = earlier(exact.get(key), everything);
    if (!key.startsWith('[')) {
      for (let dot = key.indexOf('.'); dot >= 0; dot = key.indexOf('.', dot + 1)) {
        first = earlier(first, below.get(key.slice(dot + 1)));
      }
    }
    return first?.rule;
  };
}

interface Ranked<Rule> {
  readonly rank: number;
  readonly rule: Rule;
}

function isBelow(pattern: string): boolean {
  return pattern.startsWith('*.') || pattern.startsWith('.');
}

function parentOf(pattern: string): string {
  return pattern.slice(pattern.indexOf('.') + 1);
}

function earlier<Rule>(one: Ranked<Rule> | undefined, other: Ranked<Rule> | undefined): Ranked<Rule> | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return one.rank < other.rank ? one : other;
}

function nextHopOf(domain: string, port: number): NextHop {
  const address = literalAddress(domain);
  return address === null ? { kind: 'domain', domain, port } : { kind: 'literal', address, port };
}

/** Literals of the same address are equal, however they are written. */
function keyOf(domain: string): string {
  const address = literalAddress(domain);
  return address === null ? domain : `[${address}]`;
}
