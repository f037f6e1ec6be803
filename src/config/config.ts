/**
 * The configuration as the relay uses it: every value there, every unit settled. Times are in milliseconds, sizes in
 * octets, paths absolute, names in canonical form. What each key means to an operator is in schema.ts.
 */
import type { InsecureMx, Ruling, TlsMinimum, TlsRule } from '../model/tls-policy.ts';
import type { Rate } from '../shared/rate.ts';

export interface Endpoint {
  /** IPv4 or IPv6 address, without brackets. */
  readonly address: string;
  /** 0 where the system shall choose one. */
  readonly port: number;
}

export interface Listener extends Endpoint {
  readonly tls: 'starttls' | 'implicit';
}

export interface Client {
  readonly name: string;
  /**
   * Networks it may come from, in CIDR notation; empty for anywhere, and then there are pins. Where both are given,
   * both must hold. A network of IPv4 that was written as IPv6 stands here as IPv4.
   */
  readonly networks: readonly string[];
  /** `sha256/BASE64=` of the keys that its certificate may have; empty when none is asked for. */
  readonly pins: readonly string[];
  readonly tls: 'required' | 'optional';
  /** `example.nl`, `*.example.nl` (every domain below, not the domain itself), `*`. */
  readonly senders: readonly [string, ...string[]];
  /** Messages from this client; null for any number. */
  readonly rate: Rate | null;
}

/** How the resolver proves that it validates. */
export interface Probe {
  /** A name whose SOA or NS must come back with AD. */
  readonly signed: string;
  /** Names with broken signatures: data for one of them shows that nothing is validated. */
  readonly bogus: readonly string[];
}

export type ResolverConfig =
  | {
      readonly kind: 'managed';
      /** More settings for Unbound, as a file of its own; null for none. */
      readonly include: string | null;
      /** Trust anchor file; null for the system's. */
      readonly anchor: string | null;
      readonly probe: Probe;
    }
  | { readonly kind: 'external'; readonly endpoint: Endpoint; readonly probe: Probe };

/** A next hop as it was written; `port` null where `delivery.port` holds. */
export type Via =
  | { readonly kind: 'domain'; readonly domain: string; readonly port: number | null }
  | { readonly kind: 'host'; readonly host: string; readonly port: number | null }
  | { readonly kind: 'literal'; readonly address: string; readonly port: number | null };

export interface DestinationRule {
  /** `partner.nl`, `*.partner.nl` (every domain below), `*`. */
  readonly domain: string;
  readonly tls: TlsRule;
  /** `sha256/BASE64=` of the keys for `tls: pin`; else empty. */
  readonly pins: readonly string[];
  /** null for the domain's own MX records. */
  readonly via: Via | null;
  /** Where it was written. */
  readonly origin: Ruling;
  /** What fails under DANE is only told until then, in milliseconds since the epoch; null for never. */
  readonly reportUntil: number | null;
  /** Messages to each of its domains on their way at once; null for the general limit. */
  readonly connections: number | null;
  /** Messages to each of its domains; null for any number. */
  readonly rate: Rate | null;
}

/** One domain that signs. */
export interface DkimDomain {
  readonly domain: string;
  /** Domains in From: the domain itself or below it; `*.example.nl` is every domain below. */
  readonly senders: readonly string[];
  /** Keys that are given as files; paths absolute. */
  readonly files: readonly { readonly selector: string; readonly path: string }[];
  /** The relay keeps keys itself; null for none. `retireAfter` in milliseconds. */
  readonly managed: { readonly retireAfter: number } | null;
  readonly existing: 'add' | 'leave';
  /** null: once the domain has had a key that signs. */
  readonly required: boolean | null;
}

export interface Config {
  readonly hostname: string;
  /** Folder of the queue, the keys and whatever else must last. */
  readonly state: string;
  readonly listen: readonly [Listener, ...Listener[]];
  readonly certificate: { readonly cert: string; readonly key: string };
  readonly clients: readonly Client[];
  readonly resolver: ResolverConfig;
  /** First match wins. The last one is always `*`. */
  readonly destinations: readonly [DestinationRule, ...DestinationRule[]];
  readonly delivery: {
    readonly port: number;
    readonly insecureMx: InsecureMx;
    /** What every rule amounts to at least. */
    readonly minimum: TlsMinimum;
    /** As that of a rule, for all of them. */
    readonly reportUntil: number | null;
    /** Certificates in PEM that `verify` and MTA-STS trust; null for the public ones. */
    readonly authorities: readonly string[] | null;
    readonly mtaSts: 'on' | 'off';
    readonly mtaStsPort: number;
    readonly connections: number;
    readonly connectionsPerHost: number;
    readonly messagesPerConnection: number;
    readonly connectTimeout: number;
    readonly idleTimeout: number;
    /** For each word of a host (RFC 5321 §4.5.3.2). */
    readonly timeouts: {
      readonly greeting: number;
      readonly ehlo: number;
      readonly starttls: number;
      readonly handshake: number;
      readonly mail: number;
      readonly rcpt: number;
      readonly data: number;
      readonly block: number;
      readonly final: number;
      readonly quit: number;
    };
  };
  readonly queue: {
    /** Waits before the second attempt, the third, …; the last one repeats. */
    readonly retry: readonly [number, ...number[]];
    readonly lifetime: number;
    /** null for no difference. */
    readonly tlsLifetime: number | null;
    /** null for never. */
    readonly delayNotice: number | null;
    readonly store: 'sqlite';
  };
  /** One entry for each signing domain. */
  readonly dkim: readonly DkimDomain[];
  readonly notices: { readonly language: 'en' | 'nl' };
  /** Reports on TLS to domains that ask for them (RFC 8460); null for none. */
  readonly tlsReports: { readonly organisation: string; readonly contact: string; readonly from: string } | null;
  readonly intake: {
    readonly messageSize: number;
    readonly recipients: number;
    readonly connections: number;
    readonly connectionsPerClient: number;
    readonly hops: number;
    readonly bareNewlines: 'normalize' | 'reject';
    readonly longLines: 'pass' | 'reject';
  };
  /** Processes that share the work; `auto` for one a core. */
  readonly workers: number | 'auto';
  /** How long a stop waits for what is under way. */
  readonly shutdownGrace: number;
  readonly admin: { readonly listen: Endpoint };
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error' };
}
