/** The TLSRPT record of a domain, as good and as hostile as it may be. */
import { describe, expect, test } from 'vitest';
import { readPolicy } from '../../../src/report/tls-report/record.ts';

/** The addresses that are taken, or why there is no policy; then what was left out. */
function read(...texts: string[]): string {
  const policy = readPolicy(texts);
  if (policy.kind === 'none') return `none: ${policy.why}`;
  const to = policy.to.map((each) => (each.kind === 'mail' ? each.address : each.url.href)).join(' ');
  return [to, ...policy.ignored].join(' | ');
}

describe('RPT-01 which record counts', () => {
  test.each<[string, string[], string]>([
    ['the usual one', ['v=TLSRPTv1; rua=mailto:tls@example.nl'], 'tls@example.nl'],
    ['several addresses', ['v=TLSRPTv1;rua=mailto:a@x.nl, https://r.x.nl/v1'], 'a@x.nl https://r.x.nl/v1'],
    ['other records beside it', ['v=spf1 -all', 'v=TLSRPTv1;rua=mailto:a@x.nl'], 'a@x.nl'],
    ['unknown fields', ['v=TLSRPTv1; ext=1; rua=mailto:a@x.nl; more=2;'], 'a@x.nl'],
    ['thousands of spaces', [`v=TLSRPTv1;rua=${' '.repeat(15_000)}mailto:a@x.nl`], 'a@x.nl'],
    ['upper case in scheme and domain', ['v=TLSRPTv1;rua=MAILTO:A@X.NL'], 'A@x.nl'],
    [
      'two of them',
      ['v=TLSRPTv1;rua=mailto:a@x.nl', 'v=TLSRPTv1;rua=mailto:b@x.nl'],
      'none: there are 2 TLSRPT records instead of one',
    ],
    ['none', ['v=spf1 -all'], 'none: there is no TLSRPT record'],
    ['a later version', ['v=TLSRPTv10; rua=mailto:a@x.nl'], 'none: there is no TLSRPT record'],
    ['space before the version', [' v=TLSRPTv1; rua=mailto:a@x.nl'], 'none: there is no TLSRPT record'],
    ['nobody named', ['v=TLSRPTv1;'], 'none: the TLSRPT record has no rua'],
    ['64 KiB of it', [`v=TLSRPTv1;rua=${'mailto:a@x.nl,'.repeat(5_000)}`], 'none: the TLSRPT record has 70015 octets'],
  ])('%s', (_, texts, expected) => expect(read(...texts)).toBe(expected));
});

describe('RPT-01 which address counts', () => {
  test.each<[string, string, string]>([
    ['percent-encoded', 'mailto:tls%2Breports@x.nl', 'tls+reports@x.nl'],
    ['with fields for a form', 'mailto:a@x.nl?subject=hello', 'a@x.nl'],
    ['beyond ASCII in the domain', 'mailto:a@xn--bcher-kva.nl', 'a@xn--bcher-kva.nl'],
    [
      'with a size, as DMARC has it',
      'mailto:a@x.nl!10m',
      ' | "mailto:a@x.nl!10m" has a "!" that is not percent-encoded',
    ],
    ['two in one', 'mailto:a@x.nl%2Cb@x.nl', ' | "mailto:a@x.nl%2Cb@x.nl" is no plain mail address'],
    ['with a line in it', 'mailto:a%0D%0ABcc:b@x.nl', ' | "mailto:a%0D%0ABcc:b@x.nl" is no plain mail address'],
    ['with a NUL in it', 'mailto:a%00@x.nl', ' | "mailto:a%00@x.nl" is no plain mail address'],
    ['badly encoded', 'mailto:%zz@x.nl', ' | "mailto:%zz@x.nl" is not properly percent-encoded'],
    ['to an address literal', 'mailto:a@[127.0.0.1]', ' | "mailto:a@[127.0.0.1]" is no plain mail address'],
    ['with control characters', 'mailto:\u0007a@x.nl', ' | "mailto: a@x.nl" has characters that no URI may have'],
    ['in the clear', 'http://r.x.nl/', ' | "http://r.x.nl/" is not https, and reports do not go in the clear'],
    ['of another kind', 'ftp://r.x.nl/', ' | "ftp://r.x.nl/" is neither mailto nor https'],
    ['to our own machine', 'https://127.0.0.1/', ' | "https://127.0.0.1/" does not name a host in the DNS'],
    ['to our own machine in disguise', 'https://0x7f.1/', ' | "https://0x7f.1/" does not name a host in the DNS'],
    ['to a host with the dot of the root', 'https://r.x.nl./v1', 'https://r.x.nl/v1'],
    ['by mail to our own machine', 'mailto:a@localhost', ' | "mailto:a@localhost" is no plain mail address'],
    ['to our own machine by name', 'https://localhost/', ' | "https://localhost/" does not name a host in the DNS'],
    ['to IPv6', 'https://[::1]/', ' | "https://[::1]/" does not name a host in the DNS'],
    ['with a password', 'https://a:b@r.x.nl/', ' | "https://a:b@r.x.nl/" has a user name or password in it'],
    ['without a host', 'https://', ' | "https://" is no URL'],
  ])('%s', (_, uri, expected) => expect(read(`v=TLSRPTv1;rua=${uri}`)).toBe(expected));

  test('one that is odd does not keep the others', () => {
    expect(read('v=TLSRPTv1;rua=http://r.x.nl,,mailto:a@x.nl,mailto:a@x.nl')).toBe(
      'a@x.nl | "http://r.x.nl" is not https, and reports do not go in the clear',
    );
  });

  test('of a thousand only the first ten are looked at, and that is said', () => {
    const uris = Array.from({ length: 1_000 }, (_, at) => `mailto:${at}@x.nl`);
    const policy = readPolicy([`v=TLSRPTv1;rua=${uris.join()}`]);
    if (policy.kind !== 'asks') throw new Error('it asks for reports');
    expect(policy.to).toHaveLength(10);
    expect(policy.ignored).toEqual(['990 more: only the first 10 addresses are looked at']);
  });
});
