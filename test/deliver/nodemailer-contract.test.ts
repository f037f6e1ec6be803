/** What src/deliver/smtp-connection.ts takes for granted of nodemailer's insides. A new version must pass this first. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { TLSSocket } from 'node:tls';
import SMTPConnection from 'nodemailer/lib/smtp-connection';
import { expect, onTestFinished, test } from 'vitest';
import { startSmtpHost } from '../support/smtp-host.ts';
import { tls } from './scene.ts';

/** The replaced methods, as a recorder: it counts who is called, and goes on as nodemailer would. */
class Recorder extends (SMTPConnection as unknown as new (
  options: object,
) => SMTPConnection & {
  _destroyed: boolean;
  _sendCommand(line: string): void;
  _upgradeConnection(callback: (error: Error | null, secured?: boolean) => void): void;
  _onConnect(): void;
}) {
  readonly calls: string[] = [];
  override _onConnect(): void {
    this.calls.push('connect');
    super._onConnect();
  }
  _startPhase(): void {
    this.calls.push('phase');
  }
  _onData(chunk: Buffer): void {
    this.calls.push(`data ${chunk.toString().slice(0, 3)}`);
    this.emit('heard');
  }
  _onError(error: Error & { code?: string }): void {
    this.calls.push(`error ${error.code}`);
    this.emit('heard');
  }
  _onClose(): void {
    this.calls.push('close');
    this.emit('heard');
  }
  _onTimeout(): void {
    this.calls.push('timeout');
    this.emit('heard');
  }
}

const heard = (connection: Recorder): Promise<void> => new Promise((resolve) => connection.once('heard', resolve));

async function connected(options: object = {}): Promise<Recorder> {
  const host = await startSmtpHost({ tls });
  const connection = new Recorder({
    host: host.address,
    port: host.port,
    secure: false,
    name: 'relay.example.nl',
    ...options,
  });
  onTestFinished(async () => {
    connection.close();
    await host.close();
  });
  connection.connect();
  await heard(connection);
  return connection;
}

test('it is the version that was read', () => {
  const file = createRequire(import.meta.url).resolve('nodemailer/package.json');
  expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({ version: '10.6.0' });
});

test('the events of the socket come through the methods that are replaced, and no reply is read elsewhere', async () => {
  const connection = await connected();
  expect(connection.calls.filter((call) => call !== 'phase')).toEqual(['connect', 'data 220']);
  connection._sendCommand('EHLO relay.example.nl');
  await heard(connection);
  expect(connection.calls.at(-1)).toBe('data 250');
  connection._sendCommand('QUIT');
  await heard(connection);
  await heard(connection);
  expect(connection.calls.slice(-2)).toEqual(['data 221', 'close']);
});

test('its own timers of the phases are set through _startPhase alone', async () => {
  const connection = await connected({ greetingTimeout: 1, connectionTimeout: 1000 });
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(connection.calls.filter((call) => call !== 'phase')).toEqual(['connect', 'data 220']);
});

test('socketTimeout is the inactivity of the socket, told to _onTimeout', async () => {
  const connection = await connected({ socketTimeout: 20 });
  await heard(connection);
  expect(connection.calls.at(-1)).toBe('timeout');
});

test('_upgradeConnection hands over a TLS socket whose data come to _onData, before anything is said on it', async () => {
  const connection = await connected({ tls: { rejectUnauthorized: false, servername: 'mx.example.test' } });
  connection._sendCommand('STARTTLS');
  await heard(connection);
  await new Promise<void>((resolve, reject) => {
    connection._upgradeConnection((error) => (error ? reject(error) : resolve()));
  });
  expect(connection._socket).toBeInstanceOf(TLSSocket);
  expect(connection.secure).toBe(true);
  expect(connection._socket instanceof TLSSocket && connection._socket.servername).toBe('mx.example.test');
  expect(connection._socket instanceof TLSSocket && connection._socket.getPeerX509Certificate()).toBeTruthy();
  expect(connection.calls.at(-2)).toBe('data 220');
  connection._sendCommand('EHLO relay.example.nl');
  await heard(connection);
  expect(connection.calls.at(-1)).toBe('data 250');
});

test('a failed handshake comes to _onError', async () => {
  const host = await startSmtpHost({ tls, handshake: 'garbage' });
  const connection = new Recorder({ host: host.address, port: host.port, secure: false });
  onTestFinished(async () => {
    connection.close();
    await host.close();
  });
  connection.connect();
  await heard(connection);
  connection._sendCommand('STARTTLS');
  await heard(connection);
  connection._upgradeConnection(() => expect.unreachable('there is no TLS'));
  await heard(connection);
  expect(connection.calls.at(-1)).toMatch(/^error ERR_SSL/);
});

test('close emits end once and marks the connection as destroyed', async () => {
  const connection = await connected();
  let ends = 0;
  connection.on('end', () => ends++);
  connection.close();
  connection.close();
  expect(ends).toBe(1);
  expect(connection._destroyed).toBe(true);
});

test('an address is taken as it is, without any lookup', async () => {
  const connection = await connected();
  expect(connection._socket).toMatchObject({ remoteAddress: '127.0.0.1' });
});
