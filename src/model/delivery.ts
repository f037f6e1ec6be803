/** What happened on a connection to a mail host, and what became of each recipient. */

import type { MailEvent } from './events.ts';
import type { Batch } from './message.ts';
import type { ReasonCode } from './reasons.ts';
import type { MailHost, MxFacts, NextHop, Trouble } from './route.ts';
import type { StsSession } from './sts.ts';
import type { Destination, Grant, HostPlan, TlsPolicy } from './tls-policy.ts';

export interface TlsFacts {
  /** `TLSv1.3`, as OpenSSL names it. */
  readonly version: string;
  readonly cipher: string;
  /**
   * Key exchange group, `X25519MLKEM768`; `ffdhe3072` or `DH 3072` for finite fields. Null when there was none or the
   * runtime does not tell.
   */
  readonly group: string | null;
}

/** After the guidelines for TLS of the Dutch NCSC: goed, voldoende, uit te faseren, onvoldoende. */
export type TlsGrade = 'good' | 'sufficient' | 'phase-out' | 'insufficient';

export interface Grading {
  readonly grade: TlsGrade;
  /** The parts that have no better grade, in words. */
  readonly because: readonly string[];
}

export interface GradedTls extends TlsFacts {
  readonly grade: TlsGrade;
}

export type ConnectionVerdict = 'authenticated' | 'host-authenticated' | 'encrypted' | 'clear' | 'failed';

/** One connection, judged. This is `connection` in the JSON of `explain`, and the log's source. */
export interface ConnectionFacts {
  readonly address: string;
  readonly verdict: ConnectionVerdict;
  /** TLSA record that matched, in text; null where none did. */
  readonly record: string | null;
  /** Depth of the certificate that matched, 0 for the leaf. */
  readonly depth: number | null;
  readonly tls: GradedTls | null;
  readonly code: ReasonCode;
  /** What was seen, in words. */
  readonly reason: string;
  /** What failed and was not acted upon, and who grants that; absent where nothing was overlooked. */
  readonly overlooked?: Overlooked;
}

/** A failure that did not stop mail. It counts as one wherever failures are counted (RFC 8460 §4.3). */
export interface Overlooked {
  readonly code: ReasonCode;
  /** What was seen, in words. */
  readonly detail: string;
  readonly grant: Grant;
}

/** What the TLS library found of the way from a server's certificate to the authorities that this relay trusts. */
export type PathFinding =
  | { readonly kind: 'trusted' }
  /** `why` is the name that OpenSSL has for it. */
  | { readonly kind: 'not-trusted'; readonly why: string };

/** How one certificate chain stands against a set of TLSA records, or against the authorities and the names. */
export interface CertificateVerdict {
  readonly verdict: 'authenticated' | 'not-authenticated' | 'unusable';
  readonly code: ReasonCode;
  readonly record: string | null;
  readonly depth: number | null;
  /** What was seen, in words, with the hint that an administrator needs. */
  readonly detail: string;
}

/** What `explain` shows of a certificate. Names come from strangers and are made harmless. */
export interface CertificateSummary {
  /** Common names of the subject. */
  readonly subject: string;
  /** Common names of the issuer. */
  readonly issuer: string;
  /** The names that count when it is checked for one. */
  readonly names: string;
  /** RFC 3339; null for a date that cannot be read. */
  readonly notBefore: string | null;
  readonly notAfter: string | null;
  /** What a record with selector 0 and matching type 1 holds, in hex. */
  readonly certificateSha256: string;
  /** The same for selector 1. */
  readonly keySha256: string;
  readonly grades: { readonly key: TlsGrade; readonly signature: TlsGrade };
}

export type RecipientResult = 'delivered' | 'deferred' | 'bounced';

/** The end of one attempt for one recipient. */
export interface Outcome {
  readonly recipientId: number;
  readonly result: RecipientResult;
  readonly code: ReasonCode;
  /** Enhanced status code: class 2, 4 or 5 as `result` says (RFC 3463 §2). */
  readonly status: string;
  readonly detail: string;
  readonly host: string | null;
  readonly address: string | null;
  /** Last words of the remote host on this recipient, sanitised. */
  readonly reply: string | null;
  /** True when the next hop took over the duty to report success (it offers DSN, RFC 3461 §5.2.1). */
  readonly dsnPassedOn: boolean;
  /** What was wrong at last, where the outcome itself says no more than that time is over. */
  readonly last?: Pick<Outcome, 'code' | 'status' | 'detail'>;
  /** What the log shall say besides: policy, verdict, TLS and DNSSEC facts of the connection that decided. */
  readonly log?: Partial<MailEvent>;
}

/** What goes on top of a message as it leaves. */
export type Signed =
  /** `header`: whole fields, each with its CRLF; `by`: domain and selector of each key, `example.nl/s1`. */
  | { readonly kind: 'signed'; readonly header: Buffer; readonly by: readonly [string, ...string[]] }
  /** It may go as it is. `why`: in words; null where nobody wants it signed. */
  | { readonly kind: 'unsigned'; readonly why: string | null }
  /** It must not go now: it has to be signed and cannot be, or cannot be read. */
  | { readonly kind: 'impossible'; readonly code: ReasonCode; readonly why: string };

export interface VisitRequest {
  readonly batch: Batch;
  readonly nextHop: NextHop;
  readonly host: MailHost;
  readonly address: string;
  readonly port: number;
  readonly policy: Exclude<TlsPolicy, { kind: 'skip' }>;
  /** What goes on top of the message; `batch.content.size` counts it. */
  readonly header?: Buffer;
}

/** A connection that was made for one visit, not kept from an earlier one. */
export interface Opened {
  /** Our end of it; null when there never was a connection. */
  readonly localAddress: string | null;
  /** What the host called itself in its greeting, in its own words; null when it gave no greeting. */
  readonly greeting: string | null;
  /** DER of the certificates as sent, leaf first; absent or empty without TLS. */
  readonly chain?: readonly Buffer[];
}

/** What one address did with the batch: it answered for every recipient, or it was of no use to any. */
export type Visit = {
  readonly connection: ConnectionFacts;
  /** Absent where a kept connection was used, or none was tried. */
  readonly opened?: Opened;
} & (
  | { readonly kind: 'settled'; readonly outcomes: readonly Outcome[] }
  | { readonly kind: 'useless'; readonly trouble: Trouble }
);

/** One try to have a TLS session with a host of a domain, or why it was not even dialled: what TLS reports count. */
export interface SessionEnd {
  readonly destination: Destination;
  readonly mx: MxFacts;
  /** null when no host was known. */
  readonly plan: HostPlan | null;
  /** What was dialled for this; null when nothing was. */
  readonly dialled: { readonly connection: ConnectionFacts; readonly opened: Opened } | null;
  /** Why nothing was dialled; null when something was. */
  readonly trouble: Trouble | null;
  /** How it stands under MTA-STS; null or absent where there is nothing to count. */
  readonly sts?: StsSession | null;
}
