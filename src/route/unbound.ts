/**
 * An Unbound of the relay's own: started, watched, started again when it dies, and never left behind.
 *
 * It listens on a port of 127.0.0.1 that stays the same over restarts. `setpriv --pdeathsig` turns into Unbound and
 * has the kernel kill it when the relay dies, even by SIGKILL; so `startUnbound` must be called from the main thread.
 * It says nothing about whether Unbound validates: trust.ts proves that.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { accessSync, constants } from 'node:fs';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { resolve as absolute, delimiter, join } from 'node:path';
import { systemClock } from '../shared/clock.ts';
import { machineHasIpv6 } from './ipv6.ts';
import { exchange, type ServerAddress } from './transport.ts';
import { unboundConfig } from './unbound-config.ts';

/** The part of the relay's log that it needs. */
export interface UnboundLog {
  readonly debug: (message: string, fields?: object) => void;
  readonly info: (message: string, fields?: object) => void;
  readonly warn: (message: string, fields?: object) => void;
  readonly error: (message: string, fields?: object) => void;
}

export interface ManagedUnboundOptions {
  /** Folder for its configuration and trust anchor; made when absent. */
  readonly dir: string;
  /** Root trust anchor in zone file format, to begin with; the system's by default. */
  readonly anchor?: string;
  /** Configuration file of the operator, read after ours. */
  readonly include?: string;
  readonly log: UnboundLog;
}

export interface ManagedUnbound {
  readonly server: ServerAddress;
  /** Process id; null between two lives. */
  readonly pid: () => number | null;
  readonly close: () => Promise<void>;
}

/** Something that the administrator of this machine must put right before Unbound can run. */
export class UnboundUnavailable extends Error {}

/** Where Debian's dns-root-data and unbound-anchor keep the keys of the root. */
const SYSTEM_ANCHORS = ['/usr/share/dns/root.key', '/var/lib/unbound/root.key'];
/** Below the ports that Linux gives to outgoing connections, so that a restart finds its port free. */
const PORTS = [20_000, 32_000] as const;
const START_ATTEMPTS = 5;
const START_MOST_MS = 30_000;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MOST_MS = 30_000;
/** A life of this length counts as healthy: the next restart is a quick one again. */
const HEALTHY_MS = 60_000;

/**
 * Resolves once it answers questions.
 *
 * @throws UnboundUnavailable when it is not installed, has no trust anchor or does not like its configuration
 */
export async function startUnbound({ dir, anchor, include, log }: ManagedUnboundOptions): Promise<ManagedUnbound> {
  const home = absolute(dir);
  const binary = findBinary('unbound');
  const setpriv = findBinary('setpriv');
  if (binary === null) throw new UnboundUnavailable('unbound is not installed; run: apt-get install unbound');
  if (setpriv === null) throw new UnboundUnavailable('setpriv is not installed; run: apt-get install util-linux');
  await mkdir(home, { recursive: true, mode: 0o700 });
  const anchorFile = await layDownAnchor(home, anchor);
  const configFile = join(home, 'unbound.conf');
  const spawnIt = (): Life => live(setpriv, ['--pdeathsig', 'KILL', binary, '-d', '-c', configFile], log);

  const firstLife = async (port: number): Promise<Life> => {
    const extra = include === undefined ? {} : { include: absolute(include) };
    await writeFile(configFile, unboundConfig({ dir: home, port, anchorFile, ipv6: machineHasIpv6(), ...extra }));
    const life = spawnIt();
    const waiting = new AbortController();
    const tooLong = setTimeout(() => waiting.abort(), START_MOST_MS);
    void life.ended.then(() => waiting.abort());
    const up = await answers({ address: '127.0.0.1', port }, waiting.signal);
    clearTimeout(tooLong);
    if (up) return life;
    life.stop();
    const death = await life.ended;
    throw new UnboundUnavailable(`unbound does not start: ${life.lastWords() || death}`);
  };

  let port = await freePort();
  let current: Life | null = null;
  for (let attempt = 1; current === null; attempt++) {
    try {
      current = await firstLife(port);
    } catch (error) {
      // Somebody may have taken the port since it was seen to be free.
      if (attempt >= START_ATTEMPTS || !/address already in use/i.test(String(error))) throw error;
      port = await freePort();
    }
  }
  const server: ServerAddress = { address: '127.0.0.1', port };
  log.info('unbound is running', { pid: current.pid, port });

  const closing = new AbortController();
  const watch = async (first: Life): Promise<void> => {
    let backoff = BACKOFF_FIRST_MS;
    for (let life = first; ; life = spawnIt()) {
      current = life;
      const born = performance.now();
      const death = await life.ended;
      current = null;
      if (closing.signal.aborted) return;
      if (performance.now() - born > HEALTHY_MS) backoff = BACKOFF_FIRST_MS;
      log.error('unbound died and is started again', { how: death, words: life.lastWords(), inMs: backoff });
      await systemClock.sleep(backoff, closing.signal);
      if (closing.signal.aborted) return;
      backoff = Math.min(backoff * 2, BACKOFF_MOST_MS);
    }
  };
  const watching = watch(current);

  return {
    server,
    pid: () => current?.pid ?? null,
    close: async () => {
      closing.abort();
      current?.stop();
      await watching;
    },
  };
}

