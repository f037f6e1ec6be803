/** A supervisor and its workers, which are real processes: how they are started, watched, told and stopped. */
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { freePort } from '../../lab/relay.ts';
import type { Crew } from '../../src/assembly/run.ts';
import { openWorkers } from '../../src/assembly/supervisor.ts';
import type { Config } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { RelayLog } from '../../src/report/log.ts';
import { createParts, type Parts } from '../../src/shared/parts.ts';
import { SmtpClient } from '../support/smtp-client.ts';
import type { Mood } from '../support/worker-moods.ts';

interface Line {
  readonly level: string;
  readonly message: string;
  readonly worker?: number;
  readonly error?: string;
  readonly inMs?: number;
}

let folder: string;
let parts: Parts;
let lines: Line[];
let port: number;
let config: Config;
const before = { ...process.env };
const CHANGED = ['NODE_OPTIONS', 'WORKER_MOOD', 'NODE_COMPILE_CACHE'] as const;
const compiled = mkdtempSync(join(tmpdir(), 'dane-supervisor-compiled-'));
afterAll(() => rmSync(compiled, { recursive: true, force: true }));

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'dane-supervisor-'));
  parts = createParts();
  lines = [];
  port = await freePort();
  writeFileSync(join(folder, 'diary'), '');
  setMood(null);
  process.env['WORKER_MOOD'] = join(folder, 'mood');
  process.env['NODE_COMPILE_CACHE'] = compiled;
  process.env['NODE_OPTIONS'] = `--import=${new URL('../support/worker-moods.ts', import.meta.url).href}`;
  config = configured({});
});
afterEach(async () => {
  setMood(null);
  await parts.closeAll();
  for (const name of CHANGED) {
    const value = before[name];
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  for (const pid of births().map((birth) => birth.pid)) expect(() => process.kill(pid, 0)).toThrow('ESRCH');
  rmSync(folder, { recursive: true, force: true });
});

function configured(change: object): Config {
  const file = join(folder, 'relay.yaml');
  const settings = {
    hostname: 'relay.office.test',
    state: join(folder, 'state'),
    listen: [{ address: '127.0.0.1', port, tls: 'starttls' }],
    certificate: { cert: join(folder, 'relay.pem'), key: join(folder, 'relay.key') },
    clients: [{ name: 'anybody', networks: ['127.0.0.0/8'], tls: 'optional' }],
    resolver: { address: '127.0.0.1:9', probe: { signed: '.', bogus: ['bogus.test'] } },
    shutdownGrace: '1s',
    ...change,
  };
  writeFileSync(file, JSON.stringify(settings));
  const loaded = loadConfig({ path: file, env: {} });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.mistakes));
  return loaded.config;
}

/** From now on; null for none. */
function setMood(mood: Omit<Mood, 'diary'> | null): void {
  const all: Mood = { diary: join(folder, 'diary'), worker: null, at: 'nothing', does: 'die', ...mood };
  // In one step: a worker may look at any moment.
  writeFileSync(join(folder, 'mood.new'), JSON.stringify(all));
  renameSync(join(folder, 'mood.new'), join(folder, 'mood'));
}

function births(): readonly { readonly pid: number; readonly at: number }[] {
  const written = readFileSync(join(folder, 'diary'), 'utf8').split('\n').filter(Boolean);
  return written.map((line) => {
    const [pid = 0, at = 0] = line.split(' ').map(Number);
    return { pid, at };
  });
}

function open(count = 2): Promise<Crew> {
  const say =
    (level: string) =>
    (message: string, fields: object = {}): void =>
      void lines.push({ level, message, ...fields });
  const log = {
    debug: say('debug'),
    info: say('info'),
    warn: say('warn'),
    error: say('error'),
    mail: () => undefined,
    setLevel: () => undefined,
  } as unknown as RelayLog;
  return openWorkers(config, count, null, log, parts);
}

async function started(count = 2): Promise<Crew> {
  const crew = await open(count);
  await crew.listen();
  await crew.start();
  return crew;
}

const said = (message: string): readonly Line[] => lines.filter((line) => line.message.includes(message));

async function untilSaid(message: string, times = 1): Promise<void> {
  await expect.poll(() => said(message).length, { interval: 10 }).toBeGreaterThanOrEqual(times);
}

/** What so many clients hear, one after the other: at MAIL, or at the door where they are not let in. */
async function codes(count: number): Promise<readonly number[]> {
  const found: number[] = [];
  for (let each = 0; each < count; each++) {
    const client = await SmtpClient.connect({ port });
    const { code } = await client.reply();
    if (code === 220) await client.hello();
    found.push(code === 220 ? (await client.one('MAIL FROM:<a@in.test>')).code : code);
    client.destroy();
  }
  return found;
}

function refusesConnections(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', () => resolve(true));
  });
}

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

  test('of which a worker dies when all have found it good: its next life begins with it', async () => {
    const crew = await started();
    setMood({ worker: 2, at: 'take', does: 'die' });
    await crew.take(configured(nobody));
    setMood(null);
    await untilSaid('a worker was started again');
    expect(await codes(4)).toEqual([554, 554, 554, 554]);
  });

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

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
