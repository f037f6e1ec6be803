/**
 * MAIL and RCPT, from the command line to the envelope (RFC 5321 §4.1.1.2, §4.1.1.3, and the parameters of RFC 1870,
 * RFC 3461, RFC 6152, RFC 6531 and RFC 8689). Pure: a line in, what it says or why it is refused out. A refused command leaves
 * nothing behind, because there is nowhere that it could.
 */
import type { Envelope, EnvelopeRecipient, Notify } from '../model/message.ts';
import { type PathReading, readPath } from './addresses.ts';
import { type Refusal, refuse } from './refusal.ts';

export type Reading<Value> = { readonly value: Value } | { readonly refusal: Refusal };

/** What MAIL opens: an envelope without recipients yet. */
export type Opening = Omit<Envelope, 'recipients'>;

interface Command {
  readonly path: PathReading;
  readonly parameters: ReadonlyMap<string, string | null>;
}

/**
 * @param line command line without its CRLF
 * @param limit octets that a message may have
 * @param extended false after HELO, when no parameter was offered (RFC 5321 §4.1.1.1)
 * @param secure whether the client speaks under TLS: only then REQUIRETLS is offered (RFC 8689 §2)
 */
export function readMail(line: string, limit: number, extended: boolean, secure: boolean): Reading<Opening> {
  const read = readCommand(line, /^MAIL FROM: *<(.*)$/i, 'MAIL FROM:<address>', extended);
  if ('refusal' in read) return read;
  const { path, parameters } = read.value;

  const stranger = firstOther(parameters, ['SIZE', 'BODY', 'SMTPUTF8', 'RET', 'ENVID', 'REQUIRETLS']);
  if (stranger !== null) return { refusal: refuse('parameter-unknown', stranger) };
  const size = parameters.get('SIZE');
  const body = parameters.get('BODY')?.toUpperCase();
  const ret = parameters.get('RET')?.toUpperCase();
  const envid = parameters.get('ENVID');
  const smtputf8 = parameters.has('SMTPUTF8');

  const required = parameters.has('REQUIRETLS');

  if (required && parameters.get('REQUIRETLS') !== null) return syntax('REQUIRETLS takes no value');
  if (required && !secure) return { refusal: refuse('requiretls-without-tls', '') };
  if (parameters.has('SIZE') && !/^\d{1,20}$/.test(size ?? '')) return syntax('SIZE takes up to 20 digits');
  if (parameters.has('BODY') && body !== '7BIT' && body !== '8BITMIME') return syntax('BODY is 7BIT or 8BITMIME');
  if (parameters.has('RET') && ret !== 'FULL' && ret !== 'HDRS') return syntax('RET is FULL or HDRS');
  if (smtputf8 && parameters.get('SMTPUTF8') !== null) return syntax('SMTPUTF8 takes no value');
  const envelopeId = envid ? decodeXtext(envid) : null;
  if (parameters.has('ENVID') && (envelopeId === null || (envid ?? '').length > 100)) {
    return syntax('ENVID takes up to 100 characters of xtext');
  }

  if (path.kind === 'bad') return { refusal: refuse('sender-address-bad', path.detail) };
  if (path.kind === 'mailbox' && path.utf8 && !smtputf8) return { refusal: refuse('smtputf8-undeclared', '') };
  if (Number(size ?? 0) > limit) {
    return { refusal: refuse('message-too-big', `${size} octets announced, ${limit} allowed`) };
  }
  return {
    value: {
      sender: path.kind === 'mailbox' ? path.address : '',
      smtputf8,
      body: body === '8BITMIME' ? '8bitmime' : '7bit',
      // RFC 8689 §5: RET=FULL counts for nothing beside REQUIRETLS.
      ret: required || ret === 'HDRS' ? 'hdrs' : ret === 'FULL' ? 'full' : null,
      envid: envelopeId,
      tls: required ? 'required' : 'default',
    },
  };
}

