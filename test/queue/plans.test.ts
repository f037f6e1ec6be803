/** Nothing that the relay asks of its queue while it works takes longer because more waits: SQLite's own word for it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createBodyFiles } from '../../src/queue/body-files.ts';
import { createDeeds } from '../../src/queue/deeds.ts';
import { createOperations } from '../../src/queue/sqlite-operations.ts';
import { openDatabase } from '../../src/queue/sqlite-schema.ts';
import { everything, MONDAY, message, terms } from './good-day.ts';

let folder: string;
let db: Database.Database;
/** Every statement of the store, in the order in which it is made. */
const statements: string[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'dane-relay-plans-'));
  db = openDatabase(folder, 'relay');
  const watched = new Proxy(db, {
    get(target, name) {
      if (name !== 'prepare') return Reflect.get(target, name, target);
      return (sql: string) => {
        statements.push(sql);
        return target.prepare(sql);
      };
    },
  });
  const operations = createOperations(
    watched,
    createBodyFiles(join(folder, 'bodies')),
    createDeeds(),
    () => 1e9,
    () => false,
  );
  // Those that are put together for a request.
  operations.accept(message(), terms.expiresAt, null);
  operations.claim(everything);
  operations.list({ domain: 'x.example' }, MONDAY);
  operations.move('hold', {}, MONDAY, { after: 0, upTo: null });
});

afterAll(() => {
  db.close();
  rmSync(folder, { recursive: true, force: true });
});

function planOf(sql: string): readonly string[] {
  const values = sql.includes('@now') ? [{ now: 1 }] : Array.from(sql.matchAll(/\?/g), () => 1);
  const steps = db.prepare<unknown[], { detail: string }>(`EXPLAIN QUERY PLAN ${sql}`).all(...values);
  return steps.map(({ detail }) => detail);
}

/** The steps that look through a table or sort, if there are any. */
const longSteps = (sql: string): readonly string[] => planOf(sql).filter((step) => /\bSCAN\b|TEMP B-TREE/.test(step));

describe('what is asked while the relay works finds its rows by index, whatever waits', () => {
  test('all but what stands here', () => {
    const long = statements.flatMap((sql) =>
      longSteps(sql).map((step) => `${sql.replaceAll(/\s+/g, ' ').slice(0, 60)}: ${step}`),
    );
    expect(long).toEqual([
      // When the clock was put back by more than a minute.
      'UPDATE lane SET due = due - ?: SCAN lane USING COVERING INDEX lane_due',
      // One row: from the end.
      'SELECT received_at FROM message ORDER BY seq DESC LIMIT 1: SCAN message',
      // The clock again.
      'UPDATE recipient SET next_attempt = next_attempt - ?: SCAN recipient',
      // Leases are as few as the attempts that run: looking through them is what is wanted.
      'SELECT id, owner FROM lease WHERE until <= ? AND owner <> ?: SCAN lease',
      // For metrics: ten thousand rows, and those under a lease.
      'SELECT count(*) FILTER (WHERE held = 0 AND lease IS NULL) AS: SCAN (subquery-1)',
      'SELECT count(*) FILTER (WHERE l.until > @now) AS delivering,: SCAN r USING INDEX recipient_leased',
      // The list for an operator, in a process of his own that holds nobody up.
      expect.stringMatching(/^SELECT m\.id AS queue_id.*: SCAN r/),
      expect.stringMatching(/^SELECT m\.id AS queue_id.*: USE TEMP B-TREE/),
    ]);
  });

  test('a claim takes the recipients of a message by the message, not by all that wait for the domain', () => {
    const take = statements.find((sql) => sql.startsWith('UPDATE recipient INDEXED BY')) ?? '';
    expect(planOf(take)).toEqual(['SEARCH recipient USING INDEX recipient_of_message (message=? AND domain=?)']);
  });
});

describe("an operator's request", () => {
  test('looks through no more than some thousand recipients before others may write', () => {
    const operations = createOperations(
      db,
      createBodyFiles(join(folder, 'bodies')),
      createDeeds(),
      () => 1e9,
      () => false,
    );
    const to = Array.from({ length: 5_000 }, (_, at) => `p${at}@many.example`);
    operations.accept(message({ to }), terms.expiresAt, null);
    operations.accept(message({ id: 'RARE', to: ['x@rare.example'] }), terms.expiresAt, null);
    const filter = { domain: 'rare.example' };
    const first = operations.move('hold', filter, MONDAY, { after: 0, upTo: null });
    expect(first.moved.changed).toBe(0);
    expect(first.rest?.after).toBe(4_000);
    const second = operations.move('hold', filter, MONDAY, first.rest ?? { after: 0, upTo: null });
    expect(second).toEqual({ moved: { changed: 1, delivering: 0, held: 0 }, rest: null });
    expect(operations.move('hold', { ids: ['RARE'] }, MONDAY, { after: 0, upTo: null })).toEqual(second);
  });
});
