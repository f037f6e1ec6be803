/** What becomes of pairs of keys, step by step. Pure: no clock, no disk, no DNS. Each gives null where nothing changes. */
import type { KeyPair, Pairs } from './keys-state.ts';

/** After this long a key should be replaced: twice a year, so that it is a habit and not an adventure. */
export const ROTATE_AFTER_MS = 182 * 86_400_000;

/** The next pair begins to sign; the one that did is old, and retires when its time is over. */
export function promote(pairs: Pairs, { domain, name }: KeyPair, now: number, retireAfter: number): Pairs | null {
  const next = pairs.find((pair) => pair.domain === domain && pair.name === name);
  if (next?.state !== 'next') return null;
  return pairs.map((pair): KeyPair => {
    if (pair === next) return { ...pair, state: 'active', activeSince: now, missingSince: null };
    if (pair.domain !== domain || pair.state !== 'active') return pair;
    return { ...pair, state: 'old', retireAt: now + retireAfter };
  });
}

/** Ends a pair. One that signs stays, also where it only stands in for one whose record is gone. */
export function retire(pairs: Pairs, { domain, name }: KeyPair): Pairs | null {
  const ending = pairs.find((pair) => pair.domain === domain && pair.name === name);
  if (!ending || ending.state === 'active' || ending.state === 'retired') return null;
  if (ending === signingPair(pairs, domain)) return null;
  return pairs.map((pair): KeyPair => (pair === ending ? { ...pair, state: 'retired', retireAt: null } : pair));
}

/** Old pairs whose time is over, where one signs whose record can be seen. */
export function overdue(pairs: Pairs, now: number): Pairs {
  return pairs.filter(({ domain, state, retireAt }) => {
    if (state !== 'old' || retireAt === null || retireAt > now) return false;
    return pairs.some((pair) => pair.domain === domain && pair.state === 'active' && pair.missingSince === null);
  });
}

/** Notes whether DNS shows the record of a pair that should be there. */
export function seen(pairs: Pairs, { domain, name }: KeyPair, shown: boolean, now: number): Pairs | null {
  const pair = pairs.find((each) => each.domain === domain && each.name === name);
  if (!pair || (pair.missingSince === null) === shown) return null;
  return pairs.map((each): KeyPair => (each === pair ? { ...each, missingSince: shown ? null : now } : each));
}

/** Forgets a retired pair. */
export function forget(pairs: Pairs, { domain, name }: KeyPair): Pairs | null {
  const rest = pairs.filter((pair) => pair.domain !== domain || pair.name !== name || pair.state !== 'retired');
  return rest.length === pairs.length ? null : rest;
}

/** The pair that signs: the active one, or the one before it while DNS does not show that. */
export function signingPair(pairs: Pairs, domain: string): KeyPair | null {
  const own = pairs.filter((pair) => pair.domain === domain && pair.missingSince === null);
  const old = own
    .filter(({ state }) => state === 'old')
    .toSorted((a, b) => (b.activeSince ?? 0) - (a.activeSince ?? 0));
  return own.find(({ state }) => state === 'active') ?? old[0] ?? null;
}
