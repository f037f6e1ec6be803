import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createSecureContext } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { pinOf } from '../../lab/certificates.ts';
import { dial } from '../../src/deliver/connect.ts';
import { createDeliverer } from '../../src/deliver/deliverer.ts';
import { DEFAULT_TIMEOUTS } from '../../src/deliver/timeouts.ts';
import type { CertificateVerdict } from '../../src/model/delivery.ts';
import type { StoredBody } from '../../src/model/message.ts';
import { gradeTls } from '../../src/policy/tls-grade.ts';
import { judgeNames } from '../../src/policy/webpki.ts';
import { spkiPin } from '../../src/shared/spki.ts';
import { keys, leaf, pem } from '../policy/dane/pki.ts';
import type { HostOptions } from '../support/smtp-host.ts';
import { startSmtpHost } from '../support/smtp-host.ts';
import {
  dane,
  encrypt,
  judge,
  MESSAGE,
  may,
  other,
  own,
  type Policy,
  quiet,
  recordFor,
  scene,
  soon,
  tls,
  told,
} from './scene.ts';

const wrongCertificate = { tls: { key: other.key, cert: other.chain } };
/** A fatal alert as a server sends it in answer to a ClientHello. */
const alert = (description: number): Buffer => Buffer.from([0x15, 3, 3, 0, 2, 2, description]);

