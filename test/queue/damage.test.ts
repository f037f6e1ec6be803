/** Files that are not what they were: nothing that has changed is handed out, and nothing is promised on shaky ground. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openSqliteStore } from '../../src/queue/sqlite.ts';
import { type Store, StoreError } from '../../src/queue/store.ts';
import { everything, leaves, MONDAY, message, octetsOf, terms } from './good-day.ts';

let root: string;
let folder: string;
let store: Store;

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'dane-relay-damage-'));
  folder = join(root, 'queue');
  store = await open();
});

afterEach(async () => {
  await store.close().catch(() => undefined);
  rmSync(root, { recursive: true, force: true });
});

const open = (): Promise<Store> => openSqliteStore({ folder, mode: 'relay', reserveBytes: 0 });

function bodyFile(): string {
  const names = readdirSync(join(folder, 'bodies'), { recursive: true }).map(String);
  return join(folder, 'bodies', names.find((name) => name.endsWith('.eml')) ?? 'none');
}

function flip(path: string, at: number): void {
  const octets = readFileSync(path);
  octets.writeUInt8((octets[at] ?? 0) ^ 1, at);
  writeFileSync(path, octets);
}

describe('a body', () => {
  test('one octet of a file has changed: the stream breaks off and never comes to its end', async () => {
    const sent = message({ body: { kind: 'memory', bytes: randomBytes(400_000) } });
    await store.accept(sent, terms);
    expect(await octetsOf(store, sent.id)).toHaveLength(400_000);
    flip(bodyFile(), 399_999);
    await expect(octetsOf(store, sent.id)).rejects.toThrow(/has changed on the disk/);
    flip(bodyFile(), 399_999);
    expect(await octetsOf(store, sent.id)).toHaveLength(400_000);
  });

  test('a file that came from the caller is known by its sum, told or not', async () => {
    for (const told of [true, false]) {
      const path = join(root, 'spooled');
      const octets = randomBytes(300_000);
      writeFileSync(path, octets);
      const wrong = told ? { sha256: Buffer.alloc(32) } : {};
      const sent = message({ body: { kind: 'file', path, ...wrong } });
      await store.accept(sent, terms);
      const end = octetsOf(store, sent.id);
      if (told) await expect(end).rejects.toThrow(StoreError);
      else expect((await end).equals(octets)).toBe(true);
    }
  });

  test('a body that is missing is an error of its message alone', async () => {
    const large = message({ body: { kind: 'memory', bytes: randomBytes(400_000) } });
    const small = message();
    await store.accept(large, terms);
    await store.accept(small, terms);
    rmSync(bodyFile());
    await expect(store.openBody(large.id)).rejects.toThrow(/ENOENT/);
    expect((await octetsOf(store, small.id)).toString()).toContain('Good day.');
  });

  test('one octet of a body in the database has changed: it is not handed out', async () => {
    const sent = message();
    await store.accept(sent, terms);
    await store.close();
    const path = join(folder, 'queue.db');
    const at = readFileSync(path).indexOf('Good day.');
    expect(at).toBeGreaterThan(0);
    flip(path, at);
    store = await open();
    await expect(store.openBody(sent.id)).rejects.toThrow(/has changed on the disk/);
  });

  test('mail of a release that kept no sum is still delivered', async () => {
    const sent = message({ body: { kind: 'memory', bytes: randomBytes(400_000) } });
    await store.accept(sent, terms);
    const db = new Database(join(folder, 'queue.db'));
    db.exec('UPDATE message SET body_sha256 = NULL');
    db.close();
    expect(await octetsOf(store, sent.id)).toHaveLength(400_000);
  });
});

describe('a damaged database', () => {
  const fill = async (): Promise<void> => {
    for (let count = 0; count < 60; count++)
      await store.accept(message({ to: [`n${count}@d${count}.example`] }), terms);
    await store.close();
  };

  test('octets in the middle are overwritten: the relay does not open it, and says what to do', async () => {
    await fill();
    const path = join(folder, 'queue.db');
    const octets = readFileSync(path);
    randomBytes(4096 * 4).copy(octets, 4096 * 3);
    writeFileSync(path, octets);
    await expect(open()).rejects.toThrow(/queue\.db is damaged \(.+\)\. Keep a copy of the folder; .*\.recover/);
    // The operator still looks at what can be read.
    const visitor = await openSqliteStore({ folder, mode: 'visitor' });
    await visitor.close();
  });

  test('garbage in place of the write-ahead log: refused, not taken for an empty one', async () => {
    await fill();
    writeFileSync(join(folder, 'queue.db-wal'), randomBytes(100_000));
    await expect(open()).rejects.toThrow(/queue\.db-wal is damaged.*move it away/s);
    rmSync(join(folder, 'queue.db-wal'));
    store = await open();
    expect(await store.list({}, MONDAY)).toHaveLength(60);
  });

  test('a log of zeros, as a power cut may leave one, is an empty one', async () => {
    await fill();
    writeFileSync(join(folder, 'queue.db-wal'), Buffer.alloc(50_000));
    store = await open();
    expect(await store.list({}, MONDAY)).toHaveLength(60);
  });

  test('damage that is found while it runs: nothing more is taken in, and health says why', async () => {
    await fill();
    store = await open();
    expect(await store.health()).toMatchObject({ fault: null });
    const path = join(folder, 'queue.db');
    const { size } = statSync(path);
    const octets = readFileSync(path);
    randomBytes(size - 4096).copy(octets, 4096);
    writeFileSync(path, octets);
    // A commit of somebody else, so that the pages that are in memory count no more.
    const other = new Database(path);
    other.pragma(`user_version = ${String(other.pragma('user_version', { simple: true }))}`);
    other.close();
    await expect(store.list({}, MONDAY)).rejects.toThrow(/malformed|not whole|disk image/);
    await expect(store.accept(message(), terms)).rejects.toThrow(/is damaged/);
    expect((await store.health()).fault).toMatch(/is damaged .*nothing more is taken in/);
  });
});

describe('files that were taken away', () => {
  test.each([
    ['the whole folder', () => folder],
    ['the database', () => join(folder, 'queue.db')],
    ['the write-ahead log', () => join(folder, 'queue.db-wal')],
  ])('%s: nothing is accepted into the void, what is there still leaves, and it recovers', async (_, what) => {
    await store.accept(message({ id: 'BEFORE' }), terms);
    renameSync(what(), `${what()}.away`);
    await expect(store.accept(message({ id: 'VOID' }), terms)).rejects.toThrow(/cannot be reached any more \(ENOENT\)/);
    expect((await store.health()).fault).toMatch(/ENOENT/);
    const [claim] = await store.claim(everything);
    expect(claim?.batch.messageId).toBe('BEFORE');
    expect((await octetsOf(store, 'BEFORE')).toString()).toContain('Good day.');
    expect(await store.settle(claim?.lease ?? '', [leaves(1)], [])).toBe('settled');
    renameSync(`${what()}.away`, what());
    expect(await store.health()).toMatchObject({ fault: null });
    await store.accept(message({ id: 'AFTER' }), terms);
    await store.close();
    store = await open();
    expect((await store.list({}, MONDAY)).map(({ queueId }) => queueId)).toEqual(['AFTER']);
  });

  test('another database in its place is not written to', async () => {
    const path = join(folder, 'queue.db');
    writeFileSync(`${path}.copy`, readFileSync(path));
    renameSync(`${path}.copy`, path);
    await expect(store.accept(message(), terms)).rejects.toThrow(/was replaced while the relay works with it/);
  });
});

test('health tells the room that is left, and that there is none', async () => {
  const { room, fault } = await store.health();
  expect(fault).toBeNull();
  expect(room).toBeGreaterThan(0);
  await store.close();
  store = await openSqliteStore({ folder, mode: 'relay', reserveBytes: Number.MAX_SAFE_INTEGER });
  expect((await store.health()).room).toBeLessThan(0);
  expect(readdirSync(folder).filter((name) => name.includes('tried'))).toEqual([]);
});
