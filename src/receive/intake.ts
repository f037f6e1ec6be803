/**
 * What becomes of the content of a message on its way in: every octet is looked at once, newlines are made CRLF or
 * refused, and it is told what the message needs of the next host. Nothing else changes, whatever the chunks.
 */
import { isAscii } from 'node:buffer';
import { type Refusal, refuse } from './refusal.ts';
import { TlsRequired } from './tls-required.ts';

export interface ContentRules {
  /** Octets in a message, our own header not counted. */
  readonly messageBytes: number;
  /** Octets in a line of text, its CRLF not counted. */
  readonly lineBytes: number;
  /** Received headers that a message may already have (RFC 5321 §6.3). */
  readonly hops: number;
  /** What a bare CR or LF becomes: CRLF, or the reason why the message is refused (RFC 5321 §2.3.8). */
  readonly bareNewlines: 'normalize' | 'reject';
  /** Lines above 998 octets pass up to `lineBytes`, or are refused (RFC 5321 §4.5.3.1.6). */
  readonly longLines: 'pass' | 'reject';
}

const NUL = 0x00;
const TAB = 0x09;
const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const NOTHING = Buffer.alloc(0);
const CRLF = Buffer.from('\r\n');
const RECEIVED = Buffer.from('received:');
const TEXT_LINE_OCTETS = 998;
/** What nothing can be passed over for: a CR without LF, an LF without CR, NUL. */
const REMARKABLE = /\r(?!\n)|(?<!\r)\n|\u0000/;

/** One message's worth of looking. After the first thing that is wrong it keeps nothing more. */
export class Intake {
  readonly #rules: ContentRules;
  readonly #lineLimit: number;
  /** A CR at the end of a chunk: what it is, the next octet tells. */
  #heldCr = false;
  #column = 0;
  #inHeader = true;
  /** How much of `received:` the line has matched so far; negative when it is another line. */
  #matched = 0;
  #hops = 0;
  readonly #tlsRequired = new TlsRequired();
  #size = 0;
  #longLines = 0;
  #eightBit = false;
  #utf8Header = false;
  #refusal: Refusal | null = null;

  constructor(rules: ContentRules) {
    this.#rules = rules;
    this.#lineLimit = rules.longLines === 'reject' ? Math.min(TEXT_LINE_OCTETS, rules.lineBytes) : rules.lineBytes;
  }

  /** Why the message cannot be taken; null as long as nothing is wrong. */
  get refusal(): Refusal | null {
    return this.#refusal;
  }

  /** Octets given out so far. */
  get size(): number {
    return this.#size;
  }

  /** Any octet above 127. */
  get eightBit(): boolean {
    return this.#eightBit;
  }

  /** Any octet above 127 before the first empty line. */
  get utf8Header(): boolean {
    return this.#utf8Header;
  }

  /** The header says `TLS-Required: No`, and says it once (RFC 8689 §3). */
  get tlsOptional(): boolean {
    return this.#tlsRequired.saysNo;
  }

  /** Lines longer than 998 octets that were let through. */
  get longLines(): number {
    return this.#longLines;
  }

