import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { RecordType } from '../../src/model/dns.ts';
import { type Decoded, decodeReply, encodeQuery } from '../../src/route/wire.ts';
import {
  a,
  cname,
  type FakeQuery,
  message,
  mx,
  opt,
  rr,
  soa,
  TYPE,
  tlsa,
  u16,
  u32,
  wireName,
} from '../support/fake-dns.ts';

const ID = 4711;

/** A reply to a question, put together from octets. */
function reply(name: string, type: RecordType, shape: Parameters<typeof message>[1] = {}): Buffer {
  const nothing = (): void => undefined;
  const query: FakeQuery = {
    id: ID,
    name,
    type: TYPE[type],
    flags: 0,
    over: 'udp',
    octets: Buffer.alloc(0),
    send: nothing,
    sendBare: nothing,
    hangUp: nothing,
    from: { address: '', port: 0 },
  };
  return message(query, shape);
}

function read(name: string, type: RecordType, shape: Parameters<typeof message>[1] = {}): Decoded {
  return decodeReply(reply(name, type, shape), ID, { name, type });
}

function answersOf(decoded: Decoded): unknown {
  return decoded.kind === 'reply' ? decoded.reply.answers : decoded;
}

function dataOf(decoded: Decoded): unknown[] | string {
  return decoded.kind === 'reply' ? decoded.reply.answers.map(({ data }) => data) : decoded.kind;
}

describe('questions', () => {
  test('DNS-16 NODE-20 have RD and AD, neither CD nor DO, and an OPT for 1232 octets', () => {
    const query = encodeQuery(ID, { name: 'mx.example.nl', type: 'TLSA' });
    expect(query).toEqual(
      Buffer.concat([
        u16(ID, 0x0120, 1, 0, 0, 1),
        wireName('mx.example.nl'),
        u16(TYPE.TLSA, 1),
        Buffer.concat([wireName(''), u16(TYPE.OPT, 1232), u32(0), u16(0)]),
      ]),
    );
  });

  test('the root can be asked for', () => {
    expect(encodeQuery(1, { name: '.', type: 'NS' }).subarray(12, 17)).toEqual(Buffer.from([0, 0, 2, 0, 1]));
  });
});

