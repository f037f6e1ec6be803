/**
 * Makes certificates for tests, octet by octet, so that every mistake a CA can make can be made here too: wrong flags,
 * wrong signatures, missing extensions, odd times. Keys are made once for a process; only signing costs.
 */
import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

export interface Keys {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly spki: Buffer;
}

export type KeyKind = 'rsa' | 'rsa1024' | 'pss' | 'p256' | 'p384' | 'p521' | 'ed25519' | 'ed448';

const made = new Map<string, Keys>();

/** The key of that kind and name: the same name gives the same key. */
export function keys(name: string, kind: KeyKind = 'p256'): Keys {
  const known = made.get(`${kind} ${name}`);
  if (known) return known;
  const pair = generate(kind);
  const fresh = { ...pair, spki: pair.publicKey.export({ type: 'spki', format: 'der' }) };
  made.set(`${kind} ${name}`, fresh);
  return fresh;
}

function generate(kind: KeyKind): { readonly privateKey: KeyObject; readonly publicKey: KeyObject } {
  switch (kind) {
    case 'rsa':
      return generateKeyPairSync('rsa', { modulusLength: 2048 });
    case 'rsa1024':
      return generateKeyPairSync('rsa', { modulusLength: 1024 });
    case 'pss':
      return generateKeyPairSync('rsa-pss', { modulusLength: 2048 });
    case 'p256':
      return generateKeyPairSync('ec', { namedCurve: 'P-256' });
    case 'p384':
      return generateKeyPairSync('ec', { namedCurve: 'P-384' });
    case 'p521':
      return generateKeyPairSync('ec', { namedCurve: 'P-521' });
    case 'ed25519':
      return generateKeyPairSync('ed25519');
    case 'ed448':
      return generateKeyPairSync('ed448');
  }
}

// DER

export function tlv(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  if (content.length < 0x80) return Buffer.concat([Buffer.from([tag, content.length]), content]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  const shortest = length.subarray(length.findIndex((octet) => octet !== 0));
  return Buffer.concat([Buffer.from([tag, 0x80 + shortest.length]), shortest, content]);
}

export const sequence = (...parts: readonly Buffer[]): Buffer => tlv(0x30, ...parts);

export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const octets = [first * 40 + second, ...rest].flatMap((arc) => {
    const digits = [arc & 0x7f];
    for (let more = Math.floor(arc / 128); more > 0; more = Math.floor(more / 128))
      digits.unshift((more & 0x7f) | 0x80);
    return digits;
  });
  return tlv(0x06, Buffer.from(octets));
}

export function integer(value: number): Buffer {
  const hex = value.toString(16);
  const octets = Buffer.from(hex.length % 2 ? `0${hex}` : hex, 'hex');
  return tlv(0x02, (octets[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), octets]) : octets);
}

/** A name of common names, and of other attributes given as `[oid, text, string tag]`. */
export function name(...attributes: readonly (string | readonly [string, string, number?])[]): Buffer {
  return sequence(
    ...attributes.map((attribute) => {
      const [type, text, tag] = typeof attribute === 'string' ? ['2.5.4.3', attribute, 0x0c] : attribute;
      return tlv(0x31, sequence(oid(type), tlv(tag ?? 0x0c, Buffer.from(text))));
    }),
  );
}

/** Seconds count; years from 2050 on need the longer form. */
export function time(at: number): Buffer {
  const digits = new Date(at).toISOString().replace(/[-:T]|\.\d+/g, '');
  const year = Number(digits.slice(0, 4));
  return year >= 1950 && year < 2050 ? tlv(0x17, Buffer.from(digits.slice(2))) : tlv(0x18, Buffer.from(digits));
}

// Extensions

export function extension(type: string, value: Buffer, critical = false): Buffer {
  return sequence(oid(type), ...(critical ? [Buffer.from('0101ff', 'hex')] : []), tlv(0x04, value));
}

export const subjectKeyId = (spki: Buffer): Buffer => extension('2.5.29.14', tlv(0x04, keyId(spki)));
export const keyId = (spki: Buffer): Buffer => createHash('sha1').update(spki).digest();

/** Bits by number, 0 digitalSignature, 2 keyEncipherment, 5 keyCertSign. */
export function keyUsage(...bits: readonly number[]): Buffer {
  const octets = Buffer.alloc(1);
  for (const bit of bits) octets[0] = (octets[0] ?? 0) | (0x80 >> bit);
  return extension('2.5.29.15', tlv(0x03, Buffer.from([0]), octets), true);
}

