/** `tlsrpt` on real counts, and on none. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { openReportDesk } from '../../src/assembly/tls-report-desk.ts';
import { tlsrptCommand } from '../../src/cli/tlsrpt.ts';
import { LEDGER_FILE, Ledger } from '../../src/report/tls-report/ledger.ts';
import { dayOf } from '../../src/report/tls-report/tally.ts';
import { tallied } from '../report/tls-report/good-day.ts';
import { type Printed, runCommands } from './support.ts';

const folder = mkdtempSync(join(tmpdir(), 'dane-tlsrpt-cli-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const today = dayOf(Date.now());

function configured(name: string, text: string): string {
  const file = join(folder, `${name}.yaml`);
  writeFileSync(file, `state: ${join(folder, name)}\n${text}`);
  return file;
}

const on = configured('state', 'tlsReports: { organisation: Voorbeeld, contact: tls@sender.nl }\n');

function tlsrpt(...words: string[]): Promise<Printed> {
  return runCommands([tlsrptCommand({ openDesk: openReportDesk })], 'tlsrpt', ...words);
}

test('before anything was counted, and where reports are off, it says so', async () => {
  expect(await tlsrpt('list', '--config', on)).toMatchObject({
    out: '',
    exitCode: 3,
    err: expect.stringMatching(/nothing was counted yet/),
  });
  expect(await tlsrpt('list', '--config', configured('off', ''))).toMatchObject({
    exitCode: 3,
    err: expect.stringMatching(/TLS reports are off/),
  });
  expect(await tlsrpt('list', '--config', configured('wrong', 'port: 5\n'))).toMatchObject({ exitCode: 2 });
  expect(await tlsrpt('show', 'a b', '--config', on)).toMatchObject({ exitCode: 2 });
});

test('today as far as it has come, and what became of the days before', async () => {
  const { mkdirSync } = await import('node:fs');
  mkdirSync(join(folder, 'state'));
  const ledger = new Ledger({ file: join(folder, 'state', LEDGER_FILE), mode: 'relay' });
  ledger.add([
    tallied({ day: today, sessions: 7 }),
    tallied({ day: today, code: 'tlsa-mismatch' }),
    tallied({ day: today - 1, domain: 'sent.nl' }),
    tallied({ day: today - 1, domain: 'waits.nl' }),
  ]);
  expect(await tlsrpt('show', 'Example.NL.', '--config', on)).toMatchObject({
    exitCode: 0,
    out: [
      'The report for example.nl of today (UTC), as far as it has come; a few seconds may be missing.',
      'tlsa for mx.example.nl: 7 sessions as it wants them, 1 failed',
      '  1  validation-failure (tlsa-mismatch) at mx.example.nl 192.0.2.7',
      '',
    ].join('\n'),
  });
  const { out } = await tlsrpt('show', 'example.nl', '--json', '--config', on);
  expect(JSON.parse(out)).toMatchObject({ 'organization-name': 'Voorbeeld', 'report-id': 'preview@sender.nl' });
  expect(await tlsrpt('show', 'nobody.nl', '--config', on)).toMatchObject({ exitCode: 1, out: '' });

  ledger.closeDays(today, 0, 1);
  for (const claim of ledger.claim(Date.now(), 1_000, 9)) {
    const sent = claim.domain === 'sent.nl';
    const [state, explanation] = sent
      ? (['accepted', 'accepted it'] as const)
      : (['failed', 'it\nanswered 500'] as const);
    ledger.heard(claim, { uri: `https://r.${claim.domain}/`, state, explanation }, null);
    ledger.settle(
      claim,
      sent ? { kind: 'sent', explanation: '' } : { kind: 'retry', due: today * 86_400_000, explanation: '' },
    );
  }
  ledger.close();
  const date = new Date((today - 1) * 86_400_000).toISOString().slice(0, 10);
  const due = new Date(today * 86_400_000).toISOString().slice(0, 10);
  expect(await tlsrpt('list', '--config', on)).toMatchObject({
    exitCode: 0,
    out: [
      `${date}  sent.nl  sent`,
      '  https://r.sent.nl/: accepted: accepted it',
      `${date}  waits.nl  waiting until ${due} 00:00 (UTC)`,
      '  https://r.waits.nl/: failed: it answered 500',
      '',
    ].join('\n'),
  });
  expect(JSON.parse((await tlsrpt('list', '--json', '--config', on)).out)).toHaveLength(2);
});
