/**
 * What is known of policy domains, kept beyond the life of the process: one small file for each domain.
 *
 *   on disk            what a crash leaves           who moves it on
 *   nothing            nothing                       write(): a file beside it, flushed, then renamed over it
 *   HASH.json          the last whole state          write() again; sweep() when nobody has asked for it in months
 *   HASH.PID.N.part    a piece of no value           sweep()
 *
 * Several processes share the folder: each rename is whole, the newest wins, and what is in memory is read again after
 * a minute. A file that cannot be read is as none; a disk that cannot be written costs the memory of the next start, and
 * keeps no mail.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { StsFailure } from '../../model/sts.ts';

/** What is known of one policy domain. Times are milliseconds since the epoch. */
export interface StsEntry {
  readonly domain: string;
  /** Newest policy that was fetched and could be read; null when there never was one. */
  readonly policy: { readonly id: string; readonly fetchedAt: number; readonly text: string } | null;
  /** The last fetch, where it failed, and for which version. */
  readonly failure: (StsFailure & { readonly id: string; readonly at: number }) | null;
  /** When mail last went there, give or take a day. */
  readonly usedAt: number;
}

export interface StsCache {
  /** Null when nothing is known. Never rejects. `disk`: memory is not believed, another process may have written. */
  readonly read: (domain: string, from?: 'disk') => Promise<StsEntry | null>;
  /** Remembers in any case; resolves when it is on disk, or cannot be put there. Never rejects. */
  readonly write: (entry: StsEntry) => Promise<void>;
  /** Every entry on disk, one after the other; several may take from it. */
  readonly all: () => AsyncIterableIterator<StsEntry>;
  /** Drops what nobody has used since `before`, and the oldest of too many. Never rejects. */
  readonly sweep: (before: number) => Promise<void>;
}

export interface CacheOptions {
  /** Made when something is to be kept and it is not there. */
  readonly folder: string;
  /** False for a look at what a relay keeps: nothing is written. */
  readonly keeps: boolean;
  readonly now: () => number;
  /** Told when the disk does not take it. */
  readonly onTrouble: (error: unknown) => void;
  readonly entriesAtMost?: number;
}

/** Files. With policies as they are met that is 20 MB; with the largest possible it is ten times that. */
const ENTRIES = 10_000;
/** In memory: domains, and octets of policies. */
const REMEMBERED = 2000;
const REMEMBERED_OCTETS = 8 * 1024 * 1024;
/** How long memory is believed; then the file may say more, written by another process. */
const BELIEVED_MS = 60_000;
/** A file larger than any that is written here. */
const FILE_OCTETS = 512 * 1024;
const ENDING = '.json';

interface Remembered {
  readonly entry: StsEntry | null;
  readonly until: number;
}

