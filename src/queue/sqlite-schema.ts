/**
 * The SQLite database of the queue: opened with the settings that make a commit durable, brought to the schema of this
 * release, refused when it belongs to a newer one.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import Database from 'better-sqlite3';
import { refuseDamaged, refuseForeignLog } from './guard.ts';
import { StoreError, StoreMissing } from './store.ts';

/**
 * One entry a schema version, in order, never changed after a release. `PRAGMA user_version` counts those applied.
 *
 * `lane` has a row for each domain with new mail that waits, and one for each with mail that was tried or put off before
 * (`again`): when it is next to be served. It lets a claim find the due domains by index and give them turns, however many
 * messages wait for one of them. `held` and `lease` decide the state of a recipient; a row in `lease` is the claim that
 * `recipient.lease` names.
 */
const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE message (
    seq          INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    received_at  INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    client       TEXT NOT NULL,
    sender       TEXT NOT NULL,
    smtputf8     INTEGER NOT NULL,
    body_type    TEXT NOT NULL,
    ret          TEXT,
    envid        TEXT,
    size         INTEGER NOT NULL,
    eight_bit    INTEGER NOT NULL,
    utf8_header  INTEGER NOT NULL,
    body_octets  INTEGER NOT NULL,
    body_in_file INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE body (
    message INTEGER PRIMARY KEY REFERENCES message (seq),
    octets  BLOB NOT NULL
  ) STRICT;

  CREATE TABLE recipient (
    id                INTEGER PRIMARY KEY,
    message           INTEGER NOT NULL REFERENCES message (seq),
    address           TEXT NOT NULL,
    domain            TEXT NOT NULL,
    notify            TEXT,
    orcpt             TEXT,
    attempts          INTEGER NOT NULL DEFAULT 0,
    next_attempt      INTEGER NOT NULL,
    asked_at          INTEGER,
    delay_notice_sent INTEGER NOT NULL DEFAULT 0,
    code              TEXT,
    status            TEXT,
    explanation       TEXT,
    host              TEXT,
    held              INTEGER NOT NULL DEFAULT 0,
    lease             INTEGER
  ) STRICT;
  CREATE INDEX recipient_of_message ON recipient (message, domain);
  CREATE INDEX recipient_waiting ON recipient (domain, next_attempt) WHERE held = 0 AND lease IS NULL;
  CREATE INDEX recipient_leased ON recipient (lease) WHERE lease IS NOT NULL;

  CREATE TABLE lease (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    until INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE lane (
    domain TEXT PRIMARY KEY,
    due    INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX lane_due ON lane (due);
  `,
  // SHA-256 of the body, null for mail of an earlier release.
  'ALTER TABLE message ADD COLUMN body_sha256 BLOB',
  // What the sender asks of TLS; earlier releases did not hear of it.
  "ALTER TABLE message ADD COLUMN tls TEXT NOT NULL DEFAULT 'default'",
  // New mail and mail that was tried before wait in two lines: a domain has a lane in each.
  `
  ALTER TABLE recipient ADD COLUMN again INTEGER GENERATED ALWAYS AS (code IS NOT NULL) VIRTUAL;
  DROP INDEX recipient_waiting;
  CREATE INDEX recipient_waiting ON recipient (domain, again, next_attempt) WHERE held = 0 AND lease IS NULL;

  DROP TABLE lane;
  CREATE TABLE lane (
    domain TEXT NOT NULL,
    again  INTEGER NOT NULL,
    due    INTEGER NOT NULL,
    PRIMARY KEY (domain, again)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX lane_due ON lane (again, due);
  INSERT INTO lane (domain, again, due)
    SELECT domain, again, min(next_attempt) FROM recipient WHERE held = 0 AND lease IS NULL GROUP BY domain, again;
  `,
];

const BUSY_TIMEOUT_MS = 10_000;

/**
 * Opens the database in `folder`. A `relay` looks it through, makes and migrates it; a `visitor` (the command line) does
 * none of that.
 *
 * @throws StoreMissing when a visitor finds none; StoreError when it is damaged or the schema is not of this release
 */
export function openDatabase(folder: string, mode: 'relay' | 'visitor'): Database.Database {
  const path = join(folder, 'queue.db');
  if (mode === 'relay') makePrivately(folder, path);
  else if (!statSync(path, { throwIfNoEntry: false })) throw new StoreMissing(`there is no queue at ${path}`);

  if (mode === 'relay') refuseForeignLog(path);
  const db = new Database(path, { fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
  try {
    if (mode === 'relay') refuseDamaged(db);
    if (mode === 'relay') db.pragma('journal_mode = WAL');
    // FULL: a commit returns after its octets have been flushed to the disk (sqlite.org/pragma.html#pragma_synchronous).
    db.pragma('synchronous = FULL');
    // Give the space of a long write-ahead log back once it has been worked into the database.
    db.pragma(`journal_size_limit = ${String(64 * 1024 * 1024)}`);
    if (mode === 'relay') migrate(db, path);
    else refuseOtherSchema(schemaVersion(db), path);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function migrate(db: Database.Database, path: string): void {
  if (schemaVersion(db) === MIGRATIONS.length) return;
  const run = db.transaction(() => {
    const version = schemaVersion(db);
    if (version > MIGRATIONS.length) refuseOtherSchema(version, path);
    for (const step of MIGRATIONS.slice(version)) db.exec(step);
    db.pragma(`user_version = ${String(MIGRATIONS.length)}`);
  });
  run.immediate();
}

function refuseOtherSchema(version: number, path: string): void {
  const ours = MIGRATIONS.length;
  const schema = `the queue at ${path} has schema ${String(version)}, this release works with ${String(ours)}`;
  if (version > ours) throw new StoreError(`${schema}: it was written by a newer release, which must be used`);
  if (version < ours) throw new StoreError(`${schema}: start the relay once, it brings the queue up to date`);
}

function schemaVersion(db: Database.Database): number {
  return Number(db.pragma('user_version', { simple: true }));
}

/** Mail is private: the folder is 0700 and the files 0600; SQLite gives its side files the mode of the database. */
function makePrivately(folder: string, path: string): void {
  const made = mkdirSync(folder, { recursive: true, mode: 0o700 });
  makeFile(path);
  if (made !== undefined) syncUpTo(resolve(folder), dirname(resolve(made)));
}

/** Makes an empty file that only its owner can read, unless it is there. */
export function makeFile(path: string): void {
  closeSync(openSync(path, 'a', 0o600));
}

/** Makes new folder entries survive a power cut, from the innermost folder outwards. */
function syncUpTo(inner: string, outer: string): void {
  for (let folder = inner; ; folder = dirname(folder)) {
    syncFolder(folder);
    if (folder === outer || folder === dirname(folder)) return;
  }
}

/** fsync of a folder: the names in it are on disk afterwards. */
export function syncFolder(folder: string): void {
  const handle = openSync(folder, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
