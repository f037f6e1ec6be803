import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { Body, NewMessage } from '../../src/model/message.ts';
import { openSqliteStore } from '../../src/queue/sqlite.ts';
import { openEngine, type Reply, type Request } from '../../src/queue/sqlite-engine.ts';
import { StoreError, StoreFull, StoreMissing } from '../../src/queue/store.ts';
import { everything, leaves, MONDAY, message, octetsOf, terms } from './good-day.ts';
import { storeContract } from './store-contract.ts';

storeContract('SQLite', (folder) => openSqliteStore({ folder: `${folder}/queue`, mode: 'relay', reserveBytes: 0 }));

let root: string;
let folder: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'dane-relay-sqlite-'));
  folder = join(root, 'deep', 'queue');
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

const relay = { mode: 'relay', reserveBytes: 0 } as const;

function memory(octets: number): Body {
  return { kind: 'memory', bytes: randomBytes(octets) };
}

function file(octets: number): Body & { readonly kind: 'file' } {
  const path = join(root, `${randomBytes(4).toString('hex')}.eml`);
  writeFileSync(path, randomBytes(octets));
  return { kind: 'file', path };
}

function bodyFiles(): readonly string[] {
  const names = existsSync(join(folder, 'bodies')) ? readdirSync(join(folder, 'bodies'), { recursive: true }) : [];
  return names.map(String).filter((name) => name.endsWith('.eml'));
}

test('a look at whether an owner lives, which has the lock for a moment, keeps nobody from starting', async () => {
  const store = await openSqliteStore({ folder, ...relay });
  const lock = new Database(join(folder, 'owner-node-1.lock'));
  lock.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
  const recovered = store.recover('node-1');
  await setTimeout(200);
  lock.close();
  expect(await recovered).toMatchObject({ leases: 0 });
  await store.close();
});

describe('the folder', () => {
  test('the folder is 0700 and every file in it 0600', async () => {
    const store = await openSqliteStore({ folder, ...relay });
    await store.recover('node-1');
    await store.accept(message({ body: memory(400_000) }), terms);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    const modes = readdirSync(folder, { recursive: true, withFileTypes: true }).map((entry) => {
      const mode = statSync(join(entry.parentPath, entry.name)).mode & 0o777;
      return [entry.name, mode.toString(8), entry.isDirectory() ? '700' : '600'];
    });
    expect(modes.length).toBeGreaterThan(4);
    expect(modes.filter(([, mode, wanted]) => mode !== wanted)).toEqual([]);
    await store.close();
  });

  test('a visitor finds no queue and makes none', async () => {
    mkdirSync(folder, { recursive: true });
    await expect(openSqliteStore({ folder, mode: 'visitor' })).rejects.toThrow(StoreMissing);
    expect(readdirSync(folder)).toEqual([]);
  });

  test('a database of a newer release is refused and left as it is, by relay and visitor', async () => {
    await (await openSqliteStore({ folder, ...relay })).close();
    const db = new Database(join(folder, 'queue.db'));
    const ours = Number(db.pragma('user_version', { simple: true }));
    db.pragma(`user_version = ${String(ours + 1)}`);
    for (const mode of ['relay', 'visitor'] as const) {
      await expect(openSqliteStore({ folder, mode })).rejects.toThrow(/written by a newer release/);
    }
    expect(Number(db.pragma('user_version', { simple: true }))).toBe(ours + 1);
    db.close();
  });

  test('a database of an older release is brought up to date by a relay and left alone by a visitor', async () => {
    mkdirSync(folder, { recursive: true });
    new Database(join(folder, 'queue.db')).exec('PRAGMA user_version = 0; CREATE TABLE other (x)').close();
    await expect(openSqliteStore({ folder, mode: 'visitor' })).rejects.toThrow(/start the relay once/);
    const store = await openSqliteStore({ folder, ...relay });
    await store.accept(message(), terms);
    await store.close();
  });

  test('something that is no database is refused with a word', async () => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'queue.db'), 'this is no database, it only has its name and its length'.repeat(100));
    await expect(openSqliteStore({ folder, ...relay })).rejects.toThrow(/not a database/);
  });

  test('a worker that joins others deletes no body file: another one may be about to commit its message', async () => {
    const [first, second] = [await openSqliteStore({ folder, ...relay }), await openSqliteStore({ folder, ...relay })];
    await first.join('node-1/1');
    await first.accept(message({ body: file(300_000) }), terms);
    mkdirSync(join(folder, 'bodies', 'zz'));
    writeFileSync(join(folder, 'bodies', 'zz', 'PLACEDzz.eml'), 'placed, and not committed yet');
    expect(await second.join('node-1/2')).toEqual({ leases: 0, orphans: 0 });
    expect(bodyFiles()).toHaveLength(2);
    await first.close();
    await second.close();
  });

  test('recover deletes body files without a message and no others', async () => {
    const store = await openSqliteStore({ folder, ...relay });
    const kept = message({ body: file(300_000) });
    await store.accept(kept, terms);
    await store.accept(message({ id: 'SMALL' }), terms);
    const shard = join(folder, 'bodies', 'zz');
    mkdirSync(shard);
    writeFileSync(join(shard, 'LOSTzz.eml'), 'half a mess');
    writeFileSync(join(shard, 'SMALL.eml'), 'not where the body of SMALL is');
    expect(await store.recover('node-1')).toEqual({ leases: 0, orphans: 2 });
    expect(bodyFiles()).toEqual([join(kept.id.slice(-2).padStart(2, '0'), `${kept.id}.eml`)]);
    expect(await octetsOf(store, kept.id)).toHaveLength(300_000);
    await store.close();
  });

  test('a body file that was cut short is never handed out', async () => {
    const store = await openSqliteStore({ folder, ...relay });
    const sent = message({ body: file(300_000) });
    await store.accept(sent, terms);
    truncateSync(join(folder, 'bodies', bodyFiles()[0] ?? ''), 299_999);
    await expect(store.openBody(sent.id)).rejects.toThrow(/299999 octets instead of 300000/);
    await expect(store.readHead(sent.id, 10)).rejects.toThrow(StoreError);
    await store.close();
  });
});

