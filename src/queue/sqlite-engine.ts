/**
 * Group commit. All requests that wait when the storage thread is free go into one transaction, so that they share its
 * flush to disk; a request that comes alone is committed at once. Each has its own savepoint: one that fails is rolled
 * back alone. When the transaction as a whole fails (a full disk), each request is tried again in one of its own, so
 * that a large message that does not fit cannot keep a small one, or the end of a delivery, from being written.
 *
 * No reply is handed out before the commit that it speaks of.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { roomOn } from '../shared/room.ts';
import { createBodyFiles } from './body-files.ts';
import { createDeeds } from './deeds.ts';
import { createGuard } from './guard.ts';
import { createOperations, type Operations } from './sqlite-operations.ts';
import { makeFile, openDatabase } from './sqlite-schema.ts';
import { type Recovered, StoreError, StoreFull, type StoreHealth, StoreMissing } from './store.ts';

export interface EngineOptions {
  readonly folder: string;
  readonly mode: 'relay' | 'visitor';
  /** Null for as much as fits the disk. */
  readonly reserveBytes: number | null;
}

/** What the thread may be asked to do: the operations, and those that span more than the database. */
export interface Requests extends Omit<Operations, 'anythingDue' | 'takeBack' | 'isKnown'> {
  /** Takes back what this owner and its workers had claimed after `lease`, and deletes body files without a message. */
  readonly recover: (owner: string, lease: number) => Recovered;
  readonly join: (owner: string) => Recovered;
  readonly takeOver: (owner: string) => Recovered;
  readonly health: () => StoreHealth;
}

export type Request = {
  readonly [Name in keyof Requests]: {
    readonly id: number;
    readonly name: Name;
    readonly args: Parameters<Requests[Name]>;
  };
}[keyof Requests];

/** An error in a form that can leave the thread. */
export interface Failure {
  readonly kind: 'full' | 'missing' | 'other';
  readonly message: string;
}

export type Reply =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly id: number; readonly ok: false; readonly failure: Failure };

export interface Engine {
  readonly db: Database.Database;
  /** Replies to every request, in any order. Throws only when a rollback fails: then the thread must end. */
  readonly run: (requests: readonly Request[]) => readonly Reply[];
  /** Makes sure that no other process works under this owner name, for as long as this one lives. */
  readonly lockOwner: (owner: string) => void;
  readonly close: () => void;
}

/** Requests that change something. */
const WRITES: ReadonlySet<string> = new Set<keyof Requests>([
  'accept',
  'claim',
  'settle',
  'giveBack',
  'extendLeases',
  'move',
  'recover',
  'join',
  'takeOver',
]);

/** Writes that may be forgotten in a power cut: whoever held these leases is gone as well. */
const MAY_BE_FORGOTTEN: ReadonlySet<string> = new Set<keyof Requests>(['claim', 'giveBack', 'extendLeases']);

