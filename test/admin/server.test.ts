import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Admin, createAdmin } from '../../src/admin/server.ts';

let admin: Admin;
let ready: { ready: boolean; reasons: string[]; notes: string[] };
let metrics: () => Promise<string>;
let errors: unknown[];

beforeEach(async () => {
  ready = { ready: true, reasons: [], notes: [] };
  metrics = async () => 'dane_relay_up 1\n';
  errors = [];
  admin = await createAdmin({
    listen: { address: '127.0.0.1', port: 0 },
    hostname: 'relay.example.nl',
    health: () => ({ version: '1.2.3' }),
    ready: () => ready,
    metrics: () => metrics(),
    onError: (error) => errors.push(error),
  });
});

afterEach(() => admin.close());

/** Sends octets as they are and returns all that comes back until the other side ends. */
async function raw(octets: string | Buffer, { half = true } = {}): Promise<string> {
  const socket = connect(admin.port, '127.0.0.1');
  let reply = '';
  socket.setEncoding('latin1').on('data', (chunk) => {
    reply += chunk;
  });
  socket.on('error', () => undefined);
  if (half) socket.end(octets);
  else socket.write(octets);
  await once(socket, 'close');
  return reply;
}

const ask = (request: string, host = '127.0.0.1', headers = ''): Promise<string> =>
  raw(`${request} HTTP/1.1\r\nHost: ${host}\r\n${headers}Connection: close\r\n\r\n`);

const statusOf = (reply: string): string => reply.slice(9, 12);
const bodyOf = (reply: string): string => reply.slice(reply.indexOf('\r\n\r\n') + 4);

describe('what it answers', () => {
  test('/healthz is 200 as long as the process lives, also when the relay is not ready', async () => {
    ready = { ready: false, reasons: ['The resolver does not validate.'], notes: [] };
    const reply = await ask('GET /healthz');
    expect([statusOf(reply), bodyOf(reply)]).toEqual(['200', 'ok\n']);
    const json = await ask('GET /healthz', 'localhost', 'Accept: application/json\r\n');
    expect(JSON.parse(bodyOf(json))).toEqual({ status: 'ok', version: '1.2.3' });
  });

  test('/readyz is 200 when ready, else 503 with every reason in words and in JSON', async () => {
    expect(statusOf(await ask('GET /readyz'))).toBe('200');
    ready = { ready: false, reasons: ['The resolver does not validate.', 'The disk is full.'], notes: [] };
    const text = await ask('GET /readyz');
    expect([statusOf(text), bodyOf(text)]).toEqual([
      '503',
      'not ready: The resolver does not validate. The disk is full.\n',
    ]);
    const json = await ask('GET /readyz', 'localhost', 'Accept: application/json\r\n');
    expect([statusOf(json), JSON.parse(bodyOf(json))]).toEqual(['503', ready]);
  });

  test('/metrics is what it was given, as Prometheus wants it', async () => {
    const reply = await ask('GET /metrics');
    expect([statusOf(reply), bodyOf(reply)]).toEqual(['200', 'dane_relay_up 1\n']);
    expect(reply).toMatch(/^content-type: text\/plain; version=0\.0\.4; charset=utf-8\r$/im);
  });

  test('metrics that fail are a 500 that says nothing, told to the log', async () => {
    metrics = () => Promise.reject(new Error('secret of the queue'));
    const reply = await ask('GET /metrics');
    expect(statusOf(reply)).toBe('500');
    expect(reply).not.toContain('secret');
    expect(errors).toEqual([new Error('secret of the queue')]);
  });

  test('HEAD has no body', async () => {
    const reply = await ask('HEAD /metrics');
    expect([statusOf(reply), bodyOf(reply)]).toEqual(['200', '']);
  });

  test.each(['/', '/health', '/metrics/', '/../etc/passwd', '/%2e%2e/', '//healthz', '/healthz%00'])(
    '%s is 404',
    async (path) => {
      expect(statusOf(await ask(`GET ${path}`))).toBe('404');
    },
  );

  test.each(['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])('%s is 405 and the connection ends', async (method) => {
    const reply = await raw(`${method} /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello`);
    expect(statusOf(reply)).toBe('405');
    expect(reply).toMatch(/^allow: GET, HEAD\r$/im);
    expect(reply).toMatch(/^connection: close\r$/im);
  });

  test.each(['/healthz', '/nothing'])('%s has the headers that keep browsers out', async (path) => {
    const reply = await ask(`GET ${path}`);
    expect(reply).toMatch(/^content-security-policy: default-src 'none'; frame-ancestors 'none'\r$/im);
    expect(reply).toMatch(/^x-content-type-options: nosniff\r$/im);
    expect(reply).toMatch(/^cache-control: no-store\r$/im);
    expect(reply).not.toMatch(/^(?:server|x-powered-by|access-control-[\w-]+):/im);
  });
});

