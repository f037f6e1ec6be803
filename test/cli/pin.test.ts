/** `pin`: the same key and certificate in every notation, compared with what openssl makes of them. */
import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { pinCommand } from '../../src/cli/pin.ts';
import { pem, tlsa } from '../policy/dane/pki.ts';
import { block, file, mailHost, mx, root } from './certificates.ts';
import { runCommands } from './support.ts';

const run = (...args: string[]) => runCommands([pinCommand()], 'pin', ...args);
const chain = file(block(mx) + block(root));
const openssl = (command: string, input?: Buffer): Buffer =>
  execFileSync('openssl', command.split(' '), input ? { input } : {});

const publicKey = openssl(`x509 -in ${chain} -pubkey -noout`);
const spki = openssl('pkey -pubin -outform DER', publicKey);
const fingerprint = (digest: string): string =>
  openssl(`x509 -in ${chain} -noout -fingerprint -${digest}`).toString().trim().split('=')[1] ?? '';
const keyHex = openssl('dgst -sha256 -r', spki).toString().slice(0, 64);
const colons = (hex: string): string => (hex.toUpperCase().match(/../g) ?? []).join(':');

const expected = {
  pin: `sha256/${openssl('dgst -sha256 -binary', spki).toString('base64')}`,
  spki: { sha256: keyHex, postfix: colons(keyHex), tlsa: tlsa('3 1 1', mx) },
  certificate: {
    sha256: fingerprint('sha256').replaceAll(':', '').toLowerCase(),
    postfix: fingerprint('sha256'),
    thumbprint: fingerprint('sha1').replaceAll(':', ''),
  },
};

describe('pins', () => {
  test.each<[string, string, object]>([
    ['of a chain: its first certificate', chain, expected],
    ['of a certificate in DER', file(mx.der), expected],
    ['of a public key', file(publicKey), { ...expected, certificate: null }],
    ['of a certificate beside a private key', file(pem('PRIVATE KEY', Buffer.alloc(9)) + block(mx)), expected],
  ])('%s', async (_, path, pins) => {
    const { out, exitCode } = await run(path, '--json');
    expect(exitCode).toBe(0);
    expect(JSON.parse(out)).toEqual(pins);
  });

  test('of a server', async () => {
    const host = await mailHost();
    const { out } = await run(`127.0.0.1:${host.port}`, '--json');
    expect(JSON.parse(out)).toEqual(expected);
  });

  test('in lines for people: each notation once', async () => {
    const { out } = await run(chain);
    for (const notation of [
      expected.pin,
      expected.spki.postfix,
      expected.certificate.thumbprint,
      expected.certificate.postfix,
    ]) {
      expect(out.split(notation)).toHaveLength(2);
    }
  });

  test.each<[string, string, RegExp]>([
    ['a private key', file(pem('PRIVATE KEY', Buffer.from('secret octets'))), /private key; give its certificate/],
    ['nothing of the kind', file('hello'), /no certificate or public key/],
    ['a public key that is none', file(pem('PUBLIC KEY', Buffer.from('x'))), /no public key/],
    ['a certificate that is none', file(pem('CERTIFICATE', Buffer.from('x'))), /no certificate/],
    ['no file', '/nowhere.pem', /no such file/],
  ])('%s is exit status 3', async (_, path, says) => {
    const { out, err, exitCode } = await run(path);
    expect({ out, exitCode }).toEqual({ out: '', exitCode: 3 });
    expect(err).toMatch(says);
    expect(err).not.toMatch(/secret|c2VjcmV0/);
  });
});
