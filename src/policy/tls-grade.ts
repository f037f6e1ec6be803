/**
 * How good the TLS of a connection is, after the guidelines for TLS of the Dutch NCSC (version 2025-05): good,
 * sufficient, phase-out, insufficient. docs/tls-grades.md has the table with its sources and what of it is to be checked.
 *
 * Pure: what was negotiated goes in, a grade comes out; the worst part decides. What no list names is insufficient. The
 * signature on the certificate has a grade of its own, which decides nothing: under DANE it does not count
 * (RFC 7672 §3.1.1), and elsewhere the TLS library refuses weak ones.
 */
import type { Grading, TlsFacts, TlsGrade } from '../model/delivery.ts';
import { remembered } from '../shared/remembered.ts';
import { readCertificate } from './dane/certificate.ts';
import { oidOf, readInside } from './dane/der.ts';
import { readPublicKey, weakDigest } from './dane/signature.ts';

type List = Readonly<Record<Exclude<TlsGrade, 'insufficient'>, readonly string[]>>;

const VERSION: List = { good: ['TLSv1.3'], sufficient: ['TLSv1.2'], 'phase-out': [] };

/** As OpenSSL names them; a finite field by its size. */
const GROUP: List = {
  good: ['X25519MLKEM768', 'SecP256r1MLKEM768', 'SecP384r1MLKEM1024', 'MLKEM768', 'MLKEM1024'],
  sufficient: [
    'X25519',
    'X448',
    'prime256v1',
    'secp384r1',
    'secp521r1',
    'brainpoolP256r1',
    'brainpoolP384r1',
    'brainpoolP512r1',
    'brainpoolP256r1tls13',
    'brainpoolP384r1tls13',
    'brainpoolP512r1tls13',
  ],
  'phase-out': [
    'secp224r1',
    'ffdhe3072',
    'ffdhe4096',
    'ffdhe6144',
    'ffdhe8192',
    'DH 3072',
    'DH 4096',
    'DH 6144',
    'DH 8192',
  ],
};

/** In the name of a suite of TLS 1.2; the group has a grade besides. */
const KEY_EXCHANGE: List = { good: [], sufficient: ['ECDHE'], 'phase-out': ['DHE'] };
const AUTHENTICATION: List = { good: [], sufficient: ['ECDSA', 'RSA'], 'phase-out': [] };

const BULK: List = {
  good: ['AES_256_GCM', 'CHACHA20_POLY1305'],
  sufficient: ['AES_128_GCM', 'AES_256_CCM', 'AES_128_CCM'],
  'phase-out': [
    'AES_256_CBC',
    'AES_128_CBC',
    'CAMELLIA_256_GCM',
    'CAMELLIA_128_GCM',
    'CAMELLIA_256_CBC',
    'CAMELLIA_128_CBC',
    'ARIA_256_GCM',
    'ARIA_128_GCM',
    'ARIA_256_CBC',
    'ARIA_128_CBC',
  ],
};

/** `none` where the name has none: the suites with AES-CCM, which mean SHA-256. */
const HASH: List = { good: ['SHA512', 'SHA384', 'SHA256', 'none'], sufficient: [], 'phase-out': ['SHA224'] };

const KEY: List = {
  good: ['ml-dsa-44', 'ml-dsa-65', 'ml-dsa-87'],
  sufficient: [
    'RSA 3072',
    'prime256v1',
    'secp384r1',
    'secp521r1',
    'brainpoolP256r1',
    'brainpoolP384r1',
    'brainpoolP512r1',
    'ed25519',
    'ed448',
  ],
  'phase-out': ['RSA 2048', 'secp224r1'],
};

/** By object identifier; RSA-PSS by its digest. */
const SIGNATURE: List = {
  good: [],
  sufficient: [
    '1.2.840.113549.1.1.11',
    '1.2.840.113549.1.1.12',
    '1.2.840.113549.1.1.13',
    '1.2.840.113549.1.1.10',
    '1.2.840.10045.4.3.2',
    '1.2.840.10045.4.3.3',
    '1.2.840.10045.4.3.4',
    '1.3.101.112',
    '1.3.101.113',
  ],
  'phase-out': ['1.2.840.113549.1.1.14', '1.2.840.10045.4.3.1'],
};

const WORST_FIRST: readonly TlsGrade[] = ['insufficient', 'phase-out', 'sufficient', 'good'];

function gradeIn(list: List, value: string): TlsGrade {
  if (list.good.includes(value)) return 'good';
  if (list.sufficient.includes(value)) return 'sufficient';
  return list['phase-out'].includes(value) ? 'phase-out' : 'insufficient';
}

/** @param leaf DER of the server's own certificate; undefined when it sent none */
export function gradeTls({ version, cipher, group }: TlsFacts, leaf: Buffer | undefined): Grading {
  const [, exchange, authentication, bulk = cipher, hash = 'none'] = SUITE.exec(cipher) ?? [];
  const parts: readonly (readonly [string, TlsGrade])[] = [
    [version, gradeIn(VERSION, version)],
    // In TLS 1.2 the suite says whether there is a group; in TLS 1.3 there always is.
    ...(group === null && exchange?.endsWith('DHE') === false
      ? []
      : [part('key exchange in', GROUP, group ?? 'an unknown group')]),
    ...(exchange === undefined ? [] : [part('key exchange by', KEY_EXCHANGE, exchange)]),
    ...(exchange === undefined ? [] : [part('authentication by', AUTHENTICATION, authentication ?? exchange)]),
    part('encryption with', BULK, bulk),
    part('the hash', HASH, hash === 'SHA' ? 'SHA1' : hash),
    part('a key', KEY, leaf === undefined ? 'of nobody' : keyName(leaf)),
  ];
  const grade = WORST_FIRST.find((each) => parts.some(([, its]) => its === each)) ?? 'insufficient';
  return { grade, because: parts.filter(([, its]) => its === grade).map(([what]) => what) };
}

/** `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`, or without the exchange in TLS 1.3 (IANA, TLS Cipher Suites). */
const SUITE = /^TLS_(?:([^_]+)(?:_(.+?))?_WITH_)?(.+?)(?:_(SHA\d*|MD5|SM3))?$/;

function part(what: string, list: List, value: string): readonly [string, TlsGrade] {
  return [`${what} ${value}`, gradeIn(list, value)];
}

/**
 * The key in a certificate, as the list has it: RSA by the step of the list that it reaches. To read a key is a tenth of
 * what a connection costs.
 */
const keyName = remembered(1000, (leaf): string => {
  const certificate = readCertificate(leaf);
  const key = certificate && readPublicKey(certificate.spki);
  if (!key) return 'that cannot be read';
  const { modulusLength = 0, namedCurve } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'rsa':
    case 'rsa-pss':
      return `RSA ${[3072, 2048].find((bits) => modulusLength >= bits) ?? modulusLength}`;
    case 'ec':
      return namedCurve ?? 'of an unknown curve';
    default:
      return key.asymmetricKeyType ?? 'of an unknown kind';
  }
});

/** Grades of the key in a certificate and of the signature on it. */
export function gradeCertificate(raw: Buffer): { readonly key: TlsGrade; readonly signature: TlsGrade } {
  const certificate = readCertificate(raw);
  if (certificate === null) return { key: 'insufficient', signature: 'insufficient' };
  const [type] = readInside(certificate.algorithm) ?? [];
  const known = type === undefined || weakDigest(certificate) !== null ? '' : oidOf(type);
  return { key: gradeIn(KEY, keyName(raw)), signature: gradeIn(SIGNATURE, known) };
}