export function basicConstraints(ca: boolean, pathLength?: number): Buffer {
  const flag = ca ? [Buffer.from('0101ff', 'hex')] : [];
  return extension('2.5.29.19', sequence(...flag, ...(pathLength === undefined ? [] : [integer(pathLength)])), true);
}

export function extendedKeyUsage(...purposes: readonly string[]): Buffer {
  return extension('2.5.29.37', sequence(...purposes.map(oid)));
}

/** `dns:mx.example`, `email:a@b`, `ip:c0000201`, `uri:http://…`, `dir:Common Name`. */
export function generalName(text: string): Buffer {
  const [kind = '', value = ''] = [text.slice(0, text.indexOf(':')), text.slice(text.indexOf(':') + 1)];
  const tags: Readonly<Record<string, number>> = { email: 0x81, dns: 0x82, uri: 0x86, ip: 0x87, rid: 0x88 };
  if (kind === 'dir') return tlv(0xa4, name(value));
  return tlv(tags[kind] ?? 0x82, kind === 'ip' ? Buffer.from(value, 'hex') : Buffer.from(value, 'latin1'));
}

export const alternativeNames = (...names: readonly string[]): Buffer =>
  extension('2.5.29.17', sequence(...names.map(generalName)));

export function nameConstraints(permitted: readonly string[], excluded: readonly string[] = []): Buffer {
  const subtrees = (tag: number, bases: readonly string[]): Buffer[] =>
    bases.length === 0 ? [] : [tlv(tag, ...bases.map((base) => sequence(generalName(base))))];
  return extension('2.5.29.30', sequence(...subtrees(0xa0, permitted), ...subtrees(0xa1, excluded)), true);
}

export type KeyIdentifier = 'none' | 'keyid' | 'issuer' | 'both' | 'wrong';

/** authorityKeyIdentifier in the forms that occur. */
export function authorityKeyId(form: KeyIdentifier, issuer: Certificate): Buffer[] {
  if (form === 'none') return [];
  const id = tlv(0x80, form === 'wrong' ? Buffer.alloc(20, 7) : keyId(issuer.keys.spki));
  const parts = form === 'issuer' ? [] : [id];
  if (form === 'issuer' || form === 'both') {
    parts.push(tlv(0xa1, tlv(0xa4, issuer.issuerName)), tlv(0x82, integer(issuer.serial).subarray(2)));
  }
  return [extension('2.5.29.35', sequence(...parts))];
}

// Certificates

export interface Certificate {
  readonly der: Buffer;
  readonly keys: Keys;
  readonly subjectName: Buffer;
  readonly issuerName: Buffer;
  readonly serial: number;
}

export type Digest = 'md5' | 'sha1' | 'sha224' | 'sha256' | 'sha384' | 'sha512';

export interface Recipe {
  readonly subject: Buffer;
  readonly keys: Keys;
  /** null for a self-signed certificate. */
  readonly issuer: Certificate | null;
  readonly notBefore?: number;
  readonly notAfter?: number;
  readonly extensions?: readonly Buffer[];
  /** Signs instead of the issuer. */
  readonly signer?: Keys;
  readonly digest?: Digest;
  /** RSA-PSS instead of PKCS #1. */
  readonly pss?: boolean;
  /** 1 leaves out version and extensions. */
  readonly version?: 1 | 3;
  readonly spki?: Buffer;
  readonly issuerName?: Buffer;
  readonly breakSignature?: boolean;
}

/** Days around `NOW`, the moment that tests judge at. */
export const NOW = Date.UTC(2026, 10, 22, 12);
export const DAY = 86_400_000;

let serials = 1000;

export function make(recipe: Recipe): Certificate {
  const { subject, issuer, version = 3, extensions = [] } = recipe;
  const serial = serials++;
  const signer = recipe.signer ?? issuer?.keys ?? recipe.keys;
  const issuerName = recipe.issuerName ?? issuer?.subjectName ?? subject;
  const algorithm = algorithmOf(signer.privateKey, recipe.digest ?? 'sha256', recipe.pss ?? false);
  const tbs = sequence(
    ...(version === 3 ? [tlv(0xa0, integer(2))] : []),
    integer(serial),
    algorithm.identifier,
    issuerName,
    sequence(time(recipe.notBefore ?? NOW - 30 * DAY), time(recipe.notAfter ?? NOW + 60 * DAY)),
    subject,
    recipe.spki ?? recipe.keys.spki,
    ...(version === 3 && extensions.length > 0 ? [tlv(0xa3, sequence(...extensions))] : []),
  );
  const signature = algorithm.sign(tbs);
  if (recipe.breakSignature) signature[signature.length - 1] = (signature.at(-1) ?? 0) ^ 1;
  const der = sequence(tbs, algorithm.identifier, tlv(0x03, Buffer.from([0]), signature));
  return { der, keys: recipe.keys, subjectName: subject, issuerName, serial };
}