describe('records', () => {
  test('each type that we know is read', () => {
    const texts = Buffer.concat([Buffer.from([3]), Buffer.from('v=s'), Buffer.from([2]), Buffer.from('py')]);
    expect(dataOf(read('x.nl', 'A', { answers: [a('x.nl', '192.0.2.1')] }))).toEqual(['192.0.2.1']);
    const v6 = Buffer.from('20010db8000000000000000000000001', 'hex');
    expect(dataOf(read('x.nl', 'AAAA', { answers: [rr('x.nl', TYPE.AAAA, v6)] }))).toEqual(['2001:db8::1']);
    expect(dataOf(read('x.nl', 'CNAME', { answers: [cname('x.nl', 'Y.NL')] }))).toEqual(['y.nl']);
    expect(dataOf(read('.', 'NS', { answers: [rr('', TYPE.NS, wireName('a.root'))] }))).toEqual(['a.root']);
    expect(dataOf(read('x.nl', 'TXT', { answers: [rr('x.nl', TYPE.TXT, texts)] }))).toEqual(['v=spy']);
    expect(dataOf(read('x.nl', 'MX', { answers: [mx('x.nl', 10, 'mx.x.nl'), mx('x.nl', 0, '')] }))).toEqual([
      { preference: 10, exchange: 'mx.x.nl' },
      { preference: 0, exchange: '.' },
    ]);
  });

  test('NODE-21 a TLSA of any length is kept as its octets, down to none, and shifts nothing', () => {
    const short = [Buffer.alloc(0), Buffer.from([3]), Buffer.from([3, 1])];
    const good = Buffer.from([3, 1, 1, 0xab]);
    const answers = [...short, good].map((rdata) => tlsa('_25._tcp.x.nl', rdata));
    expect(dataOf(read('_25._tcp.x.nl', 'TLSA', { answers }))).toEqual([...short, good]);
  });

  test.each<[string, Buffer]>([
    ['an A of 5 octets', rr('x.nl', TYPE.A, Buffer.alloc(5))],
    ['an A of 3 octets', rr('x.nl', TYPE.A, Buffer.alloc(3))],
    ['an AAAA of 4 octets', rr('x.nl', TYPE.AAAA, Buffer.alloc(4))],
    [
      'an MX with junk behind its name',
      rr('x.nl', TYPE.MX, Buffer.concat([u16(10), wireName('mx.x.nl'), Buffer.alloc(2)])),
    ],
    ['an MX without a name', rr('x.nl', TYPE.MX, u16(10))],
    ['a CNAME that ends inside its name', rr('x.nl', TYPE.CNAME, wireName('y.nl').subarray(0, 3))],
    ['a CNAME whose RDLENGTH ends inside its name', rr('x.nl', TYPE.CNAME, wireName('y.nl'), { length: 3 })],
    ['RDATA that runs past the message', tlsa('x.nl', Buffer.from([3, 1, 1]), { length: 400 })],
    ['a text that runs past its record', rr('x.nl', TYPE.TXT, Buffer.from([9, 65]))],
    ['a compression pointer to itself', rr(Buffer.from([0xc0, 22]), TYPE.A, Buffer.alloc(4))],
    ['a compression pointer forward', rr(Buffer.from([0xc0, 60]), TYPE.A, Buffer.alloc(4))],
    ['a compression pointer past the end', rr('x.nl', TYPE.CNAME, Buffer.from([0xff, 0xff]))],
    ['a label kind that does not exist', rr(Buffer.from([0x80, 1, 0]), TYPE.A, Buffer.alloc(4))],
    ['a name of 256 octets', rr('x.nl', TYPE.CNAME, wireName(Array(4).fill('a'.repeat(63))))],
    ['a second OPT', Buffer.alloc(0)],
  ])('NODE-21 DNS-07 %s makes the whole answer malformed', (what, record) => {
    const shape = what === 'a second OPT' ? { additionals: [opt(), opt()] } : { answers: [record] };
    expect(read('x.nl', 'A', shape).kind).toBe('malformed');
  });

  test('NODE-21 octets behind the last record make it malformed, and so do fewer records than announced', () => {
    expect(read('x.nl', 'A', { answers: [a('x.nl', '192.0.2.1')], tail: Buffer.from([0]) }).kind).toBe('malformed');
    const whole = reply('x.nl', 'A', { answers: [a('x.nl', '192.0.2.1'), a('x.nl', '192.0.2.2')] });
    const cut = whole.subarray(0, whole.length - a('x.nl', '192.0.2.2').length);
    expect(decodeReply(cut, ID, { name: 'x.nl', type: 'A' }).kind).toBe('malformed');
  });

  test('compression that leads back is followed', () => {
    const pointer = Buffer.from([0xc0, 12]);
    const answers = [
      rr(pointer, TYPE.MX, Buffer.concat([u16(5), Buffer.from([2]), Buffer.from('MX'), pointer])),
      rr(pointer, TYPE.CNAME, pointer),
    ];
    expect(dataOf(read('x.nl', 'MX', { answers }))).toEqual([{ preference: 5, exchange: 'mx.x.nl' }, 'x.nl']);
  });

  test('NODE-22 records of class CH, of no class and with the top bit of the class set do not exist for us', () => {
    const answers = [3, 0, 254, 255, 0x8001].map((klass) => a('x.nl', '192.0.2.66', { klass }));
    expect(answersOf(read('x.nl', 'A', { answers }))).toEqual([]);
  });

  test('MX-14 a label with a dot, a NUL, an octet above 127 or a backslash cannot pass for a legal name', () => {
    const odd = [
      ['mx.evi', 'com'],
      ['mx\0', 'nl'],
      ['m\xff', 'nl'],
      ['m\\', 'nl'],
      ['mx ', 'nl'],
      ['*', 'nl'],
    ];
    const answers = odd.map((labels) => mx('x.nl', 1, labels));
    expect(dataOf(read('x.nl', 'MX', { answers }))).toEqual(
      ['mx\\.evi.com', 'mx\\000.nl', 'm\\255.nl', 'm\\\\.nl', 'mx\\032.nl', '\\*.nl'].map((exchange) => ({
        preference: 1,
        exchange,
      })),
    );
  });

  test('a TTL with the top bit set counts as 0 (RFC 2181 §8)', () => {
    const decoded = read('x.nl', 'A', { answers: [a('x.nl', '192.0.2.1', { ttl: 0x80000001 })] });
    expect(decoded.kind === 'reply' && decoded.reply.answers[0]?.ttl).toBe(0);
  });

  test('DNS-20 the SOA says how long an absence may be believed', () => {
    const ttlOf = (decoded: Decoded): unknown => decoded.kind === 'reply' && decoded.reply.negativeTtl;
    expect(ttlOf(read('x.nl', 'A', { authorities: [soa('nl', 30, 300)] }))).toBe(30);
    expect(ttlOf(read('x.nl', 'A', { authorities: [soa('nl', 300, 20)] }))).toBe(20);
    expect(ttlOf(read('x.nl', 'A'))).toBe(0);
  });
});

