/**
 * The SubjectPublicKeyInfo of a certificate, cut out of its own octets, and the pin that is made of it.
 *
 * Nothing here judges a certificate. The octets are not taken from `publicKey.export()`, because that encodes them
 * anew and a pin made elsewhere would then not match. Input comes from strangers: wrong input gives null.
 */
import { createHash } from 'node:crypto';

/** One DER element: where its content begins and where the element ends, in octets from the start of the buffer. */
interface Element {
  readonly tag: number;
  readonly content: number;
  readonly end: number;
}

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const VERSION = 0xa0;

/**
 * The DER of the SubjectPublicKeyInfo inside a DER certificate (RFC 5280 §4.1), tag and length included.
 *
 * @returns null when `der` is no certificate, has octets behind it, or is not DER on the way to the key
 */
export function spkiOf(der: Buffer): Buffer | null {
  const certificate = elementAt(der, 0, der.length);
  if (certificate?.tag !== SEQUENCE || certificate.end !== der.length) return null;
  const tbs = elementAt(der, certificate.content, certificate.end);
  if (tbs?.tag !== SEQUENCE) return null;

  let at = tbs.content;
  const first = elementAt(der, at, tbs.end);
  if (first?.tag === VERSION) at = first.end;
  // serial number, signature, issuer, validity, subject; then the key
  for (const tag of [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE]) {
    const element = elementAt(der, at, tbs.end);
    if (element?.tag !== tag) return null;
    at = element.end;
  }
  const key = elementAt(der, at, tbs.end);
  return key?.tag === SEQUENCE ? der.subarray(at, key.end) : null;
}

/** The pin of a DER certificate: `sha256/` and the base64 of the SHA-256 of its SPKI; null when it is none. */
export function spkiPin(der: Buffer): string | null {
  const spki = spkiOf(der);
  return spki && `sha256/${createHash('sha256').update(spki).digest('base64')}`;
}

/** Reads one definite-length element at `at`, which must end at `limit` at the latest (X.690 §8.1, §10.1). */
function elementAt(der: Buffer, at: number, limit: number): Element | null {
  const tag = der[at];
  const short = der[at + 1];
  if (tag === undefined || short === undefined || (tag & 0x1f) === 0x1f) return null;
  let length = short;
  let content = at + 2;
  if (short >= 0x80) {
    const octets = short - 0x80;
    if (octets < 1 || octets > 4 || content + octets > limit) return null;
    length = der.readUIntBE(content, octets);
    // DER: the shortest form there is
    if (length < 0x80 || length < 256 ** (octets - 1)) return null;
    content += octets;
  }
  const end = content + length;
  return end <= limit ? { tag, content, end } : null;
}
