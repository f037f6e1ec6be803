/** What of Node's TLS the proof of a certificate rests on. A new Node must pass this before it is used. */
import { X509Certificate } from 'node:crypto';
import { type AddressInfo, createServer as createTcp } from 'node:net';
import { connect, createServer, type SecureVersion, type TLSSocket } from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import { chainOfThree, type Identity, selfSigned } from '../../lab/certificates.ts';
import { clientContext, takeChain, tlsFacts } from '../../src/deliver/peer-certificates.ts';

const { leaf, root } = await chainOfThree(['mx.example.test']);
const stranger = await selfSigned('stranger.example.test');
const [leafPem = '', interPem = '', rootPem = ''] = leaf.chain.split(/(?<=-----END CERTIFICATE-----)\s*/);
const strangerPem = stranger.certificate.toString('pem');
const versions: SecureVersion[] = ['TLSv1.2', 'TLSv1.3'];

async function handshake(options: {
  cert?: string;
  key?: string;
  version?: SecureVersion;
  ciphers?: string;
  ca?: string;
}): Promise<TLSSocket> {
  const { version = 'TLSv1.3', ca, ...identity } = options;
  const server = createServer({ key: leaf.key, ...identity, minVersion: version, maxVersion: version });
  server.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const context = ca === undefined ? { secureContext: clientContext() } : { ca };
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...context });
  onTestFinished(() => {
    socket.destroy();
    server.close();
  });
  await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
  return socket;
}

const der = (pem: string): Buffer => Buffer.from(new X509Certificate(pem).raw);

describe.each(versions)('%s', (version) => {
  test.each([
    ['leaf and issuers', [leafPem, interPem, rootPem]],
    ['extras between', [leafPem, strangerPem, interPem, strangerPem, rootPem]],
    ['out of order', [leafPem, rootPem, interPem]],
    ['duplicates', [leafPem, interPem, interPem, rootPem, rootPem]],
    ['the leaf twice', [leafPem, leafPem, interPem]],
    ['the leaf only', [leafPem]],
    ['a gap', [leafPem, rootPem]],
  ])('NODE-01 NODE-02 the chain is what was sent, in its order: %s', async (_, sent) => {
    const socket = await handshake({ cert: sent.join('\n'), version });
    expect(takeChain(socket)).toEqual(sent.map(der));
  });

  test('NODE-02 the getter is destructive: the second call finds nothing, and we then have no chain', async () => {
    const socket = await handshake({ cert: leaf.chain, version });
    expect(takeChain(socket)).toHaveLength(3);
    expect(socket.getPeerX509Certificate()).toBeUndefined();
    expect(socket.getPeerCertificate(true)).toEqual({});
    expect(takeChain(socket)).toEqual([]);
  });

  test('NODE-03 when the runtime looked first, because the chain verified, the getter still works', async () => {
    const socket = await handshake({ cert: [leafPem, interPem].join('\n'), version, ca: rootPem });
    socket.getPeerCertificate(true);
    expect(takeChain(socket)).toEqual([leafPem, interPem].map(der));
  });

  test('NODE-01 certificates of the local store are not added', async () => {
    const socket = await handshake({ cert: [leafPem, interPem].join('\n'), version, ca: rootPem });
    expect(socket.authorized || socket.authorizationError).toBeTruthy();
    expect(takeChain(socket)).toHaveLength(2);
  });

  test('NODE-04 a resumed session has no certificate, so there is no chain', async () => {
    const server = createServer(
      { key: leaf.key, cert: leaf.chain, minVersion: version, maxVersion: version },
      (socket) => socket.end('x'),
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const dial = { host: '127.0.0.1', port, rejectUnauthorized: false };
    const session = await new Promise<Buffer>((resolve) => {
      const first = connect(dial);
      first.once('session', resolve);
      first.resume();
    });
    const second = connect({ ...dial, session });
    onTestFinished(() => void second.destroy());
    await new Promise((resolve) => second.once('secureConnect', resolve));
    expect(second.isSessionReused()).toBe(true);
    expect(takeChain(second)).toEqual([]);
  });
});

test('NODE-05 NODE-06 nothing of WebPKI is asked: an unknown CA ends no handshake and no name is checked', async () => {
  const socket = await handshake({ cert: leaf.chain });
  expect(socket.authorized).toBe(false);
  expect(takeChain(socket)).toHaveLength(3);
});

test('NODE-08 CONN-12 with anonymous suites, offered by force, there is no certificate: no chain', async () => {
  const server = createServer({ ciphers: 'aNULL:@SECLEVEL=0', maxVersion: 'TLSv1.2' });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const anonymous = { ciphers: 'aNULL:@SECLEVEL=0', maxVersion: 'TLSv1.2', rejectUnauthorized: false } as const;
  const socket = connect({ host: '127.0.0.1', port, ...anonymous });
  onTestFinished(() => {
    socket.destroy();
    server.close();
  });
  await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
  expect(takeChain(socket)).toEqual([]);
});

test('TLS-05 TLS-10 NODE-08 the shared context offers TLS 1.2 and 1.3, X25519MLKEM768 first, and no anonymous suite', async () => {
  const hello = await new Promise<Buffer>((resolve) => {
    const server = createTcp((peer) =>
      peer.once('data', (chunk) => {
        resolve(chunk);
        peer.destroy();
        server.close();
      }),
    );
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      connect({ host: '127.0.0.1', port, secureContext: clientContext(), rejectUnauthorized: false }).on(
        'error',
        () => undefined,
      );
    });
  });
  const { suites, versions: offered, groups, extensions } = parseClientHello(hello);
  expect(offered).toEqual([0x0304, 0x0303]);
  // X25519MLKEM768, then X25519 and P-256 before all others (IANA, TLS Supported Groups).
  expect(groups.slice(0, 3)).toEqual([0x11ec, 0x1d, 0x17]);
  // DH_anon and ECDH_anon suites (RFC 4346, RFC 4492).
  expect(
    suites.filter((suite) =>
      [0x18, 0x1b, 0x34, 0x3a, 0x6c, 0x6d, 0xa6, 0xa7, 0xc015, 0xc016, 0xc017, 0xc018, 0xc019].includes(suite),
    ),
  ).toEqual([]);
  // No server_name and no pre_shared_key when none is given.
  expect(extensions).not.toContain(0);
  expect(extensions).not.toContain(41);
});

