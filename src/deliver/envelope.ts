/**
 * From a batch and what the host offers to the commands of a transaction, or to the reason why it cannot be sent.
 * Pure: nothing is said to the host here, and nothing is sent that the host did not offer to understand.
 */
import type { Batch, Envelope, QueuedRecipient } from '../model/message.ts';
import type { ReasonCode } from '../model/reasons.ts';
import { isAscii, toDomain } from '../shared/domain-name.ts';

/** Extensions of the host by keyword, with their parameters. */
export type Extensions = ReadonlyMap<string, string>;

interface Obstacle {
  readonly code: ReasonCode;
  readonly detail: string;
}

export interface AddressedRecipient {
  readonly recipient: QueuedRecipient;
  /** The RCPT command, without CRLF. */
  readonly line: string;
}

type TransactionPlan =
  | { readonly kind: 'impossible'; readonly obstacle: Obstacle }
  | {
      readonly kind: 'possible';
      /** The MAIL command, without CRLF. */
      readonly mail: string;
      readonly recipients: readonly AddressedRecipient[];
      readonly unsendable: readonly { readonly recipient: QueuedRecipient; readonly obstacle: Obstacle }[];
    };

/** Octets of an address that anybody takes: 64 and 255 (RFC 5321 §4.5.3.1), with room for what is met. */
const ADDRESS_LIMIT = 512;

/** What would be said to a host with these extensions, or why there is nothing that could be said. */
export function planTransaction(batch: Batch, offered: Extensions): TransactionPlan {
  const { envelope, content } = batch;
  const impossible = (code: ReasonCode, detail: string): TransactionPlan => ({
    kind: 'impossible',
    obstacle: { code, detail },
  });

  const limit = sizeLimit(offered);
  if (limit !== null && content.size > limit) {
    return impossible('size-over-remote-limit', `${content.size} octets, the host takes ${limit}`);
  }
  // Octets above 127 in a header of which nobody said that it is UTF-8 are 8-bit content and no more.
  const utf8Header = envelope.smtputf8 && content.utf8Header;
  if (utf8Header && !offered.has('SMTPUTF8')) return impossible('utf8-header-unsupported', '');
  if (content.eightBit && !offered.has('8BITMIME')) return impossible('eight-bit-unsupported', '');

  // A notice is not thrown away for that (RFC 8689 §5): it goes without the word, to a host that has proven itself.
  if (envelope.tls === 'required' && envelope.sender !== '' && !offered.has('REQUIRETLS')) {
    return impossible('requiretls-not-offered', '');
  }

  const sender = envelope.sender === '' ? { kind: 'path' as const, path: '<>', utf8: false } : pathOf(envelope.sender);
  if (sender.kind === 'none') return impossible('address-unsendable', `the sender: ${sender.why}`);
  if (sender.utf8 && !offered.has('SMTPUTF8')) return impossible('utf8-address-unsupported', 'the sender');

  const recipients: AddressedRecipient[] = [];
  const unsendable: { recipient: QueuedRecipient; obstacle: Obstacle }[] = [];
  let utf8 = sender.utf8 || utf8Header;
  for (const recipient of batch.recipients) {
    const to = pathOf(recipient.address);
    if (to.kind === 'none') {
      unsendable.push({ recipient, obstacle: { code: 'address-unsendable', detail: to.why } });
    } else if (to.utf8 && !offered.has('SMTPUTF8')) {
      unsendable.push({ recipient, obstacle: { code: 'utf8-address-unsupported', detail: '' } });
    } else {
      utf8 ||= to.utf8;
      recipients.push({ recipient, line: `RCPT TO:${to.path}${rcptParameters(recipient, offered)}` });
    }
  }
  return {
    kind: 'possible',
    mail: `MAIL FROM:${sender.path}${mailParameters(batch, offered, utf8)}`,
    recipients,
    unsendable,
  };
}

/** The limit in the host's SIZE, in octets; null for none (RFC 1870 §4: absent, or zero). */
function sizeLimit(offered: Extensions): number | null {
  const limit = /^\d{1,15}$/.exec(offered.get('SIZE') ?? '')?.[0];
  return limit === undefined || Number(limit) === 0 ? null : Number(limit);
}

