/**
 * Makes DKIM-Signature fields over a header and the hash of a body (RFC 6376 §3.5, RFC 8463 §3). What is signed is
 * relaxed/relaxed and always the whole body: `l=` would let anybody append to a message (RFC 6376 §8.2).
 */
import { createHash, type KeyObject, sign } from 'node:crypto';
import { type Field, relaxedField } from './dkim-canonical.ts';

export type Algorithm = 'rsa-sha256' | 'ed25519-sha256';

/** A key that may sign for a domain. */
export interface SigningKey {
  readonly domain: string;
  readonly selector: string;
  readonly algorithm: Algorithm;
  readonly key: KeyObject;
}

/**
 * Who a message is from, to and about, and how it is to be read: each is named once more than it is there, so that
 * nobody can add one (RFC 6376 §5.4.2).
 */
const IDENTITY: readonly string[] = [
  'from',
  'sender',
  'reply-to',
  'to',
  'cc',
  'subject',
  'date',
  'message-id',
  'in-reply-to',
  'references',
  'mime-version',
  'content-type',
  'content-transfer-encoding',
];

/** Signed where they are there; a mailing list may put its own in their place (RFC 6376 §5.4.1). */
const BESIDES: readonly string[] = [
  'resent-date',
  'resent-from',
  'resent-sender',
  'resent-to',
  'resent-cc',
  'resent-message-id',
  'list-id',
  'list-help',
  'list-unsubscribe',
  'list-unsubscribe-post',
  'list-subscribe',
  'list-post',
  'list-owner',
  'list-archive',
  'content-id',
  'content-description',
  'content-language',
  'content-disposition',
  'auto-submitted',
  'tls-report-domain',
  'tls-report-submitter',
  'tls-required',
];

/** Fields under one signature. With more, the list of their names would become a burden to everybody. */
const FIELDS_AT_MOST = 500;

/** What all signatures of one message have in common. */
export interface Signable {
  /** Names in the order in which they are signed, each as often as it is covered. */
  readonly names: readonly string[];
  /** The covered fields in relaxed form, each with its CRLF. */
  readonly header: string;
  /** Base64. */
  readonly bodyHash: string;
}

/** Null when the message has more fields to be signed than a signature should name. */
export function signable(fields: readonly Field[], bodyHash: string): Signable | null {
  const byName = new Map<string, Field[]>();
  for (const field of fields) {
    const name = field.name.toLowerCase();
    const same = byName.get(name);
    if (same) same.push(field);
    else byName.set(name, [field]);
  }
  const names: string[] = [];
  const lines: string[] = [];
  for (const name of [...IDENTITY, ...BESIDES]) {
    const there = byName.get(name) ?? [];
    // The last of a name is signed first (RFC 6376 §5.4.2).
    for (const field of there.toReversed()) lines.push(`${relaxedField(field)}\r\n`);
    const times = there.length + (IDENTITY.includes(name) ? 1 : 0);
    for (let i = 0; i < times; i++) names.push(name);
  }
  return lines.length > FIELDS_AT_MOST ? null : { names, header: lines.join(''), bodyHash };
}

/** One DKIM-Signature field with its CRLF. ASCII only, no line longer than 78 octets but for a long domain. */
export async function signatureField(what: Signable, by: SigningKey, atMs: number): Promise<string> {
  const { names, header, bodyHash } = what;
  const value = [
    ` v=1; a=${by.algorithm}; c=relaxed/relaxed;`,
    `d=${by.domain}; s=${by.selector}; t=${Math.floor(atMs / 1000)};`,
    ...folded('h=', names, ':', ';'),
    `bh=${bodyHash};`,
    'b=',
  ].join('\r\n\t');
  const input = Buffer.from(`${header}${relaxedField({ name: 'dkim-signature', value })}`, 'latin1');
  const signature = (await signed(input, by)).toString('base64');
  return `DKIM-Signature:${value}${folded('', signature.match(/.{1,72}/g) ?? [], '', '').join('\r\n\t')}\r\n`;
}

/** Lines of at most 72 octets or one part. */
function folded(start: string, parts: readonly string[], between: string, end: string): readonly string[] {
  const lines: string[] = [];
  let line = start;
  for (const [index, part] of parts.entries()) {
    const last = index === parts.length - 1;
    const text = `${part}${last ? end : between}`;
    if (line.length + text.length > 72 && line !== '') {
      lines.push(line);
      line = '';
    }
    line += text;
  }
  return [...lines, line];
}

/** Not on the thread that everything else waits for. */
function signed(input: Buffer, { algorithm, key }: SigningKey): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, signature: Buffer): void => (error ? reject(error) : resolve(signature));
    if (algorithm === 'rsa-sha256') sign('sha256', input, key, done);
    // RFC 8463 §3: what Ed25519 signs is the SHA-256 of the header.
    else sign(null, createHash('sha256').update(input).digest(), key, done);
  });
}
