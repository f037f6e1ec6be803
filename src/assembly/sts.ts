/** Joins MTA-STS: records by our resolver, policies over HTTPS, what is known in the state folder, refreshed by the hour. */
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import type { Config } from '../config/config.ts';
import type { SessionEnd } from '../model/delivery.ts';
import type { Resolve } from '../model/dns.ts';
import type { Logger } from '../model/events.ts';
import { verdictOf } from '../model/verdict.ts';
import { createStsCache } from '../policy/sts/cache.ts';
import { createFetcher } from '../policy/sts/fetch.ts';
import { createSts, policyDomainOf, type Sts } from '../policy/sts/find.ts';
import { judgeByAuthorities, stsSession } from '../policy/sts/session.ts';
import type { Lookups } from '../relay.ts';
import { createLocator } from '../route/addresses.ts';
import { systemClock as clock } from '../shared/clock.ts';
import { messageOf } from '../shared/message-of.ts';
import type { Parts } from '../shared/parts.ts';

const HOUR = 3_600_000;

/**
 * @param state the state folder
 * @param use   `kept`: a relay, which writes down what it learns; `read`: somebody who only looks
 * @returns what looks policies up as a configuration wants it; the newest one also rules what is refreshed
 */
export function openSts(
  state: string,
  use: 'kept' | 'read',
  resolve: Resolve,
  log: Logger,
  parts: Parts,
): (wishes: Config) => Lookups['findSts'] {
  const stop = new AbortController();
  const cache = createStsCache({
    folder: join(state, 'sts'),
    keeps: use === 'kept',
    now: clock.now,
    onTrouble: (error) => log.error('what is known of MTA-STS cannot be kept', { error: messageOf(error) }),
  });
  const locate = createLocator({ resolve });
  let newest: Sts | null = null;

  const refreshing = use === 'kept' ? refreshByTheHour(() => newest?.refresh(), stop.signal) : null;
  parts.opened(refreshing, async (loop) => {
    stop.abort();
    await loop;
  });
  return ({ delivery }) => {
    if (delivery.mtaSts === 'off') {
      newest = null;
      return async () => null;
    }
    const { authorities, mtaStsPort: port } = delivery;
    const fetchPolicy = createFetcher({ locate, authorities, port, signal: stop.signal });
    const sts = createSts({ resolve, fetchPolicy, cache, now: clock.now, log });
    newest = sts;
    return async (destination) => {
      const domain = policyDomainOf(destination);
      return domain === null ? null : sts.find(domain);
    };
  };
}

/**
 * Adds to the end of a session how it stands under MTA-STS, for the TLS report. What a policy that only tests would have
 * kept back is told in the log.
 */
export function watchSts({ delivery }: Config, log: Logger): (end: SessionEnd) => SessionEnd {
  const judge = judgeByAuthorities(() => delivery.authorities ?? rootCertificates, clock.now);
  return (end) => {
    const sts = stsSession(end, judge);
    if (sts?.mode === 'testing' && sts.trouble) {
      const { code, detail } = sts.trouble;
      const facts = { domain: sts.domain, host: end.plan?.host.name, code };
      log.info(`an MTA-STS policy in testing would keep this mail back: ${verdictOf(code, detail).explanation}`, facts);
    }
    return { ...end, sts };
  };
}

/** Several processes begin at different times, so that mostly one of them finds something to do. */
async function refreshByTheHour(refresh: () => Promise<void> | undefined, signal: AbortSignal): Promise<void> {
  await clock.sleep(Math.random() * HOUR, signal);
  while (!signal.aborted) {
    await refresh();
    await clock.sleep(HOUR, signal);
  }
}
