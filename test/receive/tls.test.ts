import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { OwnCertificate } from '../../src/receive/own-certificate.ts';
import { spkiPin } from '../../src/shared/spki.ts';
import { SmtpClient } from '../support/smtp-client.ts';
import { ANYBODY, type Fixture, newCertificate, start } from './fixture.ts';

let fixture: Fixture;
let known: OwnCertificate;
let next: OwnCertificate;
let stranger: OwnCertificate;

beforeAll(async () => {
  known = await newCertificate('known.test');
  next = await newCertificate('next.test');
  stranger = await newCertificate('stranger.test');
});
afterEach(async () => fixture.stop());

const pinnedRule = () => ({ ...ANYBODY, name: 'exchange', pins: [known.pin, next.pin], tls: 'required' as const });
const serverPin = (client: SmtpClient): string | null =>
  spkiPin((client.socket as TLSSocket).getPeerX509Certificate()?.raw ?? Buffer.alloc(0));

describe('the certificate of a client', () => {
  test.each([
    ['the known one', () => known, 250],
    ['the next one, in a rollover', () => next, 250],
    ['a stranger’s', () => stranger, 530],
    ['none', () => null, 530],
  ])('after STARTTLS, with TLS 1.2 and 1.3, and from the first octet: %s', async (_, which, code) => {
    fixture = await start({ clients: [pinnedRule()] });
    const shown = which();
    const own = shown ? { cert: shown.cert, key: shown.key } : {};
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const tls = { ...own, minVersion: version, maxVersion: version };
      const upgraded = await fixture.greeted();
      await upgraded.startTls(tls);
      const implicit = await fixture.secure(tls);
      for (const client of [upgraded, implicit]) {
        const reply = await client.one('MAIL FROM:<a@a.test>');
        expect(reply.code).toBe(code);
        if (code === 530) expect(reply.status).toBe('5.7.0');
        if (code === 530 && shown) expect(reply.text).toContain(shown.pin);
      }
    }
  });

  test('is in the log with its pin, for what was accepted and for what was refused', async () => {
    fixture = await start({ clients: [pinnedRule()] });
    const good = await fixture.secure({ cert: known.cert, key: known.key });
    await good.send('a@a.test', ['b@b.test'], 'x\r\n');
    const bad = await fixture.secure({ cert: stranger.cert, key: stranger.key });
    await bad.one('MAIL FROM:<a@a.test>');
    expect(fixture.events).toMatchObject([
      {
        event: 'accepted',
        code: 'intake-accepted',
        status: '2.0.0',
        queueId: 'ID1',
        client: 'exchange',
        peer: '127.0.0.1',
        sender: 'a@a.test',
        recipients: 1,
        size: fixture.accepted[0]?.octets.length,
        pin: known.pin,
        tls: { version: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384' },
      },
      { event: 'refused', code: 'client-certificate-unknown', status: '5.7.0', pin: stranger.pin, sender: 'a@a.test' },
    ]);
  });

  test('is shown anew on every connection: no session is resumed', async () => {
    fixture = await start({ clients: [pinnedRule()] });
    for (const shown of [known, stranger]) {
      for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
        const tls = { cert: shown.cert, key: shown.key, minVersion: version, maxVersion: version };
        const first = await fixture.secure(tls);
        const socket = first.socket as TLSSocket;
        let session = socket.getSession();
        socket.on('session', (later) => {
          session = later;
        });
        await first.one('NOOP');
        // Without a certificate of its own now: nothing that was shown before may count.
        const again = await fixture.secure({ minVersion: version, maxVersion: version, ...(session && { session }) });
        const reply = await again.one('MAIL FROM:<a@a.test>');
        const resumed = (again.socket as TLSSocket).isSessionReused();
        expect(resumed).toBe(false);
        expect(reply.code).toBe(530);
      }
    }
  });

  test('REQ-01, REQ-06, REQ-07 what is asked of TLS goes with the message, and stands in the log', async () => {
    fixture = await start({});
    const waived = 'Subject: x\r\nTLS-Required: No\r\n\r\nx\r\n';
    const secure = await fixture.secure({});
    for (const content of ['x\r\n', waived]) {
      await secure.one('MAIL FROM:<a@a.test> REQUIRETLS');
      await secure.one('RCPT TO:<b@b.test>');
      await secure.one('DATA');
      await secure.one(`${content}.`);
    }
    await secure.send('a@a.test', ['b@b.test'], waived);
    await secure.send('a@a.test', ['b@b.test'], 'x\r\n');
    const clear = await fixture.greeted();
    expect(await clear.one('MAIL FROM:<a@a.test> REQUIRETLS')).toMatchObject({ code: 530, status: '5.7.0' });
    await clear.send('a@a.test', ['b@b.test'], waived);
    const tags = fixture.accepted.map(({ envelope }) => envelope.tls);
    expect(tags).toEqual(['required', 'required', 'optional', 'default', 'optional']);
    const logged = fixture.events.filter(({ event }) => event === 'accepted').map(({ tlsWish }) => tlsWish);
    expect(logged).toEqual(['required', 'required', 'optional', undefined, 'optional']);
  });

  test('no message is taken before it was shown', async () => {
    fixture = await start({ clients: [pinnedRule()] });
    const client = await fixture.greeted();
    const reply = await client.one('MAIL FROM:<a@a.test>');
    expect(reply).toMatchObject({ code: 530, status: '5.7.0' });
    expect(reply.text).toContain('Must issue a STARTTLS command first');
    expect(await client.one('RCPT TO:<b@b.test>')).toMatchObject({ code: 503 });
    expect(await client.one('DATA')).toMatchObject({ code: 503 });
    // What was seen in the clear is forgotten with the handshake.
    await client.startTls({ cert: known.cert, key: known.key });
    expect(await client.one('MAIL FROM:<a@a.test>')).toMatchObject({ code: 250 });
  });
});

