/**
 * Writes down how attempts ended: in the store, and once it is safe there, in the log. An end that cannot be judged is a
 * deferral; one that cannot be stored is tried again until it is, or until the process ends and the claim is taken back
 * at the next start.
 */
import type { Outcome } from '../model/delivery.ts';
import type { Logger, MailEvent } from '../model/events.ts';
import type { Batch } from '../model/message.ts';
import type { Clock } from '../shared/clock.ts';
import { messageOf, stackOf } from '../shared/message-of.ts';
import { createDesk } from './desk.ts';
import { deferralOf, type Ending, endingOf, type MakeNotice } from './ending.ts';
import { pauseAfter } from './pause.ts';
import type { Schedule } from './schedule.ts';
import type { Store } from './store.ts';

/** How an attempt ended. */
export interface Attempted {
  readonly outcomes: readonly Outcome[];
  readonly now: number;
  /** When nothing was tried: until then the destination is left alone. */
  readonly putOffUntil: number | null;
}

export interface EndingsOptions {
  readonly store: Store;
  readonly makeNotice: MakeNotice;
  readonly schedule: Schedule;
  readonly clock: Clock;
  readonly log: Logger;
  /** The process ends: nothing is tried again. */
  readonly abandoned: AbortSignal;
  /** There may be more to claim: a notice, what is due again already, or what had to wait for ends to be stored. */
  readonly wake: () => void;
}

export interface Endings {
  /** Resolves when it is stored, or abandoned. Never rejects. */
  readonly finish: (batch: Batch, lease: string, end: Attempted) => Promise<void>;
  /** So many are on their way to the store that nothing should be claimed; `wake` tells when it is half of that. */
  readonly tooMany: () => boolean;
}

/** Attempts whose end is on its way to the store: with more than this, nothing is claimed; with half of it, again. */
const AT_MOST = 200;
/** Notices being written: when thousands of messages are given up at once, others get a word in between. */
const NOTICES_AT_ONCE = 32;
/** What is due again within this is looked for at once. */
const SOON_MS = 1_000;
/** Until the next attempt, when it is not known how one ended. */
const UNKNOWN_MS = 60_000;

export function createEndings({ store, schedule, clock, log, wake, ...options }: EndingsOptions): Endings {
  const { makeNotice, abandoned } = options;
  const noticeDesk = createDesk(NOTICES_AT_ONCE);
  /** On their way to the store. One that could not be stored at once does not count any more. */
  let ending = 0;
  let wereTooMany = false;

  const tools = {
    schedule,
    makeNotice: (...about: Parameters<MakeNotice>) => noticeDesk(() => makeNotice(...about)),
    onNoticeFailure: (kind: string, batch: Batch, error: unknown) =>
      log.error(`the ${kind} notice could not be written`, { error: messageOf(error), queueId: batch.messageId }),
  };

  const judge = async (batch: Batch, at: Attempted): Promise<Ending> => {
    try {
      return await endingOf(batch, at.outcomes, at, tools);
    } catch (error) {
      log.error('the outcome of an attempt could not be judged', {
        error: stackOf(error),
        queueId: batch.messageId,
      });
      return deferralOf(batch, at.now, at.now + UNKNOWN_MS);
    }
  };

  /** @param onFailure  called when it has to be tried again: that may take long, and others can be stored meanwhile */
  const settle = async (
    batch: Batch,
    lease: string,
    { settlements, notices, events }: Ending,
    onFailure: () => void,
  ): Promise<void> => {
    for (let failures = 0; !abandoned.aborted; ) {
      try {
        tell(batch, events, await store.settle(lease, settlements, notices));
        const soon = clock.now() + SOON_MS;
        if (notices.length > 0 || settlements.some((each) => each.kind === 'waits' && each.nextAttempt < soon)) wake();
        return;
      } catch (error) {
        log.error('the end of an attempt could not be stored', {
          error: messageOf(error),
          queueId: batch.messageId,
          failures: ++failures,
        });
        onFailure();
        await clock.sleep(pauseAfter(failures), abandoned);
      }
    }
  };

  const tell = (batch: Batch, events: readonly MailEvent[], end: 'settled' | 'lost'): void => {
    const { messageId: queueId, envelope } = batch;
    if (end === 'lost') log.warn('a claim was lost to another relay node', { queueId });
    for (const event of events) {
      // What was delivered was delivered, also when somebody else has taken the mail over.
      if (end === 'settled' || event.event === 'delivered') log.mail(event);
    }
    const returned = events.some(({ event }) => event === 'bounced' || event === 'expired');
    if (end === 'settled' && returned && envelope.sender === '') {
      log.warn('dropped without a notice, because it has the null sender', { queueId });
    }
  };

  return {
    async finish(batch, lease, end) {
      let counts = true;
      ending++;
      const goOn = (): void => {
        if (counts) ending--;
        counts = false;
        if (wereTooMany && ending <= AT_MOST / 2) wake();
      };
      try {
        await settle(batch, lease, await judge(batch, end), goOn);
      } finally {
        goOn();
      }
    },
    tooMany: () => (wereTooMany = ending > AT_MOST),
  };
}
