/** A relay with a long queue, a host that takes everything, and a hundred addresses where nobody answers. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { type RelayOptions, type RunningRelay, startRelay } from '../../lab/relay.ts';
import { openSqliteStore } from '../../src/queue/sqlite.ts';
import { type CountingHost, proportionalMemoryOf } from '../../test/support/memory-load.ts';
import { fill, type Pile, type Rows } from './fill.ts';
import { type Latencies, loadDuring, quantile } from './load.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** Distinct destinations of what waits. */
export const DOMAINS = 100_000;
/** Of what is tried and of what is given up: a thousand destinations at a hundred addresses. */
const DEAD = { domains: 1_000, zones: 100 };
/** Messages that become due, fail and are put off before memory is looked at, as many for every length. */
const WORK = 3_000;
const CLAIMS = 200;
const LOAD_MS = 12_000;
const SCRAPES = 8;
const PATIENCE_MS = 300_000;
const SENDER = 'alice@office.test';

export interface World {
  readonly folder: string;
  readonly host: CountingHost;
  /** A port at which nobody listens. */
  readonly dead: number;
}

/** What a queue of some length costs that is not worked on. */
export interface Standing {
  readonly startMs: number;
  readonly claimMs: number;
  readonly memoryMb: number;
  readonly undisturbed: Latencies;
  /** While an operator drops what waits. */
  readonly dropping: Latencies;
  readonly dropped: number;
}

/** What it costs to give up many messages. */
export interface GivingUp {
  /** Messages a second. */
  readonly alone: number;
  readonly underLoad: number;
  readonly latencies: Latencies;
  readonly notices: number;
}

/** Fills the queue and looks at it. The queue is left in the folder. */
export async function stand(world: World, messages: number): Promise<Standing> {
  const tomorrow = Date.now() + DAY;
  const soon = { nextAttempt: tomorrow, expiresAt: tomorrow + DAY, sender: SENDER };
  fill({ ...pileIn(world), ...soon, name: 'pile', messages, domains: Math.min(DOMAINS, messages), zones: 1 });
  const claimMs = await claims(stateOf(world), tomorrow);
  const due = { ...soon, ...DEAD, nextAttempt: Date.now() - 1_000 };
  const work = fill({ ...pileIn(world), ...due, name: 'work', messages: WORK });

  const begun = performance.now();
  const relay = await start(world);
  const startMs = performance.now() - begun;
  try {
    await untilNone(world, 'code IS NULL', work);
    const watch = watchMemory(relay.pid);
    const undisturbed = await loadDuring(relay.port, LOAD_MS, scrape(relay));
    const memoryMb = watch.median();
    const operator = await openSqliteStore({ folder: stateOf(world), mode: 'visitor' });
    const before = count(world, 'TRUE', work.last);
    // Cut off when the time is over: what it has done is done.
    const drops = operator.drop({}, Date.now()).catch(() => undefined);
    const dropping = await loadDuring(relay.port, LOAD_MS, sleep(0));
    await operator.close();
    await drops;
    return { startMs, claimMs, memoryMb, undisturbed, dropping, dropped: before - count(world, 'TRUE', work.last) };
  } finally {
    await relay.stop();
  }
}

/**
 * Their time was over long ago: each destination gets a last attempt, at a host that is not there; what waits for the
 * same is given up with it.
 */
export async function giveUp(world: World, messages: number): Promise<GivingUp> {
  const past = Date.now() - HOUR;
  const over = { ...DEAD, nextAttempt: past, expiresAt: past, sender: SENDER };
  const rows = fill({ ...pileIn(world), ...over, name: 'late', messages });
  const relay = await start(world);
  try {
    const alone = await rate(world, rows, Math.floor(messages / 2));
    const under = rate(world, rows, 0);
    const latencies = await loadDuring(relay.port, 0, under);
    await relay.stop();
    const told = world.host.messages.filter(({ to }) => to === SENDER).length;
    const untold = count(world, `address = '${SENDER}'`, Number.MAX_SAFE_INTEGER, rows.last);
    return { alone, underLoad: await under, latencies, notices: told + untold };
  } finally {
    await relay.stop();
  }
}

