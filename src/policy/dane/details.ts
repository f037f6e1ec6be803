/**
 * What a certificate says: names, dates and extensions (RFC 5280 §4.1, §4.2), as far as DANE-TA has to know.
 *
 * Reading never fails as a whole: what is malformed is said in `malformed`, and whoever validates a path refuses a
 * certificate that has any of it. DANE-EE never comes here.
 */
import type { Certificate } from './certificate.ts';
import { bitsOf, booleanOf, countOf, type Der, oidOf, readDer, readElements, readInside, TAG } from './der.ts';
import { type DistinguishedName, readDistinguishedName } from './distinguished-name.ts';

/** Bits of keyUsage (RFC 5280 §4.2.1.3). */
export const KEY_USAGE = { digitalSignature: 0, keyEncipherment: 2, keyAgreement: 4, keyCertSign: 5 } as const;

/** Tags of GeneralName (RFC 5280 §4.2.1.6), without their class bits. */
export const GENERAL_NAME = { other: 0, email: 1, dns: 2, directory: 4, uri: 6, ip: 7 } as const;

export interface GeneralName {
  readonly type: number;
  /** Octets of the content as Latin-1 text; the id of a directory name. */
  readonly value: string;
}

/** RFC 5280 §4.2.1.10. */
export interface NameConstraints {
  readonly permitted: readonly GeneralName[];
  readonly excluded: readonly GeneralName[];
}

/** RFC 5280 §4.2.1.1; what is not given is null. */
export interface AuthorityKey {
  readonly keyId: Buffer | null;
  /** Id of the issuer's own issuer. */
  readonly issuer: string | null;
  readonly serial: Buffer | null;
}

export interface Details {
  readonly subject: DistinguishedName;
  readonly issuer: DistinguishedName;
  /** Milliseconds since the epoch; null for a time that is not in a form of RFC 5280 §4.1.2.5. */
  readonly notBefore: number | null;
  readonly notAfter: number | null;
  /** null without basicConstraints. */
  readonly ca: boolean | null;
  readonly pathLength: number | null;
  /** null where the extension is absent: then every use is allowed. */
  readonly keyUsage: ReadonlySet<number> | null;
  readonly extendedKeyUsage: readonly string[] | null;
  readonly alternativeNames: readonly GeneralName[];
  readonly nameConstraints: NameConstraints | null;
  readonly authorityKey: AuthorityKey | null;
  readonly subjectKeyId: Buffer | null;
  /** Critical extensions that nobody here understands. */
  readonly unknownCritical: readonly string[];
  /** The first thing that is not as it must be, in words. */
  readonly malformed: string | null;
}

const NO_NAME: DistinguishedName = { id: '', parts: [], commonNames: [], emailAddresses: [] };

export function readDetails(certificate: Certificate): Details {
  const subject = readDistinguishedName(certificate.subject);
  const issuer = readDistinguishedName(certificate.issuer);
  const [notBefore, notAfter] = certificate.validity;
  const found = readExtensions(certificate.extensions);
  return {
    subject: subject ?? NO_NAME,
    issuer: issuer ?? NO_NAME,
    notBefore: timeOf(notBefore),
    notAfter: timeOf(notAfter),
    ...found,
    malformed: subject === null || issuer === null ? 'its subject or issuer is no name' : found.malformed,
  };
}

type Extensions = Omit<Details, 'subject' | 'issuer' | 'notBefore' | 'notAfter'>;
type Draft = { -readonly [Key in keyof Extensions]: Extensions[Key] };

/** Puts one extension into the draft; false when its content is malformed. */
type Reader = (value: Buffer, draft: Draft) => boolean;

const READERS: Readonly<Record<string, Reader>> = {
  '2.5.29.14': readSubjectKeyId,
  '2.5.29.15': readKeyUsage,
  '2.5.29.17': readAlternativeNames,
  '2.5.29.19': readBasicConstraints,
  '2.5.29.30': readNameConstraints,
  '2.5.29.35': readAuthorityKey,
  '2.5.29.37': readExtendedKeyUsage,
};

/**
 * Extensions that may be critical: those that are acted upon here, and those that only say how a CA works and that
 * OpenSSL lets pass as well. The key identifiers must not be critical (RFC 5280 §4.2.1.1).
 */
const KNOWN_CRITICAL: ReadonlySet<string> = new Set([
  '2.5.29.15',
  '2.5.29.17',
  '2.5.29.19',
  '2.5.29.30',
  '2.5.29.37',
  '2.5.29.31', // cRLDistributionPoints: no revocation checks for DANE (RFC 7671 §4.2)
  '2.5.29.32', // certificatePolicies and the three that go with it
  '2.5.29.33',
  '2.5.29.36',
  '2.5.29.54',
]);

