/** Reference identifiers against the names in a certificate (RFC 7672 §3.2.3). */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { matchesHost } from '../../../src/policy/dane/names.ts';
import { judge } from './judge.ts';
import { alternativeNames, ca, leaf, name, tlsa } from './pki.ts';

describe('one name against another', () => {
  test.each<[string, string, string, boolean]>([
    // behaviour                                in the certificate      wanted                 match
    ['NAME-01 the same', 'mx.example.nl', 'mx.example.nl', true],
    ['NAME-01 another', 'mx2.example.nl', 'mx.example.nl', false],
    ['NAME-09 a wildcard for one label', '*.example.com', 'mx1.example.com', true],
    ['NAME-09 not for the domain itself', '*.example.com', 'example.com', false],
    ['NAME-09 not for two labels', '*.example.com', 'a.b.example.com', false],
    ['NAME-10 wildcard behind letters', 'mx*.example.com', 'mx1.example.com', false],
    ['NAME-10 wildcard before letters', '*mx.example.com', 'amx.example.com', false],
    ['NAME-10 wildcard between letters', 'm*x.example.com', 'mix.example.com', false],
    ['NAME-10 wildcard in the second label', 'a.*.example.com', 'a.b.example.com', false],
    ['NAME-10 two wildcards', '*.*.example.com', 'a.b.example.com', false],
    ['NAME-10 a wildcard alone', '*', 'com', false],
    ['NAME-10 a wildcard alone, one label wanted', '*', 'localhost', false],
    ['NAME-11 a wildcard for a whole country', '*.com', 'foo.com', false],
    ['NAME-12 case does not count', 'MX.Example.NL', 'mx.example.nl', true],
    ['NAME-12 a trailing dot in the certificate', 'mx.example.nl.', 'mx.example.nl', true],
    ['NAME-12 two trailing dots', 'mx.example.nl..', 'mx.example.nl', false],
    ['NAME-13 an A-label', 'xn--bcher-kva.example', 'xn--bcher-kva.example', true],
    ['NAME-13 a wildcard for an A-label', '*.example.org', 'xn--bcher-kva.example.org', true],
    ['NAME-13 a wildcard inside an A-label', 'xn--b*.example.org', 'xn--bcher-kva.example.org', false],
    ['NAME-14 an underscore', 'mx_1.example.com', 'mx_1.example.com', true],
    ['NAME-14 a wildcard for a label with an underscore', '*.example.com', 'mx_1.example.com', true],
    ['NAME-15 a NUL', 'mx.example.nl\0.evil.org', 'mx.example.nl', false],
    ['NAME-15 a leading dot', '.example.nl', 'mx.example.nl', false],
    ['NAME-15 a leading dot wanted', 'mx.example.nl', '.example.nl', false],
    ['NAME-15 nothing', '', '', false],
    ['NAME-16 an address as text', '192.0.2.1', '192.0.2.1', false],
    ['a wildcard for an address', '*.0.2.1', '192.0.2.1', false],
    ['a Kelvin sign is no k', 'm\u212a.example.nl', 'mk.example.nl', false],
    ['spaces around', ' mx.example.nl ', 'mx.example.nl', false],
  ])('%s', (_, presented, reference, match) => {
    expect(matchesHost(presented, reference)).toBe(match);
  });

  test('NAME-15 whatever the text, it matches nothing but itself or a wildcard one label up', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 40 }), fc.domain(), (presented, reference) => {
        const wanted = reference.toLowerCase();
        const plain = presented.toLowerCase().replace(/\.$/, '');
        if (matchesHost(presented, wanted)) expect([wanted, wanted.replace(/^[^.]+/, '*')]).toContain(plain);
      }),
    );
  });
});

describe('the names of a certificate that count', () => {
  const root = ca('Root', null);
  const mx = 'mx.example.nl';
  const cn = (...names: readonly string[]) => name(...names);
  test.each<[string, { readonly subject: Buffer; readonly extensions: readonly Buffer[] }, readonly string[], string]>([
    ['NAME-08 a dNSName', { subject: cn(), extensions: [alternativeNames(`dns:${mx}`)] }, [mx], 'dane-ta 1'],
    [
      'NAME-08 with a dNSName the common name is ignored',
      { subject: cn(mx), extensions: [alternativeNames('dns:x.example.nl')] },
      [mx],
      'tlsa-name-mismatch',
    ],
    ['NAME-08 no SAN: the common name', { subject: cn(mx), extensions: [] }, [mx], 'dane-ta 1'],
    [
      'NAME-08 only an email address in the SAN',
      { subject: cn(mx), extensions: [alternativeNames('email:a@example.nl')] },
      [mx],
      'dane-ta 1',
    ],
    [
      'NAME-08 only a URI in the SAN',
      { subject: cn(mx), extensions: [alternativeNames('uri:http://x.nl/')] },
      [mx],
      'dane-ta 1',
    ],
    ['NAME-08 every common name, the first', { subject: cn(mx, 'Example Ltd'), extensions: [] }, [mx], 'dane-ta 1'],
    ['NAME-08 every common name, the last', { subject: cn('Example Ltd', mx), extensions: [] }, [mx], 'dane-ta 1'],
    [
      'NAME-08 another attribute is no name',
      { subject: name(['2.5.4.10', mx]), extensions: [] },
      [mx],
      'tlsa-name-mismatch',
    ],
    ['NAME-12 a wildcard in the common name', { subject: cn('*.example.nl'), extensions: [] }, [mx], 'dane-ta 1'],
    [
      'NAME-15 a NUL in the dNSName hides the common name as well',
      { subject: cn(mx), extensions: [alternativeNames(`dns:${mx}\0.evil.org`)] },
      [mx],
      'tlsa-name-mismatch',
    ],
    [
      'NAME-16 an address in the SAN',
      { subject: cn(), extensions: [alternativeNames('ip:c0000201')] },
      ['192.0.2.1'],
      'tlsa-name-mismatch',
    ],
    [
      'NAME-16 an address as the common name',
      { subject: cn('192.0.2.1'), extensions: [] },
      ['192.0.2.1'],
      'tlsa-name-mismatch',
    ],
    [
      'NAME-01 the second reference name',
      { subject: cn(), extensions: [alternativeNames('dns:example.nl')] },
      [mx, 'example.nl'],
      'dane-ta 1',
    ],
    [
      'NAME-01 none of the reference names',
      { subject: cn(), extensions: [alternativeNames('dns:example.org')] },
      [mx, 'example.nl'],
      'tlsa-name-mismatch',
    ],
    [
      'no name was given to check',
      { subject: cn(), extensions: [alternativeNames(`dns:${mx}`)] },
      [],
      'tlsa-name-mismatch',
    ],
    ['no name in the certificate', { subject: cn(), extensions: [] }, [mx], 'tlsa-name-mismatch'],
    [
      'a BMPString',
      { subject: name(['2.5.4.3', 'mx.example.nl'.replace(/./g, '\0$&'), 0x1e]), extensions: [] },
      [mx],
      'dane-ta 1',
    ],
  ])('%s', (_, change, names, verdict) => {
    expect(judge({ chain: [leaf(mx, root, change), root], records: [tlsa('2 1 1', root)], names })).toBe(verdict);
  });
});
