/** Reports by HTTPS, to real servers on loopback that behave and that do not. */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { chainOfThree, type Identity, selfSigned } from '../../../lab/certificates.ts';
import type { DnsAnswer, RecordData, RecordType, Resolve } from '../../../src/model/dns.ts';
import { createPost } from '../../../src/report/tls-report/post.ts';

const { leaf, root } = await chainOfThree(['reports.example.nl']);
const GZIP = Buffer.from('the report');
const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

interface Heard {
  readonly method: string | undefined;
  readonly path: string | undefined;
  readonly type: string | undefined;
  readonly body: string;
}

async function receiver(
  answer: (response: ServerResponse, request: IncomingMessage) => void,
  identity: Identity = leaf,
): Promise<{ readonly url: URL; readonly heard: Heard[] }> {
  const heard: Heard[] = [];
  const server = createServer({ key: identity.key, cert: identity.chain }, (request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString();
    });
    request.on('end', () => {
      heard.push({ method: request.method, path: request.url, type: request.headers['content-type'], body });
      answer(response, request);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: new URL(`https://reports.example.nl:${(server.address() as AddressInfo).port}/v1?x=1`), heard };
}

/** All names are on this machine; nothing else is asked. */
const here: Resolve = async <Type extends RecordType>(name: string, type: Type) => {
  const absent: DnsAnswer<RecordData[Type]> = { kind: 'absent', secure: true, name, nxdomain: false };
  if (type !== 'A') return absent;
  return { kind: 'found', secure: true, name, records: ['127.0.0.1'], ttl: 1 } as unknown as DnsAnswer<
    RecordData[Type]
  >;
};
const post = createPost({ resolve: here, authorities: [root.certificate.toString('pem')], timeoutMs: 5_000 });

test('RPT-14 the compressed JSON is posted, and 2xx means that it was accepted', async () => {
  const { url, heard } = await receiver((response) => response.writeHead(201).end());
  expect(await post(url, GZIP)).toBeNull();
  expect(heard).toEqual([{ method: 'POST', path: '/v1?x=1', type: 'application/tlsrpt+gzip', body: 'the report' }]);
});

describe('RPT-14 anything else is no acceptance, and says why', () => {
  test.each<[string, (response: ServerResponse) => void, string | RegExp]>([
    ['an error', (response) => response.writeHead(500).end(), 'it answered 500'],
    ['a refusal', (response) => response.writeHead(404).end('x'.repeat(100_000)), 'it answered 404'],
    ['a connection that is cut', (response) => void response.socket?.destroy(), /hang up|ECONNRESET/],
    [
      'a header without end',
      (response) => response.writeHead(200, { 'x-long': 'x'.repeat(60_000) }).end(),
      /overflow/i,
    ],
  ])('%s', async (_, answer, why) => {
    const { url } = await receiver(answer);
    expect(await post(url, GZIP)).toEqual(typeof why === 'string' ? why : expect.stringMatching(why));
  });

  test('a redirect, which is not followed', async () => {
    const elsewhere = await receiver((response) => response.writeHead(200).end());
    const location = elsewhere.url.href;
    const { url } = await receiver((response) => response.writeHead(307, { location }).end());
    expect(await post(url, GZIP)).toBe(`it answered 307, a redirect to ${location}, which is not followed`);
    expect(elsewhere.heard).toEqual([]);
  });

  test('a certificate of somebody else: nothing of the report is sent', async () => {
    const stranger = await receiver(
      (response) => response.writeHead(200).end(),
      await selfSigned('reports.example.nl'),
    );
    expect(await post(stranger.url, GZIP)).toMatch(/self-signed/);
    const { leaf: other } = await chainOfThree(['other.example.nl']);
    const wrong = await receiver((response) => response.writeHead(200).end(), other);
    expect(await post(wrong.url, GZIP)).not.toBeNull();
    expect([...stranger.heard, ...wrong.heard]).toEqual([]);
  });

  test('a receiver that takes the connection and says nothing', async () => {
    const silent = createTcpServer(() => undefined).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    closers.push(() => silent.close());
    const url = new URL(`https://reports.example.nl:${(silent.address() as AddressInfo).port}/`);
    const hasty = createPost({ resolve: here, timeoutMs: 200 });
    expect(await hasty(url, GZIP)).toBe('no answer within 0.2 s');
  });

  test('one that takes the report and drips its answer', async () => {
    const { url } = await receiver((response) => {
      const timer = setInterval(() => response.socket?.write('H'), 20);
      response.socket?.once('close', () => clearInterval(timer));
    });
    const hasty = createPost({ resolve: here, authorities: [root.certificate.toString('pem')], timeoutMs: 300 });
    expect(await hasty(url, GZIP)).toMatch(/no answer within|Parse Error/);
  });

  test('a name that cannot be looked up, or has no address', async () => {
    const url = new URL('https://reports.example.nl/');
    const failing: Resolve = async () => ({ kind: 'failed', reason: 'SERVFAIL', extended: null });
    expect(await createPost({ resolve: failing })(url, GZIP)).toBe(
      'reports.example.nl could not be looked up: SERVFAIL',
    );
    const nothing: Resolve = async (name) => ({ kind: 'absent', secure: true, name, nxdomain: true });
    expect(await createPost({ resolve: nothing })(url, GZIP)).toBe('reports.example.nl has no address');
  });
});
