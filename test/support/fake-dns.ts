/**
 * A real name server on loopback, UDP and TCP on one port, that answers by script: as the resolver itself or as an
 * authority behind Unbound, for everything that no honest server sends.
 *
 * A script gets each question and returns the octets to send back, or sends them itself: late, in pieces, from another
 * port, never. `message()` and `rr()` put octets together without asking whether they make sense.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server, type Socket as TcpSocket } from 'node:net';

export interface FakeQuery {
  readonly id: number;
  /** As asked, with dots between the labels and no trailing dot; the root is ''. */
  readonly name: string;
  readonly type: number;
  /** The 16 bits of the second word of the header. */
  readonly flags: number;
  readonly over: 'udp' | 'tcp';
  /** The whole query as received. */
  readonly octets: Buffer;
  /** Sends octets as they are: a datagram, or with the length in front over TCP. */
  readonly send: (octets: Buffer) => void;
  /** Sends octets as they are over TCP, without a length; a datagram over UDP. */
  readonly sendBare: (octets: Buffer) => void;
  /** Ends the connection of TCP; nothing for UDP. */
  readonly hangUp: () => void;
  /** Where the question came from, to answer it from elsewhere. */
  readonly from: { readonly address: string; readonly port: number };
}

/** Octets to send back, or null to send nothing. */
export type Script = (query: FakeQuery) => Buffer | null | Promise<Buffer | null>;

export interface FakeDns {
  readonly server: { readonly address: string; readonly port: number };
  /** Everything that was asked, in order. */
  readonly queries: readonly FakeQuery[];
  script: Script;
  readonly close: () => Promise<void>;
}

export async function startFakeDns(script: Script): Promise<FakeDns> {
  const queries: FakeQuery[] = [];
  const connections = new Set<TcpSocket>();
  const { udp, tcp, port } = await listenOnBoth();
  const answer = (query: FakeQuery): void => {
    queries.push(query);
    void Promise.resolve(fake.script(query)).then((octets) => octets && query.send(octets));
  };
  const fake: FakeDns = {
    server: { address: '127.0.0.1', port },
    queries,
    script,
    close: async () => {
      for (const connection of connections) connection.destroy();
      await Promise.all([new Promise((done) => udp.close(() => done(null))), new Promise((done) => tcp.close(done))]);
    },
  };

  udp.on('message', (octets, from) => {
    const send = (reply: Buffer): void => {
      // A test may be over before a late answer is.
      if (udpOpen(udp)) udp.send(reply, from.port, from.address);
    };
    answer({ ...readQuery(octets), over: 'udp', octets, send, sendBare: send, hangUp: () => undefined, from });
  });
  tcp.on('connection', (socket) => {
    connections.add(socket);
    socket.on('close', () => connections.delete(socket));
    socket.on('error', () => socket.destroy());
    let received = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE()) {
        const octets = received.subarray(2, 2 + received.readUInt16BE());
        received = received.subarray(2 + octets.length);
        const sendBare = (reply: Buffer): void => void (socket.writable && socket.write(reply));
        const from = { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 };
        const send = (reply: Buffer): void => sendBare(framed(reply));
        answer({ ...readQuery(octets), over: 'tcp', octets, send, sendBare, hangUp: () => socket.end(), from });
      }
    });
  });
  return fake;
}

/** A message as it stands on a TCP connection. */
export function framed(message: Buffer): Buffer {
  return Buffer.concat([u16(message.length), message]);
}

async function listenOnBoth(): Promise<{ udp: UdpSocket; tcp: Server; port: number }> {
  for (let attempt = 1; ; attempt++) {
    const tcp = createServer();
    tcp.listen(0, '127.0.0.1');
    await once(tcp, 'listening');
    const address = tcp.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    const udp = createSocket('udp4');
    try {
      udp.bind(port, '127.0.0.1');
      await once(udp, 'listening');
      return { udp, tcp, port };
    } catch (error) {
      tcp.close();
      if (attempt === 10) throw error;
    }
  }
}

function udpOpen(udp: UdpSocket): boolean {
  try {
    udp.address();
    return true;
  } catch {
    return false;
  }
}

