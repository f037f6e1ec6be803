/**
 * DNS messages as octets: a question out, a reply in (RFC 1035 §4).
 *
 * dns-packet writes our questions. Replies are read here, octet by octet, because a library that does not look at
 * RDLENGTH, drops escapes from names or reads class 0x8001 as IN can make an attacker's record out of a broken one.
 * Every record must end where its length says and the message where its counts say; what does not is malformed as a
 * whole. Only class IN counts. Nothing here throws for any octets, and nothing decides what a reply means.
 */
import { SocketAddress } from 'node:net';
import { AUTHENTIC_DATA, encode, RECURSION_DESIRED } from 'dns-packet';
import type { ExtendedError, RecordData, RecordType } from '../model/dns.ts';

export interface Question {
  /** A-labels in lower case without a trailing dot, or `.`; checked before it gets here. */
  readonly name: string;
  readonly type: RecordType;
}

/** A record of class IN. */
export interface RecordOf<Type extends RecordType> {
  readonly owner: string;
  readonly type: Type;
  /** Seconds. */
  readonly ttl: number;
  readonly data: RecordData[Type];
}

/** A record of one of the types that we know. */
export type WireRecord = { readonly [Type in RecordType]: RecordOf<Type> }[RecordType];

export interface Reply {
  /** With its upper eight bits from OPT (RFC 6891 §6.1.3). */
  readonly rcode: number;
  /** The AD bit (RFC 4035 §3.2.3). */
  readonly authentic: boolean;
  readonly answers: readonly WireRecord[];
  /** For how many seconds an absence may be believed (RFC 2308 §5); 0 without an SOA. */
  readonly negativeTtl: number;
  readonly extended: ExtendedError | null;
}

export type Decoded =
  /** Not the answer to this question with this id: somebody else's, to be ignored (RFC 5452 §9.1). */
  | { readonly kind: 'stray' }
  | { readonly kind: 'truncated' }
  | { readonly kind: 'malformed'; readonly reason: string }
  | { readonly kind: 'reply'; readonly reply: Reply };

const TYPE_NUMBERS: Readonly<Record<RecordType, number>> = {
  A: 1,
  NS: 2,
  CNAME: 5,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  TLSA: 52,
};
const SOA = 6;
const OPT = 41;
const CLASS_IN = 1;
const EXTENDED_ERROR_OPTION = 15;

/** Largest reply over UDP that we ask for: what passes every path without fragments. */
const UDP_PAYLOAD = 1232;

/**
 * A question with RD and AD set, CD clear and DO clear: a validating resolver then sets AD in its answer, and leaves
 * the signatures out (RFC 6840 §5.7).
 *
 * @param id random, 0 to 65535
 */
export function encodeQuery(id: number, { name, type }: Question): Buffer {
  return encode({
    type: 'query',
    id,
    flags: RECURSION_DESIRED | AUTHENTIC_DATA,
    questions: [{ name, type, class: 'IN' }],
    additionals: [
      {
        type: 'OPT',
        name: '.',
        udpPayloadSize: UDP_PAYLOAD,
        extendedRcode: 0,
        ednsVersion: 0,
        flags: 0,
        flag_do: false,
        options: [],
      },
    ],
  });
}

/** What one received message says to the question asked with `id`. Never throws. */
export function decodeReply(message: Buffer, id: number, question: Question): Decoded {
  const reader = new Reader(message);
  try {
    const header = readHeader(reader);
    if (header === null || header.id !== id || !asksFor(reader, question)) return { kind: 'stray' };
    if (header.truncated) return { kind: 'truncated' };
    return { kind: 'reply', reply: readBody(reader, header) };
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    // Before the question is known to be ours, a broken message is just somebody's noise.
    return reader.ours ? { kind: 'malformed', reason: error.message } : { kind: 'stray' };
  }
}

class Malformed extends Error {}

interface Header {
  readonly id: number;
  readonly rcode: number;
  readonly truncated: boolean;
  readonly authentic: boolean;
  readonly counts: readonly [answers: number, authorities: number, additionals: number];
}

