/** A good day of delivery to one host on loopback, with one thing changed. */
import { createHash, X509Certificate } from 'node:crypto';
import { onTestFinished } from 'vitest';
import { type Identity, selfSigned } from '../../lab/certificates.ts';
import type { Judge } from '../../src/deliver/connect.ts';
import { createDeliverer, type Deliverer, type DelivererOptions } from '../../src/deliver/deliverer.ts';
import type { Outcome, Visit, VisitRequest } from '../../src/model/delivery.ts';
import type { Logger } from '../../src/model/events.ts';
import type { Batch, Envelope, QueuedRecipient } from '../../src/model/message.ts';
import type { TlsaRecord } from '../../src/model/tls-policy.ts';
import { gradeTls } from '../../src/policy/tls-grade.ts';
import { judgeNames } from '../../src/policy/webpki.ts';
import { type HostOptions, type SmtpHost, startSmtpHost } from '../support/smtp-host.ts';

export type Policy = VisitRequest['policy'];

export const MESSAGE = Buffer.from('Subject: hello\r\n\r\nHello there.\r\n');

/** The host's own certificate, and one that nobody published. */
export const own: Identity = await selfSigned('mx.example.test');
export const other: Identity = await selfSigned('other.example.test');

export const tls = { key: own.key, cert: own.chain };

/** `3 1 1` for a certificate. */
export function recordFor({ certificate }: Identity): TlsaRecord {
  return { usage: 3, selector: 1, matching: 1, data: spkiDigest(Buffer.from(certificate.rawData)) };
}

export const dane: Extract<Policy, { kind: 'dane' }> = {
  kind: 'dane',
  code: 'tlsa-usable',
  sni: 'mx.example.test',
  referenceNames: ['mx.example.test'],
  records: [recordFor(own)],
  wholePath: true,
};
export const encrypt: Extract<Policy, { kind: 'encrypt' }> = {
  kind: 'encrypt',
  code: 'tlsa-all-unusable',
  sni: 'mx.example.test',
};
export const may: Extract<Policy, { kind: 'may' }> = { kind: 'may', code: 'tlsa-absent', sni: 'mx.example.test' };

/** DANE-EE with SHA-256 of the key and nothing else: small, and really computed from what the host sent. */
export const judge: Judge = (chain, { records }) => {
  const [leaf] = chain;
  const matches = leaf !== undefined && records.some(({ data }) => data.equals(spkiDigest(leaf)));
  return matches
    ? { verdict: 'authenticated', code: 'dane-ee', record: '3 1 1 …', depth: 0, detail: 'the key matches' }
    : { verdict: 'not-authenticated', code: 'tlsa-mismatch', record: null, depth: null, detail: 'another key' };
};

function spkiDigest(der: Buffer): Buffer {
  const spki = new X509Certificate(der).publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest();
}

export const quiet: Logger = { mail() {}, debug() {}, info() {}, warn() {}, error() {} };

export interface Changes {
  readonly host?: HostOptions;
  readonly policy?: Policy;
  readonly message?: Buffer;
  readonly recipients?: readonly (string | Partial<QueuedRecipient>)[];
  readonly envelope?: Partial<Omit<Envelope, 'recipients'>>;
  readonly content?: Partial<Batch['content']>;
  readonly deliverer?: Partial<DelivererOptions>;
}

export interface Scene {
  readonly host: SmtpHost;
  readonly deliverer: Deliverer;
  readonly request: VisitRequest;
  readonly deliver: (changes?: Partial<VisitRequest>) => Promise<Visit>;
}

/** Sets the scene; host and deliverer are gone when the test is. */
export async function scene(changes: Changes = {}): Promise<Scene> {
  const message = changes.message ?? MESSAGE;
  const host = await startSmtpHost({ tls, ...changes.host });
  const deliverer = createDeliverer({
    hostname: 'relay.example.nl',
    openBody: async () => ({ kind: 'memory', bytes: message }),
    judge,
    judgeNames,
    grade: gradeTls,
    log: quiet,
    ...changes.deliverer,
  });
  onTestFinished(async () => {
    await deliverer.close();
    await host.close();
  });
  const batch = batchOf(changes, message);
  const request: VisitRequest = {
    batch,
    nextHop: { kind: 'domain', domain: 'example.test', port: host.port },
    host: { name: 'mx.example.test', preference: 10, unusable: null },
    address: host.address,
    port: host.port,
    policy: changes.policy ?? dane,
  };
  return { host, deliverer, request, deliver: (more = {}) => deliverer.deliver({ ...request, ...more }) };
}

function batchOf({ recipients = ['user@example.test'], envelope, content }: Changes, message: Buffer): Batch {
  const queued = recipients.map((wish, at): QueuedRecipient => {
    const good = { notify: null, orcpt: null, id: at + 1, attempts: 0, delayNoticeSent: false, lastCode: null };
    return { address: 'user@example.test', ...good, ...(typeof wish === 'string' ? { address: wish } : wish) };
  });
  const [first, ...rest] = queued;
  if (!first) throw new TypeError('a batch has a recipient');
  return {
    messageId: 'M1',
    receivedAt: 0,
    expiresAt: 1,
    client: 'test',
    envelope: {
      sender: 'sender@example.nl',
      smtputf8: false,
      body: '7bit',
      ret: null,
      envid: null,
      tls: 'default',
      ...envelope,
    },
    content: {
      size: message.length,
      eightBit: message.some((octet) => octet > 127),
      utf8Header: false,
      ...content,
    },
    domain: 'example.test',
    recipients: [first, ...rest],
  };
}

/** A visit in one line: `delivered 2.0.0 remote-accepted, bounced 5.1.1 remote-refused` or `useless 4.4.1 connect-failed`. */
export function told(visit: Visit): string {
  if (visit.kind === 'useless') {
    const { code, status } = visit.trouble;
    return `useless ${status === undefined ? '' : `${status} `}${code}`;
  }
  return visit.outcomes.map(line).join(', ');
}

function line({ result, status, code }: Outcome): string {
  return `${result} ${status} ${code}`;
}

/** Fast phases for hosts that hang. Only the phase under test is short, so that a busy machine changes nothing. */
export const soon = 1_000;
