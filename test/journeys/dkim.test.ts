/** DKIM through the whole relay: a client's socket, the queue on disk, TLS, and what two verifiers say at the far end. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { runCommand } from '../../lab/relay.ts';
import { publicPart, recordText } from '../../src/sign/keys-record.ts';
import { byDkimpy, byMailauth } from '../support/dkim-verifiers.ts';
import { message as dnsMessage, RCODE, rr, startFakeDns, TYPE, wireName } from '../support/fake-dns.ts';
import { openRelayScene, type RelayScene, stuffed } from '../support/relay-scene.ts';
import type { SmtpClient } from '../support/smtp-client.ts';
import type { ReceivedMessage } from '../support/smtp-host.ts';

const dir = mkdtempSync(join(tmpdir(), 'dane-dkim-'));
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
const ed25519 = generateKeyPairSync('ed25519').privateKey;
const written = (name: string, key: KeyObject): string => {
  const path = join(dir, name);
  writeFileSync(path, key.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  return path;
};
const RSA_RECORD = recordText('rsa-sha256', publicPart(rsa, 'rsa-sha256'));
const RECORDS = {
  's1._domainkey.example.nl': RSA_RECORD,
  's2._domainkey.example.nl': recordText('ed25519-sha256', publicPart(ed25519, 'ed25519-sha256')),
  's1._domainkey.relay.example.nl': RSA_RECORD,
};
const BOTH = ['rsa-sha256 example.nl/s1 pass', 'ed25519-sha256 example.nl/s2 pass'];

let scene: RelayScene;
let client: SmtpClient;
let lost: string;
/** Until then whoever has "later" in the address takes nothing. */
let laterUntil = 0;

beforeAll(async () => {
  const [s1, s2] = [written('s1.pem', rsa), written('s2.pem', ed25519)];
  lost = written('lost.pem', ed25519);
  chmodSync(lost, 0o644);
  scene = await openRelayScene(
    {
      hostname: 'relay.example.nl',
      queue: { retry: ['300ms'], lifetime: '1m' },
      dkim: [
        { domain: 'example.nl', selector: 's1', key: s1 },
        { domain: 'example.nl', selector: 's2', key: s2 },
        { domain: 'relay.example.nl', selector: 's1', key: s1 },
        { domain: 'lost.example', selector: 's1', key: lost },
        { domain: 'lenient.example', selector: 's1', key: lost, required: false },
        { domain: 'new.example', managed: true },
      ],
    },
    {
      extensions: ['SIZE 60000000', '8BITMIME', 'PIPELINING', 'SMTPUTF8'],
      rcpt: (address) => {
        if (address.includes('nobody')) return '550 no';
        return address.includes('later') && Date.now() < laterUntil ? '450 4.2.0 later' : '250 ok';
      },
    },
  );
  client = await scene.greeted();
});
afterAll(async () => {
  await scene?.end();
  rmSync(dir, { recursive: true, force: true });
});

/** Sends a message and waits until the host has it. */
async function passed(from: string, content: string, to = 'b@out.test'): Promise<ReceivedMessage> {
  const before = scene.host.messages.length;
  expect(await client.send('a@example.nl', [to], stuffed(Buffer.from(`${from}${content}`)))).toMatchObject({
    code: 250,
  });
  await expect.poll(() => scene.host.messages.length, { interval: 10 }).toBe(before + 1);
  return scene.host.messages[before] as ReceivedMessage;
}

const last = () => scene.relay.events().findLast(({ event }) => event === 'delivered');

test('DKIM-18 both signatures hold at the far end, the log names them, and the size that is announced is what comes', async () => {
  const content = 'Subject: \u00e9\r\nTo: b@out.test\r\n\r\n.\r\n..dots \t and spaces \r\n\r\n\r\n';
  const message = await passed('From: <piet@example.nl>\r\n', content);
  const all = { message: message.content, records: RECORDS };
  expect(await byMailauth(all)).toEqual(BOTH);
  expect(await byDkimpy([{ ...all, signatures: 2 }])).toEqual([BOTH]);
  expect(message.content.toString()).toMatch(/^DKIM-Signature: v=1; a=rsa-sha256;/);
  expect(message.content.toString().endsWith(content)).toBe(true);
  expect(Number(/SIZE=(\d+)/.exec(message.mail)?.[1])).toBe(message.content.length);
  await expect.poll(last).toMatchObject({ dkim: ['example.nl/s1', 'example.nl/s2'] });
});

