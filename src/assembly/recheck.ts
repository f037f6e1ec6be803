/**
 * The daily look of a running relay at the recipients of the operator's exceptions. It sees them as ordinary mail does,
 * without any exception.
 */
import { type Dial, type ExplainedHost, type Explanation, explain } from '../cli/explain.ts';
import type { Logger } from '../model/events.ts';
import type { Exception, Recheck } from '../model/exception.ts';
import { isUnreachable } from '../model/reasons.ts';
import { verdictOf } from '../model/verdict.ts';
import { grantOf, isLive, keepRechecks, readExceptions, readRechecks } from '../policy/exceptions.ts';
import type { Lookups } from '../relay.ts';
import type { Clock } from '../shared/clock.ts';
import { messageOf } from '../shared/message-of.ts';

/**
 * How mail to the scope of an exception would fare without it and, where that is not well, with it: what nobody has let
 * off, TLS that is too weak for instance, keeps mail back either way. Of a host that cannot be reached nothing is said. Never
 * rejects.
 */
export async function recheck(exception: Exception, lookups: Lookups, dial: Dial, at: number): Promise<Recheck> {
  const { scope } = exception;
  try {
    const strict = strictly(scope, lookups);
    const without = await explain(scope.name, strict, dial);
    const stopped = without.hosts.filter(isStopped);
    const leaves = !isKeptBack(without);
    if (leaves && stopped.length === 0) return { at, repaired: true, helps: false, detail: without.explanation };

    const grant = grantOf(exception);
    const granting: Lookups = { ...strict, destination: (name) => ({ ...strict.destination(name), exception: grant }) };
    const withIt = await explain(scope.name, granting, dial);
    const open = new Set(withIt.hosts.filter((host) => !isStopped(host)).map(({ name }) => name));
    const helped = stopped.find(({ name }) => open.has(name));
    if (helped) return { at, repaired: false, helps: true, detail: `${helped.name}: ${whyStopped(helped)}` };
    if (leaves) return { at, repaired: true, helps: false, detail: without.explanation };
    return { at, repaired: false, helps: isUnreachable(withIt.code) ? null : false, detail: withIt.explanation };
  } catch (error) {
    return { at, repaired: false, helps: null, detail: `could not be looked at: ${messageOf(error)}` };
  }
}

function isStopped({ policy, connection }: ExplainedHost): boolean {
  return policy === 'skip' || connection?.verdict === 'failed';
}

function isKeptBack({ outcome }: Explanation): boolean {
  return outcome === 'deferred' || outcome === 'bounced';
}

function whyStopped({ connection, code }: ExplainedHost): string {
  const { code: seen, reason } = connection ?? { code, reason: '' };
  return `${seen}: ${verdictOf(seen, reason).explanation}`;
}

/** As strict as without exceptions, for the one host where it is about a host. */
export function strictly({ kind, name }: Exception['scope'], lookups: Lookups): Lookups {
  return {
    ...lookups,
    destination: (domain) => {
      const found = { ...lookups.destination(domain), reportUntil: null, exception: null };
      if (kind === 'domain') return found;
      // The host takes mail for domains that have other rules than its own name.
      const tls = found.tls === 'may' ? 'dane' : found.tls;
      return { ...found, tls, nextHop: { kind: 'host', host: name, port: found.nextHop.port } };
    },
  };
}

/** How often the relay sees whether a look is due, and how old the last one may be. */
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** How long before its end an exception that is needed is told of as a warning. */
const LAST_DAYS = 7 * DAY;

export interface RecheckOptions {
  readonly folder: string;
  /** Without exceptions. */
  readonly lookups: () => Lookups;
  readonly dial: Dial;
  readonly clock: Clock;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
}

/** Looks at each exception in force once a day, and says whether it is needed, does not help, or comes to its end. */
export function createRechecker({ folder, lookups, dial, clock, log }: RecheckOptions) {
  const stopped = new AbortController();
  // A host may take minutes for each word, and a relay that stops does not wait for it.
  const stop = new Promise<null>((resolve) => stopped.signal.addEventListener('abort', () => resolve(null)));
  const round = async (): Promise<void> => {
    // Nothing can be seen of a recipient by then; the next hour may be better.
    const strict = lookups();
    if (strict.resolverDoubt() !== null) return;
    const now = clock.now();
    const known = readRechecks(folder);
    for (const exception of readExceptions(folder)) {
      if (stopped.signal.aborted) return;
      const { id, scope, owner, until } = exception;
      if (!isLive(exception, now) || now - (known.get(id)?.at ?? Number.NEGATIVE_INFINITY) < DAY) continue;
      const found = await Promise.race([recheck(exception, strict, dial, clock.now()), stop]);
      if (found === null) return;
      keepRechecks(folder, new Map([[id, found]]));
      const facts = { exception: id, [scope.kind]: scope.name, owner, until: new Date(until).toISOString() };
      if (found.repaired) log.warn(`an exception is no longer needed: ${found.detail}`, facts);
      else if (found.helps === null) log.warn(`whether an exception is needed cannot be seen: ${found.detail}`, facts);
      else if (!found.helps) log.warn(`an exception does not help, mail waits with it as well: ${found.detail}`, facts);
      else if (until - now < LAST_DAYS) log.warn(`an exception that is needed ends soon: ${found.detail}`, facts);
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
