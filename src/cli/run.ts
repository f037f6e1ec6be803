/** `run`: starts the relay with a configuration that has no mistake in it, or says what is wrong. */
import { Command } from 'commander';
import { exitCodeFor, type Load, printMistakes } from './mistakes.ts';

export interface Runner<Config> {
  readonly loadConfig: Load<Config>;
  /** Starts the relay. Notes are what the operator should know of the configuration, one sentence each. */
  readonly start: (config: Config, notes: readonly string[], file: string | null) => Promise<void>;
}

export function runCommand<Config>({ loadConfig, start }: Runner<Config>): Command {
  return new Command('run')
    .description('start the relay; SIGTERM lets it finish what it is doing and stops it')
    .option('--config <file>', 'configuration file; else DANE_RELAY_CONFIG, else config/relay.yaml if there is one')
    .action(async ({ config }: { readonly config?: string }) => {
      const loaded = loadConfig({ path: config ?? null, env: process.env });
      if (loaded.ok) return start(loaded.config, loaded.notes, loaded.file);
      printMistakes(loaded.mistakes);
      process.exitCode = exitCodeFor(loaded);
    });
}
