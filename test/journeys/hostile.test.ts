/** Hostile clients against the whole relay, and the good one that is served meanwhile and afterwards. */
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hostileCrowd } from '../support/hostile-crowd.ts';
import { openRelayScene, type RelayScene, until } from '../support/relay-scene.ts';

const MEBIBYTE = 1024 * 1024;

let scene: RelayScene;
beforeAll(async () => {
  scene = await openRelayScene({ intake: { connections: 150, connectionsPerClient: 60, messageSize: '2MB' } });
});
afterAll(async () => scene?.end());

/** One message from a client that has done nothing wrong, all the way to its mail host. */
async function goodMessage(name: string): Promise<void> {
  const client = await scene.greeted();
  const reply = await client.send('a@in.test', ['b@out.test'], `Subject: ${name}\r\n\r\nhello\r\n`);
  expect(reply).toMatchObject({ code: 250 });
  client.destroy();
  await until(() => scene.host.messages.some(({ content }) => content.includes(`Subject: ${name}\r\n`)));
}

async function adminPort(): Promise<number> {
  return Number(/:(\d+)$/.exec(JSON.parse(await readFile(scene.relay.config, 'utf8')).admin.listen)?.[1]);
}

test('trap 13 hundreds of hostile clients of every kind: memory and files stay bounded, a good client is served', {
  timeout: 180_000,
}, async () => {
  for (let i = 0; i < 5; i++) await goodMessage(`before-${i}`);
  const before = await scene.usage();
  const crowds = ['127.0.0.66', '127.0.0.67', '127.0.0.68'].map((from) => hostileCrowd(scene.relay.port, from, 119));
  let most = before;
  for (let i = 0; i < 3; i++) {
    await goodMessage(`meanwhile-${i}`);
    const now = await scene.usage();
    most = { memory: Math.max(most.memory, now.memory), files: Math.max(most.files, now.files) };
  }
  for (const crowd of crowds) crowd.leave();
  await goodMessage('afterwards');
  await until(async () => (await scene.usage()).files <= before.files + 5);
  // 150 conversations with their buffers, and what the spool keeps of messages (32 MiB).
  expect((most.memory - before.memory) / MEBIBYTE).toBeLessThan(200);
  // 150 that are inside, 200 that are being told to go, a spool file for each that sends, and what there was before.
  expect(most.files - before.files).toBeLessThan(150 + 200 + 150);
  expect(scene.host.messages.filter(({ mail }) => mail.includes('evil'))).toEqual([]);
  console.info(
    `memory ${Math.round(before.memory / MEBIBYTE)} MiB before, ${Math.round(most.memory / MEBIBYTE)} at most; ` +
      `files ${before.files} before, ${most.files} at most`,
  );
});

test('the admin port under the same treatment still answers, and so does the relay', { timeout: 180_000 }, async () => {
  const port = await adminPort();
  const before = await scene.usage();
  const crowd = hostileCrowd(port, '127.0.0.66', 90);
  const bodies = Array.from({ length: 30 }, () => {
    const socket = connect(port);
    socket.on('error', () => socket.destroy());
    socket.write('POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n');
    for (let i = 0; i < 8; i++) socket.write(Buffer.alloc(MEBIBYTE));
    return socket;
  });
  await goodMessage('with-a-busy-admin-port');
  crowd.leave();
  for (const socket of bodies) socket.destroy();
  await until(async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/healthz`).catch(() => null);
    return answer?.status === 200;
  });
  const after = await scene.usage();
  expect((after.memory - before.memory) / MEBIBYTE).toBeLessThan(100);
});
