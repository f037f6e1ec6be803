/**
 * The real relay, run as a child in the world of a lab: configured, started, listened to, stopped.
 *
 * What is known of it is what an operator would know: its exit status, its log, its certificate file.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { MailEvent } from '../src/model/events.ts';
import { pinOf, selfSigned } from './certificates.ts';
import { type ClientCertificate, pinOfPem, type Relay } from './client.ts';
import type { Lab } from './lab.ts';

export const PROJECT = dirname(dirname(fileURLToPath(import.meta.url)));
const LAUNCHER = join(PROJECT, 'dane-relay');

/** One line of the relay's log about mail. */
export type LogEvent = MailEvent & { readonly time: unknown };

export interface RunningRelay extends Relay {
  /** Path of the configuration, for the relay's other commands. */
  readonly config: string;
  /** Path of the certificate that the relay presents. */
  readonly certificate: string;
  /** The certificate that the relay expects of its client, and where it is on disk. */
  readonly client: ClientCertificate & { readonly certFile: string; readonly keyFile: string };
  readonly events: () => readonly LogEvent[];
  /** Everything that the relay printed, for people who look for what went wrong. */
  readonly output: () => string;
  /** Resolves to the first event that fits, now or later; rejects when the relay ends or `withinMs` are over. */
  readonly untilEvent: (fits: (event: LogEvent) => boolean, withinMs?: number) => Promise<LogEvent>;
  /** Resolves once a line of its output fits, now or later. */
  readonly untilOutput: (line: RegExp) => Promise<void>;
  readonly pid: number;
  readonly signal: (name: 'SIGHUP' | 'SIGTERM') => void;
  /** Runs another command of the relay with its configuration. Never rejects for its exit status. */
  readonly command: (...words: readonly string[]) => Promise<CommandResult>;
  /** Ends it as an operator does; resolves to the exit status. */
  readonly stop: () => Promise<number | null>;
  /** Ends it without a word of warning: SIGKILL. */
  readonly kill: () => Promise<void>;
  /** Resolves to the exit status when it has ended, however it ends; null after a signal. */
  readonly ended: Promise<number | null>;
  /** Starts it anew, after its end, with the same configuration, port and state. */
  readonly again: () => Promise<RunningRelay>;
}

export interface CommandResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RelayOptions {
  readonly lab: Pick<Lab, 'resolver' | 'port'> & Partial<Pick<Lab, 'web'>>;
  /** Folder for configuration, certificates and state. */
  readonly dir: string;
  /** Keys that replace those of the configuration made here. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Environment variables beside those of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** A command that becomes the relay, with other rights or limits: `['prlimit', '--nofile=64']`. */
  readonly by?: readonly string[];
}

const START_ATTEMPTS = 3;

/** Resolves once the relay answers on its port. Rejects with what it printed when it ends before that. */
export async function startRelay({ lab, dir, config = {}, env = {}, by = [] }: RelayOptions): Promise<RunningRelay> {
  await mkdir(dir, { recursive: true });
  const own = await selfSigned('legacy.office.test');
  const client = {
    cert: own.chain,
    key: own.key,
    certFile: join(dir, 'client.pem'),
    keyFile: join(dir, 'client.key'),
  };
  await writeFile(client.certFile, client.cert);
  await writeFile(client.keyFile, client.key, { mode: 0o600 });

  const address = '127.0.0.1';
  const certificate = join(dir, 'relay.pem');
  const file = join(dir, 'relay.yaml');
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const settings = {
      hostname: 'relay.office.test',
      state: join(dir, 'state'),
      listen: [{ address, port, tls: 'starttls' }],
      certificate: { cert: certificate, key: join(dir, 'relay.key') },
      clients: [{ name: 'legacy', networks: ['127.0.0.0/8'], pins: [pinOf(own)], tls: 'required' }],
      resolver: lab.resolver,
      delivery: { port: lab.port, ...(lab.web && { ca: lab.web.ca, mtaStsPort: lab.web.port }) },
      queue: { retry: ['2s', '1h'] },
      workers: 1,
      admin: { listen: `127.0.0.1:${await freePort()}` },
      ...config,
    };
    // JSON is YAML too.
    await writeFile(file, `${JSON.stringify(settings, null, 2)}\n`);
    try {
      return await runRelay({ dir, address, port, config: file, certificate, client, env, by });
    } catch (error) {
      // Somebody else took a port between our look at it and the relay.
      if (attempt >= START_ATTEMPTS || !/EADDRINUSE/.test(String(error))) throw error;
    }
  }
}

