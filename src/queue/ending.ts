/**
 * From the outcomes of an attempt to what is written: who leaves, who waits until when, which notices are owed and what
 * the log is told. Nothing is stored and nothing is logged here.
 */
import type { Outcome } from '../model/delivery.ts';
import type { MailEvent } from '../model/events.ts';
import type { Batch, NewMessage, NoticeKind, QueuedRecipient } from '../model/message.ts';
import { verdictOf } from '../model/verdict.ts';
import { type Circumstances, type Decision, type Schedule, wantsNotice } from './schedule.ts';
import type { Admission, Settlement } from './store.ts';

export interface NoticeEntry {
  readonly recipient: QueuedRecipient;
  readonly outcome: Outcome;
  /** Made so far, this one included. */
  readonly attempts: number;
}

/** Writes the report to the sender about these recipients; null when none is due after all. */
export type MakeNotice = (
  kind: NoticeKind,
  batch: Batch,
  entries: readonly NoticeEntry[],
) => Promise<NewMessage | null>;

/** The end of an attempt for the whole batch. */
export interface Ending {
  readonly settlements: readonly Settlement[];
  readonly notices: readonly Admission[];
  readonly events: readonly MailEvent[];
}

interface Part extends Omit<NoticeEntry, 'attempts'> {
  readonly decision: Decision;
}

export interface EndingTools {
  readonly schedule: Schedule;
  readonly makeNotice: MakeNotice;
  /** Told when a notice could not be written. */
  readonly onNoticeFailure: (kind: NoticeKind, batch: Batch, error: unknown) => void;
}

/**
 * @param outcomes  exactly one for each recipient of the batch
 */
export async function endingOf(
  batch: Batch,
  outcomes: readonly Outcome[],
  { now, putOffUntil }: Pick<Circumstances, 'now' | 'putOffUntil'>,
  { schedule, makeNotice, onNoticeFailure }: EndingTools,
): Promise<Ending> {
  const progress = outcomes.some(({ result }) => result === 'delivered');
  const byId = new Map(outcomes.map((outcome) => [outcome.recipientId, outcome]));
  let parts = batch.recipients.map((recipient): Part => {
    const outcome = byId.get(recipient.id) ?? internalError(recipient);
    const decision = schedule.decide(recipient, outcome, { batch, now, progress, putOffUntil });
    return { recipient, decision, outcome: decision.kind === 'expired' ? decision.outcome : outcome };
  });

  const notices: Admission[] = [];
  const told = new Set<NoticeKind>();
  for (const kind of ['failed', 'delayed', 'relayed'] as const) {
    const entries = parts.filter((part) => isOwed(kind, batch, part));
    if (entries.length === 0) continue;
    try {
      const message = await makeNotice(
        kind,
        knowingItsEnd(batch, entries),
        entries.map((part) => entryOf(part, putOffUntil === null)),
      );
      if (message) notices.push({ message, expiresAt: schedule.expiresAt(message.receivedAt) });
      told.add(kind);
    } catch (error) {
      onNoticeFailure(kind, batch, error);
      // Nobody would ever hear of the failure: the mail stays until its sender can be told.
      if (kind === 'failed')
        parts = parts.map((part) => (entries.includes(part) ? keep(batch, part, now, schedule) : part));
    }
  }

  return {
    settlements: parts.map((part) =>
      settlementOf(part, putOffUntil === null, told.has('delayed') && isOwed('delayed', batch, part)),
    ),
    notices,
    events: parts.map((part) => eventOf(batch, part, now)),
  };
}

function entryOf({ recipient, outcome }: Part, tried: boolean): NoticeEntry {
  return { recipient, outcome, attempts: recipient.attempts + (tried ? 1 : 0) };
}

/** A delay notice says until when the relay goes on: for these recipients that may be before the message's own end. */
function knowingItsEnd(batch: Batch, parts: readonly Part[]): Batch {
  const ends = parts.flatMap(({ decision }) => (decision.kind === 'waits' ? [decision.until] : []));
  return { ...batch, expiresAt: Math.min(batch.expiresAt, ...ends) };
}

function isOwed(kind: NoticeKind, batch: Batch, { recipient, outcome, decision }: Part): boolean {
  if (!wantsNotice(kind, batch, recipient)) return false;
  switch (kind) {
    case 'failed':
      return decision.kind === 'bounced' || decision.kind === 'expired';
    case 'delayed':
      return decision.kind === 'waits' && decision.delayed;
    case 'relayed':
      return decision.kind === 'delivered' && !outcome.dsnPassedOn;
  }
}

function keep({ expiresAt }: Batch, { recipient }: Part, now: number, schedule: Schedule): Part {
  const nextAttempt = now + schedule.backoff(Number.MAX_SAFE_INTEGER);
  return {
    recipient,
    outcome: internalError(recipient),
    decision: { kind: 'waits', nextAttempt, delayed: false, until: expiresAt },
  };
}

/** Everybody waits until `nextAttempt`, because the relay made a mistake. */
export function deferralOf(batch: Batch, now: number, nextAttempt: number): Ending {
  const parts = batch.recipients.map(
    (recipient): Part => ({
      recipient,
      outcome: internalError(recipient),
      decision: { kind: 'waits', nextAttempt, delayed: false, until: batch.expiresAt },
    }),
  );
  return {
    settlements: parts.map((part) => settlementOf(part, true, false)),
    notices: [],
    events: parts.map((part) => eventOf(batch, part, now)),
  };
}

/** What is said of a recipient when the attempt itself broke: it waits, whatever was or was not done. */
export function internalError({ id }: QueuedRecipient): Outcome {
  const { code, status } = verdictOf('internal-error', '');
  const unknown = { host: null, address: null, reply: null, dsnPassedOn: false };
  return { recipientId: id, result: 'deferred', code, status, detail: '', ...unknown };
}

function settlementOf({ recipient, outcome, decision }: Part, tried: boolean, delayNoticeMade: boolean): Settlement {
  const recipientId = recipient.id;
  if (decision.kind !== 'waits') return { kind: 'leaves', recipientId };
  const { code, status, explanation } = verdictOf(outcome.code, outcome.detail, outcome.status);
  return {
    kind: 'waits',
    recipientId,
    tried,
    nextAttempt: decision.nextAttempt,
    code,
    status,
    explanation,
    host: outcome.host,
    delayNoticeSent: recipient.delayNoticeSent || delayNoticeMade,
  };
}

function eventOf(batch: Batch, { recipient, outcome, decision }: Part, now: number): MailEvent {
  const { code, status, explanation } = verdictOf(outcome.code, outcome.detail, outcome.status);
  return {
    ...outcome.log,
    event: decision.kind === 'waits' ? 'deferred' : decision.kind,
    code,
    status,
    explanation,
    queueId: batch.messageId,
    client: batch.client,
    sender: batch.envelope.sender,
    recipient: recipient.address,
    size: batch.content.size,
    domain: batch.domain,
    ...(outcome.host === null ? {} : { host: outcome.host }),
    ...(outcome.address === null ? {} : { address: outcome.address }),
    ...(outcome.reply === null ? {} : { reply: outcome.reply }),
    delayMs: now - batch.receivedAt,
  };
}
