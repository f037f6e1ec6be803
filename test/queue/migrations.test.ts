/**
 * Queues of earlier releases, each as SQL in `schema-N.sql`: mail in them is all there after an upgrade, readable and
 * deliverable, and the schema is the same as that of a new queue.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openSqliteStore } from '../../src/queue/sqlite.ts';
import { octetsOf } from './good-day.ts';

const NOW = Date.UTC(2026, 10, 2);
const FIXTURES = readdirSync('test/queue').filter((name) => /^schema-\d+\.sql$/.test(name));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dane-migrations-'));
});
afterEach(async () => rm(folder, { recursive: true, force: true }));

function writeQueue(fixture: string): void {
  const db = new Database(join(folder, 'queue.db'));
  db.pragma('journal_mode = WAL');
  db.exec(readFileSync(join('test/queue', fixture), 'utf8'));
  db.close();
}

/** Columns and indexes of every table; how they came about does not matter. */
function schemaOf(path: string): unknown {
  const db = new Database(join(path, 'queue.db'), { readonly: true });
  const tables = db
    .prepare("SELECT name FROM sqlite_master WHERE type IN ('table', 'index') ORDER BY name")
    .pluck()
    .all();
  const columns = tables.map((name) => [
    name,
    db.pragma(`table_xinfo(${String(name)})`),
    db.pragma(`index_xinfo(${String(name)})`),
  ]);
  const version = db.pragma('user_version');
  db.close();
  return { version, columns };
}

test.each(FIXTURES)('%s: what waited, was held or was being delivered is all there', async (fixture) => {
  writeQueue(fixture);
  const store = await openSqliteStore({ folder, mode: 'relay' });
  try {
    expect((await store.recover('relay.example.test')).leases).toBe(1);
    const entries = await store.list({}, NOW);
    expect(entries.map(({ queueId, recipient, state }) => `${queueId} ${recipient} ${state}`).toSorted()).toEqual([
      'FIRST bob@one.test waiting',
      'FIRST carol@two.test waiting',
      'FIRST eve@one.test waiting',
      'SECOND dave@three.test held',
    ]);
    expect(String(await octetsOf(store, 'FIRST'))).toBe('Subject: one\r\n\r\nfirst\r\n');
    expect(String(await octetsOf(store, 'SECOND'))).toBe('Subject: two\r\n\r\nsecond\r\n');
    expect((await store.show('SECOND', NOW))?.envelope).toMatchObject({
      sender: '',
      ret: 'full',
      envid: 'x=y',
      tls: 'default',
    });
    await store.release({}, NOW);
    const claims = await store.claim({
      owner: 'relay.example.test',
      now: NOW,
      leaseMs: 60_000,
      limit: 10,
      limitAgain: 10,
      perDomain: 10,
      taken: new Map(),
    });
    expect(claims.flatMap(({ batch }) => batch.recipients.map(({ address }) => address)).toSorted()).toEqual([
      'bob@one.test',
      'carol@two.test',
      'dave@three.test',
      'eve@one.test',
    ]);
  } finally {
    await store.close();
  }
});

test.each(FIXTURES)('%s: the schema becomes that of a new queue', async (fixture) => {
  writeQueue(fixture);
  await (await openSqliteStore({ folder, mode: 'relay' })).close();
  const fresh = join(folder, 'fresh');
  await (await openSqliteStore({ folder: fresh, mode: 'relay' })).close();
  expect(schemaOf(folder)).toEqual(schemaOf(fresh));
});

test.each(FIXTURES)('%s: a command that only looks does not upgrade it, and says what does', async (fixture) => {
  writeQueue(fixture);
  const before = await readFile(join(folder, 'queue.db'));
  await expect(openSqliteStore({ folder, mode: 'visitor' })).rejects.toThrow(/start the relay once/);
  expect((await readFile(join(folder, 'queue.db'))).equals(before)).toBe(true);
});

test('there is a fixture for every schema before the present one', async () => {
  await (await openSqliteStore({ folder, mode: 'relay' })).close();
  const db = new Database(join(folder, 'queue.db'), { readonly: true });
  const version = Number(db.pragma('user_version', { simple: true }));
  db.close();
  const wanted = Array.from({ length: version - 1 }, (_, at) => `schema-${at + 1}.sql`);
  expect(FIXTURES.toSorted()).toEqual(wanted);
});