describe('group commit', () => {
  let lastId = 0;
  const accept = (each: NewMessage): Request => ({ id: ++lastId, name: 'accept', args: [each, terms.expiresAt, null] });
  const list = (): Request => ({ id: ++lastId, name: 'list', args: [{}, MONDAY] });
  const succeeded = (replies: readonly Reply[], { id }: Request): boolean =>
    replies.some((reply) => reply.id === id && reply.ok);
  const failureOf = (replies: readonly Reply[], { id }: Request): string | null => {
    const reply = replies.find((each) => each.id === id);
    return reply === undefined || reply.ok ? null : reply.failure.kind;
  };

  test('a thousand ends that are asked for at once do not keep a message waiting that comes after them', async () => {
    const store = await openSqliteStore({ folder, ...relay });
    for (let at = 0; at < 10; at++) {
      await Promise.all(Array.from({ length: 100 }, () => store.accept(message(), terms)));
    }
    const claims = await store.claim({ ...everything, limit: 1_000, perDomain: 1_000 });
    expect(claims).toHaveLength(1_000);
    let settled = 0;
    const ends = claims.map(async ({ batch, lease }) => {
      const notices = [{ message: message({ sender: '', to: ['jan@rijk.example'] }), ...terms }];
      const end = await store.settle(
        lease,
        batch.recipients.map(({ id }) => leaves(id)),
        notices,
      );
      settled++;
      return end;
    });
    await store.accept(message(), terms);
    // It shares its commit with a few of them.
    expect(settled).toBeLessThanOrEqual(16);
    expect(new Set(await Promise.all(ends))).toEqual(new Set(['settled']));
    expect(await store.count(MONDAY)).toEqual({ waiting: 1_001, held: 0, delivering: 0 });
    await store.close();
  });

  test('all that wait share one commit, and reads in the group see it', () => {
    const engine = openEngine({ folder, ...relay });
    const before = statSync(join(folder, 'queue.db-wal')).size;
    const observer = new Database(join(folder, 'queue.db'), { readonly: true });
    const version = (): number => Number(observer.pragma('data_version', { simple: true }));
    const start = version();
    const group = [accept(message()), accept(message()), list(), accept(message())];
    const replies = engine.run(group);
    expect(replies.every(({ ok }) => ok)).toBe(true);
    expect(replies.find(({ id }) => id === group[2]?.id)).toMatchObject({ value: [{}, {}, {}] });
    expect(statSync(join(folder, 'queue.db-wal')).size).toBeGreaterThan(before);
    expect(version() - start).toBe(1);
    observer.close();
    engine.close();
  });

  test('a commit that mail depends on is flushed to disk, also after one that may be forgotten', () => {
    const engine = openEngine({ folder, ...relay });
    const synchronous = (): unknown => engine.db.pragma('synchronous', { simple: true });
    const NORMAL = 1;
    const FULL = 2;
    engine.run([accept(message())]);
    expect(synchronous()).toBe(FULL);
    const [claimed] = engine.run([{ id: ++lastId, name: 'claim', args: [everything] }]);
    expect(synchronous()).toBe(NORMAL);
    expect(claimed).toMatchObject({ ok: true, value: [{ lease: '1' }] });
    engine.run([accept(message()), { id: ++lastId, name: 'extendLeases', args: [['1'], MONDAY] }]);
    expect(synchronous()).toBe(FULL);
    engine.run([{ id: ++lastId, name: 'claim', args: [everything] }]);
    engine.run([{ id: ++lastId, name: 'settle', args: ['1', [leaves(1)], []] }]);
    expect(synchronous()).toBe(FULL);
    engine.close();
  });

  test('a database without room: what does not fit is refused alone, as full, and leaves nothing behind', () => {
    const engine = openEngine({ folder, ...relay });
    engine.run([accept(message({ id: 'BEFORE' }))]);
    const pages = Number(engine.db.pragma('page_count', { simple: true }));
    engine.db.pragma(`max_page_count = ${String(pages + 20)}`);
    const small = [accept(message({ id: 'ONE' })), accept(message({ id: 'TWO' }))];
    const [one, two] = small;
    const large = accept(message({ body: memory(200_000) }));
    const replies = engine.run(one && two ? [one, large, two] : []);
    expect(small.map((request) => succeeded(replies, request))).toEqual([true, true]);
    expect(failureOf(replies, large)).toBe('full');
    const [listed] = engine.run([list()]);
    expect(listed).toMatchObject({ value: [{ queueId: 'BEFORE' }, { queueId: 'ONE' }, { queueId: 'TWO' }] });
    expect(engine.db.pragma('integrity_check', { simple: true })).toBe('ok');
    engine.close();
  });

  test('a body that cannot be moved is refused alone and stays with its caller', () => {
    const engine = openEngine({ folder, ...relay });
    // The folder of bodies cannot be made where a file has its name.
    writeFileSync(join(folder, 'bodies'), '');
    const bodies = [file(300_000), file(300_001)];
    const refused = bodies.map((body) => accept(message({ body })));
    const good = accept(message());
    const replies = engine.run([...refused, good]);
    expect(refused.map((request) => failureOf(replies, request))).toEqual(['other', 'other']);
    expect(succeeded(replies, good)).toBe(true);
    expect(bodies.map(({ path }) => existsSync(path))).toEqual([true, true]);
    engine.close();
  });

  test('a commit that fails as a whole is made again one by one; who fails again has its file back', () => {
    const engine = openEngine({ folder, ...relay });
    // Something that only the commit finds out: a reference that does not hold in the end.
    engine.db.exec(`
      CREATE TABLE late (message INTEGER REFERENCES message (seq) DEFERRABLE INITIALLY DEFERRED);
      CREATE TRIGGER late AFTER INSERT ON message WHEN NEW.id LIKE 'BAD%' BEGIN INSERT INTO late VALUES (999999); END;
    `);
    const [mine, theirs] = [file(300_000), file(300_001)];
    const good = accept(message({ id: 'GOOD', body: mine }));
    const bad = accept(message({ id: 'BAD', body: theirs }));
    const replies = engine.run([good, bad]);
    expect(succeeded(replies, good)).toBe(true);
    expect(failureOf(replies, bad)).toBe('other');
    expect([mine, theirs].map(({ path }) => existsSync(path))).toEqual([false, true]);
    expect(bodyFiles()).toEqual(['OD/GOOD.eml']);
    expect(engine.run([list()])).toMatchObject([{ value: [{ queueId: 'GOOD' }] }]);
    engine.close();
  });

  test('an end of which one part cannot be stored leaves the files of its notices where they were', () => {
    const engine = openEngine({ folder, ...relay });
    engine.run([accept(message({ id: 'ONE' }))]);
    engine.run([{ id: ++lastId, name: 'claim', args: [everything] }]);
    const body = file(300_000);
    const notices = [message({ body }), message({ id: 'ONE' })].map((each) => ({ message: each, expiresAt: MONDAY }));
    const settle: Request = { id: ++lastId, name: 'settle', args: ['1', [leaves(1)], notices] };
    expect(failureOf(engine.run([settle, accept(message())]), settle)).toBe('other');
    expect(existsSync(body.path)).toBe(true);
    expect(bodyFiles()).toEqual([]);
    engine.close();
  });

  test('another process that holds the database for long is an error and no loss', () => {
    const engine = openEngine({ folder, ...relay });
    engine.db.pragma('busy_timeout = 20');
    const other = new Database(join(folder, 'queue.db'));
    other.exec('BEGIN IMMEDIATE');
    const blocked = accept(message());
    expect(failureOf(engine.run([blocked]), blocked)).toBe('other');
    other.exec('ROLLBACK');
    other.close();
    const free = accept(message());
    expect(succeeded(engine.run([free]), free)).toBe(true);
    engine.close();
  });
});