describe('which message is the answer', () => {
  const question = { name: 'x.nl', type: 'A' } as const;
  const strays: [string, Buffer][] = [
    ['another id', reply('x.nl', 'A', { id: ID + 1 })],
    ['a query, not a reply', reply('x.nl', 'A', { flags: 0x0100 })],
    ['another opcode', reply('x.nl', 'A', { flags: 0x8980 | (4 << 11) })],
    ['another name', reply('y.nl', 'A')],
    ['another type', reply('x.nl', 'AAAA')],
    ['another class', reply('x.nl', 'A', { question: Buffer.concat([wireName('x.nl'), u16(1, 3)]) })],
    [
      'two questions',
      Buffer.concat([u16(ID, 0x8180, 2, 0, 0, 0), wireName('x.nl'), u16(1, 1), wireName('x.nl'), u16(1, 1)]),
    ],
    ['no question', u16(ID, 0x8180, 0, 0, 0, 0)],
    ['half a header', u16(ID, 0x8180)],
    ['nothing at all', Buffer.alloc(0)],
  ];
  test.each(strays)('NODE-24 %s is ignored', (_, octets) => {
    expect(decodeReply(octets, ID, question)).toEqual({ kind: 'stray' });
  });

  test('NODE-24 the name in the question may differ in case', () => {
    expect(decodeReply(reply('X.Nl', 'A'), ID, question).kind).toBe('reply');
  });

  test('NODE-25 TC is seen before the records are, which may have been cut anywhere', () => {
    const whole = reply('x.nl', 'A', { tc: true, answers: [a('x.nl', '192.0.2.1')] });
    expect(decodeReply(whole.subarray(0, whole.length - 3), ID, question)).toEqual({ kind: 'truncated' });
  });
});

describe('extended errors', () => {
  test('DNS-08 the upper bits of the RCODE come from OPT', () => {
    const decoded = read('x.nl', 'A', { additionals: [opt({ upperRcode: 1 })] });
    expect(decoded.kind === 'reply' && decoded.reply.rcode).toBe(16);
  });

  test('DNS-10 NODE-23 the extended error has a code and a text that is fit to be logged', () => {
    const text = `signature\r\nexpired\u0000\u202e${'x'.repeat(500)}`;
    const decoded = read('x.nl', 'A', { additionals: [opt({ extendedError: { code: 7, text } })] });
    const extended = decoded.kind === 'reply' ? decoded.reply.extended : null;
    expect(extended?.code).toBe(7);
    expect(extended?.text).toMatch(/^signature expired x+$/);
    expect(extended?.text.length).toBeLessThan(201);
  });
});

describe('any octets', () => {
  const question = { name: 'x.nl', type: 'MX' } as const;
  const good = reply('x.nl', 'MX', {
    ad: true,
    answers: [cname('x.nl', 'y.nl'), mx('y.nl', 10, 'mx.y.nl'), tlsa('y.nl', Buffer.from('030101ff', 'hex'))],
    authorities: [soa('nl', 60)],
    additionals: [opt({ extendedError: { code: 6, text: 'bogus' } })],
  });

  test('NODE-21 DNS-07 the reader never throws, whatever comes behind a good header', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (octets) => {
        const header = good.subarray(0, 12 + wireName('x.nl').length + 4);
        decodeReply(Buffer.from(octets), ID, question);
        decodeReply(Buffer.concat([header, octets]), ID, question);
      }),
      { numRuns: 2000 },
    );
  });

  test('NODE-21 a message with changed or missing octets is never read as authentic unless its AD bit is set', () => {
    const change = fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 6 }), fc.nat(good.length), (changes, keep) => {
        const octets = Buffer.from(good);
        for (const { at, value } of changes) octets.writeUInt8(value, at);
        for (const each of [octets, octets.subarray(0, keep)]) {
          const decoded = decodeReply(each, ID, question);
          if (decoded.kind === 'reply') expect(decoded.reply.authentic).toBe((each.readUInt16BE(2) & 0x20) !== 0);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test('NODE-21 records that were never in the message are never read out of it', () => {
    const labels = fc.array(fc.uint8Array({ minLength: 1, maxLength: 20 }).map(Buffer.from), {
      minLength: 1,
      maxLength: 5,
    });
    fc.assert(
      fc.property(labels, fc.uint8Array({ maxLength: 80 }), (name, rdata) => {
        const owner = wireName(name);
        const answers = [rr(owner, TYPE.TLSA, Buffer.from(rdata)), rr(owner, 65280, Buffer.from(rdata))];
        const decoded = decodeReply(reply('x.nl', 'MX', { answers }), ID, question);
        expect(decoded.kind).toBe('reply');
        if (decoded.kind !== 'reply') return;
        expect(decoded.reply.answers.map(({ data }) => data)).toEqual([Buffer.from(rdata)]);
        // As many unescaped dots as there are joints between the labels: no octet became a dot.
        const text = decoded.reply.answers[0]?.owner ?? '';
        expect(text.replace(/\\(\d{3}|.)/g, '?').split('.')).toHaveLength(name.length);
      }),
      { numRuns: 1000 },
    );
  });

  test('a message of 64 KiB with thousands of records and pointers is read in bounded work', () => {
    const pointer = Buffer.from([0xc0, 12]);
    const answers = Array.from({ length: 4000 }, () => rr(pointer, TYPE.A, Buffer.from([192, 0, 2, 1])));
    const long = Array.from({ length: 120 }, () => 'a').join('.');
    const octets = decodeReply(reply(long, 'A', { answers }), ID, { name: long, type: 'A' });
    expect(octets.kind === 'reply' && octets.reply.answers.length).toBe(4000);
  });
});
