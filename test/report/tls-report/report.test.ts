/** The report and the mail that it goes in, read by parsers that are not ours. */
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { type ReportMail, reportMail } from '../../../src/report/tls-report/mail.ts';
import { reportOf } from '../../../src/report/tls-report/report.ts';
import { DAY, folder, ledgerIn, may, tallied } from './good-day.ts';
import { parseMail, parseReport } from './parsed.ts';

const reporter = { organisation: 'Gemeente Voorbeeld', contact: 'tls@sender.nl' };
const none = { tlsa: { base: null, records: [] }, policy: may } as const;

function aDay() {
  const ledger = ledgerIn(folder());
  ledger.add([
    tallied({ sessions: 40 }),
    tallied({ code: 'tlsa-mismatch', sessions: 2 }),
    tallied({ code: 'starttls-not-offered', greeting: null }),
    tallied({ ...none, code: 'encrypted-opportunistic', host: 'mx2.example.nl', sessions: 3 }),
    tallied({ skipped: 'tlsa-lookup-failed', tlsa: { base: null, records: [] }, host: 'mx3.example.nl' }),
    tallied({ skipped: 'mx-lookup-failed', deadEnd: true }),
  ]);
  return reportOf(reporter, DAY, 'abc@sender.nl', ledger.counts(DAY, 'example.nl'));
}

test('RPT-10 the JSON has the keys of RFC 8460 and no others, as a validator of its own sees it', async () => {
  const { report, mistakes } = await parseReport(JSON.stringify(aDay()));
  expect(mistakes).toEqual([]);
  expect(report).toMatchObject({
    'organization-name': 'Gemeente Voorbeeld',
    'date-range': { 'start-datetime': '2026-11-02T00:00:00Z', 'end-datetime': '2026-11-02T23:59:59Z' },
    'contact-info': 'tls@sender.nl',
    'report-id': 'abc@sender.nl',
  });
  expect(report['policies']).toHaveLength(3);
});

test('RPT-02 RPT-10 a policy of each type, with what was published and what went wrong', async () => {
  const { policies } = aDay();
  const names = policies.map(({ policy }) => `${policy['policy-type']} ${policy['policy-domain']}`);
  expect(names.sort()).toEqual(['no-policy-found example.nl', 'tlsa mx.example.nl', 'tlsa mx3.example.nl']);
  const one = policies.find(({ policy }) => policy['policy-domain'] === 'mx.example.nl');
  expect(JSON.parse(JSON.stringify(one))).toEqual({
    policy: {
      'policy-type': 'tlsa',
      'policy-string': [`3 1 1 ${'ab'.repeat(32)}`],
      'policy-domain': 'mx.example.nl',
    },
    summary: { 'total-successful-session-count': 40, 'total-failure-session-count': 3 },
    'failure-details': [
      {
        'result-type': 'validation-failure',
        'sending-mta-ip': '192.0.2.1',
        'receiving-mx-hostname': 'mx.example.nl',
        'receiving-mx-helo': 'mx.example.nl',
        'receiving-ip': '192.0.2.7',
        'failed-session-count': 2,
        'failure-reason-code': 'tlsa-mismatch',
      },
      {
        'result-type': 'starttls-not-supported',
        'sending-mta-ip': '192.0.2.1',
        'receiving-mx-hostname': 'mx.example.nl',
        'receiving-ip': '192.0.2.7',
        'failed-session-count': 1,
        'failure-reason-code': 'starttls-not-offered',
      },
    ],
  });
});

const letter: ReportMail = {
  domain: 'example.nl',
  submitter: 'sender.nl',
  organisation: 'Gemeente Voorbeeld',
  from: 'noreply@sender.nl',
  to: 'tls@example.nl',
  day: DAY,
  reportId: 'abc@sender.nl',
  sessions: { successes: 43, failures: 5 },
  gzip: gzipSync(JSON.stringify(reportOf(reporter, DAY, 'abc@sender.nl', []))),
  now: Date.UTC(2026, 10, 3, 2, 4, 6),
};

test('RPT-11 the mail: multipart/report with a part for people and one for machines, and the headers that name both sides', async () => {
  const mail = await parseMail(reportMail(letter));
  expect(mail).toMatchObject({
    defects: [],
    mistakes: [],
    type: 'multipart/report',
    reportType: 'tlsrpt',
    parts: ['text/plain', 'application/tlsrpt+gzip'],
    filename: 'sender.nl!example.nl!1793577600!1793663999!abc.json.gz',
  });
  expect(mail.headers).toMatchObject({
    subject: 'Report Domain: example.nl Submitter: sender.nl Report-ID: <abc@sender.nl>',
    from: 'noreply@sender.nl',
    to: 'tls@example.nl',
    date: 'Tue, 03 Nov 2026 02:04:06 +0000',
    'tls-report-domain': 'example.nl',
    'tls-report-submitter': 'sender.nl',
    'tls-required': 'No',
    'auto-submitted': 'auto-generated',
    'message-id': '<abc@sender.nl>',
  });
  expect(mail.text).toContain('Sessions that failed: 5');
});

test('RPT-11 it is seven-bit with lines that every host takes, whatever the names are', () => {
  const long = `${'a'.repeat(60)}.${'b'.repeat(60)}.${'c'.repeat(60)}.${'d'.repeat(60)}.nl`;
  const octets = reportMail({ ...letter, domain: long, organisation: `Gemeente Súdwest ${'x'.repeat(180)}` });
  expect(octets.every((octet) => octet < 128)).toBe(true);
  expect(
    Math.max(
      ...octets
        .toString()
        .split('\r\n')
        .map(({ length }) => length),
    ),
  ).toBeLessThanOrEqual(998);
  expect(octets.toString().replaceAll('\r\n', '')).not.toMatch(/[\r\n]/);
});
