import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { DnsAnswer } from '../../src/model/dns.ts';
import { createResolver, type Resolver } from '../../src/route/resolver.ts';
import { isLoopback } from '../../src/shared/loopback.ts';
import {
  a,
  cname,
  type FakeDns,
  type FakeQuery,
  framed,
  message,
  mx,
  opt,
  RCODE,
  type ReplyShape,
  rr,
  type Script,
  soa,
  startFakeDns,
  TYPE,
  tlsa,
  u16,
  wireName,
} from '../support/fake-dns.ts';

let fake: FakeDns;
let resolver: Resolver;

beforeAll(async () => {
  fake = await startFakeDns(() => null);
});
afterAll(() => fake.close());
afterEach(() => resolver.close());

/** A fresh resolver client, before a server that follows the script. */
function behind(script: Script, timeoutMs = 5000): Resolver {
  fake.script = script;
  (fake.queries as FakeQuery[]).length = 0;
  resolver = createResolver({ server: fake.server, timeoutMs });
  return resolver;
}

/** The same reply to every question. */
function always(shape: ReplyShape): Script {
  return (query) => message(query, shape);
}

const GOOD: ReplyShape = { ad: true, answers: [a('x.nl', '192.0.2.1')] };

function reasonOf(answer: DnsAnswer<unknown>): string {
  return answer.kind === 'failed' ? answer.reason : `not failed but ${JSON.stringify(answer)}`;
}

describe('what an answer is', () => {
  const record = a('x.nl', '192.0.2.1');
  test.each<[string, ReplyShape, Partial<DnsAnswer<string>>]>([
    ['DNS-01 records with AD are secure', { ad: true, answers: [record] }, { kind: 'found', secure: true }],
    ['DNS-02 records without AD are insecure', { answers: [record] }, { kind: 'found', secure: false }],
    ['DNS-03 NXDOMAIN with AD', { ad: true, rcode: RCODE.NXDOMAIN }, { kind: 'absent', secure: true, nxdomain: true }],
    ['DNS-04 NXDOMAIN without AD', { rcode: RCODE.NXDOMAIN }, { kind: 'absent', secure: false, nxdomain: true }],
    ['DNS-05 no data with AD', { ad: true }, { kind: 'absent', secure: true, nxdomain: false }],
    ['DNS-05 no data without AD', {}, { kind: 'absent', secure: false, nxdomain: false }],
    [
      'DNS-10 NOERROR with an extended error',
      { ...GOOD, additionals: [opt({ extendedError: { code: 3 } })] },
      { kind: 'found' },
    ],
    ['DNS-06 SERVFAIL', { rcode: RCODE.SERVFAIL }, { kind: 'failed', reason: 'SERVFAIL' }],
    ['DNS-06 SERVFAIL even with AD and records', { ...GOOD, rcode: RCODE.SERVFAIL }, { kind: 'failed' }],
    ['DNS-06 REFUSED', { rcode: RCODE.REFUSED }, { kind: 'failed', reason: 'REFUSED' }],
    ['DNS-06 NOTIMP', { rcode: RCODE.NOTIMP }, { kind: 'failed', reason: 'NOTIMP' }],
    ['DNS-06 FORMERR', { rcode: RCODE.FORMERR }, { kind: 'failed', reason: 'FORMERR' }],
    ['DNS-06 an RCODE that nobody knows', { rcode: 11 }, { kind: 'failed', reason: 'response code 11' }],
    [
      'DNS-08 BADVERS in OPT',
      { ...GOOD, additionals: [opt({ upperRcode: 1 })] },
      { kind: 'failed', reason: 'BADVERS' },
    ],
    [
      'DNS-08 other upper bits',
      { ...GOOD, additionals: [opt({ upperRcode: 2 })] },
      { kind: 'failed', reason: 'response code 32' },
    ],
    [
      'DNS-10 SERVFAIL says why, in words',
      { rcode: RCODE.SERVFAIL, additionals: [opt({ extendedError: { code: 6, text: 'no signatures' } })] },
      {
        kind: 'failed',
        reason: 'SERVFAIL (DNSSEC bogus: no signatures)',
        extended: { code: 6, text: 'no signatures' },
      },
    ],
    ['NXDOMAIN together with records', { ...GOOD, rcode: RCODE.NXDOMAIN }, { kind: 'failed' }],
  ])('%s', async (_, shape, expected) => {
    expect(await behind(always(shape)).resolve('x.nl', 'A')).toMatchObject(expected);
  });

  test('a record has its name, its TTL and its data', async () => {
    expect(await behind(always(GOOD)).resolve('x.nl', 'A')).toEqual({
      kind: 'found',
      secure: true,
      name: 'x.nl',
      records: ['192.0.2.1'],
      ttl: 300,
    });
  });

  test('NODE-21 the 2-octet TLSA that a zone file cannot hold arrives as it is', async () => {
    const script = always({ ad: true, answers: [tlsa('_25._tcp.x.nl', Buffer.from([3, 1]))] });
    expect(await behind(script).resolve('_25._tcp.x.nl', 'TLSA')).toMatchObject({ records: [Buffer.from([3, 1])] });
  });

  test('NODE-22 records of another class are ignored', async () => {
    const answers = [a('x.nl', '192.0.2.66', { klass: 3 }), a('x.nl', '192.0.2.67', { klass: 0x8001 })];
    expect(await behind(always({ ad: true, answers })).resolve('x.nl', 'A')).toMatchObject({ kind: 'absent' });
  });

  test('DNS-16 NODE-20 DNS-18 the name goes out as it is, with RD and AD and without CD', async () => {
    await behind(always({})).resolve('mx', 'A');
    expect(fake.queries.map(({ name, flags }) => [name, flags])).toEqual([['mx', 0x0120]]);
  });

  test.each([
    '',
    'a..b',
    'x.nl.',
    `${'a'.repeat(64)}.nl`,
    Array(60).fill('abcde').join('.'),
    'bücher.nl',
    'x y.nl',
    'a\\.b',
  ])('IDN-02 %j is never put into a question', async (name) => {
    expect((await behind(always(GOOD)).resolve(name, 'A')).kind).toBe('failed');
    expect(fake.queries).toEqual([]);
  });
});

