/**
 * The DNS record of a signing key: how it is written, and whether what DNS has is it (RFC 6376 §3.6, RFC 8463 §4).
 * No question is asked here.
 */
import { createPublicKey, type KeyObject } from 'node:crypto';
import type { DnsAnswer } from '../model/dns.ts';
import type { Algorithm } from './dkim-signature.ts';

/** Octets of one string in a TXT record (RFC 1035 §3.3.14). */
const STRING_OCTETS = 255;

/** What DNS has at the name of a key. */
export type Publication =
  | { readonly kind: 'shown' }
  | { readonly kind: 'absent' }
  /** Something else than the record of this key: nothing that it signs could be verified. */
  | { readonly kind: 'other'; readonly why: string }
  | { readonly kind: 'unknown'; readonly why: string };

export function recordName(selector: string, domain: string): string {
  return `${selector}._domainkey.${domain}`;
}

/** The value of `p=`: for RSA the whole SubjectPublicKeyInfo, for Ed25519 the 32 octets of the key (RFC 8463 §4). */
export function publicPart(key: KeyObject, algorithm: Algorithm): string {
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  return (algorithm === 'ed25519-sha256' ? spki.subarray(-32) : spki).toString('base64');
}

/** The whole text of a record. */
export function recordText(algorithm: Algorithm, publicKey: string): string {
  return `v=DKIM1; k=${kindOf(algorithm)}; p=${publicKey}`;
}

/** A line for a zone file, the text in as many strings as it needs. */
export function zoneLine(name: string, text: string): string {
  const strings = text.match(new RegExp(`.{1,${STRING_OCTETS}}`, 'g')) ?? [];
  const quoted = strings.map((string) => `"${string}"`);
  return `${name}. IN TXT ${quoted.length > 1 ? `( ${quoted.join(' ')} )` : quoted.join('')}`;
}

/** Whether an answer to the TXT question is the record of this key, so that others can verify what it signs. */
export function judgePublication(answer: DnsAnswer<string>, algorithm: Algorithm, publicKey: string): Publication {
  if (answer.kind === 'failed') return { kind: 'unknown', why: answer.reason };
  if (answer.kind === 'absent') return { kind: 'absent' };
  const other = (why: string): Publication => ({ kind: 'other', why });
  const [text, another] = answer.records;
  // RFC 6376 §3.6.2.2: with several records nobody knows which one a verifier takes.
  if (another !== undefined) return other(`there are ${answer.records.length} TXT records`);
  const tags = tagsOf(text);
  if (tags === null) return other('the record is no list of tags');
  if ((tags.get('v') ?? 'DKIM1') !== 'DKIM1') return other('its version is not DKIM1');
  const [first] = tags.keys();
  // RFC 6376 §3.6.1: where it is there it stands first.
  if (tags.has('v') && first !== 'v') return other('its v= is not the first tag');
  const p = tags.get('p')?.replace(/\s/g, '');
  if (p === undefined) return other('the record has no p=');
  if (p === '') return other('the record says that the key is revoked: its p= is empty');
  if ((tags.get('k') ?? 'rsa') !== kindOf(algorithm)) return other(`the record is not for ${kindOf(algorithm)}`);
  if (p !== publicKey) return other('the record holds another key, or a part of this one');
  if (!has(tags.get('h'), 'sha256')) return other('its h= does not allow sha256');
  if (!has(tags.get('s'), 'email')) return other('its s= does not allow email');
  if (
    tags
      .get('t')
      ?.split(':')
      .some((flag) => flag.trim() === 'y')
  )
    return other('its t=y asks everybody to treat the mail as not signed');
  return { kind: 'shown' };
}

export function publicationInWords(publication: Publication): string {
  switch (publication.kind) {
    case 'shown':
      return 'DNS shows its record';
    case 'absent':
      return 'DNS has no record for it';
    case 'other':
      return `DNS has something else: ${publication.why}`;
    case 'unknown':
      return `DNS could not be asked: ${publication.why}`;
  }
}

function kindOf(algorithm: Algorithm): 'rsa' | 'ed25519' {
  return algorithm === 'ed25519-sha256' ? 'ed25519' : 'rsa';
}

function has(list: string | undefined, wanted: string): boolean {
  if (list === undefined) return true;
  return list.split(':').some((item) => item.trim() === wanted || item.trim() === '*');
}

/** A tag list (RFC 6376 §3.2), null for what is none. A tag that comes twice makes it none. */
export function tagsOf(text: string): ReadonlyMap<string, string> | null {
  const tags = new Map<string, string>();
  for (const part of text.split(';')) {
    if (part.trim() === '') continue;
    const [, name, value] = /^\s*([A-Za-z][A-Za-z0-9_]*)\s*=(.*)$/s.exec(part) ?? [];
    if (name === undefined || value === undefined || tags.has(name)) return null;
    tags.set(name, value.trim());
  }
  return tags;
}