test('CONN-01 TLS-01 a certificate that matches: delivered, authenticated, with the facts of the connection', async () => {
  const { deliver, host } = await scene();
  const visit = await deliver();
  expect(told(visit)).toBe('delivered 2.0.0 remote-accepted');
  expect(visit.connection).toEqual({
    address: '127.0.0.1',
    verdict: 'authenticated',
    record: '3 1 1 …',
    depth: 0,
    tls: { version: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384', group: 'X25519MLKEM768', grade: 'sufficient' },
    code: 'dane-ee',
    reason: 'the key matches',
  });
  expect(host.story).toBe(
    'EHLO relay.example.nl | STARTTLS | (TLS) | EHLO relay.example.nl | ' +
      `MAIL FROM:<sender@example.nl> SIZE=${MESSAGE.length} | RCPT TO:<user@example.test> | DATA`,
  );
  expect(host.messages).toMatchObject([{ underTls: true, content: MESSAGE }]);
  expect(host.conversations[0]?.sni).toBe('mx.example.test');
});

test('CONN-01 with an insecure MX a match authenticates the host only', async () => {
  const { deliver } = await scene({ policy: { ...dane, wholePath: false } });
  expect((await deliver()).connection).toMatchObject({ verdict: 'host-authenticated', code: 'dane-ee' });
});

/** The host spoils one thing; where TLS is demanded nothing of the message may reach it, encrypted or not. */
describe('where TLS is demanded nothing goes out otherwise', () => {
  test.each<[string, HostOptions, string]>([
    ['CONN-03 STARTTLS is not offered', { tls: null }, 'starttls-not-offered'],
    [
      'CONN-03 STARTTLS is only part of the greeting text',
      { ehlo: '250-STARTTLS\r\n250 SIZE' },
      'starttls-not-offered',
    ],
    ['CONN-04 STARTTLS is answered 454', { starttls: '454 4.7.0 not now' }, 'starttls-refused'],
    ['CONN-04 STARTTLS is answered 500', { starttls: '500 what' }, 'starttls-refused'],
    ['CONN-04 STARTTLS is answered 502', { starttls: '502 no' }, 'starttls-refused'],
    ['CONN-04 STARTTLS is answered 554', { starttls: '554 5.7.1 never' }, 'starttls-refused'],
    ['CONN-04 STARTTLS is answered 421', { starttls: '421 bye' }, 'starttls-refused'],
    ['CONN-04 STARTTLS is answered 250', { starttls: '250 fine' }, 'remote-garbage'],
    ['CONN-05 only HELO is known', { ehlo: '502 5.5.1 what is EHLO' }, 'starttls-not-offered'],
    ['CONN-06 the handshake is garbage', { handshake: 'garbage' }, 'tls-handshake-failed'],
    ['CONN-06 the handshake is a FIN', { handshake: 'close' }, 'tls-handshake-failed'],
    ['CONN-06 the handshake is a RST', { handshake: 'reset' }, 'tls-handshake-failed'],
    ['CONN-06 the handshake is an alert', { handshake: alert(40) }, 'tls-handshake-failed'],
    ['TLS-03 the alert is unrecognized_name', { handshake: alert(112) }, 'tls-handshake-failed'],
    [
      'TLS-04 CONN-06 TLS 1.0 is all it has',
      { tls: { ...tls, minVersion: 'TLSv1', maxVersion: 'TLSv1', ciphers: 'ALL:@SECLEVEL=0' } },
      'tls-handshake-failed',
    ],
    [
      'TLS-04 CONN-06 TLS 1.1 is all it has',
      { tls: { ...tls, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' } },
      'tls-handshake-failed',
    ],
    [
      'CONN-12 TLS-05 NODE-08 anonymous suites are all it has',
      { tls: { maxVersion: 'TLSv1.2', ciphers: 'aNULL:@SECLEVEL=0' } },
      'tls-handshake-failed',
    ],
    ['TLS-08 INJ-01 a whole reply follows the 220', { starttls: Buffer.from('220 go\r\n250 x\r\n') }, 'tls-injection'],
    ['TLS-08 INJ-01 part of a reply follows the 220', { starttls: Buffer.from('220 go\r\n250-S') }, 'tls-injection'],
    ['TLS-08 INJ-01 no reply at all follows the 220', { starttls: Buffer.from('220 go\r\nwhat\r\n') }, 'tls-injection'],
    ['TXN-02 the greeting is 554', { greeting: '554 5.7.1 go away' }, 'greeting-refused-before-tls'],
    ['TXN-02 EHLO is answered 550', { ehlo: '550 5.7.1 go away' }, 'greeting-refused-before-tls'],
  ])('%s', async (_, host, code) => {
    for (const policy of [dane, encrypt]) {
      const at = await scene({ host, policy });
      const visit = await at.deliver();
      expect(visit).toMatchObject({ kind: 'useless', connection: { verdict: 'failed', code }, trouble: { code } });
      expect(visit.kind === 'useless' ? (visit.trouble.status ?? '4') : '').toMatch(/^4/);
      expect(at.host.conversations).toHaveLength(1);
      expect(at.host.story).not.toMatch(/MAIL|HELO relay.*HELO|DATA/);
      expect(at.host.messages).toEqual([]);
    }
  });

  test('CONN-06 the handshake never ends', async () => {
    const at = await scene({ host: { handshake: 'hang' }, deliverer: { timeouts: { handshake: soon } } });
    expect(told(await at.deliver())).toBe('useless tls-handshake-failed');
    expect(at.host.conversations).toHaveLength(1);
  });

  test('CONN-03 nor on a later attempt', async () => {
    const at = await scene({ host: { tls: null } });
    for (let attempt = 0; attempt < 3; attempt++) {
      expect(told(await at.deliver())).toBe('useless starttls-not-offered');
    }
    expect(at.host.story).not.toContain('MAIL');
  });
});

/** An RSA key, which the suites without forward secrecy need. */
const weakLeaf = leaf('mx.example.test', null, { keys: keys('policies', 'rsa') });
const rsa = {
  key: weakLeaf.keys.privateKey.export({ type: 'pkcs8', format: 'pem' }),
  cert: pem('CERTIFICATE', weakLeaf.der),
};
const MATCHES: CertificateVerdict = {
  verdict: 'authenticated',
  code: 'dane-ee',
  record: '3 1 1 …',
  depth: 0,
  detail: 'the key matches',
};

describe('TLS that is insufficient', () => {
  const only = (ciphers: string): HostOptions => ({ tls: { ...tls, maxVersion: 'TLSv1.2', ciphers } });
  const static_ = {
    tls: { key: rsa.key, cert: rsa.cert, maxVersion: 'TLSv1.2', ciphers: 'AES256-GCM-SHA384' },
  } as const;
  const small = { tls: { key: rsa.key, cert: rsa.cert, ecdhCurve: 'ffdhe2048' } } as const;
  const WEAK: readonly [string, HostOptions, string][] = [
    ['CBC with SHA-1', only('ECDHE-ECDSA-AES256-SHA'), 'the hash SHA1'],
    ['RSA key exchange', static_, 'key exchange by RSA'],
    ['a finite field of 2048 bits', small, 'key exchange in ffdhe2048'],
  ];
  const strict: readonly Policy[] = [
    encrypt,
    { kind: 'pin', code: 'rule-pin', sni: null, pins: [pinOf(own), String(spkiPin(weakLeaf.der))], dane: null },
    dane,
  ];

  test.each(WEAK)('TLS-09 %s: nothing goes where TLS is demanded', async (_, host, why) => {
    for (const policy of strict) {
      const at = await scene({ host, policy, deliverer: { judge: () => MATCHES } });
      const visit = await at.deliver();
      expect(visit).toMatchObject({
        kind: 'useless',
        trouble: { code: 'tls-too-weak', detail: expect.stringContaining(why) },
        connection: { verdict: 'failed', tls: { grade: 'insufficient' } },
      });
      expect(at.host.conversations).toHaveLength(1);
      expect(at.host.story).not.toMatch(/MAIL|DATA/);
    }
  });

  test.each(WEAK)('TLS-09 %s: better than nothing where TLS is not demanded, and told', async (_, host) => {
    const at = await scene({ host, policy: may });
    const visit = await at.deliver();
    expect(told(visit)).toBe('delivered 2.0.0 remote-accepted');
    expect(visit.connection).toMatchObject({ verdict: 'encrypted', tls: { grade: 'insufficient' } });
    expect(at.host.messages).toMatchObject([{ underTls: true }]);
  });

  test('TLS-09 what is to be phased out still does', async () => {
    for (const ciphers of ['ECDHE-ECDSA-AES128-SHA256', 'ECDHE-ECDSA-AES256-SHA384']) {
      const { deliver } = await scene({ host: only(ciphers) });
      expect((await deliver()).connection).toMatchObject({ verdict: 'authenticated', tls: { grade: 'phase-out' } });
    }
  });

  test('TLS-09 while failures are only reported, that is one of them; an exception lets no such TLS through', async () => {
    const [, host] = WEAK[0] ?? expect.unreachable();
    const grant = { kind: 'report', until: 4_102_444_800_000 } as const;
    const report = { kind: 'report', code: 'rule-report', sni: null, strict: dane, enough: [may], grant } as const;
    const { deliver } = await scene({ host, policy: report });
    expect((await deliver()).connection).toMatchObject({
      code: 'report-encrypted',
      overlooked: { code: 'tls-too-weak' },
    });
    const enough = [encrypt] as const;
    const granted = { ...grant, kind: 'exception', id: 'E1', owner: 'o', reason: 'r', pins: [] } as const;
    const except = { kind: 'except', code: 'rule-exception', sni: null, strict: dane, enough, grant: granted } as const;
    const at = await scene({ host, policy: except });
    expect(told(await at.deliver())).toBe('useless tls-too-weak');
  });
});

test('TLS-10 a host with no group but P-256 is reached, though post-quantum groups are offered first', async () => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const { deliver } = await scene({ host: { tls: { ...tls, maxVersion, ecdhCurve: 'P-256' } } });
    expect((await deliver()).connection).toMatchObject({
      verdict: 'authenticated',
      tls: { version: maxVersion, group: 'prime256v1', grade: 'sufficient' },
    });
  }
});

test('CONN-12 TLS without a certificate proves nothing, and the judge is not even asked', async () => {
  // Such a suite is never offered; should one slip in, the proof must still fail.
  const anonymous = { ciphers: 'aNULL:@SECLEVEL=0', maxVersion: 'TLSv1.2' } as const;
  const at = await scene({ host: { tls: anonymous } });
  const dialled = await dial(at.request, {
    hostname: 'relay.example.nl',
    judge: () => ({ verdict: 'authenticated', code: 'dane-ee', record: null, depth: null, detail: '' }),
    judgeNames,
    grade: gradeTls,
    trustingContext: () => createSecureContext(anonymous),
    timeouts: DEFAULT_TIMEOUTS,
    localAddress: undefined,
    secureContext: createSecureContext(anonymous),
    made: () => undefined,
  });
  expect(dialled).toMatchObject({ kind: 'failed', trouble: { code: 'tlsa-bad-chain' }, facts: { verdict: 'failed' } });
  expect(at.host.story).not.toContain('MAIL');
});

test('TLS-06 an RSA key of 512 bits is a failed handshake', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'weak-key-'));
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const wishes = ['-newkey', 'rsa:512', '-nodes', '-keyout', key, '-out', cert, '-subj', '/CN=mx.example.test'];
  execFileSync('openssl', ['req', '-x509', ...wishes], { stdio: 'ignore' });
  const weak = { key: readFileSync(key), cert: readFileSync(cert), ciphers: 'DEFAULT:@SECLEVEL=0' };
  rmSync(folder, { recursive: true });
  const at = await scene({ host: { tls: weak } });
  expect(told(await at.deliver())).toBe('useless tls-handshake-failed');
});

