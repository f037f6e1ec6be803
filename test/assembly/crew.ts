/**
 * A supervisor in the process of the test, with workers that are real processes and do as they are told to
 * (worker-moods.ts). Each test of a file that imports this has a folder and a port of its own, and nothing may be left
 * running in the end.
 */
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect } from 'vitest';
import { freePort } from '../../lab/relay.ts';
import type { Crew } from '../../src/assembly/run.ts';
import type { Patience } from '../../src/assembly/sign-of-life.ts';
import { openWorkers } from '../../src/assembly/supervisor.ts';
import type { Config } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { RelayLog } from '../../src/report/log.ts';
import { createParts, type Parts } from '../../src/shared/parts.ts';
import { SmtpClient } from '../support/smtp-client.ts';
import type { Mood } from '../support/worker-moods.ts';

export interface Line {
  readonly level: string;
  readonly message: string;
  readonly worker?: number;
  readonly error?: string;
  readonly inMs?: number;
}

export let folder: string;
export let parts: Parts;
let lines: Line[];
export let port: number;
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
  for (const name of ['diary', 'diary.heard']) writeFileSync(join(folder, name), '');
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

export function configured(change: object): Config {
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

/** What the next supervisor of this test is given. */
export function configure(change: object): void {
  config = configured(change);
}

/** Of the workers, from now on; null for none. */
export function setMood(mood: Omit<Mood, 'diary'> | null): void {
  const all: Mood = { diary: join(folder, 'diary'), worker: null, at: 'nothing', does: 'die', ...mood };
  // In one step: a worker may look at any moment.
  writeFileSync(join(folder, 'mood.new'), JSON.stringify(all));
  renameSync(join(folder, 'mood.new'), join(folder, 'mood'));
}

/** Resolves once a worker with a mood has heard what it is about. */
export async function untilHeard(word: string): Promise<void> {
  const heard = (): readonly string[] => readFileSync(join(folder, 'diary.heard'), 'utf8').split('\n');
  await expect.poll(heard, { interval: 10 }).toContain(word);
}

export function births(): readonly { readonly pid: number; readonly at: number }[] {
  const written = readFileSync(join(folder, 'diary'), 'utf8').split('\n').filter(Boolean);
  return written.map((line) => {
    const [pid = 0, at = 0] = line.split(' ').map(Number);
    return { pid, at };
  });
}

export function open(count = 2, patience?: Patience): Promise<Crew> {
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
  return openWorkers(config, count, null, log, parts, patience);
}

export async function started(count = 2, patience?: Patience): Promise<Crew> {
  const crew = await open(count, patience);
  await crew.listen();
  await crew.start();
  return crew;
}

export const said = (message: string): readonly Line[] => lines.filter((line) => line.message.includes(message));

export async function untilSaid(message: string, times = 1): Promise<void> {
  await expect.poll(() => said(message).length, { interval: 10 }).toBeGreaterThanOrEqual(times);
}

/** What so many clients hear, one after the other: at MAIL, or at the door where they are not let in. */
export async function codes(count: number): Promise<readonly number[]> {
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

export function refusesConnections(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', () => resolve(true));
  });
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
