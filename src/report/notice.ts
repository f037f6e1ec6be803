/**
 * The messages that the relay writes itself: bounces, delay notices and success reports (RFC 3464).
 *
 * They say in words what the verdict says, so that the sender's administrator need not ask. They go out with the
 * null sender, so nothing can ever bounce back and forth (RFC 5321 §6.1). Everything in them is seven-bit, so that any
 * host can take them, unless the sender's own address or the returned message is not (RFC 6533 §3).
 */
import { isAscii as isSevenBit } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import type { Outcome } from '../model/delivery.ts';
import type { Batch, NewMessage, NoticeKind, QueuedRecipient } from '../model/message.ts';
import { verdictOf } from '../model/verdict.ts';
import type { Clock } from '../shared/clock.ts';
import { domainOf, isAscii } from '../shared/domain-name.ts';
import { harmless } from '../shared/harmless.ts';
import { quotedPrintable } from './quoted-printable.ts';
import { type Language, WORDS, type Words } from './words.ts';

export interface NoticeEntry {
  readonly recipient: QueuedRecipient;
  readonly outcome: Outcome;
  /** Made so far, the last one included. */
  readonly attempts: number;
}

export interface NoticeOptions {
  readonly hostname: string;
  /** Of the part for people; the part for machines is English. */
  readonly language: Language;
  /** The first octets of a queued message, at most `maxBytes`. */
  readonly readHead: (messageId: string, maxBytes: number) => Promise<Buffer>;
  readonly newId: () => string;
  readonly clock: Clock;
}

export type MakeNotice = (
  kind: NoticeKind,
  batch: Batch,
  entries: readonly NoticeEntry[],
) => Promise<NewMessage | null>;

/** A whole message is returned up to this size; of a larger one the header only (RFC 3461 §4.3 leaves that to us). */
const FULL_AT_MOST = 256 * 1024;
const HEADER_AT_MOST = 64 * 1024;
const UNREADABLE = Buffer.from('X-DANE-Relay: the message could not be read back from the disk of the relay\r\n\r\n');

/**
 * Makes the notice about those recipients of a batch whose NOTIFY asks for one (RFC 3461 §4.1); who they are is for
 * the queue to say. Resolves to null for the null sender, to whom nothing may ever be returned (RFC 5321 §6.1).
 */
export function createNoticeMaker({ hostname, language, readHead, newId, clock }: NoticeOptions): MakeNotice {
  return async (kind, batch, entries) => {
    const { sender } = batch.envelope;
    if (sender === '') return null;

    const { ret, tls } = batch.envelope;
    // RFC 8689 §5: of a message that demands TLS no more than the header is returned.
    const full = kind === 'failed' && ret === 'full' && tls !== 'required' && batch.content.size <= FULL_AT_MOST;
    // A notice without the original is better than a sender who is never told.
    const original = await readHead(batch.messageId, full ? batch.content.size : HEADER_AT_MOST).catch(
      () => UNREADABLE,
    );
    // Where the sender has such an address, mail to it goes with SMTPUTF8 or not at all; else it must do without.
    const utf8 = !isAscii(sender);
    const now = clock.now();
    const bytes = compose({ kind, batch, entries, hostname, language, original, full, utf8, now });
    const eightBit = !isSevenBit(bytes);
    return {
      id: newId(),
      receivedAt: now,
      client: 'dane-relay',
      envelope: {
        sender: '',
        recipients: [{ address: sender, notify: null, orcpt: null }],
        smtputf8: utf8,
        body: eightBit ? '8bitmime' : '7bit',
        ret: null,
        envid: null,
        // What was demanded of the way there is demanded of the way back (RFC 8689 §5).
        tls: batch.envelope.tls === 'required' ? 'required' : 'default',
      },
      content: { size: bytes.length, eightBit, utf8Header: utf8 },
      body: { kind: 'memory', bytes },
    };
  };
}

interface Draft {
  readonly kind: NoticeKind;
  readonly batch: Batch;
  readonly entries: readonly NoticeEntry[];
  readonly hostname: string;
  readonly language: Language;
  readonly original: Buffer;
  readonly full: boolean;
  /** Whether it may have characters beyond ASCII where RFC 6533 §3 allows them. */
  readonly utf8: boolean;
  readonly now: number;
}

