/** Opens the queue for the command line, whether the relay runs or not. */
import { exitCodeFor, mistakeLine } from '../cli/mistakes.ts';
import { loadConfig } from '../config/load.ts';
import { openSqliteStore } from '../queue/sqlite.ts';
import type { Store } from '../queue/store.ts';

/**
 * @throws Error with an `exitCode` when the configuration cannot be used
 * @throws StoreMissing when there is no queue
 */
export async function openQueue(configFile?: string): Promise<Store> {
  const loaded = loadConfig({ path: configFile ?? null, env: process.env });
  if (loaded.ok) return openSqliteStore({ folder: loaded.config.state, mode: 'visitor' });
  throw Object.assign(new Error(loaded.mistakes.map(mistakeLine).join('\n')), { exitCode: exitCodeFor(loaded) });
}