/** @throws StoreError as openDatabase does */
export function openEngine({ folder, mode, reserveBytes }: EngineOptions): Engine {
  const db = openDatabase(folder, mode);
  const guard = createGuard(db, folder);
  const deeds = createDeeds();
  const files = createBodyFiles(join(folder, 'bodies'));
  /** Looked at once for each group: the disk and the files do not change so fast that it would be worth more. */
  const looks: { room: number | null; safe: boolean } = { room: null, safe: false };
  const room = (): number => {
    looks.room ??= roomOn(folder, reserveBytes);
    return looks.room;
  };
  const locks = new Map<string, Database.Database>();
  const operations = createOperations(db, files, deeds, room, (owner) => locks.has(owner) || isLocked(folder, owner));

  const begin = db.prepare('BEGIN IMMEDIATE');
  const commit = db.prepare('COMMIT');
  const rollback = db.prepare('ROLLBACK');
  const savepoint = db.prepare('SAVEPOINT request');
  const release = db.prepare('RELEASE request');
  const rollbackRequest = db.prepare('ROLLBACK TO request');
  const workersOf = db.prepare<[string, string], { owner: string }>(
    'SELECT DISTINCT owner FROM lease WHERE owner > ? AND owner < ?',
  );

  const lockOwner = (owner: string): void => {
    if (!locks.has(owner)) locks.set(owner, lockFile(folder, owner, PATIENCE_MS));
  };

  /** From an owner that has to be dead. */
  const takeFrom = (owner: string): number => {
    if (locks.has(owner)) throw new StoreError(`${owner} lives in this very process`);
    const lock = lockFile(folder, owner, PATIENCE_MS);
    try {
      return operations.takeBack(owner, 0);
    } finally {
      lock.close();
    }
  };

  const requests: Requests = {
    ...operations,
    accept(...admission) {
      if (!looks.safe) guard.assertSafe();
      looks.safe = true;
      return operations.accept(...admission);
    },
    health() {
      try {
        guard.tryOut();
        return { room: roomOn(folder, reserveBytes), fault: null };
      } catch (error) {
        guard.note(error);
        // No room at all is no fault: it is told as such.
        if (failureOf(error).kind === 'full') return { room: Math.min(-1, roomOn(folder, reserveBytes)), fault: null };
        return { room: 0, fault: error instanceof Error ? error.message : String(error) };
      }
    },
    recover(owner, lease) {
      lockOwner(owner);
      // Those of this owner's workers: "/" and "0" stand next to each other.
      const workers = workersOf.all(`${owner}/`, `${owner}0`).map((row) => takeFrom(row.owner));
      const leases = workers.reduce((sum, each) => sum + each, operations.takeBack(owner, lease));
      return { leases, orphans: files.sweep(operations.isKnown) };
    },
    join(owner) {
      lockOwner(owner);
      return { leases: operations.takeBack(owner, 0), orphans: 0 };
    },
    takeOver: (owner) => ({ leases: takeFrom(owner), orphans: 0 }),
  };

  const answer = (request: Request): Reply => {
    const run = requests[request.name] as (...args: readonly unknown[]) => unknown;
    return { id: request.id, ok: true, value: run(...request.args) };
  };

  const refuse = ({ id }: Request, error: unknown): Reply => {
    guard.note(error);
    return { id, ok: false, failure: failureOf(error) };
  };

  /** Answers one request of a group, or null when SQLite has rolled back the whole transaction. */
  const answerInGroup = (request: Request): Reply | null => {
    const mark = deeds.mark();
    savepoint.run();
    try {
      const reply = answer(request);
      release.run();
      return reply;
    } catch (error) {
      if (!db.inTransaction) return null;
      rollbackRequest.run();
      release.run();
      deeds.undoTo(mark);
      return refuse(request, error);
    }
  };

  const giveUp = (group: readonly Request[], error: unknown): readonly Reply[] => {
    try {
      if (db.inTransaction) rollback.run();
    } finally {
      deeds.undoTo(0);
    }
    if (group.length === 1) return group.map((request) => refuse(request, error));
    return group.flatMap((request) => write([request]));
  };

  let synchronous = '';
  const setSynchronous = (level: 'FULL' | 'NORMAL'): void => {
    if (level !== synchronous) db.pragma(`synchronous = ${level}`);
    synchronous = level;
  };

  const write = (group: readonly Request[]): readonly Reply[] => {
    const durable = group.some(({ name }) => !MAY_BE_FORGOTTEN.has(name));
    const replies: Reply[] = [];
    looks.room = null;
    looks.safe = false;
    try {
      setSynchronous(durable ? 'FULL' : 'NORMAL');
      begin.run();
    } catch (error) {
      return group.map((request) => refuse(request, error));
    }
    try {
      for (const request of group) {
        const reply = group.length === 1 ? answer(request) : answerInGroup(request);
        if (reply === null) throw new StoreFull('the transaction was rolled back');
        replies.push(reply);
      }
      files.syncFolders();
      commit.run();
    } catch (error) {
      return giveUp(group, error);
    }
    deeds.committed();
    return replies;
  };

  const read = (request: Request): Reply => {
    try {
      return answer(request);
    } catch (error) {
      return refuse(request, error);
    }
  };

  const isIdleClaim = (request: Request): boolean => {
    if (request.name !== 'claim') return false;
    try {
      return !operations.anythingDue(request.args[0]);
    } catch {
      return false;
    }
  };

  return {
    db,
    run(group) {
      const idle = group.filter(isIdleClaim);
      const writes = group.filter((request) => WRITES.has(request.name) && !idle.includes(request));
      const reads = group.filter(({ name }) => !WRITES.has(name));
      return [
        ...idle.map(({ id }): Reply => ({ id, ok: true, value: [] })),
        ...(writes.length > 0 ? write(writes) : []),
        ...reads.map(read),
      ];
    },
    lockOwner,
    close() {
      for (const lock of locks.values()) lock.close();
      db.close();
    },
  };
}

function lockPath(folder: string, owner: string): string {
  return join(folder, `owner-${encodeURIComponent(owner)}.lock`);
}

/** Whether somebody may live under this name: also when that cannot be found out. */
function isLocked(folder: string, owner: string): boolean {
  try {
    // A visitor must not leave a file that the relay could not open.
    if (!statSync(lockPath(folder, owner), { throwIfNoEntry: false })) return false;
    lockFile(folder, owner, 0).close();
    return false;
  } catch {
    return true;
  }
}

/** For whoever only looks whether somebody lives, and has the lock for a moment, in milliseconds. */
const PATIENCE_MS = 1_000;

/** An SQLite lock, since Node has no flock(2): it ends with the process, however that ends. */
function lockFile(folder: string, owner: string, patienceMs: number): Database.Database {
  const path = lockPath(folder, owner);
  makeFile(path);
  const lock = new Database(path, { timeout: patienceMs });
  try {
    lock.pragma('locking_mode = EXCLUSIVE');
    lock.exec('BEGIN EXCLUSIVE');
    return lock;
  } catch (error) {
    lock.close();
    if ((error as { code?: string }).code !== 'SQLITE_BUSY') throw error;
    throw new StoreError(`another relay that is running works on this queue as ${owner}`);
  }
}

const NO_ROOM: ReadonlySet<string | undefined> = new Set(['SQLITE_FULL', 'ENOSPC', 'EDQUOT']);

/** Says of an error what the other side of the thread needs to know. */
export function failureOf(error: unknown): Failure {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof StoreMissing) return { kind: 'missing', message };
  if (error instanceof StoreFull || NO_ROOM.has((error as { code?: string }).code)) return { kind: 'full', message };
  return { kind: 'other', message };
}