function compose(draft: Draft): Buffer {
  const { kind, batch, hostname, language, utf8, now } = draft;
  const boundary = `=_${randomUUID()}`;
  const head = [
    `Date: ${mailDate(now)}`,
    `From: Mail Delivery System <MAILER-DAEMON@${hostname}>`,
    `To: <${line(batch.envelope.sender, utf8)}>`,
    `Subject: ${WORDS[language].subject[kind]}`,
    `Message-ID: <${randomUUID()}@${hostname}>`,
    'Auto-Submitted: auto-replied',
    'MIME-Version: 1.0',
    `Content-Type: multipart/report; report-type=${utf8 ? 'global-delivery-status' : 'delivery-status'};`,
    ` boundary="${boundary}"`,
    '',
  ];
  const separator = `--${boundary}`;
  const parts = [...head, separator, ...forPeople(draft), separator, ...forMachines(draft), separator, ''];
  return Buffer.concat([Buffer.from(parts.join('\r\n')), returned(draft), Buffer.from(`\r\n--${boundary}--\r\n`)]);
}

/** The first part (RFC 6522 §3): what people read. */
function forPeople({ kind, batch, entries, hostname, language }: Draft): string[] {
  const words = WORDS[language];
  const text = [
    words.relay(hostname),
    '',
    ...wrap(words.opening[kind]),
    ...entries.flatMap((entry) => ['', ...inWords(kind, batch, entry, words)]),
    '',
    words.queueId(batch.messageId),
    '',
  ].map(harmless);
  const ascii = text.every(isAscii);
  return [
    `Content-Type: text/plain; charset=${ascii ? 'us-ascii' : 'utf-8'}`,
    `Content-Language: ${language}`,
    `Content-Transfer-Encoding: ${ascii ? '7bit' : 'quoted-printable'}`,
    '',
    ...(ascii ? text : text.map(quotedPrintable)),
  ];
}

function inWords(
  kind: NoticeKind,
  batch: Batch,
  { recipient, outcome, attempts }: NoticeEntry,
  words: Words,
): string[] {
  const { last, reply } = outcome;
  // Of mail that was given up, what was wrong at last is what can be put right.
  const cause = last?.code ?? outcome.code;
  const sentences = [
    last === undefined ? words.explain(outcome, reply) : words.explain({ ...outcome, detail: '' }, null),
    last === undefined && kind !== 'delayed' ? '' : words.tried(batch.receivedAt, attempts),
    last === undefined ? '' : words.explainLast(last, reply),
    reply === null ? '' : words.hostSaid(reply),
    kind === 'relayed' ? '' : words.remedy(cause),
    kind === 'failed' ? words.advice(cause) : '',
    kind === 'delayed' ? words.triedUntil(batch.expiresAt) : '',
    words.reference(cause, last?.status ?? outcome.status),
  ];
  const told = sentences.filter((sentence) => sentence !== '');
  return [`<${recipient.address}>`, ...told.flatMap((sentence) => wrap(sentence, '  '))];
}

/** The second part: the fields of RFC 3464 §2.2 and §2.3, in blocks parted by an empty line. */
function forMachines({ kind, batch, entries, hostname, utf8, now }: Draft): string[] {
  const { envid } = batch.envelope;
  return [
    `Content-Type: message/${utf8 ? 'global-delivery-status' : 'delivery-status'}`,
    ...(utf8 ? ['Content-Transfer-Encoding: 8bit'] : []),
    '',
    `Reporting-MTA: dns; ${hostname}`,
    ...(envid === null ? [] : [`Original-Envelope-Id: ${line(envid, false)}`]),
    `Arrival-Date: ${mailDate(batch.receivedAt)}`,
    ...entries.flatMap((entry) => ['', ...fieldsOf(kind, entry, batch, utf8, now)]),
    '',
  ];
}

