/** What TLS must prove before a host may be given mail (RFC 7672 §2.2, with the operator's own rules on top). */
import type { Dnssec } from './dns.ts';
import type { TlsWish } from './message.ts';
import type { ReasonCode } from './reasons.ts';
import type { Location, MailHost, MxFacts, NextHop, Trouble } from './route.ts';
import type { StsFindings } from './sts.ts';

/** One TLSA record (RFC 6698 §2.1). */
export interface TlsaRecord {
  readonly usage: number;
  readonly selector: number;
  readonly matching: number;
  readonly data: Buffer;
}

/** A TLSA record as it was published, and whether it counts. The shape is part of the JSON contract. */
export interface JudgedRecord {
  /** `3 1 1 ab…` in lower case; RDATA that is too short to be one in the notation of RFC 3597 §5. */
  readonly text: string;
  /** RFC 6698 §4.1: usage, selector, matching type and data are ones that SMTP can work with. */
  readonly usable: boolean;
  /** Usable, and not set aside by digest agility (RFC 7671 §9). */
  readonly considered: boolean;
  /** Why it is not usable or not considered, in words; null when it counts. */
  readonly why: string | null;
}

/** What was published for one host: `null` when nothing was asked (no signed base domain). */
export interface TlsaFindings {
  /** Owner name that was asked last: `_25._tcp.mx1.example.nl`. */
  readonly name: string;
  readonly dnssec: Dnssec;
  /** Base domain whose records rule (RFC 7672 §2.2.3); null when there are none. */
  readonly base: string | null;
  readonly records: readonly JudgedRecord[];
  /** The records that are considered, parsed, in the order published. */
  readonly considered: readonly TlsaRecord[];
  /** Words for a failed lookup; null otherwise. */
  readonly failure: string | null;
}

/** What a certificate must match under DANE. */
export interface DaneProof {
  readonly referenceNames: readonly string[];
  readonly records: readonly TlsaRecord[];
  /** False for an insecure MX: then a match authenticates the host only, not the domain (RFC 7672 §2.2.1). */
  readonly wholePath: boolean;
}

/** A certificate of an authority that this relay trusts, in time, for one of the names (RFC 8461 §4.2). */
export interface NameProof {
  /** Each one would do; only dNSNames of the certificate count (RFC 9525 §6.3). */
  readonly names: readonly string[];
  /** False where nothing but an insecure MX record says that the host is the domain's. */
  readonly wholePath: boolean;
}

/** Who lets mail go although DANE failed, and until when. Nothing else ever does. */
export type Grant =
  | {
      readonly kind: 'exception';
      readonly id: string;
      readonly owner: string;
      readonly reason: string;
      /** Milliseconds since the epoch; over from that moment on. */
      readonly until: number;
      /** `sha256/BASE64=` of the keys that the server must have; empty where any certificate will do under TLS. */
      readonly pins: readonly string[];
    }
  /** Nothing is enforced yet, only told. */
  | { readonly kind: 'report'; readonly until: number };

/** `dane` beside another proof is one that must hold as well; null where nothing usable is published. */
export type TlsPolicy =
  | ({ readonly kind: 'dane'; readonly code: ReasonCode; readonly sni: string } & DaneProof)
  /** `verify` is the operator's rule, `sts` the policy of the recipient's domain (RFC 8461 §5). */
  | ({
      readonly kind: 'verify' | 'sts';
      readonly code: ReasonCode;
      readonly sni: string;
      readonly dane: DaneProof | null;
    } & NameProof)
  | {
      readonly kind: 'pin';
      readonly code: ReasonCode;
      readonly sni: string | null;
      /** `sha256/BASE64=` of the keys that the server may have. */
      readonly pins: readonly string[];
      readonly dane: DaneProof | null;
    }
  | { readonly kind: 'encrypt'; readonly code: ReasonCode; readonly sni: string | null }
  | { readonly kind: 'may'; readonly code: ReasonCode; readonly sni: string | null }
  | LenientPolicy
  | { readonly kind: 'skip'; readonly trouble: Trouble };

/**
 * What holds for ordinary mail is tried first; only where that fails is less enough, and the verdict says so.
 * `except` is an exception of the operator, `report` a time in which failures are told and not acted upon.
 */