describe('TLS', () => {
  test('trap 11 the certificate is ours, and TLS below 1.2 is refused', async () => {
    const own = await newCertificate('own.test');
    fixture = await start({ certificate: own });
    expect(serverPin(await fixture.secure())).toBe(own.pin);
    const old = { minVersion: 'TLSv1' as const, maxVersion: 'TLSv1.1' as const, ciphers: 'ALL:@SECLEVEL=0' };
    await expect(fixture.secure(old)).rejects.toThrow();
    const client = await fixture.greeted();
    await expect(client.startTls(old)).rejects.toThrow();
  });

  test('another certificate can be put in while running; a wrong one is refused and changes nothing', async () => {
    fixture = await start();
    const before = await fixture.secure();
    fixture.receiver.setCertificate(next);
    expect(serverPin(await fixture.secure())).toBe(next.pin);
    expect(() => fixture.receiver.setCertificate({ cert: known.cert, key: next.key })).toThrow();
    expect(() => fixture.receiver.setCertificate({ cert: 'x', key: 'y' })).toThrow();
    const client = await fixture.greeted();
    await client.startTls();
    expect(serverPin(client)).toBe(next.pin);
    expect(await before.one('NOOP')).toMatchObject({ code: 250 });
  });

  test('INJ-01 what was sent behind STARTTLS in the clear is never a command', async () => {
    fixture = await start();
    const client = await fixture.greeted();
    const injected = 'MAIL FROM:<evil@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nx\r\n.\r\n'.repeat(200);
    // The first reply after the handshake must be that to our own EHLO.
    expect((await client.startTls({}, injected)).text).toContain('PIPELINING');
    expect(await client.one('DATA')).toMatchObject({ code: 503 });
    expect(await client.send('a@a.test', ['b@b.test'], 'x\r\n')).toMatchObject({ code: 250 });
    expect(fixture.accepted.map(({ envelope }) => envelope.sender)).toEqual(['a@a.test']);
  });

  test('INJ-01 nothing that was said before STARTTLS counts after it', async () => {
    fixture = await start();
    const client = await fixture.greeted();
    await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>');
    client.raw('STARTTLS\r\n');
    await client.reply();
    await client.secure();
    expect(await client.one('DATA')).toMatchObject({ code: 503 });
    expect((await client.one('MAIL FROM:<a@a.test>')).text).toContain('say EHLO first');
  });

  test('STARTTLS is for once, without an argument', async () => {
    fixture = await start();
    const client = await fixture.greeted();
    expect(await client.one('STARTTLS now')).toMatchObject({ code: 501, status: '5.5.4' });
    await client.startTls();
    expect(await client.one('STARTTLS')).toMatchObject({ code: 503, status: '5.5.1' });
  });

  test('a client that breaks the handshake off, or sends something else, harms nobody', async () => {
    fixture = await start();
    for (const octets of ['', 'EHLO x\r\n', '\x16\x03\x01\x00\x05hello']) {
      const client = await fixture.greeted();
      client.raw('STARTTLS\r\n');
      await client.reply();
      client.raw(octets);
      client.socket.end();
      await client.closed();
    }
    const client = await fixture.greeted();
    expect(await client.one('NOOP')).toMatchObject({ code: 250 });
  });

  test('renegotiation is off', async () => {
    fixture = await start();
    const dir = mkdtempSync(join(tmpdir(), 'dane-relay-reneg-'));
    try {
      const child = spawn('openssl', ['s_client', '-connect', `127.0.0.1:${fixture.tlsPort}`, '-tls1_2'], { cwd: dir });
      let output = '';
      let asked = false;
      const listen = (chunk: Buffer): void => {
        output += chunk.toString();
        if (!asked && output.includes('220 relay.test')) {
          asked = true;
          child.stdin.write('R\n');
        }
      };
      child.stdout.on('data', listen);
      child.stderr.on('data', listen);
      await new Promise((resolve) => child.once('close', resolve));
      expect(output).toContain('RENEGOTIATING');
      expect(output).toMatch(/no renegotiation|handshake failure|alert/);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  test('a handshake before the greeting has its time too, however it drips in', async () => {
    fixture = await start({ limits: { idleMs: 1_500 } });
    const client = await SmtpClient.connect({ port: fixture.tlsPort });
    client.raw(Buffer.from('1603010200', 'hex'));
    const drip = setInterval(() => client.raw('\x01'), 20);
    await client.closed();
    clearInterval(drip);
    client.destroy();
    expect((await fixture.secure()).socket.destroyed).toBe(false);
  });
});
