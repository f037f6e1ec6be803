/**
 * A certificate as the octets it came in, cut into its parts (RFC 5280 §4.1).
 *
 * Only the frame is read here: enough to compare a certificate with TLSA records, and no more, because a DANE-EE match
 * must not depend on anything else that is in it (RFC 7672 §3.1.1). What the parts say is read in details.ts.
 */
import { createHash } from 'node:crypto';
import type { TlsaRecord } from '../../model/tls-policy.ts';
import { countOf, type Der, readDer, readElements, readInside, TAG } from './der.ts';

export interface Certificate {
  readonly raw: Buffer;
  /** 1, 2 or 3 in practice. */
  readonly version: number;
  readonly serial: Buffer;
  /** AlgorithmIdentifier of the signature, as the issuer signed it. */
  readonly algorithm: Buffer;
  readonly issuer: Buffer;
  readonly subject: Buffer;
  /** The two times, still encoded. */
  readonly validity: readonly [Der, Der];
  /** SubjectPublicKeyInfo as encoded: a re-encoding may differ (RFC 6698 §2.1.2). */
  readonly spki: Buffer;
  /** Each extension, still encoded. */
  readonly extensions: readonly Der[];
}

/** @returns null for anything but exactly one certificate in DER */
export function readCertificate(raw: Buffer): Certificate | null {
  const [tbs, algorithm, signature, ...more] = readInside(raw) ?? [];
  if (tbs?.tag !== TAG.sequence || algorithm?.tag !== TAG.sequence || signature?.tag !== TAG.bitString) return null;
  const fields = readElements(tbs.content);
  if (fields === null || more.length > 0) return null;

  const version = fields[0]?.tag === EXPLICIT_VERSION ? readVersion(fields[0]) : 1;
  const [serial, inner, issuer, validity, subject, spki, ...optional] =
    fields[0]?.tag === EXPLICIT_VERSION ? fields.slice(1) : fields;
  if (version === null || serial?.tag !== TAG.integer || inner?.tag !== TAG.sequence) return null;
  if (issuer?.tag !== TAG.sequence || subject?.tag !== TAG.sequence || spki?.tag !== TAG.sequence) return null;
  const [notBefore, notAfter, ...others] = (validity?.tag === TAG.sequence && readElements(validity.content)) || [];
  if (notBefore === undefined || notAfter === undefined || others.length > 0) return null;
  const extensions = readOptional(optional);
  if (extensions === null || publicKeyAlgorithm(spki.octets) === null) return null;

  return {
    raw,
    version,
    serial: serial.content,
    algorithm: inner.octets,
    issuer: issuer.octets,
    subject: subject.octets,
    validity: [notBefore, notAfter],
    spki: spki.octets,
    extensions,
  };
}

const EXPLICIT_VERSION = 0xa0;
const UNIQUE_IDS: readonly number[] = [0x81, 0x82];
const EXPLICIT_EXTENSIONS = 0xa3;

/** The field is there for version 1 too where somebody did not know about DEFAULT, so it counts from what it says. */
function readVersion({ content }: Der): number | null {
  const inner = readDer(content);
  const version = inner && countOf(inner);
  return version === null || version > 255 ? null : version + 1;
}

function readOptional(fields: readonly Der[]): readonly Der[] | null {
  let extensions: readonly Der[] = [];
  let last = 0;
  for (const { tag, content } of fields) {
    if (tag <= last || !(UNIQUE_IDS.includes(tag) || tag === EXPLICIT_EXTENSIONS)) return null;
    last = tag;
    if (tag !== EXPLICIT_EXTENSIONS) continue;
    const list = readInside(content);
    if (list === null) return null;
    extensions = list;
  }
  return extensions;
}

/** AlgorithmIdentifier of exactly one SubjectPublicKeyInfo in DER, or null. */
export function publicKeyAlgorithm(spki: Buffer): Der | null {
  const [algorithm, key, ...more] = readInside(spki) ?? [];
  if (algorithm?.tag !== TAG.sequence || key?.tag !== TAG.bitString || more.length > 0) return null;
  return algorithm;
}

/** Digests that matching types stand for (RFC 6698 §2.1.3). */
export const DIGESTS: Readonly<
  Partial<Record<number, { readonly name: 'sha256' | 'sha512'; readonly octets: number }>>
> = {
  1: { name: 'sha256', octets: 32 },
  2: { name: 'sha512', octets: 64 },
};

/** Whether selector, matching type and data of a record pick this certificate; its usage is the caller's business. */
export function picks({ selector, matching, data }: TlsaRecord, certificate: Certificate): boolean {
  return associationData(certificate, selector, matching)?.equals(data) ?? false;
}

/**
 * The first of many records that picks a certificate, found in a few steps however many there are.
 *
 * @returns a function that gives undefined where none does
 */
export function createPicker(records: readonly TlsaRecord[]): (certificate: Certificate) => TlsaRecord | undefined {
  const ranks = new Map<string, number>();
  const kinds = new Map<string, readonly [selector: number, matching: number]>();
  for (const [rank, { selector, matching, data }] of records.entries()) {
    const kind = `${selector} ${matching}`;
    const key = `${kind} ${data.toString('latin1')}`;
    if (!ranks.has(key)) ranks.set(key, rank);
    kinds.set(kind, [selector, matching]);
  }
  return (certificate) => {
    let first = records.length;
    for (const [kind, [selector, matching]] of kinds) {
      const data = associationData(certificate, selector, matching);
      const rank = data ? ranks.get(`${kind} ${data.toString('latin1')}`) : undefined;
      if (rank !== undefined && rank < first) first = rank;
    }
    return records[first];
  };
}

/** What a record with this selector and matching type would have to hold (RFC 6698 §2.1); null for unknown ones. */
export function associationData(certificate: Certificate, selector: number, matching: number): Buffer | null {
  if (selector !== 0 && selector !== 1) return null;
  const selected = selector === 0 ? certificate.raw : certificate.spki;
  if (matching === 0) return selected;
  const digest = DIGESTS[matching];
  if (digest === undefined) return null;
  const known = hashed.get(certificate) ?? new Map<number, Buffer>();
  hashed.set(certificate, known);
  const key = matching * 2 + selector;
  const data = known.get(key) ?? createHash(digest.name).update(selected).digest();
  known.set(key, data);
  return data;
}

/** Hashing is what costs, and a set may have hundreds of records. */
const hashed = new WeakMap<Certificate, Map<number, Buffer>>();
