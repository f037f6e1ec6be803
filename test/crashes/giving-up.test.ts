/**
 * Many messages whose time is over at once, and a relay that dies among them again and again: each sender hears of each
 * message exactly once. Nobody takes the notices here, so that all of them can be counted in the queue.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fill } from '../../bench/scale/fill.ts';
import { freePort, type RelayOptions, startRelay } from '../../lab/relay.ts';
import { Client } from '../support/memory-load.ts';

const MESSAGES = 2_000;
const DEATHS = 3;
const HOUR = 3_600_000;

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'dane-relay-giving-up-'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('TXN-07 TXN-08 two thousand messages are given up, the relay dies in between: one notice for each, mail comes in all the while', async () => {
  const state = join(folder, 'state');
  const over = Date.now() - HOUR;
  fill({
    folder: state,
    messages: MESSAGES,
    domains: 10,
    zones: 1,
    name: 'late',
    nextAttempt: over,
    expiresAt: over,
    sender: 'jan@office.test',
  });
  const dead = await freePort();
  const resolver: RelayOptions['lab']['resolver'] = {
    address: `127.0.0.1:${dead}`,
    probe: { signed: '.', bogus: ['bogus.test'] },
  };
  let relay = await startRelay({
    lab: { port: 25, resolver },
    dir: folder,
    config: {
      clients: [{ name: 'loader', networks: ['127.0.0.0/8'], tls: 'optional' }],
      destinations: [{ domain: '*', tls: 'may', via: `[127.0.0.1]:${dead}` }],
      queue: { retry: ['1h'] },
      log: { level: 'error' },
    },
  });
  const waiting = (sql: string): number => {
    const db = new Database(join(state, 'queue.db'), { readonly: true });
    try {
      return Number(db.prepare(sql).pluck().get());
    } finally {
      db.close();
    }
  };
  const left = (): number => waiting("SELECT count(*) FROM recipient WHERE domain LIKE '%.late0.test'");
  const taken: string[] = [];
  const comeIn = async (port: number): Promise<void> => {
    const client = new Client(port);
    try {
      await client.greet();
      for (;;) {
        const to = `in${taken.length}@new.test`;
        await client.send(to, ['Subject: meanwhile\r\n']);
        taken.push(to);
        await sleep(20);
      }
    } catch {
      // The relay has died; what had no 250 was promised to nobody.
    } finally {
      client.end();
    }
  };

  for (let death = 1; death <= DEATHS; death++) {
    const before = left();
    const coming = comeIn(relay.port);
    const goal = Math.floor((MESSAGES * (DEATHS - death + 1)) / (DEATHS + 2));
    while (left() > Math.min(goal, before - 1)) await sleep(10);
    await relay.kill();
    await coming;
    relay = await relay.again();
  }
  const coming = comeIn(relay.port);
  while (left() > 0) await sleep(50);
  await relay.stop();
  await coming;

  const about = new Set<string>();
  const db = new Database(join(state, 'queue.db'), { readonly: true });
  const notices = db
    .prepare<[], { octets: Buffer }>(
      "SELECT octets FROM body JOIN recipient USING (message) WHERE address = 'jan@office.test'",
    )
    .all();
  for (const { octets } of notices) about.add(/^Final-Log-ID: (\S+)\r$/m.exec(octets.toString())?.[1] ?? 'nothing');
  db.close();
  expect(notices).toHaveLength(MESSAGES);
  expect(about.size).toBe(MESSAGES);
  expect(about.has('nothing')).toBe(false);
  expect(taken.length).toBeGreaterThan(DEATHS);
  expect(waiting("SELECT count(*) FROM recipient WHERE domain = 'new.test'")).toBeGreaterThanOrEqual(taken.length);
});
