/**
 * Certificates and public keys out of a file that somebody names on the command line: PEM with any text around the
 * blocks, or one DER certificate. The file may be anything: it is read up to a limit, and what is found is judged by
 * the caller.
 */
import { closeSync, openSync, readSync } from 'node:fs';

/** A block of a PEM file: its label and its octets, null when what stands between the lines is no base64. */
export interface PemBlock {
  readonly label: string;
  readonly octets: Buffer | null;
}

/** Enough for thousands of certificates. */
const FILE_LIMIT = 8 * 1024 * 1024;

/** @throws the error of the file system, or an Error for a file that is larger than any chain */
export function readBlocks(path: string): readonly PemBlock[] {
  const octets = readUpTo(path, FILE_LIMIT);
  if (octets[0] === 0x30 && !octets.includes('-----BEGIN ')) return [{ label: 'CERTIFICATE', octets }];
  return pemBlocks(octets.toString('latin1'));
}

/** Certificates among the blocks, in their order. */
export function certificatesIn(blocks: readonly PemBlock[]): readonly (Buffer | null)[] {
  return blocks.filter(({ label }) => /^(?:X509 )?CERTIFICATE$/.test(label)).map(({ octets }) => octets);
}

function pemBlocks(text: string): readonly PemBlock[] {
  const blocks: PemBlock[] = [];
  for (let at = text.indexOf(BEGIN); at >= 0; at = text.indexOf(BEGIN, at)) {
    const start = at + BEGIN.length;
    const label = /^[A-Z0-9 ]{1,40}(?=-----)/.exec(text.slice(start, start + 50))?.[0];
    at = start;
    if (label === undefined) continue;
    const end = text.indexOf('-----', start + label.length + 5);
    const closed = end >= 0 && text.startsWith(`-----END ${label}-----`, end);
    blocks.push({ label, octets: closed ? base64(text.slice(start + label.length + 5, end)) : null });
    if (end < 0) break;
    at = end;
  }
  return blocks;
}

const BEGIN = '-----BEGIN ';

function base64(text: string): Buffer | null {
  const bare = text.replace(/\s+/g, '');
  return /^[A-Za-z0-9+/]+={0,2}$/.test(bare) && bare.length % 4 === 0 ? Buffer.from(bare, 'base64') : null;
}

function readUpTo(path: string, limit: number): Buffer {
  const file = openSync(path, 'r');
  try {
    const pieces: Buffer[] = [];
    for (let size = 0; ; ) {
      const piece = Buffer.allocUnsafe(65_536);
      const count = readSync(file, piece);
      if (count === 0) return Buffer.concat(pieces);
      pieces.push(piece.subarray(0, count));
      size += count;
      if (size > limit) throw new Error(`the file is larger than ${limit} octets`);
    }
  } finally {
    closeSync(file);
  }
}