const NULL = Buffer.from('0500', 'hex');
const DIGEST_OIDS: Readonly<Record<Digest, string>> = {
  md5: '1.2.840.113549.2.5',
  sha1: '1.3.14.3.2.26',
  sha224: '2.16.840.1.101.3.4.2.4',
  sha256: '2.16.840.1.101.3.4.2.1',
  sha384: '2.16.840.1.101.3.4.2.2',
  sha512: '2.16.840.1.101.3.4.2.3',
};
const RSA_OIDS: Readonly<Record<Digest, string>> = {
  md5: '1.2.840.113549.1.1.4',
  sha1: '1.2.840.113549.1.1.5',
  sha224: '1.2.840.113549.1.1.14',
  sha256: '1.2.840.113549.1.1.11',
  sha384: '1.2.840.113549.1.1.12',
  sha512: '1.2.840.113549.1.1.13',
};
const ECDSA_OIDS: Readonly<Partial<Record<Digest, string>>> = {
  sha1: '1.2.840.10045.4.1',
  sha224: '1.2.840.10045.4.3.1',
  sha256: '1.2.840.10045.4.3.2',
  sha384: '1.2.840.10045.4.3.3',
  sha512: '1.2.840.10045.4.3.4',
};

interface Algorithm {
  readonly identifier: Buffer;
  readonly sign: (tbs: Buffer) => Buffer;
}

function algorithmOf(key: KeyObject, digest: Digest, pss: boolean): Algorithm {
  switch (key.asymmetricKeyType) {
    case 'ed25519':
      return { identifier: sequence(oid('1.3.101.112')), sign: (tbs) => sign(null, tbs, key) };
    case 'ed448':
      return { identifier: sequence(oid('1.3.101.113')), sign: (tbs) => sign(null, tbs, key) };
    case 'ec':
      return { identifier: sequence(oid(ECDSA_OIDS[digest] ?? '')), sign: (tbs) => sign(digest, tbs, key) };
    default: {
      if (!pss && key.asymmetricKeyType === 'rsa') {
        return { identifier: sequence(oid(RSA_OIDS[digest]), NULL), sign: (tbs) => sign(digest, tbs, key) };
      }
      const hash = sequence(oid(DIGEST_OIDS[digest]), NULL);
      const length = createHash(digest).digest().length;
      const parameters = sequence(
        tlv(0xa0, hash),
        tlv(0xa1, sequence(oid('1.2.840.113549.1.1.8'), hash)),
        tlv(0xa2, integer(length)),
      );
      const padding = 6; // RSA_PKCS1_PSS_PADDING
      return {
        identifier: sequence(oid('1.2.840.113549.1.1.10'), parameters),
        sign: (tbs) => sign(digest, tbs, { key, padding, saltLength: length }),
      };
    }
  }
}

export const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
export const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
export const ANY_PURPOSE = '2.5.29.37.0';

/** A good CA, with something changed. */
export function ca(commonName: string, issuer: Certificate | null, change: Partial<Recipe> = {}): Certificate {
  const own = change.keys ?? keys(commonName);
  const extensions = [basicConstraints(true), keyUsage(5, 6), subjectKeyId(own.spki)];
  if (issuer) extensions.push(...authorityKeyId('keyid', issuer));
  return make({ subject: name(commonName), keys: own, issuer, notAfter: NOW + 900 * DAY, extensions, ...change });
}

/** A good certificate of a mail host, with something changed. */
export function leaf(host: string, issuer: Certificate | null, change: Partial<Recipe> = {}): Certificate {
  const own = change.keys ?? keys(host);
  const extensions = [
    basicConstraints(false),
    keyUsage(0, 2),
    extendedKeyUsage(SERVER_AUTH),
    subjectKeyId(own.spki),
    alternativeNames(`dns:${host}`),
  ];
  if (issuer) extensions.push(...authorityKeyId('keyid', issuer));
  return make({ subject: name(host), keys: own, issuer, extensions, ...change });
}

/** The record `U S M` for a certificate, in presentation form. */
export function tlsa(numbers: string, certificate: Certificate, spki = certificate.keys.spki): string {
  const [, selector, matching] = numbers.split(' ');
  const selected = selector === '0' ? certificate.der : spki;
  const data =
    matching === '0'
      ? selected
      : createHash(matching === '1' ? 'sha256' : 'sha512')
          .update(selected)
          .digest();
  return `${numbers} ${data.toString('hex')}`;
}

export function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}