export function createStsCache({ folder, keeps, now, onTrouble, entriesAtMost = ENTRIES }: CacheOptions): StsCache {
  const memory = new Map<string, Remembered>();
  /** Writes under way. One after the other for each domain, or the older of two could be renamed last. */
  const writing = new Map<string, Promise<void>>();
  let octets = 0;
  let parts = 0;

  function forget(domain: string): void {
    octets -= weightOf(memory.get(domain)?.entry ?? null);
    memory.delete(domain);
  }
  function remember(domain: string, entry: StsEntry | null): void {
    if (memory.has(domain)) forget(domain);
    memory.set(domain, { entry, until: performance.now() + BELIEVED_MS });
    octets += weightOf(entry);
    for (const oldest of memory.keys()) {
      if (memory.size <= REMEMBERED && octets <= REMEMBERED_OCTETS) break;
      forget(oldest);
    }
  }

  function putInTurn(entry: StsEntry): Promise<void> {
    const { domain } = entry;
    const turn = (writing.get(domain) ?? Promise.resolve())
      .then(() => put(entry))
      .catch(onTrouble)
      .finally(() => {
        if (writing.get(domain) === turn) writing.delete(domain);
      });
    writing.set(domain, turn);
    return turn;
  }
  async function put(entry: StsEntry): Promise<void> {
    const file = fileOf(entry.domain);
    const part = `${file.slice(0, -ENDING.length)}.${process.pid}.${parts++}.part`;
    await mkdir(folder, { recursive: true, mode: 0o750 });
    try {
      await writeFile(join(folder, part), JSON.stringify(entry), { mode: 0o640, flush: true });
      await rename(join(folder, part), join(folder, file));
    } catch (error) {
      await rm(join(folder, part), { force: true });
      throw error;
    }
  }

  const load = (file: string): Promise<StsEntry | null> => loadFrom(join(folder, file));

  return {
    read: async (domain, from) => {
      const known = memory.get(domain);
      if (known && known.until > performance.now() && from !== 'disk') return known.entry;
      await writing.get(domain);
      const entry = await load(fileOf(domain));
      const stored = entry?.domain === domain ? entry : null;
      // What could not be written is still known here.
      const best = stored ?? known?.entry ?? null;
      remember(domain, best);
      return best;
    },
    write: async (entry) => {
      remember(entry.domain, entry);
      if (keeps) await putInTurn(entry);
    },
    all: async function* () {
      for (const file of await filesIn(folder, ENDING)) {
        const entry = await load(file);
        if (entry) yield entry;
      }
    },
    sweep: async (before) => {
      if (!keeps) return;
      try {
        for (const part of await filesIn(folder, '.part')) {
          const { mtimeMs } = await stat(join(folder, part));
          if (mtimeMs < now() - BELIEVED_MS) await rm(join(folder, part), { force: true });
        }
        const kept: { file: string; usedAt: number }[] = [];
        for (const file of await filesIn(folder, ENDING)) {
          const entry = await load(file);
          if (entry === null || entry.usedAt < before) await rm(join(folder, file), { force: true });
          else kept.push({ file, usedAt: entry.usedAt });
        }
        const surplus = kept.toSorted((a, b) => b.usedAt - a.usedAt).slice(entriesAtMost);
        for (const { file } of surplus) await rm(join(folder, file), { force: true });
      } catch (error) {
        onTrouble(error);
      }
    },
  };
}

/** A name of a domain may be longer than that of a file. */
function fileOf(domain: string): string {
  return `${createHash('sha256').update(domain).digest('hex').slice(0, 40)}${ENDING}`;
}

function weightOf(entry: StsEntry | null): number {
  return entry?.policy?.text.length ?? 0;
}

async function filesIn(folder: string, ending: string): Promise<readonly string[]> {
  try {
    return (await readdir(folder)).filter((file) => file.endsWith(ending));
  } catch {
    return [];
  }
}

/** Null for a file that is not there, or not one of ours. */
async function loadFrom(path: string): Promise<StsEntry | null> {
  try {
    const text = await readFile(path, 'utf8');
    return text.length > FILE_OCTETS ? null : entryFrom(JSON.parse(text));
  } catch {
    return null;
  }
}

function entryFrom(value: unknown): StsEntry | null {
  const { domain, policy, failure, usedAt } = Object(value) as Partial<StsEntry>;
  if (typeof domain !== 'string' || typeof usedAt !== 'number') return null;
  return { domain, usedAt, policy: policyFrom(policy), failure: failureFrom(failure) };
}

function policyFrom(value: unknown): StsEntry['policy'] {
  const { id, fetchedAt, text } = Object(value) as Partial<NonNullable<StsEntry['policy']>>;
  if (typeof id !== 'string' || typeof fetchedAt !== 'number' || typeof text !== 'string') return null;
  return { id, fetchedAt, text };
}

function failureFrom(value: unknown): StsEntry['failure'] {
  const { type, detail, id, at } = Object(value) as Partial<NonNullable<StsEntry['failure']>>;
  if (typeof id !== 'string' || typeof at !== 'number' || typeof detail !== 'string') return null;
  return type === 'sts-policy-fetch-error' || type === 'sts-policy-invalid' || type === 'sts-webpki-invalid'
    ? { type, detail, id, at }
    : null;
}
