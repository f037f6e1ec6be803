/**
 * Whose turn it is: how many messages of a destination may be under way now, by the operator's limits and by what the
 * mail hosts showed. What may not begin stays untouched in the queue. Kept in memory only.
 */
import { type Rate, RateLimiter } from '../shared/rate.ts';

/** What the operator's table allows for one recipient domain. */
export interface DestinationLimits {
  /** Messages on their way at once; null for the general limit. */
  readonly connections: number | null;
  /** Messages begun; null for no limit. */
  readonly rate: Rate | null;
}

export interface TurnOptions {
  readonly limitsOf: (domain: string) => DestinationLimits;
  /** Messages on their way to one domain at once. */
  readonly perDomain: () => number;
}

export interface Turns {
  /** Takes a turn for one message; false when it is not its turn. Who got one must `end`. */
  readonly begin: (domain: string, now: number, unmetered: boolean) => boolean;
  readonly end: (domain: string) => void;
  /** Lets nothing begin before `until`: its mail hosts have their hands full. A clock that is put back opens it again. */
  readonly close: (domain: string, now: number, until: number) => void;
  /** For `Store.claim`: how many of `perDomain` are in use, by domain; all of them where nothing may begin. */
  readonly taken: (now: number, isUnmetered: (domain: string) => boolean) => ReadonlyMap<string, number>;
  /** The next time at which a domain that may not begin now may. */
  readonly opensAt: (now: number) => number | null;
}

/** More domains than this whose hosts are busy: the oldest are forgotten, so that memory and time are bounded. */
const CLOSED_AT_MOST = 1_000;

export function createTurns({ limitsOf, perDomain }: TurnOptions): Turns {
  const running = new Map<string, number>();
  const closed = new Map<string, { readonly since: number; readonly until: number }>();
  const rates = new RateLimiter();

  const isClosed = (domain: string, now: number): boolean => {
    const { since, until } = closed.get(domain) ?? { since: 0, until: 0 };
    return since <= now && now < until;
  };

  /** @param unmetered  the rate does not count: nothing will be dialled */
  const free = (domain: string, now: number, unmetered: boolean): number => {
    if (isClosed(domain, now)) return 0;
    const { connections, rate } = limitsOf(domain);
    const most = Math.min(connections ?? perDomain(), perDomain());
    const left = most - (running.get(domain) ?? 0);
    return rate === null || unmetered ? left : Math.min(left, rates.free(domain, rate, now));
  };

  return {
    begin(domain, now, unmetered) {
      if (free(domain, now, unmetered) <= 0) return false;
      const { rate } = limitsOf(domain);
      if (rate !== null && !unmetered) rates.take(domain, rate, now);
      running.set(domain, (running.get(domain) ?? 0) + 1);
      return true;
    },
    end(domain) {
      const left = (running.get(domain) ?? 1) - 1;
      if (left > 0) running.set(domain, left);
      else running.delete(domain);
    },
    close(domain, now, until) {
      closed.delete(domain);
      closed.set(domain, { since: now, until });
      const [oldest] = closed.keys();
      if (closed.size > CLOSED_AT_MOST && oldest !== undefined) closed.delete(oldest);
    },
    taken(now, isUnmetered) {
      for (const domain of closed.keys()) if (!isClosed(domain, now)) closed.delete(domain);
      const domains = new Set([...running.keys(), ...closed.keys(), ...rates.names()]);
      const counts = new Map<string, number>();
      for (const domain of domains) {
        const used = perDomain() - Math.max(0, free(domain, now, isUnmetered(domain)));
        if (used > 0) counts.set(domain, used);
      }
      return counts;
    },
    opensAt(now) {
      let next: number | null = null;
      const sooner = (at: number): void => {
        if (at > now && (next === null || at < next)) next = at;
      };
      for (const { since, until } of closed.values()) if (since <= now) sooner(until);
      for (const domain of rates.names()) {
        const { rate } = limitsOf(domain);
        if (rate !== null && rates.free(domain, rate, now) <= 0) sooner(rates.opensAt(domain, now));
      }
      return next;
    },
  };
}
