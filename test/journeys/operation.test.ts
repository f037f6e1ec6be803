/** How an operator handles a running relay: a new configuration by SIGHUP, the end by SIGTERM. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { send } from '../../lab/client.ts';
import { type Lab, startLab } from '../../lab/lab.ts';
import { type RunningRelay, startRelay } from '../../lab/relay.ts';
import { WORLD } from '../../lab/world.ts';

let lab: Lab;
let folder: string;
let relay: RunningRelay;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dane-operation-'));
  lab = await startLab({ world: WORLD.filter(({ domain }) => ['no-tlsa.test', 'office.test'].includes(domain)) });
  relay = await startRelay({ lab, dir: folder });
});

afterAll(async () => {
  await relay?.stop();
  await lab?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function changeConfig(change: object | string): Promise<void> {
  const before = JSON.parse(await readFile(relay.config, 'utf8'));
  await writeFile(relay.config, typeof change === 'string' ? change : JSON.stringify({ ...before, ...change }));
  relay.signal('SIGHUP');
}

const letter = (recipient: string) => ({
  sender: 'alice@office.test',
  recipients: [recipient],
  content: 'Subject: x\r\n\r\nx\r\n',
});

test('SIGHUP takes over clients and destinations from the next message on', async () => {
  await send(relay, relay.client, letter('first@no-tlsa.test'));
  expect((await relay.untilEvent(({ recipient }) => recipient === 'first@no-tlsa.test')).event).toBe('delivered');

  await changeConfig({ destinations: [{ domain: 'no-tlsa.test', tls: 'dane-only' }] });
  await relay.untilOutput(/took over the new configuration/);
  await send(relay, relay.client, letter('second@no-tlsa.test'));
  const second = await relay.untilEvent(({ recipient }) => recipient === 'second@no-tlsa.test');
  expect([second.event, second.code]).toEqual(['deferred', 'dane-only-no-tlsa']);
});

test('a wrong configuration is told with line and column, and the old one stays', async () => {
  const good = await readFile(relay.config, 'utf8');
  await changeConfig('hostname: relay.office.test\nclients: []\ndestinatons: []\n');
  await relay.untilOutput(/relay\.yaml:3:1: .*destinatons/);
  await relay.untilOutput(/the old one stays/);
  await send(relay, relay.client, letter('third@no-tlsa.test'));
  expect((await relay.untilEvent(({ recipient }) => recipient === 'third@no-tlsa.test')).code).toBe(
    'dane-only-no-tlsa',
  );
  await writeFile(relay.config, good);
});

test('a client that is taken out may send no more', async () => {
  await changeConfig({ clients: [] });
  await relay.untilOutput(/"clients":0/);
  await expect(send(relay, relay.client, letter('fourth@no-tlsa.test'))).rejects.toThrow(/554 5\.7\.1/);
});

test('what cannot be taken over without a restart is said', async () => {
  await changeConfig({ hostname: 'other.office.test' });
  await relay.untilOutput(/a restart is needed for what has changed in: hostname/);
});

test('SIGTERM ends it with status 0, and what waits is still there', async () => {
  expect(await relay.stop()).toBe(0);
  const { stdout } = await relay.command('queue', 'list', '--json');
  expect(
    JSON.parse(stdout)
      .map(({ recipient }: { recipient: string }) => recipient)
      .toSorted(),
  ).toEqual(['second@no-tlsa.test', 'third@no-tlsa.test']);
});
