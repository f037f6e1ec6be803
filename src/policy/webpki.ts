/**
 * Whether a server proves its name with a certificate from an authority that this relay trusts: for the operator's rule
 * `verify` and for MTA-STS (RFC 8461 §4.2).
 *
 * The way to the authority, with its signatures, dates, purposes and constraints, is OpenSSL's business in the handshake;
 * names are compared here, with the same code as for DANE, and only with dNSNames (RFC 9525 §6.3).
 */
import type { CertificateVerdict, PathFinding } from '../model/delivery.ts';
import { readCertificate } from './dane/certificate.ts';
import { readDetails } from './dane/details.ts';
import { describe, quoteAll } from './dane/hints.ts';
import { dnsNamesOf, matchingName } from './dane/names.ts';

/**
 * Never throws, whatever the octets.
 *
 * @param chain DER of the certificates as sent, the server's own first
 * @param names A-labels, lower case, no trailing dot; one match is enough
 */
export function judgeNames(
  chain: readonly Buffer[],
  path: PathFinding,
  { names }: { readonly names: readonly string[] },
): CertificateVerdict {
  const leaf = chain[0] === undefined ? null : readCertificate(chain[0]);
  if (leaf === null) return unproven('tlsa-bad-chain', chain.length === 0 ? 'no certificate was sent' : '');
  if (path.kind === 'not-trusted') {
    const code = OUT_OF_TIME.has(path.why) ? 'webpki-expired' : 'webpki-not-trusted';
    return unproven(code, `the server sent a ${describe(leaf)}; OpenSSL says ${path.why}`);
  }
  const presented = dnsNamesOf(readDetails(leaf));
  const name = presented.fromCommonName ? null : matchingName(presented, names);
  if (name === null) {
    const found = presented.fromCommonName ? 'no host name' : quoteAll(presented.hosts);
    return unproven(
      'webpki-name-mismatch',
      `the certificate is for ${found}, and must be for ${quoteAll(names, ' or ')}`,
    );
  }
  const detail = `a ${describe(leaf)}, which this relay trusts, and for ${name}`;
  return { verdict: 'authenticated', code: 'webpki-matched', record: null, depth: null, detail };
}

/** As OpenSSL calls it, for any certificate on the way. */
const OUT_OF_TIME: ReadonlySet<string> = new Set(['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID']);

function unproven(code: CertificateVerdict['code'], detail: string): CertificateVerdict {
  return { verdict: 'not-authenticated', code, record: null, depth: null, detail };
}
