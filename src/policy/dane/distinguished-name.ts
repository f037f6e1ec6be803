/** Names of subjects and issuers: made comparable (RFC 5280 §7.1), and put into words for people. */
import { type Der, oidOf, readElements, readInside, TAG } from './der.ts';

export interface DistinguishedName {
  /** Equal for names that are equal by RFC 5280 §7.1. */
  readonly id: string;
  /** The same, a relative name each, for name constraints. */
  readonly parts: readonly string[];
  readonly commonNames: readonly string[];
  readonly emailAddresses: readonly string[];
}

const COMMON_NAME = '2.5.4.3';
const EMAIL_ADDRESS = '1.2.840.113549.1.9.1';

/** @param octets the whole Name element; @returns null when it is none */
export function readDistinguishedName(octets: Buffer): DistinguishedName | null {
  const relatives = readInside(octets);
  if (relatives === null) return null;
  const parts: string[] = [];
  const commonNames: string[] = [];
  const emailAddresses: string[] = [];
  for (const relative of relatives) {
    const attributes = relative.tag === TAG.set ? readElements(relative.content) : null;
    if (attributes === null || attributes.length === 0) return null;
    const comparable: string[] = [];
    for (const attribute of attributes) {
      const [type, value, ...more] = readInside(attribute.octets) ?? [];
      if (type?.tag !== TAG.oid || value === undefined || more.length > 0) return null;
      const text = textOf(value);
      if (text === null) return null;
      const oid = oidOf(type);
      if (oid === COMMON_NAME && text !== undefined) commonNames.push(text);
      if (oid === EMAIL_ADDRESS && text !== undefined) emailAddresses.push(text);
      comparable.push(
        JSON.stringify([type.content.toString('hex'), text === undefined ? value.octets.toString('hex') : fold(text)]),
      );
    }
    parts.push(JSON.stringify(comparable.toSorted()));
  }
  return { id: JSON.stringify(parts), parts, commonNames, emailAddresses };
}

/** The text of a string; null when it is malformed, undefined for a type that is not text. */
function textOf({ tag, content }: Der): string | null | undefined {
  switch (tag) {
    case 0x0c: // UTF8String
      return utf8(content);
    case 0x13: // PrintableString
    case 0x14: // T61String, in practice Latin-1
    case 0x16: // IA5String
    case 0x1a: // VisibleString
      return content.toString('latin1');
    case 0x1e: // BMPString
      return content.length % 2 === 0 ? Buffer.from(content).swap16().toString('utf16le') : null;
    case 0x1c: // UniversalString
      return universal(content);
    default:
      return undefined;
  }
}

function utf8(content: Buffer): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content);
  } catch {
    return null;
  }
}

function universal(content: Buffer): string | null {
  if (content.length % 4 !== 0) return null;
  const characters: string[] = [];
  for (let at = 0; at < content.length; at += 4) {
    const point = content.readUInt32BE(at);
    if (point > 0x10ffff) return null;
    characters.push(String.fromCodePoint(point));
  }
  return characters.join('');
}

/** Case of ASCII letters and the amount of white space do not count. */
function fold(text: string): string {
  return text
    .replace(/[\t-\r ]+/g, ' ')
    .replace(/^ | $/g, '')
    .replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}
