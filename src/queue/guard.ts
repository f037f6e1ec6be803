/**
 * Looks after the promise of a 250 where the database cannot: a commit into files that nobody will find again, or into
 * a database that is known to be damaged, is durable and worth nothing. Then nothing more is taken in; what is there
 * already goes on leaving, as far as it can be read.
 */
import { closeSync, openSync, readSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type Database from 'better-sqlite3';
import { StoreError } from './store.ts';

export interface Guard {
  /** @throws StoreError when what is accepted now might not be there after a restart */
  readonly assertSafe: () => void;
  /** Takes note of damage that an error speaks of. */
  readonly note: (error: unknown) => void;
  /** Writes as an acceptance does, and leaves nothing behind. @throws the error of whatever cannot be written */
  readonly tryOut: () => void;
}

/** SQLite looks at every page of a database up to this size when a relay starts; larger ones would make it wait. */
const LOOKED_THROUGH = 256 * 1024 * 1024;

/** @param db  open, and read from once, so that its write-ahead log is there */
export function createGuard(db: Database.Database, folder: string): Guard {
  const files = [db.name, `${db.name}-wal`].map((path) => ({ path, id: identity(path) }));
  const version = Number(db.pragma('user_version', { simple: true }));
  let damage: string | null = null;

  const assertInPlace = (): void => {
    for (const { path, id } of files) {
      const now = identity(path);
      if (now === id) continue;
      throw new StoreError(
        /^\d/.test(now)
          ? `${path} was replaced while the relay works with it`
          : `${path} cannot be reached any more (${now}), although the relay works with it`,
      );
    }
  };

  const assertSafe = (): void => {
    if (damage !== null) throw new StoreError(damage);
    assertInPlace();
  };

  return {
    assertSafe,
    note(error) {
      const { code = '', message = '' } = error as { code?: string; message?: string };
      if (!/^SQLITE_(?:CORRUPT|NOTADB)/.test(code)) return;
      damage ??= `the queue database ${db.name} is damaged (${message}): nothing more is taken in; stop the relay and repair it`;
    },
    tryOut() {
      assertSafe();
      const path = join(folder, '.tried-out');
      try {
        writeFileSync(path, 'x', { mode: 0o600, flush: true });
      } finally {
        rmSync(path, { force: true });
      }
      // The same number again: a real commit that changes nothing.
      db.exec('BEGIN IMMEDIATE');
      try {
        db.pragma(`user_version = ${String(version)}`);
        db.exec('COMMIT');
      } finally {
        if (db.inTransaction) db.exec('ROLLBACK');
      }
    },
  };
}

/** Device and inode, or the code of the error. */
function identity(path: string): string {
  try {
    const { dev, ino } = statSync(path);
    return `${String(dev)}:${String(ino)}`;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/**
 * To be called before the database is opened for work. What SQLite would pass over in silence is told: it takes a
 * write-ahead log that it does not know for an empty one, and the mail in it for never accepted.
 *
 * @throws StoreError when the log begins with something that SQLite has not written
 */
export function refuseForeignLog(database: string): void {
  const path = `${database}-wal`;
  const head = Buffer.alloc(4);
  let octets: number;
  try {
    const file = openSync(path, 'r');
    try {
      octets = readSync(file, head);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  // Zeros are what some file systems leave of a file that grew just before a power cut.
  if (octets < head.length || head.equals(Buffer.alloc(4)) || (head.readUInt32BE() & ~1) === 0x377f0682) return;
  throw new StoreError(
    `${path} is damaged: it does not begin as a log of SQLite does, and the mail accepted last may be in it. Bring it back ` +
      'from a copy, or move it away to start without that mail',
  );
}

/** @throws StoreError when a database that is small enough to be looked through is damaged */
export function refuseDamaged(db: Database.Database): void {
  if (statSync(db.name).size > LOOKED_THROUGH) return;
  const found = whatIsWrong(db);
  if (found === null) return;
  throw new StoreError(
    `the queue database ${db.name} is damaged (${found}). Keep a copy of the folder; "sqlite3 queue.db .recover" reads what ` +
      'can still be read, or move the folder away to begin with an empty queue',
  );
}

function whatIsWrong(db: Database.Database): string | null {
  try {
    const rows = db.pragma('quick_check(1)') as readonly { readonly quick_check: string }[];
    const words = rows[0]?.quick_check ?? 'ok';
    return words === 'ok' ? null : words.replaceAll(/\s+/g, ' ').trim();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
