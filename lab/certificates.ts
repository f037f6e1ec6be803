/**
 * Certificates for the lab: a self-signed one, a chain of three, and TLSA records for any of them.
 *
 * All keys are P-256. Validity starts an hour ago, so that clocks that differ a little do no harm.
 */
import 'reflect-metadata';
import { createHash, randomBytes, type webcrypto } from 'node:crypto';
import {
  BasicConstraintsExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const HOUR = 3_600_000;
const YEAR = 365 * 24 * HOUR;

/** A certificate with its private key and everything that is sent along with it. */
export interface Identity {
  readonly certificate: X509Certificate;
  readonly keys: webcrypto.CryptoKeyPair;
  /** The certificate and its issuers as sent in the handshake, leaf first, in PEM. */
  readonly chain: string;
  /** Private key, PKCS #8 in PEM. */
  readonly key: string;
}

interface Wishes {
  readonly commonName: string;
  /** dNSNames of the certificate; none for an authority. */
  readonly names: readonly string[];
  readonly issuer: Identity | null;
  readonly authority: boolean;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** A certificate that signs itself, for the names given, as mail servers with DANE-EE have. */
export function selfSigned(...names: readonly [string, ...string[]]): Promise<Identity> {
  return make({ ...validNow(), commonName: names[0], names, issuer: null, authority: false });
}

/** Leaf, intermediate and root; the leaf is for `names` and may be one whose time is over. */
export async function chainOfThree(
  names: readonly [string, ...string[]],
  { expired = false } = {},
): Promise<{ readonly leaf: Identity; readonly root: Identity }> {
  const root = await make({ ...validNow(), commonName: 'Lab Root', names: [], issuer: null, authority: true });
  const between = await make({ ...validNow(), commonName: 'Lab Issuer', names: [], issuer: root, authority: true });
  const validity = expired ? { notBefore: ago(48 * HOUR), notAfter: ago(24 * HOUR) } : validNow();
  const leaf = await make({ ...validity, commonName: names[0], names, issuer: between, authority: false });
  return { leaf, root };
}

/** An authority of the kind that everybody believes, for the world of one lab. */
export function publicAuthority(): Promise<Identity> {
  return make({ ...validNow(), commonName: 'Lab Public Authority', names: [], issuer: null, authority: true });
}

/** A certificate straight under an authority of ours, with a common name and any names besides. */
export function leafUnder(root: Identity, commonName: string, names: readonly string[]): Promise<Identity> {
  return make({ ...validNow(), commonName, names, issuer: root, authority: false });
}

/** The text of a TLSA record for a certificate (RFC 6698 §2.1). */
export function tlsaFor(usage: number, selector: 0 | 1, matching: 0 | 1 | 2, { certificate }: Identity): string {
  const octets = Buffer.from(selector === 0 ? certificate.rawData : certificate.publicKey.rawData);
  const data =
    matching === 0
      ? octets
      : createHash(matching === 1 ? 'sha256' : 'sha512')
          .update(octets)
          .digest();
  return `${usage} ${selector} ${matching} ${data.toString('hex')}`;
}

/** The pin of a certificate's key in the notation of the configuration: `sha256/…=`. */
export function pinOf({ certificate }: Identity): string {
  return `sha256/${createHash('sha256').update(Buffer.from(certificate.publicKey.rawData)).digest('base64')}`;
}

async function make({ commonName, names, issuer, authority, notBefore, notAfter }: Wishes): Promise<Identity> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const extensions: Extension[] = [new BasicConstraintsExtension(authority, undefined, true)];
  if (authority) extensions.push(new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true));
  if (names.length > 0) {
    extensions.push(new SubjectAlternativeNameExtension(names.map((value) => ({ type: 'dns', value }))));
  }
  const certificate = await X509CertificateGenerator.create({
    serialNumber: `4${randomBytes(9).toString('hex').slice(1)}`,
    subject: `CN=${commonName}`,
    issuer: issuer ? issuer.certificate.subject : `CN=${commonName}`,
    notBefore,
    notAfter,
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: (issuer?.keys ?? keys).privateKey,
    extensions,
  });
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  const key = `-----BEGIN PRIVATE KEY-----\n${pkcs8.replace(/.{64}(?=.)/g, '$&\n')}\n-----END PRIVATE KEY-----\n`;
  return { certificate, keys, chain: `${certificate.toString('pem')}\n${issuer?.chain ?? ''}`, key };
}

function validNow(): { notBefore: Date; notAfter: Date } {
  return { notBefore: ago(HOUR), notAfter: new Date(Date.now() + YEAR) };
}

function ago(milliseconds: number): Date {
  return new Date(Date.now() - milliseconds);
}
