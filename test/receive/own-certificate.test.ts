import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { CertificateError, loadOrMakeCertificate, type OwnCertificate } from '../../src/receive/own-certificate.ts';
import { spkiPin } from '../../src/shared/spki.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dane-relay-own-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const load = (hostname = 'relay.example.nl'): Promise<OwnCertificate> =>
  loadOrMakeCertificate({ certPath: 'state/relay.pem', keyPath: 'state/relay.key', dir, hostname });
const path = (name: string): string => join(dir, 'state', name);
const openssl = (...args: string[]): string => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' }).toString();

test('is made when there is none, and the same ever after', async () => {
  const first = await load();
  const second = await load('another.example.nl');
  expect(first.made).toBe(true);
  expect(second).toEqual({ ...first, made: false });
  expect(first.pin).toBe(spkiPin(new X509Certificate(first.cert).raw));
  expect(statSync(path('relay.key')).mode & 0o777).toBe(0o600);
  expect(existsSync(path('relay.key.new'))).toBe(false);
});

test('openssl finds nothing wrong with it', async () => {
  await load();
  const verified = openssl(
    'verify',
    '-x509_strict',
    '-trusted',
    path('relay.pem'),
    '-partial_chain',
    path('relay.pem'),
  );
  expect(verified).toContain('OK');
  const text = openssl('x509', '-in', path('relay.pem'), '-noout', '-text', '-checkhost', 'relay.example.nl');
  expect(text).toContain('Signature Algorithm: ecdsa-with-SHA256');
  expect(text).toContain('DNS:relay.example.nl');
  expect(text).toContain('TLS Web Server Authentication, TLS Web Client Authentication');
  expect(text).toContain('does match certificate');
  openssl('x509', '-in', path('relay.pem'), '-noout', '-checkend', String(20 * 365 * 24 * 3600));
});

test.each(['a.nl', `${'x'.repeat(60)}.${'y'.repeat(60)}.${'z'.repeat(60)}.nl`])(
  'has its name in the SAN: %s',
  async (name) => {
    const { cert } = await load(name);
    expect(new X509Certificate(cert).subjectAltName).toBe(`DNS:${name}`);
    expect(new X509Certificate(cert).verify(new X509Certificate(cert).publicKey)).toBe(true);
  },
);

test.each<[string, () => void, RegExp]>([
  ['the key can be read by the world', () => chmodSync(path('relay.key'), 0o644), /mode 0644\): run chmod 600/],
  ['the key can be changed by the group', () => chmodSync(path('relay.key'), 0o660), /mode 0660/],
  ['the key is gone', () => rmSync(path('relay.key')), /relay\.pem is there and its key .*relay\.key is not/],
  ['the certificate is gone', () => rmSync(path('relay.pem')), /relay\.key is there and its certificate/],
  [
    'the certificate is rubbish',
    () => writeFileSync(path('relay.pem'), 'rubbish'),
    /relay\.pem is no certificate in PEM/,
  ],
  ['the key is rubbish', () => writeFileSync(path('relay.key'), 'rubbish'), /relay\.key is no private key in PEM/],
  [
    'the key is another one',
    () => openssl('genpkey', '-algorithm', 'ed25519', '-out', path('relay.key')),
    /relay\.key is not the key of the first certificate/,
  ],
])('is not used, and not replaced, when %s', async (_, harm, message) => {
  await load();
  harm();
  const before = existsSync(path('relay.pem')) && readFileSync(path('relay.pem'), 'utf8');
  await expect(load()).rejects.toThrow(message);
  await expect(load()).rejects.toBeInstanceOf(CertificateError);
  expect(existsSync(path('relay.pem')) && readFileSync(path('relay.pem'), 'utf8')).toBe(before);
});

test('a key that the group may read is used', async () => {
  await load();
  chmodSync(path('relay.key'), 0o640);
  expect((await load()).made).toBe(false);
});

test('an RSA certificate of the operator’s own is used as it is', async () => {
  await load();
  const args = [
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-subj',
    '/CN=x',
    '-keyout',
    path('relay.key'),
    '-out',
    path('relay.pem'),
  ];
  openssl('req', '-x509', ...args);
  expect((await load()).cert).toBe(readFileSync(path('relay.pem'), 'utf8'));
});
