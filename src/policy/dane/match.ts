/**
 * Judges the certificates that a server sent by the TLSA records that count: DANE-EE first, then DANE-TA
 * (RFC 7672 §3, RFC 7671 §5). No network and no clock: what is needed is passed in.
 */
import type { CertificateVerdict } from '../../model/delivery.ts';
import type { TlsaRecord } from '../../model/tls-policy.ts';
import { type Certificate, picks, readCertificate } from './certificate.ts';
import { readDetails } from './details.ts';
import { describe, hintForMismatch, quoteAll, shorten } from './hints.ts';
import { dnsNamesOf, matchingName } from './names.ts';
import { textOfRecord } from './tlsa.ts';
import { type AnchorSearch, findAnchor, type Work } from './trust-anchor.ts';

export interface Evidence {
  /** Certificates in DER in the order in which the server sent them; the first is its own. */
  readonly chain: readonly Buffer[];
  /** The records that are considered. */
  readonly records: readonly TlsaRecord[];
  /** Reference identifiers of RFC 7672 §3.2.2: A-labels, lower case, no trailing dot. */
  readonly names: readonly string[];
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** Counts what was done, for whoever wants to know. */
  readonly work?: Work;
}

/** Never throws, whatever the octets. */
export function judgeChain({ chain, records, names, at, work }: Evidence): CertificateVerdict {
  if (records.length === 0) return unproven('unusable', 'tlsa-no-usable-record', '');
  const [leaf, ...others] = chain.map(readCertificate);
  if (!leaf)
    return unproven('not-authenticated', 'tlsa-bad-chain', leaf === undefined ? 'no certificate was sent' : '');
  if (others.includes(null)) {
    const detail = `number ${others.indexOf(null) + 2} of what was sent is no certificate`;
    return unproven('not-authenticated', 'tlsa-bad-chain', detail);
  }

  const ee = records.find((record) => record.usage === 3 && picks(record, leaf));
  if (ee) {
    const text = textOfRecord(ee);
    const detail = `${shorten(text)} matches the certificate of the server (${describe(leaf)})`;
    return { verdict: 'authenticated', code: 'dane-ee', record: text, depth: 0, detail };
  }
  const whole: readonly [Certificate, ...Certificate[]] = [leaf, ...others.filter((read) => read !== null)];
  return judgeAnchor(findAnchor(whole, records, at, work), whole, records, names, at);
}

function judgeAnchor(
  search: AnchorSearch,
  chain: readonly [Certificate, ...Certificate[]],
  records: readonly TlsaRecord[],
  names: readonly string[],
  at: number,
): CertificateVerdict {
  if (search.kind === 'none') {
    return unproven('not-authenticated', 'tlsa-mismatch', hintForMismatch(chain, records, at));
  }
  const text = textOfRecord(search.record);
  if (search.kind === 'unconnected') {
    const detail = `${shorten(text)} matches certificate ${search.position + 1} of those that were sent, but no chain of sound certificates leads there from the certificate of the server`;
    return unproven('not-authenticated', 'tlsa-not-trusted', detail);
  }

  const { depth, faults } = search;
  const seen = { record: text, depth };
  if (faults.length > 0) {
    const code = faults.every(({ kind }) => kind === 'expired') ? 'tlsa-expired' : 'tlsa-not-trusted';
    const detail = `${shorten(text)} matches at depth ${depth}, but ${faults.map(({ says }) => says).join(', and ')}`;
    return { ...unproven('not-authenticated', code, detail), ...seen };
  }
  const presented = dnsNamesOf(readDetails(chain[0]));
  const name = matchingName(presented, names);
  if (name === null) {
    const detail = `the certificate is for ${quoteAll(presented.hosts)}, and must be for ${quoteAll(names, ' or ')}`;
    return { ...unproven('not-authenticated', 'tlsa-name-mismatch', detail), ...seen };
  }
  const detail = `${shorten(text)} matches at depth ${depth}, and the certificate is for ${name}`;
  return { verdict: 'authenticated', code: 'dane-ta', ...seen, detail };
}

function unproven(
  verdict: Exclude<CertificateVerdict['verdict'], 'authenticated'>,
  code: CertificateVerdict['code'],
  detail: string,
): CertificateVerdict {
  return { verdict, code, record: null, depth: null, detail };
}
