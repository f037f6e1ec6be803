/**
 * How far SQLite's write-ahead log reaches, read from the index beside it (sqlite.org/walformat.html §2.1). The index
 * is shared memory in a file: it holds what the processes know, also after all of them were killed.
 */
import { readFileSync } from 'node:fs';
import type { WalFrontier } from './crash-steps.ts';

const MAX_FRAME = 16;
const SALTS = 32;
const BACKFILLED = 96;
const BACKFILL_ATTEMPTED = 128;
const HEADER = 136;

/** Null when there is no index. */
export function frontierOf(database: string): (WalFrontier & { readonly checkpointed: number }) | null {
  let index: Buffer;
  try {
    index = readFileSync(`${database}-shm`).subarray(0, HEADER);
  } catch {
    return null;
  }
  if (index.length < HEADER) return null;
  return {
    salts: index.subarray(SALTS, SALTS + 8).toString('hex'),
    frames: index.readUInt32LE(MAX_FRAME),
    // A checkpoint flushes the log before it writes any of it into the database.
    checkpointed: Math.max(index.readUInt32LE(BACKFILLED), index.readUInt32LE(BACKFILL_ATTEMPTED)),
  };
}
