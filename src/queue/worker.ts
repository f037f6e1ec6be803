/**
 * Moves mail out of the queue: claims what is due, has it attempted, and writes down how that ended. Whatever goes wrong
 * here leaves mail in the queue: an attempt that breaks is a deferral, and a result that cannot be written is tried again
 * until it is, or until the process ends and the claim is taken back at the next start.
 */
import type { Outcome } from '../model/delivery.ts';
import type { Logger, MailEvent } from '../model/events.ts';
import type { Batch } from '../model/message.ts';
import type { Clock } from '../shared/clock.ts';
import { createBackoff } from './backoff.ts';
import { deferralOf, type Ending, endingOf, internalError, type MakeNotice } from './ending.ts';
import type { Schedule } from './schedule.ts';
import type { Claim, Store } from './store.ts';
import { createTurns, type TurnOptions } from './turns.ts';

/** How much may be under way at once. */
export interface WorkerLimits {
  /** Attempts, those that wait for a connection included. */
  readonly concurrency: number;
  /** Attempts for one recipient domain. */
  readonly perDomain: number;
  /** What the operator's table says of a domain besides. */
  readonly limitsOf: TurnOptions['limitsOf'];
}

export interface WorkerOptions extends WorkerLimits {
  readonly store: Store;
  /** One attempt; one outcome for each recipient. May reject: then everybody waits. */
  readonly attempt: (batch: Batch) => Promise<readonly Outcome[]>;
  readonly makeNotice: MakeNotice;
  readonly schedule: Schedule;
  readonly clock: Clock;
  readonly log: Logger;
  /** As given to `store.recover`. */
  readonly owner: string;
}

export interface QueueWorker {
  readonly start: () => void;
  /** Looks for due mail now: to be called after `accept`. */
  readonly wake: () => void;
  /** True when no attempt is running. */
  readonly idle: () => boolean;
  /** How many attempts at once, from now on; those that run are not touched. */
  readonly setLimits: (limits: WorkerLimits) => void;
  /**
   * Claims nothing more and waits for the running attempts.
   *
   * @returns false when some were still running after `deadlineMs`: their claims stay until the next start
   */
  readonly drain: (deadlineMs: number) => Promise<boolean>;
}

/** How long a claim holds without a word from us, before another relay node may take the mail over. */
const LEASE_MS = 60_000;
/** How often to look for what the command line or another node changed. */
const POLL_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
/** For how long nothing is begun for a domain whose mail host has its hands full: this, and up to twice as long. */
const BUSY_MS = 1_000;

