/**
 * Postfix and Exim as the mail hosts of recipients, with TLSA records: the acceptance of the whole thing. What arrives
 * is compared octet for octet; what must not arrive is counted.
 */
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Identity } from '../../lab/certificates.ts';
import { send } from '../../lab/client.ts';
import { type Lab, startLab } from '../../lab/lab.ts';
import { type RunningRelay, startRelay } from '../../lab/relay.ts';
import { type Destination, goodHost, HOME, WORLD } from '../../lab/world.ts';
import { EXIM, startExim } from './exim.ts';
import { POSTFIX, startPostfix, userNamed } from './postfix.ts';
import { isEnd, whyNot, withoutTrace } from './support.ts';

/** A mail host of the kind under test, and what has arrived there. */
interface Running {
  readonly mailbox: () => Promise<readonly Buffer[]>;
  readonly log: () => Promise<string>;
  readonly stop: () => Promise<void>;
}

interface Place {
  readonly dir: string;
  readonly address: string;
  readonly port: number;
  readonly domain: string;
  readonly identity: Identity;
}

async function receivingPostfix({ dir, address, port, domain, identity }: Place): Promise<Running> {
  const { uid, gid } = await userNamed('postfix');
  const chain = join(dir, 'host.pem');
  const mail = join(dir, 'mail');
  await mkdir(mail, { recursive: true });
  await chown(mail, uid, gid);
  await writeFile(chain, `${identity.key}${identity.chain}`, { mode: 0o600 });
  const postfix = await startPostfix({
    dir,
    address,
    port,
    settings: [
      `myhostname = mx.${domain}`,
      `virtual_mailbox_domains = ${domain}`,
      `virtual_mailbox_base = ${mail}`,
      // One folder for everybody, which virtual(8) makes.
      'virtual_mailbox_maps = static:inbox/',
      `virtual_uid_maps = static:${uid}`,
      `virtual_gid_maps = static:${gid}`,
      'virtual_minimum_uid = 1',
      'smtpd_tls_security_level = may',
      'smtpd_tls_loglevel = 1',
      `smtpd_tls_chain_files = ${chain}`,
      'smtpd_recipient_restrictions = reject_unauth_destination',
    ],
  });
  const inbox = join(mail, 'inbox', 'new');
  return {
    ...postfix,
    mailbox: async () => {
      const names = await readdir(inbox).catch((): string[] => []);
      return Promise.all(names.map((name) => readFile(join(inbox, name))));
    },
  };
}

const HOSTS = [
  { software: 'Postfix', domain: 'postfix.test', program: POSTFIX, start: receivingPostfix },
  { software: 'Exim', domain: 'exim.test', program: EXIM, start: startExim },
];

const MESSAGE = [
  `From: Alice <alice@${HOME}>`,
  'To: Bob <bob@example.test>',
  'Date: Sun, 01 Nov 2026 10:00:00 +0100',
  'Message-ID: <1@office.test>',
  'Subject: =?utf-8?q?Caf=C3=A9?=',
  'MIME-Version: 1.0',
  'Content-Type: text/plain; charset=utf-8',
  'Content-Transfer-Encoding: 8bit',
  '',
  '.',
  '..two dots',
  'Café, één, 漢字',
  `${'long '.repeat(190)}line`,
  '  trailing blanks  \t',
  '',
  'From here on: not a separator',
  '',
].join('\r\n');

describe.each(HOSTS)('$software as a receiving host', ({ software, domain, program, start }) => {
  const excuse = whyNot(program);
  const host = `mx.${domain}`;
  let folder = '';
  let lab: Lab;
  let relay: RunningRelay;
  let running: Running | null = null;

  beforeAll(async () => {
    if (excuse) return;
    folder = await mkdtemp(join(tmpdir(), 'dane-peer-'));
    const world: Destination[] = [
      {
        domain,
        tells: `${software} with TLSA 3 1 1`,
        because: '',
        dnssec: 'signed',
        hosts: [goodHost(domain, { elsewhere: true })],
        expect: { event: 'delivered', code: 'dane-ee', verdict: 'authenticated', arrivesAt: [host], notDialled: [] },
      },
      ...WORLD.filter((destination) => destination.domain === HOME),
    ];
    lab = await startLab({ world });
    relay = await startRelay({ lab, dir: join(folder, 'relay'), config: { queue: { retry: ['1h'] } } });
    running = await startHost();
  });

  afterAll(async () => {
    if (excuse) return;
    await running?.stop();
    await relay.stop();
    await lab.stop();
    await rm(folder, { recursive: true, force: true });
  });

  async function startHost(): Promise<Running> {
    const dir = join(folder, 'host');
    await mkdir(dir, { recursive: true });
    await chmod(folder, 0o755);
    return start({ dir, address: lab.address(host), port: lab.port, domain, identity: lab.identity(host) });
  }

  const post = (recipient: string): Promise<unknown> =>
    send(relay, relay.client, { sender: `alice@${HOME}`, recipients: [recipient], content: MESSAGE });

  async function arrived(): Promise<readonly string[]> {
    return ((await running?.mailbox()) ?? []).map((mail) => withoutTrace(mail).toString('latin1'));
  }

  test.skipIf(excuse)(`mail arrives octet for octet, and the log says authenticated${excuse}`, async () => {
    await post(`first@${domain}`);
    const event = await relay.untilEvent((each) => isEnd(each) && each.recipient === `first@${domain}`);
    expect(event, await running?.log()).toMatchObject({
      event: 'delivered',
      code: 'dane-ee',
      verdict: 'authenticated',
      policy: 'dane',
      host,
      dnssec: { mx: 'secure', address: 'secure', tlsa: 'secure' },
      tls: { version: 'TLSv1.3' },
    });
    await expect.poll(arrived).toHaveLength(1);
    const inFile = Buffer.from(MESSAGE).toString('latin1').replaceAll('\r\n', '\n');
    expect(await arrived()).toEqual([inFile]);
  });

  test.skipIf(excuse)(
    `with another certificate the next message waits; with its record published, queue retry delivers it${excuse}`,
    async () => {
      const before = (await arrived()).length;
      await running?.stop();
      await lab.replaceCertificate(host);
      running = await startHost();
      await post(`second@${domain}`);
      const waits = await relay.untilEvent((each) => isEnd(each) && each.recipient === `second@${domain}`);
      expect(waits).toMatchObject({
        event: 'deferred',
        code: 'tlsa-mismatch',
        status: '4.7.5',
        verdict: 'failed',
        host,
      });
      expect(await arrived()).toHaveLength(before);

      const explained = await relay.command('explain', domain, '--connect', '--json');
      expect(explained.status).toBe(1);
      expect(JSON.parse(explained.stdout)).toMatchObject({ outcome: 'deferred', code: 'tlsa-mismatch' });
      const listed = await relay.command('queue', 'list', '--json');
      expect(JSON.parse(listed.stdout)).toMatchObject([{ recipient: `second@${domain}`, code: 'tlsa-mismatch' }]);

      await lab.publishTlsa(host);
      const retried = await relay.command('queue', 'retry', '--domain', domain);
      expect(retried.status, retried.stderr).toBe(0);
      const leaves = await relay.untilEvent(
        (each) => each.event === 'delivered' && each.recipient === `second@${domain}`,
      );
      expect(leaves).toMatchObject({ code: 'dane-ee', verdict: 'authenticated' });
      await expect.poll(arrived).toHaveLength(before + 1);
    },
  );
});
