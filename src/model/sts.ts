/** What a domain demands of those who send to it by MTA-STS (RFC 8461), and what went wrong when it was looked up. */
import type { ReasonCode } from './reasons.ts';

/** A policy file, read (RFC 8461 §3.2). */
export interface StsPolicy {
  readonly mode: 'enforce' | 'testing' | 'none';
  /** Names and one-label wildcards (`*.example.nl`), lower-case A-labels; empty only under `none`. */
  readonly mx: readonly string[];
  /** Seconds that it holds after it was fetched, 31557600 at most. */
  readonly maxAge: number;
  /** The lines of the file as they came: what a TLS report quotes (RFC 8460 §4.4). */
  readonly lines: readonly string[];
}

/** Why a policy that is announced could not be had. The reason codes are also the result types of RFC 8460 §4.3. */
export interface StsFailure {
  readonly type: Extract<ReasonCode, 'sts-policy-fetch-error' | 'sts-policy-invalid' | 'sts-webpki-invalid'>;
  /** What was seen, in words; it may hold the words of strangers. */
  readonly detail: string;
}

/** What is known of a policy domain. Everything but `policy` is as if the domain had no MTA-STS. */
export type StsFindings =
  | {
      readonly kind: 'policy';
      /** The domain whose policy it is: that of the recipient, or the one that a route names (RFC 8461 §3.4). */
      readonly domain: string;
      readonly policy: StsPolicy;
      /** Version of the policy, as its TXT record had it. */
      readonly id: string;
      /** When it was fetched; milliseconds since the epoch. */
      readonly fetchedAt: number;
      /** Why nothing newer is known, where something newer was announced; null when all is well. */
      readonly failure: StsFailure | null;
    }
  | {
      readonly kind: 'none';
      readonly domain: string;
      /** Why not, in a clause: no such record, a policy that could not be fetched, … */
      readonly why: string;
      /** For the TLS report: the domain announces a policy, and it could not be had. */
      readonly failure: StsFailure | null;
    };

/** How one session stands under MTA-STS, whether or not that decided anything: what a TLS report counts under `sts`. */
export interface StsSession {
  readonly domain: string;
  readonly mode: 'enforce' | 'testing' | null;
  /** The lines of the policy file and its patterns; empty where there was no policy to be had. */
  readonly lines: readonly string[];
  readonly mx: readonly string[];
  /** What the policy had to object to; null for a session that it allows. */
  readonly trouble: { readonly code: ReasonCode; readonly detail: string } | null;
}
