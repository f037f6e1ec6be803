/** Opens the DKIM keys for the command line, whether the relay runs or not. DNS is set up for what asks it only. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { OpenDesk } from '../cli/dkim.ts';
import { exitCodeFor, mistakeLine } from '../cli/mistakes.ts';
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import type { KeyDesk } from '../model/dkim.ts';
import type { Resolve } from '../model/dns.ts';
import { createLogger } from '../report/log.ts';
import { systemClock as clock } from '../shared/clock.ts';
import { createParts, type Parts } from '../shared/parts.ts';
import { createKeyDesk } from '../sign/keys-desk.ts';
import { openDns } from './dns.ts';
import { keyFolder, proven } from './signing.ts';
import { trustInWords } from './trust-in-words.ts';

/** @throws Error with an `exitCode` when the configuration cannot be used */
export async function openKeys(configFile?: string): Promise<OpenDesk> {
  const loaded = loadConfig({ path: configFile ?? null, env: process.env });
  if (!loaded.ok) {
    throw Object.assign(new Error(loaded.mistakes.map(mistakeLine).join('\n')), { exitCode: exitCodeFor(loaded) });
  }
  const { config } = loaded;
  const parts = createParts();
  let opened: Promise<Resolve> | null = null;
  const resolve: Resolve = async (name, type) => {
    opened ??= openResolver(config, parts);
    return (await opened)(name, type);
  };
  return { ...keyDeskFor(config, resolve), close: async () => void (await parts.closeAll()) };
}

/** @param resolve asked for what needs DNS only */
export function keyDeskFor(config: Config, resolve: Resolve): KeyDesk {
  return createKeyDesk({ sources: config.dkim, folder: keyFolder(config), resolve, clock });
}

/** Somebody is watching, and a resolver that is there answers sooner. */
const PATIENCE_MS = 4_000;

/** @throws Error in words when nothing is answered: what DNS shows is not known then. */
async function openResolver(config: Config, parts: Parts): Promise<Resolve> {
  const dir = parts.opened(await mkdtemp(join(tmpdir(), 'dane-relay-')), (folder) =>
    rm(folder, { recursive: true, force: true }),
  );
  const log = createLogger('error', 2);
  let answers = false;
  const { trust, resolve } = await openDns(config, dir, { ...log, error: () => {} }, parts, (_, { kind }) => {
    answers ||= kind !== 'failed';
  });
  const over = new AbortController();
  const state = await Promise.race([trust.check(), clock.sleep(PATIENCE_MS, over.signal)]);
  over.abort();
  if (state?.kind === 'unreachable') throw new Error(`what DNS shows is not known: ${trustInWords(state)}`);
  if (!answers) throw new Error(`what DNS shows is not known: ${silence(config)}`);
  // Somebody is there; what the proof lacks still may take longer.
  if (state === undefined) await trust.check();
  return proven(resolve, trust);
}

function silence({ resolver }: Config): string {
  const seconds = PATIENCE_MS / 1000;
  if (resolver.kind === 'managed')
    return `Unbound, started for this, found no answer in ${seconds} s; is there a network?`;
  const { address, port } = resolver.endpoint;
  return `the resolver at ${address}:${port} has not answered in ${seconds} s; is it running?`;
}