interface Prepared extends Pick<RunningRelay, 'address' | 'port' | 'config' | 'certificate' | 'client'> {
  readonly dir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly by: readonly string[];
}

async function runRelay(prepared: Prepared): Promise<RunningRelay> {
  const { dir, config, certificate, env, by } = prepared;
  // setpriv turns into the relay itself, which is then told to stop when we die, however we die.
  const words = ['--pdeathsig', 'TERM', ...by, LAUNCHER, 'run', '--config', config];
  const child = spawn('setpriv', words, {
    cwd: dir,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const journal = listenTo(child);
  const ended = new Promise<number | null>((resolve) => child.once('close', (status) => resolve(status)));
  const stop = async (): Promise<number | null> => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    const hard = setTimeout(() => child.kill('SIGKILL'), 90_000);
    const status = await ended;
    clearTimeout(hard);
    return status;
  };
  try {
    await untilListening(prepared, journal);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    ...prepared,
    pin: pinOfPem(await readFile(certificate, 'utf8')),
    events: journal.events,
    output: journal.output,
    untilEvent: journal.untilEvent,
    untilOutput: async (line) => {
      const deadline = Date.now() + 120_000;
      while (
        !journal
          .output()
          .split('\n')
          .some((each) => line.test(each))
      ) {
        if (journal.ended() || Date.now() > deadline)
          throw new Error(`no line fits ${line} within 120 s:\n${journal.output()}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    pid: child.pid ?? 0,
    signal: (name) => void child.kill(name),
    command: (...words) => runCommand(...words, '--config', config),
    stop,
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
    ended,
    again: () => runRelay(prepared),
  };
}

/** Runs one command of the relay, without a configuration unless it is among the words. */
export function runCommand(...words: readonly string[]): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(LAUNCHER, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, stdout, stderr }));
  });
}

interface Journal extends Pick<RunningRelay, 'events' | 'output' | 'untilEvent'> {
  readonly ended: () => boolean;
}

function listenTo(child: ChildProcess): Journal {
  const events: LogEvent[] = [];
  const lines: string[] = [];
  const watchers = new Set<() => void>();
  let ended = false;
  const tell = (): void => {
    for (const look of [...watchers]) look();
  };
  for (const stream of [child.stdout, child.stderr]) {
    if (!stream) continue;
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line);
      const event = eventIn(line);
      if (!event) return;
      events.push(event);
      tell();
    });
  }
  child.once('error', (error) => lines.push(error.message));
  child.once('close', () => {
    ended = true;
    tell();
  });
  const output = (): string => lines.join('\n');
  const untilEvent: Journal['untilEvent'] = (fits, withinMs = 120_000) =>
    new Promise((resolve, reject) => {
      const settle = (act: () => void): void => {
        clearTimeout(timer);
        watchers.delete(look);
        act();
      };
      const look = (): void => {
        const found = events.find(fits);
        if (found) settle(() => resolve(found));
        else if (ended) settle(() => reject(new Error(`the relay has ended:\n${output()}`)));
      };
      const timer = setTimeout(() => {
        settle(() => reject(new Error(`no such event within ${withinMs} ms; the relay printed:\n${output()}`)));
      }, withinMs);
      watchers.add(look);
      look();
    });
  return { events: () => events, output, untilEvent, ended: () => ended };
}

function eventIn(line: string): LogEvent | null {
  if (!line.startsWith('{')) return null;
  try {
    const parsed: unknown = JSON.parse(line);
    return typeof parsed === 'object' && parsed && 'event' in parsed ? (parsed as LogEvent) : null;
  } catch {
    return null;
  }
}

/** Its certificate is there before it listens: without one, somebody else answers on the port. */
async function untilListening({ address, port, certificate }: Prepared, journal: Journal): Promise<void> {
  const deadline = Date.now() + 120_000;
  while (!existsSync(certificate) || !(await answers(address, port))) {
    if (journal.ended()) throw new Error(`the relay did not start:\n${journal.output()}`);
    if (Date.now() > deadline)
      throw new Error(`the relay does not listen on ${address}:${port} within 120 s:\n${journal.output()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/**
 * A port on 127.0.0.1 that nobody uses now. Below those that the system hands out by itself, or a connection of somebody
 * else could have it before it is listened on.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    const port = randomInt(10_000, 32_000);
    try {
      return await tryPort(port);
    } catch (error) {
      if (attempt >= PORT_ATTEMPTS) throw error;
    }
  }
}

const PORT_ATTEMPTS = 50;

function tryPort(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(port)));
  });
}
