/**
 * What is known of the keys that the relay manages, in the state folder, for all processes that share it.
 *
 *   dkim/state.7.json            the pairs of keys with their states; the highest number counts
 *   dkim/example.nl/20261122r.pem   the private keys, RSA (r) and Ed25519 (e), mode 0600 in folders of mode 0700
 *
 * A change is a new file with the next number, put in place whole by a hard link, which fails when somebody else was
 * first; then the change is made again on what they wrote. So nothing is lost and no lock can be left behind. Keys are
 * written before the state that names them; a crash in between leaves files that nobody uses.
 */
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { giveToFolderOwner } from '../shared/folder-owner.ts';
import { FORBIDDEN_MODE } from './keys-file.ts';

/** An RSA and an Ed25519 key that live and sign together (RFC 8463 §3). Times in milliseconds since the epoch. */
export interface KeyPair {
  readonly domain: string;
  /** Selectors are this with `r` and with `e` after it. */
  readonly name: string;
  readonly state: 'next' | 'active' | 'old' | 'retired';
  readonly madeAt: number;
  readonly activeSince: number | null;
  readonly retireAt: number | null;
  /** Since when DNS has not shown it although it should; null when all is well. */
  readonly missingSince: number | null;
  /** `p=` of the two records. */
  readonly rsa: string;
  readonly ed25519: string;
}

export type Pairs = readonly KeyPair[];

interface Written {
  readonly number: number;
  readonly pairs: Pairs;
}

/** Kept besides the newest: long enough that a slow process meets an occupied number, and a history for people. */
const KEPT = 16;
const FILE = /^state\.([1-9]\d{0,8})\.json$/;

/** @throws when the folder or its newest file cannot be read, or others could have changed it */
export function readPairs(folder: string): Pairs {
  return newest(folder).pairs;
}

/**
 * Makes one change, whatever other processes do meanwhile.
 *
 * @param change gives the new pairs, or null for no change; may be called several times
 * @returns what holds afterwards
 */
export function changePairs(folder: string, change: (pairs: Pairs) => Pairs | null): Pairs {
  makeFolder(folder);
  for (;;) {
    const { number, pairs } = newest(folder);
    const next = change(pairs);
    if (next === null) return pairs;
    const temporary = join(folder, `new.${process.pid}.${number}`);
    rmSync(temporary, { force: true });
    writeFileSync(temporary, `${JSON.stringify({ pairs: next }, null, 2)}\n`, { mode: 0o600, flag: 'wx', flush: true });
    giveToFolderOwner(temporary);
    try {
      linkSync(temporary, join(folder, `state.${number + 1}.json`));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue;
      throw error;
    } finally {
      rmSync(temporary, { force: true });
    }
    syncFolder(folder);
    for (const old of numbersIn(folder))
      if (old <= number - KEPT) rmSync(join(folder, `state.${old}.json`), { force: true });
    return next;
  }
}

/** Writes the private keys of a pair that nobody knows of yet. @returns what removes them again */
export function writeKeys(folder: string, domain: string, keys: Readonly<Record<string, string>>): () => void {
  makeFolder(folder);
  makeFolder(join(folder, domain));
  const paths = Object.keys(keys).map((selector) => keyPath(folder, domain, selector));
  for (const [selector, pem] of Object.entries(keys)) {
    const path = keyPath(folder, domain, selector);
    writeFileSync(path, pem, { mode: 0o600, flag: 'wx', flush: true });
    giveToFolderOwner(path);
  }
  syncFolder(join(folder, domain));
  syncFolder(folder);
  return () => {
    for (const path of paths) rmSync(path, { force: true });
  };
}

export function keyPath(folder: string, domain: string, selector: string): string {
  return join(folder, domain, `${selector}.pem`);
}

export function selectorsOf({ name }: KeyPair): { readonly rsa: string; readonly ed25519: string } {
  return { rsa: `${name}r`, ed25519: `${name}e` };
}

function newest(folder: string): Written {
  const stats = statSync(folder, { throwIfNoEntry: false });
  if (!stats) return { number: 0, pairs: [] };
  if ((stats.mode & FORBIDDEN_MODE.own) !== 0) {
    const octal = (stats.mode & 0o777).toString(8).padStart(4, '0');
    throw new Error(`${folder} can be read or changed by others (mode ${octal}): run chmod 700 ${folder}`);
  }
  for (;;) {
    const number = Math.max(0, ...numbersIn(folder));
    if (number === 0) return { number, pairs: [] };
    const path = join(folder, `state.${number}.json`);
    try {
      return { number, pairs: pairsIn(readFileSync(path, 'utf8'), path) };
    } catch (error) {
      // Others went on far enough to clear it away.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
      throw error;
    }
  }
}

function pairsIn(text: string, path: string): Pairs {
  try {
    const { pairs } = JSON.parse(text) as { readonly pairs: Pairs };
    if (Array.isArray(pairs) && pairs.every(isPair)) return pairs;
  } catch {
    // Told below.
  }
  throw new Error(`${path} cannot be understood; the one before it may help`);
}

function isPair(value: unknown): value is KeyPair {
  const pair = Object(value) as Readonly<Record<keyof KeyPair, unknown>>;
  return (
    [pair.domain, pair.name, pair.rsa, pair.ed25519].every((text) => typeof text === 'string') &&
    /^[a-z0-9._-]+$/.test(String(pair.domain)) &&
    /^[a-z0-9-]+$/.test(String(pair.name)) &&
    ['next', 'active', 'old', 'retired'].includes(String(pair.state)) &&
    typeof pair.madeAt === 'number' &&
    [pair.activeSince, pair.retireAt, pair.missingSince].every((time) => time === null || typeof time === 'number')
  );
}

function numbersIn(folder: string): readonly number[] {
  return readdirSync(folder).flatMap((name) => {
    const [, digits] = FILE.exec(name) ?? [];
    return digits === undefined ? [] : [Number(digits)];
  });
}

function makeFolder(folder: string): void {
  if (mkdirSync(folder, { recursive: true, mode: 0o700 }) !== undefined) giveToFolderOwner(folder);
}

function syncFolder(folder: string): void {
  const handle = openSync(folder, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
