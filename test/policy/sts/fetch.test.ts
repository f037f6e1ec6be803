/** Fetching a policy from real HTTPS servers on loopback, good ones and hostile ones. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createHttpsServer, type Server } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chainOfThree, type Identity, leafUnder, selfSigned } from '../../../lab/certificates.ts';
import type { Location } from '../../../src/model/route.ts';
import { createFetcher, type FetchOptions } from '../../../src/policy/sts/fetch.ts';

const POLICY = 'version: STSv1\r\nmode: enforce\r\nmx: mx.example.nl\r\nmax_age: 86400\r\n';
const HOST = 'mta-sts.example.nl';
/** For a good host on a busy machine, and for one that is silent on purpose. */
const PATIENCE_MS = 30_000;
const SHORT_MS = 1_000;

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

let root: Identity;
let good: Identity;
const running: (Server | TcpServer)[] = [];

beforeAll(async () => {
  const chain = await chainOfThree([HOST]);
  root = chain.root;
  good = chain.leaf;
});
afterAll(async () => {
  for (const server of running) {
    if ('closeAllConnections' in server) server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

const answers: Handler = (_, response) => {
  response.writeHead(200, { 'content-type': 'text/plain' }).end(POLICY);
};

async function listening(server: Server | TcpServer, address = '127.0.0.1', port = 0): Promise<number> {
  running.push(server);
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, address, resolve));
  return (server.address() as AddressInfo).port;
}

/** Takes connections and says nothing, ever. */
const silent = (): TcpServer => createTcpServer((socket) => void socket.on('error', () => {}).resume());

const serve = (handler: Handler, { chain, key }: Identity = good): Promise<number> =>
  listening(createHttpsServer({ cert: chain, key }, handler));

const at = (...[first = '127.0.0.1', ...rest]: string[]): Location => ({
  kind: 'found',
  addresses: [first, ...rest],
  dnssec: 'insecure',
  bases: [],
});

/** The text of the policy, or the kind of failure and what was said of it. */
async function fetchFrom(port: number, changes: Partial<FetchOptions> = {}): Promise<string> {
  const options = {
    locate: async () => at(),
    authorities: [root.certificate.toString('pem')],
    timeoutMs: PATIENCE_MS,
  };
  const fetched = await createFetcher({ ...options, port, ...changes })('example.nl');
  if (fetched.kind === 'stopped') return 'stopped';
  return fetched.kind === 'fetched' ? fetched.octets.toString() : `${fetched.failure.type}: ${fetched.failure.detail}`;
}

describe('STS-07 the policy is fetched over HTTPS', () => {
  test('from mta-sts.DOMAIN at the well-known path, by our own resolver, asking for nothing that could be a cache', async () => {
    let seen: IncomingMessage | null = null;
    const asked: string[] = [];
    const port = await serve((request, response) => {
      seen = request;
      answers(request, response);
    });
    const locate = async (name: string): Promise<Location> => {
      asked.push(name);
      return at();
    };
    expect(await fetchFrom(port, { locate })).toBe(POLICY);
    expect(asked).toEqual([HOST]);
    expect(seen).toMatchObject({
      method: 'GET',
      url: '/.well-known/mta-sts.txt',
      headers: { host: HOST, 'accept-encoding': 'identity' },
      socket: { servername: HOST },
    });
  });

  test.each<[string, Handler]>([
    [
      'parameters of the type do not matter',
      (_, r) => r.writeHead(200, { 'content-type': 'Text/Plain; charset=x' }).end(POLICY),
    ],
    ['no type at all', (_, r) => r.writeHead(200).end(POLICY)],
    [
      'in pieces of one octet',
      (_, r) => {
        r.writeHead(200, { 'content-type': 'text/plain' });
        for (const octet of POLICY) r.write(octet);
        r.end();
      },
    ],
    ['a caching header is not obeyed', (_, r) => r.writeHead(200, { 'cache-control': 'max-age=9999' }).end(POLICY)],
  ])('taken: %s', async (_, handler) => {
    expect(await fetchFrom(await serve(handler))).toBe(POLICY);
  });

  test.each<[string, Handler, RegExp]>([
    ['404', (_, r) => r.writeHead(404).end(POLICY), /answers 404, not 200/],
    ['204', (_, r) => r.writeHead(204).end(), /answers 204/],
    ['206', (_, r) => r.writeHead(206, { 'content-type': 'text/plain' }).end(POLICY), /answers 206/],
    [
      'a page',
      (_, r) => r.writeHead(200, { 'content-type': 'text/html' }).end(POLICY),
      /is text\/html, not text\/plain/,
    ],
    ['compressed', (_, r) => r.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(POLICY)), /compressed/],
    ['10 MB announced', (_, r) => r.writeHead(200, { 'content-length': 1e7 }).write('x'), /larger than 64 KiB/],
    [
      '10 MB unannounced',
      (_, r) => {
        r.writeHead(200, { 'content-type': 'text/plain' });
        for (let i = 0; i < 160; i++) r.write(Buffer.alloc(65_536, 'a'));
        r.end();
      },
      /larger than 64 KiB/,
    ],
    ['a head without an end', (_, r) => r.writeHead(200, { 'x-much': 'a'.repeat(100_000) }).end(POLICY), /overflow/i],
    [
      'half of it',
      (_, r) => {
        r.writeHead(200, { 'content-length': 1000 }).write(POLICY);
        setTimeout(() => r.destroy(), 20);
      },
      /broke off/,
    ],
    ['a line that is no HTTP', (request) => request.socket.end('hello\r\n\r\n'), /cannot be fetched/],
  ])('not taken: %s', async (_, handler, why) => {
    const said = await fetchFrom(await serve(handler));
    expect(said).toMatch(/^sts-policy-fetch-error: /);
    expect(said).toMatch(why);
  });

  test.each<[string, Handler]>([
    ['nothing at all', () => {}],
    [
      'an octet now and then',
      (_, r) => {
        r.writeHead(200, { 'content-type': 'text/plain' });
        const drip = setInterval(() => r.write('v'), 50);
        r.once('close', () => clearInterval(drip));
      },
    ],
  ])('given up after its time: %s', async (_, handler) => {
    const said = await fetchFrom(await serve(handler), { timeoutMs: SHORT_MS });
    expect(said).toMatch(/^sts-policy-fetch-error: .*(in full|was not found) in 1 s/);
  });

  test.each([301, 302, 303, 307, 308])('a redirect is not followed: %i', async (status) => {
    let visited = 0;
    const elsewhere = await serve((request, response) => {
      visited++;
      answers(request, response);
    });
    const port = await serve((_, r) => r.writeHead(status, { location: `https://${HOST}:${elsewhere}/` }).end());
    expect(await fetchFrom(port)).toContain('a redirect is not followed');
    expect(visited).toBe(0);
  });

  test.each<[string, () => Promise<Identity>, RegExp]>([
    ['one that signs itself', () => selfSigned(HOST), /self.signed/],
    [
      'one of an authority that nobody knows',
      async () => (await chainOfThree([HOST])).leaf,
      /self.signed|issuer|signature/,
    ],
    ['one that is for another name', () => leafFor('mail.example.nl'), /it is not for mta-sts\.example\.nl/],
    ['one that has the name only as its common name', () => leafFor(), /it is not for mta-sts\.example\.nl/],
    ['one whose wildcard is too far up', () => leafFor('*.nl'), /it is not for/],
    ['one with a wildcard for part of a label', () => leafFor('mta-*.example.nl'), /it is not for/],
  ])('a certificate that is not valid: %s', async (_, identity, why) => {
    const said = await fetchFrom(await serve(answers, await identity()));
    expect(said).toMatch(/^sts-webpki-invalid: /);
    expect(said).toMatch(why);
  });

  test('a certificate whose time is over', async () => {
    const expired = await chainOfThree([HOST], { expired: true });
    const authorities = [expired.root.certificate.toString('pem')];
    const said = await fetchFrom(await serve(answers, expired.leaf), { authorities });
    expect(said).toMatch(/^sts-webpki-invalid: .*expired/);
  });

  test('a certificate with a wildcard for the whole leftmost label is valid', async () => {
    expect(await fetchFrom(await serve(answers, await leafFor('*.example.nl')))).toBe(POLICY);
  });

  test('the authority of the test is not among those that are believed by default', async () => {
    expect(await fetchFrom(await serve(answers), { authorities: null })).toMatch(/^sts-webpki-invalid: /);
  });

  test('an address that refuses, or swallows everything, leaves time for the next one', async () => {
    const port = await serve(answers);
    await listening(silent(), '127.0.0.2', port);
    expect(await fetchFrom(port, { locate: async () => at('127.0.0.3', '127.0.0.1') })).toBe(POLICY);
    expect(await fetchFrom(port, { locate: async () => at('127.0.0.2', '127.0.0.1'), connectMs: 4000 })).toBe(POLICY);
  });

  test('of many addresses only the first four are tried', async () => {
    let tried = 0;
    const port = await listening(
      createTcpServer((socket) => {
        tried++;
        socket.destroy();
      }),
      '0.0.0.0',
    );
    const many = Array.from({ length: 50 }, (_, index) => `127.0.0.${index + 1}`);
    expect(await fetchFrom(port, { locate: async () => at(...many) })).toMatch(/cannot be fetched/);
    expect(tried).toBe(4);
  });

  test('with who never comes to TLS, as behind a firewall that swallows, patience is over long before the whole time', async () => {
    const port = await listening(silent());
    // Not these tests' own time, nor that of anybody who waits for the mail.
    const long = { timeoutMs: 3_600_000, connectMs: 500 };
    expect(await fetchFrom(port, long)).toMatch(/^sts-policy-fetch-error: .*could not be reached in 1 s$/);
    for (const address of ['127.0.0.2', '127.0.0.3', '127.0.0.4']) await listening(silent(), address, port);
    const locate = async () => at('127.0.0.1', '127.0.0.2', '127.0.0.3', '127.0.0.4');
    expect(await fetchFrom(port, { ...long, locate })).toMatch(/^sts-policy-fetch-error: .*could not be reached in/);
  });

  test('who has come to TLS may think for longer than that', async () => {
    const port = await serve((request, response) => void setTimeout(() => answers(request, response), 3500));
    expect(await fetchFrom(port, { connectMs: 3000 })).toBe(POLICY);
  });

  test.each<[string, () => Promise<Location>, RegExp]>([
    ['has no address', async () => ({ kind: 'absent', dnssec: 'insecure' }), /has no address/],
    ['cannot be looked up', async () => ({ kind: 'failed', reason: 'SERVFAIL' }), /SERVFAIL/],
    ['is looked up for ever', () => new Promise(() => {}), /was not found in 1 s/],
  ])('a policy host that %s', async (_, locate, why) => {
    expect(await fetchFrom(1, { locate, timeoutMs: SHORT_MS })).toMatch(why);
  });

  test('a stop of the relay does not wait for a slow host', async () => {
    const stop = new AbortController();
    const port = await serve(() => stop.abort());
    expect(await fetchFrom(port, { signal: stop.signal, timeoutMs: 60_000 })).toBe('stopped');
  });
});

/** A certificate under the root of these tests, for other names. */
function leafFor(...names: string[]): Promise<Identity> {
  return leafUnder(root, HOST, names);
}
