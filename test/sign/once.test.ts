/** Copies of one message share what was signed, as long as that is what would be signed anew. */
import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { expect, test } from 'vitest';
import type { Signed } from '../../src/model/delivery.ts';
import { createSigner, type DomainKeys } from '../../src/sign/dkim.ts';
import type { SigningKey } from '../../src/sign/dkim-signature.ts';
import { publicPart, recordText } from '../../src/sign/keys-record.ts';
import { byMailauth } from '../support/dkim-verifiers.ts';
import { BOTH_PASS, KEYS, RECORDS } from './scene.ts';

const MESSAGE = Buffer.from('From: <piet@example.nl>\r\nTo: a@out.test, b@other.test\r\n\r\nHello.\r\n');

/** A signer whose keys and clock are set by hand, and which counts how often a message is read to be signed. */
function scene() {
  let keys: DomainKeys = { kind: 'keys', keys: KEYS };
  let now = Date.UTC(2029, 0, 1);
  let readings = 0;
  const signer = createSigner({
    rules: [{ domain: 'example.nl', senders: ['example.nl'], existing: 'add', required: null }],
    keysOf: () => keys,
    clock: { now: () => now, sleep: async () => undefined },
  });
  return {
    readings: () => readings,
    later: (ms: number): void => {
      now += ms;
    },
    setKeys: (next: DomainKeys): void => {
      keys = next;
    },
    sign: (id: string): Promise<Signed> =>
      signer.sign(
        id,
        async () => {
          readings++;
          return { kind: 'memory', bytes: MESSAGE };
        },
        () => true,
      ),
  };
}

const headerOf = (end: Signed): string => (end.kind === 'signed' ? end.header.toString() : JSON.stringify(end));
const judged = (end: Signed, records = RECORDS) =>
  byMailauth({ message: Buffer.concat([Buffer.from(headerOf(end)), MESSAGE]), records });

/** A pair under the same selectors as those of the scene, or others. */
function otherKeys(selectors: readonly [string, string]) {
  const [rsa, ed25519] = [generateKeyPairSync('rsa', { modulusLength: 2048 }), generateKeyPairSync('ed25519')];
  const keys: readonly [SigningKey, SigningKey] = [
    { domain: 'example.nl', selector: selectors[0], algorithm: 'rsa-sha256', key: rsa.privateKey },
    { domain: 'example.nl', selector: selectors[1], algorithm: 'ed25519-sha256', key: ed25519.privateKey },
  ];
  const records = Object.fromEntries(
    keys.map(({ selector, algorithm, key }) => [
      `${selector}._domainkey.example.nl`,
      recordText(algorithm, publicPart(key, algorithm)),
    ]),
  );
  return { keys, records };
}

test('DKIM-19 two recipient domains, at once or one after the other: signed once, and both copies hold', async () => {
  const { sign, readings, later } = scene();
  const copies = await Promise.all([sign('m1'), sign('m1')]);
  later(5_000);
  copies.push(await sign('m1'));
  expect(readings()).toBe(1);
  expect(new Set(copies.map(headerOf)).size).toBe(1);
  for (const copy of copies) expect(await judged(copy)).toEqual(BOTH_PASS);
});

test('DKIM-19 another message is signed for itself, and so is the same one a minute later or after the clock went back', async () => {
  const { sign, readings, later } = scene();
  const first = await sign('m1');
  await sign('m2');
  expect(readings()).toBe(2);
  later(60_000);
  const second = await sign('m1');
  expect(readings()).toBe(3);
  expect(headerOf(second)).not.toBe(headerOf(first));
  later(-3_600_000);
  await sign('m1');
  expect(readings()).toBe(4);
});

test('DKIM-19 keys that were read anew from the same files are the same keys', async () => {
  const { sign, readings, setKeys } = scene();
  await sign('m1');
  const [rsa, ed25519] = KEYS.map((each) => ({ ...each, key: copyOf(each) })) as [SigningKey, SigningKey];
  setKeys({ kind: 'keys', keys: [rsa, ed25519] });
  await sign('m1');
  expect(readings()).toBe(1);
});

test.each([
  ['rotated to other selectors', ['s3', 's4']],
  ['replaced under the same selectors', ['s1', 's2']],
] as const)('DKIM-19 keys %s in between: the next copy is signed anew, with them', async (_, selectors) => {
  const { sign, readings, setKeys } = scene();
  await sign('m1');
  const { keys, records } = otherKeys(selectors);
  setKeys({ kind: 'keys', keys });
  const copy = await sign('m1');
  expect(readings()).toBe(2);
  expect(await judged(copy, records)).toEqual([
    `rsa-sha256 example.nl/${selectors[0]} pass`,
    `ed25519-sha256 example.nl/${selectors[1]} pass`,
  ]);
});

test('DKIM-19 one key more or less is another set of keys', async () => {
  const { sign, readings, setKeys } = scene();
  await sign('m1');
  setKeys({ kind: 'keys', keys: [KEYS[0]] });
  expect(await judged(await sign('m1'))).toEqual(BOTH_PASS.slice(0, 1));
  expect(readings()).toBe(2);
});

test('DKIM-19 keys that can no longer be used sign no further copy: it waits', async () => {
  const { sign, setKeys } = scene();
  await sign('m1');
  setKeys({ kind: 'unusable', code: 'dkim-key-unpublished', why: 'its record is gone' });
  expect(await sign('m1')).toMatchObject({ kind: 'impossible', code: 'dkim-key-unpublished' });
  setKeys({ kind: 'keys', keys: KEYS });
  expect((await sign('m1')).kind).toBe('signed');
});

test('DKIM-19 keys that change while a copy is being signed: who waited for it is signed anew, once for all', async () => {
  const { sign, readings, setKeys } = scene();
  const { keys, records } = otherKeys(['s3', 's4']);
  const first = sign('m1');
  const others = [sign('m1'), sign('m1')];
  // Reading takes no more than this; the signatures are made on threads, whose word comes later.
  for (let i = 0; i < 100; i++) await null;
  setKeys({ kind: 'keys', keys });
  expect(await judged(await first)).toEqual(BOTH_PASS);
  for (const copy of await Promise.all(others)) {
    expect(await judged(copy, records)).toEqual(['rsa-sha256 example.nl/s3 pass', 'ed25519-sha256 example.nl/s4 pass']);
  }
  expect(readings()).toBe(2);
});

test('DKIM-19 what could not be signed is not remembered', async () => {
  const { sign, readings, setKeys } = scene();
  setKeys({ kind: 'not-yet', why: 'no key was made' });
  const both = await Promise.all([sign('m1'), sign('m1')]);
  expect(both.map(({ kind }) => kind)).toEqual(['unsigned', 'unsigned']);
  expect(readings()).toBe(1);
  setKeys({ kind: 'keys', keys: KEYS });
  expect((await sign('m1')).kind).toBe('signed');
  expect(readings()).toBe(2);
});

test('DKIM-19 no more than 256 messages are remembered, the oldest are forgotten first', async () => {
  const { sign, readings } = scene();
  for (let i = 0; i < 257; i++) await sign(`m${i}`);
  await sign('m256');
  await sign('m1');
  expect(readings()).toBe(257);
  await sign('m0');
  expect(readings()).toBe(258);
});

function copyOf({ key }: SigningKey): SigningKey['key'] {
  return createPrivateKey(key.export({ type: 'pkcs8', format: 'pem' }).toString());
}
