/** A certificate in the few facts that people compare: whose it is, until when, and the digests that go into DNS. */
import { createHash } from 'node:crypto';
import type { CertificateSummary } from '../../model/delivery.ts';
import { gradeCertificate } from '../tls-grade.ts';
import { type Certificate, readCertificate } from './certificate.ts';
import { readDetails } from './details.ts';
import { quoteAll } from './hints.ts';
import { dnsNamesOf } from './names.ts';

/** @returns null for octets that are no certificate */
export function summarize(raw: Buffer): CertificateSummary | null {
  const certificate = readCertificate(raw);
  return certificate && summaryOf(certificate);
}

function summaryOf(certificate: Certificate): CertificateSummary {
  const details = readDetails(certificate);
  const date = (time: number | null): string | null => (time === null ? null : new Date(time).toISOString());
  return {
    subject: quoteAll(details.subject.commonNames),
    issuer: quoteAll(details.issuer.commonNames),
    names: quoteAll(dnsNamesOf(details).hosts),
    notBefore: date(details.notBefore),
    notAfter: date(details.notAfter),
    certificateSha256: createHash('sha256').update(certificate.raw).digest('hex'),
    keySha256: createHash('sha256').update(certificate.spki).digest('hex'),
    grades: gradeCertificate(certificate.raw),
  };
}