test('DKIM-18 a message of 5 MB, which comes from a file, is signed as well', async () => {
  const message = await passed('From: <piet@example.nl>\r\n', `\r\n${'0123456789 abcdef\t\r\n'.repeat(250_000)}`);
  const all = { message: message.content, records: RECORDS };
  expect(await byMailauth(all)).toEqual(BOTH);
  expect(message.content.length).toBeGreaterThan(4.7e6);
});

test('DKIM-19 copies for two domains carry the same signatures, even where the second leaves in another second', async () => {
  const before = scene.host.messages.length;
  laterUntil = Date.now() + 1_200;
  await client.send('a@example.nl', ['b@first.test', 'later@second.test'], 'From: <piet@example.nl>\r\n\r\nHello.\r\n');
  await expect.poll(() => scene.host.messages.length, { interval: 10 }).toBe(before + 2);
  const copies = scene.host.messages.slice(before);
  const signatures = copies.map(({ content }) => content.toString().split('Received:')[0]);
  expect(signatures[0]).toContain('DKIM-Signature');
  expect(signatures[1]).toBe(signatures[0]);
  for (const { content } of copies) expect(await byMailauth({ message: content, records: RECORDS })).toEqual(BOTH);
});

test('DKIM-18 mail of others passes octet for octet, and mail whose author is unclear is told of in the log', async () => {
  const others = await passed('From: <piet@other.example>\r\n', '\r\nHello.\r\n');
  expect(others.content.toString()).not.toContain('DKIM-Signature');
  await expect.poll(() => last()?.dkim).toBe(undefined);
  const several = await passed('From: <a@example.nl>\r\nFrom: <b@example.nl>\r\n', '\r\nHello.\r\n', 'c@out.test');
  expect(several.content.toString()).not.toContain('DKIM-Signature');
  await expect.poll(last).toMatchObject({ recipient: 'c@out.test', notSigned: 'it has several From fields' });
  const unmade = await passed('From: <a@new.example>\r\n', '\r\nHello.\r\n', 'd@out.test');
  expect(unmade.content.toString()).not.toContain('DKIM-Signature');
  const why = 'new.example has no keys yet: run "dane-relay dkim new new.example"';
  await expect.poll(last).toMatchObject({ recipient: 'd@out.test', notSigned: why });
});

test('DKIM-07 a domain whose key cannot be used has its mail waiting, unless it may leave; a repaired key is found by itself', async () => {
  const lenient = await passed('From: <a@lenient.example>\r\n', '\r\nHello.\r\n');
  expect(lenient.content.toString()).not.toContain('DKIM-Signature');
  const before = scene.host.messages.length;
  await client.send('a@lost.example', ['lost@out.test'], 'From: <a@lost.example>\r\n\r\nHello.\r\n');
  const event = await scene.relay.untilEvent(({ recipient }) => recipient === 'lost@out.test');
  expect(event).toMatchObject({ event: 'deferred', code: 'dkim-key-unusable', status: '4.3.5' });
  expect(event.explanation).toContain(`run chmod 600 ${lost}`);
  expect(scene.host.messages).toHaveLength(before);
  chmodSync(lost, 0o600);
  await scene.relay.untilEvent(({ recipient, event: what }) => recipient === 'lost@out.test' && what === 'delivered');
  expect(scene.host.messages.at(-1)?.content.toString()).toContain('DKIM-Signature');
});

test('DKIM-18 a bounce of the relay itself is signed for its own name', async () => {
  const before = scene.host.messages.length;
  await client.send('a@example.nl', ['nobody@out.test'], 'From: <piet@example.nl>\r\n\r\nHello.\r\n');
  await expect.poll(() => scene.host.messages.length, { interval: 10 }).toBe(before + 1);
  const bounce = scene.host.messages[before] as ReceivedMessage;
  expect(bounce.mail).toContain('FROM:<>');
  expect(await byMailauth({ message: bounce.content, records: RECORDS })).toEqual([
    'rsa-sha256 relay.example.nl/s1 pass',
  ]);
});

