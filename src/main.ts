/** The command line: every command with the parts that it works on. What `explain` says is what delivery does. */
import './shared/node-version.ts';
import { openExplainer } from './assembly/explainer.ts';
import { stageProbes } from './assembly/probes.ts';
import { start } from './assembly/start.ts';
import { checkCommand } from './cli/check.ts';
import { explainCommand } from './cli/explain.ts';
import { labCommand } from './cli/lab.ts';
import { exitCodeFor, mistakeLine } from './cli/mistakes.ts';
import { pinCommand } from './cli/pin.ts';
import { generalProbes } from './cli/probes.ts';
import { createProgram, runProgram } from './cli/program.ts';
import { queueCommand } from './cli/queue.ts';
import { runCommand } from './cli/run.ts';
import { tlsaCommand } from './cli/tlsa.ts';
import { verifyCommand } from './cli/verify.ts';
import { loadConfig } from './config/load.ts';
import { judgeChain } from './policy/dane/match.ts';
import { judgeRecords, parseTlsa } from './policy/dane/tlsa.ts';
import { openSqliteStore } from './queue/sqlite.ts';
import type { Store } from './queue/store.ts';

async function openQueue(configFile?: string): Promise<Store> {
  const loaded = loadConfig({ path: configFile ?? null, env: process.env });
  if (!loaded.ok)
    throw Object.assign(new Error(loaded.mistakes.map(mistakeLine).join('\n')), { exitCode: exitCodeFor(loaded) });
  return openSqliteStore({ folder: loaded.config.state, mode: 'visitor' });
}

await runProgram(
  createProgram([
    runCommand({ loadConfig, start }),
    checkCommand({ loadConfig, probes: [...generalProbes, ...stageProbes] }),
    explainCommand(openExplainer),
    verifyCommand({ parseTlsa, judgeRecords, judgeChain }),
    tlsaCommand(),
    pinCommand(),
    queueCommand({ openStore: openQueue }),
    labCommand(),
  ]),
  process.argv,
);
