/** How much of a disk may be filled with new mail: some is kept free, so that what was accepted can still leave. */
import { statfsSync } from 'node:fs';

/** Octets kept free on a large disk. */
const RESERVE = 64 * 1024 * 1024;

/**
 * Octets that new mail may take on the file system of `path`; below zero when the reserve is touched already.
 *
 * @param reserve octets to keep free; by default 64 MiB, and no more than a tenth of a small disk
 * @throws the error of the file system
 */
export function roomOn(path: string, reserve: number | null = null): number {
  const { bavail, blocks, bsize } = statfsSync(path);
  return bavail * bsize - (reserve ?? Math.min(RESERVE, (blocks * bsize) / 10));
}
