/**
 * The whole relay as a child, between clients on loopback and one scripted mail host to which all mail goes over TLS.
 * There is no DNS in this scene: the next hop is an address.
 */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selfSigned } from '../../lab/certificates.ts';
import { type RelayOptions, type RunningRelay, startRelay } from '../../lab/relay.ts';
import { SmtpClient } from './smtp-client.ts';
import { type HostOptions, type SmtpHost, startSmtpHost } from './smtp-host.ts';

export interface RelayScene {
  readonly relay: RunningRelay;
  readonly host: SmtpHost;
  /** The configuration that the relay was started with. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Connects, reads the greeting and says EHLO. */
  readonly greeted: () => Promise<SmtpClient>;
  /** What the relay process uses now. */
  readonly usage: () => Promise<Usage>;
  readonly end: () => Promise<void>;
}

export interface Usage {
  /** Resident memory in octets. */
  readonly memory: number;
  /** Open files, sockets among them. */
  readonly files: number;
}

/** Nobody answers there; nobody needs to. */
const NO_LAB = { resolver: { address: '127.0.0.1:9', probe: { signed: '.', bogus: ['bogus.test'] } }, port: 25 };

/**
 * @param config keys that replace those of the scene
 * @param by a command that becomes the relay
 */
export async function openRelayScene(
  config: Readonly<Record<string, unknown>> = {},
  script: HostOptions = {},
  by: NonNullable<RelayOptions['by']> = [],
): Promise<RelayScene> {
  const dir = await mkdtemp(join(tmpdir(), 'dane-scene-'));
  const { key, chain } = await selfSigned('mx.example.test');
  const host = await startSmtpHost({ tls: { key, cert: chain }, ...script });
  const settings = {
    clients: [{ name: 'anybody', networks: ['127.0.0.0/8'], tls: 'optional' }],
    destinations: [{ domain: '*', tls: 'encrypt', via: `[${host.address}]:${host.port}` }],
    ...config,
  };
  const relay = await startRelay({ lab: NO_LAB, dir, config: settings, by });
  const clients: SmtpClient[] = [];
  return {
    relay,
    host,
    settings,
    greeted: async () => {
      const client = await SmtpClient.connect({ port: relay.port });
      clients.push(client);
      await client.reply();
      await client.hello();
      return client;
    },
    usage: async () => {
      const status = await readFile(`/proc/${relay.pid}/status`, 'utf8');
      const files = await readdir(`/proc/${relay.pid}/fd`);
      return { memory: Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024, files: files.length };
    },
    end: async () => {
      for (const client of clients) client.destroy();
      await relay.stop();
      await host.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Dots at the start of a line doubled, as a client has to do it (RFC 5321 §4.5.2). */
export function stuffed(octets: Buffer): Buffer {
  const text = octets.toString('latin1');
  return Buffer.from(text.replace(/^\./, '..').replaceAll('\r\n.', '\r\n..'), 'latin1');
}

/** Sends the pieces one by one, each as a segment of its own as far as the network lets us. */
export async function sendPieces({ socket }: SmtpClient, pieces: readonly Buffer[]): Promise<void> {
  socket.setNoDelay(true);
  for (const piece of pieces) {
    await new Promise<void>((resolve) => socket.write(piece, () => resolve()));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Processes that the main thread of this one has started: the relay's workers, when it has several. */
export async function childrenOf(pid: number): Promise<number[]> {
  return (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim().split(' ').filter(Boolean).map(Number);
}

/** What monitoring gets. */
export async function monitoring({ relay }: RelayScene, path: string): Promise<{ status: number; text: string }> {
  const { admin } = JSON.parse(await readFile(relay.config, 'utf8')) as { admin: { listen: string } };
  const response = await fetch(`http://${admin.listen}${path}`, { headers: { accept: 'application/json' } });
  return { status: response.status, text: await response.text() };
}

/** Resolves when `what` holds; the test's own timeout ends it otherwise. */
export async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await what())) await new Promise((resolve) => setTimeout(resolve, 5));
}
