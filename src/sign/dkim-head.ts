/**
 * The header section of a message that comes in pieces, and its fields. What follows the empty line is handed on, so that
 * a message is read once and only its header is kept.
 */
import type { Field } from './dkim-canonical.ts';

/** Octets of a header section that are kept. Beyond that nothing is made of a message. */
const HEAD_OCTETS = 1024 * 1024;

const EMPTY_LINE = Buffer.from('\r\n\r\n');
const CRLF = EMPTY_LINE.subarray(0, 2);

export class HeadReader {
  #pieces: Buffer[] = [];
  #size = 0;
  #state: 'reading' | 'whole' | 'too-long' = 'reading';

  get state(): 'reading' | 'whole' | 'too-long' {
    return this.#state;
  }

  /** Takes what belongs to the header. @returns what comes after it; empty as long as the header goes on */
  push(piece: Buffer): Buffer {
    if (this.#state !== 'reading') return piece;
    const overlap = this.#last(EMPTY_LINE.length - 1);
    const seen = overlap.length === 0 ? piece : Buffer.concat([overlap, piece]);
    // A message that begins with an empty line has no header at all.
    const atStart = this.#size < CRLF.length && this.#size === overlap.length && seen.indexOf(CRLF) === 0;
    const end = atStart ? 0 : seen.indexOf(EMPTY_LINE);
    if (end < 0) {
      this.#keep(piece);
      return Buffer.alloc(0);
    }
    const length = end + (atStart ? CRLF.length : EMPTY_LINE.length) - overlap.length;
    this.#keep(piece.subarray(0, length));
    if (this.#state === 'reading') this.#state = 'whole';
    return piece.subarray(length);
  }

  /** The fields in their order; lines that are none are left out. A header without an empty line after it counts too. */
  fields(): readonly Field[] {
    const lines = Buffer.concat(this.#pieces).toString('latin1').split('\r\n');
    const written: string[][] = [];
    for (const line of lines) {
      const folded = line.startsWith(' ') || line.startsWith('\t');
      if (folded) written.at(-1)?.push(line);
      else written.push([line]);
    }
    return written.flatMap((parts) => {
      const [, name, value] = /^([!-9;-~]+)[ \t]*:(.*)$/s.exec(parts.join('\r\n')) ?? [];
      return name === undefined || value === undefined ? [] : [{ name, value }];
    });
  }

  #keep(piece: Buffer): void {
    this.#size += piece.length;
    if (this.#size > HEAD_OCTETS) {
      this.#state = 'too-long';
      this.#pieces = [];
    } else this.#pieces.push(piece);
  }

  #last(count: number): Buffer {
    let tail = Buffer.alloc(0);
    for (let i = this.#pieces.length - 1; i >= 0 && tail.length < count; i--) {
      const piece = this.#pieces[i];
      if (piece) tail = Buffer.concat([piece.subarray(-count), tail]).subarray(-count);
    }
    return tail;
  }
}

/** The values of all fields of a name; upper and lower case are one. */
export function valuesOf(fields: readonly Field[], name: string): readonly string[] {
  return fields.filter((field) => field.name.toLowerCase() === name).map(({ value }) => value);
}
