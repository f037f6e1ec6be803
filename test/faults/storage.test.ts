/** Disks that are full, read-only, gone, locked or damaged under a relay that runs. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningRelay } from '../../lab/relay.ts';
import {
  mount,
  offer,
  PLAIN,
  PLAIN_HOST,
  PROVEN,
  page,
  type Scene,
  startScene,
  unmount,
  untilArrived,
  untilNotReady,
  untilReady,
  whyNoMounts,
} from './support.ts';

const noMounts = whyNoMounts();
const noOtherUser = process.getuid?.() === 0 ? null : 'becoming another user needs root';
const LARGE = 600_000;

let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => scene?.end());

/** Leaves letters in the queue that will go when the host is well again. */
async function leaveWaiting(
  relay: RunningRelay,
  names: readonly string[],
  octets?: number,
): Promise<readonly string[]> {
  await scene.lab.setMood(PLAIN_HOST, 'disk-full');
  const ids: string[] = [];
  for (const name of names) {
    const [, queueId = ''] = /^250 .*queued as (\S+)/.exec(await offer(relay, PLAIN, name, octets)) ?? [];
    await relay.untilEvent((event) => event.queueId === queueId && event.event === 'deferred');
    ids.push(queueId);
  }
  await scene.lab.setMood(PLAIN_HOST, 'well');
  return ids;
}

function fill(path: string, leaving: number): void {
  const { bavail, bsize } = statfsSync(join(path, '..'));
  writeFileSync(path, Buffer.alloc(Math.max(0, bavail * bsize - leaving)));
}

function stuff(path: string): void {
  try {
    for (;;) appendFileSync(path, Buffer.alloc(4096));
  } catch {
    // Full.
  }
}

describe.runIf(noMounts === null)(`a small disk${noMounts === null ? '' : ` (not tried: ${noMounts})`}`, () => {
  test('nearly full, quite full, and room again: 452, what was accepted leaves, and nobody has to help', async () => {
    const disk = join(scene.folder, 'disk');
    mkdirSync(disk);
    mount(disk, '24m');
    try {
      const relay = await scene.relay({ config: { state: join(disk, 'state'), queue: { retry: ['1h'] } } });
      expect(await offer(relay, PROVEN, 'before')).toMatch(/^250 /);
      expect(await offer(relay, PROVEN, 'before-large', LARGE)).toMatch(/^250 /);
      const [first = '', second = ''] = await leaveWaiting(relay, ['waiting-1', 'waiting-2'], LARGE);

      fill(join(disk, 'others'), 1_500_000);
      expect(await offer(relay, PROVEN, 'refused')).toMatch(/452 4\.3\.1/);
      expect(await offer(relay, PROVEN, 'refused-large', LARGE)).toMatch(/452 4\.3\.1/);
      await untilNotReady(relay, /^503 not ready: the disk is nearly full: new mail is refused with 452/);
      expect(await page(relay, '/metrics')).toMatch(/dane_relay_storage_usable 0\n/);
      expect(relay.output()).toMatch(/"level":"error".*the disk is nearly full/);
      await relay.command('queue', 'retry', first);
      await untilArrived(scene.lab, 'waiting-1');

      stuff(join(disk, 'others'));
      expect(await offer(relay, PROVEN, 'refused-2')).toMatch(/452 4\.3\.1/);
      expect(await offer(relay, PROVEN, 'refused-large-2', LARGE)).toMatch(/452 4\.3\.1/);

      rmSync(join(disk, 'others'));
      await untilReady(relay);
      expect(await offer(relay, PROVEN, 'after')).toMatch(/^250 /);
      expect(await offer(relay, PROVEN, 'after-large', LARGE)).toMatch(/^250 /);
      await relay.command('queue', 'retry', second);
      for (const name of ['before', 'before-large', 'after', 'after-large', 'waiting-2']) {
        await untilArrived(scene.lab, name);
      }
      expect(scene.lab.mailboxes().filter(({ content }) => content.includes('Subject: refused'))).toEqual([]);
      await expect.poll(async () => (await relay.command('queue', 'list', '--json')).stdout.trim()).toBe('[]');
      const left = readdirSync(join(disk, 'state'), { recursive: true }).map(String);
      expect(left.filter((name) => /\.(?:incoming|eml)$|tried/.test(name))).toEqual([]);
      await relay.stop();
    } finally {
      unmount(disk);
    }
  });

  test('a disk that is read-only at the start: exit 3 and a sentence; in between: refused, told, and back by itself', async () => {
    const disk = join(scene.folder, 'read-only');
    mkdirSync(disk);
    mount(disk, '24m');
    try {
      const state = join(disk, 'state');
      const relay = await scene.relay({ config: { state } });
      // The same disk once more, read-only, over the folder: what is opened from now on cannot be written.
      execFileSync('mount', ['--bind', state, state]);
      execFileSync('mount', ['-o', 'remount,bind,ro', state]);
      expect(await offer(relay, PROVEN, 'ro-large', LARGE)).toMatch(/451 4\.3\.0/);
      await untilNotReady(relay, /^503 .*mail cannot be stored and is refused with 451: .*read-only/i);
      unmount(state);
      await untilReady(relay);
      expect(await offer(relay, PROVEN, 'rw-large', LARGE)).toMatch(/^250 /);
      await untilArrived(scene.lab, 'rw-large');
      await relay.stop();

      execFileSync('mount', ['-o', 'remount,ro', disk]);
      const { status, stderr } = await relay.command('run');
      expect(status).toBe(3);
      expect(stderr).toMatch(/dane-relay: .*read-only/i);
      expect(stderr).not.toMatch(/\n\s+at /);
    } finally {
      unmount(disk);
    }
  });
});

