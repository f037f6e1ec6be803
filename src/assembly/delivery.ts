/** Joins delivery with the certificates' judge and the queue's bodies. */
import type { Config } from '../config/config.ts';
import { createDeliverer, type Deliverer, type DelivererLimits, type DelivererOptions } from '../deliver/deliverer.ts';
import type { Logger } from '../model/events.ts';
import type { LeavingBody } from '../model/message.ts';
import { createJudge } from '../policy/dane/remembered.ts';
import { gradeTls } from '../policy/tls-grade.ts';
import { judgeNames } from '../policy/webpki.ts';
import { systemClock } from '../shared/clock.ts';
import type { Parts } from '../shared/parts.ts';

/**
 * @param openBody   octets of a queued message
 * @param permits    where one of several workers asks before it connects
 * @param patienceMs for each word of a host, where somebody sits and waits; null for what the configuration grants
 */
export function openDeliverer(
  config: Config,
  openBody: (messageId: string) => Promise<LeavingBody>,
  patienceMs: number | null,
  log: Logger,
  parts: Parts,
  permits?: DelivererOptions['permits'],
): Deliverer {
  const judgeChain = createJudge();
  const deliverer = createDeliverer({
    ...(permits && { permits }),
    ...delivererLimits(config, patienceMs),
    hostname: config.hostname,
    openBody,
    judge: (chain, { records, referenceNames }) =>
      judgeChain({ chain, records, names: referenceNames, at: systemClock.now() }),
    judgeNames,
    grade: gradeTls,
    log,
  });
  return parts.opened(deliverer, ({ close }) => close());
}

/** What a configuration grants to mail hosts. */
export function delivererLimits({ delivery }: Config, patienceMs: number | null): DelivererLimits {
  const granted = { connect: delivery.connectTimeout, ...delivery.timeouts };
  const within = (ms: number): number => Math.min(ms, patienceMs ?? Number.POSITIVE_INFINITY);
  return {
    authorities: delivery.authorities,
    timeouts: Object.fromEntries(Object.entries(granted).map(([phase, ms]) => [phase, within(ms)])),
    pool: {
      perHost: delivery.connectionsPerHost,
      total: delivery.connections,
      messagesPerConnection: delivery.messagesPerConnection,
      idleMs: delivery.idleTimeout,
    },
  };
}