export function createWorker(options: WorkerOptions): QueueWorker {
  const { store, attempt, makeNotice, schedule, clock, log, owner } = options;
  let { concurrency, perDomain, limitsOf } = options;
  const backoff = createBackoff(schedule.backoff);
  const turns = createTurns({ perDomain: () => perDomain, limitsOf: (domain) => limitsOf(domain) });
  const running = new Map<string, Promise<void>>();
  /** Claims that nothing was done with, until the store has them back. */
  const unused = new Set<string>();
  const abandoned = new AbortController();
  const stopped = new AbortController();
  let woken = false;
  let sleep = new AbortController();
  let claiming: Promise<void> = Promise.resolve();

  const wake = (): void => {
    woken = true;
    sleep.abort();
  };

  const pause = async (ms: number): Promise<void> => {
    if (woken) return;
    sleep = new AbortController();
    await clock.sleep(ms, sleep.signal);
  };

  /** False when it is not its turn. */
  const begin = (claim: Claim): boolean => {
    const { batch, lease, askedAt } = claim;
    const now = clock.now();
    if (!turns.begin(batch.domain, now, backoff.refusal(batch, now, askedAt) !== null)) {
      unused.add(lease);
      return false;
    }
    const end = work(claim).finally(() => {
      turns.end(batch.domain);
      running.delete(lease);
      wake();
    });
    running.set(lease, end);
    return true;
  };

  const giveBack = async (): Promise<void> => {
    const leases = [...unused];
    if (leases.length === 0) return;
    await store.giveBack(leases);
    for (const lease of leases) unused.delete(lease);
  };

  const claimAndBegin = async (): Promise<number> => {
    await giveBack();
    const limit = concurrency - running.size;
    if (limit <= 0) return 0;
    const now = clock.now();
    const claims = await store.claim({
      owner,
      now,
      leaseMs: LEASE_MS,
      limit,
      perDomain,
      taken: turns.taken(now, (domain) => backoff.putsOff(domain, now)),
    });
    const begun = claims.filter(begin);
    await giveBack();
    return begun.length;
  };

  const untilNextDue = async (): Promise<number> => {
    const now = clock.now();
    const due = await store.nextDue(now);
    return Math.min(...[due, turns.opensAt(now)].map((at) => (at === null ? POLL_MS : at - now)), POLL_MS);
  };

  const claimLoop = async (): Promise<void> => {
    let failures = 0;
    while (!stopped.signal.aborted) {
      woken = false;
      try {
        const begun = await claimAndBegin();
        failures = 0;
        if (begun === 0) await pause(await untilNextDue());
      } catch (error) {
        // Not woken by new mail: it could not be claimed either.
        log.error('the queue cannot be read', { error: wordsOf(error), failures: ++failures });
        await clock.sleep(pauseAfter(failures), stopped.signal);
      }
    }
  };

  const leaseLoop = async (): Promise<void> => {
    for (;;) {
      await clock.sleep(LEASE_MS / 3, abandoned.signal);
      if (abandoned.signal.aborted) return;
      try {
        if (running.size > 0) await store.extendLeases([...running.keys()], clock.now() + LEASE_MS);
      } catch (error) {
        log.error('leases could not be extended', { error: wordsOf(error) });
      }
    }
  };

  /** Never rejects. */
  const work = ({ batch, lease, askedAt }: Claim): Promise<void> =>
    backoff.inTurn(batch.domain, async () => {
      const startedAt = clock.now();
      const refusal = backoff.refusal(batch, startedAt, askedAt);
      const outcomes = refusal?.outcomes ?? (await outcomesOf(batch));
      const now = clock.now();
      if (outcomes.every(({ code }) => code === 'host-busy')) {
        turns.close(batch.domain, now + BUSY_MS * (1 + Math.random()));
        unused.add(lease);
        return;
      }
      if (!refusal) backoff.note(batch, outcomes, startedAt, now);
      await settle(batch, lease, await endingOrDeferral(batch, outcomes, { now, putOffUntil: refusal?.until ?? null }));
    });

  const endingOrDeferral = async (
    batch: Batch,
    outcomes: readonly Outcome[],
    at: { readonly now: number; readonly putOffUntil: number | null },
  ): Promise<Ending> => {
    try {
      return await endingOf(batch, outcomes, at, tools);
    } catch (error) {
      log.error('the outcome of an attempt could not be judged', {
        error: wordsOf(error, 'stack'),
        queueId: batch.messageId,
      });
      return deferralOf(batch, at.now, at.now + POLL_MS * 60);
    }
  };

  const tools = {
    schedule,
    makeNotice,
    onNoticeFailure: (kind: string, batch: Batch, error: unknown) =>
      log.error(`the ${kind} notice could not be written`, { error: wordsOf(error), queueId: batch.messageId }),
  };

  const outcomesOf = async (batch: Batch): Promise<readonly Outcome[]> => {
    try {
      const outcomes = await attempt(batch);
      const byId = new Map(outcomes.map((outcome) => [outcome.recipientId, outcome]));
      if (batch.recipients.some(({ id }) => !byId.has(id))) {
        log.error('an attempt said nothing of some recipients', { queueId: batch.messageId });
      }
      return batch.recipients.map((recipient) => byId.get(recipient.id) ?? internalError(recipient));
    } catch (error) {
      log.error('an attempt failed by a mistake in the relay', {
        error: wordsOf(error, 'stack'),
        queueId: batch.messageId,
      });
      return batch.recipients.map(internalError);
    }
  };

  const settle = async (batch: Batch, lease: string, { settlements, notices, events }: Ending): Promise<void> => {
    for (let failures = 0; !abandoned.signal.aborted; ) {
      try {
        return tell(batch, events, await store.settle(lease, settlements, notices));
      } catch (error) {
        log.error('the end of an attempt could not be stored', {
          error: wordsOf(error),
          queueId: batch.messageId,
          failures: ++failures,
        });
        await clock.sleep(pauseAfter(failures), abandoned.signal);
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

  const allEnded = async (): Promise<void> => {
    await claiming;
    while (running.size > 0) await Promise.all(running.values());
  };

  return {
    start() {
      claiming = claimLoop();
      void leaseLoop();
    },
    wake,
    idle: () => running.size === 0,
    setLimits(limits) {
      ({ concurrency, perDomain, limitsOf } = limits);
      wake();
    },
    async drain(deadlineMs) {
      stopped.abort();
      wake();
      const done = new AbortController();
      const inTime = await Promise.race([
        allEnded().then(() => true),
        clock.sleep(deadlineMs, done.signal).then(() => false),
      ]);
      done.abort();
      abandoned.abort();
      return inTime;
    },
  };
}

/** Milliseconds to wait after so many failures in a row: 1, 2, 4 … 30 seconds. */
function pauseAfter(failures: number): number {
  return Math.min(1_000 * 2 ** Math.min(failures - 1, 10), LONGEST_PAUSE_MS);
}

/** @param what  `stack` for a mistake of our own, where the place matters */
function wordsOf(error: unknown, what: 'message' | 'stack' = 'message'): string {
  return error instanceof Error ? (error[what] ?? error.message) : String(error);
}
