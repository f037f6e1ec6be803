/** The end of a relay: what is under way is finished within a span of time, and nothing is left running. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, expect, test } from 'vitest';
import { childrenOf, openRelayScene, type RelayScene, until } from '../support/relay-scene.ts';
import { SmtpClient } from '../support/smtp-client.ts';

let scene: RelayScene;
afterEach(async () => scene?.end());

const HEAD = ['MAIL FROM:<a@in.test>', 'RCPT TO:<b@out.test>', 'DATA'];

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ port });
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

test('SIGTERM: the idle hear 421, messages under way are finished, nobody new comes in, nothing is left', async () => {
  scene = await openRelayScene(
    { resolver: 'managed' },
    { final: { drip: '250 2.0.0 taken at last\r\n', everyMs: 40 } },
  );
  const { relay, host } = scene;
  const admin = Number(/:(\d+)$/.exec(JSON.parse(await readFile(relay.config, 'utf8')).admin.listen)?.[1]);
  await relay.untilOutput(/"msg":"started"/);
  const children = await childrenOf(relay.pid);
  expect(children).toHaveLength(1);

  const delivering = await scene.greeted();
  await delivering.send('a@in.test', ['b@out.test'], 'Subject: on its way\r\n\r\n');
  await until(() => host.messages.length === 1);
  const idle = await scene.greeted();
  const busy = await scene.greeted();
  await busy.say(...HEAD);
  relay.signal('SIGTERM');
  expect(await idle.reply()).toMatchObject({ code: 421, status: '4.3.2' });
  await until(async () => !(await isOpen(relay.port)));
  busy.raw('Subject: under way\r\n\r\n.\r\n');
  expect(await busy.reply()).toMatchObject({ code: 250 });
  expect(await busy.reply()).toMatchObject({ code: 421, status: '4.3.2' });

  expect(await relay.ended).toBe(0);
  expect(children.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([]);
  expect(await isOpen(admin)).toBe(false);
  expect(relay.events().filter(({ event }) => event === 'delivered')).toHaveLength(1);
  // The second message was promised: it is there.
  const waiting = JSON.parse((await relay.command('queue', 'list', '--json')).stdout);
  expect(waiting).toMatchObject([{ recipient: 'b@out.test', state: 'waiting' }]);
});

test('who is not done when the time is over hears 421 in the place of a 250, and nothing is half a message', async () => {
  scene = await openRelayScene({ shutdownGrace: '1s' }, { final: 'hang' });
  const { relay, host } = scene;
  const delivering = await scene.greeted();
  await delivering.send('a@in.test', ['b@out.test'], 'Subject: never confirmed\r\n\r\n');
  await until(() => host.messages.length === 1);
  const slow = await scene.greeted();
  await slow.say(...HEAD);
  slow.raw('Subject: half\r\n');
  relay.signal('SIGTERM');
  expect(await slow.reply()).toMatchObject({ code: 421, status: '4.3.2' });
  expect(await relay.ended).toBe(0);
  const waiting = JSON.parse((await relay.command('queue', 'list', '--json')).stdout);
  expect(waiting).toHaveLength(1);
});

test('a second signal stops it at once', async () => {
  scene = await openRelayScene();
  const slow = await scene.greeted();
  await slow.say(...HEAD);
  scene.relay.signal('SIGTERM');
  await scene.relay.untilOutput(/"msg":"stopping"/);
  scene.relay.signal('SIGTERM');
  expect(await scene.relay.ended).toBe(1);
  expect(await slow.replyOrEnd()).toBeNull();
});

test('SIGTERM before it has started all its parts ends it too, with nothing left', async () => {
  scene = await openRelayScene({ resolver: 'managed' });
  await scene.relay.stop();
  for (const late of [0, 200]) {
    const again = await scene.relay.again();
    await new Promise((resolve) => setTimeout(resolve, late));
    const children = await childrenOf(again.pid);
    again.signal('SIGTERM');
    expect(await again.ended).toBe(0);
    await until(() => !children.some((pid) => existsSync(`/proc/${pid}`)));
  }
});

test('a queue of a newer release is refused with status 3, and left as it is', async () => {
  scene = await openRelayScene();
  const { relay } = scene;
  await relay.stop();
  const path = join(JSON.parse(await readFile(relay.config, 'utf8')).state, 'queue.db');
  const db = new Database(path);
  db.pragma('user_version = 99');
  db.close();
  const { status, stderr } = await relay.command('run');
  expect(status).toBe(3);
  expect(stderr).toMatch(/has schema 99, this release works with \d+: it was written by a newer release/);
  const after = new Database(path, { readonly: true });
  expect(after.pragma('user_version', { simple: true })).toBe(99);
  after.close();
  expect(await SmtpClient.connect({ port: relay.port }).catch((error: Error) => error.message)).toContain(
    'ECONNREFUSED',
  );
});