test('the state folder is moved away: nothing is accepted into the void, and when it is back all goes on', async () => {
  const relay = await scene.relay({ config: { queue: { retry: ['1h'] } } });
  await leaveWaiting(relay, ['moved-small']);
  const state = join(relay.config, '..', 'state');
  renameSync(state, `${state}.away`);
  expect(await offer(relay, PROVEN, 'void')).toMatch(/451 4\.3\.0/);
  expect(await offer(relay, PROVEN, 'void-large', LARGE)).toMatch(/451 4\.3\.0/);
  await untilNotReady(relay, /^503 .*queue\.db cannot be reached any more \(ENOENT\)/);
  expect((await relay.command('queue', 'list')).status).not.toBe(0);
  renameSync(`${state}.away`, state);
  await untilReady(relay);
  expect(await offer(relay, PROVEN, 'moved-back-large', LARGE)).toMatch(/^250 /);
  await relay.command('queue', 'retry', '--all');
  await untilArrived(scene.lab, 'moved-small');
  await untilArrived(scene.lab, 'moved-back-large');
  expect(scene.lab.mailboxes().filter(({ content }) => content.includes('Subject: void'))).toEqual([]);
  expect(await relay.stop()).toBe(0);
});

describe.runIf(noOtherUser === null)(`rights${noOtherUser === null ? '' : ` (not tried: ${noOtherUser})`}`, () => {
  test('taken away and given back: 451 meanwhile, and exit 3 with a sentence at a start', async () => {
    const dir = join(scene.folder, 'rights');
    mkdirSync(dir);
    chownSync(dir, 65534, 65534);
    chmodSync(scene.folder, 0o755);
    const by = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--pdeathsig', 'TERM'];
    // Without the authorities of the lab, which are in a folder of root.
    const relay = await scene.relay({ dir, by, config: { delivery: { port: scene.lab.port } } });
    const state = join(dir, 'state');
    expect(await offer(relay, PROVEN, 'allowed')).toMatch(/^250 /);
    await untilArrived(scene.lab, 'allowed');
    chmodSync(state, 0o000);
    expect(await offer(relay, PROVEN, 'forbidden')).toMatch(/451 4\.3\.0/);
    expect(await offer(relay, PROVEN, 'forbidden-large', LARGE)).toMatch(/451 4\.3\.0/);
    await untilNotReady(relay, /^503 .*\(EACCES\)/);
    chmodSync(state, 0o700);
    await untilReady(relay);
    expect(await offer(relay, PROVEN, 'allowed-again', LARGE)).toMatch(/^250 /);
    await untilArrived(scene.lab, 'allowed-again');
    await relay.stop();
    chmodSync(state, 0o000);
    await expect(relay.again()).rejects.toThrow(/dane-relay: .*permission denied/i);
  });
});

test('a body that has changed on the disk waits, is never sent in that state, and leaves when it is restored', async () => {
  const relay = await scene.relay({ config: { queue: { retry: ['1h'] } } });
  await leaveWaiting(relay, ['damaged', 'sound'], LARGE);
  const bodies = join(relay.config, '..', 'state', 'bodies');
  const damaged = readdirSync(bodies, { recursive: true })
    .map((name) => join(bodies, String(name)))
    .find((path) => path.endsWith('.eml') && readFileSync(path).includes('Subject: damaged'));
  const octets = readFileSync(damaged ?? '');
  const before = Buffer.from(octets);
  octets.writeUInt8(octets.readUInt8(LARGE / 2) ^ 1, LARGE / 2);
  writeFileSync(damaged ?? '', octets);
  await relay.command('queue', 'retry', '--all');
  await untilArrived(scene.lab, 'sound');
  const { code, event, explanation } = await relay.untilEvent((each) => each.code === 'stored-message-unreadable');
  expect([event, code]).toEqual(['deferred', 'stored-message-unreadable']);
  expect(explanation).toMatch(/has changed on the disk/);
  expect((await relay.command('queue', 'list')).stdout).toContain('stored-message-unreadable');
  expect(scene.lab.mailboxes().filter(({ content }) => content.includes('Subject: damaged'))).toEqual([]);
  writeFileSync(damaged ?? '', before);
  await relay.command('queue', 'retry', '--all');
  await untilArrived(scene.lab, 'damaged');
  await relay.stop();
});

test('a body that is gone for good: its sender is told in the end, without the original', async () => {
  const relay = await scene.relay({ config: { queue: { retry: ['4s'], lifetime: '8s' } } });
  await leaveWaiting(relay, ['gone'], LARGE);
  rmSync(join(relay.config, '..', 'state', 'bodies'), { recursive: true });
  await relay.untilEvent((event) => event.event === 'expired' && /ENOENT/.test(event.explanation ?? ''));
  await expect
    .poll(() => scene.lab.mailboxes().some(({ content }) => content.includes('could not be read back from the disk')))
    .toBe(true);
  await relay.stop();
});

test('a database that was damaged while the relay was down: it does not start, and says what to do', async () => {
  const relay = await scene.relay({ config: { queue: { retry: ['1h'] } } });
  await leaveWaiting(relay, ['in-the-middle'], 200_000);
  await relay.stop();
  const path = join(relay.config, '..', 'state', 'queue.db');
  const octets = readFileSync(path);
  octets.fill(0x5a, 3 * 4096, 8 * 4096);
  writeFileSync(path, octets);
  const { status, stderr } = await relay.command('run');
  expect(status).toBe(3);
  expect(stderr).toMatch(/dane-relay: the queue database .*queue\.db is damaged .*\.recover/);
  rmSync(join(path, '..'), { recursive: true });
  const fresh = await relay.again();
  expect(await offer(fresh, PROVEN, 'fresh')).toMatch(/^250 /);
  await untilArrived(scene.lab, 'fresh');
  await fresh.stop();
});