function readExtensions(extensions: readonly Der[]): Extensions {
  const draft: Draft = {
    ca: null,
    pathLength: null,
    keyUsage: null,
    extendedKeyUsage: null,
    alternativeNames: [],
    nameConstraints: null,
    authorityKey: null,
    subjectKeyId: null,
    unknownCritical: [],
    malformed: null,
  };
  const seen = new Set<string>();
  const unknownCritical: string[] = [];
  for (const extension of extensions) {
    const [type, ...rest] = readInside(extension.octets) ?? [];
    const critical = rest[0]?.tag === TAG.boolean ? booleanOf(rest[0]) : false;
    const [value, ...more] = rest[0]?.tag === TAG.boolean ? rest.slice(1) : rest;
    if (type?.tag !== TAG.oid || critical === null || value?.tag !== TAG.octetString || more.length > 0) {
      draft.malformed ??= 'an extension cannot be read';
      continue;
    }
    const oid = oidOf(type);
    const reader = Object.hasOwn(READERS, oid) ? READERS[oid] : undefined;
    if (critical && !KNOWN_CRITICAL.has(oid)) unknownCritical.push(oid);
    if (reader === undefined) continue;
    if (seen.has(oid) || !reader(value.content, draft)) draft.malformed ??= `its extension ${oid} cannot be read`;
    seen.add(oid);
  }
  return { ...draft, unknownCritical };
}

function readBasicConstraints(value: Buffer, draft: Draft): boolean {
  const fields = readInside(value);
  if (fields === null) return false;
  const [first] = fields;
  const flag = first?.tag === TAG.boolean ? booleanOf(first) : false;
  const [length, ...more] = first?.tag === TAG.boolean ? fields.slice(1) : fields;
  if (flag === null || more.length > 0) return false;
  draft.ca = flag;
  if (length === undefined) return true;
  draft.pathLength = countOf(length);
  return draft.pathLength !== null;
}

function readKeyUsage(value: Buffer, draft: Draft): boolean {
  const element = readDer(value);
  draft.keyUsage = (element && bitsOf(element)) ?? new Set();
  return draft.keyUsage.size > 0;
}

function readExtendedKeyUsage(value: Buffer, draft: Draft): boolean {
  const purposes = readInside(value);
  draft.extendedKeyUsage = purposes?.map(oidOf) ?? [];
  return purposes?.every(({ tag }) => tag === TAG.oid) ?? false;
}

function readAlternativeNames(value: Buffer, draft: Draft): boolean {
  const names = readInside(value)?.map(generalName);
  if (names === undefined || names.includes(null)) return false;
  draft.alternativeNames = names.filter((name) => name !== null);
  return true;
}

function readSubjectKeyId(value: Buffer, draft: Draft): boolean {
  draft.subjectKeyId = readDer(value, TAG.octetString)?.content ?? null;
  return draft.subjectKeyId !== null;
}

function readAuthorityKey(value: Buffer, draft: Draft): boolean {
  const fields = readInside(value);
  if (fields === null) return false;
  const key: { -readonly [Field in keyof AuthorityKey]: AuthorityKey[Field] } = {
    keyId: null,
    issuer: null,
    serial: null,
  };
  for (const { tag, content } of fields) {
    if (tag === 0x80) key.keyId = content;
    else if (tag === 0x82) key.serial = content;
    else if (tag === 0xa1) {
      const names = readElements(content)?.map(generalName);
      if (names === undefined || names.includes(null)) return false;
      key.issuer = names.find((name) => name?.type === GENERAL_NAME.directory)?.value ?? null;
    } else return false;
  }
  draft.authorityKey = key;
  return true;
}

function readNameConstraints(value: Buffer, draft: Draft): boolean {
  const constraints: { permitted: GeneralName[]; excluded: GeneralName[] } = { permitted: [], excluded: [] };
  const fields = readInside(value);
  if (fields === null || fields.length === 0) return false;
  for (const { tag, content } of fields) {
    const list = tag === 0xa0 ? constraints.permitted : tag === 0xa1 ? constraints.excluded : null;
    const subtrees = readElements(content);
    if (list === null || subtrees === null) return false;
    for (const subtree of subtrees) {
      // A minimum other than 0 and any maximum must not be there (RFC 5280 §4.2.1.10): they make it unreadable.
      const [base, ...limits] = readInside(subtree.octets) ?? [];
      const name = base && generalName(base);
      if (!name || limits.some(({ octets }) => !octets.equals(MINIMUM_ZERO))) return false;
      list.push(name);
    }
  }
  draft.nameConstraints = constraints;
  return true;
}

const MINIMUM_ZERO = Buffer.from('800100', 'hex');

function generalName({ tag, content }: Der): GeneralName | null {
  if ((tag & 0xc0) !== 0x80 || (tag & 0x1f) > 8) return null;
  const type = tag & 0x1f;
  if (type !== GENERAL_NAME.directory) return { type, value: content.toString('latin1') };
  const name = readDistinguishedName(content);
  return name && { type, value: name.id };
}

/** UTCTime for the years 1950 to 2049, GeneralizedTime, both in UTC and with seconds (RFC 5280 §4.1.2.5). */
function timeOf({ tag, content }: Der): number | null {
  const text = content.toString('latin1');
  const full = tag === TAG.utcTime ? `${Number(text.slice(0, 2)) < 50 ? '20' : '19'}${text}` : text;
  const fields = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(full);
  if (fields === null || (tag !== TAG.utcTime && tag !== TAG.generalizedTime)) return null;
  const iso = `${fields[1]}-${fields[2]}-${fields[3]}T${fields[4]}:${fields[5]}:${fields[6]}Z`;
  const time = Date.parse(iso);
  // Date.parse moves 30 February into March: what it makes of the text must be the text.
  return Number.isNaN(time) || new Date(time).toISOString() !== iso.replace('Z', '.000Z') ? null : time;
}
