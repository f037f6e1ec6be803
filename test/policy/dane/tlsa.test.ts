/** Reading and judging TLSA records, and finding them under the right base domain. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { DnsAnswer, Resolve } from '../../../src/model/dns.ts';
import { createTlsaFinder, judgeRecords, parseTlsa, textOf } from '../../../src/policy/dane/tlsa.ts';
import { rdata } from './judge.ts';
import { ca, keys, leaf, oid, pem, sequence, tlsa, tlv } from './pki.ts';

const digest = 'ab'.repeat(32);
const long = 'cd'.repeat(64);
const mx = leaf('mx.example.nl', ca('Root', null));
const strangeKey = sequence(sequence(oid('1.3.6.1.4.1.55555.9')), tlv(0x03, Buffer.from([0, 1, 2])));

describe('usability (RFC 6698 §4.1, RFC 7672 §3.1)', () => {
  test.each<[string, string, RegExp | null]>([
    ['USE-01 usage 0', `0 0 1 ${digest}`, /public CAs/],
    ['USE-01 usage 1', `1 1 1 ${digest}`, /public CAs/],
    ['usage 2', `2 0 1 ${digest}`, null],
    ['usage 3', `3 1 1 ${digest}`, null],
    ['USE-03 usage 4', `4 1 1 ${digest}`, /usage 4 is unknown/],
    ['USE-03 usage 255', `255 1 1 ${digest}`, /unknown/],
    ['USE-03 selector 2', `3 2 1 ${digest}`, /selector 2 is unknown/],
    ['USE-03 selector 255', `3 255 1 ${digest}`, /unknown/],
    ['USE-03 matching type 3', `3 1 3 ${digest}`, /matching type 3 is unknown/],
    ['USE-03 matching type 255', `3 1 255 ${digest}`, /unknown/],
    ['USE-04 SHA-256 that is too short', `3 1 1 ${digest.slice(2)}`, /32 octets of data, this record 31/],
    ['USE-04 SHA-256 that is too long', `3 1 1 ${digest}00`, /this record 33/],
    ['USE-04 SHA-512 under the number of SHA-256', `3 1 1 ${long}`, /length for matching type 2/],
    ['USE-04 SHA-256 under the number of SHA-512', `3 1 2 ${digest}`, /length for matching type 1/],
    ['USE-04 SHA-512', `3 1 2 ${long}`, null],
    ['USE-05 no octets at all', '\\# 0', /too short/],
    ['USE-05 one octet', '\\# 1 03', /too short/],
    ['USE-05 two octets', '\\# 2 0301', /too short/],
    ['USE-05 no association data', '3 1 1', /too short/],
    ['USE-05 no association data, matched in full', '3 1 0', /too short/],
    ['USE-06 a certificate', tlsa('2 0 0', mx), null],
    ['USE-06 a certificate and one octet', `${tlsa('2 0 0', mx)}00`, /not exactly one certificate/],
    ['USE-06 a certificate that is cut short', tlsa('3 0 0', mx).slice(0, -2), /not exactly one certificate/],
    [
      'USE-06 PEM text of a certificate',
      `3 0 0 ${Buffer.from(pem('CERTIFICATE', mx.der)).toString('hex')}`,
      /not exactly/,
    ],
    ['USE-06 a key where a certificate belongs', `3 0 0 ${mx.keys.spki.toString('hex')}`, /not exactly/],
    ['USE-06 a key', tlsa('2 1 0', mx), null],
    ['USE-06 a key and one octet', `${tlsa('3 1 0', mx)}00`, /not exactly one public key/],
    [
      'USE-06 PEM text of a key',
      `3 1 0 ${Buffer.from(pem('PUBLIC KEY', mx.keys.spki)).toString('hex')}`,
      /not exactly/,
    ],
    ['USE-06 a certificate where a key belongs', `3 1 0 ${mx.der.toString('hex')}`, /not exactly/],
    ['USE-07 a key of an unsupported kind', `3 1 0 ${strangeKey.toString('hex')}`, /supported kind/],
    ['USE-06 a key of each supported kind', `3 1 0 ${keys('x', 'ed448').spki.toString('hex')}`, null],
  ])('%s', (_, text, why) => {
    const [record] = judgeRecords([rdata(text)]).records;
    expect(record?.usable).toBe(why === null);
    if (why === null) expect(record?.why).toBeNull();
    else expect(record?.why).toMatch(why);
  });

  test('USE-05 a short one does not spoil its siblings, and is written in the notation of RFC 3597', () => {
    const { records, considered } = judgeRecords([Buffer.from([3, 1]), rdata(`3 1 1 ${digest}`), Buffer.alloc(0)]);
    expect(records.map(({ text }) => text)).toEqual(['\\# 2 0301', `3 1 1 ${digest}`, '\\# 0']);
    expect(considered).toHaveLength(1);
  });

  test('USE-01 all PKIX: nothing is considered', () => {
    expect(judgeRecords([rdata(`0 0 1 ${digest}`), rdata(`1 1 1 ${digest}`)]).considered).toEqual([]);
  });

  test('AGI-01 a record that agility sets aside stays usable and says why', () => {
    const { records } = judgeRecords([rdata(`3 1 1 ${digest}`), rdata(`3 1 2 ${long}`)]);
    expect(records[0]).toMatchObject({ usable: true, considered: false, why: expect.stringMatching(/sha512/) });
    expect(records[1]).toEqual({ text: `3 1 2 ${long}`, usable: true, considered: true, why: null });
  });

  test('TLSA-12 560 records are judged, each of them', () => {
    const many = Array.from({ length: 560 }, (_, n) => rdata(`3 1 1 ${n.toString(16).padStart(64, '0')}`));
    expect(judgeRecords(many).considered).toHaveLength(560);
  });

  test('USE-05 whatever the octets, judging answers for each of them', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 8 }), (rrset) => {
        const { records, considered } = judgeRecords(rrset.map((octets) => Buffer.from(octets)));
        expect(records).toHaveLength(rrset.length);
        expect(considered.length).toBe(records.filter((record) => record.considered).length);
      }),
    );
  });
});

describe('records as people write them', () => {
  test.each([
    ['USE-11 capitals', `3 1 1 ${digest.toUpperCase()}`, `3 1 1 ${digest}`],
    ['USE-11 spaces in the data', `  3  1\t1 ${digest.slice(0, 20)} ${digest.slice(20)} `, `3 1 1 ${digest}`],
    ['an empty record', '\\# 0', '\\# 0'],
    ['a short one', '\\# 2 03 01', '\\# 2 0301'],
    ['a whole one in the notation of RFC 3597', `\\# 35 030101${digest}`, `3 1 1 ${digest}`],
  ])('%s', (_, written, text) => {
    expect(textOf(rdata(written))).toBe(text);
  });

  test.each([
    ['nothing', ''],
    ['words', 'DANE is nice'],
    ['two numbers', '3 1'],
    ['a number above 255', `3 1 256 ${digest}`],
    ['base64', '3 1 1 q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s='],
    ['half an octet', `3 1 1 ${digest}a`],
    ['a wrong length', '\\# 3 0301'],
    ['a minus sign', `-3 1 1 ${digest}`],
  ])('%s is a mistake that is explained', (_, written) => {
    expect(parseTlsa(written)).toHaveProperty('mistake', expect.stringMatching(/\w/));
  });
});

type Zone = Readonly<Record<string, DnsAnswer<Buffer>>>;
const good = rdata(`3 1 1 ${digest}`);
const found = (secure = true, ...records: readonly Buffer[]): DnsAnswer<Buffer> => {
  const [first = good, ...rest] = records;
  return { kind: 'found', secure, name: 'elsewhere.example', records: [first, ...rest], ttl: 60 };
};
const absent = (secure = true): DnsAnswer<Buffer> => ({ kind: 'absent', secure, name: 'x', nxdomain: true });
const failed: DnsAnswer<Buffer> = { kind: 'failed', reason: 'SERVFAIL', extended: { code: 6, text: 'DNSSEC Bogus' } };

/** Asks a table; what is asked is noted, and a name that is not in it would be a mistake of the caller. */
async function find(zone: Zone, bases: readonly string[], port = 25) {
  const asked: string[] = [];
  const resolve = (async (name: string) => {
    asked.push(name);
    return zone[name] ?? failed;
  }) as Resolve;
  return { asked, ...(await createTlsaFinder({ resolve })(bases, port)) };
}

