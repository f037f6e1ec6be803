/**
 * The daily look of a running relay at the recipients of the operator's exceptions. It sees them as ordinary mail does,
 * without any exception.
 */
import { type Dial, explain } from '../cli/explain.ts';
import type { Logger } from '../model/events.ts';
import type { Exception, Recheck } from '../model/exception.ts';
import { isLive, keepRechecks, readExceptions, readRechecks } from '../policy/exceptions.ts';
import type { Lookups } from '../relay.ts';
import type { Clock } from '../shared/clock.ts';
import { messageOf } from '../shared/message-of.ts';

/** How mail to the scope of an exception would fare without it. Never rejects. */
export async function recheck(scope: Exception['scope'], lookups: Lookups, dial: Dial, at: number): Promise<Recheck> {
  try {
    const { hosts, outcome, explanation } = await explain(scope.name, strictly(scope, lookups), dial);
    const failed = hosts.find(({ policy, connection }) => policy === 'skip' || connection?.verdict === 'failed');
    if (outcome === 'deferred' || outcome === 'bounced') return { at, repaired: false, detail: explanation };
    if (failed === undefined) return { at, repaired: true, detail: explanation };
    const why = failed.connection?.reason ?? '';
    return { at, repaired: false, detail: `${failed.name}: ${failed.connection?.code ?? failed.code} ${why}`.trim() };
  } catch (error) {
    return { at, repaired: false, detail: `could not be looked at: ${messageOf(error)}` };
  }
}

/** As strict as without exceptions, for the one host where it is about a host. */
export function strictly({ kind, name }: Exception['scope'], lookups: Lookups): Lookups {
  return {
    ...lookups,
    destination: (domain) => {
      const found = { ...lookups.destination(domain), reportUntil: null, exception: null };
      return kind === 'domain' ? found : { ...found, nextHop: { kind: 'host', host: name, port: found.nextHop.port } };
    },
  };
}

/** How often the relay sees whether a look is due, and how old the last one may be. */
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

export interface RecheckOptions {
  readonly folder: string;
  /** Without exceptions. */
  readonly lookups: () => Lookups;
  readonly dial: Dial;
  readonly clock: Clock;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
}

/** Looks at each exception in force once a day, and says so when one is no longer needed or comes to its end. */
export function createRechecker({ folder, lookups, dial, clock, log }: RecheckOptions) {
  const stopped = new AbortController();
  const round = async (): Promise<void> => {
    const now = clock.now();
    const known = readRechecks(folder);
    for (const exception of readExceptions(folder)) {
      if (stopped.signal.aborted) return;
      const { id, scope, owner, until } = exception;
      if (!isLive(exception, now) || now - (known.get(id)?.at ?? Number.NEGATIVE_INFINITY) < DAY) continue;
      const found = await recheck(scope, lookups(), dial, clock.now());
      keepRechecks(folder, new Map([[id, found]]));
      const facts = { exception: id, [scope.kind]: scope.name, owner, until: new Date(until).toISOString() };
      if (found.repaired) log.warn(`an exception is no longer needed: ${found.detail}`, facts);
      else log.info(`an exception is still needed: ${found.detail}`, facts);
    }
  };
  const loop = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      await round().catch((error: unknown) =>
        log.error('the exceptions could not be checked', { error: messageOf(error) }),
      );
      await clock.sleep(HOUR, stopped.signal);
    }
  };
  let running: Promise<void> = Promise.resolve();
  return {
    /** One look at what is due, for tests and for whoever asks. */
    round,
    start: (): void => {
      running = loop();
    },
    close: async (): Promise<void> => {
      stopped.abort();
      await running;
    },
  };
}
