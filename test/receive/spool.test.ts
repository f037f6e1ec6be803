/** What of a message is kept in memory, and how much memory that takes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Spool } from '../../src/receive/spool.ts';

let dir: string;
let spool: Spool;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dane-relay-spool-'));
  spool = new Spool(dir);
});
afterEach(() => rmSync(dir, { recursive: true }));

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Octets in use, when what nobody needs is gone. */
function used(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

test('octets that come one by one take about as much memory as they are', async () => {
  const before = used();
  const drafts = Array.from({ length: 4 }, (_, index) => spool.draft(`ID${index}`));
  const octets = 250_000;
  for (const draft of drafts) {
    // Each as the octets of a TLS record come: with memory of their own.
    for (let at = 0; at < octets; at++) draft.write(Buffer.allocUnsafeSlow(1).fill(at % 251));
  }
  expect(used() - before).toBeLessThan(16 * drafts.length * octets);
  for (const draft of drafts) {
    const body = await draft.finish();
    const bytes = body.kind === 'memory' ? body.bytes : Buffer.alloc(0);
    expect(bytes.equals(Buffer.from(Array.from({ length: octets }, (_, at) => at % 251)))).toBe(true);
    await draft.discard();
  }
});

test.each([
  [[1, 2, 3, 4, 5, 6, 7]],
  [[9_000, 10, 9_000, 1, 1, 20_000, 3, 8_192, 8_191]],
  [[5, 100_000, 5, 100_000, 5, 40_000]],
  [[200_000, 60_000, 7, 1, 70_000, 1]],
])('pieces of %j octets are in their order, in memory or in a file', async (sizes) => {
  let value = 0;
  const pieces = sizes.map((size) => Buffer.from(Array.from({ length: size }, () => value++ % 253)));
  const draft = spool.draft('ID');
  for (const piece of pieces) await draft.write(piece);
  const body = await draft.finish();
  const whole = Buffer.concat(pieces);
  if (body.kind === 'memory') {
    expect(body.bytes.equals(whole)).toBe(true);
  } else {
    const read = Buffer.alloc(whole.length);
    expect(await body.file?.read(read, 0)).toBe(whole.length);
    expect(read.equals(whole)).toBe(true);
  }
  await draft.discard();
});

test('large messages give back all memory that they had: small ones stay in memory after any number of them', async () => {
  for (let at = 0; at < 135; at++) {
    const draft = spool.draft(`ID${at}`);
    await draft.write(Buffer.alloc(257 * 1024));
    expect((await draft.finish()).kind).toBe('file');
    await draft.discard();
  }
  const small = spool.draft('SMALL');
  await small.write(Buffer.from('x'));
  expect((await small.finish()).kind).toBe('memory');
  await small.discard();
});
