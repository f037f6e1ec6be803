/**
 * Signatures on certificates: whether one key made them, and whether their algorithm and keys are strong enough.
 * OpenSSL, through node:crypto, does the arithmetic and reads the parameters of the algorithms.
 */
import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import { type Certificate, publicKeyAlgorithm } from './certificate.ts';
import { oidOf, readDer, readElements, readInside } from './der.ts';

/** True when the key in `spki` made the signature on `certificate`. */
export function isSignedBy({ raw }: Certificate, spki: Buffer): boolean {
  const key = readPublicKey(spki);
  if (key === null || !isAffordable(key)) return false;
  try {
    return new X509Certificate(raw).verify(key);
  } catch {
    return false;
  }
}

/** A hostile RSA key can make one verification cost a hundred times what an honest one does. */
function isAffordable({ asymmetricKeyDetails }: KeyObject): boolean {
  const { modulusLength = 0, publicExponent = 0n } = asymmetricKeyDetails ?? {};
  return modulusLength <= 16_384 && publicExponent < 2n ** 64n;
}

/** What one verification with a key costs, next to one of 4096 bits: arithmetic grows with the square of the length. */
export function priceOf(spki: Buffer): number {
  const bits = readPublicKey(spki)?.asymmetricKeyDetails?.modulusLength ?? 0;
  return Math.max(1, Math.ceil((bits / 4096) ** 2));
}

/**
 * The key in exactly one SubjectPublicKeyInfo; null when its algorithm is not supported or it is malformed. Reading a
 * key costs as much as verifying with it, so the same octets are read once.
 */
export function readPublicKey(spki: Buffer): KeyObject | null {
  const known = read.get(spki);
  if (known !== undefined) return known;
  const key = publicKeyAlgorithm(spki) === null ? null : decode(spki);
  read.set(spki, key);
  return key;
}

const read = new WeakMap<Buffer, KeyObject | null>();

function decode(spki: Buffer): KeyObject | null {
  try {
    return createPublicKey({ key: spki, format: 'der', type: 'spki' });
  } catch {
    return null;
  }
}

/**
 * Whether a key is as strong as OpenSSL's security level 2 asks for, the level of current systems: 112 bits, which is
 * RSA and DSA of 2048 bits and curves of 224.
 */
export function isStrongKey(spki: Buffer): boolean {
  const key = readPublicKey(spki);
  const details = key?.asymmetricKeyDetails;
  switch (key?.asymmetricKeyType) {
    case 'rsa':
    case 'rsa-pss':
    case 'dsa':
      return (details?.modulusLength ?? 0) >= 2048;
    case 'ec':
      return STRONG_CURVES.has(details?.namedCurve ?? '');
    case 'ed25519':
    case 'ed448':
      return true;
    default:
      return false;
  }
}

const STRONG_CURVES: ReadonlySet<string> = new Set([
  'secp224r1',
  'prime256v1',
  'secp384r1',
  'secp521r1',
  'secp256k1',
  'brainpoolP256r1',
  'brainpoolP384r1',
  'brainpoolP512r1',
]);

const WEAK_DIGESTS: Readonly<Record<string, string>> = {
  '1.2.840.113549.2.2': 'MD2',
  '1.2.840.113549.2.5': 'MD5',
  '1.3.14.3.2.26': 'SHA-1',
};

const WEAK_SIGNATURES: Readonly<Record<string, string>> = {
  '1.2.840.113549.1.1.2': 'MD2',
  '1.2.840.113549.1.1.3': 'MD4',
  '1.2.840.113549.1.1.4': 'MD5',
  '1.2.840.113549.1.1.5': 'SHA-1',
  '1.3.14.3.2.29': 'SHA-1',
  '1.3.36.3.3.1.2': 'RIPEMD-160',
  '1.2.840.10040.4.3': 'SHA-1',
  '1.2.840.10045.4.1': 'SHA-1',
};

const RSA_PSS = '1.2.840.113549.1.1.10';

/** Name of the weak digest that a signature was made over, null when it is none (RFC 9155 §2). */
export function weakDigest({ algorithm }: Certificate): string | null {
  const [type, parameters] = readInside(algorithm) ?? [];
  if (type === undefined) return 'an unreadable digest';
  const oid = oidOf(type);
  if (oid === RSA_PSS) return weakPssDigest(parameters?.content ?? Buffer.alloc(0));
  return Object.hasOwn(WEAK_SIGNATURES, oid) ? (WEAK_SIGNATURES[oid] ?? null) : null;
}

/** The hash is SHA-1 where the parameters leave it out (RFC 4055 §3.1). */
function weakPssDigest(parameters: Buffer): string | null {
  const field = readElements(parameters)?.find(({ tag }) => tag === 0xa0);
  const algorithm = field && readDer(field.content);
  const [type] = algorithm ? (readElements(algorithm.content) ?? []) : [];
  if (type === undefined) return 'SHA-1';
  const oid = oidOf(type);
  return Object.hasOwn(WEAK_DIGESTS, oid) ? (WEAK_DIGESTS[oid] ?? null) : null;
}
