/**
 * The octets of a connection, cut into command lines and message content.
 *
 * Only CRLF ends a command and only CRLF.CRLF ends a message (RFC 5321 §2.3.8, §4.1.1.4). Whatever else looks like an
 * end is content, or a command line that is refused; so nobody can hide a second message in a first one. Where the
 * network cut the octets into pieces changes nothing.
 */
import { SMTPStream } from 'smtp-server/lib/smtp-stream.js';

/** What a command line may be wrong with, apart from what it says. */
export type LineFault = 'bare-newline' | 'control' | 'too-long' | 'tls';

/** `next` must be called once for each line, when the following one may come. */
export interface WireHandlers {
  readonly command: (line: Buffer, next: () => void) => void;
  readonly fault: (fault: LineFault, next: () => void) => void;
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

export class Wire extends SMTPStream {
  readonly #handlers: WireHandlers;
  #held: Buffer = NONE;
  #place: Place = 'start';

  constructor(handlers: WireHandlers) {
    super();
    this.#handlers = handlers;
  }

  override startDataMode(): ReturnType<SMTPStream['startDataMode']> {
    this.#place = 'start';
    return super.startDataMode();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding | 'buffer', next: (error?: Error | null) => void): void {
    if (this.isClosed) next();
    else if (this._dataMode) this.#content(chunk, next);
    else this.#commands(chunk, next);
  }

  /**
   * Goes on behind a message. The library forgets the way on after it has taken it, and with it that of a second
   * message that was pipelined behind the first.
   */
  override continue(): void {
    const go = this._continueCallback;
    this._continueCallback = false;
    if (typeof go === 'function') go();
  }

  /** A line that its client never ended is no command. */
  override _flushData(): void {
    this.#held = NONE;
  }

  #commands(chunk: Buffer, next: () => void): void {
    let rest = this.#held.length > 0 ? Buffer.concat([this.#held, chunk]) : chunk;
    this.#held = NONE;
    let lines = 0;
    const go = (): void => {
      while (!this.isClosed && !this._dataMode) {
        if (rest[0] === TLS_HANDSHAKE) {
          this.#handlers.fault('tls', next);
          return;
        }
        const end = rest.indexOf(LF);
        if ((end < 0 ? rest.length : end) > LINE_OCTETS) {
          this.#handlers.fault('too-long', next);
          return;
        }
        if (end < 0) {
          this.#held = Buffer.from(rest);
          break;
        }
        const line = rest.subarray(0, end);
        rest = rest.subarray(end + 1);
        let inside = true;
        let answered = false;
        this.#oneLine(line, () => {
          answered = true;
          if (!inside) go();
        });
        inside = false;
        if (!answered) return;
        if (++lines % LINES_AT_ONCE === 0) {
          setImmediate(go);
          return;
        }
      }
      if (this._dataMode && !this.isClosed) this.#content(rest, next);
      else next();
    };
    go();
  }

  #oneLine(line: Buffer, next: () => void): void {
    const command = line.subarray(0, -1);
    if (line.at(-1) !== CR) this.#handlers.fault('bare-newline', next);
    else if (command.some((octet) => octet < 0x20 || octet === 0x7f)) this.#handlers.fault('control', next);
    else this.#handlers.command(command, next);
  }

  #content(chunk: Buffer, next: () => void): void {
    const pieces: Buffer[] = [];
    let at = 0;
    while (at < chunk.length) {
      const octet = chunk[at];
      switch (this.#place) {
        case 'text': {
          const found = chunk.indexOf(CRLF_DOT, at);
          const until = found < 0 ? chunk.length : found + 2;
          pieces.push(chunk.subarray(at, until));
          this.#place = found < 0 ? placeAfter(chunk.subarray(at)) : 'dot';
          at = found < 0 ? until : until + 1;
          break;
        }
        case 'cr':
          pieces.push(chunk.subarray(at, at + 1));
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
          if (octet === LF) {
            this._endDataMode(Buffer.concat(pieces), chunk.subarray(at + 1), next);
            return;
          }
          // The dot stood before a line that begins with CR.
          pieces.push(CRLF_DOT.subarray(0, 1));
          this.#place = 'cr';
          break;
      }
    }
    this.#pass(pieces.length === 1 && pieces[0] ? pieces[0] : Buffer.concat(pieces), next);
  }

  /** Hands content on, and takes no more from the network until it was taken. */
  #pass(content: Buffer, next: () => void): void {
    const stream = this._dataStream;
    if (content.length === 0 || !stream?.writable || stream.write(content) || stream.destroyed) {
      next();
      return;
    }
    const ready = (): void => {
      stream.off('drain', ready);
      stream.off('close', ready);
      next();
    };
    stream.on('drain', ready);
    stream.on('close', ready);
  }
}

function placeAfter(text: Buffer): Place {
  if (text.at(-1) === CR) return 'cr';
  return text.at(-1) === LF && text.at(-2) === CR ? 'start' : 'text';
}
