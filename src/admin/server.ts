/**
 * The door for monitoring: /healthz, /readyz and /metrics over plain HTTP, and nothing else.
 *
 * It only reads. It answers GET and HEAD, to callers that name this machine: a page in somebody's browser that had its
 * own name point here (DNS rebinding) is turned away. Nothing that is sent to it can take the process down.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, isIP, type Socket } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { type Context, Hono } from 'hono';

type Health = Readonly<Record<string, unknown>>;
interface Readiness {
  readonly ready: boolean;
  readonly reasons: readonly string[];
  /** What whoever looks should know although mail flows, one sentence each. */
  readonly notes: readonly string[];
}

export interface AdminOptions {
  readonly listen: { readonly address: string; readonly port: number };
  /** Name of the relay: one of those that callers may use for it. */
  readonly hostname: string;
  /** A few facts for /healthz, which answers 200 as long as the process does. */
  readonly health: () => Health | Promise<Health>;
  /** Whether mail can be taken and delivered now; where not, why, one sentence each. */
  readonly ready: () => Readiness | Promise<Readiness>;
  /** Metrics in the text format of Prometheus. */
  readonly metrics: () => Promise<string>;
  /** Told of what went wrong inside, which callers only see as 500. */
  readonly onError: (error: unknown) => void;
}

export interface Admin {
  /** Where it listens: the port that was asked for, or the one that was free. */
  readonly address: string;
  readonly port: number;
  /** Ends all connections. */
  readonly close: () => Promise<void>;
}

const LIMITS = {
  connections: 100,
  headerOctets: 8_192,
  requestMs: 10_000,
  idleMs: 5_000,
  connectionMs: 60_000,
} as const;

const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

const HEADERS: Readonly<Record<string, string>> = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
};

/**
 * Resolves when it listens; rejects with the error of a port that cannot be opened.
 *
 * @param connectionMs time at most from the connection to the end of its one answer, in milliseconds
 */
export async function createAdmin(options: AdminOptions, connectionMs: number = LIMITS.connectionMs): Promise<Admin> {
  const server = createAdaptorServer({
    fetch: pages(options).fetch,
    overrideGlobalObjects: false,
    createServer,
    serverOptions: {
      maxHeaderSize: LIMITS.headerOctets,
      headersTimeout: LIMITS.requestMs,
      requestTimeout: LIMITS.requestMs,
      keepAliveTimeout: LIMITS.idleMs,
      connectionsCheckingInterval: LIMITS.idleMs,
    },
  }) as Server;
  server.maxConnections = LIMITS.connections;
  // Answers to requests that come in one packet would all be made before the first is read, and wait in memory.
  server.maxRequestsPerSocket = 1;
  // Node limits only the way in: who reads nothing of an answer would keep its connection for ever.
  server.on('connection', (socket: Socket) => {
    const end = setTimeout(() => socket.destroy(), connectionMs);
    socket.once('close', () => clearTimeout(end));
  });
  server.listen({ host: options.listen.address, port: options.listen.port, exclusive: true });
  await once(server, 'listening');
  server.on('error', options.onError);
  const { address, port } = server.address() as AddressInfo;
  return {
    address,
    port,
    close: async () => {
      if (!server.listening) return;
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function pages({ hostname, health, ready, metrics, onError }: AdminOptions): Hono {
  const app = new Hono();
  app.onError((error, { text }) => {
    onError(error);
    return text('Something went wrong; the log says what.\n', 500, HEADERS);
  });
  app.notFound(({ text }) => text('There is /healthz, /readyz and /metrics.\n', 404));
  app.use(async (context, next) => {
    for (const [name, value] of Object.entries(HEADERS)) context.header(name, value);
    const { method } = context.req;
    if (method !== 'GET' && method !== 'HEAD') {
      // The connection ends, so that nobody has to read what may follow.
      return context.text('Only GET and HEAD.\n', 405, { Allow: 'GET, HEAD', Connection: 'close' });
    }
    if (!namesUs(context.req.header('host') ?? '', hostname)) {
      return context.text('This is not a name of this server: use its address, its name or localhost.\n', 421);
    }
    return next();
  });

  app.get('/healthz', async (context) => answer(context, 200, { status: 'ok', ...(await health()) }, 'ok'));
  app.get('/readyz', async (context) => {
    const { ready: isReady, reasons, notes } = await ready();
    return answer(
      context,
      isReady ? 200 : 503,
      { ready: isReady, reasons, notes },
      [isReady ? 'ready' : `not ready: ${reasons.join(' ')}`, ...notes].join('\n'),
    );
  });
  app.get('/metrics', async ({ body }) => body(await metrics(), 200, { 'Content-Type': METRICS_TYPE }));
  return app;
}

/** JSON to those who ask for it, a line of text to people. */
function answer(context: Context, status: 200 | 503, json: object, text: string): Response {
  if (context.req.header('accept')?.includes('application/json')) return context.json(json, status);
  return context.text(`${text}\n`, status);
}

/** Whether a Host header names this server in a way that nobody else's DNS can. */
function namesUs(host: string, hostname: string): boolean {
  const [, v6, name = ''] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d{1,5})?$/.exec(host) ?? [];
  if (v6 !== undefined) return isIP(v6) === 6;
  const bare = name.toLowerCase().replace(/\.$/, '');
  return isIP(bare) === 4 || bare === 'localhost' || bare === hostname;
}