describe('whose name it answers to (DNS rebinding)', () => {
  test.each([
    '127.0.0.1',
    '127.0.0.1:8025',
    '[::1]:8025',
    '192.0.2.1',
    'localhost',
    'LOCALHOST:1',
    'relay.example.nl',
    'Relay.Example.nl.:80',
  ])('%s is one of its own', async (host) => {
    expect(statusOf(await ask('GET /healthz', host))).toBe('200');
  });

  test.each([
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    'relay.example.nl.evil.example',
    '[::1].evil.example',
    'xrelay.example.nl',
    '2130706433',
    '0x7f.1',
    '',
  ])('%j is not', async (host) => {
    const reply = await ask('GET /metrics', host);
    expect(statusOf(reply)).toMatch(/^4(?:00|21)$/);
    expect(reply).not.toContain('dane_relay_up');
  });

  test('nor is another name in the request line', async () => {
    expect(await raw('GET http://evil.example/metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n')).not.toContain(
      'dane_relay_up',
    );
  });
});

describe('bad requests', () => {
  test.each([
    ['no HTTP', 'EHLO relay.example.nl\r\n\r\n'],
    ['TLS', Buffer.from('16030100a5010000a10303', 'hex')],
    ['zeros', Buffer.alloc(1_000)],
    ['no host', 'GET /healthz HTTP/1.1\r\n\r\n'],
    ['two hosts', 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n'],
    ['an ancient version', 'GET /healthz HTTP/0.9\r\n\r\n'],
    ['headers too large', `GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`],
    ['a path too long', `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`],
    ['header injection', 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\rb: c\r\n\r\n'],
    ['a proxy request', 'CONNECT evil.example:25 HTTP/1.1\r\nHost: localhost\r\n\r\n'],
    [
      'smuggling',
      'GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    ['a bad chunk', 'POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'],
    ['a broken escape', 'GET /%zz%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'],
    ['half a request', 'GET /healthz HTTP/1.1\r\nHost: loc'],
    ['nothing', ''],
  ])('%s: never more than a 4xx, and the next request is served', async (_, octets) => {
    expect(await raw(octets)).toMatch(/^$|^HTTP\/1\.1 4\d\d /);
    expect(statusOf(await ask('GET /healthz'))).toBe('200');
    expect(errors).toEqual([]);
  });

  test('of many requests in one packet one is answered, however long the answers are', async () => {
    let asked = 0;
    metrics = async () => {
      asked++;
      return 'dane_relay_up 1\n'.repeat(5_000);
    };
    const reply = await raw('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(500));
    expect(reply).toMatch(/^HTTP\/1\.1 200 /);
    expect(asked).toBe(1);
    expect(statusOf(await ask('GET /healthz'))).toBe('200');
  });

  test('callers that read nothing of a long answer do not keep others out', async () => {
    metrics = async () => 'x'.repeat(20_000_000);
    const impatient = await createAdmin(
      {
        listen: { address: '127.0.0.1', port: 0 },
        hostname: 'relay.example.nl',
        health: () => ({}),
        ready: () => ready,
        metrics: () => metrics(),
        onError: (error) => errors.push(error),
      },
      1_000,
    );
    try {
      const deaf = connect(impatient.port, '127.0.0.1').pause();
      const socket = new Promise((resolve) => deaf.once('error', resolve).once('close', resolve));
      deaf.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n');
      // A socket that does not read learns of the end when it writes.
      const poke = setInterval(() => deaf.write('GET / HTTP/1.1\r\n\r\n'), 200);
      await socket;
      clearInterval(poke);
    } finally {
      await impatient.close();
    }
  });

  test('a hundred connections that go away in the middle', async () => {
    await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        const socket = connect(admin.port, '127.0.0.1');
        socket.on('error', () => undefined);
        await once(socket, 'connect');
        socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'.slice(0, index));
        socket.resetAndDestroy();
        await once(socket, 'close');
      }),
    );
    expect(statusOf(await ask('GET /healthz'))).toBe('200');
  });
});

test('close ends connections that wait, and a second close is nothing', async () => {
  const waiting = raw('GET /hea', { half: false });
  await ask('GET /healthz');
  await admin.close();
  expect(await waiting).toBe('');
  await admin.close();
});

test('a port that is taken is told to whoever opens it', async () => {
  const options = { hostname: 'a.nl', health: () => ({}), ready: () => ready, metrics, onError: () => undefined };
  const taken = createAdmin({ ...options, listen: { address: '127.0.0.1', port: admin.port } });
  await expect(taken).rejects.toMatchObject({ code: 'EADDRINUSE' });
});