test('CONN-02 a certificate that matches no record: no MAIL FROM, no EHLO under TLS, the judge is quoted', async () => {
  const { deliver, host } = await scene({ host: wrongCertificate });
  const visit = await deliver();
  expect(visit).toMatchObject({
    kind: 'useless',
    trouble: { code: 'tlsa-mismatch', detail: 'another key' },
    connection: { verdict: 'failed', record: null, tls: { version: 'TLSv1.3' }, code: 'tlsa-mismatch' },
  });
  await expect.poll(() => host.conversations[0]?.ended).toBe(true);
  expect(host.story).toBe('EHLO relay.example.nl | STARTTLS | (TLS) | QUIT');
});

test.each([
  [
    'says that nothing is usable',
    () => ({ verdict: 'unusable', code: 'tlsa-no-usable-record' }) as const,
    'tlsa-no-usable-record',
  ],
  [
    'gives a failure the code of a success',
    () => ({ verdict: 'not-authenticated', code: 'dane-ee' }) as const,
    'tlsa-mismatch',
  ],
  ['throws', () => expect.unreachable('as a bug would'), 'internal-error'],
])('CONN-02 nothing is handed over when the judge %s', async (_, opinion, code) => {
  const at = await scene({ deliverer: { judge: () => ({ record: null, depth: null, detail: '', ...opinion() }) } });
  expect(told(await at.deliver())).toBe(`useless ${code}`);
  expect(at.host.story).not.toContain('MAIL');
});

