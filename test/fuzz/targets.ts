/**
 * Everything in the relay that reads octets of strangers, each with octets that are nearly right. Nothing may throw,
 * and where octets come in pieces, the cuts may not change what is read.
 */
import fc from 'fast-check';
import { chainOfThree, selfSigned } from '../../lab/certificates.ts';
import { ReplyReader } from '../../src/deliver/replies.ts';
import { readCertificate } from '../../src/policy/dane/certificate.ts';
import { readInside } from '../../src/policy/dane/der.ts';
import { readDetails } from '../../src/policy/dane/details.ts';
import { judgeChain } from '../../src/policy/dane/match.ts';
import { judgeRecords, parseTlsa, readRdata } from '../../src/policy/dane/tlsa.ts';
import { lists, readPolicy } from '../../src/policy/sts/policy.ts';
import { readRecord } from '../../src/policy/sts/record.ts';
import { decodeXtext, readMail, readRcpt } from '../../src/receive/envelope.ts';
import { Wire } from '../../src/receive/wire.ts';
import { decodeReply, encodeQuery } from '../../src/route/wire.ts';
import { load } from '../config/support.ts';

export interface Target {
  readonly name: string;
  /** True when it behaved. Made to be run with `fc.check`. */
  readonly property: fc.IAsyncProperty<unknown[]>;
}

/** One change to octets that were right. */
const edit = fc.record({ at: fc.nat(), cut: fc.nat(4), put: fc.uint8Array({ maxLength: 4 }) });

/** Octets with a few of them lost, doubled, changed or put in. */
function nearly(good: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  return fc.tuple(good, fc.array(edit, { maxLength: 6 })).map(([octets, edits]) =>
    edits.reduce((whole, { at, cut, put }) => {
      const from = whole.length === 0 ? 0 : at % whole.length;
      return Buffer.concat([whole.subarray(0, from), put, whole.subarray(from + cut)]);
    }, octets),
  );
}

function oneOf(...texts: readonly (string | Buffer)[]): fc.Arbitrary<Buffer> {
  return fc.constantFrom(...texts.map((text) => Buffer.from(text as string)));
}

const textOf = (octets: Buffer): string => octets.toString('utf8').replaceAll('\ufffd', '?');

/** `content` as one piece and as several must come to the same. */
const cut = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 10 });

function pieces(octets: Buffer, places: readonly number[]): Buffer[] {
  const ends = places.map((place) => Math.floor(place * octets.length)).sort((a, b) => a - b);
  return [0, ...ends].map((from, i) => octets.subarray(from, ends[i] ?? octets.length));
}

function target(
  name: string,
  made: fc.Arbitrary<Buffer>,
  behaves: (octets: Buffer, cuts: number[]) => unknown,
): Target {
  const property = fc.asyncProperty(made, cut, async (octets, cuts) => {
    const result = await behaves(octets, cuts);
    if (result === false) throw new Error('the cuts changed what was read');
  });
  return { name, property: property as unknown as fc.IAsyncProperty<unknown[]> };
}

// SMTP, as a client speaks it

const smtp = fc
  .array(
    fc.oneof(
      { weight: 6, arbitrary: oneOf('NOOP\r\n', 'DATA\r\n', '.\r\n', '\r\n.\r\n', '\r\n..\r\n', '.', '\r', '\n', 'x') },
      { weight: 1, arbitrary: oneOf('\0', '\x16\x03', 'x'.repeat(2050), '\n.\n', '\r.\r', '\xff', 'NOOP\n') },
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 5 }).map((octets) => Buffer.from(octets)) },
    ),
    { maxLength: 40 },
  )
  .map((parts) => Buffer.concat(parts));

const NOTHING = Buffer.alloc(0);

/** Commands, faults and whole messages in the order in which they were read. */
async function conversationIn(parts: readonly Buffer[]): Promise<string> {
  const read: string[] = [];
  let content: Buffer[] = [];
  const wire: Wire = new Wire({
    command: (line) => {
      read.push(`command ${line.toString('latin1')}`);
      if (line.toString() === 'DATA') wire.startContent();
    },
    fault: (fault) => read.push(`fault ${fault}`),
    content: (octets) => content.push(octets),
    contentEnd: () => {
      read.push(`message ${Buffer.concat(content).toString('latin1')}`);
      content = [];
      // Here a session stores it, while more may come.
      wire.hold();
      setImmediate(() => wire.release());
    },
  });
  const breathe = () => new Promise((resolve) => setImmediate(resolve));
  for (const part of [...parts, NOTHING]) {
    wire.add(part);
    while (wire.run() || wire.isFull) await breathe();
  }
  return read.join('\n');
}

// Certificates