/** One process of Unbound, from its start to its end. */
interface Life {
  readonly pid: number | null;
  /** How it ended, in words. Never rejects. */
  readonly ended: Promise<string>;
  readonly lastWords: () => string;
  readonly stop: () => void;
}

function live(command: string, args: readonly string[], log: UnboundLog): Life {
  const child: ChildProcess = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let words = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    words = `${words}${text}`.slice(-2000);
    for (const line of text.split('\n')) say(line, log);
  });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(signal ?? `exit status ${String(code)}`));
  });
  return {
    pid: child.pid ?? null,
    ended,
    lastWords: () => words.trim().split('\n').slice(-3).join(' | '),
    stop: () => {
      child.kill('SIGTERM');
      const hard = setTimeout(() => child.kill('SIGKILL'), 3000);
      void ended.then(() => clearTimeout(hard));
    },
  };
}

/** Hands a line of Unbound's own log (`[time] unbound[pid:0] level: words`) on at its own level. */
function say(line: string, log: UnboundLog): void {
  const [, level, words] = /unbound\[\d+:\w+\] (\w+): (.*)$/.exec(line) ?? [];
  if (words === undefined) return;
  const message = `unbound: ${words}`;
  if (level === 'error' || level === 'fatal') log.error(message);
  else if (level === 'warning') log.warn(message);
  else log.debug(message);
}

/**
 * Puts the trust anchor where Unbound may keep it up to date. What it has learnt by itself stays (RFC 5011), until the
 * system's own anchor is another than the one it began with.
 */
async function layDownAnchor(dir: string, given: string | undefined): Promise<string> {
  const file = join(dir, 'root.key');
  const origin = join(dir, 'root.key.origin');
  const source = given ?? SYSTEM_ANCHORS.find(isReadable);
  if (source === undefined) {
    throw new UnboundUnavailable('there is no trust anchor of the root; run: apt-get install dns-root-data');
  }
  const keys = await readFile(source, 'utf8').catch((error: Error) => {
    throw new UnboundUnavailable(`the trust anchor cannot be read: ${error.message}`);
  });
  const began = await readFile(origin, 'utf8').catch(() => null);
  if (began !== keys || !isReadable(file)) {
    await copyFile(source, file);
    await writeFile(origin, keys);
  }
  return file;
}

function isReadable(file: string): boolean {
  return allows(file, constants.R_OK);
}

/** PATH of an ordinary user often lacks sbin, where Debian puts daemons. */
function findBinary(name: string): string | null {
  const folders = [
    ...(process.env['PATH'] ?? '').split(delimiter),
    '/usr/sbin',
    '/usr/local/sbin',
    '/usr/bin',
    '/sbin',
  ];
  const paths = folders.filter((folder) => folder.startsWith('/')).map((folder) => join(folder, name));
  return paths.find((path) => allows(path, constants.X_OK)) ?? null;
}

function allows(file: string, mode: number): boolean {
  try {
    accessSync(file, mode);
    return true;
  } catch {
    return false;
  }
}

/** True as soon as it answers anything at all, be it that it cannot reach the internet; false when `signal` says stop. */
async function answers(server: ServerAddress, signal: AbortSignal): Promise<boolean> {
  while (!signal.aborted) {
    const { kind } = await exchange(server, { name: 'localhost', type: 'A' }, 500, signal);
    if (kind === 'reply') return true;
    await systemClock.sleep(20, signal);
  }
  return false;
}

async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(...PORTS);
    if ((await isFreeForTcp(port)) && (await isFreeForUdp(port))) return port;
  }
}

function isFreeForTcp(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}

function isFreeForUdp(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createSocket('udp4');
    probe.once('error', () => resolve(false));
    probe.bind(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