test('DKIM-13 DKIM-16 the command line tells what is wrong and what to publish', async () => {
  const { relay } = scene;
  const list = await relay.command('dkim', 'list', '--json');
  expect([list.status, list.stderr]).toEqual([
    0,
    'dane-relay: new.example has no keys yet: run "dane-relay dkim new new.example"\n',
  ]);
  expect(await relay.command('dkim', 'dns', 'new.example')).toMatchObject({
    status: 1,
    stdout: 'There are no keys.\n',
  });
  expect(await relay.command('dkim', 'check', 'other.example')).toMatchObject({
    status: 2,
    stderr: 'dane-relay: the configuration has no line for other.example under "dkim"\n',
  });
  expect((await relay.command('check')).stdout).toContain(
    'nothing signs for new.example: "dane-relay dkim rotate new.example" is the next step',
  );
  const made = await relay.command('dkim', 'new', 'new.example', '--json');
  expect(made.status).toBe(0);
  expect(JSON.parse(made.stdout)).toMatchObject({
    done: true,
    entries: [{ state: 'next', algorithm: 'rsa-sha256' }, {}],
  });
  const dns = await relay.command('dkim', 'dns', 'new.example');
  expect(dns.stdout).toMatch(/_domainkey\.new\.example\. IN TXT \( "v=DKIM1; k=rsa; p=/);
  expect((await relay.command('dkim', 'retire', 'new.example')).status).toBe(1);
  for (const change of ['new', 'rotate', 'retire']) {
    const { status, stderr } = await relay.command('dkim', change, 'other.example');
    expect([status, stderr]).toEqual([2, expect.stringContaining('does not manage keys for other.example')]);
  }
  expect((await relay.command('dkim', 'new', 'a b')).status).toBe(2);
});

test('DKIM-09 what a resolver shows that does not validate lets no key sign, whoever asks for it', async () => {
  const records = new Map<string, string>();
  let validates = false;
  const dns = await startFakeDns((query) => {
    const text = records.get(query.name);
    if (query.type === TYPE.NS) {
      return dnsMessage(query, { ad: validates, answers: [rr('', TYPE.NS, wireName('ns.test'))] });
    }
    if (text === undefined) return dnsMessage(query, { rcode: RCODE.NXDOMAIN });
    const strings = (text.match(/.{1,200}/g) ?? []).map((part) =>
      Buffer.from(`${String.fromCharCode(part.length)}${part}`, 'latin1'),
    );
    return dnsMessage(query, { answers: [rr(query.name, TYPE.TXT, Buffer.concat(strings))] });
  });
  onTestFinished(dns.close);
  const state = mkdtempSync(join(tmpdir(), 'dane-dkim-'));
  onTestFinished(() => rmSync(state, { recursive: true, force: true }));
  const config = join(state, 'relay.yaml');
  const resolver = { address: `127.0.0.1:${dns.server.port}`, probe: { signed: '.', bogus: ['bogus.test'] } };
  writeFileSync(config, JSON.stringify({ state, resolver, dkim: [{ domain: 'm.example', managed: true }] }));
  const dkim = (...words: string[]) => runCommand('dkim', ...words, '--config', config);

  const made = JSON.parse((await dkim('new', 'm.example', '--json')).stdout);
  for (const { name, text } of made.entries) records.set(name, text);
  const refused = await dkim('rotate', 'm.example');
  expect(refused).toMatchObject({
    status: 1,
    stdout: expect.stringContaining('DNS could not be asked: the resolver does not validate DNSSEC'),
    stderr: 'dane-relay: the next keys cannot sign before DNS shows both of their records\n',
  });
  validates = true;
  expect((await dkim('rotate', 'm.example')).status).toBe(0);
  expect(await dkim('check', 'm.example')).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^ok .* rsa-sha256 .* signs .* DNS shows its record\nok .* ed25519-sha256 .*\n$/),
  });
});

test('DKIM-16 a check without a resolver that answers ends soon, and says that nothing is known', async () => {
  const refused = await scene.relay.command('dkim', 'check', 'example.nl');
  expect(refused).toMatchObject({ status: 3, stdout: '' });
  expect(refused.stderr).toMatch(/^dane-relay: what DNS shows is not known: the resolver cannot be reached .*\n$/);

  const silent = createSocket('udp4');
  await new Promise<void>((resolve) => silent.bind(0, '127.0.0.1', resolve));
  onTestFinished(() => void silent.close());
  const address = `127.0.0.1:${silent.address().port}`;
  const settings = JSON.parse(readFileSync(scene.relay.config, 'utf8'));
  const config = join(dir, 'silent.yaml');
  writeFileSync(config, JSON.stringify({ ...settings, resolver: { ...settings.resolver, address } }));
  const check = await runCommand('dkim', 'check', 'example.nl', '--config', config);
  expect(check).toEqual({
    status: 3,
    stdout: '',
    stderr: `dane-relay: what DNS shows is not known: the resolver at ${address} has not answered in 4 s; is it running?\n`,
  });
});
