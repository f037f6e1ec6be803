/**
 * Moves mail out of the queue: claims what is due, has it attempted, and has it written down how that ended (endings.ts).
 * Whatever goes wrong here leaves mail in the queue: an attempt that breaks is a deferral, and a claim that nothing became
 * of is given back, or taken back at the next start.
 */
import type { Outcome } from '../model/delivery.ts';
import type { Logger } from '../model/events.ts';
import type { Batch, NewMessage } from '../model/message.ts';
import type { Clock } from '../shared/clock.ts';
import { messageOf, stackOf } from '../shared/message-of.ts';
import { createBackoff } from './backoff.ts';
import { createComebacks } from './comebacks.ts';
import { internalError, type MakeNotice } from './ending.ts';
import { createEndings } from './endings.ts';
import { type AtHand, createFresh, domainsOf } from './fresh.ts';
import { pauseAfter } from './pause.ts';
import type { Schedule } from './schedule.ts';
import type { Claim, Store } from './store.ts';
import { createTurns, type TurnOptions } from './turns.ts';

/** How much may be under way at once. */
export interface WorkerLimits {
  /** Attempts, those that wait for a connection included. */
  readonly concurrency: number;
  /**
   * Of them, those that mail which was tried or put off before may have: however long the attempts of a backlog take, the
   * others are left for new mail. Mail that was just accepted leaves as many for what waits in the store.
   */
  readonly again: number;
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
  /**
   * Makes a message safe, and goes to work on it at once unless other new mail for the same destination waits.
   *
   * @throws as `Store.accept`
   */
  readonly accept: (message: NewMessage) => Promise<void>;
  /** Octets of a message that was just accepted, or its file; null for all others, which the store has. */
  readonly octetsOf: (messageId: string) => AtHand | null;
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
/** Domains with due mail that are known by name; where there are more, it is looked up which of them has a turn. */
const OUTLOOK = 1_000;
/** Messages for one destination in memory, at most. */
const FRESH_PER_DOMAIN = 500;
/** In one claim: whoever hands in a message meanwhile waits behind that many at most. */
const CLAIMED_AT_ONCE = 50;
/** How often to look for what the command line or another node changed. */
const POLL_MS = 1_000;

export function createWorker(options: WorkerOptions): QueueWorker {
  const { store, attempt, makeNotice, schedule, clock, log, owner } = options;
  let { concurrency, again, perDomain, limitsOf } = options;
  const backoff = createBackoff(schedule.backoff);
  const turns = createTurns({ perDomain: () => perDomain, limitsOf: (domain) => limitsOf(domain) });
  const fresh = createFresh();
  /** Claims that are not settled yet. */
  const running = new Map<string, Promise<void>>();
  /** How many of them are being attempted; of these, what was tried or put off before, and what was just accepted. */
  let attempting = 0;
  let attemptingAgain = 0;
  let attemptingFresh = 0;
  /** Claims that nothing was done with, until the store has them back, and from when on they may be claimed again. */
  const unused = new Map<string, number>();
  const comebacks = createComebacks();
  /** Domains with mail in the store that is due, as far as is known: it can be claimed when they have a turn. */
  let due = new Set<string>();
  /** True when there are too many of them to be named, or nothing is known yet. */
  let allDue = true;
  /** There was no room for another claim, or one is on its way and what it will leave is not known. */
  let wantsMore = false;
  /** The same for mail that was tried or put off before. */
  let wantsAgain = false;
  const abandoned = new AbortController();
  const stopped = new AbortController();
  let started = false;
  let woken = false;
  let sleep = new AbortController();
  let claiming: Promise<void> = Promise.resolve();

  const wake = (): void => {
    if (woken) return;
    woken = true;
    // With a reason, or an error with its stack would be made for each.
    sleep.abort('woken');
  };

  const endings = createEndings({ store, makeNotice, schedule, clock, log, abandoned: abandoned.signal, wake });

  const pause = async (ms: number): Promise<void> => {
    if (woken) return;
    sleep = new AbortController();
    await clock.sleep(ms, sleep.signal);
  };

  /** Whether a message that was just accepted has to wait for a place. */
  const isFull = (): boolean => attempting >= concurrency || attemptingFresh >= Math.max(1, concurrency - again);

  /** False when it is not its turn. */
  const begin = (claim: Claim, from: 'store' | 'fresh'): boolean => {
    const { batch, lease, askedAt } = claim;
    const { domain } = batch;
    const now = clock.now();
    if (from === 'fresh' ? isFull() : attempting >= concurrency) return false;
    if (!turns.begin(domain, now, backoff.refusal(batch, now, askedAt) !== null)) return false;
    const isAtHand = from === 'fresh' || fresh.join(claim);
    const wasTried = isAgain(batch);
    const count = (by: 1 | -1): void => {
      attempting += by;
      if (wasTried) attemptingAgain += by;
      if (from === 'fresh') attemptingFresh += by;
    };
    count(1);
    const afterAttempt = (): void => {
      const wasFull = isFull();
      count(-1);
      turns.end(domain);
      beginFresh([domain]);
      if (wasFull) beginFresh(fresh.domains());
      if (wantsMore || (wasTried && wantsAgain) || allDue || due.has(domain)) wake();
    };
    const end = work(claim, afterAttempt).finally(() => {
      running.delete(lease);
      if (isAtHand) fresh.done(claim);
      if (unused.size > 0) wake();
    });
    running.set(lease, end);
    return true;
  };

  /** Begins what waits in memory for these destinations, as far as it is its turn. */
  const beginFresh = (domains: Iterable<string>): void => {
    if (stopped.signal.aborted) return;
    for (const domain of domains) {
      // Thousands of destinations may wait: they are not asked one by one after each attempt.
      if (isFull()) return;
      for (let claim = fresh.first(domain); claim && begin(claim, 'fresh'); claim = fresh.first(domain)) {
        fresh.shift(domain);
      }
    }
  };

  const mayTake = (message: NewMessage): boolean => {
    if (!started || stopped.signal.aborted) return false;
    const mostFor = (domain: string): number => {
      const { connections, rate } = limitsOf(domain);
      return connections === null && rate === null ? FRESH_PER_DOMAIN : perDomain;
    };
    return fresh.reserve(message, mostFor);
  };

  /** What is in the store has to be claimed. */
  const claimSoon = (domains: readonly string[]): void => {
    for (const domain of domains) due.add(domain);
    if (domains.length > 0) wake();
  };

  const giveBack = async (): Promise<void> => {
    for (const [notBefore, leases] of Map.groupBy(unused.keys(), (lease) => unused.get(lease) ?? 0)) {
      await store.giveBack(leases, notBefore);
      for (const lease of leases) unused.delete(lease);
    }
  };

  /** Returns when there may be more to claim: at once, when something is due, or null when that is not known. */
  const claimAndBegin = async (): Promise<'at once' | number | null> => {
    await giveBack();
    beginFresh(fresh.domains());
    const now = clock.now();
    const limit = Math.min(concurrency - attempting, CLAIMED_AT_ONCE);
    wantsMore = true;
    wantsAgain = true;
    if (endings.tooMany() || limit <= 0) return null;
    const limitAgain = Math.max(0, Math.min(limit, again - attemptingAgain));
    due = new Set();
    // Waited for apart: claims that were handed out are ours, whatever becomes of the other question.
    const [claimed, looked] = await Promise.allSettled([
      store.claim({
        owner,
        now,
        leaseMs: LEASE_MS,
        limit,
        limitAgain,
        perDomain,
        taken: turns.taken(now, (domain) => backoff.putsOff(domain, now)),
      }),
      store.outlook(now, OUTLOOK),
    ]);
    if (claimed.status === 'rejected') throw claimed.reason;
    const claims = claimed.value;
    const others = looked.status === 'fulfilled' ? looked.value.due : null;
    wantsMore = false;
    wantsAgain = claims.filter(({ batch }) => isAgain(batch)).length >= limitAgain;
    allDue = others === null || others.length >= OUTLOOK;
    for (const domain of others ?? []) due.add(domain);
    let begun = 0;
    for (const claim of claims) {
      if (begin(claim, 'store')) begun++;
      else {
        unused.set(claim.lease, 0);
        due.add(claim.batch.domain);
      }
    }
    await giveBack();
    if (looked.status === 'rejected') throw looked.reason;
    return begun > 0 && (claims.length >= limit || looked.value.due.length > 0) ? 'at once' : looked.value.next;
  };

  const claimLoop = async (): Promise<void> => {
    let failures = 0;
    while (!stopped.signal.aborted) {
      woken = false;
      try {
        const next = await claimAndBegin();
        failures = 0;
        const now = clock.now();
        const left = [next, turns.opensAt(now)].map((at) => (typeof at === 'number' ? at - now : POLL_MS));
        if (next !== 'at once') await pause(Math.min(...left, POLL_MS));
      } catch (error) {
        // Not woken by new mail: it could not be claimed either.
        log.error('the queue cannot be read', { error: messageOf(error), failures: ++failures });
        await clock.sleep(pauseAfter(failures), stopped.signal);
      }
    }
  };

  const leaseLoop = async (): Promise<void> => {
    for (;;) {
      await clock.sleep(LEASE_MS / 3, abandoned.signal);
      if (abandoned.signal.aborted) return;
      try {
        const leases = [...running.keys(), ...[...fresh.waiting()].map(({ lease }) => lease)];
        if (leases.length > 0) await store.extendLeases(leases, clock.now() + LEASE_MS);
      } catch (error) {
        log.error('leases could not be extended', { error: messageOf(error) });
      }
    }
  };

  /** Never rejects. @param afterAttempt  called when the destination is free again, before the end is stored */
  const work = async ({ batch, lease, askedAt }: Claim, afterAttempt: () => void): Promise<void> => {
    const end = await backoff.inTurn(batch.domain, async () => {
      const startedAt = clock.now();
      const refusal = backoff.refusal(batch, startedAt, askedAt);
      const outcomes = refusal?.outcomes ?? (await outcomesOf(batch));
      const now = clock.now();
      if (outcomes.every(({ code }) => code === 'host-busy')) {
        return { kind: 'busy', now, until: comebacks.next(now) } as const;
      }
      if (!refusal) {
        comebacks.ended(now);
        backoff.note(batch, outcomes, startedAt, now);
      }
      return { kind: 'attempted', outcomes, now, putOffUntil: refusal?.until ?? null } as const;
    });
    if (end.kind === 'busy') turns.close(batch.domain, end.now, end.until);
    afterAttempt();
    if (end.kind === 'busy') unused.set(lease, end.until);
    else await endings.finish(batch, lease, end);
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
        error: stackOf(error),
        queueId: batch.messageId,
      });
      return batch.recipients.map(internalError);
    }
  };

  const allEnded = async (): Promise<void> => {
    await claiming;
    while (running.size > 0) await Promise.all(running.values());
    for (const { lease } of fresh.waiting()) unused.set(lease, 0);
    await giveBack().catch((error: unknown) =>
      log.error('claims could not be given back', { error: messageOf(error) }),
    );
  };

  return {
    async accept(message) {
      const terms = { expiresAt: schedule.expiresAt(message.receivedAt) };
      if (!mayTake(message)) {
        await store.accept(message, terms);
        claimSoon(domainsOf(message));
        return;
      }
      let claims: readonly Claim[];
      try {
        const now = clock.now();
        claims = await store.accept(message, { ...terms, take: { owner, now, until: now + LEASE_MS } });
      } catch (error) {
        fresh.cancel(message);
        throw error;
      }
      claimSoon(fresh.enter(message, claims));
      for (const claim of claims) fresh.queue(claim);
      beginFresh(claims.map(({ batch }) => batch.domain));
    },
    octetsOf: fresh.octetsOf,
    start() {
      started = true;
      claiming = claimLoop();
      void leaseLoop();
    },
    idle: () => running.size === 0,
    setLimits(limits) {
      ({ concurrency, again, perDomain, limitsOf } = limits);
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

/** Whether it was tried or put off before. */
function isAgain({ recipients }: Batch): boolean {
  return recipients.some(({ lastCode }) => lastCode !== null);
}
