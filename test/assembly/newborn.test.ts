/**
 * A signal to a worker that has just been born. Service managers and terminals send them to all processes of a group, at
 * any moment: what a worker makes of one is nothing, and what becomes of the relay is the supervisor's to say.
 */
import { describe, expect, test } from 'vitest';
import { births, codes, isAlive, open, parts, said, setMood, started, untilHeard, untilSaid } from './crew.ts';

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
