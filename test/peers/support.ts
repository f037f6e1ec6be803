/** What the tests against other people's software share. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createConnection } from 'node:net';
import type { Mail } from '../../lab/host.ts';
import type { LogEvent } from '../../lab/relay.ts';

const root = process.getuid?.() === 0;

/** For the name of a test that cannot run here: why not. Empty when it can. */
export function whyNot(...programs: readonly string[]): string {
  const missing = programs.filter((program) => !existsSync(program));
  if (missing.length > 0) return ` (skipped: ${missing.join(', ')} is not installed)`;
  return root ? '' : ' (skipped: a mail server of the system must be started as root)';
}

/** Resolves once something answers there. Rejects with `words()` after a minute, or as soon as `gone()` is true. */
export async function untilAnswers(
  address: string,
  port: number,
  words: () => string,
  gone: () => boolean = () => false,
): Promise<void> {
  const deadline = Date.now() + 120_000;
  for (;;) {
    if (await greets(address, port)) return;
    if (gone() || Date.now() > deadline) throw new Error(`nothing answers on ${address}:${port}:\n${words()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function greets(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port });
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('data', (chunk: Buffer) => done(chunk.toString().startsWith('220')));
    socket.once('error', () => done(false));
    socket.once('close', () => done(false));
  });
}

/** A program of somebody else that runs until it is stopped. It is told to stop when this process dies. */
export interface Daemon {
  readonly gone: () => boolean;
  readonly output: () => string;
  /** Asks it and its children to stop, and waits until it has. */
  readonly stop: () => Promise<void>;
}

export function startDaemon(words: readonly string[], env: NodeJS.ProcessEnv = process.env): Daemon {
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', ...words], {
    env,
    // A process group of its own: mail servers leave a process to every connection, which must end with them.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  let gone = false;
  const ended = new Promise<void>((resolve) => {
    const end = (): void => {
      gone = true;
      resolve();
    };
    child.once('exit', end);
    child.once('error', end);
  });
  const tell = (signal: NodeJS.Signals): void => {
    try {
      if (child.pid) process.kill(-child.pid, signal);
    } catch {
      // Nobody of the group is left.
    }
  };
  return {
    gone: () => gone,
    output: () => output,
    stop: async () => {
      const hard = setTimeout(() => tell('SIGKILL'), 10_000);
      tell('SIGTERM');
      await ended;
      clearTimeout(hard);
    },
  };
}

/** The message without the Received header fields that hosts on the way have put on top of it. */
export function withoutTrace(content: Buffer): Buffer {
  const text = content.toString('latin1');
  const trace =
    /^(?:(?:Received|Return-Path|Delivered-To|X-Original-To|Envelope-to|Delivery-date):.*\r?\n(?:[ \t].*\r?\n)*)*/i;
  return Buffer.from(text.slice(trace.exec(text)?.[0].length ?? 0), 'latin1');
}

export function mailTo(mailboxes: readonly Mail[], recipient: string): readonly Mail[] {
  return mailboxes.filter(({ recipients }) => recipients.includes(recipient));
}

/** True for the end of an attempt: being accepted is only the beginning. */
export function isEnd({ event }: LogEvent): boolean {
  return event === 'delivered' || event === 'deferred' || event === 'bounced';
}