/** null for what is no reply to a standard query with one question. */
function readHeader(reader: Reader): Header | null {
  const id = reader.u16();
  const flags = reader.u16();
  const questions = reader.u16();
  const counts = [reader.u16(), reader.u16(), reader.u16()] as const;
  const isReply = (flags & 0x8000) !== 0;
  const opcode = (flags >> 11) & 0xf;
  if (!isReply || opcode !== 0 || questions !== 1) return null;
  return { id, rcode: flags & 0xf, truncated: (flags & 0x0200) !== 0, authentic: (flags & 0x0020) !== 0, counts };
}

function asksFor(reader: Reader, { name, type }: Question): boolean {
  const asked = reader.name();
  const ours = asked === name && reader.u16() === TYPE_NUMBERS[type] && reader.u16() === CLASS_IN;
  reader.ours = ours;
  return ours;
}

function readBody(reader: Reader, { rcode, authentic, counts }: Header): Reply {
  const [answerCount, authorityCount, additionalCount] = counts;
  const answers: WireRecord[] = [];
  for (let i = 0; i < answerCount; i++) {
    const { owner, type, klass, ttl, rdata } = readRecord(reader);
    const record = klass === CLASS_IN ? knownRecord(rdata, owner, type, ttl) : null;
    if (record) answers.push(record);
  }

  let negativeTtl = 0;
  for (let i = 0; i < authorityCount; i++) {
    const { type, klass, ttl, rdata } = readRecord(reader);
    if (type === SOA && klass === CLASS_IN) negativeTtl = Math.min(ttl, soaMinimum(rdata));
  }

  let upperRcode = 0;
  let extended: ExtendedError | null = null;
  let options = 0;
  for (let i = 0; i < additionalCount; i++) {
    const { owner, type, rawTtl, rdata } = readRecord(reader);
    if (type !== OPT) continue;
    if (owner !== '.' || ++options > 1) throw new Malformed('more than one OPT record, or one with a name');
    upperRcode = rawTtl >>> 24;
    extended = readExtendedError(rdata);
  }
  if (!reader.atEnd) throw new Malformed('octets after the last record');
  return { rcode: (upperRcode << 4) | rcode, authentic, answers, negativeTtl, extended };
}

interface RawRecord {
  readonly owner: string;
  readonly type: number;
  readonly klass: number;
  readonly rawTtl: number;
  /** RFC 2181 §8: with the top bit set it counts as 0. */
  readonly ttl: number;
  /** Reads no further than RDLENGTH allows. */
  readonly rdata: Reader;
}

function readRecord(reader: Reader): RawRecord {
  const owner = reader.name();
  const type = reader.u16();
  const klass = reader.u16();
  const rawTtl = reader.u32();
  const length = reader.u16();
  const rdata = reader.part(length);
  return { owner, type, klass, rawTtl, ttl: rawTtl > 0x7fffffff ? 0 : rawTtl, rdata };
}

/** null for a type that we do not know; its octets are skipped unread. */
function knownRecord(rdata: Reader, owner: string, type: number, ttl: number): WireRecord | null {
  const record = ((): WireRecord | null => {
    switch (type) {
      case TYPE_NUMBERS.A:
        return { owner, ttl, type: 'A', data: rdata.octets(4).join('.') };
      case TYPE_NUMBERS.AAAA:
        return { owner, ttl, type: 'AAAA', data: ipv6Text(rdata.octets(16)) };
      case TYPE_NUMBERS.CNAME:
        return { owner, ttl, type: 'CNAME', data: rdata.name() };
      case TYPE_NUMBERS.NS:
        return { owner, ttl, type: 'NS', data: rdata.name() };
      case TYPE_NUMBERS.MX:
        return { owner, ttl, type: 'MX', data: { preference: rdata.u16(), exchange: rdata.name() } };
      case TYPE_NUMBERS.TXT:
        return { owner, ttl, type: 'TXT', data: rdata.strings() };
      case TYPE_NUMBERS.TLSA:
        // Any length, even none: whether it is usable is for policy to say, and to say aloud.
        return { owner, ttl, type: 'TLSA', data: Buffer.from(rdata.rest()) };
      default:
        return null;
    }
  })();
  if (record && !rdata.atEnd) throw new Malformed(`a record of type ${record.type} is longer than what it holds`);
  return record;
}