function fieldsOf(
  kind: NoticeKind,
  { recipient, outcome }: NoticeEntry,
  batch: Batch,
  utf8: boolean,
  now: number,
): string[] {
  const { address, orcpt } = recipient;
  const type = isAscii(address) ? 'rfc822' : 'utf-8';
  const diagnostic =
    outcome.reply === null
      ? `X-DANE-Relay; ${verdictOf(outcome.code, outcome.detail, outcome.status).explanation} (${outcome.code})`
      : `smtp; ${outcome.reply}`;
  const [, orcptType, original] = /^([^;]*);(.*)$/s.exec(orcpt ?? '') ?? [];
  return [
    ...(original === undefined ? [] : [`Original-Recipient: ${typed(orcptType ?? '', original, utf8)}`]),
    `Final-Recipient: ${typed(type, address, utf8)}`,
    `Action: ${kind}`,
    `Status: ${outcome.status}`,
    `Remote-MTA: dns; ${line(outcome.host ?? domainOf(address), false)}`,
    fold(`Diagnostic-Code: ${line(diagnostic, utf8)}`),
    `Last-Attempt-Date: ${mailDate(now)}`,
    `Final-Log-ID: ${batch.messageId}`,
    ...(kind === 'delayed' ? [`Will-Retry-Until: ${mailDate(batch.expiresAt)}`] : []),
  ];
}

/** An address with its type; in a report that must be ASCII one beyond ASCII is written as `\x{…}` (RFC 6533 §3). */
function typed(type: string, address: string, utf8: boolean): string {
  if (utf8 || isAscii(address) || type.toLowerCase() !== 'utf-8') return `${type}; ${line(address, utf8)}`;
  const encoded = harmless(address).replace(
    /[^!-*,-<>-[\]-~]/gu,
    (character) => `\\x{${(character.codePointAt(0) ?? 0).toString(16).toUpperCase()}}`,
  );
  return `${type}; ${encoded}`;
}

/** The third part: the whole message or its header (RFC 6522 §4, RFC 6533 §4). */
function returned({ batch, original, full, utf8 }: Draft): Buffer {
  const end = original.indexOf('\r\n\r\n');
  const part = full || end < 0 ? original : original.subarray(0, end + 2);
  const eightBit = !isSevenBit(part);
  const global = utf8 && batch.envelope.smtputf8;
  // As text a header can be encoded; message types cannot, and go as they are (RFC 2046 §5.2.1).
  const encoded = eightBit && !full && !global;
  const type = global
    ? `message/global${full ? '' : '-headers'}`
    : full
      ? 'message/rfc822'
      : `text/rfc822-headers${eightBit ? '; charset=utf-8' : ''}`;
  const encoding = encoded ? 'base64' : eightBit ? '8bit' : '7bit';
  const lines = [`Content-Type: ${type}`, `Content-Transfer-Encoding: ${encoding}`, '', ''];
  return Buffer.concat([Buffer.from(lines.join('\r\n')), encoded ? Buffer.from(base64Lines(part)) : part]);
}

function base64Lines(bytes: Buffer): string {
  return (bytes.toString('base64').match(/.{1,76}/g) ?? []).map((each) => `${each}\r\n`).join('');
}

/** Text that came from outside, fit for a header field: on one line, and ASCII unless `utf8`. */
function line(text: string, utf8: boolean): string {
  const flat = harmless(text);
  return utf8 ? flat : flat.replace(/[^ -~]/gu, '?');
}

function wrap(text: string, indent = ''): string[] {
  const lines: string[] = [];
  let current = indent;
  for (const word of text.split(' ')) {
    if (current.length > indent.length && current.length + 1 + word.length > 76) {
      lines.push(current);
      current = indent;
    }
    current += current.length > indent.length ? ` ${word}` : word;
  }
  return [...lines, current];
}

/** Folds a long header field at spaces (RFC 5322 §2.2.3); a word without any is cut into pieces. */
function fold(field: string): string {
  return wrap(field.replace(/\S{200}/g, '$& '))
    .map((each) => each.trim())
    .filter((each) => each !== '')
    .join('\r\n ');
}

/** `Sun, 22 Nov 2026 06:12:00 +0000` (RFC 5322 §3.3). */
function mailDate(ms: number): string {
  return new Date(ms).toUTCString().replace('GMT', '+0000');
}
