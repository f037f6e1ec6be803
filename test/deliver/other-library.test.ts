/** A mail host made with smtp-server, so with somebody else's reading of the protocol: what it gets is what was sent. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { SMTPServer } from 'smtp-server';
import { expect, onTestFinished, test } from 'vitest';
import { dane, encrypt, other, recordFor, scene, tls, told } from './scene.ts';

interface Taken {
  readonly to: readonly string[];
  readonly underTls: boolean;
  readonly content: string;
}

async function startServer(): Promise<{ readonly port: number; readonly taken: readonly Taken[] }> {
  const taken: Taken[] = [];
  const server = new SMTPServer({
    ...tls,
    authOptional: true,
    disabledCommands: ['AUTH'],
    disableReverseLookup: true,
    onData(stream, { envelope, secure }, done) {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.once('end', () => {
        const to = envelope.rcptTo.map(({ address }) => address);
        taken.push({ to, underTls: secure, content: Buffer.concat(chunks).toString('latin1') });
        done();
      });
    },
  });
  server.on('error', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server.server, 'listening');
  onTestFinished(() => new Promise<void>((resolve) => void server.close(() => resolve())));
  return { port: (server.server.address() as AddressInfo).port, taken };
}

test('CONN-01 SMUG-03 content with dots arrives octet for octet, message after message on one connection', async () => {
  const { port, taken } = await startServer();
  const message = Buffer.from('Subject: dots\r\n\r\n.\r\n..\r\n.foo\r\nlast\r\n');
  const { deliver } = await scene({ message, recipients: ['one@example.test', 'two@example.test'] });
  for (let round = 0; round < 3; round++) {
    expect(told(await deliver({ port }))).toBe('delivered 2.0.0 remote-accepted, delivered 2.0.0 remote-accepted');
  }
  const arrived = { to: ['one@example.test', 'two@example.test'], underTls: true, content: message.toString('latin1') };
  expect(taken).toEqual([arrived, arrived, arrived]);
});

test('CONN-02 a key that was not published: nothing arrives; where only TLS is asked it does', async () => {
  const { port, taken } = await startServer();
  const { deliver } = await scene();
  const policy = { ...dane, records: [recordFor(other)] };
  expect(told(await deliver({ port, policy }))).toBe('useless tlsa-mismatch');
  expect(taken).toEqual([]);
  expect(told(await deliver({ port, policy: encrypt }))).toBe('delivered 2.0.0 remote-accepted');
  expect(taken).toHaveLength(1);
});
