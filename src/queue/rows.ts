/** Rows of the SQLite store, turned into the words of the model. */
import type { Batch, Envelope, NewMessage, Notify, QueuedRecipient, TlsWish } from '../model/message.ts';
import type { QueuedMessage, QueueEntry } from '../model/queue.ts';
import { isReasonCode, type ReasonCode } from '../model/reasons.ts';
import { verdictOf } from '../model/verdict.ts';
import { domainOf } from '../shared/domain-name.ts';
import { type Claim, StoreError } from './store.ts';

/** What of a claim on a message that is just being accepted the caller does not know already. */
export interface Taken {
  readonly lease: string;
  readonly domain: string;
  /** Row numbers of the recipients in this domain, in the order of the envelope. */
  readonly recipientIds: readonly number[];
}

interface MessageRow {
  readonly queue_id: string;
  readonly received_at: number;
  readonly expires_at: number;
  readonly client: string;
  readonly sender: string;
  readonly smtputf8: number;
  readonly body_type: string;
  readonly ret: string | null;
  readonly envid: string | null;
  readonly size: number;
  readonly eight_bit: number;
  readonly utf8_header: number;
  readonly tls: string;
}

interface RecipientRow {
  readonly recipient_id: number;
  readonly address: string;
  readonly domain: string;
  readonly notify: string | null;
  readonly orcpt: string | null;
  readonly attempts: number;
  readonly asked_at: number | null;
  readonly delay_notice_sent: number;
  readonly code: string | null;
}

const COLUMNS = `m.id AS queue_id, m.received_at, m.expires_at, m.client, m.sender, m.smtputf8, m.body_type, m.ret, m.envid,
  m.size, m.eight_bit, m.utf8_header, m.tls, r.id AS recipient_id, r.address, r.domain, r.notify, r.orcpt, r.attempts, r.asked_at,
  r.delay_notice_sent, r.code`;

export interface BatchRow extends MessageRow, RecipientRow {
  /** 1 when it was tried or put off before. */
  readonly again: 0 | 1;
}

export const BATCH_COLUMNS = `${COLUMNS}, r.again`;

export interface EntryRow extends MessageRow, RecipientRow {
  readonly message: number;
  readonly next_attempt: number;
  readonly status: string | null;
  readonly explanation: string | null;
  readonly host: string | null;
  readonly held: number;
  readonly lease: number | null;
  /** When its lease runs out, and whose it is. */
  readonly until: number | null;
  readonly owner: string | null;
}

export const ENTRY_COLUMNS = `${COLUMNS}, r.message, r.next_attempt, r.status, r.explanation, r.host, r.held, r.lease, l.until, l.owner`;

/** @throws StoreError when there is no row, which is a mistake in our own code */
export function batchFrom(rows: readonly BatchRow[]): Batch {
  const [first, ...rest] = rows;
  if (!first) throw new StoreError('a claim without recipients');
  return {
    messageId: first.queue_id,
    receivedAt: first.received_at,
    expiresAt: first.expires_at,
    client: first.client,
    envelope: envelopeFrom(first),
    content: { size: first.size, eightBit: first.eight_bit === 1, utf8Header: first.utf8_header === 1 },
    domain: first.domain,
    recipients: [recipientFrom(first), ...rest.map(recipientFrom)],
  };
}

/** The same claims as `claim` would give, without reading back what was just written. */
export function claimsOf(message: NewMessage, expiresAt: number, taken: readonly Taken[]): readonly Claim[] {
  const { id: messageId, receivedAt, client, content } = message;
  const { recipients: all, ...envelope } = message.envelope;
  return taken.map(({ lease, domain, recipientIds }) => {
    const addressed = all.filter(({ address }) => domainOf(address) === domain);
    const [first, ...rest] = recipientIds.flatMap((id, at): readonly QueuedRecipient[] => {
      const recipient = addressed[at];
      return recipient ? [{ ...recipient, id, attempts: 0, delayNoticeSent: false, lastCode: null }] : [];
    });
    if (!first) throw new StoreError('a claim without recipients');
    const recipients = [first, ...rest] as const;
    const batch = { messageId, receivedAt, expiresAt, client, envelope, content, domain, recipients };
    return { batch, lease, askedAt: null };
  });
}

function recipientFrom(row: RecipientRow): QueuedRecipient {
  return {
    id: row.recipient_id,
    address: row.address,
    notify: notifyFrom(row.notify),
    orcpt: row.orcpt,
    attempts: row.attempts,
    delayNoticeSent: row.delay_notice_sent === 1,
    lastCode: codeFrom(row.code),
  };
}

export function entryFrom(row: EntryRow, now: number): QueueEntry {
  const untried = verdictOf('not-tried-yet', '');
  return {
    queueId: row.queue_id,
    sender: row.sender,
    recipient: row.address,
    domain: row.domain,
    state: row.until !== null && row.until > now ? 'delivering' : row.held === 1 ? 'held' : 'waiting',
    code: codeFrom(row.code) ?? untried.code,
    status: row.status ?? untried.status,
    explanation: row.explanation ?? untried.explanation,
    host: row.host,
    attempts: row.attempts,
    receivedAt: row.received_at,
    nextAttempt: row.next_attempt,
    expiresAt: row.expires_at,
    size: row.size,
  };
}

export function shownFrom(rows: readonly EntryRow[], now: number): QueuedMessage | null {
  const [first] = rows;
  if (!first) return null;
  return {
    queueId: first.queue_id,
    client: first.client,
    receivedAt: first.received_at,
    expiresAt: first.expires_at,
    size: first.size,
    envelope: envelopeFrom(first),
    recipients: rows.map((row) => ({ ...entryFrom(row, now), notify: notifyFrom(row.notify), orcpt: row.orcpt })),
  };
}

function envelopeFrom(row: MessageRow): Omit<Envelope, 'recipients'> {
  return {
    sender: row.sender,
    smtputf8: row.smtputf8 === 1,
    body: row.body_type === '8bitmime' ? '8bitmime' : '7bit',
    ret: row.ret === 'full' || row.ret === 'hdrs' ? row.ret : null,
    envid: row.envid,
    tls: wishFrom(row.tls),
  };
}

/** What this release does not know must not be taken for a message that asks for nothing. */
function wishFrom(text: string): TlsWish {
  return text === 'default' || text === 'optional' ? text : 'required';
}

const NOTIFY: ReadonlySet<string> = new Set<Notify>(['never', 'success', 'failure', 'delay']);

function notifyFrom(text: string | null): readonly Notify[] | null {
  return text === null ? null : text.split(' ').filter((word): word is Notify => NOTIFY.has(word));
}

/** A code that this release does not know, left by another one, is as good as none. */
function codeFrom(text: string | null): ReasonCode | null {
  return text !== null && isReasonCode(text) ? text : null;
}
