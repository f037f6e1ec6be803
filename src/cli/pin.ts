/**
 * `pin`: prints what a certificate or public key is pinned by, in every notation that the recipes of docs/smarthost.md
 * use, so that nobody has to turn one into another.
 */
import { createHash, createPublicKey } from 'node:crypto';
import { Command } from 'commander';
import { spkiOf } from '../shared/spki.ts';
import { certificatesIn, type PemBlock } from './certificate-file.ts';
import { readSource, sayMissing } from './certificate-source.ts';

/** What `--json` prints. Hexadecimal is lower case, except where the other program writes it otherwise. */
interface Pins {
  /** For `clients[].pins` of this relay. */
  readonly pin: string;
  readonly spki: {
    readonly sha256: string;
    /** `smtp_tls_fingerprint_cert_match` and the like of Postfix. */
    readonly postfix: string;
    readonly tlsa: string;
  };
  /** null for a bare public key. */
  readonly certificate: {
    readonly sha256: string;
    readonly postfix: string;
    /** SHA-1 as Windows and Exchange show it: a name for the certificate, not a proof of it. */
    readonly thumbprint: string;
  } | null;
}

export function pinCommand(): Command {
  return new Command('pin')
    .description('print the pins of a certificate in every notation that the recipes use')
    .argument('<PEM|HOST:PORT>', 'a file with a certificate or a public key, or a server to dial')
    .option('--json', 'print one JSON document')
    .action(async (argument: string, options: { readonly json?: boolean }) => {
      const source = await readSource(argument);
      if (source === null) return;
      const pins = pinsOf(source.blocks);
      if (typeof pins === 'string') return void sayMissing(`${argument}: ${pins}`);
      process.stdout.write(options.json ? `${JSON.stringify(pins, null, 2)}\n` : textOf(pins));
      process.exitCode = 0;
    });
}

/** The pins of the first certificate, or else of the first public key; in words what is missing. */
function pinsOf(blocks: readonly PemBlock[]): Pins | string {
  const [certificate] = certificatesIn(blocks);
  const key = blocks.find(({ label }) => label === 'PUBLIC KEY');
  if (certificate === undefined && key === undefined) {
    const secret = blocks.some(({ label }) => label.endsWith('PRIVATE KEY'));
    return secret
      ? 'this is a private key; give its certificate or public key'
      : 'there is no certificate or public key';
  }
  const spki = certificate
    ? spkiOf(certificate)
    : certificate === undefined && key?.octets
      ? checked(key.octets)
      : null;
  if (spki === null) return certificate === undefined ? 'this is no public key' : 'this is no certificate';
  const hash = (algorithm: 'sha1' | 'sha256', octets: Buffer): Buffer => createHash(algorithm).update(octets).digest();
  const keyDigest = hash('sha256', spki);
  return {
    pin: `sha256/${keyDigest.toString('base64')}`,
    spki: {
      sha256: keyDigest.toString('hex'),
      postfix: colons(keyDigest),
      tlsa: `3 1 1 ${keyDigest.toString('hex')}`,
    },
    certificate: certificate
      ? {
          sha256: hash('sha256', certificate).toString('hex'),
          postfix: colons(hash('sha256', certificate)),
          thumbprint: hash('sha1', certificate).toString('hex').toUpperCase(),
        }
      : null,
  };
}

/** A PEM block calls itself a public key: it must be one, and nothing behind it. */
function checked(octets: Buffer): Buffer | null {
  try {
    createPublicKey({ key: octets, format: 'der', type: 'spki' });
    return octets;
  } catch {
    return null;
  }
}

function colons(digest: Buffer): string {
  return (digest.toString('hex').toUpperCase().match(/../g) ?? []).join(':');
}

function textOf({ pin, spki, certificate }: Pins): string {
  const lines = [
    ['public key', ''],
    ['  dane-relay', pin],
    ['  SHA-256', spki.sha256],
    ['  Postfix', spki.postfix],
    ['  TLSA', spki.tlsa],
  ];
  if (certificate) {
    lines.push(
      ['certificate', ''],
      ['  SHA-256', certificate.sha256],
      ['  Postfix', certificate.postfix],
      ['  thumbprint', `${certificate.thumbprint} (SHA-1, as Windows and Exchange show it)`],
    );
  }
  return `${lines.map(([name = '', value = '']) => `${name.padEnd(14)}${value}`.trimEnd()).join('\n')}\n`;
}
