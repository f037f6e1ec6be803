/** A supervisor and its workers, which are real processes: how they are started, watched, told and stopped. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SmtpClient } from '../support/smtp-client.ts';
import {
  births,
  codes,
  configured,
  folder,
  isAlive,
  open,
  parts,
  port,
  refusesConnections,
  said,
  setMood,
  started,
  untilSaid,
} from './crew.ts';

describe('a worker that dies', () => {
  test('is started again after a pause, and a longer one each time that it does not come up; meanwhile the other works', async () => {
    const crew = await started();
    const [, second] = births();
    setMood({ worker: 2, at: 'begin', does: 'die' });
    process.kill(second?.pid ?? 0, 'SIGKILL');
    await untilSaid('a worker could not be started', 4);
    expect(await codes(3)).toEqual([250, 250, 250]);
    expect(await crew.health()).toMatchObject({ workers: 1 });
    const pauses = [...said('a worker died'), ...said('could not be started')].map(({ inMs }) => inMs);
    expect(pauses.slice(0, 5)).toEqual([100, 200, 400, 800, 1600]);
    const gaps = births()
      .slice(2)
      .map(({ at }, index, all) => (all[index + 1]?.at ?? Number.POSITIVE_INFINITY) - at);
    // It was really waited for, as far as a clock can be trusted.
    for (const [index, gap] of gaps.slice(0, 3).entries()) expect(gap).toBeGreaterThanOrEqual(200 * 2 ** index - 20);
    expect(said('could not be started')[0]?.error).toBe('worker 2 has ended (SIGKILL)');

    setMood(null);
    await untilSaid('a worker was started again');
    expect(await crew.health()).toMatchObject({ workers: 2 });
  });

  test('one for which the system makes no process is tried again, and does not keep the relay from stopping', async () => {
    const crew = await started();
    const { execPath } = process;
    process.execPath = join(folder, 'no-node-here');
    try {
      process.kill(births()[1]?.pid ?? 0, 'SIGKILL');
      await untilSaid('a worker could not be started', 2);
      expect(said('could not be started')[0]?.error).toContain('ENOENT');
      expect(await codes(2)).toEqual([250, 250]);
    } finally {
      process.execPath = execPath;
    }
    await untilSaid('a worker was started again');
    expect(await crew.health()).toMatchObject({ workers: 2 });
  });

  test.each(['begin', 'listen', 'start'])(
    'one that comes up and cannot %s is ended and started again: nothing half stays',
    async (at) => {
      const crew = await started();
      setMood({ worker: 2, at, does: 'refuse' });
      process.kill(births()[1]?.pid ?? 0, 'SIGKILL');
      await untilSaid('a worker could not be started', 2);
      expect(
        said('could not be started')
          .slice(0, 2)
          .map(({ error }) => error),
      ).toEqual([`${at} is not to my taste`, `${at} is not to my taste`]);
      setMood(null);
      await untilSaid('a worker was started again');
      expect(await crew.health()).toMatchObject({ workers: 2 });
      const alive = births().filter(({ pid }) => isAlive(pid));
      expect(alive).toHaveLength(2);
    },
  );

  test('one that talks nonsense is ended and started again; the relay and the other worker go on', async () => {
    const crew = await started();
    setMood({ worker: 1, at: 'health', does: 'talk nonsense' });
    expect(await crew.health()).toMatchObject({ idle: false });
    setMood(null);
    await untilSaid('a worker was started again');
    expect(said('cannot be understood')).toMatchObject([{ level: 'error', worker: 1 }]);
    expect(await codes(4)).toEqual([250, 250, 250, 250]);
  });

  test('all at once, again: counters go on from where they were, whenever somebody looks', async () => {
    const crew = await started(3);
    for (let each = 0; each < 6; each++) {
      const client = await SmtpClient.connect({ port });
      await client.reply();
      await client.hello();
      await client.say('MAIL FROM:<a@in.test>', 'RCPT TO:<b@out.test>', 'DATA');
      client.raw('Subject: x\r\n\r\nx\r\n.\r\n');
      expect(await client.reply()).toMatchObject({ code: 250 });
      client.destroy();
    }
    const accepted = async (): Promise<number> =>
      Number(/dane_relay_mail_events_total\{event="accepted",[^}]*\} (\d+)/.exec(await crew.metrics())?.[1] ?? 0);
    expect(await accepted()).toBe(6);
    for (const { pid } of births()) process.kill(pid, 'SIGKILL');
    const seen = new Set<number>();
    const end = Date.now() + 30_000;
    while (said('a worker was started again').length < 3 && Date.now() < end) {
      seen.add(await accepted());
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    seen.add(await accepted());
    expect([...seen]).toEqual([6]);
  });
});

describe('a relay that cannot start', () => {
  test.each([1, 2])('because worker %i dies again: it says so, and leaves nothing behind', async (worker) => {
    setMood({ worker, at: 'begin', does: 'die' });
    const crew = await open();
    await expect(crew.listen()).rejects.toThrow(`worker ${worker} has ended (SIGKILL)`);
    await parts.closeAll();
    expect(births().filter(({ pid }) => isAlive(pid))).toEqual([]);
    expect(await refusesConnections()).toBe(true);
  });

  test('because somebody else has its port: it says so, and leaves nothing behind', async () => {
    const { createServer } = await import('node:net');
    const other = createServer().listen(port, '127.0.0.1');
    const crew = await open();
    await expect(crew.listen()).rejects.toThrow('EADDRINUSE');
    await parts.closeAll();
    other.close();
    expect(births().filter(({ pid }) => isAlive(pid))).toEqual([]);
  });
});

describe('stop', () => {
  test('while the workers begin: they end, nobody is born any more, and no port is open', async () => {
    setMood({ worker: 1, at: 'begin', does: 'keep silent' });
    const crew = await open();
    const listening = crew.listen();
    listening.catch(() => undefined);
    await expect.poll(() => births().length).toBe(1);
    expect(await parts.closeAll()).toEqual([]);
    await expect(listening).rejects.toThrow('worker 1 has ended (by itself)');
    expect(births()).toHaveLength(1);
    expect(await refusesConnections()).toBe(true);
  });

  test('between the death of a worker and its next life: nobody is born any more', async () => {
    await started();
    setMood({ worker: 2, at: 'begin', does: 'die' });
    process.kill(births()[1]?.pid ?? 0, 'SIGKILL');
    await untilSaid('a worker could not be started', 2);
    const born = births().length;
    expect(await parts.closeAll()).toEqual([]);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(births()).toHaveLength(born);
    expect(births().filter(({ pid }) => isAlive(pid))).toEqual([]);
  });

  test('of a worker that does not listen: it is killed in the end, and that is told', async () => {
    await started();
    setMood({ worker: 2, at: 'stop', does: 'keep silent' });
    expect(await parts.closeAll()).toMatchObject([{ message: 'worker 2 ended with SIGKILL' }]);
    expect(births().filter(({ pid }) => isAlive(pid))).toEqual([]);
  });

  test('told by SIGTERM to a worker as well, which a service manager does: the relay decides when it ends', async () => {
    await started();
    for (const { pid } of births()) process.kill(pid, 'SIGTERM');
    expect(await codes(4)).toEqual([250, 250, 250, 250]);
    expect(await parts.closeAll()).toEqual([]);
  });
});

describe('a new configuration', () => {
  const nobody = { clients: [] };

  test('is with all workers when that is told', async () => {
    const crew = await started(3);
    await crew.take(configured(nobody));
    expect(await codes(6)).toEqual([554, 554, 554, 554, 554, 554]);
  });

  test.each(['refuse', 'die'] as const)('that one worker does not take (%s) is taken by none', async (does) => {
    const crew = await started(3);
    setMood({ worker: 2, at: 'prepare', does });
    await expect(crew.take(configured(nobody))).rejects.toThrow(
      does === 'die' ? 'worker 2 has ended (SIGKILL)' : 'prepare is not to my taste',
    );
    setMood(null);
    if (does === 'die') await untilSaid('a worker was started again');
    expect(await codes(6)).toEqual([250, 250, 250, 250, 250, 250]);
    await crew.take(configured(nobody));
    expect(await codes(3)).toEqual([554, 554, 554]);
  });

  test.each(['die', 'refuse'] as const)(
    'that a worker does not take (%s) when all have found it good: its next life begins with it',
    async (does) => {
      const crew = await started();
      setMood({ worker: 2, at: 'take', does });
      await crew.take(configured(nobody));
      setMood(null);
      await untilSaid('a worker was started again');
      expect(await codes(4)).toEqual([554, 554, 554, 554]);
    },
  );

  test('that comes while a worker begins reaches it too', async () => {
    const crew = await started();
    setMood({ worker: 2, at: 'begin', does: 'be late' });
    process.kill(births()[1]?.pid ?? 0, 'SIGKILL');
    await expect.poll(() => births().length).toBe(3);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await crew.take(configured(nobody));
    setMood(null);
    await untilSaid('a worker was started again');
    expect(await codes(4)).toEqual([554, 554, 554, 554]);
  });

  test('that is being tried out while a worker comes back reaches that one as well', async () => {
    const crew = await started();
    setMood({ worker: 1, at: 'prepare', does: 'be late' });
    process.kill(births()[1]?.pid ?? 0, 'SIGKILL');
    await untilSaid('a worker died');
    const taken = crew.take(configured(nobody));
    await untilSaid('a worker was started again');
    setMood(null);
    await taken;
    expect(await codes(4)).toEqual([554, 554, 554, 554]);
  });

  test('that comes while nobody is there is refused; the next life of each has one that came meanwhile', async () => {
    const crew = await started();
    setMood({ worker: null, at: 'begin', does: 'die' });
    for (const { pid } of births()) process.kill(pid, 'SIGKILL');
    await untilSaid('a worker could not be started', 2);
    await expect(crew.take(configured(nobody))).rejects.toThrow('no worker is running');
    expect(await crew.reasons()).toEqual(['no worker is running']);
    setMood({ worker: 2, at: 'begin', does: 'die' });
    await untilSaid('a worker was started again');
    await crew.take(configured(nobody));
    setMood(null);
    await untilSaid('a worker was started again', 2);
    expect(await codes(4)).toEqual([554, 554, 554, 554]);
  });

  test('its limits hold for all workers together at once', async () => {
    const crew = await started();
    await crew.take(configured({ intake: { connectionsPerClient: 1 } }));
    const inside = await SmtpClient.connect({ port });
    expect(await inside.reply()).toMatchObject({ code: 220 });
    for (let each = 0; each < 3; each++) {
      const client = await SmtpClient.connect({ port });
      expect(await client.reply()).toMatchObject({ code: 421 });
      client.destroy();
    }
    inside.destroy();
  });
});
