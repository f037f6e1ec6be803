/**
 * Postfix as the legacy server that cannot do DANE: the relay is its smarthost, both certificates are pinned. A hundred
 * messages of every shape go through both, and each must arrive octet for octet at every one of its recipients.
 */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Letter, submit } from '../../lab/client.ts';
import { type Lab, startLab } from '../../lab/lab.ts';
import { freePort, type RunningRelay, runCommand, startRelay } from '../../lab/relay.ts';
import { HOME } from '../../lab/world.ts';
import { POSTFIX, type Postfix, startPostfix } from './postfix.ts';
import { isEnd, mailTo, whyNot, withoutTrace } from './support.ts';

const excuse = whyNot(POSTFIX);
const DOMAINS = [
  'dane-ee.test',
  'dane-ta.test',
  'rollover.test',
  'alias.test',
  'two-hosts.test',
  'no-tlsa.test',
  'unusable.test',
];

const SHAPES: readonly { readonly name: string; readonly body: (index: number) => string }[] = [
  { name: 'plain', body: () => 'Dear Bob,\r\n\r\nall is well.\r\n' },
  { name: 'empty', body: () => '' },
  { name: 'dots', body: () => '.\r\n..\r\n...\r\n.leading\r\n\r\n.\r\nend.\r\n' },
  { name: '8-bit', body: () => 'Één café, 漢字, 🙂\r\n\u00a0\r\n' },
  {
    name: 'long lines',
    body: (index) => `${'x'.repeat(997)}\r\n${'y'.repeat(998 + index)}\r\n${'z'.repeat(5000)}\r\n`,
  },
  { name: 'blanks', body: () => ' leading\r\n\ttab\r\ntrailing  \t\r\n\r\n\r\n\r\n' },
  { name: 'looks like trace', body: () => 'Received: by nobody\r\nFrom here on\r\n>From there\r\n' },
  { name: 'control characters', body: () => 'bell \u0007 escape \u001b form feed \f vertical tab \v\r\n' },
  { name: 'attachment', body: (index) => attachment(index % 30 === 8 ? 5_000_000 : 60_000 * index) },
  { name: 'no line end', body: () => 'the last line has the end that SMTP gives it' },
];

/** A MIME message body of about `size` octets in base64. */
function attachment(size: number): string {
  const line = `${'QUJD'.repeat(19)}\r\n`;
  const part = 'Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n';
  return `--b\r\n${part}\r\n${line.repeat(Math.ceil(size / line.length))}--b--\r\n`;
}

function letter(index: number): Letter & { readonly content: Buffer } {
  const { name, body } = SHAPES[index % SHAPES.length] ?? { name: 'none', body: () => '' };
  const count = index % 5 === 4 ? 5 : 1 + (index % 2);
  const recipients = Array.from(
    { length: count },
    (_, n) => `user${index}.${n}@${DOMAINS[(index + n) % DOMAINS.length]}`,
  );
  const header = [
    `From: Alice <alice@${HOME}>`,
    `To: ${recipients.join(',\r\n ')}`,
    `Subject: ${name} ${index}`,
    'Date: Sun, 01 Nov 2026 10:00:00 +0100',
    `Message-ID: <${index}@${HOME}>`,
    'MIME-Version: 1.0',
    name === 'attachment' ? 'Content-Type: multipart/mixed; boundary=b' : 'Content-Type: text/plain; charset=utf-8',
    ...(name === '8-bit' ? ['Content-Transfer-Encoding: 8bit'] : []),
    `X-Folded: one\r\n\ttwo ${'w '.repeat(30)}\r\n three`,
  ].join('\r\n');
  const content = `${header}\r\n\r\n${body(index)}`;
  return {
    sender: `alice@${HOME}`,
    recipients,
    content: Buffer.from(content.endsWith('\r\n') ? content : `${content}\r\n`),
  };
}

