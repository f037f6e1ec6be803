/**
 * The relay's own certificate: made at first start, kept for long, so that a mail server can pin it.
 *
 * It is self-signed on purpose. Clients recognise it by its pin, so nothing would be gained by a name that others sign.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto';
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { spkiPin } from '../shared/spki.ts';

export interface CertificatePlace {
  /** Paths, relative ones to `dir`. */
  readonly certPath: string;
  readonly keyPath: string;
  readonly dir: string;
  /** Name in the certificate, when one must be made. */
  readonly hostname: string;
}

export interface OwnCertificate {
  /** Chain in PEM, our own certificate first. */
  readonly cert: string;
  readonly key: string;
  /** SPKI pin, `sha256/…=`. */
  readonly pin: string;
  /** True when it was made just now. */
  readonly made: boolean;
}

/** What is wrong with the files, in one sentence for an administrator. */
export class CertificateError extends Error {
  override readonly name = 'CertificateError';
}

const YEARS = 25;

/** @throws CertificateError when there are files that cannot be used, or none can be made */
export async function loadOrMakeCertificate(place: CertificatePlace): Promise<OwnCertificate> {
  const certPath = resolve(place.dir, place.certPath);
  const keyPath = resolve(place.dir, place.keyPath);
  const [cert, key] = await Promise.all([textOf(certPath), textOf(keyPath)]);
  if (cert !== null && key !== null) {
    await checkMode(keyPath);
    return { cert, key, pin: pinOf(cert, certPath, key, keyPath), made: false };
  }
  if (cert !== null) throw new CertificateError(`${certPath} is there and its key ${keyPath} is not`);
  if (key !== null) throw new CertificateError(`${keyPath} is there and its certificate ${certPath} is not`);

  const made = selfSigned(place.hostname, Date.now());
  try {
    // The key first: a certificate alone could be pinned by somebody before it turns out to be useless.
    await writeSafely(keyPath, made.key, 0o600);
    await writeSafely(certPath, made.cert, 0o644);
  } catch (error) {
    throw new CertificateError(`the certificate could not be written: ${messageOf(error)}`);
  }
  return { ...made, pin: pinOf(made.cert, certPath, made.key, keyPath), made: true };
}

/** A new P-256 key and an X.509 v3 certificate for it (RFC 5280), signed by itself. */
function selfSigned(hostname: string, now: number): { readonly cert: string; readonly key: string } {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const from = new Date(now - 24 * 3600 * 1000);
  const until = new Date(now);
  until.setUTCFullYear(until.getUTCFullYear() + YEARS);

  const algorithm = sequence(oid([1, 2, 840, 10045, 4, 3, 2]));
  // commonName has room for 64 characters (RFC 5280 §A.1); the name that counts is the SAN.
  const common = hostname.length <= 64 ? hostname : 'dane-relay';
  const name = sequence(der(0x31, sequence(oid([2, 5, 4, 3]), der(0x0c, Buffer.from(common)))));
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  const extensions = sequence(
    extension([2, 5, 29, 19], true, sequence()),
    extension([2, 5, 29, 15], true, der(0x03, Buffer.from([7, 0x80]))),
    extension([2, 5, 29, 37], false, sequence(oid([1, 3, 6, 1, 5, 5, 7, 3, 1]), oid([1, 3, 6, 1, 5, 5, 7, 3, 2]))),
    extension([2, 5, 29, 17], false, sequence(der(0x82, Buffer.from(hostname)))),
  );
  const tbs = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    algorithm,
    name,
    sequence(time(from), time(until)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, extensions),
  );
  const signature = sign('sha256', tbs, privateKey);
  const certificate = sequence(tbs, algorithm, der(0x03, Buffer.from([0]), signature));
  const base64 = certificate.toString('base64').replace(/.{1,64}/g, '$&\n');
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${base64}-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

function pinOf(cert: string, certPath: string, key: string, keyPath: string): string {
  let certificate: X509Certificate;
  let privateKey: KeyObject;
  try {
    certificate = new X509Certificate(cert);
  } catch (error) {
    throw new CertificateError(`${certPath} is no certificate in PEM: ${messageOf(error)}`);
  }
  try {
    privateKey = createPrivateKey(key);
  } catch (error) {
    throw new CertificateError(`${keyPath} is no private key in PEM without a password: ${messageOf(error)}`);
  }
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new CertificateError(`${keyPath} is not the key of the first certificate in ${certPath}`);
  }
  const pin = spkiPin(certificate.raw);
  if (pin === null) throw new CertificateError(`${certPath} is no certificate that can be read`);
  return pin;
}

/** The group may read a key that others installed; the world may not, and nobody else may write it. */
async function checkMode(keyPath: string): Promise<void> {
  const mode = (await stat(keyPath)).mode & 0o777;
  if ((mode & 0o027) === 0) return;
  const octal = mode.toString(8).padStart(4, '0');
  throw new CertificateError(`${keyPath} can be read or changed by others (mode ${octal}): run chmod 600 ${keyPath}`);
}

async function textOf(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw new CertificateError(`${path} cannot be read: ${messageOf(error)}`);
  }
}

async function writeSafely(path: string, text: string, mode: number): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.new`;
  await rm(temporary, { force: true });
  const file = await open(temporary, 'wx', mode);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const long = content.length < 256 ? [0x81, content.length] : [0x82, content.length >> 8, content.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...(content.length < 128 ? [content.length] : long)]), content]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, ...parts);
}

function oid([first = 0, second = 0, ...rest]: readonly number[]): Buffer {
  return der(0x06, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]));
}

function base128(value: number): number[] {
  const digits = [value & 0x7f];
  for (let left = value >> 7; left > 0; left >>= 7) digits.unshift((left & 0x7f) | 0x80);
  return digits;
}

function extension(id: readonly number[], critical: boolean, value: Buffer): Buffer {
  const flag = critical ? [der(0x01, Buffer.from([0xff]))] : [];
  return sequence(oid(id), ...flag, der(0x04, value));
}

/** UTCTime until 2049, GeneralizedTime from 2050 on (RFC 5280 §4.1.2.5). */
function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/[-:T]|\.\d+/g, '');
  return date.getUTCFullYear() < 2050 ? der(0x17, Buffer.from(digits.slice(2))) : der(0x18, Buffer.from(digits));
}
