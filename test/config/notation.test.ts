import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { editDistance, nearest } from '../../src/config/nearest.ts';
import {
  address,
  domainPattern,
  duration,
  endpoint,
  filePath,
  type Notation,
  network,
  pin,
  rate,
  size,
  via,
} from '../../src/config/notation.ts';

const read = <Value>(notation: Notation<Value>, text: string): Value | null => {
  const reading = notation.read(text);
  return reading.ok ? reading.value : null;
};

const anyDuration = duration('1ms', '9999d');
const anySize = size('0B', '999999GB');

describe('notations', () => {
  test.each([
    ['100ms', 100],
    ['30s', 30_000],
    ['5m', 300_000],
    ['4h', 14_400_000],
    ['5d', 432_000_000],
    ['5', null],
    ['5 m', null],
    ['-5m', null],
    ['1.5h', null],
    ['5M', null],
    ['5m5s', null],
    ['', null],
    ['99999999999d', null],
  ])('duration %j', (text, ms) => {
    expect(read(anyDuration, text)).toBe(ms);
  });

  test.each([
    ['10/s', { count: 10, period: 1_000 }],
    ['100/m', { count: 100, period: 60_000 }],
    ['2000/h', { count: 2_000, period: 3_600_000 }],
    ['20000/d', { count: 20_000, period: 86_400_000 }],
    ['0/m', null],
    ['100', null],
    ['100/min', null],
    ['1.5/m', null],
    ['-1/m', null],
    ['9999999999/m', null],
  ])('rate %j', (text, value) => {
    expect(read(rate, text)).toEqual(value);
  });

  test('a rate in other words is told how to be written', () => {
    expect(rate.read('100 per minute')).toMatchObject({ ok: false, nearest: '100/m' });
    expect(rate.read('100/hour')).toMatchObject({ ok: false, nearest: '100/h' });
  });

  test.each([
    ['50MB', 50_000_000],
    ['10MiB', 10_485_760],
    ['64KiB', 65_536],
    ['800kB', 800_000],
    ['1GB', 1_000_000_000],
    ['5B', 5],
    ['5', null],
    ['5M', null],
    ['MB', null],
    ['5 MB', null],
    ['5TB', null],
  ])('size %j', (text, octets) => {
    expect(read(anySize, text)).toBe(octets);
  });

  test.each([
    ['10.1.0.0/16', '10.1.0.0/16'],
    ['10.1.0.5', '10.1.0.5/32'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['2001:DB8::/32', '2001:db8::/32'],
    ['2001:db8:0:0:1::/80', '2001:db8:0:0:1::/80'],
    ['::1', '::1/128'],
    ['fe80::/10', 'fe80::/10'],
    ['::ffff:10.0.0.0/104', '10.0.0.0/8'],
    ['::ffff:192.0.2.1', '192.0.2.1/32'],
    ['10.1.2.3/16', null],
    ['2001:db8::1/32', null],
    ['10.0.0.0/33', null],
    ['::/129', null],
    ['10.0.0.0/', null],
    ['10.0.0.0/8/8', null],
    ['10.0.0/8', null],
    ['010.0.0.0/8', null],
    ['fe80::1%eth0', null],
    ['example.nl', null],
  ])('network %j', (text, cidr) => {
    expect(read(network, text)).toBe(cidr);
  });

  test('a network read again is itself', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.integer({ min: 0, max: 128 }), (start, prefix) => {
        const reading = network.read(`${start}/${prefix}`);
        const cidr = reading.ok ? reading.value : reading.nearest;
        if (cidr !== undefined) expect(read(network, cidr)).toBe(reading.ok ? cidr : read(network, cidr));
        if (!reading.ok && reading.nearest !== undefined) expect(network.read(reading.nearest).ok).toBe(true);
      }),
    );
  });

  test.each([
    ['sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=', true],
    ['sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=', true],
    // the last sign has bits that no octet has
    ['sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=', false],
    ['sha256/47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=', false],
    ['sha256/AAAA', false],
    ['sha512/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=', false],
    ['AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=', false],
    [' sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=', false],
  ])('pin %j', (text, ok) => {
    expect(pin.read(text).ok).toBe(ok);
  });

  test.each([
    ['127.0.0.1:53', { address: '127.0.0.1', port: 53 }],
    ['[::1]:53', { address: '::1', port: 53 }],
    ['0.0.0.0:0', { address: '0.0.0.0', port: 0 }],
    ['127.0.0.1', { address: '127.0.0.1', port: 853 }],
    ['127.0.0.1:65536', null],
    ['::1:53', null],
    ['[127.0.0.1]:53', null],
    ['localhost:53', null],
    ['127.0.0.1:', null],
    ['256.0.0.1:53', null],
  ])('endpoint %j', (text, place) => {
    expect(read(endpoint(853), text)).toEqual(place);
  });

  test.each([
    ['[192.0.2.1]:25', { kind: 'literal', address: '192.0.2.1', port: 25 }],
    ['[192.0.2.1]', { kind: 'literal', address: '192.0.2.1', port: null }],
    ['[2001:DB8::1]:25', { kind: 'literal', address: '2001:db8::1', port: 25 }],
    ['[IPv6:2001:db8::1]', { kind: 'literal', address: '2001:db8::1', port: null }],
    ['[MX.Example.nl.]:587', { kind: 'host', host: 'mx.example.nl', port: 587 }],
    ['example.nl', { kind: 'domain', domain: 'example.nl', port: null }],
    ['bücher.example:26', { kind: 'domain', domain: 'xn--bcher-kva.example', port: 26 }],
    ['192.0.2.1', null],
    ['[]', null],
    ['[a', null],
    ['a]:1', null],
    ['a:b', null],
    ['a:70000', null],
    ['', null],
  ])('via %j', (text, hop) => {
    expect(read(via, text)).toEqual(hop);
  });

  test.each([
    ['*', '*'],
    ['example.nl', 'example.nl'],
    ['Example.NL.', 'example.nl'],
    ['*.example.nl', '*.example.nl'],
    ['*.*.nl', null],
    ['a.*.nl', null],
    ['*nl', null],
    ['**', null],
    ['.nl', '*.nl'],
    ['192.0.2.1', null],
    ['', null],
  ])('domain pattern %j', (text, pattern) => {
    expect(read(domainPattern, text)).toBe(pattern);
  });

  test.each([
    ['::', '::'],
    ['0.0.0.0', '0.0.0.0'],
    ['[::1]', null],
    ['localhost', null],
  ])('address %j', (text, expected) => {
    expect(read(address, text)).toBe(expected);
  });

  test('a path has no control characters', () => {
    expect(read(filePath, 'a\u0000b')).toBeNull();
    expect(read(filePath, '')).toBeNull();
    expect(read(filePath, 'pad/naar sleutel.pem')).toBe('pad/naar sleutel.pem');
  });

  test('whatever the text, a notation answers and what it shows is short and on one line', () => {
    const notations: Notation<unknown>[] = [
      anyDuration,
      anySize,
      network,
      pin,
      endpoint(null),
      via,
      domainPattern,
      address,
      filePath,
    ];
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.ipV6(), fc.domain()), (text) => {
        for (const notation of notations) {
          const reading = notation.read(text);
          if (!reading.ok) expect(reading.message).toMatch(/^[^\u0000-\u001f]{1,400}$/);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('the word that was probably meant', () => {
  test.each([
    ['hostnam', 'hostname'],
    ['hotsname', 'hostname'],
    ['Hostname', 'hostname'],
    ['lsten', 'listen'],
    ['clientss', 'clients'],
    ['zzzz', null],
    ['x', null],
    ['a'.repeat(10_000), null],
  ])('%j is %j', (word, meant) => {
    expect(nearest(word, ['hostname', 'listen', 'clients', 'log'])).toBe(meant);
  });

  test.each([
    ['', '', 0],
    ['abc', 'abc', 0],
    ['abc', 'abd', 1],
    ['abc', 'acb', 1],
    ['abc', '', 3],
    ['prot', 'port', 1],
    ['kitten', 'sitting', 3],
  ])('from %j to %j are %i edits', (from, to, edits) => {
    expect(editDistance(from, to)).toBe(edits);
  });
});
