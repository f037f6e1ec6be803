/** A domain that signs with both kinds of keys, messages, and what the two verifiers find. */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { Readable } from 'node:stream';
import { expect } from 'vitest';
import type { Signed } from '../../src/model/delivery.ts';
import type { StoredBody } from '../../src/model/message.ts';
import { systemClock } from '../../src/shared/clock.ts';
import { createSigner, type DomainKeys, type SigningRule } from '../../src/sign/dkim.ts';
import type { SigningKey } from '../../src/sign/dkim-signature.ts';
import { publicPart, recordName, recordText } from '../../src/sign/keys-record.ts';
import { byDkimpy, byMailauth } from '../support/dkim-verifiers.ts';

export const rsa: KeyObject = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
/** The example key of RFC 8463, appendix A. */
export const ed25519: KeyObject = createPrivateKey({
  key: Buffer.concat([
    Buffer.from('302e020100300506032b657004220420', 'hex'),
    Buffer.from('nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=', 'base64'),
  ]),
  format: 'der',
  type: 'pkcs8',
});

export const KEYS: readonly [SigningKey, SigningKey] = [
  { domain: 'example.nl', selector: 's1', algorithm: 'rsa-sha256', key: rsa },
  { domain: 'example.nl', selector: 's2', algorithm: 'ed25519-sha256', key: ed25519 },
];
export const RECORDS: Readonly<Record<string, string>> = Object.fromEntries(
  KEYS.map(({ domain, selector, algorithm, key }) => [
    recordName(selector, domain),
    recordText(algorithm, publicPart(key, algorithm)),
  ]),
);
export const BOTH_PASS = ['rsa-sha256 example.nl/s1 pass', 'ed25519-sha256 example.nl/s2 pass'];

export interface Change {
  readonly rule?: Partial<SigningRule>;
  readonly keys?: DomainKeys;
  readonly maySend?: (domain: string) => boolean;
  /** Octets of a piece; absent for the whole message in memory. */
  readonly pieces?: number;
}

export function sign(message: Buffer, { rule, keys, maySend = () => true, pieces }: Change = {}): Promise<Signed> {
  const signer = createSigner({
    rules: [{ domain: 'example.nl', senders: ['example.nl'], existing: 'add', required: null, ...rule }],
    keysOf: () => keys ?? { kind: 'keys', keys: KEYS },
    clock: systemClock,
  });
  return signer.sign('1', async () => bodyOf(message, pieces), maySend);
}

function bodyOf(message: Buffer, pieces: number | undefined): StoredBody {
  if (pieces === undefined) return { kind: 'memory', bytes: message };
  const parts = Array.from({ length: Math.ceil(message.length / pieces) }, (_, at) =>
    message.subarray(at * pieces, (at + 1) * pieces),
  );
  return { kind: 'stream', stream: Readable.from(parts, { objectMode: false }) };
}

/** The message as it leaves: SMTP gives its last line an end where it has none. */
export async function signed(message: Buffer, change: Change = {}): Promise<Buffer> {
  const result = await sign(message, change);
  if (result.kind !== 'signed') throw new Error(`not signed: ${JSON.stringify(result)}`);
  const end = message.subarray(-2).equals(Buffer.from('\r\n')) ? '' : '\r\n';
  return Buffer.concat([result.header, message, Buffer.from(end)]);
}

/** Both signatures of every message hold, for both verifiers. */
export async function expectBothPass(messages: readonly Buffer[]): Promise<void> {
  const cases = messages.map((message) => ({ message, records: RECORDS, signatures: 2 }));
  const [python, ...node] = await Promise.all([byDkimpy(cases), ...cases.map(byMailauth)]);
  const failed = messages.flatMap((message, at) => {
    const found = { mailauth: node[at]?.slice(0, 2), dkimpy: python?.[at] };
    const fine = [found.mailauth, found.dkimpy].every((each) => JSON.stringify(each) === JSON.stringify(BOTH_PASS));
    return fine
      ? []
      : [
          {
            at,
            ...found,
            message: message
              .toString('latin1')
              .replace(/^.*?\r\n(?=[^\tD])/s, '')
              .slice(0, 400),
          },
        ];
  });
  expect(failed).toEqual([]);
}
