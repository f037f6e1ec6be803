import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { spkiOf, spkiPin } from '../../src/shared/spki.ts';

const dir = mkdtempSync(join(tmpdir(), 'dane-relay-spki-'));
afterAll(() => rmSync(dir, { recursive: true }));

function certificate(name: string, ...key: string[]): Buffer {
  const file = (ending: string): string => join(dir, `${name}.${ending}`);
  const common = ['-subj', '/CN=x.test', '-nodes', '-keyout', file('key'), '-out', file('pem'), '-days', '9'];
  execFileSync('openssl', ['req', '-x509', ...key, ...common], { stdio: 'pipe' });
  return new X509Certificate(readFileSync(file('pem'))).raw;
}

/** The pin as the recipes for operators make it. */
function opensslPin(name: string): string {
  const pem = execFileSync('openssl', ['x509', '-in', join(dir, `${name}.pem`), '-pubkey', '-noout']);
  const der = execFileSync('openssl', ['pkey', '-pubin', '-outform', 'DER'], { input: pem });
  return `sha256/${createHash('sha256').update(der).digest('base64')}`;
}

describe('the SPKI of a certificate', () => {
  const made = new Map<string, Buffer>();
  beforeAll(() => {
    made.set('rsa', certificate('rsa', '-newkey', 'rsa:2048'));
    made.set('ec', certificate('ec', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'));
    made.set('ed25519', certificate('ed25519', '-newkey', 'ed25519'));
  });

  test.each(['rsa', 'ec', 'ed25519'])('has the pin that openssl makes of it: %s', (name) => {
    expect(spkiPin(made.get(name) ?? Buffer.alloc(0))).toBe(opensslPin(name));
  });

  test('is cut out of the octets, not encoded anew', () => {
    const der = made.get('rsa') ?? Buffer.alloc(0);
    const spki = spkiOf(der);
    expect(spki?.buffer).toBe(der.buffer);
    expect(spki?.equals(new X509Certificate(der).publicKey.export({ type: 'spki', format: 'der' }))).toBe(true);
  });

  test('is null for octets behind the certificate, for every shorter piece of it and for none', () => {
    const der = made.get('ec') ?? Buffer.alloc(0);
    expect(spkiOf(Buffer.concat([der, Buffer.from([0])]))).toBeNull();
    for (let length = 0; length < der.length; length++) expect(spkiOf(der.subarray(0, length))).toBeNull();
  });

  test('is null for indefinite, overlong and four-gigabyte lengths', () => {
    for (const hex of [
      '3080',
      '308100',
      '30820001ff',
      '3084ffffffff',
      '3085ffffffffff',
      '30883030303030303030',
      '3f01',
    ]) {
      expect(spkiOf(Buffer.from(hex, 'hex'))).toBeNull();
    }
  });

  test('never throws, whatever is changed', () => {
    const der = made.get('rsa') ?? Buffer.alloc(0);
    fc.assert(
      fc.property(fc.nat(der.length - 1), fc.nat(255), (at, octet) => {
        const changed = Buffer.from(der);
        changed[at] = octet;
        const spki = spkiOf(changed);
        expect(spki === null || spki.length <= der.length).toBe(true);
      }),
      { numRuns: 2000 },
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (octets) => spkiOf(Buffer.from(octets)) === null));
  });
});