describe('aliases', () => {
  const chainOf = (length: number): Buffer[] => Array.from({ length }, (_, i) => cname(`l${i}.nl`, `l${i + 1}.nl`));

  test('DNS-13 are followed by owner name, without regard to case or order; strays are ignored', async () => {
    const answers = [
      a('evil.nl', '192.0.2.66'),
      a('Z.nl', '192.0.2.1', { ttl: 100 }),
      cname('y.nl', 'z.NL', { ttl: 50 }),
      cname('X.nl', 'y.nl'),
      a('y.nl.evil.nl', '192.0.2.67'),
    ];
    expect(await behind(always({ ad: true, answers })).resolve('x.nl', 'A')).toEqual({
      kind: 'found',
      secure: true,
      name: 'z.nl',
      records: ['192.0.2.1'],
      ttl: 50,
    });
  });

  test('DNS-13 an alias with stray records only is no data', async () => {
    const script: Script = (query) =>
      message(query, { ad: true, answers: [cname('x.nl', 'y.nl'), a('z.nl', '192.0.2.66')] });
    expect(await behind(script).resolve('x.nl', 'A')).toMatchObject({ kind: 'absent', name: 'y.nl', nxdomain: false });
  });

  test('DNS-14 a DNAME is followed through its synthesised CNAME', async () => {
    const dname = rr('old.nl', TYPE.DNAME, wireName('new.nl'));
    const answers = [dname, cname('mx.old.nl', 'mx.new.nl', { ttl: 0 }), a('mx.new.nl', '192.0.2.1')];
    expect(await behind(always({ ad: true, answers })).resolve('mx.old.nl', 'A')).toMatchObject({ name: 'mx.new.nl' });
  });

  test.each<[string, boolean, boolean, boolean]>([
    ['both signed', true, true, true],
    ['the alias signed', true, false, false],
    ['the target signed', false, true, false],
  ])(
    'DNS-12 a target that is not in the reply is asked for itself, and the AD bits are joined: %s',
    async (_, ad1, ad2, secure) => {
      const script: Script = (query) =>
        query.name === 'x.nl'
          ? message(query, { ad: ad1, answers: [cname('x.nl', 'y.nl')] })
          : message(query, { ad: ad2, answers: [a('y.nl', '192.0.2.1')] });
      expect(await behind(script).resolve('x.nl', 'A')).toMatchObject({ kind: 'found', name: 'y.nl', secure });
      expect(fake.queries.map(({ name }) => name)).toEqual(['x.nl', 'y.nl']);
    },
  );

  test('DNS-12 the target fails: the whole question failed', async () => {
    const script: Script = (query) =>
      query.name === 'x.nl'
        ? message(query, { ad: true, answers: [cname('x.nl', 'y.nl')] })
        : message(query, { rcode: RCODE.SERVFAIL });
    expect(reasonOf(await behind(script).resolve('x.nl', 'A'))).toBe('SERVFAIL');
  });

  test('DNS-12 NXDOMAIN of the target is an absence with its security', async () => {
    const script = always({ ad: true, rcode: RCODE.NXDOMAIN, answers: [cname('x.nl', 'y.nl')] });
    expect(await behind(script).resolve('x.nl', 'A')).toEqual({
      kind: 'absent',
      secure: true,
      name: 'y.nl',
      nxdomain: true,
    });
  });

  test.each([1, 10, 16])('DNS-12 a chain of %i links is followed', async (length) => {
    const answers = [...chainOf(length), a(`l${length}.nl`, '192.0.2.1')];
    expect(await behind(always({ ad: true, answers })).resolve('l0.nl', 'A')).toMatchObject({
      kind: 'found',
      secure: true,
    });
  });

  test('DNS-12 a longer one is a failure, never an absence, in one reply or over many', async () => {
    const answers = [...chainOf(17), a('l17.nl', '192.0.2.1')];
    expect(reasonOf(await behind(always({ ad: true, answers })).resolve('l0.nl', 'A'))).toMatch(/more than 16 aliases/);
    resolver.close();
    const endless: Script = (query) => {
      const next = `l${Number(query.name.slice(1, -3)) + 1}.nl`;
      return message(query, { ad: true, answers: [cname(query.name, next)] });
    };
    expect(reasonOf(await behind(endless).resolve('l0.nl', 'A'))).toMatch(/more than 16 aliases/);
    expect(fake.queries.length).toBeLessThan(20);
  });

  test.each<[string, Buffer[]]>([
    ['to itself', [cname('x.nl', 'x.nl')]],
    ['in a circle', [cname('x.nl', 'y.nl'), cname('y.nl', 'x.nl')]],
  ])('DNS-12 an alias %s is a failure', async (_, answers) => {
    expect(reasonOf(await behind(always({ ad: true, answers })).resolve('x.nl', 'A'))).toMatch(/circle/);
  });

  test.each<[string, Buffer[]]>([
    ['two different targets', [cname('x.nl', 'y.nl'), cname('x.nl', 'z.nl'), a('y.nl', '192.0.2.1')]],
    ['records of its own', [cname('x.nl', 'y.nl'), a('x.nl', '192.0.2.1'), a('y.nl', '192.0.2.2')]],
  ])('an alias with %s is a failure: nobody can know what was meant', async (_, answers) => {
    expect(reasonOf(await behind(always({ ad: true, answers })).resolve('x.nl', 'A'))).toMatch(/malformed/);
  });

  test('an alias to a name that is none is a failure, and is not asked for', async () => {
    const target = rr('x.nl', TYPE.CNAME, wireName(['a.b', 'nl']));
    const answer = await behind(always({ ad: true, answers: [target] })).resolve('x.nl', 'A');
    expect(reasonOf(answer)).toMatch(/a\\.b\.nl/);
    expect(fake.queries).toHaveLength(1);
  });

  test('a question for the CNAME itself is answered by it', async () => {
    const script = always({ ad: true, answers: [cname('x.nl', 'y.nl'), cname('y.nl', 'z.nl')] });
    expect(await behind(script).resolve('x.nl', 'CNAME')).toMatchObject({ name: 'x.nl', records: ['y.nl'] });
  });
});

