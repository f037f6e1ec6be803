/**
 * A report as a mail (RFC 8460 §5.3): a part for people, and the report itself, compressed. It goes out with the null
 * sender, so that nothing ever comes back, and says of itself that TLS must not keep it (RFC 8460 §3, RFC 8689 §5).
 */
import { createHash } from 'node:crypto';
import { startOf } from './tally.ts';

export interface ReportMail {
  /** Domain that the report is about. */
  readonly domain: string;
  /** Domain of the contact of the report. */
  readonly submitter: string;
  readonly organisation: string;
  readonly from: string;
  readonly to: string;
  readonly day: number;
  readonly reportId: string;
  readonly sessions: { readonly successes: number; readonly failures: number };
  /** The JSON of the report, compressed by gzip. */
  readonly gzip: Buffer;
  readonly now: number;
}

/** CRLF newlines, seven-bit, not signed yet. */
export function reportMail(mail: ReportMail): Buffer {
  const { domain, submitter, organisation, from, to, reportId, gzip, now } = mail;
  // The same report always looks the same; no line of base64 can be this one.
  const boundary = `=_${createHash('sha256').update(`${reportId} ${to}`).digest('hex').slice(0, 32)}`;
  const lines = [
    `Date: ${new Date(now).toUTCString().replace('GMT', '+0000')}`,
    `From: <${from}>`,
    `To: <${to}>`,
    `Subject: Report Domain: ${domain}`,
    ` Submitter: ${submitter}`,
    ` Report-ID: <${reportId}>`,
    `Message-ID: <${reportId}>`,
    `TLS-Report-Domain: ${domain}`,
    `TLS-Report-Submitter: ${submitter}`,
    'TLS-Required: No',
    'Auto-Submitted: auto-generated',
    'MIME-Version: 1.0',
    'Content-Type: multipart/report; report-type="tlsrpt";',
    ` boundary="${boundary}"`,
    '',
    `--${boundary}`,
    'Content-Type: text/plain; charset=us-ascii',
    'Content-Transfer-Encoding: 7bit',
    '',
    ...forPeople(mail, organisation),
    '',
    `--${boundary}`,
    'Content-Type: application/tlsrpt+gzip',
    'Content-Transfer-Encoding: base64',
    'Content-Disposition: attachment;',
    ` filename="${fileName(mail)}"`,
    '',
    ...(gzip.toString('base64').match(/.{1,76}/g) ?? []),
    '',
    `--${boundary}--`,
    '',
  ];
  return Buffer.from(lines.join('\r\n'), 'latin1');
}

/** RFC 8460 §5.1: who sends it, about whom, from when to when, which one. */
export function fileName({
  submitter,
  domain,
  day,
  reportId,
}: Pick<ReportMail, 'submitter' | 'domain' | 'day' | 'reportId'>): string {
  const [begin, end] = [startOf(day) / 1000, startOf(day + 1) / 1000 - 1];
  return `${submitter}!${domain}!${begin}!${end}!${reportId.split('@')[0] ?? ''}.json.gz`;
}

function forPeople({ domain, day, sessions }: ReportMail, organisation: string): string[] {
  const date = new Date(startOf(day)).toISOString().slice(0, 10);
  return [
    `This is a report on TLS in SMTP (RFC 8460) about mail that was sent to`,
    `${domain} on ${date} (UTC).`,
    '',
    `Sent by: ${organisation.replace(/[^ -~]/gu, '?')}`,
    `Sessions with TLS as ${domain} wants it: ${sessions.successes}`,
    `Sessions that failed: ${sessions.failures}`,
    '',
    'The attachment has the details for machines.',
  ];
}
