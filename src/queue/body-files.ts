/**
 * Bodies that are too large for the database: one file each, `bodies/ab/ID.eml`, where `ab` ends the id.
 *
 * Files are only moved in while the database's write lock is held, and folders are fsynced before the commit. So a file
 * without a message, seen under that lock, is the rest of a crash and nothing else, whatever other processes do.
 */
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { syncFolder } from './sqlite-schema.ts';

export interface BodyFiles {
  readonly pathOf: (messageId: string) => string;
  /** Moves a file of the caller to its place. */
  readonly moveIn: (messageId: string, from: string) => void;
  /** Gives it back to the caller. */
  readonly moveOut: (messageId: string, to: string) => void;
  readonly write: (messageId: string, octets: Uint8Array) => void;
  readonly remove: (messageId: string) => void;
  /** Makes all names since the last call durable. To be called before the commit that relies on them. */
  readonly syncFolders: () => void;
  /** Deletes the files of messages that `isKnown` denies. Returns how many. */
  readonly sweep: (isKnown: (messageId: string) => boolean) => number;
}

const ENDING = '.eml';

export function createBodyFiles(root: string): BodyFiles {
  const unsynced = new Set<string>();

  const pathOf = (messageId: string): string =>
    join(root, messageId.slice(-2).padStart(2, '0'), `${messageId}${ENDING}`);

  const prepare = (path: string): void => {
    const folder = dirname(path);
    const made = mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (made === root) unsynced.add(dirname(root));
    if (made !== undefined) unsynced.add(root);
    unsynced.add(folder);
  };

  return {
    pathOf,
    moveIn(messageId, from) {
      const path = pathOf(messageId);
      prepare(path);
      renameSync(from, path);
    },
    moveOut(messageId, to) {
      renameSync(pathOf(messageId), to);
    },
    write(messageId, octets) {
      const path = pathOf(messageId);
      prepare(path);
      // wx: a file that is there already belongs to a message that is.
      writeFileSync(path, octets, { mode: 0o600, flag: 'wx', flush: true });
    },
    remove(messageId) {
      rmSync(pathOf(messageId), { force: true });
    },
    syncFolders() {
      for (const folder of unsynced) syncFolder(folder);
      unsynced.clear();
    },
    sweep(isKnown) {
      let swept = 0;
      for (const file of filesUnder(root)) {
        if (isKnown(basename(file, ENDING))) continue;
        rmSync(file, { force: true });
        swept++;
      }
      return swept;
    },
  };
}

function filesUnder(root: string): readonly string[] {
  try {
    const entries = readdirSync(root, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