  /** Takes the next octets and gives those that are to be kept for them: perhaps more, fewer or none. */
  push(chunk: Buffer): Buffer {
    if (this.#refusal || chunk.length === 0) return NOTHING;
    const octets = this.#heldCr ? Buffer.concat([CRLF.subarray(0, 1), chunk]) : chunk;
    this.#heldCr = octets.at(-1) === CR;
    return this.#keep(this.#look(this.#heldCr ? octets.subarray(0, -1) : octets));
  }

  /** What completes the message: a CRLF when its last line has none. */
  finish(): Buffer {
    const bare = this.#heldCr;
    this.#heldCr = false;
    if (this.#refusal) return NOTHING;
    if (bare && this.#rules.bareNewlines === 'reject')
      this.#stop(refuse('message-has-bare-newline', 'a CR at its end'));
    if (!bare && this.#column === 0) return NOTHING;
    this.#endLine();
    return this.#keep(CRLF);
  }

  #look(octets: Buffer): Buffer {
    const isFirst = this.#size === 0 && this.#column === 0 && (octets[0] === SPACE || octets[0] === TAB);
    if (isFirst) this.#inHeader = false;
    const ascii = isAscii(octets);
    if (!ascii) this.#eightBit = true;
    // As a rule a block has nothing that must be changed. To see that in one go is several times faster than by lines.
    const kept = REMARKABLE.test(octets.toString('latin1'))
      ? this.#repaired(octets, ascii)
      : this.#proper(octets, ascii);
    if (this.#refusal) return NOTHING;
    // A first line that begins with a space would become a part of our own header. It is none of a header anyway.
    return isFirst ? Buffer.concat([CRLF, kept]) : kept;
  }

  /** Octets without NUL in which every newline is a CRLF. */
  #proper(octets: Buffer, ascii: boolean): Buffer {
    let at = 0;
    while (this.#inHeader && at < octets.length && !this.#refusal) {
      const lf = octets.indexOf(LF, at);
      this.#text(octets.subarray(at, lf < 0 ? octets.length : lf - 1), ascii);
      if (lf < 0) return octets;
      this.#endLine();
      at = lf + 1;
    }
    if (at < octets.length && !this.#refusal) this.#measure(octets, at);
    return octets;
  }

  /**
   * Lines of the body, of which only the long ones matter: as far as a line may reach, the last newline is looked for,
   * so that all the short lines before it are passed over at once.
   */
  #measure(octets: Buffer, from: number): void {
    const short = Math.min(TEXT_LINE_OCTETS, this.#lineLimit);
    /** Where the line began: before the block, when a part of it was in the one before. */
    let start = from - this.#column;
    for (let reach = start + short + 2; reach < octets.length; reach = start + short + 2) {
      const last = reach > from ? octets.lastIndexOf(LF, reach - 1) : -1;
      if (last >= Math.max(start, from)) {
        start = last + 1;
        continue;
      }
      const next = octets.indexOf(LF, Math.max(reach, from));
      this.#lineSoFar((next < 0 ? octets.length : next - 1) - start);
      if (next < 0 || this.#refusal) return;
      this.#endLine();
      start = next + 1;
    }
    const last = octets.lastIndexOf(LF);
    this.#lineSoFar(octets.length - (last >= from ? last + 1 : start));
  }

  /** Line by line, and every bare CR or LF made a CRLF. */
  #repaired(octets: Buffer, ascii: boolean): Buffer {
    if (octets.includes(NUL)) this.#stop(refuse('message-has-nul', ''));
    const repairs: number[] = [];
    let cr = -1;
    let lf = -1;
    for (let at = 0; at < octets.length; ) {
      if (cr < at) cr = indexOrEnd(octets, CR, at);
      if (lf < at) lf = indexOrEnd(octets, LF, at);
      const end = Math.min(cr, lf);
      this.#text(octets.subarray(at, end), ascii);
      if (end === octets.length || this.#refusal) break;
      const proper = lf === cr + 1 && lf < octets.length;
      if (!proper) repairs.push(end);
      this.#endLine();
      at = proper ? end + 2 : end + 1;
    }
    if (repairs.length > 0 && this.#rules.bareNewlines === 'reject') {
      this.#stop(
        refuse('message-has-bare-newline', octets[repairs[0] ?? 0] === CR ? 'a CR without LF' : 'an LF without CR'),
      );
    }
    return this.#refusal || repairs.length === 0 ? octets : repaired(octets, repairs);
  }

  /** A line, or a part of one, without what ends it. */
  #text(text: Buffer, ascii: boolean): void {
    this.#lineSoFar(this.#column + text.length);
    if (!this.#inHeader) return;
    if (!ascii && !isAscii(text)) this.#utf8Header = true;
    this.#tlsRequired.push(text);
    for (let i = 0; i < text.length && this.#matched >= 0; i++) this.#matchReceived(text[i] ?? NUL);
  }

  /** @param octets of the line that is being read, in all blocks so far */
  #lineSoFar(octets: number): void {
    this.#column = octets;
    if (octets > this.#lineLimit) this.#stop(refuse('message-line-too-long', `more than ${this.#lineLimit} octets`));
  }

  #endLine(): void {
    if (this.#inHeader) this.#tlsRequired.endLine();
    if (this.#column === 0) this.#inHeader = false;
    if (this.#column > TEXT_LINE_OCTETS) this.#longLines++;
    this.#column = 0;
    this.#matched = 0;
  }

  #matchReceived(octet: number): void {
    const lower = octet >= 0x41 && octet <= 0x5a ? octet + 0x20 : octet;
    const spaceBeforeColon = this.#matched === RECEIVED.length - 1 && (octet === SPACE || octet === TAB);
    if (spaceBeforeColon) return;
    if (lower !== RECEIVED[this.#matched]) {
      this.#matched = -1;
    } else if (++this.#matched === RECEIVED.length) {
      this.#matched = -1;
      if (++this.#hops > this.#rules.hops) this.#stop(refuse('too-many-hops', `more than ${this.#rules.hops}`));
    }
  }

  #keep(octets: Buffer): Buffer {
    if (this.#refusal) return NOTHING;
    this.#size += octets.length;
    if (this.#size <= this.#rules.messageBytes) return octets;
    this.#stop(refuse('message-too-big', `${this.#rules.messageBytes} octets are allowed`));
    return NOTHING;
  }

  #stop(refusal: Refusal): void {
    this.#refusal ??= refusal;
  }
}

function indexOrEnd(octets: Buffer, octet: number, from: number): number {
  const index = octets.indexOf(octet, from);
  return index < 0 ? octets.length : index;
}

/** The octets with a CRLF in the place of each newline that stands at one of `places`. */
function repaired(octets: Buffer, places: readonly number[]): Buffer {
  const out = Buffer.allocUnsafe(octets.length + places.length);
  let from = 0;
  let to = 0;
  for (const place of places) {
    to += octets.copy(out, to, from, place);
    out[to++] = CR;
    out[to++] = LF;
    from = place + 1;
  }
  octets.copy(out, to, from);
  return out;
}
