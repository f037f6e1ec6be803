/**
 * Reads a private key for DKIM from a file, or says in words why it must not be used: one that others could have read,
 * one too weak to count (RFC 8301 §3.2), or one of a kind that DKIM does not know.
 */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { messageOf } from '../shared/message-of.ts';
import type { Algorithm } from './dkim-signature.ts';

export type KeyReading =
  | {
      readonly ok: true;
      readonly key: KeyObject;
      readonly algorithm: Algorithm;
      /** When the file was written, in milliseconds since the epoch. */
      readonly since: number;
    }
  | { readonly ok: false; readonly why: string };

/** RFC 8301 §3.2: less than 1024 is worthless, less than 2048 better not; verifiers need not know more than 4096. */
const RSA_BITS = { least: 2048, most: 4096 } as const;
const FILE_OCTETS = 64 * 1024;

/** Bits of a mode that let others in. The group may read a key that an administrator installed. */
export const FORBIDDEN_MODE = { own: 0o077, installed: 0o027 } as const;

/** @param whose  `own`: the relay made it; `installed`: the configuration names it */
export async function readKeyFile(path: string, whose: keyof typeof FORBIDDEN_MODE): Promise<KeyReading> {
  const wrong = (why: string): KeyReading => ({ ok: false, why: `${path} ${why}` });
  try {
    // A pipe must not keep anybody waiting for who writes into it.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { mode, size, mtimeMs } = await file.stat();
    if ((mode & 0o170000) !== 0o100000) return wrong('is not a file');
    if ((mode & FORBIDDEN_MODE[whose]) !== 0) {
      const octal = (mode & 0o777).toString(8).padStart(4, '0');
      return wrong(`can be read or changed by others (mode ${octal}): run chmod 600 ${path}`);
    }
    if (size > FILE_OCTETS) return wrong('is too large for a key');
    const reading = readKey(await file.readFile('latin1'), mtimeMs);
    return reading.ok ? reading : wrong(reading.why);
  } catch (error) {
    return wrong(`cannot be read: ${messageOf(error)}`);
  }
}

function readKey(pem: string, since: number): KeyReading {
  const wrong = (why: string): KeyReading => ({ ok: false, why });
  if (/^-----BEGIN ENCRYPTED |^Proc-Type: 4,ENCRYPTED/m.test(pem)) {
    return wrong('is encrypted, and nobody is there to give a password when the relay starts');
  }
  if (!/^-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----/m.test(pem)) return wrong('holds no private key in PEM');
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    return wrong('holds no private key that can be read');
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === 'ed25519') return { ok: true, key, algorithm: 'ed25519-sha256', since };
  if (type !== 'rsa') {
    const curve = details?.namedCurve === undefined ? '' : ` (${details.namedCurve})`;
    return wrong(`holds a key of the kind ${type ?? 'unknown'}${curve}; DKIM knows RSA and Ed25519`);
  }
  const bits = details?.modulusLength ?? 0;
  if (bits < RSA_BITS.least) return wrong(`holds an RSA key of ${bits} bits; at least ${RSA_BITS.least} are needed`);
  if (bits > RSA_BITS.most)
    return wrong(`holds an RSA key of ${bits} bits; many receivers know ${RSA_BITS.most} at most`);
  return { ok: true, key, algorithm: 'rsa-sha256', since };
}