/** What monitoring asks for in some minutes; it has the queue counted. */
async function scrape({ config }: RunningRelay): Promise<void> {
  const { admin } = JSON.parse(await readFile(config, 'utf8')) as { admin: { listen: string } };
  for (let at = 0; at < SCRAPES; at++) {
    await (await fetch(`http://${admin.listen}/metrics`)).text();
    await sleep(LOAD_MS / SCRAPES);
  }
}

/** The collector comes and goes: the median of many looks. */
function watchMemory(pid: number): { readonly median: () => number } {
  const seen: number[] = [];
  const timer = setInterval(() => seen.push(proportionalMemoryOf(pid)), 1_000);
  return {
    median: () => {
      clearInterval(timer);
      return quantile(seen, 0.5);
    },
  };
}

/** Messages a second until no more than `left` of these rows are there. */
async function rate(world: World, rows: Rows, left: number): Promise<number> {
  const before = count(world, 'TRUE', rows.last, rows.first - 1);
  const begun = performance.now();
  await untilNone(world, 'TRUE', rows, left);
  const seconds = (performance.now() - begun) / 1_000;
  return (before - count(world, 'TRUE', rows.last, rows.first - 1)) / seconds;
}

async function untilNone(world: World, condition: string, { first, last }: Rows, left = 0): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  while (count(world, condition, last, first - 1) > left) {
    if (Date.now() > deadline) throw new Error(`waited in vain for ${condition}`);
    await sleep(500);
  }
}

/** Recipients for which that is true, of those beyond row `after` and up to `last`. */
function count(world: World, condition: string, last: number, after = 0): number {
  const db = new Database(join(stateOf(world), 'queue.db'), { readonly: true });
  try {
    return Number(
      db.prepare(`SELECT count(*) FROM recipient WHERE id > ? AND id <= ? AND ${condition}`).pluck().get(after, last),
    );
  } finally {
    db.close();
  }
}

/** The median of the milliseconds that a claim of fifty takes at a time when all are due. */
async function claims(folder: string, now: number): Promise<number> {
  const store = await openSqliteStore({ folder, mode: 'relay' });
  try {
    const request = { owner: 'scale', now, leaseMs: HOUR, limit: 50, limitAgain: 50, perDomain: 20, taken: new Map() };
    const taken: number[] = [];
    for (let round = 0; round < CLAIMS; round++) {
      const begun = performance.now();
      const claimed = await store.claim(request);
      taken.push(performance.now() - begun);
      const leases = claimed.map(({ lease }) => lease);
      await store.giveBack(leases, 0);
    }
    return quantile(taken, 0.5);
  } finally {
    await store.close();
  }
}

function start({ folder, host, dead }: World): Promise<RunningRelay> {
  const to = (name: string, at: number) => ({
    domain: `*.${name}${at}.test`,
    tls: 'may',
    via: `[127.0.1.${at + 1}]:${dead}`,
  });
  const zones = Array.from({ length: DEAD.zones }, (_, at) => [to('work', at), to('late', at)]).flat();
  // Nobody answers there, and no rule here needs an answer.
  const resolver: RelayOptions['lab']['resolver'] = {
    address: `127.0.0.1:${dead}`,
    probe: { signed: '.', bogus: ['bogus.test'] },
  };
  return startRelay({
    lab: { port: 25, resolver },
    dir: folder,
    config: {
      clients: [{ name: 'loader', networks: ['127.0.0.0/8'], tls: 'optional' }],
      destinations: [...zones, { domain: '*', tls: 'may', via: `[127.0.0.1]:${host.port}` }],
      log: { level: 'error' },
    },
  });
}

function stateOf({ folder }: World): string {
  return join(folder, 'state');
}

function pileIn(world: World): Pick<Pile, 'folder'> {
  return { folder: stateOf(world) };
}