test('the key exchange group is told, in TLS 1.2 too', async () => {
  expect(tlsFacts(await handshake({ cert: leaf.chain })).group).toBe('X25519MLKEM768');
  expect(tlsFacts(await handshake({ cert: leaf.chain, version: 'TLSv1.2' }))).toMatchObject({
    version: 'TLSv1.2',
    group: 'X25519',
  });
});

test('the certificates of the test are what they are called', () => {
  expect(der(rootPem)).toEqual(Buffer.from((root satisfies Identity).certificate.rawData));
});

function parseClientHello(octets: Buffer): {
  suites: number[];
  versions: number[];
  groups: number[];
  extensions: number[];
} {
  const words = (buffer: Buffer): number[] =>
    Array.from({ length: buffer.length >> 1 }, (_, at) => buffer.readUInt16BE(at * 2));
  let at = 5 + 4 + 2 + 32;
  at += 1 + octets.readUInt8(at);
  const suitesLength = octets.readUInt16BE(at);
  const suites = words(octets.subarray(at + 2, at + 2 + suitesLength));
  at += 2 + suitesLength;
  at += 1 + octets.readUInt8(at) + 2;
  const found = new Map<number, Buffer>();
  while (at + 4 <= octets.length) {
    const length = octets.readUInt16BE(at + 2);
    found.set(octets.readUInt16BE(at), octets.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return {
    suites,
    versions: words(found.get(43)?.subarray(1) ?? Buffer.alloc(0)),
    groups: words(found.get(10)?.subarray(2) ?? Buffer.alloc(0)),
    extensions: [...found.keys()],
  };
}
