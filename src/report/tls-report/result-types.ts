/**
 * What each reason for the end of a TLS session is called in a TLS report (RFC 8460 §4.3).
 *
 * A reason that stands in neither list is not reported at all, and a test asks that every reason stands in one of them.
 * Only what says something of TLS, or of what was published about it, is reported: a host that cannot be reached or
 * does not answer says nothing (RFC 8460 §4.3.4), and neither do our own faults.
 */
import type { ReasonCode } from '../../model/reasons.ts';

/** The result types of RFC 8460 §4.3 that this relay can come to. */
export type ResultType =
  | 'starttls-not-supported'
  | 'certificate-host-mismatch'
  | 'certificate-expired'
  | 'certificate-not-trusted'
  | 'validation-failure'
  | 'tlsa-invalid'
  | 'dnssec-invalid'
  | 'dane-required'
  | 'sts-policy-fetch-error'
  | 'sts-policy-invalid'
  | 'sts-webpki-invalid';

export const RESULTS: Readonly<Partial<Record<ReasonCode, ResultType | 'success'>>> = {
  'dane-ee': 'success',
  'dane-ta': 'success',
  'encrypted-opportunistic': 'success',
  // Under a demand of the operator; where no TLSA record is usable count.ts calls it tlsa-invalid.
  'encrypted-unauthenticated': 'success',
  'webpki-matched': 'success',
  'pin-matched': 'success',

  'clear-not-offered': 'starttls-not-supported',
  'clear-starttls-refused': 'starttls-not-supported',
  'clear-handshake-failed': 'validation-failure',
  'starttls-not-offered': 'starttls-not-supported',
  'starttls-refused': 'starttls-not-supported',
  'tls-handshake-failed': 'validation-failure',
  'tls-injection': 'validation-failure',
  // No type is about the strength of TLS. Had the handshake refused it, it would be called the same.
  'tls-too-weak': 'validation-failure',

  'tlsa-mismatch': 'validation-failure',
  'tlsa-bad-chain': 'validation-failure',
  'tlsa-name-mismatch': 'certificate-host-mismatch',
  'tlsa-expired': 'certificate-expired',
  'tlsa-not-trusted': 'certificate-not-trusted',
  'tlsa-no-usable-record': 'tlsa-invalid',
  'webpki-not-trusted': 'certificate-not-trusted',
  'webpki-expired': 'certificate-expired',
  'webpki-name-mismatch': 'certificate-host-mismatch',

  'sts-policy-fetch-error': 'sts-policy-fetch-error',
  'sts-policy-invalid': 'sts-policy-invalid',
  'sts-webpki-invalid': 'sts-webpki-invalid',
  'sts-mx-not-listed': 'validation-failure',

  'mx-lookup-failed': 'dnssec-invalid',
  'address-lookup-failed': 'dnssec-invalid',
  'tlsa-lookup-failed': 'dnssec-invalid',

  'dane-only-mx-insecure': 'dane-required',
  'dane-only-host-insecure': 'dane-required',
  'dane-only-no-tlsa': 'dane-required',
  'dane-only-unusable': 'tlsa-invalid',
};