describe('the base domain (RFC 7672 §2.2.3)', () => {
  const [far, near] = ['mx.provider.net', 'mx.example.nl'];
  const [atFar, atNear] = [`_25._tcp.${far}`, `_25._tcp.${near}`];

  test.each<[string, Zone, { asked: readonly string[]; base: string | null; dnssec: string; considered: number }]>([
    [
      'TLSA-02 the expanded name rules',
      { [atFar]: found(), [atNear]: found() },
      { asked: [atFar], base: far, dnssec: 'secure', considered: 1 },
    ],
    [
      'TLSA-03 none there: the original name',
      { [atFar]: absent(), [atNear]: found() },
      { asked: [atFar, atNear], base: near, dnssec: 'secure', considered: 1 },
    ],
    [
      'TLSA-03 unsigned absence there',
      { [atFar]: absent(false), [atNear]: found() },
      { asked: [atFar, atNear], base: near, dnssec: 'secure', considered: 1 },
    ],
    [
      'TLSA-03 TLSA-07 unsigned records there',
      { [atFar]: found(false), [atNear]: found() },
      { asked: [atFar, atNear], base: near, dnssec: 'secure', considered: 1 },
    ],
    [
      'TLSA-04 an error there ends the walk',
      { [atFar]: failed, [atNear]: found() },
      { asked: [atFar], base: null, dnssec: 'error', considered: 0 },
    ],
    [
      'TLSA-05 none there, an error here',
      { [atFar]: absent(), [atNear]: failed },
      { asked: [atFar, atNear], base: null, dnssec: 'error', considered: 0 },
    ],
    [
      'TLSA-08 none at either',
      { [atFar]: absent(), [atNear]: absent() },
      { asked: [atFar, atNear], base: null, dnssec: 'secure', considered: 0 },
    ],
    [
      'TLSA-02 unusable records rule as well',
      { [atFar]: found(true, rdata('3 1 1')), [atNear]: found() },
      { asked: [atFar], base: far, dnssec: 'secure', considered: 0 },
    ],
    [
      'TLSA-07 unsigned at both',
      { [atFar]: found(false), [atNear]: found(false) },
      { asked: [atFar, atNear], base: null, dnssec: 'insecure', considered: 0 },
    ],
  ])('%s', async (_, zone, { asked, base, dnssec, considered }) => {
    const findings = await find(zone, [far, near]);
    expect({ ...findings, considered: findings.considered.length }).toMatchObject({ asked, base, dnssec, considered });
  });

  test('TLSA-01 the port is that of the connection', async () => {
    expect((await find({}, [near], 2525)).asked).toEqual([`_2525._tcp.${near}`]);
  });

  test('TLSA-06 the base stays the host, wherever the CNAME of the TLSA name leads', async () => {
    expect((await find({ [atNear]: found() }, [near])).base).toBe(near);
  });

  test('TLSA-07 records of an unsigned answer are shown and do not count', async () => {
    const { records } = await find({ [atNear]: found(false) }, [near]);
    expect(records).toEqual([
      { text: `3 1 1 ${digest}`, usable: true, considered: false, why: expect.stringMatching(/DNSSEC/) },
    ]);
  });

  test('TLSA-04 the words of a failure name the extended error', async () => {
    expect((await find({ [atNear]: failed }, [near])).failure).toBe('SERVFAIL (DNSSEC Bogus)');
  });

  test('a base that is too long for a TLSA name is not asked for: nothing can be published there', async () => {
    const endless = `${'a'.repeat(60)}.`.repeat(4).concat('nl');
    const findings = await find({}, [endless]);
    expect(findings).toMatchObject({ asked: [], base: null, failure: null });
  });
});