function readQuery(octets: Buffer): { id: number; flags: number; name: string; type: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = octets.readUInt8(at); length > 0; length = octets.readUInt8(at)) {
    labels.push(octets.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return {
    id: octets.readUInt16BE(0),
    flags: octets.readUInt16BE(2),
    name: labels.join('.'),
    type: octets.readUInt16BE(at + 1),
  };
}

// Octets

export const TYPE = { A: 1, NS: 2, CNAME: 5, SOA: 6, MX: 15, TXT: 16, AAAA: 28, DNAME: 39, OPT: 41, TLSA: 52 } as const;
export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;
const AD = 0x20;
const TC = 0x200;

export function u16(...values: number[]): Buffer {
  const octets = Buffer.alloc(2 * values.length);
  values.forEach((value, i) => {
    octets.writeUInt16BE(value, 2 * i);
  });
  return octets;
}

export function u32(value: number): Buffer {
  const octets = Buffer.alloc(4);
  octets.writeUInt32BE(value);
  return octets;
}

/** A name in wire format; a label may hold any octet, given as an array. */
export function wireName(name: string | readonly (string | Buffer)[]): Buffer {
  const labels = typeof name === 'string' ? name.split('.').filter((label) => label !== '') : name;
  const parts = labels.flatMap((label) => {
    const octets = typeof label === 'string' ? Buffer.from(label, 'latin1') : label;
    return [Buffer.from([octets.length]), octets];
  });
  return Buffer.concat([...parts, Buffer.from([0])]);
}

export interface RecordShape {
  readonly ttl?: number;
  readonly klass?: number;
  /** RDLENGTH to claim in place of the true one. */
  readonly length?: number;
}

/** One record in wire format. */
export function rr(
  owner: string | Buffer,
  type: number,
  rdata: Buffer,
  { ttl = 300, klass = 1, length = rdata.length }: RecordShape = {},
): Buffer {
  const name = typeof owner === 'string' ? wireName(owner) : owner;
  return Buffer.concat([name, u16(type, klass), u32(ttl), u16(length), rdata]);
}

export const a = (owner: string, address: string, shape?: RecordShape): Buffer =>
  rr(owner, TYPE.A, Buffer.from(address.split('.').map(Number)), shape);
export const cname = (owner: string, target: string, shape?: RecordShape): Buffer =>
  rr(owner, TYPE.CNAME, wireName(target), shape);
export const mx = (owner: string, preference: number, exchange: string | readonly (string | Buffer)[]): Buffer =>
  rr(owner, TYPE.MX, Buffer.concat([u16(preference), wireName(exchange)]));
export const tlsa = (owner: string, rdata: Buffer, shape?: RecordShape): Buffer => rr(owner, TYPE.TLSA, rdata, shape);
export const soa = (owner: string, minimum: number, ttl = 300): Buffer =>
  rr(
    owner,
    TYPE.SOA,
    Buffer.concat([wireName('ns.x'), wireName('h.x'), u32(1), u32(2), u32(3), u32(4), u32(minimum)]),
    { ttl },
  );

export interface OptShape {
  readonly upperRcode?: number;
  readonly extendedError?: { readonly code: number; readonly text?: string };
}

export function opt({ upperRcode = 0, extendedError }: OptShape = {}): Buffer {
  const text = Buffer.from(extendedError?.text ?? '');
  const rdata = extendedError ? Buffer.concat([u16(15, text.length + 2, extendedError.code), text]) : Buffer.alloc(0);
  return Buffer.concat([wireName(''), u16(TYPE.OPT, 1232), u32((upperRcode << 24) >>> 0), u16(rdata.length), rdata]);
}

export interface ReplyShape {
  readonly ad?: boolean;
  readonly tc?: boolean;
  readonly aa?: boolean;
  readonly rcode?: number;
  /** Flags as a whole, in place of those that the other fields make. */
  readonly flags?: number;
  readonly id?: number;
  readonly question?: Buffer;
  readonly answers?: readonly Buffer[];
  readonly authorities?: readonly Buffer[];
  readonly additionals?: readonly Buffer[];
  /** Octets after the last record. */
  readonly tail?: Buffer;
}

/** The reply to a query: by default NOERROR, without AD and without records. */
export function message(query: FakeQuery, shape: ReplyShape = {}): Buffer {
  const { answers = [], authorities = [], additionals = [], tail = Buffer.alloc(0) } = shape;
  const made = 0x8180 | (shape.ad ? AD : 0) | (shape.tc ? TC : 0) | (shape.aa ? 0x400 : 0) | (shape.rcode ?? 0);
  const counts = [1, answers.length, authorities.length, additionals.length];
  const question = shape.question ?? Buffer.concat([wireName(query.name), u16(query.type, 1)]);
  const header = u16(shape.id ?? query.id, shape.flags ?? made, ...counts);
  return Buffer.concat([header, question, ...answers, ...authorities, ...additionals, tail]);
}