const self = await selfSigned('mx.example.test', '*.example.test');
const { leaf, root } = await chainOfThree(['mx.example.test']);
const certificates = [self, leaf, root].map(({ certificate }) => Buffer.from(certificate.rawData));
const records = [
  { usage: 3, selector: 1, matching: 1, data: Buffer.alloc(32) },
  { usage: 2, selector: 0, matching: 0, data: certificates[2] ?? Buffer.alloc(0) },
  { usage: 2, selector: 1, matching: 2, data: Buffer.alloc(64) },
];

// DNS

const question = { name: 'x.nl', type: 'TLSA' } as const;
const query = encodeQuery(7, question);
/** A whole answer with one TLSA record: the question, its flags turned, a pointer to its name. */
const dnsAnswer = Buffer.concat([
  query.subarray(0, 2),
  Buffer.from([0x81, 0xa0, 0, 1, 0, 1, 0, 0, 0, 0]),
  query.subarray(12, 12 + 6 + 4),
  Buffer.from([0xc0, 12, 0, 52, 0, 1, 0, 0, 1, 44, 0, 35, 3, 1, 1]),
  Buffer.alloc(32, 1),
]);

const yaml = oneOf(
  'hostname: relay.example.nl\nclients:\n  - { name: x, networks: [10.0.0.0/8], tls: required }\n',
  'destinations: [{ domain: "*", tls: dane, via: "[mx.example.nl]:25" }]\nqueue: { retry: [5m, 1h], lifetime: 5d }\n',
  'resolver: { address: "127.0.0.1:53", probe: { signed: ".", bogus: [x.nl] } }\nintake: { messageSize: 50MB }\n',
);

export const TARGETS: readonly Target[] = [
  target('commands and content of a client', smtp, async (octets, cuts) => {
    return (await conversationIn([octets])) === (await conversationIn(pieces(octets, cuts)));
  }),
  target(
    'MAIL and RCPT with their parameters',
    nearly(
      oneOf(
        'MAIL FROM:<a@example.nl> SIZE=1000 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+3Dy',
        'MAIL FROM:<"a\\"b c"@[IPv6:2001:db8::1]> AUTH=<>',
        'RCPT TO:<@a.nl,@b.nl:b@xn--bcher-kva.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+40example.nl',
        'RCPT TO:<бер@bücher.example> NOTIFY=NEVER ORCPT=utf-8;\\x{43f}@x.nl',
      ),
    ),
    (octets) => {
      for (const extended of [true, false]) {
        readMail(textOf(octets), 1_000_000, extended, !extended);
        readRcpt(textOf(octets), extended, true);
      }
      decodeXtext(textOf(octets));
    },
  ),
  target(
    'replies of a mail host',
    nearly(oneOf('220 mx ESMTP\r\n', '250-mx\r\n250-SIZE 1\r\n250 DSN\r\n', '550 5.1.1 no\r\n', '354 \r\n421\r\n')),
    (octets, cuts) => {
      const readIn = (parts: readonly Buffer[]): string => {
        const reader = new ReplyReader();
        return JSON.stringify(parts.flatMap((part) => reader.push(part)));
      };
      return readIn([octets]) === readIn(pieces(octets, cuts));
    },
  ),
  target('answers of a resolver', nearly(fc.constant(dnsAnswer)), (octets) => void decodeReply(octets, 7, question)),
  target(
    'TLSA records, as octets and as text',
    nearly(oneOf('3 1 1 ab', `2 0 2 ${'0f'.repeat(64)}`, '3 1 1 0123 4567', Buffer.from([3, 1, 1, 0, 1]))),
    (octets) => {
      parseTlsa(octets.toString('latin1'));
      readRdata(octets);
      judgeRecords([octets, octets.subarray(1)]);
    },
  ),
  target(
    'MTA-STS records and policies',
    nearly(oneOf('version: STSv1\r\nmode: enforce\r\nmx: *.a.nl\r\nmax_age: 1\r\n', 'v=STSv1; id=1;', '*.a.nl')),
    (octets) => {
      const reading = readPolicy(octets);
      if (reading.kind === 'policy') lists(reading.policy, 'mx.a.nl');
      const records = [octets.toString('latin1'), 'v=STSv1; id=2'] as const;
      readRecord({ kind: 'found', secure: false, name: 'a.nl', records, ttl: 1 });
    },
  ),
  target('certificates', nearly(fc.constantFrom(...certificates)), (octets) => {
    readInside(octets);
    const certificate = readCertificate(octets);
    if (certificate) readDetails(certificate);
    const chain = [octets, ...certificates];
    judgeChain({ chain, records, names: ['mx.example.test'], at: Date.UTC(2026, 0, 1) });
    judgeChain({ chain: chain.toReversed(), records, names: ['mx.example.test'], at: Date.UTC(2026, 0, 1) });
  }),
  target('configuration', nearly(yaml), (octets) => void load(textOf(octets))),
];
