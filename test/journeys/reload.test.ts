/** A new configuration while the relay runs: `dane-relay reload` says what came of it, and nobody loses a connection. */
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { askRelay } from '../../src/assembly/control.ts';
import type { ReloadAnswer } from '../../src/cli/reload.ts';
import { openRelayScene, type RelayScene, until } from '../support/relay-scene.ts';

let scene: RelayScene;
beforeAll(async () => {
  scene = await openRelayScene();
});
afterAll(async () => scene?.end());

const read = async () => JSON.parse(await readFile(scene.relay.config, 'utf8'));
const write = async (change: object) => writeFile(scene.relay.config, JSON.stringify({ ...(await read()), ...change }));

test('a message under way goes on, and the conversation has the new limits from then on', async () => {
  const client = await scene.greeted();
  await client.startTls();
  await client.say('MAIL FROM:<a@in.test>', 'RCPT TO:<b@out.test>', 'DATA');
  client.raw('Subject: first half\r\n\r\n');
  await write({ intake: { messageSize: '64kB' }, log: { level: 'debug' }, delivery: { connectionsPerHost: 3 } });
  const { status, stdout, stderr } = await scene.relay.command('reload');
  expect([status, stderr]).toEqual([0, '']);
  expect(stdout).toBe(`The relay took over ${scene.relay.config}.\n`);

  // What it began with holds for this message.
  client.raw(`second half\r\n${'x'.repeat(70)}\r\n${`${'y'.repeat(998)}\r\n`.repeat(100)}.\r\n`);
  expect(await client.reply()).toMatchObject({ code: 250 });
  expect((await client.hello()).text).toContain('SIZE 64000');
  await until(() => scene.host.messages.some(({ content }) => content.includes('second half')));
  await client.say('MAIL FROM:<a@in.test>', 'RCPT TO:<b@out.test>', 'DATA');
  client.destroy();
  await scene.relay.untilOutput(/"level":"debug".*a client left before its message was complete/);
});

test('a permission that was taken away counts from the next message on, also in an open connection', async () => {
  const client = await scene.greeted();
  const { clients } = await read();
  await write({ clients: [] });
  expect((await scene.relay.command('reload')).status).toBe(0);
  expect(await client.one('MAIL FROM:<a@in.test>')).toMatchObject({ code: 554, status: '5.7.1' });
  await write({ clients });
  expect((await scene.relay.command('reload')).status).toBe(0);
  expect(await client.one('MAIL FROM:<a@in.test>')).toMatchObject({ code: 250 });
});

test('retries and lifetime of messages that come from now on', async () => {
  scene.host.change({ rcpt: '451 4.7.1 later' });
  await write({ queue: { retry: ['7m'], lifetime: '2h', delayNotice: 'never' } });
  expect((await scene.relay.command('reload')).status).toBe(0);
  const client = await scene.greeted();
  expect(await client.send('a@in.test', ['late@out.test'], 'Subject: x\r\n\r\n')).toMatchObject({ code: 250 });
  await scene.relay.untilEvent(({ recipient }) => recipient === 'late@out.test');
  const [entry] = JSON.parse((await scene.relay.command('queue', 'list', '--json')).stdout);
  const minutes = (from: string, to: string) => (Date.parse(to) - Date.parse(from)) / 60_000;
  expect(minutes(entry.receivedAt, entry.expiresAt)).toBe(120);
  expect(minutes(entry.receivedAt, entry.nextAttempt)).toBeGreaterThanOrEqual(7);
  expect(minutes(entry.receivedAt, entry.nextAttempt)).toBeLessThan(10);
  scene.host.change({ rcpt: undefined });
});

test('a wrong one is refused with every mistake, and the old one stays', async () => {
  const good = await readFile(scene.relay.config, 'utf8');
  await writeFile(scene.relay.config, 'clients: []\nintaek: {}\nqueue: { lifetime: 5 }\n');
  const checked = await scene.relay.command('reload');
  expect(checked.status).toBe(2);
  expect(checked.stderr).toMatch(/relay\.yaml:2:1: .*intaek/);
  expect(checked.stderr).toMatch(/relay\.yaml:3:20: queue\.lifetime/);
  scene.relay.signal('SIGHUP');
  await scene.relay.untilOutput(/relay\.yaml:2:1: .*intaek/);
  await scene.relay.untilOutput(/the old one stays/);

  // Right in itself, and yet the relay cannot use it: the certificate is none.
  await writeFile(scene.relay.config, good);
  const broken = join(dirname(scene.relay.config), 'broken.pem');
  await writeFile(broken, 'no certificate\n');
  await write({ certificate: { cert: broken, key: broken }, clients: [] });
  const refused = await scene.relay.command('reload', '--json');
  expect(refused.status).toBe(2);
  expect(JSON.parse(refused.stdout)).toMatchObject({ taken: false, mistakes: [expect.stringContaining('broken.pem')] });
  const client = await scene.greeted();
  expect(await client.one('MAIL FROM:<a@in.test>')).toMatchObject({ code: 250 });
  await writeFile(scene.relay.config, good);
});

test('what takes a restart is told', async () => {
  const before = await readFile(scene.relay.config, 'utf8');
  await write({ hostname: 'other.office.test', admin: { listen: '127.0.0.1:0' } });
  const { status, stdout } = await scene.relay.command('reload', '--json');
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toEqual({ taken: true, file: scene.relay.config, restart: ['hostname', 'admin'] });
  await writeFile(scene.relay.config, before);
});

test('asked ten times at once it does so one after the other', async () => {
  const { state } = await read();
  const answers = await Promise.all(Array.from({ length: 10 }, () => askRelay<ReloadAnswer>(state, 'reload')));
  expect(answers).toEqual(Array(10).fill({ taken: true, file: scene.relay.config, restart: [] }));
  expect(await askRelay(state, 'x'.repeat(1000))).toEqual({ error: 'there is no such question' });
});

test('only its owner can ask, and what a killed relay leaves behind is no relay', async () => {
  const socket = join((await read()).state, 'control.sock');
  expect((await stat(socket)).mode & 0o777).toBe(0o600);
  const other = await scene.relay.command('run');
  expect(other.status).toBe(3);
  expect(other.stderr).toContain('relay.office.test');

  await scene.relay.kill();
  expect((await stat(socket)).isSocket()).toBe(true);
  const { status, stderr } = await scene.relay.command('reload');
  expect([status, stderr]).toEqual([3, `dane-relay: no relay runs with the state folder ${dirname(socket)}\n`]);

  const again = await scene.relay.again();
  expect((await again.command('reload')).status).toBe(0);
  expect(await again.stop()).toBe(0);
  await expect(stat(socket)).rejects.toThrow('ENOENT');
  await rm(dirname(socket), { recursive: true });
  expect((await again.command('reload')).status).toBe(3);
});
