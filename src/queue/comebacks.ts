/**
 * When domains whose mail host has its hands full are tried again. Where thousands share a host, they come back about as fast
 * as mail goes out, so that trying in vain costs no more than that. Kept in memory only.
 */

export interface Comebacks {
  /** An attempt has ended, however; one that found its host busy does not count. */
  readonly ended: (now: number) => void;
  /** For the next domain whose host was busy, in whole tenths of a second, so that many can be given back together. */
  readonly next: (now: number) => number;
}

/** For how long nothing is begun for such a domain: this, and up to twice as long. */
const BUSY_MS = 1_000;
/** Between two of them, at least and at most. */
const APART_MS = { least: 0.5, most: 2 };
/** How much of the time between two ends goes into the average, and the longest that counts. */
const NEWEST = 0.02;
const LONGEST_LULL_MS = 100;

export function createComebacks(): Comebacks {
  let last = 0;
  let lastAsked = 0;
  let lastEnd = 0;
  /** The time between two ends on average. */
  let apart = APART_MS.most;
  return {
    ended(now) {
      apart += (Math.min(Math.max(0, now - lastEnd), LONGEST_LULL_MS) - apart) * NEWEST;
      lastEnd = now;
    },
    next(now) {
      // The clock was put back: those that come before would come later than ever.
      if (now < lastAsked) last = 0;
      lastAsked = now;
      last = Math.max(last + Math.min(Math.max(apart, APART_MS.least), APART_MS.most), now + BUSY_MS);
      return Math.ceil((last + BUSY_MS * Math.random()) / 100) * 100;
    },
  };
}
