/**
 * Content as it goes over the wire after DATA: a dot at the start of a line is doubled (RFC 5321 §4.5.2), the last line
 * has its end, and CR and LF leave as pairs only, whatever was stored: a bare one would let somebody else's host find
 * the end of a message where there is none. Octets are looked at in place and copied only where something is wrong.
 * Where it was seen to on the way in, just now, that they leave as pairs, only the dots are looked for.
 */

const DOT = 0x2e;
const LF = 0x0a;
const CR = 0x0d;

const NEWLINE = Buffer.from('\r\n');
const END = Buffer.from('.\r\n');
const NEWLINE_AND_END = Buffer.from('\r\n.\r\n');
const NEWLINE_AND_DOT = Buffer.from('\r\n.');

/** One message, block by block. */
export class DotStuffer {
  readonly #newlines: 'unknown' | 'pairs';
  /** What the last octet was: the end of a line, a CR that is held back until its LF comes, or anything else. */
  #last: 'newline' | 'cr' | 'other' | 'nothing' = 'nothing';

  /** @param newlines `pairs` when CR and LF are known to stand in pairs, also across blocks */
  constructor(newlines: 'unknown' | 'pairs' = 'unknown') {
    this.#newlines = newlines;
  }

  /** What goes out for a block: parts of it, in their order, that share its memory. */
  push(block: Buffer): readonly Buffer[] {
    if (block.length === 0) return [];
    const parts: Buffer[] = [];
    let rest = block;
    if (this.#last === 'cr') {
      parts.push(NEWLINE);
      this.#last = 'newline';
      if (rest[0] === LF) rest = rest.subarray(1);
    }
    const atStart = this.#last !== 'other';
    if (rest.at(-1) === CR) {
      this.#last = 'cr';
      rest = rest.subarray(0, -1);
    } else if (rest.length > 0) {
      this.#last = rest.at(-1) === LF ? 'newline' : 'other';
    }
    if (rest.length > 0) stuff(rest, atStart, this.#newlines === 'pairs' ? dotsBetweenPairs : dotsIn, parts);
    return parts;
  }

  /** The end of the last line where it has none, and the line with the dot. */
  end(): Buffer {
    return this.#last === 'newline' ? END : NEWLINE_AND_END;
  }
}

/** Where lines begin with a dot, the first line apart. */
type Dots = (block: Buffer) => readonly number[] | 'bare-newline';

function stuff(block: Buffer, atStart: boolean, find: Dots, parts: Buffer[]): void {
  const dots = find(block);
  if (dots === 'bare-newline') {
    stuff(Buffer.from(block.toString('latin1').replace(/\r\n|\r|\n/g, '\r\n'), 'latin1'), atStart, find, parts);
    return;
  }
  let from = 0;
  if (atStart && block[0] === DOT) parts.push(END.subarray(0, 1));
  for (const dot of dots) {
    // The dot ends one part and begins the next.
    parts.push(block.subarray(from, dot + 1));
    from = dot;
  }
  parts.push(block.subarray(from));
}

/** Searching a string for single octets costs half of searching a Buffer. */
function dotsIn(block: Buffer): readonly number[] | 'bare-newline' {
  const text = block.toString('latin1');
  const dots: number[] = [];
  for (let from = 0; ; ) {
    const lf = text.indexOf('\n', from);
    const cr = text.indexOf('\r', from);
    if (lf < 0 && cr < 0) return dots;
    if (cr < 0 || lf !== cr + 1) return 'bare-newline';
    from = lf + 1;
    if (text.charCodeAt(from) === DOT) dots.push(from);
  }
}

/** The same where nothing but pairs can be found: several times faster. */
function dotsBetweenPairs(block: Buffer): readonly number[] {
  const dots: number[] = [];
  for (let at = block.indexOf(NEWLINE_AND_DOT); at >= 0; at = block.indexOf(NEWLINE_AND_DOT, at + 2)) dots.push(at + 2);
  return dots;
}
