/**
 * The relay as `dane-relay run --config FILE` starts it, but with less patience for silent workers. To stand before that
 * command, whose last word it takes.
 */
import { start } from '../../src/assembly/run.ts';
import { loadConfig } from '../../src/config/load.ts';

const loaded = loadConfig({ path: process.argv.at(-1) ?? null, env: {} });
if (!loaded.ok) throw new Error(JSON.stringify(loaded.mistakes));
await start(loaded.config, loaded.notes, loaded.file, { everyMs: 250, questions: 16 });
