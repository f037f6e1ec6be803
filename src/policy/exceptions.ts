/**
 * The exceptions of the operator, in a small file in the state folder: it survives restarts and upgrades, and can be
 * changed while the relay runs or not. A running relay sees a change with the next message, whichever process it is.
 *
 * Whoever changes the file holds its lock, writes a new one beside it and puts it in place in one step. A file that
 * cannot be read grants nothing: mail then waits as if there were no exceptions.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXCEPTION_DAYS, type Exception, type Recheck } from '../model/exception.ts';
import type { Grant } from '../model/tls-policy.ts';
import { isDomain } from '../shared/domain-name.ts';
import { giveToFolderOwner } from '../shared/folder-owner.ts';
import { messageOf } from '../shared/message-of.ts';

const FILE = 'exceptions.json';
const LOCK = 'exceptions.lock';
/** What the daily look found; its own file, so that the relay never writes what the operator writes. */
const RECHECKS = 'exceptions-checked.json';
const DAY = 86_400_000;
/** Exceptions that are over are shown for so long. */
const REMEMBERED = 365 * DAY;
const LOCK_PATIENCE_MS = 5_000;
/** Nobody holds the lock longer than for a write; one that is older was left behind. */
const LOCK_STALE_MS = 30_000;
const OCTETS_AT_MOST = 4_194_304;

/** Looks exceptions up as delivery needs them. */
export interface ExceptionBook {
  readonly forDomain: (domain: string) => Grant | null;
  readonly forHost: (host: string) => Grant | null;
}

/** @param onDamage told once of each state of the file that cannot be read */
export function createExceptionBook(folder: string, now: () => number, onDamage: (why: string) => void): ExceptionBook {
  let seen = '';
  let byScope = new Map<string, Exception[]>();

  const current = (): Map<string, Exception[]> => {
    const state = stateOf(join(folder, FILE));
    if (state === seen) return byScope;
    seen = state;
    byScope = new Map();
    try {
      for (const exception of readExceptions(folder)) {
        const key = `${exception.scope.kind} ${exception.scope.name}`;
        byScope.set(key, [...(byScope.get(key) ?? []), exception]);
      }
    } catch (error) {
      onDamage(messageOf(error));
    }
    return byScope;
  };
  const find = (kind: 'domain' | 'host', name: string): Grant | null => {
    const live = current()
      .get(`${kind} ${name}`)
      // The newest counts: whoever adds one beside another means that one.
      ?.findLast((exception) => isLive(exception, now()));
    return live === undefined ? null : grantOf(live);
  };
  return { forDomain: (domain) => find('domain', domain), forHost: (host) => find('host', host) };
}

/** What an exception grants while it lasts. */
export function grantOf({ id, owner, reason, until, pins }: Exception): Grant {
  return { kind: 'exception', id, owner, reason, until, pins };
}

/** From its beginning to its end, which is never later than is allowed. */
export function isLive({ since, until }: Exception, now: number): boolean {
  return since <= now && now < Math.min(until, since + (EXCEPTION_DAYS + 1) * DAY);
}

/** All that are kept, those that are over too. @throws when the file is there and cannot be read */
export function readExceptions(folder: string): readonly Exception[] {
  const written = readJson(join(folder, FILE));
  if (written === null) return [];
  const { exceptions } = Object(written) as { readonly exceptions?: unknown };
  if (!Array.isArray(exceptions) || !exceptions.every(isException)) {
    throw new Error(`${FILE} in the state folder is damaged, so no exception holds`);
  }
  return exceptions;
}

/** The last look at each, by id. What cannot be read was never looked at. */
export function readRechecks(folder: string): ReadonlyMap<string, Recheck> {
  try {
    const entries = Object.entries(Object(readJson(join(folder, RECHECKS))) as Record<string, unknown>);
    return new Map(entries.flatMap(([id, recheck]) => (isRecheck(recheck) ? [[id, recheck] as const] : [])));
  } catch {
    return new Map();
  }
}