describe('room', () => {
  test('intake stops before the disk is full; what ends mail goes on, notices included', async () => {
    const store = await openSqliteStore({ folder, ...relay });
    await store.accept(message(), terms);
    await store.close();
    const short = await openSqliteStore({ folder, mode: 'relay', reserveBytes: Number.MAX_SAFE_INTEGER });
    await expect(short.accept(message(), terms)).rejects.toThrow(StoreFull);
    const body = file(300_000);
    await expect(short.accept(message({ body }), terms)).rejects.toThrow(StoreFull);
    expect(existsSync(body.path)).toBe(true);
    const [claim] = await short.claim(everything);
    const notice = { message: message({ id: 'NOTICE', sender: '' }), expiresAt: terms.expiresAt };
    expect(await short.settle(claim?.lease ?? '', [leaves(1)], [notice])).toBe('settled');
    expect(await short.list({}, MONDAY)).toMatchObject([{ queueId: 'NOTICE' }]);
    await short.close();
  });

  test('a full disk: accept rejects with StoreFull, what was accepted is whole, and room helps', async ({ skip }) => {
    const disk = mountSmallDisk() ?? skip('needs root to mount a small disk');
    try {
      const others = join(disk, 'what-others-wrote');
      writeFileSync(others, Buffer.alloc(4 * 1024 * 1024));
      const store = await openSqliteStore({ folder: join(disk, 'queue'), ...relay });
      const accepted = new Map<string, Buffer>();
      let refusal: unknown = null;
      while (refusal === null) {
        const bytes = randomBytes(60_000);
        const sent = message({ body: { kind: 'memory', bytes } });
        const end = await Promise.allSettled([store.accept(sent, terms)]);
        if (end[0].status === 'fulfilled') accepted.set(sent.id, bytes);
        else refusal = end[0].reason;
      }
      expect(refusal).toBeInstanceOf(StoreFull);
      expect(accepted.size).toBeGreaterThan(5);
      const listed = (await store.list({}, MONDAY)).map(({ queueId }) => queueId);
      expect(listed).toEqual([...accepted.keys()]);
      await store.close();
      const again = await openSqliteStore({ folder: join(disk, 'queue'), ...relay });
      for (const [id, bytes] of accepted) expect((await octetsOf(again, id)).equals(bytes)).toBe(true);
      rmSync(others);
      await again.accept(message({ body: memory(60_000) }), terms);
      expect(await again.drop({}, MONDAY)).toMatchObject({ changed: accepted.size + 1 });
      await again.close();
    } finally {
      execFileSync('umount', ['-l', disk]);
      rmSync(disk, { recursive: true });
    }
  });
});

