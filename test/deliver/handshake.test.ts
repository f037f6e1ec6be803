/** What we say in the first message of a handshake, and that the version that comes of it changes no verdict. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { chainOfThree, tlsaFor } from '../../lab/certificates.ts';
import type { Judge } from '../../src/deliver/connect.ts';
import type { TlsaRecord } from '../../src/model/tls-policy.ts';
import { judgeChain } from '../../src/policy/dane/match.ts';
import { parseTlsa, readRdata } from '../../src/policy/dane/tlsa.ts';
import { dane, other, own, scene, told } from './scene.ts';

interface ClientHello {
  readonly suites: readonly number[];
  /** Octets of each extension by its number (IANA, TLS ExtensionType Values). */
  readonly extensions: ReadonlyMap<number, Buffer>;
}

/** A host that offers STARTTLS, says 220, and keeps what comes then. */
async function listenForHello(): Promise<{ readonly port: number; readonly hello: Promise<ClientHello> }> {
  const { promise, resolve } = Promise.withResolvers<ClientHello>();
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    let heard = Buffer.alloc(0);
    let greeted = false;
    socket.write('220 mx.example.test\r\n');
    socket.on('data', (chunk: Buffer) => {
      heard = Buffer.concat([heard, chunk]);
      if (heard[0] === 22 && heard.length >= 5 && heard.length >= 5 + heard.readUInt16BE(3)) {
        resolve(readHello(heard.subarray(9)));
        socket.destroy();
      } else if (heard.toString('latin1').endsWith('\r\n')) {
        socket.write(greeted ? '220 go ahead\r\n' : '250-mx.example.test\r\n250 STARTTLS\r\n');
        greeted = true;
        heard = Buffer.alloc(0);
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const bound = server.address();
  return { port: typeof bound === 'object' && bound ? bound.port : 0, hello: promise };
}

/** @param octets the body of a ClientHello (RFC 8446 §4.1.2) */
function readHello(octets: Buffer): ClientHello {
  let at = 34;
  const take = (lengthOctets: number): Buffer => {
    const length = octets.readUIntBE(at, lengthOctets);
    at += lengthOctets + length;
    return octets.subarray(at - length, at);
  };
  take(1);
  const suites = take(2);
  take(1);
  const end = octets.readUInt16BE(at) + at + 2;
  at += 2;
  const extensions = new Map<number, Buffer>();
  while (at < end) {
    const type = octets.readUInt16BE(at);
    at += 2;
    extensions.set(type, take(2));
  }
  return { suites: Array.from({ length: suites.length / 2 }, (_, i) => suites.readUInt16BE(2 * i)), extensions };
}

const SERVER_NAME = 0;
const STATUS_REQUEST = 5;
const TIMESTAMPS = 18;
const CLIENT_CERTIFICATE_TYPE = 19;
const SERVER_CERTIFICATE_TYPE = 20;
const PRE_SHARED_KEY = 41;
const SUPPORTED_VERSIONS = 43;

test('EE-09 EE-12 CONN-15 TLS-01 TLS-04 the first message asks for the base domain, and for no OCSP, transparency, raw key or old session', async () => {
  const { port, hello } = await listenForHello();
  const { deliver } = await scene();
  const visit = deliver({ port });
  const { extensions } = await hello;
  expect(extensions.get(SERVER_NAME)?.toString('latin1')).toContain(dane.sni);
  for (const type of [STATUS_REQUEST, TIMESTAMPS, CLIENT_CERTIFICATE_TYPE, SERVER_CERTIFICATE_TYPE, PRE_SHARED_KEY]) {
    expect(extensions.has(type), `extension ${type}`).toBe(false);
  }
  expect(extensions.get(SUPPORTED_VERSIONS)?.toString('hex')).toBe('0403040303');
  expect(told(await visit)).toBe('useless tls-handshake-failed');
});

test('TLS-05 every suite in it makes the host present a certificate', async () => {
  const { port, hello } = await listenForHello();
  const { deliver } = await scene();
  const visit = deliver({ port });
  // DH_anon and ECDH_anon suites, with and without the ciphers that nobody should use.
  const anonymous = [0x17, 0x18, 0x19, 0x1a, 0x1b, 0x34, 0x3a, 0x46, 0x6c, 0x6d, 0x89, 0x9b, 0xa6, 0xa7, 0xbf, 0xc5];
  const { suites } = await hello;
  expect(suites.length).toBeGreaterThan(3);
  expect(suites.filter((suite) => anonymous.includes(suite) || (suite >= 0xc015 && suite <= 0xc019))).toEqual([]);
  await visit;
});

const records = (...texts: readonly string[]): readonly TlsaRecord[] =>
  texts.flatMap((text) => {
    const parsed = parseTlsa(text);
    const record = 'rdata' in parsed ? readRdata(parsed.rdata) : null;
    return record ? [record] : [];
  });
const realJudge: Judge = (sent, policy) =>
  judgeChain({ chain: sent, records: policy.records, names: policy.referenceNames, at: Date.now() });

const { leaf, root } = await chainOfThree(['mx.example.test']);
const elsewhere = await chainOfThree(['elsewhere.test']);

test.each([
  ['3 1 1 of the host', own, records(tlsaFor(3, 1, 1, own)), /^delivered/],
  ['3 1 1 of another', own, records(tlsaFor(3, 1, 1, other)), /tlsa-mismatch$/],
  ['2 0 1 of the root', leaf, records(tlsaFor(2, 0, 1, root)), /^delivered/],
  ['2 1 1 of another root', leaf, records(tlsaFor(2, 1, 1, elsewhere.root)), /tlsa-mismatch$/],
  ['2 0 1 of the root, another name', elsewhere.leaf, records(tlsaFor(2, 0, 1, elsewhere.root)), /tlsa-name-mismatch$/],
])('EE-11 the same verdict under TLS 1.2 and TLS 1.3: %s', async (_, identity, published, story) => {
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const tls = { key: identity.key, cert: identity.chain, minVersion: version, maxVersion: version };
    const { host, deliver } = await scene({
      host: { tls },
      policy: { ...dane, records: published },
      deliverer: { judge: realJudge },
    });
    const visit = await deliver();
    expect(told(visit)).toMatch(story);
    expect(visit.connection.tls?.version).toBe(version);
    if (!story.test('delivered')) expect(host.story).not.toContain('MAIL');
  }
});

test('NODE-07 TLS-03 the address that is dialled and the SNI are the ones that were decided on, whatever the name resolves to and the host knows of it', async () => {
  const { host, request, deliver } = await scene({ policy: { ...dane, sni: 'base.example.test' } });
  const visit = await deliver({ host: { ...request.host, name: 'localhost' } });
  expect(told(visit)).toBe('delivered 2.0.0 remote-accepted');
  expect(host.conversations.map(({ sni }) => sni)).toEqual(['base.example.test']);
});

test('NODE-07 NODE-26 a name in place of an address is never resolved: nothing is dialled and the message waits', async () => {
  const { host, deliver } = await scene();
  expect(told(await deliver({ address: 'localhost' }))).toBe('deferred 4.3.0 internal-error');
  expect(host.conversations).toEqual([]);
});