test('PREF-05 a host that fails on one address is tried on another, and authenticated there', async () => {
  const wrong = await scene({ host: wrongCertificate });
  const right = await scene({ host: { address: '127.0.0.2' } });
  expect(told(await wrong.deliver())).toBe('useless tlsa-mismatch');
  const { address, port } = right.request;
  expect(told(await wrong.deliver({ address, port }))).toBe('delivered 2.0.0 remote-accepted');
});

test('CONN-07 CONN-10 under encrypt and may any certificate does', async () => {
  for (const [policy, code] of [
    [encrypt, 'encrypted-unauthenticated'],
    [may, 'encrypted-opportunistic'],
  ] as const) {
    const at = await scene({ host: wrongCertificate, policy });
    const visit = await at.deliver();
    expect(told(visit)).toBe('delivered 2.0.0 remote-accepted');
    expect(visit.connection).toMatchObject({ verdict: 'encrypted', code, record: null });
    expect(at.host.conversations).toHaveLength(1);
    expect(at.host.messages[0]?.underTls).toBe(true);
  }
});

test('CONN-08 under may a host without STARTTLS gets the message in the clear', async () => {
  const { deliver, host } = await scene({ host: { tls: null }, policy: may });
  const visit = await deliver();
  expect(told(visit)).toBe('delivered 2.0.0 remote-accepted');
  expect(visit.connection).toMatchObject({ verdict: 'clear', code: 'clear-not-offered', tls: null });
  expect(host.messages[0]?.underTls).toBe(false);
});

