/** Where mail for a domain goes: the hosts in the order in which they are tried, or why there are none. */
import type { Dnssec } from './dns.ts';
import type { ReasonCode } from './reasons.ts';

/** Where a recipient's mail is to be taken: its own domain, or what a `via` rule says instead. */
export type NextHop =
  /** MX lookup, then the hosts it names (RFC 5321 §5.1). */
  | { readonly kind: 'domain'; readonly domain: string; readonly port: number }
  /** `[host.example]:587`: this very host, no MX lookup (RFC 7672 §2.2.2). */
  | { readonly kind: 'host'; readonly host: string; readonly port: number }
  /** `[192.0.2.1]`: no DNS at all, so no DANE (RFC 7672 §2.2). */
  | { readonly kind: 'literal'; readonly address: string; readonly port: number };

export interface MxFacts {
  readonly kind: 'mx' | 'implicit' | 'null' | 'none' | 'literal' | 'route' | 'failed';
  /** Status of the MX answer, also for an implicit MX; null where none was asked for. */
  readonly dnssec: Dnssec | null;
  /** End of the CNAME chain at the next-hop domain, when there was one. */
  readonly expanded: string | null;
}

export interface MailHost {
  /** Name in the MX record, the route or the domain itself; the address for a literal. */
  readonly name: string;
  readonly preference: number;
  /** Why this host may not be used at all: its own name is illegal, it is ourselves, … */
  readonly unusable: Trouble | null;
}

export type Route =
  /** Hosts that must not be used stand among them with their reason, so that people can be shown all of them. */
  | { readonly kind: 'hosts'; readonly mx: MxFacts; readonly hosts: readonly [MailHost, ...MailHost[]] }
  | { readonly kind: 'dead-end'; readonly mx: MxFacts; readonly trouble: Trouble };

/**
 * Addresses of one host and the names that its TLSA records may hang from.
 *
 * `bases` are the candidates for the TLSA base domain in the order of RFC 7672 §2.2.2 and §2.2.3: the end of a
 * signed CNAME chain before the name itself, the name alone behind a signed alias into an unsigned zone, none at
 * all when the host is not signed (then TLSA must not even be asked for).
 */
export type Location =
  | {
      readonly kind: 'found';
      readonly addresses: readonly [string, ...string[]];
      readonly dnssec: 'secure' | 'insecure';
      readonly bases: readonly string[];
    }
  | { readonly kind: 'absent'; readonly dnssec: 'secure' | 'insecure' }
  | { readonly kind: 'failed'; readonly reason: string };

/** Something that kept mail from leaving, with its entry in the table of reasons and what exactly was seen. */
export interface Trouble {
  readonly code: ReasonCode;
  /** What was seen, for people: names, numbers, the remote's words. No sentence end, no newlines. */
  readonly detail: string;
  /** Enhanced status code where it differs from the table's, for example the one a remote host gave. */
  readonly status?: string;
  readonly host?: string;
  readonly address?: string;
  /** Reply of the remote host, sanitised, when it was its word. */
  readonly reply?: string;
}
