/**
 * What a long queue costs: `node bench/scale/main.ts [MESSAGES …]`, by default 50,000 and 500,000. For each length a relay
 * is started on a queue that was filled beforehand, and asked: how long until it takes mail, how much memory it has, how
 * long a message takes that comes now, what a claim costs. Then a tenth of the queue, up to 100,000, expires at once
 * while mail comes in.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, startRelay } from '../../lab/relay.ts';
import { openSqliteStore } from '../../src/queue/sqlite.ts';
import { Client, proportionalMemoryOf, startCountingHost } from '../../test/support/memory-load.ts';
import { fill } from './fill.ts';

const HOUR = 3_600_000;
const DOMAINS = 100_000;
const EXPIRING = 100_000;
const CLAIMS = 200;
const FRESH = 300;

interface Figures {
  readonly messages: number;
  readonly startMs: number;
  readonly memoryMb: number;
  readonly claimMs: string;
  readonly acceptMs: string;
  readonly expiringAcceptMs: string;
  readonly expiredPerSecond: number;
}

const lengths = process.argv.slice(2).map(Number);
if (lengths.some((length) => !Number.isSafeInteger(length) || length < 1_000)) {
  process.stderr.write('usage: node bench/scale/main.ts [MESSAGES …], 1000 at least\n');
  process.exit(2);
}
const all: Figures[] = [];
for (const length of lengths.length > 0 ? lengths : [50_000, 500_000]) all.push(await measure(length));
process.stdout.write(`${table(all)}\n`);

async function measure(messages: number): Promise<Figures> {
  const folder = await mkdtemp(join(tmpdir(), 'dane-scale-'));
  const host = await startCountingHost();
  const dead = await freePort();
  try {
    const state = join(folder, 'state');
    const tomorrow = Date.now() + 24 * HOUR;
    const expiring = Math.min(EXPIRING, Math.floor(messages / 10));
    fill({
      folder: state,
      messages,
      domains: DOMAINS,
      name: 'pile',
      nextAttempt: tomorrow,
      expiresAt: tomorrow + HOUR,
    });
    const claimMs = await claims(state, tomorrow);

    const begun = performance.now();
    const config = {
      clients: [{ name: 'loader', networks: ['127.0.0.0/8'], tls: 'optional' }],
      destinations: [
        { domain: '*.late.test', tls: 'may', via: `[127.0.0.1]:${dead}` },
        { domain: '*', tls: 'may', via: `[127.0.0.1]:${host.port}` },
      ],
      log: { level: 'error' },
    };
    // Nobody answers there, and no rule here needs an answer.
    const resolver = { address: `127.0.0.1:${dead}`, probe: { signed: '.', bogus: ['bogus.test'] } };
    const where = { lab: { port: 25, resolver }, dir: folder, config };
    const relay = await startRelay(where);
    const startMs = performance.now() - begun;
    const acceptMs = await accepts(relay.port, FRESH);
    await sleep(2_000);
    const memoryMb = proportionalMemoryOf(relay.pid);
    await relay.stop();

    // Their time was over long ago: each gets one last attempt, at a host that is not there, and is given up.
    const before = Date.now() - HOUR;
    fill({ folder: state, messages: expiring, domains: DOMAINS, name: 'late', nextAttempt: before, expiresAt: before });
    const again = await startRelay(where);
    const started = performance.now();
    const whileExpiring: number[] = [];
    while ((await left(state)) > 0) whileExpiring.push(...(await latencies(again.port, 50)));
    const seconds = (performance.now() - started) / 1_000;
    await again.stop();
    return {
      messages,
      startMs,
      memoryMb,
      claimMs,
      acceptMs,
      expiringAcceptMs: percentiles(whileExpiring),
      expiredPerSecond: Math.round(expiring / seconds),
    };
  } finally {
    await host.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Milliseconds that a claim of fifty takes at a time when all of them are due, and to give them back. */
async function claims(folder: string, now: number): Promise<string> {
  const store = await openSqliteStore({ folder, mode: 'relay' });
  try {
    const request = { owner: 'scale', now, leaseMs: HOUR, limit: 50, perDomain: 20, taken: new Map() };
    const taken: number[] = [];
    for (let round = 0; round < CLAIMS; round++) {
      const begun = performance.now();
      const claimed = await store.claim(request);
      taken.push(performance.now() - begun);
      await store.giveBack(claimed.map(({ lease }) => lease));
    }
    return percentiles(taken);
  } finally {
    await store.close();
  }
}

async function left(folder: string): Promise<number> {
  const store = await openSqliteStore({ folder, mode: 'visitor' });
  try {
    return (await store.outlook(Date.now(), 1)).due.length;
  } finally {
    await store.close();
  }
}

async function accepts(port: number, count: number): Promise<string> {
  return percentiles(await latencies(port, count));
}

/** From the final dot to the 250, one message after another on one connection. */
async function latencies(port: number, count: number): Promise<readonly number[]> {
  const client = new Client(port);
  await client.greet();
  const taken: number[] = [];
  for (let at = 0; at < count; at++) {
    const begun = performance.now();
    await client.send(`someone@fresh${at % 20}.test`, ['Subject: now\r\n']);
    taken.push(performance.now() - begun);
  }
  client.end();
  return taken;
}

function percentiles(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  return [0.5, 0.99].map((part) => (sorted[Math.floor((sorted.length - 1) * part)] ?? 0).toFixed(1)).join(' / ');
}

function table(figures: readonly Figures[]): string {
  const rows: readonly (readonly [string, (of: Figures) => string])[] = [
    ['start until mail is taken, ms', ({ startMs }) => startMs.toFixed(0)],
    ['memory of all processes (PSS), MB', ({ memoryMb }) => memoryMb.toFixed(0)],
    ['claim of fifty, p50 / p99 ms', ({ claimMs }) => claimMs],
    ['message taken, p50 / p99 ms', ({ acceptMs }) => acceptMs],
    ['the same while mail expires, p50 / p99 ms', ({ expiringAcceptMs }) => expiringAcceptMs],
    ['expired a second meanwhile', ({ expiredPerSecond }) => String(expiredPerSecond)],
  ];
  const head = `| waiting messages, ${DOMAINS.toLocaleString('en-US')} domains | ${figures.map(({ messages }) => messages.toLocaleString('en-US')).join(' | ')} |`;
  const rule = `|---|${figures.map(() => '---|').join('')}`;
  return [head, rule, ...rows.map(([what, of]) => `| ${what} | ${figures.map(of).join(' | ')} |`)].join('\n');
}