/** A disk of 8 MiB, or null where this process may not mount one. */
function mountSmallDisk(): string | null {
  const disk = mkdtempSync(join(tmpdir(), 'dane-relay-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', disk], { stdio: 'ignore' });
    return disk;
  } catch {
    rmSync(disk, { recursive: true });
    return null;
  }
}

describe('the storage thread', () => {
  /** Those that are started by this test. */
  function threadsFromNowOn(): readonly Worker[] {
    const threads: Worker[] = [];
    const onThread = (event: unknown): void => void threads.push((event as { worker: Worker }).worker);
    subscribe('worker_threads', onThread);
    onTestFinished(() => void unsubscribe('worker_threads', onThread));
    return threads;
  }

  test('when it dies, what was asked is rejected and the next request finds a new one with the same lock', async () => {
    const threads = threadsFromNowOn();
    const store = await openSqliteStore({ folder, ...relay });
    await store.recover('node-1');
    await store.accept(message({ id: 'SAFE' }), terms);
    const pending = Array.from({ length: 50 }, () => store.accept(message({ body: memory(50_000) }), terms));
    const ends = Promise.allSettled(pending);
    await threads[0]?.terminate();
    const accepted = (await ends).filter(({ status }) => status === 'fulfilled').length;
    expect(accepted).toBeLessThan(50);
    await store.accept(message({ id: 'LATER' }), terms);
    expect(threads).toHaveLength(2);
    const ids = (await store.list({}, MONDAY)).map(({ queueId }) => queueId);
    expect(ids).toContain('SAFE');
    expect(ids).toContain('LATER');
    expect(ids.length).toBeGreaterThanOrEqual(accepted + 2);
    const other = await openSqliteStore({ folder, ...relay });
    await expect(other.recover('node-1')).rejects.toThrow(/another relay that is running/);
    await Promise.all([other.close(), store.close()]);
  });

  test('when it dies with the answer to a claim, the mail is claimed again; claims that were heard of stay', async () => {
    const threads = threadsFromNowOn();
    const store = await openSqliteStore({ folder, ...relay });
    await store.recover('node-1');
    for (const id of ['HEARD', 'UNHEARD']) await store.accept(message({ id }), terms);
    const request = { ...everything, owner: 'node-1', limit: 1 };
    const [heard] = await store.claim(request);
    // The thread is stopped as its answer comes, before the store has seen it.
    const [thread] = threads;
    thread?.removeAllListeners('message');
    thread?.once('message', () => void thread.terminate());
    await expect(store.claim(request)).rejects.toThrow(/storage thread/);

    const again = await store.claim({ ...everything, owner: 'node-1' });
    const ids = [heard, ...again].map((claim) => claim?.batch.messageId);
    expect(ids.toSorted()).toEqual(['HEARD', 'UNHEARD']);
    await store.close();
  });

  test('a claim whose answer comes with the very end of the thread stays, although something else is asked again at once', async () => {
    const threads = threadsFromNowOn();
    const store = await openSqliteStore({ folder, ...relay });
    await store.recover('node-1');
    await store.accept(message({ id: 'HEARD' }), terms);
    const [thread] = threads;
    const hears = thread?.listeners('message') ?? [];
    const replies: { readonly id: number }[] = [];
    thread?.removeAllListeners('message');
    const answered = new Promise<void>((resolve) => {
      thread?.on('message', (said: { readonly replies: readonly { readonly id: number }[] }) => {
        replies.push(...said.replies);
        if (replies.length === 2) resolve();
      });
    });
    // What lies in the pipe of a thread that ends is handed out right before its end is told.
    thread?.prependListener('exit', () => {
      const [first] = replies.toSorted((a, b) => a.id - b.id);
      for (const hear of hears) hear({ kind: 'replies', replies: [first] });
    });
    const claim = store.claim({ ...everything, owner: 'node-1' });
    const head = store.readHead('HEARD', 10);
    await answered;
    void thread?.terminate();
    expect((await claim).map(({ batch }) => batch.messageId)).toEqual(['HEARD']);
    expect(await head).toHaveLength(10);
    expect(threads).toHaveLength(2);
    expect(await store.claim({ ...everything, owner: 'node-1' })).toEqual([]);
    await store.close();
  });

  test('when it dies while it reads, it is asked once more', async () => {
    const threads = threadsFromNowOn();
    const store = await openSqliteStore({ folder, ...relay });
    await store.accept(message({ id: 'READ' }), terms);
    threads[0]?.removeAllListeners('message');
    threads[0]?.once('message', () => void threads[0]?.terminate());
    const head = await store.readHead('READ', 10);
    expect(head).toHaveLength(10);
    expect(threads).toHaveLength(2);
    await store.close();
  });
});