test.each(['454 4.7.0 not now', '554 5.7.1 never'])(
  'CONN-09 under may STARTTLS answered %s: in the clear on the same connection, and not kept for others',
  async (starttls) => {
    const { deliver, host } = await scene({ host: { starttls }, policy: may });
    const visit = await deliver();
    expect(told(visit)).toBe('delivered 2.0.0 remote-accepted');
    expect(visit.connection).toMatchObject({ verdict: 'clear', code: 'clear-starttls-refused' });
    expect(visit.connection.reason).toContain(starttls);
    expect(host.conversations).toHaveLength(1);
    await deliver();
    expect(host.conversations).toHaveLength(2);
  },
);

test.each<[string, HostOptions]>([
  ['garbage', { handshake: 'garbage' }],
  ['a FIN', { handshake: 'close' }],
  ['an alert', { handshake: alert(40) }],
  ['TLS-04 TLS 1.0', { tls: { ...tls, minVersion: 'TLSv1', maxVersion: 'TLSv1', ciphers: 'ALL:@SECLEVEL=0' } }],
])('CONN-09 under may a handshake that is %s: in the clear on a new connection', async (_, host) => {
  const at = await scene({ host, policy: may });
  const visit = await at.deliver();
  expect(told(visit)).toBe('delivered 2.0.0 remote-accepted');
  expect(visit.connection).toMatchObject({ verdict: 'clear', code: 'clear-handshake-failed', tls: null });
  expect(visit.connection.reason).not.toBe('');
  expect(at.host.conversations.map(({ commands }) => commands.at(1)?.slice(0, 8))).toEqual(['STARTTLS', 'MAIL FRO']);
});

test('CONN-09 under may a handshake that never ends: in the clear on a new connection', async () => {
  const at = await scene({ host: { handshake: 'hang' }, policy: may, deliverer: { timeouts: { handshake: soon } } });
  expect((await at.deliver()).connection.code).toBe('clear-handshake-failed');
});

test('CONN-09 a host that turns the handshake down after it ended on our side has failed it', async () => {
  const host = { tls: { ...tls, requestCert: true, rejectUnauthorized: true } };
  for (const [policy, story] of [
    [dane, 'useless tls-handshake-failed'],
    [may, 'delivered 2.0.0 remote-accepted'],
  ] as const) {
    const at = await scene({ host, policy });
    expect(told(await at.deliver())).toBe(story);
  }
});

test('TLS-08 INJ-01 octets in the clear after the 220 end it under may too, and nothing is sent in the clear', async () => {
  const { deliver, host } = await scene({ host: { starttls: Buffer.from('220 go\r\n250 x\r\n') }, policy: may });
  expect(told(await deliver())).toBe('useless tls-injection');
  expect(host.conversations).toHaveLength(1);
  expect(host.story).not.toContain('MAIL');
});

