/**
 * `check`: reads the configuration and tells every mistake; when there is none, tries what can be tried without
 * starting the relay. Changes nothing that is not put back.
 */
import { Command } from 'commander';
import type { Mistake } from '../model/mistake.ts';
import { exitCodeFor, type Load, printMistakes } from './mistakes.ts';

/** What one try came to. */
export interface ProbeResult {
  readonly ok: boolean;
  /** What was found, in one sentence. */
  readonly text: string;
  /** Set when it fails because something is not there at all: a resolver, a file, a server. */
  readonly missing?: boolean;
}

export interface CheckProbe<Config> {
  /** One or two words that stand in front of its result. */
  readonly name: string;
  readonly run: (config: Config) => Promise<ProbeResult>;
}

export interface Checker<Config> {
  readonly loadConfig: Load<Config>;
  /** Tried one after the other, in this order, each whatever the others found. */
  readonly probes: readonly CheckProbe<Config>[];
}

/** The JSON of `check --json`. */
export interface CheckReport {
  readonly ok: boolean;
  /** The file that was read; null when there is none and the defaults hold. */
  readonly file: string | null;
  readonly mistakes: readonly Mistake[];
  readonly notes: readonly string[];
  readonly probes: readonly (ProbeResult & { readonly name: string })[];
}

export function checkCommand<Config>(checker: Checker<Config>): Command {
  return new Command('check')
    .description('tell every mistake in the configuration, then try what can be tried without starting')
    .option('--config <file>', 'configuration file; else DANE_RELAY_CONFIG, else config/relay.yaml if there is one')
    .option('--json', 'print one JSON document')
    .action(async ({ config, json }: { readonly config?: string; readonly json?: boolean }) => {
      const { report, exitCode } = await check(checker, config ?? null);
      if (json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
      else print(report);
      process.exitCode = exitCode;
    });
}

async function check<Config>(
  { loadConfig, probes }: Checker<Config>,
  path: string | null,
): Promise<{ readonly report: CheckReport; readonly exitCode: 0 | 1 | 2 | 3 }> {
  const loaded = loadConfig({ path, env: process.env });
  if (!loaded.ok) {
    const report = { ok: false, file: path, mistakes: loaded.mistakes, notes: [], probes: [] };
    return { report, exitCode: exitCodeFor(loaded) };
  }
  const results: CheckReport['probes'][number][] = [];
  for (const probe of probes) results.push({ name: probe.name, ...(await tried(probe, loaded.config)) });
  const failed = results.filter(({ ok }) => !ok);
  const report = { ok: failed.length === 0, file: loaded.file, mistakes: [], notes: loaded.notes, probes: results };
  if (failed.length === 0) return { report, exitCode: 0 };
  return { report, exitCode: failed.some(({ missing }) => missing) ? 3 : 1 };
}

async function tried<Config>({ run }: CheckProbe<Config>, config: Config): Promise<ProbeResult> {
  try {
    return await run(config);
  } catch (error) {
    return { ok: false, text: `could not be tried: ${error instanceof Error ? error.message : String(error)}` };
  }
}

function print({ ok, file, mistakes, notes, probes }: CheckReport): void {
  if (mistakes.length > 0) {
    printMistakes(mistakes);
    return;
  }
  const width = Math.max(0, ...probes.map(({ name }) => name.length));
  const lines = [
    file === null ? 'There is no configuration file; the defaults hold.' : `${file}: no mistakes.`,
    ...notes.map((note) => `note  ${note}`),
    ...probes.map((probe) => `${probe.ok ? 'ok    ' : 'NO    '}${probe.name.padEnd(width)}  ${probe.text}`),
    ok ? 'Ready to start.' : 'Not ready: see the lines that begin with NO.',
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}
