/**
 * A new configuration while the relay runs. It is read and checked as a whole; with a mistake in it all of the old one
 * stays. Nothing that is under way is touched: connections stay, and what they have begun they finish.
 */
import { isDeepStrictEqual } from 'node:util';
import { mistakeLine } from '../cli/mistakes.ts';
import type { ReloadAnswer } from '../cli/reload.ts';
import type { Config } from '../config/config.ts';
import { loadConfigApart } from '../config/load-apart.ts';
import type { Logger } from '../model/events.ts';
import { messageOf } from '../shared/message-of.ts';

export interface Reloader {
  /** One after the other, when asked several times. Never rejects. */
  readonly reload: () => Promise<ReloadAnswer>;
}

/** What takes effect with a restart only: ports, processes and folders that are open. */
const FIXED = [
  'hostname',
  'state',
  'listen',
  'resolver',
  'workers',
  'admin',
  'tlsReports',
] as const satisfies readonly (keyof Config)[];

/**
 * @param old  the configuration that the relay was started with
 * @param file where it was read from; null when there was none
 * @param take puts a configuration in the place of the one before; what cannot be changed is in it as it was
 */
export function createReloader(
  old: Config,
  file: string | null,
  log: Logger,
  take: (next: Config) => Promise<void>,
): Reloader {
  const fixed = Object.fromEntries(FIXED.map((key) => [key, old[key]]));

  const refuse = (mistakes: readonly string[]): ReloadAnswer => {
    for (const mistake of mistakes) log.error(mistake);
    log.error('the new configuration was not taken; the old one stays');
    return { taken: false, file, mistakes };
  };

  const reload = async (): Promise<ReloadAnswer> => {
    try {
      const loaded = await loadConfigApart({ path: file, env: process.env });
      if (!loaded.ok) return refuse(loaded.mistakes.map(mistakeLine));
      const next: Config = { ...loaded.config, ...fixed };
      const restart = FIXED.filter((key) => !isDeepStrictEqual(loaded.config[key], old[key]));
      await take(next);
      const { clients, destinations } = next;
      log.info('took over the new configuration', { clients: clients.length, destinations: destinations.length });
      if (restart.length > 0) log.warn(`a restart is needed for what has changed in: ${restart.join(', ')}`);
      return { taken: true, file, restart };
    } catch (error) {
      return refuse([messageOf(error)]);
    }
  };

  let last: Promise<unknown> = Promise.resolve();
  return {
    reload: () => {
      const mine = last.then(reload);
      last = mine;
      return mine;
    },
  };
}
