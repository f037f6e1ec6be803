/** A receiver whose connections are counted elsewhere, as in a worker: the answer whether one may come in comes later. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Entrance } from '../../src/receive/gate.ts';
import { type Refusal, refuse } from '../../src/receive/refusal.ts';
import { SmtpClient } from '../support/smtp-client.ts';
import { type Fixture, start, until } from './fixture.ts';

let fixture: Fixture;
let door: Server;
/** What the gate was asked and has not answered yet. */
let asked: ((answer: Refusal | null) => void)[];
let left: number;

beforeEach(async () => {
  asked = [];
  left = 0;
  const gate: Entrance = {
    setLimits: () => undefined,
    enter: () => new Promise((resolve) => asked.push(resolve)),
    leave: () => void left++,
  };
  fixture = await start({ supervised: { gate, rates: { take: () => true } } });
  door = createServer({ pauseOnConnect: true }, (socket) => fixture.receiver.take(socket, 1));
  door.listen(0, '127.0.0.1');
  await once(door, 'listening');
});

afterEach(async () => {
  await fixture.stop();
  door.close();
});

const port = (): number => (door.address() as AddressInfo).port;

async function answer(refusal: Refusal | null): Promise<void> {
  await until(async () => asked.length > 0);
  asked.shift()?.(refusal);
}

test('TLS from the start: the handshake waits for the gate, and mail goes in', async () => {
  const connecting = SmtpClient.connect({ port: port(), tls: {} });
  await answer(null);
  const client = await connecting;
  expect(await client.reply()).toMatchObject({ code: 220 });
  await client.hello();
  expect(await client.send('a@a.test', ['b@b.test'], 'x\r\n')).toMatchObject({ code: 250 });
  client.destroy();
  await until(async () => left === 1);
});

test('TLS from the start: who is refused hears it under TLS, and was never inside', async () => {
  const connecting = SmtpClient.connect({ port: port(), tls: {} });
  await answer(refuse('too-many-connections', '1 is allowed'));
  const client = await connecting;
  expect(await client.reply()).toMatchObject({ code: 421, status: '4.7.0' });
  await client.closed();
  expect(left).toBe(0);
});

test('TLS from the start: who leaves while the gate is asked leaves no place taken', async () => {
  for (const goodbye of ['destroy', 'resetAndDestroy'] as const) {
    const client = await SmtpClient.connect({ port: port() });
    await until(async () => asked.length > 0);
    client.socket[goodbye]();
    await answer(null);
  }
  await until(async () => left === 2);
});
