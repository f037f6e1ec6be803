/**
 * Whose mail a message says it is: the domain in its From field, which a DKIM signature has to stand for to count
 * (RFC 7489 §3.1.1). Where that cannot be said for certain, nothing is said.
 */
import { toDomain } from '../shared/domain-name.ts';
import type { Field } from './dkim-canonical.ts';
import { valuesOf } from './dkim-head.ts';

export type Author =
  | { readonly kind: 'domain'; readonly domain: string }
  /** `why`: in words, for the log. */
  | { readonly kind: 'unclear'; readonly why: string };

const unclear = (why: string): Author => ({ kind: 'unclear', why });

/** Fields with more than this many octets of From are not taken apart. */
const FROM_OCTETS = 64 * 1024;

export function authorOf(fields: readonly Field[]): Author {
  const [value, another] = valuesOf(fields, 'from');
  if (value === undefined) return unclear('it has no From');
  if (another !== undefined) return unclear('it has several From fields');
  if (value.length > FROM_OCTETS) return unclear('its From is too long');
  const addresses = addressesIn(Buffer.from(value, 'latin1').toString('utf8'));
  if (addresses === null || addresses.length === 0) return unclear('its From cannot be understood');
  const domains = new Set(addresses.map((address) => toDomain(address.slice(address.lastIndexOf('@') + 1))));
  const [domain] = domains;
  if (domains.size > 1) return unclear('its From has several domains');
  return domain ? { kind: 'domain', domain } : unclear('its From has no domain name');
}

/**
 * The addresses in the value of an address field (RFC 5322 §3.4), without comments and white space; null when it is
 * not written as one. Quoted strings lose their content, which can hold nothing that matters here. A name with a comma and
 * without quotes, as old applications write it (`Jansen, Piet <piet@example.nl>`), is taken for a name.
 */
function addressesIn(text: string): readonly string[] | null {
  const addresses: string[] = [];
  let plain = '';
  let inAngle: string | null = null;
  let angle: string | null = null;
  let comments = 0;
  let quoted = false;
  /** Words before a comma, without an address: they have to be part of the name of the next one. */
  let words = false;
  /** Ends one mailbox. @returns false when it is none */
  const end = (by: string): boolean => {
    const isNamed = angle !== null;
    const address = angle ?? plain;
    angle = null;
    plain = '';
    if (!isNamed && address === '') return !words || by === ',';
    if (!isNamed && by === ',' && !address.includes('@')) {
      words = true;
      return true;
    }
    if (words && !isNamed) return false;
    words = false;
    const mailbox = withoutRoute(address);
    const valid = /^[^@\s]+@[^@\s]+$/u.test(mailbox);
    if (valid) addresses.push(mailbox);
    return valid;
  };
  for (let i = 0; i < text.length; i++) {
    const character = text.charAt(i);
    if ((quoted || comments > 0) && character === '\\') {
      i++;
    } else if (quoted) {
      if (character === '"') quoted = false;
    } else if (comments > 0) {
      if (character === '(') comments++;
      else if (character === ')') comments--;
    } else if (character === '(') {
      comments++;
    } else if (character === '"') {
      quoted = true;
      if (inAngle !== null) inAngle += 'q';
      else plain += 'q';
    } else if (inAngle !== null) {
      if (character === '>') {
        angle = inAngle;
        inAngle = null;
      } else if (character === '<') return null;
      else if (!/\s/u.test(character)) inAngle += character;
    } else if (character === '<') {
      if (angle !== null) return null;
      inAngle = '';
    } else if (character === ',' || character === ';') {
      if (!end(character)) return null;
    } else if (character === ':') {
      // The name of a group; its members follow.
      if (angle !== null) return null;
      plain = '';
    } else if (!/\s/u.test(character)) {
      if (angle !== null) return null;
      plain += character;
    }
  }
  if (quoted || comments > 0 || inAngle !== null || !end('')) return null;
  return addresses;
}

/**
 * Without a route before it (`@a.nl,@b.nl:piet@c.nl`, RFC 5322 §4.4). The pattern has one way only to read a text: with
 * several, a stranger's text could keep the whole relay busy for years.
 */
function withoutRoute(address: string): string {
  return address.replace(/^@[^@:,]+(?:,+@[^@:,]+)*:/u, '');
}
