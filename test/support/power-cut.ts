/**
 * Makes of what a killed relay left what a power cut could have left: whatever it did not flush may be lost, in whole
 * or in part, and a file whose removal was not flushed may be back. What was flushed is known from the relay's diary.
 *
 *   write-ahead log   cut or overwritten behind the last commit that was flushed, and behind what a checkpoint flushed
 *   its index         gone; SQLite makes it anew
 *   body files        without fsync: shorter, or zeros; name not flushed: gone or under the old name; removed: back
 *
 * It does not reorder writes below the file system, and trusts SQLite to have flushed what it says it has.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import type { DiskDeed } from './crash-steps.ts';
import { frontierOf } from './wal.ts';

/** From 0 up to 1, as Math.random. */
export type Chance = () => number;

const WAL_HEADER = 32;
const FRAME_HEADER = 24;
const SECTOR = 512;

/** @returns what was lost, one sentence each */
export function cutPower(state: string, diary: string, chance: Chance): readonly string[] {
  const deeds = deedsIn(diary);
  const lost = [...cutLog(join(state, 'queue.db'), deeds, chance), ...cutFiles(deeds, chance)];
  // From here on what is there is on the disk.
  writeFileSync(diary, '');
  return lost;
}

export function deedsIn(diary: string): readonly DiskDeed[] {
  if (!existsSync(diary)) return [];
  const lines = readFileSync(diary, 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as DiskDeed);
}

function cutLog(database: string, deeds: readonly DiskDeed[], chance: Chance): readonly string[] {
  const now = frontierOf(database);
  const path = `${database}-wal`;
  rmSync(`${database}-shm`, { force: true });
  if (!now || !existsSync(path)) return [];
  const log = readFileSync(path);
  if (log.length <= WAL_HEADER) return [];
  // Several processes may have written it down in another order than they committed in.
  const committed = deeds.flatMap((deed) =>
    deed.did === 'committed' && deed.frontier.salts === now.salts ? [deed.frontier.frames] : [],
  );
  const flushed = committed.reduce((most, frames) => Math.max(most, frames), now.checkpointed);
  const end = WAL_HEADER + flushed * (FRAME_HEADER + log.readUInt32BE(8));
  if (end >= log.length) return [];

  const frames = `${String(now.frames - flushed)} of ${String(now.frames)} frames of the log were not flushed`;
  if (chance() < 0.4) {
    const at = end + Math.floor(chance() ** 2 * (log.length - end));
    truncateSync(path, at);
    return [`${frames}; cut at octet ${String(at)}`];
  }
  // Sectors reach the disk in any order: some are new, some are what was there before.
  for (let at = end; at < log.length; at += SECTOR) {
    if (chance() < 0.5)
      log.fill(chance() < 0.5 ? 0 : Math.floor(chance() * 256), at, Math.min(at + SECTOR, log.length));
  }
  writeFileSync(path, log);
  return [`${frames}; torn from octet ${String(end)}`];
}

interface Entry {
  /** Its octets are on the disk. A folder has none. */
  synced: boolean;
  /** Its name is on the disk. */
  named: boolean;
  /** The name it had before. */
  readonly before: string | null;
}

function cutFiles(deeds: readonly DiskDeed[], chance: Chance): readonly string[] {
  const entries = new Map<string, Entry>();
  const removals = new Map<string, string>();
  for (const deed of deeds) {
    switch (deed.did) {
      case 'made':
        entries.set(deed.path, { synced: false, named: false, before: null });
        break;
      case 'synced':
        entries.set(deed.path, { named: false, before: null, ...entries.get(deed.path), synced: true });
        break;
      case 'renamed':
        entries.set(deed.path, { synced: entries.get(deed.from)?.synced ?? true, named: false, before: deed.from });
        entries.delete(deed.from);
        break;
      case 'removed':
        entries.delete(deed.path);
        removals.set(deed.path, deed.kept);
        break;
      case 'folder-synced':
        for (const [path, entry] of entries) if (dirname(path) === deed.path) entry.named = true;
        for (const path of removals.keys()) if (dirname(path) === deed.path) removals.delete(path);
        break;
    }
  }

  const isNamed = (path: string): boolean => {
    const entry = entries.get(path);
    return entry === undefined || (entry.named && isNamed(dirname(path)));
  };
  const lost: string[] = [];
  for (const [path, { synced, before }] of entries) {
    const there = statSync(path, { throwIfNoEntry: false });
    if (!there) continue;
    const nameKept = isNamed(path);
    if (there.isFile() && !synced && chance() < 0.7) {
      truncateSync(path, Math.floor(chance() * there.size));
      if (chance() < 0.5) writeFileSync(path, Buffer.alloc(there.size));
      lost.push(`octets of ${path}`);
    }
    if (nameKept || chance() < 0.3) continue;
    if (before !== null && existsSync(dirname(before)) && chance() < 0.5) renameSync(path, before);
    else rmSync(path, { recursive: true, force: true });
    lost.push(`the name ${path}`);
  }
  for (const [path, kept] of removals) {
    if (!existsSync(kept) || chance() < 0.5) continue;
    mkdirSync(dirname(path), { recursive: true });
    cpSync(kept, path);
    lost.push(`the removal of ${path}`);
  }
  return lost;
}