describe('transport', () => {
  test('NODE-24 other ids, other questions and queries are ignored until the answer comes', async () => {
    const script: Script = (query) => {
      const bad = { ad: true, answers: [a('x.nl', '192.0.2.66')] };
      query.send(message(query, { ...bad, id: query.id ^ 1 }));
      query.send(message(query, { ...bad, question: Buffer.concat([wireName('y.nl'), u16(1, 1)]) }));
      query.send(message(query, { ...bad, flags: 0x0120 }));
      query.send(Buffer.from('garbage'));
      return message(query, GOOD);
    };
    expect(await behind(script).resolve('x.nl', 'A')).toMatchObject({ records: ['192.0.2.1'] });
  });

  test('NODE-24 a perfect forgery from another address or port never arrives', async () => {
    const forger = createSocket('udp4').bind(0, '127.0.0.1');
    const farForger = createSocket('udp4').bind(fake.server.port, '127.0.0.9');
    await Promise.all([once(forger, 'listening'), once(farForger, 'listening')]);
    const script: Script = async (query) => {
      const forged = message(query, { ad: true, answers: [a('x.nl', '192.0.2.66')] });
      for (const socket of [forger, farForger]) {
        await new Promise((sent) => socket.send(forged, query.from.port, '127.0.0.1', sent));
      }
      return message(query, GOOD);
    };
    expect(await behind(script).resolve('x.nl', 'A')).toMatchObject({ records: ['192.0.2.1'] });
    forger.close();
    farForger.close();
  });

  test('NODE-24 ids and ports differ from question to question', async () => {
    const { resolve } = behind(always({}));
    for (let i = 0; i < 20; i++) await resolve(`n${i}.nl`, 'A');
    expect(new Set(fake.queries.map(({ id }) => id)).size).toBeGreaterThan(15);
    expect(new Set(fake.queries.map(({ from }) => from.port)).size).toBeGreaterThan(10);
  });

  test('NODE-27 a lost question is sent again, with another id; the late answer to the first one counts too', async () => {
    let first: FakeQuery | null = null;
    const script: Script = (query) => {
      if (first) first.send(message(first, GOOD));
      first ??= query;
      return null;
    };
    expect(await behind(script, 2000).resolve('x.nl', 'A')).toMatchObject({ kind: 'found' });
    expect(fake.queries.length).toBe(2);
    expect(fake.queries[0]?.from.port).not.toBe(fake.queries[1]?.from.port);
  });

  test('DNS-07 NODE-27 silence ends as a failure at the deadline, after three tries', async () => {
    expect(reasonOf(await behind(() => null, 300).resolve('x.nl', 'A'))).toBe('no answer in 0.3 s');
    expect(fake.queries).toHaveLength(3);
  });

  test('DNS-07 only wrong ids until the deadline: a failure', async () => {
    const script: Script = (query) => message(query, { ...GOOD, id: query.id ^ 0xffff });
    expect(reasonOf(await behind(script, 200).resolve('x.nl', 'A'))).toMatch(/no answer/);
  });

  test('DNS-07 the deadline holds for a chain as a whole', async () => {
    const script: Script = (query) =>
      query.name === 'x.nl' ? message(query, { ad: true, answers: [cname('x.nl', 'y.nl')] }) : null;
    expect(reasonOf(await behind(script, 300).resolve('x.nl', 'A'))).toBe('no answer in 0.3 s');
  });

  test('DNS-07 nobody listens: a failure, well before the deadline', async () => {
    const gone = await startFakeDns(() => null);
    await gone.close();
    resolver = createResolver({ server: gone.server, timeoutMs: 60_000 });
    expect(reasonOf(await resolver.resolve('x.nl', 'A'))).toMatch(/cannot be reached.*ECONNREFUSED/);
  });

  test('DNS-07 a malformed answer is a failure', async () => {
    const answer = await behind(always({ ...GOOD, tail: Buffer.from([0]) })).resolve('x.nl', 'A');
    expect(reasonOf(answer)).toMatch(/^malformed answer: octets after/);
  });

  test('an answer of 60 kB over UDP-sized pieces is asked for over TCP and read whole', async () => {
    const answers = Array.from({ length: 500 }, (_, i) =>
      tlsa('_25._tcp.x.nl', Buffer.concat([Buffer.from([3, 1, 1]), u16(i), Buffer.alloc(100)])),
    );
    const script: Script = (query) => message(query, query.over === 'udp' ? { tc: true } : { ad: true, answers });
    const answer = await behind(script).resolve('_25._tcp.x.nl', 'TLSA');
    expect(answer).toMatchObject({ kind: 'found', secure: true });
    expect(answer.kind === 'found' && answer.records.length).toBe(500);
  });

  test('TLSA-11 NODE-25 a truncated answer is not used, whatever is in it', async () => {
    const script: Script = (query) =>
      message(query, query.over === 'udp' ? { ...GOOD, tc: true, answers: [a('x.nl', '192.0.2.66')] } : GOOD);
    expect(await behind(script).resolve('x.nl', 'A')).toMatchObject({ records: ['192.0.2.1'] });
    expect(fake.queries.map(({ over }) => over)).toEqual(['udp', 'tcp']);
  });

  const overTcp =
    (say: (query: FakeQuery) => void): Script =>
    (query) => {
      if (query.over === 'udp') return message(query, { tc: true });
      say(query);
      return null;
    };

  test('NODE-25 the length may come octet by octet, and other messages before ours', async () => {
    const script = overTcp((query) => {
      const stray = framed(message(query, { ...GOOD, id: query.id ^ 1 }));
      const octets = Buffer.concat([stray, framed(Buffer.alloc(0)), framed(message(query, GOOD))]);
      const drip = (at: number): void => {
        if (at >= octets.length) return;
        query.sendBare(octets.subarray(at, at + 1));
        setImmediate(drip, at + 1);
      };
      drip(0);
    });
    expect(await behind(script).resolve('x.nl', 'A')).toMatchObject({ records: ['192.0.2.1'] });
  });

  test.each<[string, (query: FakeQuery) => void, RegExp]>([
    ['is closed early', (query) => query.hangUp(), /closed before it was complete/],
    [
      'is closed in the middle of the answer',
      (query) => {
        query.sendBare(framed(message(query, GOOD)).subarray(0, 20));
        query.hangUp();
      },
      /closed before it was complete/,
    ],
    ['is truncated as well', (query) => query.send(message(query, { ...GOOD, tc: true })), /cut short again/],
    ['is malformed', (query) => query.send(message(query, { ...GOOD, tail: Buffer.alloc(1) })), /malformed/],
    ['drips for ever', (query) => query.sendBare(u16(60_000)), /no answer/],
    [
      'is another answer for ever',
      (query) => {
        const spam = (): void => {
          query.send(message(query, { ...GOOD, id: query.id ^ 1 }));
          setTimeout(spam, 20).unref();
        };
        spam();
      },
      /no answer/,
    ],
  ])('TLSA-11 NODE-25 DNS-07 when the answer over TCP %s, the question failed', async (_, say, reason) => {
    expect(reasonOf(await behind(overTcp(say), 500).resolve('x.nl', 'A'))).toMatch(reason);
  });

  test('TLSA-11 truncated, and nobody listens on TCP: a failure', async () => {
    const udp = createSocket('udp4').bind(0, '127.0.0.1');
    await once(udp, 'listening');
    udp.on('message', (octets, from) => {
      const reply = Buffer.from(octets.subarray(0, octets.length - 11));
      reply.writeUInt16BE(0x8380, 2);
      reply.writeUInt16BE(0, 10);
      udp.send(reply, from.port, from.address);
    });
    resolver = createResolver({ server: { address: '127.0.0.1', port: udp.address().port }, timeoutMs: 5000 });
    expect(reasonOf(await resolver.resolve('x.nl', 'A'))).toMatch(/over TCP there was trouble.*ECONNREFUSED/);
    udp.close();
  });

  test('closing ends what is under way as a failure, and later questions at once', async () => {
    const { resolve, close } = behind(() => null, 60_000);
    const asked = resolve('x.nl', 'A');
    close();
    expect((await asked).kind).toBe('failed');
    expect((await resolve('y.nl', 'A')).kind).toBe('failed');
  });
});

