/** `run`: starts the relay with a configuration that has no mistake in it, or says what is wrong. */
import { Command } from 'commander';
import { messageOf } from '../shared/message-of.ts';
import { exitCodeFor, type Load, type Loaded, printMistakes } from './mistakes.ts';

export interface Runner<Config> {
  readonly loadConfig: (...request: Parameters<Load<Config>>) => Promise<Loaded<Config>>;
  /** Starts the relay. Notes are what the operator should know of the configuration, one sentence each. */
  readonly start: (config: Config, notes: readonly string[], file: string | null) => Promise<void>;
}

export function runCommand<Config>({ loadConfig, start }: Runner<Config>): Command {
  return new Command('run')
    .description('start the relay; SIGTERM lets it finish what it is doing and stops it')
    .option('--config <file>', 'configuration file; else DANE_RELAY_CONFIG, else config/relay.yaml if there is one')
    .action(async ({ config }: { readonly config?: string }) => {
      const loaded = await read(loadConfig, config ?? null);
      if (loaded === null) return;
      if (loaded.ok) return start(loaded.config, loaded.notes, loaded.file);
      printMistakes(loaded.mistakes);
      process.exitCode = exitCodeFor(loaded);
    });
}

/** Null, with an exit status, when it could not even be tried. */
async function read<Config>(load: Runner<Config>['loadConfig'], path: string | null): Promise<Loaded<Config> | null> {
  try {
    return await load({ path, env: process.env });
  } catch (error) {
    process.stderr.write(`dane-relay: ${messageOf(error)}\n`);
    process.exitCode = 3;
    return null;
  }
}
