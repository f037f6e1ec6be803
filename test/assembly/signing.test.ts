/** Who gets a signature: the configuration, the client that handed the message in, and what the relay writes itself. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { openSigning } from '../../src/assembly/signing.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Logger } from '../../src/model/events.ts';
import { type Batch, TLS_REPORTER } from '../../src/model/message.ts';
import { createParts } from '../../src/shared/parts.ts';

const quiet: Logger = { mail() {}, debug() {}, info() {}, warn() {}, error() {} };

async function scene() {
  const dir = mkdtempSync(join(tmpdir(), 'dane-signing-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const key = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' });
  writeFileSync(join(dir, 's1.pem'), key, { mode: 0o600 });
  const path = join(dir, 'relay.yaml');
  const senders = ['example.nl', '*.example.nl'];
  const settings = {
    state: join(dir, 'state'),
    clients: [
      { name: 'all', networks: ['127.0.0.1'], senders },
      { name: 'hr', networks: ['127.0.0.2'], senders: ['hr.example.nl'] },
    ],
    dkim: [{ domain: 'example.nl', selector: 's1', key: 's1.pem', senders }],
  };
  writeFileSync(path, JSON.stringify(settings));
  const loaded = loadConfig({ path, env: {} });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.mistakes));
  const parts = createParts();
  onTestFinished(async () => void (await parts.closeAll()));
  let from = '';
  const bytes = () => Buffer.from(`From: <${from}>\r\n\r\nHello.\r\n`);
  const { sign } = await openSigning(loaded.config, async () => ({ kind: 'memory', bytes: bytes() }), quiet, parts);
  let count = 0;
  return (client: string, author: string) => {
    from = author;
    const batch: Pick<Batch, 'messageId' | 'client'> = { messageId: `m${count++}`, client };
    return sign(batch as Batch);
  };
}

test('DKIM-05 a client gets no signature of a domain that it may not send for', async () => {
  const signed = await scene();
  expect(await signed('all', 'a@example.nl')).toMatchObject({ kind: 'signed', by: ['example.nl/s1'] });
  expect(await signed('hr', 'a@hr.example.nl')).toMatchObject({ kind: 'signed' });
  for (const [client, domain] of [
    ['hr', 'example.nl'],
    ['hr', 'xhr.example.nl'],
    ['gone', 'example.nl'],
  ] as const) {
    const why = `its client may not send for ${domain}, the domain in From`;
    expect(await signed(client, `a@${domain}`)).toEqual({ kind: 'unsigned', why });
  }
});

test('DKIM-05 RPT-12 what the relay writes itself is signed, and a report that would not be does not leave', async () => {
  const signed = await scene();
  expect(await signed('dane-relay', 'MAILER-DAEMON@example.nl')).toMatchObject({ kind: 'signed' });
  expect(await signed(TLS_REPORTER, 'tls@example.nl')).toMatchObject({ kind: 'signed' });
  expect(await signed(TLS_REPORTER, 'tls@other.example')).toEqual({
    kind: 'impossible',
    code: 'dkim-key-unpublished',
    why: 'no domain signs for reports',
  });
  expect(await signed('dane-relay', 'MAILER-DAEMON@other.example')).toEqual({ kind: 'unsigned', why: null });
});
