/**
 * Whether mail can be taken in, found out again and again by writing, so that the operator hears of a full or failing
 * disk before a sender does. The refusal itself does not wait for this: each acceptance finds out for itself.
 */
import type { Clock } from '../shared/clock.ts';
import { messageOf } from '../shared/message-of.ts';
import type { StoreHealth } from './store.ts';

export type StorageState =
  | { readonly kind: 'untested' }
  /** `room` in octets, for new mail. */
  | { readonly kind: 'sound'; readonly room: number }
  | { readonly kind: 'full' }
  | { readonly kind: 'faulty'; readonly reason: string };

export interface StorageWatchOptions {
  readonly health: () => Promise<StoreHealth>;
  readonly clock: Clock;
  readonly everyMs?: number;
  /** Between two looks while it is not sound. */
  readonly soonMs?: number;
  /** A disk that takes longer than this for one look does not answer. */
  readonly patienceMs?: number;
  /** Called when the kind of the state or its reason changes. */
  readonly onChange: (state: StorageState, before: StorageState) => void;
}

export interface StorageWatch {
  readonly state: () => StorageState;
  /** Looks now and then for ever, until `close`. Resolves after the first look. */
  readonly start: () => Promise<void>;
  /** Looks now: to be called when something could not be stored. */
  readonly suspect: () => void;
  readonly close: () => void;
}

export function createStorageWatch({
  health,
  clock,
  everyMs = 10_000,
  soonMs = 1_000,
  patienceMs = 15_000,
  onChange,
}: StorageWatchOptions): StorageWatch {
  const closing = new AbortController();
  let state: StorageState = { kind: 'untested' };
  let underWay: Promise<void> | null = null;
  let sleep = new AbortController();

  const become = (next: StorageState): void => {
    const before = state;
    state = next;
    if (!closing.signal.aborted && inWords(before) !== inWords(next)) onChange(next, before);
  };

  const look = async (): Promise<void> => {
    const done = new AbortController();
    const patience = clock.sleep(patienceMs, done.signal).then(() => {
      if (!done.signal.aborted)
        become({ kind: 'faulty', reason: `the disk has not answered for ${patienceMs / 1000} s` });
    });
    try {
      become(stateOf(await health()));
    } catch (error) {
      become({ kind: 'faulty', reason: messageOf(error) });
    }
    done.abort();
    await patience;
  };

  const goOn = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      sleep = new AbortController();
      await clock.sleep(state.kind === 'sound' ? everyMs : soonMs, AbortSignal.any([sleep.signal, closing.signal]));
      if (closing.signal.aborted) return;
      underWay = look();
      await underWay;
      underWay = null;
    }
  };

  return {
    state: () => state,
    async start() {
      await look();
      void goOn();
    },
    suspect: () => {
      if (underWay === null) sleep.abort();
    },
    close: () => closing.abort(),
  };
}

function stateOf({ room, fault }: StoreHealth): StorageState {
  if (fault !== null) return { kind: 'faulty', reason: fault };
  return room > 0 ? { kind: 'sound', room } : { kind: 'full' };
}

function inWords(state: StorageState): string {
  return state.kind === 'faulty' ? state.reason : state.kind;
}