/** Puts an exception into the file, durably. @throws when that cannot be done, or the file is damaged */
export async function addException(folder: string, wish: Omit<Exception, 'id'>): Promise<Exception> {
  return change(folder, (before) => {
    const taken = new Set(before.map(({ id }) => id));
    let id = newId();
    while (taken.has(id)) id = newId();
    const added: Exception = { id, ...wish };
    return [[...before.filter(({ until }) => until > wish.since - REMEMBERED), added], added];
  });
}

/** Takes an exception out, durably; null when there is none with this id. @throws as `addException` */
export async function removeException(folder: string, id: string): Promise<Exception | null> {
  return change(folder, (before) => {
    const found = before.find((exception) => exception.id === id) ?? null;
    return [before.filter((exception) => exception !== found), found];
  });
}

/** Keeps what was found, for those that are still there. @throws when it cannot be written */
export function keepRechecks(folder: string, found: ReadonlyMap<string, Recheck>): void {
  const known = new Set(readExceptions(folder).map(({ id }) => id));
  const all = new Map([...readRechecks(folder), ...found]);
  writeJson(folder, RECHECKS, Object.fromEntries([...all].filter(([id]) => known.has(id))));
}

async function change<Answer>(
  folder: string,
  edit: (before: readonly Exception[]) => readonly [readonly Exception[], Answer],
): Promise<Answer> {
  const unlock = await lock(folder);
  try {
    const [after, answer] = edit(readExceptions(folder));
    writeJson(folder, FILE, { version: 1, exceptions: after });
    return answer;
  } finally {
    unlock();
  }
}

async function lock(folder: string): Promise<() => void> {
  const path = join(folder, LOCK);
  for (const end = Date.now() + LOCK_PATIENCE_MS; ; ) {
    try {
      closeSync(openSync(path, 'wx', 0o600));
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (age > LOCK_STALE_MS) rmSync(path, { force: true });
      else if (Date.now() > end)
        throw new Error('somebody else is changing the exceptions; try again', { cause: error });
      await sleep(50);
    }
  }
}

/** In place in one step, and on disk before that is said. */
function writeJson(folder: string, name: string, value: unknown): void {
  const fresh = join(folder, `${name}.${process.pid}.new`);
  const file = openSync(fresh, 'w', 0o600);
  try {
    writeSync(file, `${JSON.stringify(value, null, 2)}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  giveToFolderOwner(fresh);
  renameSync(fresh, join(folder, name));
  const directory = openSync(folder, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

function readJson(path: string): unknown {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return null;
  if (found.size > OCTETS_AT_MOST) throw new Error(`${path} is too large`);
  return JSON.parse(readFileSync(path, 'utf8'));
}

/** Changes whenever the file is another one, and when somebody else may read it: each change of either is a new ctime. */
function stateOf(path: string): string {
  const found = statSync(path, { throwIfNoEntry: false, bigint: true });
  return found === undefined ? 'none' : `${found.ino} ${found.ctimeNs} ${found.size}`;
}

/** Short enough to be typed, and without letters that look alike. */
function newId(): string {
  return `x${randomBytes(4).toString('hex')}`;
}

function isException(value: unknown): value is Exception {
  const { id, scope, owner, reason, since, until, pins } = Object(value) as Partial<Record<keyof Exception, unknown>>;
  const { kind, name } = Object(scope) as { readonly kind?: unknown; readonly name?: unknown };
  const isText = (text: unknown): boolean => typeof text === 'string' && text !== '';
  return (
    isText(id) &&
    (kind === 'domain' || kind === 'host') &&
    typeof name === 'string' &&
    isDomain(name) &&
    isText(owner) &&
    isText(reason) &&
    isTime(since) &&
    isTime(until) &&
    Array.isArray(pins) &&
    pins.every((pin) => typeof pin === 'string' && /^sha256\/[A-Za-z0-9+/]{43}=$/.test(pin))
  );
}

function isRecheck(value: unknown): value is Recheck {
  const { at, repaired, helps, detail } = Object(value) as Partial<Record<keyof Recheck, unknown>>;
  return (
    isTime(at) &&
    typeof repaired === 'boolean' &&
    (helps === null || typeof helps === 'boolean') &&
    typeof detail === 'string'
  );
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && Math.abs(value) < 8.64e15;
}
