/**
 * When mail is tried again, when its sender is told that it is late, and when it is given up. Pure: time and chance are
 * handed in.
 */
import type { Outcome } from '../model/delivery.ts';
import type { Batch, NoticeKind, QueuedRecipient } from '../model/message.ts';
import { isTlsPolicyFailure } from '../model/reasons.ts';
import { verdictOf } from '../model/verdict.ts';

export interface ScheduleSettings {
  /** Milliseconds to the second attempt, from there to the third, and so on; the last one repeats (RFC 5321 §4.5.4.1). */
  readonly retry: readonly [number, ...number[]];
  /** Milliseconds from acceptance until a message is given up. */
  readonly lifetime: number;
  /** The same while all that keeps it is a TLS policy that the host does not meet; null for no difference. */
  readonly tlsLifetime: number | null;
  /** Milliseconds from acceptance until the sender is told of the delay; null for never. */
  readonly delayNotice: number | null;
}

export interface Schedule {
  readonly expiresAt: (receivedAt: number) => number;
  /** What becomes of one recipient after an attempt that ended at `now`. */
  readonly decide: (recipient: QueuedRecipient, outcome: Outcome, circumstances: Circumstances) => Decision;
  /** Milliseconds for which a destination that could not be reached is left alone after so many failures in a row. */
  readonly backoff: (failures: number) => number;
}

export interface Circumstances {
  readonly batch: Batch;
  readonly now: number;
  /** Whether the attempt delivered the message to another recipient of the batch. */
  readonly progress: boolean;
  /**
   * null after an attempt. When the batch was put off without one: the time from which its destination may be tried.
   */
  readonly putOffUntil: number | null;
}

export type Decision =
  | { readonly kind: 'delivered' }
  | { readonly kind: 'bounced' }
  /** Given up after its lifetime; `outcome` says so and repeats what was wrong at last. */
  | { readonly kind: 'expired'; readonly outcome: Outcome }
  | {
      readonly kind: 'waits';
      readonly nextAttempt: number;
      readonly delayed: boolean;
      /** When it is given up, if nothing but the same goes on being wrong. */
      readonly until: number;
    };

/**
 * Up to a tenth is added to every interval, so that messages that failed together do not all come back together. Never
 * less than the interval: an operator who wrote five minutes means it.
 */
const JITTER = 0.1;

const FIRST_BACKOFF_MS = 15_000;
const LONGEST_BACKOFF_MS = 300_000;

/** @param random  from 0 up to 1, as Math.random */
export function createSchedule(settings: ScheduleSettings, random: () => number = Math.random): Schedule {
  const { retry, lifetime, tlsLifetime, delayNotice } = settings;
  const [firstInterval] = retry;

  /** The last throw of dice, and for which attempt it was. */
  let thrown = { attempt: '', chance: 0 };

  /** The same for all recipients of an attempt: who failed together comes back together, in one transaction. */
  const chanceOf = ({ messageId, domain }: Batch, now: number): number => {
    const attempt = `${messageId} ${domain} ${now}`;
    if (thrown.attempt !== attempt) thrown = { attempt, chance: random() };
    return thrown.chance;
  };

  /** @param step  from 1: the wait before the second attempt */
  const intervalOf = (step: number, batch: Batch, now: number): number => {
    const interval = retry[Math.min(step, retry.length) - 1] ?? firstInterval;
    return Math.round(interval * (1 + JITTER * chanceOf(batch, now)));
  };

  /** The step of the schedule that a message of this age would be at, had it been tried each time. */
  const stepAt = (age: number): number => {
    let [step, reached] = [1, 0];
    for (const interval of retry) {
      reached += interval;
      if (reached > age) break;
      step++;
    }
    return step;
  };

  /** Mail that came in a moment ago is tried as soon as its destination may be; older mail keeps its place. */
  const afterPuttingOff = (batch: Batch, now: number, until: number): number => {
    const age = now - batch.receivedAt;
    const next = now + intervalOf(stepAt(age), batch, now);
    return age < firstInterval ? Math.min(next, until) : Math.max(next, until);
  };

  const endOf = ({ receivedAt, expiresAt }: Batch, { code }: Outcome): number =>
    tlsLifetime !== null && isTlsPolicyFailure(code) ? Math.min(expiresAt, receivedAt + tlsLifetime) : expiresAt;

  const isLate = ({ receivedAt }: Batch, { delayNoticeSent }: QueuedRecipient, now: number): boolean =>
    delayNotice !== null && !delayNoticeSent && now - receivedAt >= delayNotice;

  return {
    expiresAt: (receivedAt) => receivedAt + lifetime,

    decide(recipient, outcome, { batch, now, progress, putOffUntil }) {
      if (outcome.result === 'delivered') return { kind: 'delivered' };
      if (outcome.result === 'bounced') return { kind: 'bounced' };
      const delayed = isLate(batch, recipient, now);
      // The host took as many as it wanted at a time; the others follow at once (RFC 5321 §4.5.3.1.10).
      const follows = outcome.code === 'remote-too-many-recipients' && progress;
      const end = endOf(batch, outcome);
      if (follows) return { kind: 'waits', nextAttempt: now, delayed, until: end };
      if (now >= end) return { kind: 'expired', outcome: givenUp(outcome, now < batch.expiresAt) };
      const next =
        putOffUntil === null
          ? now + intervalOf(recipient.attempts + 1, batch, now)
          : afterPuttingOff(batch, now, putOffUntil);
      // One last attempt when the lifetime ends, so that a message is not given up on old news.
      return { kind: 'waits', nextAttempt: Math.min(next, end), delayed, until: end };
    },

    backoff: (failures) =>
      Math.min(FIRST_BACKOFF_MS * 2 ** Math.min(failures - 1, 10), LONGEST_BACKOFF_MS, firstInterval),
  };
}

/**
 * RFC 3463 §3.5: 4.4.7, delivery time expired, with class 4 although the message goes back.
 *
 * @param early  before its time, because TLS would not do
 */
function givenUp(outcome: Outcome, early: boolean): Outcome {
  const last = { code: outcome.code, status: outcome.status, detail: outcome.detail };
  const said = verdictOf(last.code, last.detail, last.status).explanation.replace(/\.$/, '');
  const { code, status } = verdictOf(early ? 'tls-lifetime-over' : 'lifetime-over', '');
  return { ...outcome, result: 'bounced', code, status, detail: `the last attempt said: ${said}`, last };
}

/** Whether the sender wants to be told, and may be (RFC 3461 §4.1 and §5.2; RFC 5321 §6.1 for the null sender). */
export function wantsNotice(kind: NoticeKind, batch: Batch, { notify }: QueuedRecipient): boolean {
  if (batch.envelope.sender === '') return false;
  switch (kind) {
    case 'failed':
      return notify === null || notify.includes('failure');
    case 'delayed':
      return notify === null || notify.includes('delay');
    case 'relayed':
      return notify?.includes('success') ?? false;
  }
}
