/**
 * The messages that the relay writes itself: bounces, delay notices and success reports (RFC 3464).
 *
 * They say in words what the verdict says, so that the sender's administrator need not ask. They go out with the
 * null sender, so nothing can ever bounce back and forth (RFC 5321 §6.1), and they are plain ASCII unless an
 * address is not (RFC 6533).
 */
import { randomUUID } from 'node:crypto';
import type { Outcome } from '../model/delivery.ts';
import type { Batch, NewMessage, NoticeKind, QueuedRecipient } from '../model/message.ts';
import { type Verdict, verdictOf } from '../model/verdict.ts';
import type { Clock } from '../shared/clock.ts';
import { domainOf, isAscii } from '../shared/domain-name.ts';

export interface NoticeEntry {
  readonly recipient: QueuedRecipient;
  readonly outcome: Outcome;
}

export interface NoticeOptions {
  readonly hostname: string;
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

/**
 * Makes the notice about those recipients of a batch whose NOTIFY asks for one (RFC 3461 §4.1); who they are is for
 * the queue to say. Resolves to null for the null sender, to whom nothing may ever be returned (RFC 5321 §6.1).
 */
export function createNoticeMaker({ hostname, readHead, newId, clock }: NoticeOptions): MakeNotice {
  return async (kind, batch, entries) => {
    const { sender } = batch.envelope;
    if (sender === '') return null;

    const full = kind === 'failed' && batch.envelope.ret === 'full' && batch.content.size <= FULL_AT_MOST;
    const original = await readHead(batch.messageId, full ? batch.content.size : HEADER_AT_MOST);
    const utf8 = !isAscii(sender) || entries.some(({ recipient }) => !isAscii(recipient.address));
    const now = clock.now();
    const id = newId();
    const bytes = compose({ kind, batch, entries, hostname, original, full, utf8, now });
    const eightBit = bytes.some((octet) => octet > 127);
    return {
      id,
      receivedAt: now,
      client: 'dane-relay',
      envelope: {
        sender: '',
        recipients: [{ address: sender, notify: null, orcpt: null }],
        smtputf8: utf8,
        body: eightBit ? '8bitmime' : '7bit',
        ret: null,
        envid: null,
      },
      content: { size: bytes.length, eightBit, utf8Header: utf8 && !isAscii(sender) },
      body: { kind: 'memory', bytes },
    };
  };
}

interface Draft {
  readonly kind: NoticeKind;
  readonly batch: Batch;
  readonly entries: readonly NoticeEntry[];
  readonly hostname: string;
  readonly original: Buffer;
  readonly full: boolean;
  readonly utf8: boolean;
  readonly now: number;
}

const SUBJECT: Readonly<Record<NoticeKind, string>> = {
  failed: 'Undelivered mail returned to sender',
  delayed: 'Mail is delayed, delivery is still being tried',
  relayed: 'Mail was handed to the recipient’s mail server',
};

const OPENING: Readonly<Record<NoticeKind, string>> = {
  failed: 'Your message could not be delivered to the recipients below. It will not be tried again.',
  delayed:
    'Your message has not been delivered to the recipients below yet. It is safe in the queue and is still being tried; you need not send it again.',
  relayed: 'Your message was handed over for the recipients below. Their mail server sends no report of its own.',
};

const ACTION: Readonly<Record<NoticeKind, string>> = { failed: 'failed', delayed: 'delayed', relayed: 'relayed' };

function compose({ kind, batch, entries, hostname, original, full, utf8, now }: Draft): Buffer {
  const boundary = `=_${randomUUID()}`;
  const { sender } = batch.envelope;
  const text = utf8 ? 'utf-8' : 'us-ascii';
  const head = [
    `Date: ${mailDate(now)}`,
    `From: Mail Delivery System <MAILER-DAEMON@${hostname}>`,
    `To: <${clean(sender, utf8)}>`,
    `Subject: ${clean(SUBJECT[kind], false)}`,
    `Message-ID: <${randomUUID()}@${hostname}>`,
    'Auto-Submitted: auto-replied',
    'MIME-Version: 1.0',
    `Content-Type: multipart/report; report-type=${utf8 ? 'global-delivery-status' : 'delivery-status'};`,
    ` boundary="${boundary}"`,
  ];
  const human = [
    `--${boundary}`,
    `Content-Type: text/plain; charset=${text}`,
    `Content-Transfer-Encoding: ${utf8 ? '8bit' : '7bit'}`,
    '',
    `This is the mail relay ${hostname}.`,
    '',
    ...wrap(OPENING[kind]),
    ...entries.flatMap((entry) => ['', ...inWords(kind, entry)]),
    '',
    `Queue id: ${batch.messageId}`,
    '',
  ].map((line) => clean(line, utf8));
  const machine = [
    `--${boundary}`,
    `Content-Type: message/${utf8 ? 'global-delivery-status' : 'delivery-status'}`,
    ...(utf8 ? ['Content-Transfer-Encoding: 8bit'] : []),
    '',
    `Reporting-MTA: dns; ${hostname}`,
    ...(batch.envelope.envid === null ? [] : [`Original-Envelope-Id: ${clean(batch.envelope.envid, false)}`]),
    `Arrival-Date: ${mailDate(batch.receivedAt)}`,
    ...entries.flatMap((entry) => ['', ...forMachines(kind, entry, batch, utf8, now)]),
    '',
  ];
  return Buffer.concat([
    Buffer.from([...head, '', ...human, ...machine, ''].join('\r\n')),
    returned(original, boundary, full),
    Buffer.from(`\r\n--${boundary}--\r\n`),
  ]);
}

function inWords(kind: NoticeKind, { recipient, outcome }: NoticeEntry): string[] {
  const verdict: Verdict = verdictOf(outcome.code, outcome.detail, outcome.status);
  const remoteSaid = outcome.reply === null ? [] : wrap(`The mail server said: ${outcome.reply}`, '  ');
  return [
    `<${recipient.address}>`,
    ...wrap(verdict.explanation, '  '),
    ...remoteSaid,
    ...(verdict.remedy === '' || kind === 'relayed' ? [] : wrap(verdict.remedy, '  ')),
    `  (${verdict.code}, status ${verdict.status}, ${verdict.rfc})`,
  ];
}

/** The fields of RFC 3464 §2.3 for one recipient. */
function forMachines(
  kind: NoticeKind,
  { recipient, outcome }: NoticeEntry,
  batch: Batch,
  utf8: boolean,
  now: number,
): string[] {
  const type = isAscii(recipient.address) ? 'rfc822' : 'utf-8';
  const where = outcome.host ?? domainOf(recipient.address);
  const diagnostic =
    outcome.reply === null
      ? `X-DANE-Relay; ${verdictOf(outcome.code, outcome.detail, outcome.status).explanation} (${outcome.code})`
      : `smtp; ${outcome.reply}`;
  const orcpt = recipient.orcpt?.replace(';', '; ');
  return [
    ...(orcpt === undefined ? [] : [`Original-Recipient: ${clean(orcpt, utf8)}`]),
    `Final-Recipient: ${type}; ${clean(recipient.address, utf8)}`,
    `Action: ${ACTION[kind]}`,
    `Status: ${outcome.status}`,
    `Remote-MTA: dns; ${clean(where, false)}`,
    `Diagnostic-Code: ${fold(clean(diagnostic, utf8))}`,
    `Last-Attempt-Date: ${mailDate(now)}`,
    `Final-Log-ID: ${batch.messageId}`,
    ...(kind === 'delayed' ? [`Will-Retry-Until: ${mailDate(batch.expiresAt)}`] : []),
  ];
}

/** The third part: the whole message or its header (RFC 3462 §1, §2). */
function returned(original: Buffer, boundary: string, full: boolean): Buffer {
  const end = original.indexOf('\r\n\r\n');
  const part = full || end < 0 ? original : original.subarray(0, end + 2);
  const eightBit = part.some((octet) => octet > 127);
  const lines = full
    ? ['Content-Type: message/rfc822', `Content-Transfer-Encoding: ${eightBit ? '8bit' : '7bit'}`]
    : [
        `Content-Type: text/rfc822-headers${eightBit ? '; charset=utf-8' : ''}`,
        `Content-Transfer-Encoding: ${eightBit ? 'base64' : '7bit'}`,
      ];
  const body = eightBit && !full ? Buffer.from(base64Lines(part)) : part;
  return Buffer.concat([Buffer.from([`--${boundary}`, ...lines, '', ''].join('\r\n')), body]);
}

function base64Lines(bytes: Buffer): string {
  return (bytes.toString('base64').match(/.{1,76}/g) ?? []).map((line) => `${line}\r\n`).join('');
}

/** Text that came from outside, fit for a header field or a line: no controls, ASCII unless `utf8`. */
function clean(text: string, utf8: boolean): string {
  const flat = text
    .replaceAll('’', "'")
    .replaceAll('§', 'section ')
    .replace(/[\u0000-\u001f\u007f]+/g, ' ');
  return utf8 ? flat : flat.replace(/[^ -~]/gu, '?');
}

function wrap(text: string, indent = ''): string[] {
  const lines: string[] = [];
  let line = indent;
  for (const word of text.split(' ')) {
    if (line.length > indent.length && line.length + 1 + word.length > 76) {
      lines.push(line);
      line = indent;
    }
    line += line.length > indent.length ? ` ${word}` : word;
  }
  return [...lines, line];
}

/** Folds a long header value at spaces (RFC 5322 §2.2.3); a word without any is cut into pieces of 900 octets. */
function fold(value: string): string {
  return wrap(value.replace(/\S{900}/g, '$& '))
    .map((line) => line.trim())
    .join('\r\n ');
}

/** `Sun, 22 Nov 2026 06:12:00 +0000` (RFC 5322 §3.3). */
function mailDate(ms: number): string {
  return new Date(ms).toUTCString().replace('GMT', '+0000');
}
