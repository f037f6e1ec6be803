/** Joins signing with the configuration, the queue's bodies and DNS. */
import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import type { Signed } from '../model/delivery.ts';
import type { Resolve } from '../model/dns.ts';
import type { Logger } from '../model/events.ts';
import { type Batch, type StoredBody, TLS_REPORTER } from '../model/message.ts';
import type { Trust } from '../route/trust.ts';
import { systemClock as clock } from '../shared/clock.ts';
import { fitsPattern } from '../shared/domain-name.ts';
import type { Parts } from '../shared/parts.ts';
import { createSigner, type Signer } from '../sign/dkim.ts';
import { createKeyRing } from '../sign/keys.ts';
import type { Dns } from './dns.ts';
import { trustInWords } from './trust-in-words.ts';

export interface Signing {
  /** What goes on top of a queued message. */
  readonly sign: (batch: Batch) => Promise<Signed>;
  /** Whether mail with this domain in From would be signed now: for what must not leave without. */
  readonly canSign: (domain: string) => boolean;
  readonly setConfig: (config: Config) => Promise<void>;
  /** Begins to look after managed keys: for one process of a relay. */
  readonly tend: (dns: Pick<Dns, 'resolve' | 'trust'>) => void;
}

/** How soon a relay sees what an operator or another process did with keys. */
const REFRESH_MS = 10_000;
const TEND_MS = 5 * 60_000;

export async function openSigning(
  config: Config,
  openBody: (messageId: string) => Promise<StoredBody>,
  log: Logger,
  parts: Parts,
): Promise<Signing> {
  const ring = await createKeyRing({ sources: config.dkim, folder: keyFolder(config), clock, log });
  const stopped = parts.opened(new AbortController(), (controller) => controller.abort());
  const every = async (ms: number, work: () => Promise<void>): Promise<void> => {
    while (!stopped.signal.aborted) {
      await clock.sleep(ms, stopped.signal);
      if (!stopped.signal.aborted) await work();
    }
  };
  const signerFor = ({ dkim }: Config): Signer => createSigner({ rules: dkim, keysOf: ring.keysOf, clock });
  let now = config;
  let signer = signerFor(config);
  void every(REFRESH_MS, ring.refresh);
  return {
    sign: async ({ messageId, client }) => {
      const nothing: Signed = { kind: 'unsigned', why: null };
      const signed =
        now.dkim.length === 0 ? nothing : await signer.sign(messageId, () => openBody(messageId), maySend(now, client));
      if (client !== TLS_REPORTER || signed.kind !== 'unsigned') return signed;
      // RFC 8460 §3: without a signature nobody should believe a report.
      return { kind: 'impossible', code: 'dkim-key-unpublished', why: signed.why ?? 'no domain signs for reports' };
    },
    canSign: (domain) => {
      const rule = signer.ruleFor(domain);
      return rule !== null && ring.keysOf(rule.domain).kind === 'keys';
    },
    setConfig: async (next) => {
      await ring.setSources(next.dkim);
      now = next;
      signer = signerFor(next);
    },
    tend: ({ resolve: ask, trust }) => {
      const resolve = proven(ask, trust);
      void ring.tend(resolve).then(() => every(TEND_MS, () => ring.tend(resolve)));
    },
  };
}

/** What a resolver says that proves nothing is not known. */
export function proven(resolve: Resolve, trust: Pick<Trust, 'trusted' | 'state'>): Resolve {
  return async (name, type) => {
    const answer = await resolve(name, type);
    if (trust.trusted() || answer.kind === 'failed') return answer;
    return { kind: 'failed', reason: trustInWords(trust.state()), extended: null };
  };
}

/** Keys that the relay manages. */
export function keyFolder({ state }: Config): string {
  return join(state, 'dkim');
}

/** Who may not send for a domain does not get its signature either. Our own notices are for us to sign. */
function maySend({ clients }: Config, name: string): (domain: string) => boolean {
  if (name === 'dane-relay' || name === TLS_REPORTER) return () => true;
  const senders = clients.find((client) => client.name === name)?.senders ?? [];
  return (domain) => senders.some((pattern) => fitsPattern(pattern, domain));
}
