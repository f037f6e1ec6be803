/** Other clients than our own: swaks, and Python's smtplib. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { selfSigned } from '../../lab/certificates.ts';
import { type Lab, startLab } from '../../lab/lab.ts';
import { type RunningRelay, startRelay } from '../../lab/relay.ts';
import { HOME } from '../../lab/world.ts';
import { isEnd, mailTo } from './support.ts';

const run = promisify(execFile);
const SENDER = `alice@${HOME}`;

interface Said {
  readonly status: number;
  readonly output: string;
}

function program(name: string, ...words: readonly string[]): Promise<Said> {
  return run(name, words).then(
    ({ stdout, stderr }) => ({ status: 0, output: stdout + stderr }),
    (error: { code: number; stdout: string; stderr: string }) => ({
      status: error.code,
      output: error.stdout + error.stderr,
    }),
  );
}

let folder = '';
let lab: Lab;
let relay: RunningRelay;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dane-clients-'));
  lab = await startLab();
  relay = await startRelay({ lab, dir: folder });
});
afterAll(async () => {
  await relay.stop();
  await lab.stop();
  await rm(folder, { recursive: true, force: true });
});

/** The one message for a recipient, once the relay says that it was delivered. */
async function delivered(recipient: string): Promise<string> {
  const event = await relay.untilEvent((each) => each.recipient === recipient && isEnd(each));
  expect(event).toMatchObject({ event: 'delivered', verdict: 'authenticated' });
  const [mail] = mailTo(lab.mailboxes(), recipient);
  return mail?.content.toString('utf8') ?? '';
}

describe('swaks', () => {
  const missing = !existsSync('/usr/bin/swaks');
  const why = missing ? ' (skipped: swaks is not installed)' : '';
  const swaks = (to: string, ...words: readonly string[]): Promise<Said> =>
    program('swaks', '--server', `${relay.address}:${relay.port}`, '--from', SENDER, '--to', to, ...words);

  test.skipIf(missing)(`sends over STARTTLS with the pinned certificate${why}`, async () => {
    const { certFile, keyFile } = relay.client;
    const tls = ['--tls', '--tls-cert', certFile, '--tls-key', keyFile];
    const { status, output } = await swaks('swaks@dane-ee.test', ...tls, '--body', 'by swaks, é');
    expect(status, output).toBe(0);
    expect(await delivered('swaks@dane-ee.test')).toContain('by swaks, é');
  });

  test.skipIf(missing)(`is refused without TLS, and told to use it${why}`, async () => {
    const { status, output } = await swaks('clear@dane-ee.test');
    expect(status).not.toBe(0);
    expect(output).toMatch(/530[ -]5\.7\.0/);
  });

  test.skipIf(missing)(`is refused with another certificate, and told the pin that was seen${why}`, async () => {
    const stranger = await selfSigned('stranger.test');
    const [cert, key] = [join(folder, 'stranger.pem'), join(folder, 'stranger.key')];
    await writeFile(cert, stranger.chain);
    await writeFile(key, stranger.key);
    const { status, output } = await swaks('evil@dane-ee.test', '--tls', '--tls-cert', cert, '--tls-key', key);
    expect(status).not.toBe(0);
    expect(output).toMatch(/530[ -]5\.7\.0.*sha256\//s);
    expect(mailTo(lab.mailboxes(), 'evil@dane-ee.test')).toEqual([]);
  });
});

describe('smtplib of Python', () => {
  const missing = !existsSync('/usr/bin/python3');
  const why = missing ? ' (skipped: python3 is not installed)' : '';

  test.skipIf(missing)(
    `sends one message to several domains, and learns which recipient is refused${why}`,
    async () => {
      const script = `
import smtplib, ssl, sys
host, port, ca, cert, key = sys.argv[1:]
tls = ssl.create_default_context(cafile=ca)
tls.check_hostname = False
tls.load_cert_chain(cert, key)
with smtplib.SMTP(host, int(port), local_hostname="app.office.test") as smtp:
    smtp.starttls(context=tls)
    text = "Subject: by smtplib\\r\\n\\r\\n.dot\\r\\nline\\r\\n"
    print(smtp.sendmail("${SENDER}", ["py@dane-ee.test", "py@dane-ta.test", "py-without-domain"], text))
`;
      const file = join(folder, 'send.py');
      await writeFile(file, script);
      const { certFile, keyFile } = relay.client;
      const words = [relay.address, String(relay.port), relay.certificate, certFile, keyFile];
      const { status, output } = await program('/usr/bin/python3', file, ...words);
      expect(status, output).toBe(0);
      expect(output).toMatch(/\{'py-without-domain': \(501, b'5\.1\.3/);
      expect(await delivered('py@dane-ee.test')).toContain('\r\n\r\n.dot\r\nline\r\n');
      expect(await delivered('py@dane-ta.test')).toContain('Subject: by smtplib');
    },
  );
});
