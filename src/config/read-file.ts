/** Reads a small text file to its end, also a pipe or a mounted secret, and never more than a bound. */
import { closeSync, openSync, readSync } from 'node:fs';

export type FileText =
  | { readonly kind: 'text'; readonly text: string }
  /** `absent` when there is no such file. */
  | { readonly kind: 'absent' | 'unreadable'; readonly reason: string };

/** @param atMost octets; a longer file is `unreadable` */
export function readTextFile(path: string, atMost: number): FileText {
  try {
    const bytes = readBounded(path, atMost + 1);
    if (bytes.length > atMost) return { kind: 'unreadable', reason: `it is larger than ${atMost} octets` };
    return { kind: 'text', text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch (error) {
    if (error instanceof TypeError) return { kind: 'unreadable', reason: 'it is not text in UTF-8' };
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return { kind: 'absent', reason: 'there is no such file' };
    return { kind: 'unreadable', reason: REASONS[code ?? ''] ?? String(error) };
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EISDIR: 'it is a folder',
  ELOOP: 'its links go round in circles',
};

function readBounded(path: string, atMost: number): Buffer {
  const file = openSync(path, 'r');
  try {
    const chunks: Buffer[] = [];
    let room = atMost;
    while (room > 0) {
      const chunk = Buffer.alloc(Math.min(room, 65_536));
      const got = readSync(file, chunk);
      if (got === 0) break;
      chunks.push(chunk.subarray(0, got));
      room -= got;
    }
    return Buffer.concat(chunks);
  } finally {
    closeSync(file);
  }
}
