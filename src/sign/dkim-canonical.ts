/**
 * The "relaxed" form of header fields and bodies, which is what a DKIM signature covers (RFC 6376 §3.4.2, §3.4.4).
 *
 * A body is hashed as it streams through: what is kept of it does not grow with its size. Whether two messages are the
 * same in this form is all that is answered here; nothing is signed.
 */
import { createHash } from 'node:crypto';

/** One header field, octet for octet as characters (latin1): `name` as it was written, `value` after the colon. */
export interface Field {
  readonly name: string;
  /** With its folds, without the CRLF at its end. */
  readonly value: string;
}

/** `name:value` on one line, without a CRLF at its end (RFC 6376 §3.4.2). */
export function relaxedField({ name, value }: Field): string {
  const onOneLine = value.replaceAll('\r\n', '').replace(/[ \t]+/g, ' ');
  const from = onOneLine.startsWith(' ') ? 1 : 0;
  const to = onOneLine.endsWith(' ') ? onOneLine.length - 1 : onOneLine.length;
  return `${name.toLowerCase()}:${onOneLine.slice(from, Math.max(from, to))}`;
}

const TAB = 0x09;
const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
/** Octets that are looked at in one go. */
const SLICE = 16 * 1024;
/** Newlines that are written one by one; more of them go straight to the hash. */
const FEW = 8;
const MANY_NEWLINES = Buffer.from('\r\n'.repeat(4096));

/** SHA-256 over the relaxed form of a body that comes in pieces. */
export class RelaxedBodyHash {
  readonly #hash = createHash('sha256');
  /** Whether anything was hashed: a body without content is hashed as no octets at all. */
  #begun = false;
  /** Spaces and tabs that count only when something follows on their line. */
  #space = false;
  /** Ends of lines that count only when something follows in the body. */
  #newlines = 0;
  /** What one look gives; the hash has taken it before the next. */
  readonly #out = Buffer.allocUnsafe(SLICE + 2 * FEW + 4);
  /** A CR at the end of a piece: whether it ends a line, the next octet tells. */
  #heldCr = false;

  update(piece: Buffer): void {
    for (let at = 0; at < piece.length; at += SLICE) this.#take(piece.subarray(at, at + SLICE));
  }

  #take(piece: Buffer): void {
    if (piece.includes(SPACE) || piece.includes(TAB)) {
      this.#look(piece);
      return;
    }
    // Without white space, as attachments are, only newlines at an end can be left out: the rest is hashed as it is.
    let end = piece.length;
    while (end > 0 && isNewline(piece[end - 1])) end--;
    let begin = 0;
    while (begin < end && isNewline(piece[begin])) begin++;
    this.#look(piece.subarray(0, begin + 1));
    if (begin + 1 < end) this.#hash.update(piece.subarray(begin + 1, end));
    if (begin + 1 < piece.length) this.#look(piece.subarray(Math.max(begin + 1, end)));
  }

  #look(piece: Buffer): void {
    const out = this.#out;
    const end = piece.length;
    let at = 0;
    let from = 0;
    while (from < end) {
      const octet = piece[from];
      if (this.#heldCr) {
        this.#heldCr = false;
        if (octet === LF) {
          this.#newlines++;
          this.#space = false;
          from++;
          continue;
        }
        at = this.#before(out, at);
        out[at++] = CR;
      }
      if (octet === CR) {
        this.#heldCr = true;
        from++;
      } else if (octet === SPACE || octet === TAB) {
        this.#space = true;
        from++;
      } else {
        if (this.#newlines > 0 || this.#space) at = this.#before(out, at);
        // Most of a body is runs without anything remarkable: in a loop without fields this is several times as fast.
        for (; from < end; from++) {
          const plain = piece[from] ?? 0;
          if (plain === SPACE || plain === CR || plain === TAB) break;
          out[at++] = plain;
        }
      }
    }
    if (at > 0) {
      this.#begun = true;
      this.#hash.update(out.subarray(0, at));
    }
  }

  /** Base64. A body that does not end with a newline is hashed as if it did. */
  digest(): string {
    if (this.#heldCr) {
      this.update(Buffer.of(CR));
      this.#heldCr = false;
    }
    if (this.#begun) this.#hash.update('\r\n');
    return this.#hash.digest('base64');
  }

  /** Writes what was held back, now that something follows it. Returns the place after it. */
  #before(out: Buffer, start: number): number {
    let at = start;
    if (this.#newlines > FEW) {
      this.#hash.update(out.subarray(0, at));
      at = 0;
      for (let left = this.#newlines * 2; left > 0; left -= MANY_NEWLINES.length) {
        this.#hash.update(left < MANY_NEWLINES.length ? MANY_NEWLINES.subarray(0, left) : MANY_NEWLINES);
      }
    } else {
      for (let left = this.#newlines; left > 0; left--) {
        out[at++] = CR;
        out[at++] = LF;
      }
    }
    this.#newlines = 0;
    if (this.#space) out[at++] = SPACE;
    this.#space = false;
    this.#begun = true;
    return at;
  }
}

function isNewline(octet: number | undefined): boolean {
  return octet === LF || octet === CR;
}