/** @param smtputf8 whether MAIL declared it for this transaction */
export function readRcpt(line: string, smtputf8: boolean, extended: boolean): Reading<EnvelopeRecipient> {
  const read = readCommand(line, /^RCPT TO: *<(.*)$/i, 'RCPT TO:<address>', extended);
  if ('refusal' in read) return read;
  const { path, parameters } = read.value;

  const stranger = firstOther(parameters, ['NOTIFY', 'ORCPT']);
  if (stranger !== null) return { refusal: refuse('parameter-unknown', stranger) };
  const notify = parameters.has('NOTIFY') ? readNotify(parameters.get('NOTIFY') ?? '') : null;
  if (parameters.has('NOTIFY') && notify === null) {
    return syntax('NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY');
  }
  const orcpt = parameters.has('ORCPT') ? readOrcpt(parameters.get('ORCPT') ?? '', smtputf8) : null;
  if (parameters.has('ORCPT') && orcpt === null) return syntax('ORCPT is an address type, a semicolon and xtext');

  if (path.kind === 'null') return { refusal: refuse('recipient-address-bad', 'it is empty') };
  if (path.kind === 'bad') {
    const hint = path.detail === 'it has no domain' ? '; this relay has no mailboxes of its own' : '';
    return { refusal: refuse('recipient-address-bad', path.detail + hint) };
  }
  if (path.utf8 && !smtputf8) return { refusal: refuse('smtputf8-undeclared', '') };
  return { value: { address: path.address, notify, orcpt } };
}

/** Decodes xtext (RFC 3461 §4) to printable ASCII and spaces; null for anything else. */
export function decodeXtext(text: string): string | null {
  if (!/^(?:[!-*,-<>-~]|\+[0-9A-F]{2})*$/.test(text)) return null;
  const decoded = text.replace(/\+(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return /^[ -~]+$/.test(decoded) ? decoded : null;
}

function readCommand(line: string, start: RegExp, form: string, extended: boolean): Reading<Command> {
  const rest = start.exec(line)?.[1];
  if (rest === undefined) return syntax(`it has the form ${form}`);
  const end = endOfPath(rest);
  if (end < 0 || !/^(?: |$)/.test(rest.slice(end + 1))) return syntax(`it has the form ${form}`);

  const parameters = new Map<string, string | null>();
  for (const word of rest.slice(end + 1).split(' ')) {
    if (word === '') continue;
    const [, key = '', value] = /^([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^=\s]+))?$/u.exec(word) ?? [];
    const name = key.toUpperCase();
    if (name === '') return syntax('a parameter is a word, or a word, = and a value');
    if (!extended) return { refusal: refuse('parameter-unknown', `${name} was not offered; say EHLO`) };
    if (parameters.has(name)) return syntax(`${name} is given twice`);
    parameters.set(name, value ?? null);
  }
  return { value: { path: readPath(rest.slice(0, end)), parameters } };
}

/** Where the `>` is that ends the path: one inside a quoted local part does not. Negative when there is none. */
function endOfPath(text: string): number {
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (quoted && char === '\\') i++;
    else if (char === '"') quoted = !quoted;
    else if (char === '>' && !quoted) return i;
    else if (char === '<' && !quoted) return -1;
  }
  return -1;
}

function firstOther(parameters: ReadonlyMap<string, string | null>, known: readonly string[]): string | null {
  return parameters.keys().find((name) => !known.includes(name)) ?? null;
}

function readNotify(text: string): readonly Notify[] | null {
  const words = text.toLowerCase().split(',');
  if (words.length === 1 && words[0] === 'never') return ['never'];
  const known = words.filter((word) => word === 'success' || word === 'failure' || word === 'delay');
  return known.length === words.length ? [...new Set(known)] : null;
}

function readOrcpt(text: string, smtputf8: boolean): string | null {
  const [, type, value = ''] = /^([A-Za-z0-9][A-Za-z0-9-]*);(.+)$/u.exec(text) ?? [];
  if (type === undefined || text.length > 500) return null;
  // utf-8 addresses may stand unencoded when SMTPUTF8 was declared (RFC 6533 §3)
  const raw = smtputf8 && type.toLowerCase() === 'utf-8' && /^[!-*,-<>-~\u00a0-\u{10ffff}]+$/u.test(value);
  const decoded = raw ? value : decodeXtext(value);
  return decoded === null ? null : `${type};${decoded}`;
}

function syntax(detail: string): { readonly refusal: Refusal } {
  return { refusal: refuse('command-syntax', detail) };
}