test('CONN-11 closed in the middle of the data after a proof: another attempt, under the same policy again', async () => {
  const part = Buffer.alloc(72_000, 'x'.repeat(70).concat('\r\n'));
  const openBody = async (): Promise<StoredBody> => ({
    kind: 'stream',
    stream: Readable.from(new Array(100).fill(part)),
  });
  const closing = { early: { close: '' }, earlyAfter: 1000 };
  const content = { size: 100 * part.length };
  const { deliver, host } = await scene({ host: closing, content, deliverer: { openBody } });
  const visit = await deliver();
  expect(visit).toMatchObject({ kind: 'useless', trouble: { code: 'connection-lost' } });
  expect(host.messages).toEqual([]);
  host.change({ tls: null });
  expect(told(await deliver())).toBe('useless starttls-not-offered');
});

test('TLS-02 no SNI where the policy has none', async () => {
  const { deliver, host } = await scene({ policy: { kind: 'may', code: 'literal-address', sni: null } });
  expect((await deliver()).connection.verdict).toBe('encrypted');
  expect(host.conversations[0]?.sni).toBe(false);
});

test('TLS-04 TLS 1.2 still does, and its facts are told', async () => {
  const { deliver } = await scene({ host: { tls: { ...tls, maxVersion: 'TLSv1.2' } } });
  expect((await deliver()).connection).toMatchObject({
    verdict: 'authenticated',
    tls: { version: 'TLSv1.2', cipher: expect.stringContaining('GCM'), group: 'X25519' },
  });
});

test('TLS-07 EXT-01 what the host offered before TLS is forgotten', async () => {
  const { deliver, host } = await scene({ host: { underTls: { extensions: [] } } });
  expect(told(await deliver())).toBe('delivered 2.0.0 remote-accepted');
  // No SIZE, and no PIPELINING that let MAIL and RCPT go together.
  expect(host.story).toContain('MAIL FROM:<sender@example.nl> |');
});

test('TLS-07 a host that knows only HELO under TLS offers nothing', async () => {
  const { deliver, host } = await scene({ host: { underTls: { ehlo: '502 what' } } });
  expect(told(await deliver())).toBe('delivered 2.0.0 remote-accepted');
  expect(host.story).toContain(
    '(TLS) | EHLO relay.example.nl | HELO relay.example.nl | MAIL FROM:<sender@example.nl> |',
  );
});

test('CONN-05 under may a host that knows only HELO gets the message', async () => {
  const { deliver, host } = await scene({ host: { ehlo: '500 what' }, policy: may });
  const visit = await deliver();
  expect(told(visit)).toBe('delivered 2.0.0 remote-accepted');
  expect(visit.connection.code).toBe('clear-not-offered');
  expect(host.story).toContain('EHLO relay.example.nl | HELO relay.example.nl | MAIL');
});

describe('TXN-02 a host that turns us away', () => {
  test.each<[string, HostOptions, string]>([
    ['554 in the greeting', { greeting: '554 5.7.1 no' }, 'useless 5.7.1 greeting-refused'],
    ['521 in the greeting', { greeting: '521 no mail here' }, 'useless 5.0.0 greeting-refused'],
    ['421 in the greeting', { greeting: '421 4.3.2 busy' }, 'useless 4.3.2 greeting-refused'],
    ['450 in the greeting', { greeting: '450 later' }, 'useless 4.0.0 greeting-refused'],
    ['250 as the greeting', { greeting: '250 hello' }, 'useless remote-garbage'],
    ['550 to EHLO and HELO', { ehlo: '550 5.7.1 no', helo: '550 5.7.1 no' }, 'useless 5.7.1 ehlo-refused'],
    ['451 to EHLO', { ehlo: '451 4.3.0 later' }, 'useless 4.3.0 ehlo-refused'],
    ['421 to EHLO', { ehlo: '421 4.3.2 bye' }, 'useless 4.3.2 ehlo-refused'],
    ['354 to EHLO', { ehlo: '354 what' }, 'useless remote-garbage'],
    ['550 to EHLO under TLS', { underTls: { ehlo: '550 no', helo: '550 no' } }, 'useless 5.0.0 ehlo-refused'],
  ])('under may: %s', async (_, host, story) => {
    const at = await scene({ host, policy: may });
    expect(told(await at.deliver())).toBe(story);
    expect(at.host.story).not.toContain('MAIL');
  });

  test('ST-02 under dane its 5xx never counts for good', async () => {
    const under = { ehlo: '550 5.7.1 no', helo: '550 5.7.1 no' };
    expect(told(await (await scene({ host: { underTls: under } })).deliver())).toBe('useless ehlo-refused');
    const early = await scene({ host: { greeting: '421 4.3.2 busy' } });
    expect(told(await early.deliver())).toBe('useless 4.3.2 greeting-refused');
  });
});

