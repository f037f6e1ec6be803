/**
 * One signing for all copies of a message that leave at about the same time: recipients in a hundred domains do not make
 * the relay read and sign a large message a hundred times.
 *
 * What was signed is used again only while the domain still signs with the very same keys, which is asked each time. It is
 * kept for a minute, so that a message which waits leaves under the keys and the date of its own attempt.
 */
import type { Signed } from '../model/delivery.ts';
import type { Clock } from '../shared/clock.ts';
import type { SigningKey } from './dkim-signature.ts';

/** How signing went, and with what; null where nothing was signed. */
export interface Attempted {
  readonly end: Signed;
  readonly keys: readonly SigningKey[] | null;
}

interface Begun {
  readonly at: number;
  readonly attempt: Promise<Attempted>;
}

const KEPT_MS = 60_000;
/** Each has some 1.5 kB. */
const KEPT_MESSAGES = 256;

/** @param holds whether these keys are still the ones that sign */
export function createOnce(holds: (keys: readonly SigningKey[]) => boolean, clock: Clock) {
  const begun = new Map<string, Begun>();
  // A clock that was set back makes nothing fresh.
  const isFresh = (at: number): boolean => Math.abs(clock.now() - at) < KEPT_MS;

  /** Who began while another does the same waits for them; what was not signed is known to them only. */
  const begin = (messageId: string, sign: () => Promise<Attempted>): Begun => {
    const mine: Begun = { at: clock.now(), attempt: sign() };
    begun.delete(messageId);
    begun.set(messageId, mine);
    // The oldest are first.
    for (const [id, { at }] of begun) {
      if (begun.size <= KEPT_MESSAGES && isFresh(at)) break;
      begun.delete(id);
    }
    const drop = (): void => {
      if (begun.get(messageId) === mine) begun.delete(messageId);
    };
    mine.attempt.then(({ keys }) => {
      if (keys === null) drop();
    }, drop);
    return mine;
  };
  return async (messageId: string, sign: () => Promise<Attempted>): Promise<Signed> => {
    for (;;) {
      const known = begun.get(messageId);
      if (!known || !isFresh(known.at)) return (await begin(messageId, sign).attempt).end;
      const { end, keys } = await known.attempt;
      if (keys === null || holds(keys)) return end;
      if (begun.get(messageId) === known) begun.delete(messageId);
    }
  };
}

/** Whether two lists are the same keys under the same names, though read from their files anew. */
export function sameKeys(some: readonly SigningKey[], others: readonly SigningKey[]): boolean {
  return (
    some.length === others.length &&
    some.every((one, at) => {
      const other = others[at];
      return (
        other !== undefined &&
        one.domain === other.domain &&
        one.selector === other.selector &&
        one.algorithm === other.algorithm &&
        (one.key === other.key || one.key.equals(other.key))
      );
    })
  );
}
