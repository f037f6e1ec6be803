/** What the answers of a real Unbound mean to us, zones really signed (behaviour.md, appendix B). */

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { encode } from 'dns-packet';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DnsAnswer, RecordType } from '../../src/model/dns.ts';
import { createResolver } from '../../src/route/resolver.ts';
import { a, type FakeDns, message, RCODE, soa, startFakeDns, TYPE } from '../support/fake-dns.ts';
import { bogus, type RouteLab, signed, startRouteLab, unsigned } from '../support/route-lab.ts';

const RECORD = `3 1 1 ${'ab'.repeat(32)}`;

let lab: RouteLab;
let authority: FakeDns;

beforeAll(async () => {
  // An authority for an unsigned zone that knows addresses and fails on TLSA, as some really do.
  authority = await startFakeDns((query) => {
    if (query.type === TYPE.TLSA) return message(query, { rcode: RCODE.NOTIMP });
    const answers = query.type === TYPE.A && query.name.startsWith('mx.') ? [a(query.name, '127.0.0.5')] : [];
    return message(query, { aa: true, answers, authorities: answers.length === 0 ? [soa('old.test', 0)] : [] });
  });
  lab = await startRouteLab({
    'good.test': {
      ...signed(
        '@ MX 10 mx',
        'mx A 127.0.0.2',
        'mx AAAA ::1',
        `_25._tcp.mx TLSA ${RECORD}`,
        '*._tcp.wild TLSA 3 1 1 cd',
        '_25._tcp.alias CNAME _25._tcp.mx',
        'inner CNAME mx',
        'outer CNAME mx.plain.test.',
        'round CNAME trip',
        'trip CNAME round',
        'dangling CNAME nowhere',
        'empty TXT "no address"',
        'old DNAME new.good.test.',
        'mx.new A 127.0.0.3',
        ...Array.from({ length: 12 }, (_, i) => `l${i} CNAME l${i + 1}`),
        'l12 A 127.0.0.4',
        ...Array.from(
          { length: 560 },
          (_, i) => `_25._tcp.many TLSA 3 1 2 ${i.toString(16).padStart(4, '0').repeat(32)}`,
        ),
      ),
      forged: ['tampered A 127.0.0.66', 'fresh A 127.0.0.66', `_25._tcp.tampered TLSA ${RECORD}`],
    },
    'plain.test': unsigned('@ MX 10 mx', 'mx A 127.0.0.2', 'inward CNAME mx.good.test.', `_25._tcp.mx TLSA ${RECORD}`),
    'broken.test': bogus('@ MX 10 mx', 'mx A 127.0.0.2'),
    'old.test': { ...unsigned(), server: authority.server },
  });
});
afterAll(async () => {
  await lab.close();
  await authority.close();
});

async function ask(name: string, type: RecordType): Promise<string> {
  return inShort(await lab.resolve(name, type));
}

function inShort(answer: DnsAnswer<unknown>): string {
  switch (answer.kind) {
    case 'failed':
      return 'failed';
    case 'absent':
      return `${answer.secure ? 'secure' : 'insecure'} ${answer.nxdomain ? 'no such name' : 'no data'}`;
    case 'found':
      return `${answer.secure ? 'secure' : 'insecure'} at ${answer.name}`;
  }
}

test.each<[string, string, RecordType, string]>([
  ['DNS-01 signed MX', 'good.test', 'MX', 'secure at good.test'],
  ['DNS-01 signed TLSA', '_25._tcp.mx.good.test', 'TLSA', 'secure at _25._tcp.mx.good.test'],
  ['DNS-01 the root itself', '.', 'NS', 'secure at .'],
  ['DNS-02 unsigned MX', 'plain.test', 'MX', 'insecure at plain.test'],
  ['DNS-09 a zone outside DNSSEC is insecure, no error', 'mx.plain.test', 'A', 'insecure at mx.plain.test'],
  ['DNS-03 no such name, proven', 'nothing.good.test', 'MX', 'secure no such name'],
  ['DNS-03 no such zone, proven', 'nothing.test', 'MX', 'secure no such name'],
  ['DNS-04 no such name, not proven', 'nothing.plain.test', 'MX', 'insecure no such name'],
  ['DNS-05 no data, proven', 'mx.good.test', 'MX', 'secure no data'],
  ['DNS-05 no data, not proven', 'mx.plain.test', 'MX', 'insecure no data'],
  ['DNS-06 a bogus zone', 'broken.test', 'MX', 'failed'],
  ['DNS-06 a forged record in a signed zone', 'tampered.good.test', 'A', 'failed'],
  ['DNS-06 a forged TLSA record', '_25._tcp.tampered.good.test', 'TLSA', 'failed'],
  ['DNS-11 an alias within the signed zone', 'inner.good.test', 'A', 'secure at mx.good.test'],
  ['DNS-11 signed alias, unsigned target', 'outer.good.test', 'A', 'insecure at mx.plain.test'],
  ['DNS-11 the CNAME of that name is signed', 'outer.good.test', 'CNAME', 'secure at outer.good.test'],
  ['DNS-11 unsigned alias, signed target', 'inward.plain.test', 'A', 'insecure at mx.good.test'],
  ['DNS-12 aliases in a circle', 'round.good.test', 'A', 'failed'],
  ['DNS-12 a chain of eight', 'l4.good.test', 'A', 'secure at l12.good.test'],
  ['TLSA-08 an alias to nothing', 'dangling.good.test', 'A', 'secure no such name'],
  ['DNS-14 an alias made by DNAME', 'mx.old.good.test', 'A', 'secure at mx.new.good.test'],
  ['TLSA-06 TLSA behind an alias', '_25._tcp.alias.good.test', 'TLSA', 'secure at _25._tcp.mx.good.test'],
  ['TLSA-09 TLSA from a wildcard', '_25._tcp.wild.good.test', 'TLSA', 'secure at _25._tcp.wild.good.test'],
  ['ADDR-02 an authority that fails on TLSA', '_25._tcp.mx.old.test', 'TLSA', 'failed'],
  ['ADDR-02 and still knows addresses', 'mx.old.test', 'A', 'insecure at mx.old.test'],
  ['DNS-18 a short name gets no search domain', 'mx', 'A', 'secure no such name'],
])('%s', async (_, name, type, expected) => {
  expect(await ask(name, type)).toBe(expected);
});

