/**
 * Replies of a mail host, octet by octet: strict about form, bounded in size, harmless in logs and bounces.
 *
 * A reply that breaks the grammar of RFC 5321 §4.2 is never guessed at: a wrong guess on a final reply would lose
 * a message or send it twice. Bare LF as the end of a line is the one thing forgiven, because it is met and cannot
 * change a meaning.
 */
import { harmless } from '../shared/harmless.ts';

/** One whole reply. */
export interface Reply {
  /** 200 to 599. */
  readonly code: number;
  /** Text of each line after code and separator, as received (octets above 127 decoded as UTF-8 where they are). */
  readonly lines: readonly [string, ...string[]];
}

/** What became of the octets so far. After `garbage` the reader takes nothing more. */
export type Received =
  | { readonly kind: 'reply'; readonly reply: Reply }
  | { readonly kind: 'garbage'; readonly why: string };

/** Octets in one line, its end included. RFC 5321 §4.5.3.1.5 allows 512; hosts that explain at length are met. */
export const LINE_LIMIT = 4096;
/** Octets in one reply, all lines together. */
export const REPLY_LIMIT = 64 * 1024;
/** Longest text that is kept of a reply, in UTF-16 units. */
export const TEXT_LIMIT = 500;

const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const HYPHEN = 0x2d;
const ZERO = 0x30;

/** Puts replies together from chunks however they are cut. One reader serves one direction of one connection. */
export class ReplyReader {
  #held: Buffer[] = [];
  #heldOctets = 0;
  #code: number | null = null;
  #lines: string[] = [];
  #octets = 0;
  #broken = false;

  /** True while part of a reply is held back. */
  get midway(): boolean {
    return this.#heldOctets > 0 || this.#code !== null;
  }

  /** Start of what is held back, for the words about a connection that broke off in the middle of a reply. */
  get fragment(): string {
    return sanitise([...this.#lines, Buffer.concat(this.#held).toString('utf8')].join(' '));
  }

  /** Takes a chunk and returns the replies that it completes. Never throws. */
  push(chunk: Buffer): readonly Received[] {
    const received: Received[] = [];
    let from = 0;
    while (!this.#broken && from < chunk.length) {
      const end = chunk.indexOf(LF, from);
      const part = chunk.subarray(from, end < 0 ? chunk.length : end);
      from = end < 0 ? chunk.length : end + 1;
      if (this.#heldOctets + part.length > LINE_LIMIT) received.push(this.#garbage('a line is too long'));
      else if (end < 0) this.#hold(part);
      else this.#line(this.#release(part), received);
    }
    return received;
  }

  #hold(part: Buffer): void {
    // A copy: a slice would keep the whole chunk in memory for as long as the host likes.
    this.#held.push(Buffer.from(part));
    this.#heldOctets += part.length;
    // One octet a packet must not make a list as long as the line.
    if (this.#held.length > 64) this.#held = [Buffer.concat(this.#held)];
  }

  #release(part: Buffer): Buffer {
    const line = this.#held.length > 0 ? Buffer.concat([...this.#held, part]) : part;
    this.#held = [];
    this.#heldOctets = 0;
    return line.at(-1) === CR ? line.subarray(0, -1) : line;
  }

  #line(octets: Buffer, received: Received[]): void {
    this.#octets += octets.length;
    if (this.#octets > REPLY_LIMIT) {
      received.push(this.#garbage('a reply is too long'));
      return;
    }
    const code = codeOf(octets);
    const separator = octets[3];
    if (code === null || (separator !== undefined && separator !== SPACE && separator !== HYPHEN)) {
      received.push(this.#garbage(`this is no reply: "${sanitise(octets.toString('utf8')).slice(0, 80)}"`));
      return;
    }
    if (this.#code !== null && this.#code !== code) {
      received.push(this.#garbage(`the lines of one reply differ in code: ${this.#code} and ${code}`));
      return;
    }
    this.#code = code;
    this.#lines.push(octets.toString('utf8', 4));
    if (separator === HYPHEN) return;
    const [first = '', ...rest] = this.#lines;
    received.push({ kind: 'reply', reply: { code, lines: [first, ...rest] } });
    this.#code = null;
    this.#lines = [];
    this.#octets = 0;
  }

  #garbage(why: string): Received {
    this.#broken = true;
    this.#held = [];
    this.#heldOctets = 0;
    return { kind: 'garbage', why };
  }
}

/** The three digits that begin a line, 200 to 599; null where they do not. */
function codeOf(octets: Buffer): number | null {
  const { 0: a = 0, 1: b = 0, 2: c = 0 } = octets;
  const inRange = a >= ZERO + 2 && a <= ZERO + 5 && b >= ZERO && b <= ZERO + 9 && c >= ZERO && c <= ZERO + 9;
  return inRange ? (a - ZERO) * 100 + (b - ZERO) * 10 + (c - ZERO) : null;
}

/** The reply as one line of harmless text, `550 5.1.1 no such user`, at most `TEXT_LIMIT` long. */
export function textOf({ code, lines }: Reply): string {
  return sanitise(`${code} ${lines.join(' ')}`);
}

/** Replaces what could break a log line, a header or a terminal, and cuts at `TEXT_LIMIT`. Never ends mid-character. */
export function sanitise(text: string): string {
  const plain = harmless(text);
  const flat = (plain.includes('  ') ? plain.replace(/ {2,}/g, ' ') : plain).trim();
  return flat.length <= TEXT_LIMIT ? flat : `${flat.slice(0, TEXT_LIMIT - 1).replace(/[\ud800-\udbff]$/, '')}…`;
}

/**
 * The enhanced status code of a reply (RFC 2034 §4, RFC 3463 §2): its own when its class agrees with the reply code,
 * else class.0.0, because the reply code is what the host means by RFC 5321 §4.2.
 */
export function statusOf({ code, lines }: Reply): string {
  const kind = String(code).charAt(0);
  const own = enhancedCode(lines[0]);
  return own?.startsWith(kind) ? own : `${kind}.0.0`;
}

/** The same code with class 4, for a reply that the sender treats as temporary whatever the host says. */
export function temporary(status: string): string {
  return `4${status.slice(1)}`;
}

function enhancedCode(text: string): string | null {
  return /^([245]\.(?:0|[1-9]\d{0,2})\.(?:0|[1-9]\d{0,2}))(?:[ \t]|$)/.exec(text)?.[1] ?? null;
}

export function isPositive({ code }: Reply): boolean {
  return code >= 200 && code < 300;
}

export function isRefusal({ code }: Reply): boolean {
  return code >= 400;
}

export function isPermanentRefusal({ code }: Reply): boolean {
  return code >= 500;
}

/**
 * Keywords of an EHLO reply with their parameters, both in upper case (RFC 5321 §4.1.1.1). The first line is the
 * host's name and greeting, whatever it looks like, and offers nothing.
 */
export function extensionsOf({ lines }: Reply): ReadonlyMap<string, string> {
  const extensions = new Map<string, string>();
  for (const line of lines.slice(1)) {
    const [, keyword = '', parameters = ''] = /^([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =](.*))?$/.exec(line.trim()) ?? [];
    if (keyword !== '') extensions.set(keyword.toUpperCase(), parameters.trim().toUpperCase());
  }
  return extensions;
}
