/** What `check` tries with the stages themselves: the certificate, the resolver. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CheckProbe } from '../cli/check.ts';
import type { Config } from '../config/config.ts';
import type { Resolve } from '../model/dns.ts';
import { loadOrMakeCertificate } from '../receive/own-certificate.ts';
import { createLogger } from '../report/log.ts';
import { UnboundUnavailable } from '../route/unbound.ts';
import { messageOf } from '../shared/message-of.ts';
import { createParts } from '../shared/parts.ts';
import { certificatePlace } from './certificate.ts';
import { openDns } from './dns.ts';
import { keyDeskFor } from './key-desk.ts';
import { trustInWords } from './trust-in-words.ts';
import { workersIn } from './workers-in.ts';

const certificate: CheckProbe<Config> = {
  name: 'certificate',
  run: async (config: Config) => {
    const place = certificatePlace(config);
    if (!existsSync(place.certPath) && !existsSync(place.keyPath))
      return { ok: true, text: 'is made at the first start' };
    try {
      const { pin } = await loadOrMakeCertificate(place);
      return { ok: true, text: `the relay shows ${pin}` };
    } catch (error) {
      return { ok: false, text: messageOf(error) };
    }
  },
};

const resolver: CheckProbe<Config> = {
  name: 'resolver',
  run: async (config: Config) => {
    const parts = createParts();
    const log = createLogger('error', 2);
    try {
      const dir = parts.opened(await mkdtemp(join(tmpdir(), 'dane-relay-')), (folder) =>
        rm(folder, { recursive: true, force: true }),
      );
      const { trust } = await openDns(config, dir, { ...log, error: () => {} }, parts);
      const state = await trust.check();
      return { ok: state.kind === 'proven', text: trustInWords(state), missing: state.kind === 'unreachable' };
    } catch (error) {
      return { ok: false, text: messageOf(error), missing: error instanceof UnboundUnavailable };
    } finally {
      await parts.closeAll();
    }
  },
};

const dkim: CheckProbe<Config> = {
  name: 'dkim',
  run: async (config: Config) => {
    const entries = await keyDeskFor(config, neverAsked).list(null);
    const wrong = entries.filter((entry) => entry.wrong);
    if (wrong.length > 0) return { ok: false, text: wrong.map(({ note }) => note).join('; ') };
    if (config.dkim.length === 0) return { ok: true, text: 'nothing is signed' };
    const signing = entries.filter(({ state }) => state === 'active' || state === 'file');
    const names = signing.map(({ domain, selector }) => `${domain}/${selector}`).join(', ');
    const idle = config.dkim
      .map(({ domain }) => domain)
      .filter((domain) => !signing.some((key) => key.domain === domain));
    const not = idle.map(
      (domain) => `; nothing signs for ${domain}: "dane-relay dkim rotate ${domain}" is the next step`,
    );
    return { ok: true, text: `signs as ${names || 'nobody yet'}${not.join('')}; "dane-relay dkim check" asks DNS` };
  },
};

const neverAsked: Resolve = () => Promise.reject(new TypeError('a list of keys asks no DNS'));

const workers: CheckProbe<Config> = {
  name: 'workers',
  run: async (config: Config) => {
    const count = workersIn(config);
    const text = count === 1 ? 'one process does all the work' : `${count} processes share the work`;
    return { ok: true, text: config.workers === 'auto' ? `${text}: one less than there are cores` : text };
  },
};

export const stageProbes: readonly CheckProbe<Config>[] = [certificate, dkim, workers, resolver];