export interface LenientPolicy {
  readonly kind: 'except' | 'report';
  readonly code: ReasonCode;
  readonly sni: string | null;
  readonly strict: StrictPolicy;
  /** All of them must hold in the place of `strict`; `may` stands alone. */
  readonly enough: readonly [EnoughPolicy, ...EnoughPolicy[]];
  readonly grant: Grant;
}

/** How a host must prove itself where nobody grants anything. */
export type StrictPolicy = Exclude<TlsPolicy, LenientPolicy>;

export type EnoughPolicy = Extract<TlsPolicy, { kind: 'may' | 'encrypt' | 'verify' | 'sts' | 'pin' }>;

/** Everything that is known of one host before anything is dialled. */
export interface HostPlan {
  readonly host: MailHost;
  readonly location: Location | null;
  readonly tlsa: TlsaFindings | null;
  /** What MTA-STS demands of all hosts of the domain; null or absent where that does not matter. */
  readonly sts?: StsFindings | null;
  readonly policy: TlsPolicy;
}

/** How strong TLS must be for a destination, from the operator's table. */
export type TlsRule = 'dane' | 'dane-only' | 'encrypt' | 'verify' | 'pin' | 'may';

/** What every rule amounts to at least. */
export type TlsMinimum = Extract<TlsRule, 'may' | 'dane' | 'encrypt'>;

/** What an insecure MX answer leads to for hosts that are themselves signed (RFC 7672 §2.2.1). */
export type InsecureMx = 'dane' | 'encrypt' | 'may';

/** Where the rule for a destination was written. */
export interface Ruling {
  /** The configuration file, a file of domains that it names, or a variable; null where no rule was written. */
  readonly file: string | null;
  readonly line: number | null;
  /** The rule in one line, as an operator would write it. */
  readonly text: string;
}

/** What the operator's table says of one recipient domain. */
export interface Destination {
  /** The rule that ruled; absent where nobody asks. */
  readonly rule?: Ruling;
  /** Failures under DANE are told and not acted upon until then, in milliseconds since the epoch. */
  readonly reportUntil?: number | null;
  /** What the operator grants for this domain; absent or null where nothing is. */
  readonly exception?: Grant | null;
  readonly tls: TlsRule;
  /** `encrypt` where nothing may leave in the clear, whatever `tls` is; absent where no more than `dane` is asked of all. */
  readonly minimum?: TlsMinimum;
  /** Keys that the server may have where `tls` is `pin`: `sha256/BASE64=`. */
  readonly pins: readonly string[];
  readonly nextHop: NextHop;
  /** What the message itself asks of TLS, and whether that counts here; absent where it asks for nothing. */
  readonly wish?: 'required' | 'optional' | 'overruled';
}

/** All that the decision on one host is made from. */
export interface HostFacts {
  readonly destination: Destination;
  readonly mx: MxFacts;
  readonly host: MailHost;
  /** null as long as, or because, it was not looked up. */
  readonly location: Location | null;
  readonly tlsa: TlsaFindings | null;
  /** null where MTA-STS does not matter. */
  readonly sts: StsFindings | null;
}

/**
 * The same next hop with nothing demanded of it, neither by DANE nor by MTA-STS: for mail that must not wait for TLS. Only
 * where the operator lets nothing out in the clear (`minimum`) does that hold for it as well.
 */
export function withoutDemands(destination: Destination): Destination {
  return { ...destination, tls: 'may', exception: null, reportUntil: null };
}

/**
 * The destination for a message that asks for more or less than others (RFC 8689 §4.2). Who demands protection gets all
 * that can be had, whatever little the rule asks for. Who waives it waives what the recipient publishes, not a demand of
 * the operator.
 */
export function forWish(destination: Destination, wish: TlsWish): Destination {
  const { tls } = destination;
  switch (wish) {
    case 'default':
      return destination;
    case 'required':
      return { ...destination, wish, tls: tls === 'may' ? 'dane' : tls, reportUntil: null, exception: null };
    case 'optional': {
      const waived = tls === 'may' || tls === 'dane';
      return waived ? { ...withoutDemands(destination), wish } : { ...destination, wish: 'overruled' };
    }
  }
}