test.each(['broken.test', 'tampered.good.test'])('DNS-10 the bogus %s says so in words', async (name) => {
  const answer = await lab.resolve(name, 'A');
  expect(answer).toMatchObject({ kind: 'failed', extended: { code: expect.any(Number) } });
  expect(answer.kind === 'failed' && answer.reason).toMatch(/^SERVFAIL \((DNSSEC bogus|DNSKEY missing)/);
});

test('TLSA-12 OPS-06 560 TLSA records arrive over TCP, all of them', async () => {
  const answer = await lab.resolve('_25._tcp.many.good.test', 'TLSA');
  expect(answer).toMatchObject({ kind: 'found', secure: true });
  expect(new Set(answer.kind === 'found' ? answer.records.map((each) => each.toString('hex')) : []).size).toBe(560);
});

describe('why our questions have AD and not CD', () => {
  /** AD and RCODE of Unbound's reply to a question with these flags. */
  async function bare(name: string, flags: number, doBit = false): Promise<{ ad: boolean; rcode: number }> {
    const socket = createSocket('udp4');
    socket.connect(lab.dns.server.port, lab.dns.server.address);
    await once(socket, 'connect');
    const additionals = doBit
      ? [
          {
            type: 'OPT' as const,
            name: '.' as const,
            udpPayloadSize: 1232,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0x8000,
            flag_do: true,
            options: [],
          },
        ]
      : [];
    socket.send(encode({ type: 'query', id: 1, flags, questions: [{ name, type: 'A' }], additionals }));
    const [reply] = (await once(socket, 'message')) as [Buffer];
    socket.close();
    return { ad: (reply.readUInt16BE(2) & 0x20) !== 0, rcode: reply.readUInt16BE(2) & 0xf };
  }

  test.each<[string, number, boolean, boolean]>([
    ['RD alone: AD is lost', 0x0100, false, false],
    ['RD and AD', 0x0120, false, true],
    ['RD and DO', 0x0100, true, true],
  ])('DNS-16 %s', async (_, flags, doBit, ad) => {
    expect(await bare('mx.good.test', flags, doBit)).toEqual({ ad, rcode: 0 });
  });

  test('DNS-16 with CD bogus data would come as if it were plain', async () => {
    expect(await bare('fresh.good.test', 0x0130)).toEqual({ ad: false, rcode: 0 });
    expect(await bare('fresh.good.test', 0x0120)).toEqual({ ad: false, rcode: RCODE.SERVFAIL });
  });
});

test('a changed zone is seen at once, whatever its DNSSEC was and becomes', async () => {
  const { setZone } = lab.dns;
  await setZone('moving.test', signed('mx A 127.0.0.2'));
  expect(await ask('mx.moving.test', 'A')).toBe('secure at mx.moving.test');
  await setZone('moving.test', signed('mx A 127.0.0.3'));
  expect(await lab.resolve('mx.moving.test', 'A')).toMatchObject({ secure: true, records: ['127.0.0.3'] });
  await setZone('moving.test', bogus('mx A 127.0.0.3'));
  expect(await ask('mx.moving.test', 'A')).toBe('failed');
  await setZone('moving.test', unsigned('mx A 127.0.0.3'));
  expect(await ask('mx.moving.test', 'A')).toBe('insecure at mx.moving.test');
  await setZone('moving.test', { ...signed('other A 127.0.0.3'), forged: ['mx A 127.0.0.3'] });
  expect(await ask('mx.moving.test', 'A')).toBe('failed');
  expect(await ask('other.moving.test', 'A')).toBe('secure at other.moving.test');
  await setZone('elsewhere.nl', signed('mx A 127.0.0.9'));
  expect(await ask('mx.elsewhere.nl', 'A')).toBe('secure at mx.elsewhere.nl');
});

test('ROLL-04 what the client keeps, it keeps with its status, and no longer than told', async () => {
  await lab.dns.setZone('kept.test', signed('mx 60 A 127.0.0.2', 'brief A 127.0.0.2'));
  const { resolve, close } = createResolver({ server: lab.dns.server });
  expect(await resolve('mx.kept.test', 'A')).toMatchObject({ secure: true });
  expect(await resolve('brief.kept.test', 'A')).toMatchObject({ secure: true });
  await lab.dns.setZone('kept.test', unsigned('mx 60 A 127.0.0.3', 'brief A 127.0.0.3'));
  expect(await resolve('mx.kept.test', 'A')).toMatchObject({ secure: true, records: ['127.0.0.2'] });
  expect(await resolve('brief.kept.test', 'A')).toMatchObject({ secure: false, records: ['127.0.0.3'] });
  close();
});

test('records of the lab have TTL 0 unless they say otherwise, so that a change is seen by everybody', async () => {
  expect(await lab.resolve('mx.good.test', 'A')).toMatchObject({ ttl: 0 });
});
