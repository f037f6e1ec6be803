/**
 * `reload`: has a running relay take over its configuration, and tells what came of it.
 *
 * Exit status: 0 taken, 2 not taken because of mistakes, 3 no relay runs.
 */
import { Command } from 'commander';
import { messageOf } from '../shared/message-of.ts';
import { exitCodeFor, type Load, printMistakes } from './mistakes.ts';

/** What a relay says to `reload`. */
export type ReloadAnswer =
  /** `restart`: keys that have changed and that only a restart takes over. */
  | { readonly taken: true; readonly file: string | null; readonly restart: readonly string[] }
  | { readonly taken: false; readonly file: string | null; readonly mistakes: readonly string[] };

export interface ReloadParts<Config> {
  readonly loadConfig: Load<Config>;
  /** Asks the relay that works with this configuration; null when none runs. */
  readonly askRelay: (config: Config) => Promise<ReloadAnswer | null>;
}

interface Options {
  readonly config?: string;
  readonly json?: true;
}

export function reloadCommand<Config extends { readonly state: string }>(parts: ReloadParts<Config>): Command {
  return new Command('reload')
    .description('have the running relay take over its configuration and certificate; connections stay open')
    .option('--config <file>', 'configuration file; else DANE_RELAY_CONFIG, else config/relay.yaml if there is one')
    .option('--json', 'print one JSON document')
    .action(async ({ config: path, json }: Options) => {
      const loaded = parts.loadConfig({ path: path ?? null, env: process.env });
      if (!loaded.ok) {
        printMistakes(loaded.mistakes);
        process.exitCode = exitCodeFor(loaded);
        return;
      }
      try {
        process.exitCode = tell(await parts.askRelay(loaded.config), loaded.config.state, json === true);
      } catch (error) {
        process.stderr.write(`dane-relay: ${messageOf(error)}\n`);
        process.exitCode = 3;
      }
    });
}

function tell(answer: ReloadAnswer | null, state: string, json: boolean): 0 | 2 | 3 {
  if (answer === null) {
    process.stderr.write(`dane-relay: no relay runs with the state folder ${state}\n`);
    return 3;
  }
  if (json) process.stdout.write(`${JSON.stringify(answer, null, 2)}\n`);
  const name = answer.file ?? 'the defaults, for there is no configuration file';
  if (answer.taken) {
    const { restart } = answer;
    if (!json) process.stdout.write(`The relay took over ${name}.\n`);
    if (restart.length > 0)
      process.stderr.write(`A restart is needed for what has changed in: ${restart.join(', ')}\n`);
    return 0;
  }
  const lines = [...answer.mistakes, `The relay did not take over ${name}; the old one stays.`];
  process.stderr.write(lines.map((line) => `${line}\n`).join(''));
  return 2;
}
