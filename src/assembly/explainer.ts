/** Joins the stages for `explain`: the same as for delivery, without a queue. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExplainOptions, Lookup, OpenExplainer } from '../cli/explain.ts';
import { exitCodeFor, mistakeLine } from '../cli/mistakes.ts';
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { loopbackEndpoint } from '../config/notation.ts';
import { type DnsAnswer, dnssecOf, type ExtendedError, type MxRecord } from '../model/dns.ts';
import { summarize } from '../policy/dane/summary.ts';
import { textOf } from '../policy/dane/tlsa.ts';
import { createExceptionBook } from '../policy/exceptions.ts';
import { createLogger } from '../report/log.ts';
import { UnboundUnavailable } from '../route/unbound.ts';
import { createParts } from '../shared/parts.ts';
import { openDeliverer } from './delivery.ts';
import { openDns } from './dns.ts';
import { openSts } from './sts.ts';

/** How long `explain` waits for each word of a host: somebody is watching. */
const EXPLAIN_PATIENCE_MS = 15_000;

export const openExplainer: OpenExplainer = async (options) => {
  const loaded = loadConfig({ path: options.config ?? null, env: process.env });
  if (!loaded.ok) {
    return { kind: 'refused', exitCode: exitCodeFor(loaded), why: loaded.mistakes.map(mistakeLine).join('\n') };
  }
  const config = withOptions(loaded.config, options);
  if (typeof config === 'string') return { kind: 'refused', exitCode: 2, why: config };
  const log = createLogger('error', 2);
  const parts = createParts();
  const dir = parts.opened(await mkdtemp(join(tmpdir(), 'dane-relay-')), (folder) =>
    rm(folder, { recursive: true, force: true }),
  );
  try {
    const asked: Lookup[] = [];
    // What is wrong with the resolver stands in the answer; the log would say it a second time.
    const quiet = { ...log, error: () => {} };
    const { trust, resolve, lookups } = await openDns(config, dir, quiet, parts, (question, answer) => {
      asked.push({
        ...question,
        dnssec: dnssecOf(answer),
        answer: answerInWords(answer),
        extended: extendedOf(answer),
      });
    });
    await trust.check();
    asked.length = 0;
    const book = createExceptionBook(config.state, Date.now, (why) => log.error(why));
    const deliverer = openDeliverer(config, noBody, EXPLAIN_PATIENCE_MS, log, parts);
    return {
      kind: 'open',
      lookups: { ...lookups(config, book), findSts: openSts(config.state, 'read', resolve, quiet, parts)(config) },
      dial: async (target) => {
        const { chain, ...seen } = await deliverer.dial(target);
        return { ...seen, chain: chain.map(summarize) };
      },
      asked: () => asked,
      close: async () => void (await parts.closeAll()),
    };
  } catch (error) {
    await parts.closeAll();
    if (!(error instanceof UnboundUnavailable)) throw error;
    return { kind: 'refused', exitCode: 3, why: error.message };
  }
};

function noBody(): Promise<never> {
  return Promise.reject(new Error('explain sends no message'));
}

function answerInWords(answer: DnsAnswer<unknown>): string {
  switch (answer.kind) {
    case 'found':
      return answer.records.map(recordInWords).join(', ');
    case 'absent':
      return answer.nxdomain ? 'no such name' : 'no such records';
    case 'failed':
      return answer.reason;
  }
}

function recordInWords(data: unknown): string {
  if (Buffer.isBuffer(data)) return textOf(data);
  const { preference, exchange } = Object(data) as Partial<MxRecord>;
  return exchange === undefined ? String(data) : `${preference} ${exchange}`;
}

function extendedOf(answer: DnsAnswer<unknown>): ExtendedError | null {
  return answer.kind === 'failed' ? answer.extended : null;
}

/** The configuration with what the command line says in its place, or what is wrong with that. */
function withOptions(config: Config, { resolver, port }: ExplainOptions): Config | string {
  const endpoint = resolver === undefined ? null : loopbackEndpoint.read(resolver);
  if (endpoint && !endpoint.ok) return `--resolver ${resolver}: ${endpoint.message}`;
  const number = port === undefined ? config.delivery.port : Number(port);
  if (!(Number.isInteger(number) && number >= 1 && number <= 65_535)) return `--port ${port}: expected 1 to 65535`;
  return {
    ...config,
    delivery: { ...config.delivery, port: number },
    resolver: endpoint ? { kind: 'external', endpoint: endpoint.value, probe: config.resolver.probe } : config.resolver,
  };
}