describe('memory', () => {
  test('DNS-20 identical questions in flight are asked once', async () => {
    const { resolve } = behind(always({ ...GOOD, answers: [a('x.nl', '192.0.2.1', { ttl: 0 })] }));
    const answers = await Promise.all([resolve('x.nl', 'A'), resolve('x.nl', 'A'), resolve('x.nl', 'AAAA')]);
    expect(answers[0]).toBe(answers[1]);
    expect(fake.queries.map(({ type }) => type).toSorted()).toEqual([TYPE.A, TYPE.AAAA]);
  });

  test.each<[string, ReplyShape, number]>([
    ['an answer', GOOD, 1],
    ['an answer with TTL 0', { ad: true, answers: [a('x.nl', '192.0.2.1', { ttl: 0 })] }, 2],
    ['an absence with an SOA', { authorities: [soa('nl', 60)] }, 1],
    ['an absence without one', {}, 2],
    ['an absence whose SOA says 0', { authorities: [soa('nl', 0)] }, 2],
    ['a failure', { rcode: RCODE.SERVFAIL, authorities: [soa('nl', 60)] }, 2],
  ])('DNS-20 %s that is asked for twice in a row', async (_, shape, questions) => {
    const { resolve } = behind(always(shape));
    const [first, second] = [await resolve('x.nl', 'A'), await resolve('x.nl', 'A')];
    expect(second).toEqual(first);
    expect(fake.queries).toHaveLength(questions);
  });

  test('DNS-20 the status is kept with the data, and forget() and resolveAfresh ask again', async () => {
    const { resolve, resolveAfresh, forget } = behind(always(GOOD));
    await resolve('x.nl', 'A');
    fake.script = always({ ...GOOD, ad: false });
    expect(await resolve('x.nl', 'A')).toMatchObject({ secure: true });
    expect(await resolveAfresh('x.nl', 'A')).toMatchObject({ secure: false });
    forget();
    expect(await resolve('x.nl', 'A')).toMatchObject({ secure: false });
  });

  test('what was under way when everything was forgotten is not kept', async () => {
    const { resolve, forget } = behind(async (query) => {
      forget();
      return message(query, GOOD);
    });
    await resolve('x.nl', 'A');
    await resolve('x.nl', 'A');
    expect(fake.queries).toHaveLength(2);
  });

  test('who explains hears each question with its answer', async () => {
    const heard: string[] = [];
    behind(always(GOOD)).close();
    resolver = createResolver({
      server: fake.server,
      onAnswer: ({ name, type }, { kind }) => heard.push(`${name} ${type} ${kind}`),
    });
    await resolver.resolve('x.nl', 'A');
    await resolver.resolve('x.nl', 'A');
    await resolver.resolve('no name', 'MX');
    expect(heard).toEqual(['x.nl A found', 'x.nl A found', 'no name MX failed']);
  });
});

