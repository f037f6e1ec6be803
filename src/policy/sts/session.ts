/**
 * How a session stands under the MTA-STS policy of its domain, for the TLS report: also where the policy only tests, and
 * where DANE has decided (RFC 8460 §4.3). Nothing here lets mail through or keeps it back.
 *
 * The certificates are judged as they were sent, without help of the TLS library: a connection under DANE knows of no
 * authorities. The way to an authority is found as for DANE-TA, with the authorities in the place of TLSA records.
 */
import { X509Certificate } from 'node:crypto';
import type { CertificateVerdict, ConnectionFacts, PathFinding, SessionEnd } from '../../model/delivery.ts';
import type { StsFindings, StsSession } from '../../model/sts.ts';
import type { TlsaRecord } from '../../model/tls-policy.ts';
import { judgeChain } from '../dane/match.ts';
import { judgeNames } from '../webpki.ts';
import { lists } from './policy.ts';

/** Judges certificates, leaf first, for the name of a mail host. */
export type JudgeForName = (chain: readonly Buffer[], name: string) => CertificateVerdict;

/** @returns null where there is nothing to count: no policy was announced, or nothing was dialled because of DANE */
export function stsSession({ plan, dialled, trouble }: SessionEnd, judge: JudgeForName): StsSession | null {
  const sts = plan?.sts ?? null;
  if (plan === null || sts === null) return null;
  if (sts.kind === 'none') {
    return sts.failure && { ...counted(sts), trouble: { code: sts.failure.type, detail: sts.failure.detail } };
  }
  if (sts.policy.mode === 'none') return null;
  const { name } = plan.host;
  if (!lists(sts.policy, name)) return { ...counted(sts), trouble: { code: 'sts-mx-not-listed', detail: name } };
  if (dialled === null) return trouble?.code.startsWith('sts-') ? { ...counted(sts), trouble } : null;

  const { connection, opened } = dialled;
  // What went wrong before the certificates, or the lack of TLS, went wrong for every policy.
  const { code, reason: detail } = connection;
  if (connection.tls === null) return { ...counted(sts), trouble: { code, detail } };
  // Under this policy the delivery has judged them already, by the same names and authorities.
  if (plan.policy.kind === 'sts' && code === 'webpki-matched') return { ...counted(sts), trouble: null };
  const verdict = judge(opened.chain ?? [], name);
  const { code: seen, detail: what } = verdict;
  if (verdict.verdict !== 'authenticated') return { ...counted(sts), trouble: { code: seen, detail: what } };
  // Where such a policy demands TLS, the delivery takes none that is insufficient.
  return { ...counted(sts), trouble: connection.tls.grade === 'insufficient' ? tooWeak(connection.tls) : null };
}

function tooWeak({ version, cipher }: NonNullable<ConnectionFacts['tls']>): StsSession['trouble'] {
  return { code: 'tls-too-weak', detail: `${version} with ${cipher}` };
}

function counted(sts: StsFindings): Omit<StsSession, 'trouble'> {
  if (sts.kind === 'none') return { domain: sts.domain, mode: null, lines: [], mx: [] };
  const { mode, lines, mx } = sts.policy;
  return { domain: sts.domain, mode: mode === 'none' ? null : mode, lines, mx };
}

/**
 * @param authorities certificates in PEM; those that cannot be read count for nothing
 * @param now         milliseconds since the epoch
 */
export function judgeByAuthorities(authorities: () => readonly string[], now: () => number): JudgeForName {
  let index: ReadonlyMap<string, readonly TlsaRecord[]> | null = null;
  return (chain, name) => {
    index ??= indexOf(authorities());
    const known = index;
    const records = [...new Set(chain.flatMap(namesIn))].flatMap((subject) => known.get(subject) ?? []);
    const verdict = judgeChain({ chain, records, names: [name], at: now() });
    return judgeNames(chain, pathIn(verdict), { names: [name] });
  };
}

function pathIn({ verdict, code }: CertificateVerdict): PathFinding {
  if (verdict === 'authenticated' || code === 'tlsa-name-mismatch') return { kind: 'trusted' };
  return { kind: 'not-trusted', why: code === 'tlsa-expired' ? 'CERT_HAS_EXPIRED' : 'UNABLE_TO_GET_ISSUER_CERT' };
}

/** Authorities by their names, as records that DANE-TA would match: the whole certificate. */
function indexOf(authorities: readonly string[]): ReadonlyMap<string, readonly TlsaRecord[]> {
  const index = new Map<string, TlsaRecord[]>();
  for (const pem of authorities) {
    const certificate = readable(pem);
    if (certificate === null) continue;
    const { subject, raw } = certificate;
    index.set(subject, [...(index.get(subject) ?? []), { usage: 2, selector: 0, matching: 0, data: raw }]);
  }
  return index;
}

/** The names that an authority of this certificate could have: its issuer's, or its own. */
function namesIn(der: Buffer): readonly string[] {
  const certificate = readable(der);
  return certificate ? [certificate.issuer, certificate.subject] : [];
}

function readable(octets: string | Buffer): X509Certificate | null {
  try {
    return new X509Certificate(octets);
  } catch {
    return null;
  }
}
