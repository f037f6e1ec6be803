/** A receiver on loopback with everything allowed that a test does not forbid, and what came out of it. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import type { MailEvent } from '../../src/model/events.ts';
import type { NewMessage } from '../../src/model/message.ts';
import type { ClientRule } from '../../src/receive/access.ts';
import { loadOrMakeCertificate, type OwnCertificate } from '../../src/receive/own-certificate.ts';
import { createReceiver, type Receiver, type ReceiverLimits, type ReceiverOptions } from '../../src/receive/server.ts';
import { systemClock } from '../../src/shared/clock.ts';
import { SmtpClient } from '../support/smtp-client.ts';

export const LIMITS: ReceiverLimits = {
  messageBytes: 10_000_000,
  recipients: 100,
  connections: 100,
  connectionsPerClient: 50,
  hops: 100,
  lineBytes: 65_536,
  idleMs: 60_000,
  messageMs: 60_000,
};

export const ANYBODY: ClientRule = {
  name: 'test',
  networks: ['127.0.0.0/8', '::1'],
  pins: [],
  tls: 'optional',
  senders: ['*'],
  rate: null,
};

export interface Accepted extends NewMessage {
  /** All octets, wherever they were. */
  readonly octets: Buffer;
}

export interface Fixture {
  readonly receiver: Receiver;
  readonly options: ReceiverOptions;
  readonly port: number;
  /** Port with TLS from the first octet. */
  readonly tlsPort: number;
  readonly accepted: Accepted[];
  readonly events: MailEvent[];
  readonly errors: string[];
  readonly spoolDir: string;
  readonly connect: (from?: string) => Promise<SmtpClient>;
  /** Connects and reads the greeting and the answer to EHLO. */
  readonly greeted: (from?: string) => Promise<SmtpClient>;
  /** The same over TLS from the first octet. */
  readonly secure: (tls?: ConnectionOptions) => Promise<SmtpClient>;
  readonly spooled: () => Promise<readonly string[]>;
  readonly stop: () => Promise<void>;
}

export type Changes = Partial<Omit<ReceiverOptions, 'limits'>> & { readonly limits?: Partial<ReceiverLimits> };

let shared: Promise<OwnCertificate> | undefined;

/** A certificate of its own, for a server or a client. */
export async function newCertificate(hostname: string): Promise<OwnCertificate> {
  const dir = await mkdtemp(join(tmpdir(), 'dane-relay-cert-'));
  try {
    return await loadOrMakeCertificate({ certPath: 'c.pem', keyPath: 'k.pem', dir, hostname });
  } finally {
    await rm(dir, { recursive: true });
  }
}

export async function start(changes: Changes = {}): Promise<Fixture> {
  shared ??= newCertificate('relay.test');
  const certificate = await shared;
  const base = await mkdtemp(join(tmpdir(), 'dane-relay-receive-'));
  const spoolDir = join(base, 'spool');
  const accepted: Accepted[] = [];
  const events: MailEvent[] = [];
  const errors: string[] = [];
  const clients: SmtpClient[] = [];
  let ids = 0;
  const options: ReceiverOptions = {
    hostname: 'relay.test',
    listen: [
      { address: '127.0.0.1', port: 0, tls: 'starttls' },
      { address: '127.0.0.1', port: 0, tls: 'implicit' },
    ],
    certificate,
    clients: [ANYBODY],
    bareNewlines: 'normalize',
    longLines: 'pass',
    spoolDir,
    accept: async (message) => {
      const octets = message.body.kind === 'memory' ? message.body.bytes : await readFile(message.body.path);
      accepted.push({ ...message, octets });
    },
    clock: systemClock,
    newId: () => `ID${++ids}`,
    log: {
      mail: (event) => events.push(event),
      debug: () => undefined,
      info: () => undefined,
      warn: (message) => errors.push(message),
      error: (message, fields) => errors.push(`${message} ${JSON.stringify(fields)}`),
    },
    ...changes,
    limits: { ...LIMITS, ...changes.limits },
  };
  const receiver = createReceiver(options);
  await receiver.listen();
  const [port = 0, tlsPort = 0] = receiver.addresses().map((address) => address.port);
  const connect = async (from?: string): Promise<SmtpClient> => {
    const client = await SmtpClient.connect({ port, ...(from !== undefined && { localAddress: from }) });
    clients.push(client);
    return client;
  };
  return {
    receiver,
    options,
    port,
    tlsPort,
    accepted,
    events,
    errors,
    spoolDir,
    connect,
    greeted: async (from) => {
      const client = await connect(from);
      await client.reply();
      await client.hello();
      return client;
    },
    secure: async (tls = {}) => {
      const client = await SmtpClient.connect({ port: tlsPort, tls });
      clients.push(client);
      await client.reply();
      await client.hello();
      return client;
    },
    spooled: () => readdir(spoolDir),
    stop: async () => {
      for (const client of clients) client.destroy();
      await receiver.close(0);
      await rm(base, { recursive: true });
    },
  };
}

/** What is behind our own header. */
export function contentOf(message: Accepted | undefined): Buffer {
  const octets = message?.octets ?? Buffer.alloc(0);
  const header = /^Received: .*\r\n(?:[\t ].*\r\n)*/.exec(octets.toString('latin1'))?.[0] ?? '';
  return octets.subarray(header.length);
}

/** Resolves when `what` holds; the test's own timeout ends it otherwise. */
export async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await what())) await new Promise((resolve) => setTimeout(resolve, 5));
}
