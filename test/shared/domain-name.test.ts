import fc from 'fast-check';
import { expect, test } from 'vitest';
import { domainOf, isDomain, isHostName, literalAddress, toDomain } from '../../src/shared/domain-name.ts';

const label63 = 'a'.repeat(63);

test.each<[string, string, string | null]>([
  // what                                            written                     canonical
  ['a plain name', 'example.nl', 'example.nl'],
  ['IDN-01 capitals', 'Example.NL', 'example.nl'],
  ['IDN-01 one trailing dot', 'example.nl.', 'example.nl'],
  ['IDN-01 a U-label', 'bücher.example', 'xn--bcher-kva.example'],
  ['IDN-01 a U-label that is not in normal form', 'Bu\u0308cher.example', 'xn--bcher-kva.example'],
  ['IDN-01 an A-label that decodes to nothing', 'xn--\u00fc.example', null],
  ['an underscore', '_dmarc.example.nl', '_dmarc.example.nl'],
  ['a label of 63 octets', `${label63}.nl`, `${label63}.nl`],
  ['IDN-02 a label of 64 octets', `a${label63}.nl`, null],
  ['IDN-02 a name of more than 253 octets', `${`${label63}.`.repeat(4)}nl`, null],
  ['IDN-02 an empty label', 'a..b', null],
  ['IDN-02 a leading dot', '.example.nl', null],
  ['IDN-02 two trailing dots', 'example.nl..', null],
  ['nothing', '', null],
  ['the root', '.', null],
  ['a space inside', 'exam ple.nl', null],
  ['a NUL', 'example.nl\0', null],
  ['an escape that URL rules would read', '%65xample.nl', null],
  ['an ideographic full stop, which IDNA reads as a dot', 'example。nl', 'example.nl'],
  ['an address literal is no name', '[192.0.2.1]', null],
])('%s', (_, written, canonical) => {
  expect(toDomain(written)).toBe(canonical);
});

test.each<[string, boolean]>([
  ['mx.example.nl', true],
  ['mx_1.example.nl', true],
  ['192.0.2.1', false],
  ['10', false],
  ['MX.example.nl', false],
  ['mx\\046evil.example.nl', false],
  ['-mx.example.nl', false],
  ['.', false],
])('MX-13 MX-14 %s as the name of a mail host: %s', (name, legal) => {
  expect(isHostName(name)).toBe(legal);
});

test.each<[string, string | null]>([
  ['[192.0.2.1]', '192.0.2.1'],
  ['[IPv6:2001:DB8::1]', '2001:db8::1'],
  ['[2001:db8::1]', null],
  ['[192.0.2.256]', null],
  ['192.0.2.1', null],
  ['[]', null],
])('MX-15 %s as an address literal', (domain, address) => {
  expect(literalAddress(domain)).toBe(address);
});

test('the last @ of an address is the one that counts', () => {
  expect(domainOf('"a@b"@example.nl')).toBe('example.nl');
});

test('IDN-01 IDN-02 whatever is written, the result is null or canonical, and canonical names stay as they are', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.domain(),
        fc.string({ unit: fc.constantFrom('a', '.', 'ü', '-', 'X', '_', '1') }),
      ),
      (text) => {
        const name = toDomain(text);
        if (name === null) return;
        expect(isDomain(name)).toBe(true);
        expect(toDomain(name)).toBe(name);
      },
    ),
  );
});