describe('whose AD bit counts', () => {
  test.each([
    ['127.0.0.1', true],
    ['127.8.9.10', true],
    ['::1', true],
    ['0:0:0:0:0:0:0:1', true],
    ['::ffff:127.0.0.1', true],
    ['128.0.0.1', false],
    ['10.0.0.1', false],
    ['0.0.0.0', false],
    ['::', false],
    ['::ffff:10.0.0.1', false],
    ['fe80::1%lo', false],
    ['2001:db8::1', false],
    ['localhost', false],
    ['127.0.0.1.nl', false],
    ['', false],
  ])('DNS-15 isLoopback(%j) is %s', (address, expected) => {
    expect(isLoopback(address)).toBe(expected);
  });

  test('DNS-15 a resolver that is not on loopback never makes an answer secure', async () => {
    // An address of this very machine that is not loopback, if it has one.
    const { networkInterfaces } = await import('node:os');
    const own = Object.values(networkInterfaces())
      .flatMap((each) => each ?? [])
      .find(({ family, internal }) => family === 'IPv4' && !internal);
    const address = own?.address ?? '0.0.0.0';
    const udp = createSocket('udp4').bind(0, address);
    await once(udp, 'listening');
    udp.on('message', (octets, from) => {
      const reply = Buffer.from(octets);
      reply.writeUInt16BE(0x81a0, 2);
      udp.send(reply, from.port, from.address);
    });
    resolver = createResolver({ server: { address, port: udp.address().port }, timeoutMs: 5000 });
    expect(await resolver.resolve('x.nl', 'A')).toMatchObject({ kind: 'absent', secure: false });
    udp.close();
  });
});

