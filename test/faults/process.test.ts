/** Faults inside the relay and around its process: mistakes that nobody caught, closed pipes, no file handles left. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PROJECT, type RunningRelay } from '../../lab/relay.ts';
import { offer, PLAIN, PLAIN_HOST, PROVEN, page, type Scene, startScene, untilArrived, untilReady } from './support.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => scene?.end());

/** Options with which Node runs this before the relay. */
function before(name: string, script: string): { NODE_OPTIONS: string } {
  const path = join(scene.folder, `${name.replaceAll(' ', '-')}.mjs`);
  writeFileSync(path, script);
  // A path without spaces, at which Node would split its options.
  return { NODE_OPTIONS: `--import=file://${path}` };
}

const IN_THE_RELAY = `import { isMainThread } from 'node:worker_threads'; const here = isMainThread && process.argv[2] === 'run';`;

describe.each([
  ['an exception', `setImmediate(() => { throw new Error('the sky has fallen') })`],
  ['a rejection', `Promise.reject(new Error('the sky has fallen'))`],
])('%s that nobody has caught', (kind, fall) => {
  test('is in the log, ends the relay with status 1, and costs no mail', async () => {
    const env = before(kind, `${IN_THE_RELAY} if (here) process.on('SIGUSR2', () => { ${fall} });`);
    const relay = await scene.relay({ env, config: { queue: { retry: ['1h'] } } });
    await scene.lab.setMood(PLAIN_HOST, 'disk-full');
    const name = `fallen-${kind.replace(' ', '-')}`;
    expect(await offer(relay, PLAIN, name)).toMatch(/^250 /);
    await relay.untilEvent(({ event }) => event === 'deferred');
    process.kill(relay.pid, 'SIGUSR2');
    expect(await relay.ended).toBe(1);
    expect(relay.output()).toMatch(
      /"level":"error".*"error":"Error: the sky has fallen.*mail that was accepted is safe/,
    );
    await scene.lab.setMood(PLAIN_HOST, 'well');
    const again = await relay.again();
    await again.command('queue', 'retry', '--all');
    await untilArrived(scene.lab, name);
    expect(await again.stop()).toBe(0);
  });
});

describe('a log that nobody reads', () => {
  let child: ChildProcess | undefined;
  afterAll(() => child?.kill('SIGKILL'));

  test('stdout closed: the log goes on at stderr; both closed: mail goes on all the same', async () => {
    const first: RunningRelay = await scene.relay({});
    await first.stop();
    const process = spawn(join(PROJECT, 'dane-relay'), ['run', '--config', first.config], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child = process;
    process.stdout.destroy();
    let heard = '';
    process.stderr.on('data', (chunk: Buffer) => {
      heard += chunk.toString();
    });
    await expect.poll(() => page(first, '/readyz').catch(() => ''), { interval: 200 }).toMatch(/^200 /);
    expect(await offer(first, PROVEN, 'deaf-stdout')).toMatch(/^250 /);
    await untilArrived(scene.lab, 'deaf-stdout');
    await expect.poll(() => heard).toMatch(/no longer be written to descriptor 1 \(EPIPE\); it goes on here/);
    await expect.poll(() => heard).toMatch(/"event":"delivered"/);

    process.stderr.destroy();
    for (const name of ['deaf-both-1', 'deaf-both-2']) {
      expect(await offer(first, PROVEN, name)).toMatch(/^250 /);
      await untilArrived(scene.lab, name);
    }
    process.kill('SIGTERM');
    expect((await once(process, 'exit'))[0]).toBe(0);
  });
});

test('no file handles left: clients are put off, nothing falls over, and it recovers when they go', async () => {
  const relay = await scene.relay({ by: ['prlimit', '--nofile=64:64'] });
  expect(await offer(relay, PROVEN, 'handles-before')).toMatch(/^250 /);
  const crowd: Socket[] = [];
  for (let count = 0; count < 120; count++) {
    const socket = createConnection({ host: relay.address, port: relay.port });
    socket.on('error', () => undefined);
    crowd.push(socket);
  }
  await new Promise((resolve) => setTimeout(resolve, 500));
  const during = await offer(relay, PROVEN, 'handles-during', 600_000);
  expect(during).not.toMatch(/\b5\d\d /);
  for (const socket of crowd) socket.destroy();
  await expect.poll(() => offer(relay, PROVEN, 'handles-after', 600_000)).toMatch(/^250 /);
  for (const name of ['handles-before', 'handles-after', ...(during.startsWith('250') ? ['handles-during'] : [])]) {
    await untilArrived(scene.lab, name);
  }
  await untilReady(relay);
  expect(await relay.stop()).toBe(0);
});

test('the clock leaps: forwards no mail is given up for it, backwards none waits for as long', async () => {
  const shift = join(scene.folder, 'shift');
  const leap = async (relay: RunningRelay, days: number): Promise<void> => {
    writeFileSync(shift, String(days * 86_400_000));
    process.kill(relay.pid, 'SIGUSR2');
    await relay.untilOutput(new RegExp(`the clock is shifted by ${days * 86_400_000}`));
  };
  const env = before(
    'clock',
    `${IN_THE_RELAY} import { readFileSync } from 'node:fs';
     const now = Date.now; let by = 0;
     if (here) { Date.now = () => now() + by;
       process.on('SIGUSR2', () => { by = Number(readFileSync('${shift}')); process.stderr.write('the clock is shifted by ' + by + '\\n'); }); }`,
  );
  const relay = await scene.relay({ env, config: { queue: { retry: ['2s'], lifetime: '5d' } } });
  await scene.lab.setMood(PLAIN_HOST, 'disk-full');
  expect(await offer(relay, PLAIN, 'in-time')).toMatch(/^250 /);
  await relay.untilEvent(({ event }) => event === 'deferred');

  await leap(relay, 9);
  const soFar = relay.events().length;
  await expect
    .poll(() =>
      relay
        .events()
        .slice(soFar)
        .some(({ event }) => event === 'deferred'),
    )
    .toBe(true);
  expect(relay.events().filter(({ event }) => event === 'expired')).toEqual([]);
  expect(await offer(relay, PLAIN, 'in-future')).toMatch(/^250 /);
  const future = relay.events().length;
  await expect
    .poll(() =>
      relay
        .events()
        .slice(future)
        .some(({ event }) => event === 'deferred'),
    )
    .toBe(true);

  await leap(relay, -2);
  await scene.lab.setMood(PLAIN_HOST, 'well');
  await untilArrived(scene.lab, 'in-time');
  await untilArrived(scene.lab, 'in-future');
  await relay.stop();
});