describe('a long queue in the hands of an operator', () => {
  test.each(['hold', 'release', 'retry', 'drop'] as const)(
    '%s goes in slices: mail comes in meanwhile',
    async (action) => {
      const store = await openSqliteStore({ folder, ...relay });
      const to = Array.from({ length: 600 }, (_, at) => `p${at}@pile.example`);
      for (let at = 0; at < 5; at++) await store.accept(message({ to }), terms);
      if (action === 'release') await store.hold({}, MONDAY);
      const visitor = await openSqliteStore({ folder, mode: 'visitor' });
      let over = false;
      const moving = visitor[action]({ domain: 'pile.example' }, MONDAY).finally(() => {
        over = true;
      });
      let accepted = 0;
      while (!over) {
        await store.accept(message({ id: `IN${accepted}`, to: ['x@pile.example'] }), terms);
        if (!over) accepted++;
        await setTimeout(5);
      }
      // What came in before the first slice is reached, what came in later is not.
      const { changed, ...left } = await moving;
      expect(left).toEqual({ delivering: 0, held: 0 });
      expect(changed).toBeGreaterThanOrEqual(3_000);
      expect(changed).toBeLessThan(3_000 + accepted);
      expect(accepted).toBeGreaterThan(1);
      const { held } = await store.count(MONDAY);
      expect(held).toBe(action === 'hold' ? changed : 0);
      await visitor.close();
      await store.close();
    },
  );
});
