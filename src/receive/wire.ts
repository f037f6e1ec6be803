/**
 * The octets of a connection, cut into command lines and message content.
 *
 * Only CRLF ends a command and only CRLF.CRLF ends a message (RFC 5321 §2.3.8, §4.1.1.4). Whatever else looks like an
 * end is content, or a command line that is refused; so nobody can hide a second message in a first one. Where the
 * network cut the octets into pieces changes nothing.
 */

/** What a command line may be wrong with, apart from what it says. */
export type LineFault = 'bare-newline' | 'control' | 'too-long' | 'tls';

/** Called from `run`, in the order of what was read. Each of them may `hold`, `close` or begin content. */
export interface WireHandlers {
  /** A line without its CRLF. */
  readonly command: (line: Buffer) => void;
  readonly fault: (fault: LineFault) => void;
  /** A part of the content, its dots taken away; never empty. */
  readonly content: (octets: Buffer) => void;
  /** The content is complete. */
  readonly contentEnd: () => void;
}

/** Octets in a command line: 512, and what ENVID, ORCPT and long addresses add (RFC 3461 §4, RFC 6531 §3.4). */
const LINE_OCTETS = 2048;
/** Lines handled in one go before other connections have their turn. */
const LINES_AT_ONCE = 100;

const NONE = Buffer.alloc(0);
const CR = 0x0d;
const LF = 0x0a;
const DOT = 0x2e;
/** First octet of a TLS record that carries a handshake. */
const TLS_HANDSHAKE = 0x16;
const CRLF_DOT = Buffer.from('\r\n.');

/**
 * Where in a line of content the next octet stands:
 *
 *   text   somewhere in a line          start  at its start
 *   cr     behind a CR                  dot    behind a dot at its start
 *                                       dot-cr behind a dot and a CR at its start
 */
type Place = 'text' | 'cr' | 'start' | 'dot' | 'dot-cr';

export class Wire {
  readonly #handlers: WireHandlers;
  /** What was not handled yet: a command line without its end, or whatever came while the wire was held. */
  #rest: Buffer = NONE;
  #state: 'commands' | 'content' | 'closed' = 'commands';
  #held = false;
  #place: Place = 'start';

  constructor(handlers: WireHandlers) {
    this.#handlers = handlers;
  }

  /** Octets wait here for `release`, so that no more should be taken from the network. */
  get isFull(): boolean {
    return this.#held && this.#rest.length > 0;
  }

  /** Nothing is handled now, whatever there is. */
  get isHeld(): boolean {
    return this.#held;
  }

  /** Adds octets from the network. They are handled by the next `run`. */
  add(octets: Buffer): void {
    if (this.#state === 'closed') return;
    this.#rest = this.#rest.length > 0 ? Buffer.concat([this.#rest, octets]) : octets;
  }

  /** Handles what there is. True when it stopped only for others to have their turn, and wants to go on. */
  run(): boolean {
    for (let lines = 0; !this.#held && this.#rest.length > 0; ) {
      switch (this.#state) {
        case 'closed':
          return false;
        case 'content':
          this.#content();
          break;
        case 'commands':
          if (lines++ === LINES_AT_ONCE) return true;
          if (!this.#command()) return false;
          break;
      }
    }
    return false;
  }

  /** Nothing more is handled until `release`. */
  hold(): void {
    this.#held = true;
  }

  release(): void {
    this.#held = false;
  }

  /** What follows is the content of a message. */
  startContent(): void {
    this.#state = 'content';
    this.#place = 'start';
  }

  /** Forgets what it has, and handles nothing any more. */
  close(): void {
    this.#state = 'closed';
    this.#rest = NONE;
  }

  /** Asked where a handler may have closed it just now. */
  #isClosed(): boolean {
    return this.#state === 'closed';
  }

  /** False when no whole line is there. */
  #command(): boolean {
    const rest = this.#rest;
    if (rest[0] === TLS_HANDSHAKE) {
      this.close();
      this.#handlers.fault('tls');
      return false;
    }
    const end = rest.indexOf(LF);
    if ((end < 0 ? rest.length : end) > LINE_OCTETS) {
      this.close();
      this.#handlers.fault('too-long');
      return false;
    }
    if (end < 0) {
      // A copy: the few octets must not keep the whole block.
      this.#rest = Buffer.from(rest);
      return false;
    }
    this.#rest = end + 1 < rest.length ? rest.subarray(end + 1) : NONE;
    if (rest[end - 1] !== CR) this.#handlers.fault('bare-newline');
    else if (hasControl(rest, end - 1)) this.#handlers.fault('control');
    else this.#handlers.command(rest.subarray(0, end - 1));
    return true;
  }

  #content(): void {
    const octets = this.#rest;
    const pieces: Buffer[] = [];
    let at = 0;
    let isEnd = false;
    while (at < octets.length && !isEnd) {
      const octet = octets[at];
      switch (this.#place) {
        case 'text': {
          const found = octets.indexOf(CRLF_DOT, at);
          const until = found < 0 ? octets.length : found + 2;
          pieces.push(octets.subarray(at, until));
          this.#place = found < 0 ? placeAfter(octets, at) : 'dot';
          at = found < 0 ? until : until + 1;
          break;
        }
        case 'cr':
          pieces.push(octets.subarray(at, at + 1));
          this.#place = octet === LF ? 'start' : octet === CR ? 'cr' : 'text';
          at++;
          break;
        case 'start':
          this.#place = octet === DOT ? 'dot' : 'text';
          if (octet === DOT) at++;
          break;
        case 'dot':
          this.#place = octet === CR ? 'dot-cr' : 'text';
          if (octet === CR) at++;
          break;
        case 'dot-cr':
          isEnd = octet === LF;
          if (isEnd) {
            at++;
          } else {
            // The dot stood before a line that begins with CR.
            pieces.push(CRLF_DOT.subarray(0, 1));
            this.#place = 'cr';
          }
          break;
      }
    }
    this.#rest = at < octets.length ? octets.subarray(at) : NONE;
    if (isEnd) this.#state = 'commands';
    const [first] = pieces;
    if (first) this.#handlers.content(pieces.length === 1 ? first : Buffer.concat(pieces));
    if (isEnd && !this.#isClosed()) this.#handlers.contentEnd();
  }
}

/** Whether there is an octet among the first ones that no command has. */
function hasControl(octets: Buffer, until: number): boolean {
  for (let i = 0; i < until; i++) {
    const octet = octets[i] ?? 0;
    if (octet < 0x20 || octet === 0x7f) return true;
  }
  return false;
}

function placeAfter(octets: Buffer, from: number): Place {
  const last = octets.length - 1;
  if (octets[last] === CR) return 'cr';
  return octets[last] === LF && last > from && octets[last - 1] === CR ? 'start' : 'text';
}