function soaMinimum(rdata: Reader): number {
  rdata.name();
  rdata.name();
  for (let i = 0; i < 4; i++) rdata.u32();
  const minimum = rdata.u32();
  if (!rdata.atEnd) throw new Malformed('a record of type SOA is longer than what it holds');
  return minimum > 0x7fffffff ? 0 : minimum;
}

function readExtendedError(options: Reader): ExtendedError | null {
  let extended: ExtendedError | null = null;
  while (!options.atEnd) {
    const code = options.u16();
    const value = options.part(options.u16());
    if (code !== EXTENDED_ERROR_OPTION) continue;
    const info = value.u16();
    extended ??= { code: info, text: forPeople(value.rest()) };
  }
  return extended;
}

/** Words from outside that will stand in a log line: no control characters, not endless. */
function forPeople(octets: Buffer): string {
  return octets
    .subarray(0, 200)
    .toString('utf8')
    .replace(/[\p{C}\ufffd]+/gu, ' ')
    .trim();
}

function ipv6Text(octets: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, i) => octets.readUInt16BE(2 * i).toString(16));
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address;
}

/** A cursor on a message that never leaves its bounds. Throws Malformed and nothing else. */
class Reader {
  /** Set once the question in the message has been recognised as ours. */
  ours = false;
  readonly #message: Buffer;
  readonly #end: number;
  #at: number;

  constructor(message: Buffer, start = 0, end = message.length) {
    this.#message = message;
    this.#at = start;
    this.#end = end;
  }

  get atEnd(): boolean {
    return this.#at === this.#end;
  }

  octets(count: number): Buffer {
    const start = this.#at;
    if (start + count > this.#end) throw new Malformed('a record ends before what it should hold');
    this.#at += count;
    return this.#message.subarray(start, this.#at);
  }

  rest(): Buffer {
    return this.octets(this.#end - this.#at);
  }

  /** The next `count` octets as a reader of their own, in which names may still point back into the whole message. */
  part(count: number): Reader {
    const start = this.#at;
    this.octets(count);
    return new Reader(this.#message, start, start + count);
  }

  u16(): number {
    return this.octets(2).readUInt16BE();
  }

  u32(): number {
    return this.octets(4).readUInt32BE();
  }

  /** Character strings up to the end, joined (RFC 1035 §3.3.14). */
  strings(): string {
    let text = '';
    while (!this.atEnd) text += this.octets(this.octets(1).readUInt8()).toString('latin1');
    return text;
  }

  /**
   * A domain name, compressed or not (RFC 1035 §4.1.4). A pointer must lead before the place where the labels that
   * end in it began, so every name ends; 255 octets is the most that a name may have.
   */
  name(): string {
    const labels: string[] = [];
    let size = 1;
    let at = this.#at;
    let segment = at;
    let resume: number | null = null;
    for (;;) {
      const end = resume === null ? this.#end : this.#message.length;
      const length = at < end ? this.#message.readUInt8(at) : null;
      if (length === null) throw new Malformed('a name runs past its end');
      at++;
      if (length === 0) break;
      if (length < 0x40) {
        if (at + length > end) throw new Malformed('a name runs past its end');
        size += length + 1;
        if (size > 255) throw new Malformed('a name of more than 255 octets');
        labels.push(labelText(this.#message.subarray(at, at + length)));
        at += length;
      } else if (length >= 0xc0) {
        if (at >= end) throw new Malformed('a name runs past its end');
        const target = ((length & 0x3f) << 8) | this.#message.readUInt8(at);
        if (target >= segment) throw new Malformed('a compression pointer that does not lead back');
        resume ??= at + 1;
        at = target;
        segment = target;
      } else {
        throw new Malformed('a label of an unknown kind');
      }
    }
    this.#at = resume ?? at;
    return labels.length === 0 ? '.' : labels.join('.');
  }
}

/** In lower case; whatever is no letter, digit, `-` or `_` is escaped, so that it can never pass for something legal. */
function labelText(octets: Buffer): string {
  const text = octets.toString('latin1');
  if (/^[a-z0-9_-]*$/.test(text)) return text;
  return text.toLowerCase().replace(/[^a-z0-9_-]/g, (char) => {
    const code = char.charCodeAt(0);
    return code > 0x20 && code < 0x7f ? `\\${char}` : `\\${String(code).padStart(3, '0')}`;
  });
}
