/**
 * The week of a shared-service centre that sends for some hundred public bodies: how much mail comes in when, where it
 * goes, and what is broken for how long. All chance comes from one seed, so that a run can be repeated.
 */

export interface Outage {
  /** Hours since Monday 00:00. */
  readonly from: number;
  readonly to: number;
  /** Nobody answers, each try costs the time limit of a connection; or the certificate does not match, told at once. */
  readonly kind: 'unreachable' | 'tlsa-mismatch';
}

export interface Destination {
  readonly domain: string;
  /** Part of all mail, from 0 to 1. */
  readonly share: number;
  readonly outages: readonly Outage[];
  /** The first attempt of each message is told to come again. */
  readonly greylists: boolean;
}

export interface World {
  readonly destinations: readonly Destination[];
  /** Messages a second on average, at this many hours since Monday 00:00, for `messages` in the week. */
  readonly rateAt: (hour: number) => number;
  readonly random: () => number;
}

/** Hours of a week. */
export const WEEK = 7 * 24;
/** Mail of an hour of the day, in parts of the busiest hour: office hours, statements at night. */
const WORKDAY = [
  0.25, 0.35, 0.35, 0.2, 0.1, 0.1, 0.2, 0.45, 0.85, 1, 1, 0.95, 0.75, 0.9, 1, 0.95, 0.85, 0.55, 0.3, 0.25, 0.25, 0.2,
  0.2, 0.2,
];
const WEEKEND_PART = 0.2;

/** The two that take most mail, and others whose shares fall off as those of such lists do. */
const LARGE: readonly Omit<Destination, 'greylists'>[] = [
  // Four hours in the middle of a working day, and half an hour.
  { domain: 'largest.example', share: 0.28, outages: [{ from: 34, to: 38, kind: 'unreachable' }] },
  { domain: 'second.example', share: 0.14, outages: [{ from: 61.5, to: 62, kind: 'unreachable' }] },
  // A certificate that was renewed without its TLSA record, found the next morning.
  { domain: 'third.example', share: 0.06, outages: [{ from: 89, to: 105, kind: 'tlsa-mismatch' }] },
];
const BODIES = 400;
const TAIL = 20_000;
/** Part of the mail to public bodies, and to everybody else. */
const BODIES_SHARE = 0.24;
const TAIL_SHARE = 0.28;

/** Mulberry32: small, fast, and good enough for mail. */
export function chance(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @param messages  in the whole week */
export function createWorld(messages: number, seed: number): World {
  const random = chance(seed);
  const harmonic = (count: number): number =>
    Array.from({ length: count }, (_, at) => 1 / (at + 1)).reduce((a, b) => a + b);
  const falling = (count: number, share: number, name: string): Destination[] => {
    const sum = harmonic(count);
    return Array.from({ length: count }, (_, at) => ({
      domain: `${name}${at}.example`,
      share: share / (at + 1) / sum,
      // One in a hundred is dead all week, one in fifty for some hours.
      outages: outagesOf(random),
      greylists: random() < 0.05,
    }));
  };
  const destinations = [
    ...LARGE.map((each) => ({ ...each, greylists: false })),
    ...falling(BODIES, BODIES_SHARE, 'body'),
    ...falling(TAIL, TAIL_SHARE, 'tail'),
  ];
  const part = (hour: number): number => {
    const ofDay = WORKDAY[Math.floor(hour) % 24] ?? 0;
    return hour % WEEK < 5 * 24 ? ofDay : ofDay * WEEKEND_PART;
  };
  const sum = Array.from({ length: WEEK }, (_, hour) => part(hour)).reduce((a, b) => a + b);
  return { destinations, random, rateAt: (hour) => (hour < WEEK ? (messages * part(hour)) / sum / 3_600 : 0) };
}

function outagesOf(random: () => number): readonly Outage[] {
  const dice = random();
  if (dice < 0.01) return [{ from: 0, to: Number.POSITIVE_INFINITY, kind: 'unreachable' }];
  if (dice > 0.03) return [];
  const from = random() * WEEK;
  return [{ from, to: from + 1 + random() * 12, kind: dice < 0.025 ? 'unreachable' : 'tlsa-mismatch' }];
}