describe('no connection', () => {
  test('refused', async () => {
    const at = await scene();
    const { port } = at.host;
    await at.host.close();
    const visit = await at.deliver({ port });
    expect(visit).toMatchObject({
      trouble: { code: 'connect-failed', detail: expect.stringContaining('ECONNREFUSED') },
    });
  });

  test('a name is never looked up here', async () => {
    const at = await scene();
    const visit = await at.deliver({ address: 'localhost' });
    expect(told(visit)).toBe('deferred 4.3.0 internal-error');
    expect(at.host.conversations).toEqual([]);
  });

  test('from a local address of the same family', async () => {
    const at = await scene({ deliverer: { localAddress: '127.0.0.9' } });
    expect(told(await at.deliver())).toBe('delivered 2.0.0 remote-accepted');
    const six = await scene({ deliverer: { localAddress: '::1' } });
    expect(told(await six.deliver())).toBe('delivered 2.0.0 remote-accepted');
  });
});

describe('dial, for explain', () => {
  test('connects, proves, and says nothing of a message', async () => {
    const { deliverer, request, host } = await scene({
      host: { underTls: { extensions: ['PIPELINING', 'size 1000'] } },
    });
    const report = await deliverer.dial(request);
    expect(report).toMatchObject({
      connection: { verdict: 'authenticated', code: 'dane-ee', record: '3 1 1 …' },
      trouble: null,
      extensions: ['PIPELINING', 'SIZE 1000'],
    });
    expect(report.chain).toEqual([Buffer.from(own.certificate.rawData)]);
    expect(host.story).toBe('EHLO relay.example.nl | STARTTLS | (TLS) | EHLO relay.example.nl | QUIT');
  });

  test('brings the certificates of a host that fails', async () => {
    const { deliverer, request } = await scene({ host: wrongCertificate });
    const report = await deliverer.dial(request);
    expect(report).toMatchObject({ connection: { verdict: 'failed' }, trouble: { code: 'tlsa-mismatch' } });
    expect(report.chain).toEqual([Buffer.from(other.certificate.rawData)]);
  });
});

test('CONN-15 NODE-04 sessions are never resumed: every connection shows its certificate', async () => {
  const seen: number[] = [];
  const host = await startSmtpHost({ tls: { ...tls, maxVersion: 'TLSv1.2' } });
  const deliverer = createDeliverer({
    hostname: 'relay.example.nl',
    openBody: () => expect.unreachable('no message is sent'),
    judge: (chain, policy) => {
      seen.push(chain.length);
      return judge(chain, policy);
    },
    judgeNames,
    grade: gradeTls,
    log: quiet,
  });
  const mx = { name: 'mx.example.test', preference: 10, unusable: null };
  const { address, port } = host;
  for (let round = 0; round < 3; round++) {
    const nextHop = { kind: 'host' as const, host: mx.name, port };
    const { trouble } = await deliverer.dial({
      nextHop,
      host: mx,
      address,
      port,
      policy: { ...dane, records: [recordFor(own)] },
    });
    expect(trouble).toBeNull();
  }
  expect(seen).toEqual([1, 1, 1]);
  await deliverer.close();
  await host.close();
});
