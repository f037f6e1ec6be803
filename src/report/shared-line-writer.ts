/**
 * Lines of one of several processes that write to the same place. Up to PIPE_BUF octets a pipe takes as a whole
 * (POSIX.1, write); a longer line could be torn by that of another process, so the longest texts in it are cut until it
 * fits. A file takes lines of any length: its writers share one position in it.
 */
import { fstatSync } from 'node:fs';
import { createLineWriter, type LineWriter } from './line-writer.ts';

const PIPE_BUF = 4_096;
const CUT = '… (cut)';

export function createSharedLineWriter(fd: 1 | 2): LineWriter {
  const writer = createLineWriter(fd);
  if (!fstatSync(fd).isFIFO()) return writer;
  return { write: (line) => writer.write(Buffer.byteLength(line) <= PIPE_BUF ? line : shortened(line)) };
}

/** @param line  one JSON object and a newline */
export function shortened(line: string): string {
  const fields = JSON.parse(line) as Record<string, unknown>;
  for (let most = PIPE_BUF / 2; most > 16; most /= 2) {
    const text = `${JSON.stringify(fields, (_, value: unknown) => cut(value, most))}\n`;
    if (Buffer.byteLength(text) <= PIPE_BUF) return text;
  }
  const { level, time, worker, msg } = fields;
  return `${JSON.stringify({ level, time, worker, msg: cut(msg, PIPE_BUF / 8) })}\n`;
}

function cut(value: unknown, most: number): unknown {
  return typeof value === 'string' && value.length > most + CUT.length ? `${value.slice(0, most)}${CUT}` : value;
}
