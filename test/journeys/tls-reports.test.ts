/**
 * TLS reports through the whole relay: sessions of a day, in a lab with hosts that fail in different ways, become reports
 * that arrive where the domains want them, and that a parser and rules of others' making read.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningRelay } from '../../lab/relay.ts';
import { goodHost, goodSts } from '../../lab/world.ts';
import { parseMail, parseReport } from '../report/tls-report/parsed.ts';
import { byDkimpy, byMailauth } from '../support/dkim-verifiers.ts';
import { letDaysPass, type Office, openOffice, reportsTo, STRANGER } from './office.ts';
import { eventually } from './scripted.ts';
import { arrived } from './support.ts';

let office: Office;

beforeAll(async () => {
  office = await openOffice([
    { ...goodHost('good.test'), reports: 'https' },
    { ...goodHost('mismatch.test', { tlsa: [STRANGER] }), reports: 'https' },
    { ...goodHost('stripped.test', { mood: 'no-starttls' }), reports: 'https' },
    { ...goodHost('weak.test', { mood: 'weak-cipher' }), reports: 'https' },
    { ...goodHost('both.test', { certificate: 'public' }), sts: goodSts('both.test'), reports: 'https' },
    { ...goodHost('letter.test', { tlsa: [STRANGER] }), reports: 'mailto:tls@inbox.test' },
    // Whose own TLS is as broken: reports must arrive there all the same.
    goodHost('inbox.test', { tlsa: [STRANGER] }),
    { ...goodHost('silent.test') },
  ]);
});
afterAll(async () => office?.end());

/** `stripped.test` in `_policies` of the report that is for it, in a line for each policy. */
function told(report: Readonly<Record<string, unknown>> | undefined): string[] {
  const policies = (report?.['policies'] ?? []) as {
    policy: Record<string, string>;
    summary: Record<string, number>;
    'failure-details': Record<string, unknown>[];
  }[];
  return policies.map(({ policy, summary, 'failure-details': details }) =>
    [
      `${policy['policy-type']} ${policy['policy-domain']}`,
      `${summary['total-successful-session-count']}+${summary['total-failure-session-count']}`,
      ...details.map((detail) => `${String(detail['result-type'])} ${String(detail['receiving-mx-hostname'])}`),
    ].join(' '),
  );
}

describe('the sessions of a day', () => {
  test('RPT-04 RPT-05 RPT-10 RPT-11 RPT-12 RPT-13 RPT-14 become reports that arrive by HTTPS and by mail, from a relay that was stopped meanwhile', async () => {
    const { lab, relay, records } = office;
    const domains = ['good', 'mismatch', 'stripped', 'weak', 'both', 'letter', 'silent'].map((name) => `${name}.test`);
    for (const domain of domains) await relay.mail(domain);
    await Promise.all(domains.map((domain) => relay.attempt(domain)));
    // Over the connection that is kept, so no session of its own.
    await relay.mail('good.test');
    await relay.attempt('good.test', 2);
    expect(await relay.running.stop()).toBe(0);

    const preview = await relay.running.command('tlsrpt', 'show', 'mismatch.test', '--json');
    expect(preview.status).toBe(0);
    const today = await parseReport(preview.stdout);
    expect(today.mistakes).toEqual([]);
    expect(told(today.report)).toEqual(['tlsa mx.mismatch.test 0+1 validation-failure mx.mismatch.test']);
    const words = await relay.running.command('tlsrpt', 'show', 'stripped.test');
    expect(words.stdout).toContain('starttls-not-supported (starttls-not-offered) at mx.stripped.test');
    expect(await relay.running.command('tlsrpt', 'show', 'nobody.test')).toMatchObject({ status: 1 });

    letDaysPass(relay.running);
    const again = await relay.running.again();
    try {
      await eventually(() => lab.tlsReports().length >= 5, 'five reports by HTTPS');
      const all = await reportsTo(lab);
      const lines = all.map((report) => told(report).sort().join(', ')).sort();
      expect(lines).toEqual([
        'sts both.test 1+0, tlsa mx.both.test 1+0',
        'tlsa mx.good.test 1+0',
        'tlsa mx.mismatch.test 0+1 validation-failure mx.mismatch.test',
        'tlsa mx.stripped.test 0+1 starttls-not-supported mx.stripped.test',
        'tlsa mx.weak.test 0+1 validation-failure mx.weak.test',
      ]);
      expect(all[0]).toMatchObject({
        'organization-name': 'Gemeente Voorbeeld',
        'contact-info': 'tls-reports@office.test',
        'report-id': expect.stringMatching(/@office\.test$/),
      });

      // To a host that fails DANE, signed, with the null sender; two verifiers that are not ours believe it.
      await eventually(() => arrived(lab, 'inbox.test').length >= 1, 'a report by mail');
      const [mail] = arrived(lab, 'inbox.test');
      if (!mail) throw new Error('no report came');
      expect(mail).toMatchObject({ sender: '', recipients: ['tls@inbox.test'] });
      const letter = await parseMail(mail.content);
      expect(letter).toMatchObject({ defects: [], mistakes: [], type: 'multipart/report', reportType: 'tlsrpt' });
      expect(told(letter.report)).toEqual(['tlsa mx.letter.test 0+1 validation-failure mx.letter.test']);
      expect(letter.headers).toMatchObject({
        'tls-report-domain': 'letter.test',
        'tls-report-submitter': 'office.test',
        'dkim-signature': expect.stringMatching(/tls-report-domain.*tls-report-submitter/is),
      });
      const signed = { message: mail.content, records };
      expect(await byMailauth(signed)).toEqual(['rsa-sha256 office.test/s1 pass']);
      expect(await byDkimpy([{ ...signed, signatures: 1 }])).toEqual([['rsa-sha256 office.test/s1 pass']]);
      await again.untilEvent(({ event, domain }) => event === 'delivered' && domain === 'inbox.test');

      await again.untilOutput(/TLS report sent/);
      const list = await again.command('tlsrpt', 'list', '--json');
      const entries = JSON.parse(list.stdout) as { domain: string; state: string }[];
      expect(
        entries
          .filter(({ state }) => state === 'sent')
          .map(({ domain }) => domain)
          .sort(),
      ).toEqual(['both.test', 'good.test', 'letter.test', 'mismatch.test', 'stripped.test', 'weak.test']);
      // The session that brought the report is in no report, and nothing came of it but its delivery.
      expect((await again.command('tlsrpt', 'show', 'inbox.test')).status).toBe(1);
      expect(
        again
          .events()
          .filter(({ sender }) => sender === '')
          .map(({ event }) => event),
      ).toEqual(['delivered']);
      const figures = await fetch(`http://${await adminOf(again)}/metrics`).then((answer) => answer.text());
      expect(figures).toMatch(/dane_relay_tls_reports_total\{result="sent"\} 6/);
      expect(figures).toMatch(/dane_relay_tls_reports_total\{result="unwanted"\} 1/);
    } finally {
      await again.stop();
    }
  });
});

async function adminOf({ config }: RunningRelay): Promise<string> {
  const { readFile } = await import('node:fs/promises');
  const settings = JSON.parse(await readFile(config, 'utf8')) as { admin: { listen: string } };
  return settings.admin.listen;
}
