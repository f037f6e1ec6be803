/** What the rules `verify` and `pin` and MTA-STS take for a proof: real handshakes with certificates that lack one thing. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  alternativeNames,
  basicConstraints,
  type Certificate,
  CLIENT_AUTH,
  ca,
  DAY,
  extendedKeyUsage,
  keys,
  leaf,
  nameConstraints,
  pem,
} from '../policy/dane/pki.ts';
import type { HostOptions } from '../support/smtp-host.ts';
import { dane, other, type Policy, recordFor, scene, told } from './scene.ts';

const HOST = 'mx.example.test';
const now = Date.now();
const span = { notBefore: now - 30 * DAY, notAfter: now + 30 * DAY };
const root = ca('Trusted Root', null, span);
const inter = ca('Trusted Issuer', root, span);
const good = leaf(HOST, inter, span);
const stranger = ca('Strange Root', null, span);

const verify: Extract<Policy, { kind: 'verify' | 'sts' }> = {
  kind: 'verify',
  code: 'rule-verify',
  sni: HOST,
  names: [HOST],
  wholePath: true,
  dane: null,
};

const pinOf = ({ keys: { spki } }: Certificate): string =>
  `sha256/${createHash('sha256').update(spki).digest('base64')}`;

const recordOf = ({ keys: { spki } }: Certificate) => ({
  usage: 3,
  selector: 1,
  matching: 1,
  data: createHash('sha256').update(spki).digest(),
});

function presents(...chain: readonly [Certificate, ...Certificate[]]): HostOptions {
  const [{ keys: own }] = chain;
  const key = own.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  return { tls: { key, cert: chain.map(({ der }) => pem('CERTIFICATE', der)).join('') } };
}

const at = (host: HostOptions, policy: Policy) =>
  scene({ host, policy, deliverer: { authorities: [pem('CERTIFICATE', root.der)] } });

const trustedLeaf = (change: Parameters<typeof leaf>[2]) => leaf(HOST, inter, { ...span, ...change });
const named = (...names: string[]) => [basicConstraints(false), alternativeNames(...names)];

describe.each(['verify', 'sts'] as const)('under %s', (kind) => {
  test.each<[string, readonly [Certificate, ...Certificate[]], string]>([
    ['a trusted one', [good, inter], 'delivered webpki-matched'],
    ['the root is sent too', [good, inter, root], 'delivered webpki-matched'],
    ['with a stranger among them', [good, stranger, inter], 'delivered webpki-matched'],
    ['a wildcard', [trustedLeaf({ extensions: named('dns:*.example.test') }), inter], 'delivered webpki-matched'],
    ['the issuer is not sent', [good], 'useless webpki-not-trusted'],
    ['signed by itself', [leaf(HOST, null, span)], 'useless webpki-not-trusted'],
    ['of another root', [leaf(HOST, stranger, span), stranger], 'useless webpki-not-trusted'],
    ['the signature is broken', [trustedLeaf({ breakSignature: true }), inter], 'useless webpki-not-trusted'],
    ['issued by one that is no authority', [leaf(HOST, good, span), good, inter], 'useless webpki-not-trusted'],
    [
      'for clients only',
      [trustedLeaf({ extensions: [...named(`dns:${HOST}`), extendedKeyUsage(CLIENT_AUTH)] }), inter],
      'useless webpki-not-trusted',
    ],
    [
      'an issuer that may not issue for the name',
      ((confined) => [leaf(HOST, confined, span), confined] as const)(
        ca('Confined', root, { ...span, extensions: [basicConstraints(true), nameConstraints(['dns:other.test'])] }),
      ),
      'useless webpki-not-trusted',
    ],
    ['expired', [trustedLeaf({ notAfter: now - DAY }), inter], 'useless webpki-expired'],
    ['not valid yet', [trustedLeaf({ notBefore: now + DAY }), inter], 'useless webpki-expired'],
    [
      'the issuer expired',
      ((old) => [leaf(HOST, old, span), old] as const)(ca('Old', root, { ...span, notAfter: now - DAY })),
      'useless webpki-expired',
    ],
    ['for another name', [leaf('other.test', inter, span), inter], 'useless webpki-name-mismatch'],
    [
      'a wildcard over two labels',
      [trustedLeaf({ extensions: named('dns:*.test') }), inter],
      'useless webpki-name-mismatch',
    ],
    [
      'only a common name',
      [trustedLeaf({ extensions: [basicConstraints(false)] }), inter],
      'useless webpki-name-mismatch',
    ],
  ])('the certificate is %s', async (_, chain, story) => {
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const host = presents(...chain);
      const { deliver, host: server } = await at(
        { tls: { ...host.tls, minVersion: version, maxVersion: version } },
        { ...verify, kind },
      );
      const visit = await deliver();
      expect(`${told(visit).split(' ')[0]} ${visit.connection.code}`).toBe(story);
      expect(server.messages).toHaveLength(story.startsWith('delivered') ? 1 : 0);
      if (story.startsWith('useless')) expect(server.story).not.toMatch(/MAIL|TLS\) \| EHLO/);
    }
  });
});

test.each<[string, HostOptions, string]>([
  ['STARTTLS is not offered', { tls: null }, 'starttls-not-offered'],
  ['STARTTLS is refused', { starttls: '454 4.7.0 not now' }, 'starttls-refused'],
  ['the handshake fails', { handshake: 'close' }, 'tls-handshake-failed'],
])('%s: nothing goes out in the clear under verify and pin', async (_, host, code) => {
  for (const policy of [verify, { ...pinned(good), dane: null }]) {
    const { deliver, host: server } = await at({ ...presents(good, inter), ...host }, policy);
    expect(told(await deliver())).toBe(`useless ${code}`);
    expect(server.messages).toEqual([]);
  }
});

test('an insecure MX: the name of the host is proven, not that it is the one of the domain', async () => {
  const { deliver } = await at(presents(good, inter), { ...verify, wholePath: false });
  expect((await deliver()).connection).toMatchObject({ verdict: 'host-authenticated', code: 'webpki-matched' });
});

test('NODE-03 the certificates are still those that were sent, although OpenSSL looked for a way first', async () => {
  const { deliverer, request } = await at(presents(good, stranger, inter), verify);
  const { chain, trouble } = await deliverer.dial(request);
  expect(trouble).toBeNull();
  expect(chain).toEqual([good.der, stranger.der, inter.der]);
});

test('the public authorities are trusted where nothing else is configured, and not this one', async () => {
  const { deliver, host } = await scene({ host: presents(good, inter), policy: verify });
  expect(told(await deliver())).toBe('useless webpki-not-trusted');
  expect(host.messages).toEqual([]);
});

test('other authorities count from the next message on, also where a connection was kept', async () => {
  const { deliver, deliverer, host } = await at(presents(good, inter), verify);
  expect((await deliver()).connection.code).toBe('webpki-matched');
  deliverer.setLimits({ authorities: [pem('CERTIFICATE', stranger.der)] });
  expect(told(await deliver())).toBe('useless webpki-not-trusted');
  expect(host.messages).toHaveLength(1);
});

function pinned(...certificates: readonly Certificate[]): Extract<Policy, { kind: 'pin' }> {
  return { kind: 'pin', code: 'rule-pin', sni: HOST, pins: certificates.map(pinOf), dane: null };
}

describe('under pin', () => {
  test('the key is one of those that were named: whoever issued the certificate, for whatever name', async () => {
    const plain = leaf('whatever.test', null, { ...span, notAfter: now - DAY });
    const { deliver } = await at(presents(plain), pinned(good, plain));
    expect((await deliver()).connection).toMatchObject({ verdict: 'authenticated', code: 'pin-matched' });
  });

  test('the key of an issuer is not the key of the server', async () => {
    const { deliver, host } = await at(presents(good, inter), pinned(inter, root));
    const visit = await deliver();
    expect(told(visit)).toBe('useless pin-mismatch');
    expect(visit.connection.reason).toContain(pinOf(good));
    expect(host.story).not.toContain('MAIL');
  });
});

describe('TLSA records beside another proof must match as well', () => {
  const matching = { ...dane, records: [recordOf(good)] };
  const wrong = { ...dane, records: [recordFor(other)] };
  const elsewhere = leaf('other.test', inter, { ...span, keys: keys('elsewhere') });

  test.each<[string, Policy, readonly [Certificate, ...Certificate[]], string]>([
    ['verify: both hold', { ...verify, dane: matching }, [good, inter], 'webpki-matched'],
    ['verify: the records do not', { ...verify, dane: wrong }, [good, inter], 'tlsa-mismatch'],
    ['verify: only the records do', { ...verify, dane: matching }, [good], 'webpki-not-trusted'],
    ['pin: both hold', { ...pinned(good), dane: matching }, [good, inter], 'pin-matched'],
    ['pin: the records do not', { ...pinned(good), dane: wrong }, [good, inter], 'tlsa-mismatch'],
    ['pin: only the records do', { ...pinned(elsewhere), dane: matching }, [good, inter], 'pin-mismatch'],
  ])('%s', async (_, policy, chain, code) => {
    const { deliver, host } = await at(presents(...chain), policy);
    const { connection } = await deliver();
    expect(connection.code).toBe(code);
    const good = code === 'webpki-matched' || code === 'pin-matched';
    expect(host.messages).toHaveLength(good ? 1 : 0);
    if (good) expect(connection).toMatchObject({ record: '3 1 1 …', depth: 0, verdict: 'authenticated' });
  });
});
