/**
 * The header field `TLS-Required: No` (RFC 8689 §3), found while the header goes by in whatever pieces. It asks for less
 * protection, so it counts only where there is no doubt: one such field, with this value and nothing else.
 */

const NAME = Buffer.from('tls-required:');
const SPACE = 0x20;
const TAB = 0x09;
/** Octets of a value that are kept; more than that is not `No`. */
const VALUE_LIMIT = 32;

export class TlsRequired {
  /** How much of the name the line has matched so far; negative when it is another line. */
  #matched = 0;
  #atStart = true;
  /** The field that was read last is one of these: a line that begins with white space goes on with it. */
  #reading = false;
  #fields = 0;
  #value = '';

  /** To be asked when all of the header has gone by. */
  get saysNo(): boolean {
    return this.#fields === 1 && /^no[ \t]*$/i.test(this.#value);
  }

  /** A line of the header, or a part of one, without what ends it. */
  push(text: Buffer): void {
    if (text.length === 0) return;
    if (this.#atStart) {
      this.#atStart = false;
      if (isSpace(text[0])) this.#matched = this.#reading ? NAME.length : -1;
      else this.#reading = false;
    }
    for (let i = 0; i < text.length && this.#matched >= 0; i++) {
      if (this.#matched === NAME.length) {
        this.#keep(text.subarray(i));
        return;
      }
      const octet = text[i] ?? SPACE;
      if (this.#matched === NAME.length - 1 && isSpace(octet)) {
        // An old way to write the name (RFC 5322 §4.5), which some read and some do not: a doubt.
        this.#fields = Number.POSITIVE_INFINITY;
        this.#matched = -1;
        return;
      }
      const lower = octet >= 0x41 && octet <= 0x5a ? octet + 0x20 : octet;
      if (lower !== NAME[this.#matched]) this.#matched = -1;
      else if (++this.#matched === NAME.length) {
        this.#reading = true;
        this.#fields++;
      }
    }
  }

  endLine(): void {
    this.#matched = 0;
    this.#atStart = true;
  }

  /** White space before and behind the value does not count, however much there is of it. */
  #keep(octets: Buffer): void {
    const text = `${this.#value}${octets.toString('latin1')}`.replace(/^[ \t]+/, '');
    this.#value = text.slice(0, VALUE_LIMIT);
    if (/[^ \t]/.test(text.slice(VALUE_LIMIT))) this.#fields = Number.POSITIVE_INFINITY;
  }
}

function isSpace(octet: number | undefined): boolean {
  return octet === SPACE || octet === TAB;
}
