/**
 * Counts in memory until they are written: a session costs one look into a map, and the disk is touched now and then.
 * There are never more than so many different ones; what is beyond is not counted, and how many that were is known.
 */
import type { Count } from './count.ts';

/** So many sessions of one day that ended alike. */
export interface Tallied extends Count {
  /** Days since 1970-01-01 in UTC. */
  readonly day: number;
  readonly sessions: number;
}

/** Between two writings, many times what a busy relay has; longer only while the disk does not take them. */
const KINDS_AT_MOST = 10_000;
/** Characters of what was published, the same policy counted each time that it is kept. */
const POLICY_OCTETS_AT_MOST = 8 * 1024 * 1024;

export class Tally {
  #counts = new Map<string, Tallied>();
  #policyOctets = 0;
  /** Sessions that were not counted since the last `takeLost`. */
  #lost = 0;

  add(day: number, count: Count, sessions = 1): void {
    const { domain, policyKey, failure } = count;
    const key = JSON.stringify([day, domain, policyKey, failure]);
    const known = this.#counts.get(key);
    if (known) {
      this.#counts.set(key, { ...known, sessions: known.sessions + sessions });
      return;
    }
    const octets = this.#policyOctets + octetsOf(count);
    if (this.#counts.size < KINDS_AT_MOST && octets <= POLICY_OCTETS_AT_MOST) {
      this.#counts.set(key, { ...count, day, sessions });
      this.#policyOctets = octets;
    } else this.#lost += sessions;
  }

  /** Everything since the last time. What could not be written may be given back to `add`. */
  take(): readonly Tallied[] {
    const taken = [...this.#counts.values()];
    this.#counts = new Map();
    this.#policyOctets = 0;
    return taken;
  }

  takeLost(): number {
    const lost = this.#lost;
    this.#lost = 0;
    return lost;
  }
}

function octetsOf({ policy: { strings, mxHosts } }: Count): number {
  return [...strings, ...mxHosts].reduce((sum, { length }) => sum + length, 0);
}

const DAY_MS = 86_400_000;

export function dayOf(ms: number): number {
  return Math.floor(ms / DAY_MS);
}

/** The first moment of a day in UTC, in milliseconds since the epoch. */
export function startOf(day: number): number {
  return day * DAY_MS;
}
