/** What a stage says to the log. Only report/ knows how it is written (pino, one JSON object a line on stdout). */
import type { ConnectionVerdict, GradedTls, TlsFacts } from './delivery.ts';
import type { Dnssec } from './dns.ts';
import type { ReasonCode } from './reasons.ts';

/** One thing that happened to mail. Names are part of the contract with operators: only add. */
export interface MailEvent {
  readonly event: 'accepted' | 'refused' | 'delivered' | 'deferred' | 'bounced' | 'expired';
  readonly code: ReasonCode;
  readonly status: string;
  readonly explanation: string;
  readonly queueId?: string;
  readonly client?: string;
  /** Address of the peer that sent to us. */
  readonly peer?: string;
  readonly sender?: string;
  readonly recipient?: string;
  readonly recipients?: number;
  readonly size?: number;
  readonly domain?: string;
  readonly host?: string;
  readonly address?: string;
  readonly dnssec?: { readonly mx: Dnssec | null; readonly address: Dnssec | null; readonly tlsa: Dnssec | null };
  readonly policy?: string;
  /** MTA-STS of the domain, where it has any: what its policy demands, and why nothing newer is known. */
  readonly sts?: {
    readonly mode: 'enforce' | 'testing' | 'none' | null;
    readonly id?: string;
    readonly failure?: ReasonCode;
  };
  readonly verdict?: ConnectionVerdict;
  readonly reply?: string;
  /** Graded where mail was handed over. */
  readonly tls?: TlsFacts | GradedTls;
  /**
   * What the sender asks of TLS (RFC 8689): REQUIRETLS, or `TLS-Required: No`; `overruled` where a rule of this relay
   * demands TLS all the same.
   */
  readonly tlsWish?: 'required' | 'optional' | 'overruled';
  readonly record?: string;
  /** What failed and was not acted upon: `tlsa-mismatch`, and what was seen. */
  readonly overlooked?: { readonly code: ReasonCode; readonly explanation: string };
  /** Who is to blame for that, and until when (RFC 3339). */
  readonly grant?:
    | { readonly kind: 'exception'; readonly id: string; readonly owner: string; readonly until: string }
    | { readonly kind: 'report'; readonly until: string };
  /** Domain and selector of each DKIM signature that was put on it: `example.nl/s1`. */
  readonly dkim?: readonly string[];
  /** Why a message was not signed that a signing domain was looked for. */
  readonly notSigned?: string;
  /** From acceptance to this event, in milliseconds. */
  readonly delayMs?: number;
  /** SPKI pin of the certificate that a client presented: `sha256/…=`. */
  readonly pin?: string;
}

/** What the parts of the relay may say besides mail events. Never message content, passwords or keys. */
export interface Logger {
  readonly mail: (event: MailEvent) => void;
  readonly debug: (message: string, fields?: object) => void;
  readonly info: (message: string, fields?: object) => void;
  readonly warn: (message: string, fields?: object) => void;
  readonly error: (message: string, fields?: object) => void;
}
