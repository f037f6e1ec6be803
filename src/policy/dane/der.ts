/**
 * Reads DER (X.690 §10) as slices of the octets that were given, never as a re-encoding: what is hashed or compared
 * must be what the other side sent. Nothing here throws or recurses; whatever is not DER is null.
 */

/** One element: tag octet, content, and the whole of it. */
export interface Der {
  readonly tag: number;
  readonly content: Buffer;
  readonly octets: Buffer;
}

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** The one element that fills `octets` exactly, or null. */
export function readDer(octets: Buffer, tag?: number): Der | null {
  const element = elementAt(octets, 0);
  if (element === null || element.octets.length !== octets.length) return null;
  return tag === undefined || element.tag === tag ? element : null;
}

/** The elements that fill `content` exactly, one after the other, or null. */
export function readElements(content: Buffer): readonly Der[] | null {
  const elements: Der[] = [];
  for (let at = 0; at < content.length; ) {
    const element = elementAt(content, at);
    if (element === null) return null;
    elements.push(element);
    at += element.octets.length;
  }
  return elements;
}

/** The elements inside the one constructed element with `tag` that fills `octets` exactly, or null. */
export function readInside(octets: Buffer, tag: number = TAG.sequence): readonly Der[] | null {
  const outer = readDer(octets, tag);
  return outer === null ? null : readElements(outer.content);
}

function elementAt(octets: Buffer, at: number): Der | null {
  const tag = octets[at];
  const first = octets[at + 1];
  // Tag numbers above 30 do not occur in certificates.
  if (tag === undefined || first === undefined || (tag & 0x1f) === 0x1f) return null;
  if (first < 0x80) return slice(octets, at, tag, 2, first);

  const lengthOctets = first & 0x7f;
  if (lengthOctets === 0 || lengthOctets > 4 || at + 2 + lengthOctets > octets.length) return null;
  const length = octets.readUIntBE(at + 2, lengthOctets);
  const shortest = length >= 0x80 && length >= 2 ** (8 * (lengthOctets - 1));
  return shortest ? slice(octets, at, tag, 2 + lengthOctets, length) : null;
}

function slice(octets: Buffer, at: number, tag: number, header: number, length: number): Der | null {
  const end = at + header + length;
  if (end > octets.length) return null;
  return { tag, content: octets.subarray(at + header, end), octets: octets.subarray(at, end) };
}

/** An object identifier in dotted form; arcs too long to be real make it `unreadable`. */
export function oidOf({ tag, content }: Der): string {
  if (tag !== TAG.oid || content.length === 0 || content.length > 64) return 'unreadable';
  const arcs: number[] = [];
  let arc = 0;
  for (const octet of content) {
    arc = arc * 128 + (octet & 0x7f);
    if (!Number.isSafeInteger(arc)) return 'unreadable';
    if (octet & 0x80) continue;
    arcs.push(arc);
    arc = 0;
  }
  const [head = 0, ...rest] = arcs;
  const root = Math.min(2, Math.floor(head / 40));
  return content.at(-1) !== undefined && Number(content.at(-1)) < 0x80
    ? [root, head - 40 * root, ...rest].join('.')
    : 'unreadable';
}

/** A non-negative INTEGER; Infinity where it is larger than any limit in use; null for anything else. */
export function countOf({ tag, content }: Der): number | null {
  const [first] = content;
  if (tag !== TAG.integer || first === undefined || first >= 0x80) return null;
  return content.length <= 4 ? content.readUIntBE(0, content.length) : Number.POSITIVE_INFINITY;
}

/** A BOOLEAN. DER has one octet for true; others are met and taken for true, as everybody does. */
export function booleanOf({ tag, content }: Der): boolean | null {
  return tag === TAG.boolean && content.length === 1 ? content[0] !== 0 : null;
}

/** The bits that are set in a BIT STRING, by number. */
export function bitsOf({ tag, content }: Der): ReadonlySet<number> | null {
  const unused = content[0];
  if (tag !== TAG.bitString || unused === undefined || unused > 7 || content.length > 16) return null;
  const bits = new Set<number>();
  for (let bit = 0; bit < (content.length - 1) * 8 - unused; bit++) {
    if ((content[1 + (bit >> 3)] ?? 0) & (0x80 >> (bit & 7))) bits.add(bit);
  }
  return bits;
}
