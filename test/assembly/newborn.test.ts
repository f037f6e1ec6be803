/**
 * A signal to a worker that has just been born. Service managers and terminals send them to all processes of a group, at
 * any moment: what a worker makes of one is nothing, and what becomes of the relay is the supervisor's to say.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { freePort, PROJECT } from '../../lab/relay.ts';
import { messageOf } from '../../src/shared/message-of.ts';
import {
  births,
  codes,
  configured,
  folder,
  isAlive,
  open,
  parts,
  said,
  setMood,
  started,
  untilHeard,
  untilSaid,
} from './crew.ts';

const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

/** Nobody hears anything. */
const UNBORN = { worker: null, at: 'birth', does: 'be late' } as const;

/** The worker that was born last, when there are so many. */
async function newborn(count: number): Promise<number> {
  await expect.poll(() => births().length, { interval: 10 }).toBe(count);
  return births().at(-1)?.pid ?? 0;
}

describe('when the relay starts', () => {
  test.each(SIGNALS)(
    '%s before a worker can hear anything: another one begins, and none is missing',
    async (signal) => {
      setMood(UNBORN);
      const crew = await open();
      const listening = crew.listen();
      for (const number of [1, 2]) process.kill(await newborn(number), signal);
      await newborn(3);
      setMood(null);
      await listening;
      await crew.start();
      expect(said('a worker was told to end')).toMatchObject([
        { level: 'warn', worker: 1, signal, inMs: 100 },
        { level: 'warn', worker: 1, signal, inMs: 200 },
      ]);
      expect(await crew.health()).toMatchObject({ workers: 2 });
      expect(await codes(4)).toEqual([250, 250, 250, 250]);
      expect(await parts.closeAll()).toEqual([]);
    },
  );

  test.each(['begin', 'listen', 'start'])('all of them before one has heard %s: it goes on', async (at) => {
    setMood({ worker: 2, at, does: 'be late' });
    const crew = await open();
    const up = crew.listen().then(crew.start);
    const pid = await newborn(2);
    await untilHeard(at);
    for (const signal of SIGNALS) process.kill(pid, signal);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(isAlive(pid)).toBe(true);
    setMood(null);
    await up;
    expect(births()).toHaveLength(2);
    expect(await crew.health()).toMatchObject({ workers: 2 });
    expect(await parts.closeAll()).toEqual([]);
  });
});

test('to one that is to take the place of another: a third one does', async () => {
  const crew = await started();
  const [, second] = births();
  setMood(UNBORN);
  process.kill(second?.pid ?? 0, 'SIGKILL');
  process.kill(await newborn(3), 'SIGTERM');
  await newborn(4);
  setMood(null);
  await untilSaid('a worker was started again');
  expect(await crew.health()).toMatchObject({ workers: 2 });
});

describe('the whole relay, told to stop while it starts', () => {
  const MOMENTS = ['birth', 'begin', 'listen', 'start'];
  const ORDERS = ['the workers first', 'the workers last', 'it alone'] as const;
  const cases = MOMENTS.flatMap((at) => ORDERS.map((order) => [at, order] as const));

  test.each(cases)('before a worker has heard %s, by a signal to %s: status 0, in peace', async (at, order) => {
    setMood({ worker: null, at, does: 'be late' });
    const relay = await run();
    await newborn(at === 'birth' || at === 'begin' ? 1 : 2);
    if (at !== 'birth') await untilHeard(at);
    const workers = births().map(({ pid }) => pid);
    await signalAll(
      order === 'it alone'
        ? [relay.pid]
        : order === 'the workers last'
          ? [relay.pid, ...workers]
          : [...workers, relay.pid],
    );
    setMood(null);
    expect(await relay.ended).toEqual({ status: 0, complaints: [] });
  });

  test('while a worker begins, which gives that up and takes its time to end: it has the time', async () => {
    setMood({ worker: 1, at: 'begin', does: 'give up late' });
    const crew = await open();
    const listening = crew.listen().catch(messageOf);
    await untilHeard('begin');
    expect(await parts.closeAll()).toEqual([]);
    expect(await listening).toBe('begin is not to my taste');
  });

  test('at any moment: status 0, in peace', async () => {
    for (let after = 0; after < 800; after += 100) {
      const relay = await run();
      const before = births().length;
      await newborn(before + 1);
      await new Promise((resolve) => setTimeout(resolve, after));
      const workers = births()
        .slice(before)
        .map(({ pid }) => pid);
      await signalAll([...workers, relay.pid]);
      expect({ after, ...(await relay.ended) }).toEqual({ after, status: 0, complaints: [] });
    }
  });
});

/** A little time between one and the next: what the first one makes of it has its effect, so that others may be gone. */
async function signalAll(pids: readonly number[]): Promise<void> {
  for (const pid of pids) {
    if (isAlive(pid)) process.kill(pid, 'SIGTERM');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The relay in a process of its own, with two workers, and whatever it says that is no good news. */
async function run(): Promise<{
  pid: number;
  ended: Promise<{ status: number | null; complaints: readonly string[] }>;
}> {
  configured({ workers: 2, admin: { listen: `127.0.0.1:${await freePort()}` } });
  const child = spawn(join(PROJECT, 'dane-relay'), ['run', '--config', join(folder, 'relay.yaml')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      output += String(chunk);
    });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve)).then((status) => ({
    status,
    complaints: output.split('\n').filter((line) => /"level":"error"|"level":50|dane-relay: /.test(line)),
  }));
  return { pid: child.pid ?? 0, ended };
}