function mailParameters({ envelope, content }: Batch, offered: Extensions, utf8: boolean): string {
  const parameters: string[] = [];
  if (offered.has('SIZE')) parameters.push(`SIZE=${content.size}`);
  // RFC 6152 §3: 8BITMIME is said only when it is so, or was said to us.
  if (offered.has('8BITMIME') && (content.eightBit || envelope.body === '8bitmime')) parameters.push('BODY=8BITMIME');
  if (utf8) parameters.push('SMTPUTF8');
  if (envelope.tls === 'required' && offered.has('REQUIRETLS')) parameters.push('REQUIRETLS');
  if (offered.has('DSN')) parameters.push(...dsnOfMail(envelope));
  return parameters.map((parameter) => ` ${parameter}`).join('');
}

function dsnOfMail({ ret, envid }: Omit<Envelope, 'recipients'>): string[] {
  const parameters: string[] = [];
  if (ret !== null) parameters.push(`RET=${ret.toUpperCase()}`);
  if (envid !== null && envid !== '') parameters.push(`ENVID=${xtext(envid)}`);
  return parameters;
}

function rcptParameters({ notify, orcpt }: QueuedRecipient, offered: Extensions): string {
  if (!offered.has('DSN')) return '';
  const parameters: string[] = [];
  if (notify !== null && notify.length > 0) parameters.push(`NOTIFY=${notify.join(',').toUpperCase()}`);
  const [, type, address] = /^([A-Za-z0-9-]+);(.+)$/s.exec(orcpt ?? '') ?? [];
  if (type !== undefined && address !== undefined) parameters.push(`ORCPT=${type};${xtext(address)}`);
  return parameters.map((parameter) => ` ${parameter}`).join('');
}

/**
 * xtext (RFC 3461 §4): printable ASCII as it is, `+`, `=` and the rest as `+XX`. Characters beyond ASCII are written
 * as `\x{…}` first, the form of RFC 6533 §3 that passes hosts without SMTPUTF8.
 */
function xtext(text: string): string {
  return text
    .toWellFormed()
    .replace(/[^\u0000-\u007f]/gu, (character) => `\\x{${(character.codePointAt(0) ?? 0).toString(16).toUpperCase()}}`)
    .replace(/[^!-*,-<>-~]/g, (octet) => `+${octet.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
}

type Path =
  | { readonly kind: 'path'; readonly path: string; readonly utf8: boolean }
  | { readonly kind: 'none'; readonly why: string };

/**
 * An address as it stands between the angle brackets of a command (RFC 5321 §4.1.2, RFC 6531 §3.3). A domain beyond
 * ASCII becomes A-labels, so that only a local part can ask for SMTPUTF8. What does not fit the grammar is refused:
 * a line that means something else than it says must never be written.
 */
function pathOf(address: string): Path {
  const at = address.lastIndexOf('@');
  const local = address.slice(0, at);
  const given = address.slice(at + 1);
  const domain = isAscii(given) ? given : (toDomain(given) ?? '');
  if (at < 1) return { kind: 'none', why: 'it has no local part or no domain' };
  if (Buffer.byteLength(address) > ADDRESS_LIMIT) return { kind: 'none', why: 'it is too long' };
  if (!DOT_STRING.test(local) && !QUOTED_STRING.test(local))
    return { kind: 'none', why: 'its local part is malformed' };
  if (!DOMAIN.test(domain) && !LITERAL.test(domain)) return { kind: 'none', why: 'its domain is malformed' };
  return { kind: 'path', path: `<${local}@${domain}>`, utf8: !isAscii(local) };
}

/** RFC 5321 asks for dots between atoms only; addresses like `a..b@` and `a.@` exist and cannot be misread. */
const DOT_STRING = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\u{10ffff}-]+$/u;
const QUOTED_STRING = /^"(?:[ !#-[\]-~\u0080-\u{10ffff}]|\\[ -~])*"$/u;
const DOMAIN = /^[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9_])?$/;
const LITERAL = /^\[[A-Za-z0-9.:-]{1,100}\]$/;
