/** Joins the operator's exceptions with what looks at their recipients, for the command line. */
import { mkdirSync } from 'node:fs';
import type { ExceptionsDesk } from '../cli/exceptions.ts';
import { type Dial, explain } from '../cli/explain.ts';
import { exitCodeFor, mistakeLine } from '../cli/mistakes.ts';
import { loadConfig } from '../config/load.ts';
import type { Exception, Recheck } from '../model/exception.ts';
import { addException, keepRechecks, readExceptions, readRechecks, removeException } from '../policy/exceptions.ts';
import type { Lookups } from '../relay.ts';
import { openExplainer } from './explainer.ts';
import { recheck, strictly } from './recheck.ts';

/** @throws Error with an `exitCode` when the configuration cannot be used */
export async function openExceptions(configFile?: string): Promise<ExceptionsDesk> {
  const loaded = loadConfig({ path: configFile ?? null, env: process.env });
  if (!loaded.ok) {
    throw Object.assign(new Error(loaded.mistakes.map(mistakeLine).join('\n')), { exitCode: exitCodeFor(loaded) });
  }
  const { state } = loaded.config;
  const options = configFile === undefined ? {} : { config: configFile };
  const looking = async <Answer>(work: (lookups: Lookups, dial: Dial) => Promise<Answer>): Promise<Answer> => {
    const explainer = await openExplainer(options);
    if (explainer.kind === 'refused') throw Object.assign(new Error(explainer.why), { exitCode: explainer.exitCode });
    try {
      return await work(explainer.lookups, explainer.dial);
    } finally {
      await explainer.close();
    }
  };
  return {
    list: () => readExceptions(state),
    rechecks: () => readRechecks(state),
    add: (wish) => {
      mkdirSync(state, { recursive: true, mode: 0o700 });
      return addException(state, wish);
    },
    remove: (id) => removeException(state, id),
    recheck: (exceptions) =>
      looking(async (lookups, dial) => {
        const doubt = lookups.resolverDoubt();
        if (doubt !== null) throw new Error(doubt);
        const found = new Map<string, Recheck>();
        for (const each of exceptions) found.set(each.id, await recheck(each, lookups, dial, Date.now()));
        keepRechecks(state, found);
        return found;
      }),
    pinsSeen: (scope) => looking((lookups, dial) => pinsSeen(scope, lookups, dial)),
  };
}

/** Dials without asking for a proof, and takes down the keys of the servers. */
async function pinsSeen(scope: Exception['scope'], lookups: Lookups, dial: Dial): Promise<readonly string[]> {
  const asIs = strictly(scope, lookups);
  const unproven: Lookups = { ...asIs, destination: (domain) => ({ ...asIs.destination(domain), tls: 'may' }) };
  const { hosts, explanation } = await explain(scope.name, unproven, dial);
  const keys = hosts.flatMap(({ connection }) => connection?.chain[0]?.keySha256 ?? []);
  if (keys.length === 0) throw new Error(`no certificate was seen: ${explanation}`);
  return [...new Set(keys.map((hex) => `sha256/${Buffer.from(hex, 'hex').toString('base64')}`))];
}
