/** Does something in fresh surroundings, and leaves nothing behind however it ends. */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { compile } from './native.ts';
import { missingFor } from './requirements.ts';
import { type Surroundings, startSurroundings } from './surroundings.ts';

/** Zones d001.test and so on: as many as case B sends to. */
const MANY = 200;

/**
 * Resolves to an exit status: that of `work`, 3 when something is missing or did not work, 130 after Ctrl-C.
 *
 * @param folder on a disk, for everything that is written meanwhile
 * @param peers whether Postfix and Exim are needed
 */
export async function inSurroundings(
  { folder, peers }: { readonly folder: string; readonly peers: boolean },
  work: (surroundings: Surroundings, signal: AbortSignal) => Promise<number>,
): Promise<number> {
  const missing = missingFor({ peers, folder });
  if (missing.length > 0) {
    console.error(`missing: ${missing.join('; ')}`);
    return 3;
  }
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort(new Error('stopped')));
  const dir = await mkdtemp(join(folder, 'dane-relay-bench-'));
  try {
    await chmod(dir, 0o755);
    const surroundings = await startSurroundings(dir, await compile(), MANY);
    try {
      return await work(surroundings, stop.signal);
    } finally {
      await surroundings.close();
    }
  } catch (error) {
    console.error(stop.signal.aborted ? 'stopped' : error);
    return stop.signal.aborted ? 130 : 3;
  } finally {
    // Programs that were signing zones may write a last file.
    await rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    process.removeAllListeners('SIGINT').removeAllListeners('SIGTERM');
  }
}
