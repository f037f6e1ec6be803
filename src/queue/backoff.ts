/**
 * Protects a destination that cannot be reached, and everybody else from the time that it costs: after one failure its
 * messages are tried one at a time, after two in a row they are put off without being tried, and when the time is over
 * one of them is the probe. Kept in memory only: after a restart every destination gets a fresh chance.
 */
import type { Outcome } from '../model/delivery.ts';
import type { Batch } from '../model/message.ts';
import { isUnreachable } from '../model/reasons.ts';

export interface Backoff {
  /** Runs `work` at once, or after the attempts before it when the destination is in trouble. */
  readonly inTurn: <Result>(domain: string, work: () => Promise<Result>) => Promise<Result>;
  /**
   * What a batch must be told instead of an attempt; null when it may be tried.
   *
   * @param askedAt  when an operator asked for an attempt: a failure before that does not count against it
   */
  readonly refusal: (batch: Batch, now: number, askedAt: number | null) => Refusal | null;
  /** Whether what is claimed for this destination now would be put off. */
  readonly putsOff: (domain: string, now: number) => boolean;
  /** Takes note of how an attempt that began at `startedAt` ended at `now`. */
  readonly note: (batch: Batch, outcomes: readonly Outcome[], startedAt: number, now: number) => void;
}

export interface Refusal {
  /** When the destination may be probed. */
  readonly until: number;
  readonly outcomes: readonly Outcome[];
}

interface Trouble {
  /** In a row. Attempts that ran side by side count once. */
  readonly failures: number;
  readonly lastFailure: number;
  readonly until: number;
  readonly outcome: Outcome;
}

const FAILURES_UNTIL_PUT_OFF = 2;
/** More than this many destinations in trouble at once: the oldest are forgotten, so that memory is bounded. */
const REMEMBERED_AT_MOST = 10_000;

/** @param durationOf  milliseconds to leave a destination alone after so many failures in a row */
export function createBackoff(durationOf: (failures: number) => number): Backoff {
  const troubles = new Map<string, Trouble>();
  const tails = new Map<string, Promise<unknown>>();

  return {
    async inTurn(domain, work) {
      if (!troubles.has(domain)) return work();
      const before = tails.get(domain) ?? Promise.resolve();
      const mine = before.then(work, work);
      tails.set(domain, mine);
      try {
        return await mine;
      } finally {
        if (tails.get(domain) === mine) tails.delete(domain);
      }
    },

    refusal(batch, now, askedAt) {
      const trouble = troubles.get(batch.domain);
      if (!trouble || trouble.failures < FAILURES_UNTIL_PUT_OFF || now >= trouble.until) return null;
      // The clock was put back: how long it has been is not known.
      if (now < trouble.lastFailure) return null;
      if (askedAt !== null && askedAt >= trouble.lastFailure) return null;
      const { outcome, lastFailure, until } = trouble;
      const when = new Date(lastFailure).toISOString();
      const because = outcome.detail === '' ? '' : `: ${outcome.detail}`;
      const detail = `not tried now, the attempt of ${when} failed${because}`;
      return {
        until,
        outcomes: batch.recipients.map(({ id }) => ({ ...outcome, recipientId: id, detail })),
      };
    },

    putsOff(domain, now) {
      const trouble = troubles.get(domain);
      if (trouble === undefined || now < trouble.lastFailure) return false;
      return trouble.failures >= FAILURES_UNTIL_PUT_OFF && now < trouble.until;
    },

    note(batch, outcomes, startedAt, now) {
      const { domain } = batch;
      const [first] = outcomes;
      const unreachable = outcomes.every(({ result, code }) => result === 'deferred' && isUnreachable(code));
      if (!first || !unreachable) {
        troubles.delete(domain);
        return;
      }
      const before = troubles.get(domain);
      const sideBySide = before !== undefined && startedAt < before.lastFailure;
      const failures = sideBySide ? before.failures : (before?.failures ?? 0) + 1;
      troubles.delete(domain);
      troubles.set(domain, { failures, lastFailure: now, until: now + durationOf(failures), outcome: first });
      const [oldest] = troubles.keys();
      if (troubles.size > REMEMBERED_AT_MOST && oldest !== undefined) troubles.delete(oldest);
    },
  };
}
