/** The grades, and that docs/tls-grades.md says of each what the code says. */
import { readFileSync } from 'node:fs';
import { getCiphers } from 'node:tls';
import { describe, expect, test } from 'vitest';
import type { TlsFacts } from '../../src/model/delivery.ts';
import { gradeCertificate, gradeTls } from '../../src/policy/tls-grade.ts';
import { keys, leaf, type Recipe } from './dane/pki.ts';

const GOOD: TlsFacts = { version: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384', group: 'X25519MLKEM768' };
const OLD: TlsFacts = { version: 'TLSv1.2', cipher: 'TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384', group: 'X25519' };
const p256 = leaf('mx.example.nl', null).der;

const told = (tls: Partial<TlsFacts>, base = OLD): string => gradeTls({ ...base, ...tls }, p256).grade;
const of = (change: Partial<Recipe>): string => {
  const { key, signature } = gradeCertificate(leaf('mx.example.nl', null, change).der);
  return `${key} ${signature}`;
};

/** `| what | value | grade |` of the page. */
const ROWS = readFileSync('docs/tls-grades.md', 'utf8')
  .split('\n')
  .flatMap((line) => {
    const [, what, values, grade] = /^\| (version|suite|group) \| (`.*`) \| ([a-z-]+) \|/.exec(line) ?? [];
    return (values?.match(/[^`, ]+(?: \d+)?(?=`)/g) ?? []).map((value) => [what ?? '', value, grade ?? ''] as const);
  });

describe('TLS-09 the page says what the code says', () => {
  test('there are rows', () => expect(ROWS.length).toBeGreaterThan(30));

  test.each(ROWS)('%s %s is %s', (what, value, grade) => {
    // The other parts are as good as they can be beside it, so that it decides or is sufficient with them.
    const best = { good: ['sufficient', 'good'], sufficient: ['sufficient'] }[grade] ?? [grade];
    if (what === 'version') expect(best).toContain(told({ version: value }, GOOD));
    if (what === 'group') expect(best).toContain(told({ group: value }, GOOD));
    if (what === 'suite') expect(best).toContain(told({ cipher: value }, value.includes('_WITH_') ? OLD : GOOD));
  });
});

describe('TLS-09 grades', () => {
  test('the worst part decides, and is named', () => {
    expect(gradeTls({ ...OLD, cipher: 'TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA' }, p256)).toEqual({
      grade: 'insufficient',
      because: ['the hash SHA1'],
    });
    expect(gradeTls({ ...OLD, cipher: 'TLS_RSA_WITH_AES_128_CBC_SHA256', group: null }, p256)).toEqual({
      grade: 'insufficient',
      because: ['key exchange by RSA'],
    });
    expect(gradeTls({ ...GOOD, group: 'X25519' }, p256)).toEqual({
      grade: 'sufficient',
      because: ['key exchange in X25519', 'a key prime256v1'],
    });
  });

  test.each<[string, Partial<TlsFacts>]>([
    ['a version that nobody knows', { version: 'TLSv1.4' }],
    ['a suite that nobody knows', { cipher: 'TLS_NEW' }],
    ['no suite', { cipher: '' }],
    ['a group that nobody knows', { group: 'new' }],
    ['a group that nobody tells', { group: null }],
  ])('%s is insufficient', (_, change) => expect(told(change)).toBe('insufficient'));

  test('no certificate, and one that cannot be read', () => {
    expect(gradeTls(GOOD, undefined).grade).toBe('insufficient');
    expect(gradeTls(GOOD, Buffer.from('30', 'hex')).grade).toBe('insufficient');
    expect(gradeCertificate(Buffer.alloc(0))).toEqual({ key: 'insufficient', signature: 'insufficient' });
  });

  test.each<[string, Partial<Recipe>, string]>([
    ['RSA of 2048 bits', { keys: keys('grade', 'rsa') }, 'phase-out sufficient'],
    ['RSA of 1024 bits', { keys: keys('grade', 'rsa1024') }, 'insufficient sufficient'],
    ['P-384', { keys: keys('grade', 'p384') }, 'sufficient sufficient'],
    ['Ed25519', { keys: keys('grade', 'ed25519') }, 'sufficient sufficient'],
    ['SHA-1', { digest: 'sha1' }, 'sufficient insufficient'],
    ['MD5 with RSA', { keys: keys('grade', 'rsa'), digest: 'md5' }, 'phase-out insufficient'],
    ['SHA-224', { digest: 'sha224' }, 'sufficient phase-out'],
    ['SHA-512', { digest: 'sha512' }, 'sufficient sufficient'],
  ])('a certificate: %s', (_, change, expected) => expect(of(change)).toBe(expected));

  test('the signature decides nothing: under DANE it does not count (RFC 7672 §3.1.1)', () => {
    expect(gradeTls(OLD, leaf('mx.example.nl', null, { digest: 'sha1' }).der).grade).toBe('sufficient');
  });

  test('every suite that the runtime knows without forward secrecy, or with an old cipher, is insufficient', () => {
    const plain = getCiphers().filter((name) =>
      /^(aes|camellia|aria|psk|srp|adh|aecdh|dhe-dss|null|rc4|des)/.test(name),
    );
    expect(plain.length).toBeGreaterThan(10);
    for (const name of [
      'TLS_RSA_WITH_AES_256_CCM_8',
      'TLS_PSK_WITH_AES_256_GCM_SHA384',
      'TLS_DHE_DSS_WITH_AES_128_GCM_SHA256',
      'TLS_DH_anon_WITH_AES_128_GCM_SHA256',
      'TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256',
      'TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA',
      'TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8',
      'TLS_AES_128_CCM_8_SHA256',
      'TLS_ECDHE_RSA_WITH_NULL_SHA',
      'TLS_ECDHE_RSA_WITH_RC4_128_SHA',
    ]) {
      expect(told({ cipher: name }), name).toBe('insufficient');
    }
  });
});