test('NODE-21 DNS-07 whatever a server sends, the client answers, and calls nothing secure without AD', async () => {
  const records = fc.array(
    fc.oneof(
      fc.constantFrom(
        a('x.nl', '192.0.2.1'),
        cname('x.nl', 'y.nl'),
        cname('y.nl', 'x.nl'),
        mx('x.nl', 1, 'y.nl'),
        opt(),
      ),
      fc
        .tuple(fc.nat(60), fc.uint8Array({ maxLength: 40 }))
        .map(([type, rdata]) => rr('x.nl', type, Buffer.from(rdata))),
      fc.uint8Array({ maxLength: 40 }).map((octets) => Buffer.from(octets)),
    ),
    { maxLength: 4 },
  );
  const shape = fc.record({
    ad: fc.boolean(),
    rcode: fc.constantFrom(0, 0, 0, 2, 3),
    answers: records,
    authorities: records,
    additionals: records,
  });
  await fc.assert(
    fc.asyncProperty(shape, fc.constantFrom('A', 'MX', 'CNAME', 'TLSA' as const), async (reply, type) => {
      const { resolve, close } = behind(always(reply), 3000);
      const answer = await resolve('x.nl', type);
      close();
      if (!reply.ad && answer.kind !== 'failed') expect(answer.secure).toBe(false);
      if (answer.kind === 'found') expect(answer.records.length).toBeGreaterThan(0);
    }),
    { numRuns: 300 },
  );
});

test('NODE-26 nothing of ours asks the resolver of Node or of the system, which hide the AD bit', () => {
  const sources = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  const imports = sources.filter((file) =>
    /from '(node:)?dns(\/promises)?'/.test(readFileSync(join('src', file), 'utf8')),
  );
  expect(sources.length).toBeGreaterThan(10);
  expect(imports).toEqual([]);
});