describe('Postfix with the relay as its smarthost', () => {
  let folder = '';
  let lab: Lab;
  let relay: RunningRelay;
  let postfix: Postfix;

  beforeAll(async () => {
    if (excuse) return;
    folder = await mkdtemp(join(tmpdir(), 'dane-legacy-'));
    await chmod(folder, 0o755);
    lab = await startLab();
    relay = await startRelay({ lab, dir: join(folder, 'relay') });
    postfix = await start(await fingerprint());
  });

  afterAll(async () => {
    if (excuse) return;
    await postfix.stop();
    await relay.stop();
    await lab.stop();
    await rm(folder, { recursive: true, force: true });
  });

  /** As docs/smarthost.md says: what `dane-relay pin` prints for Postfix. */
  async function fingerprint(): Promise<string> {
    const { stdout } = await runCommand('pin', relay.certificate, '--json');
    return (JSON.parse(stdout) as { readonly spki: { readonly postfix: string } }).spki.postfix;
  }

  async function start(pinned: string): Promise<Postfix> {
    const chain = join(folder, 'client-chain.pem');
    await writeFile(chain, `${relay.client.key}${relay.client.cert}`, { mode: 0o600 });
    return startPostfix({
      dir: join(folder, 'postfix'),
      address: '127.0.0.1',
      port: await freePort(),
      settings: [
        `myhostname = legacy.${HOME}`,
        `relayhost = [${relay.address}]:${relay.port}`,
        'smtp_tls_security_level = fingerprint',
        'smtp_tls_fingerprint_digest = sha256',
        `smtp_tls_fingerprint_cert_match = ${pinned}`,
        `smtp_tls_chain_files = ${chain}`,
        'smtp_tls_loglevel = 1',
        // Otherwise Postfix itself cuts long lines.
        'smtp_line_length_limit = 0',
      ],
    });
  }

  test.skipIf(excuse)(
    `100 messages of every shape arrive octet for octet at every recipient${excuse}`,
    { timeout: 240_000 },
    async () => {
      const letters = Array.from({ length: 100 }, (_, index) => letter(index));
      for (const each of letters) await submit(postfix, each);

      const recipients = letters.flatMap((each) => each.recipients);
      for (const recipient of recipients) {
        const event = await relay
          .untilEvent((each) => each.recipient === recipient && isEnd(each))
          .catch(async (error: Error) => {
            throw new Error(`${recipient}: ${error.message}\n${await postfix.log()}`);
          });
        expect(event, recipient).toMatchObject({ event: 'delivered', client: 'legacy' });
      }
      for (const { recipients: addressed, content } of letters) {
        for (const recipient of addressed) {
          const [arrived, ...others] = mailTo(lab.mailboxes(), recipient);
          expect(others, recipient).toEqual([]);
          // Compared as a whole first: a difference in 5 MB is not for reading.
          const same = withoutTrace(arrived?.content ?? Buffer.alloc(0)).equals(content);
          expect(same, `${recipient}: ${content.subarray(0, 200).toString()}`).toBe(true);
          expect(arrived?.tls?.version).toBe('TLSv1.3');
        }
      }
      expect(await postfix.log()).toContain('Verified TLS connection established to 127.0.0.1');
      expect(relay.events().filter(({ event }) => event === 'accepted')).toHaveLength(letters.length);
    },
  );

  test.skipIf(excuse)(`Postfix with another fingerprint than the relay’s hands nothing over${excuse}`, async () => {
    await postfix.stop();
    postfix = await start('00:'.repeat(31).concat('00'));
    const before = relay.events().length;
    await submit(postfix, { ...letter(0), recipients: ['nobody@dane-ee.test'] });
    await expect
      .poll(postfix.log)
      .toMatch(/to=<nobody@dane-ee\.test>.*status=deferred \(Server certificate not verified\)/);
    expect(
      relay
        .events()
        .slice(before)
        .filter(({ event }) => event === 'accepted'),
    ).toEqual([]);
  });
});
