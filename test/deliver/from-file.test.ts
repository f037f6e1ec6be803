/** Large messages that came in just now leave from their open file, through memory that is used again and again. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { LeavingBody } from '../../src/model/message.ts';
import { BLOCK_OCTETS, giveBlock, takeBlock } from '../../src/shared/blocks.ts';
import { HeldFile } from '../../src/shared/held-file.ts';
import { may, scene, told } from './scene.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'from-file-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A message that tells its number in every line, and has dots at the beginning of some. */
function messageOf(number: number, octets = 700_000): Buffer {
  const lines: string[] = [];
  for (let at = 0, i = 0; at < octets; i++) {
    const line = `${'.'.repeat(i % 3)}message ${number}, line ${i}${' and more'.repeat(i % 12)}\r\n`;
    lines.push(line);
    at += line.length;
  }
  return Buffer.from(lines.join(''));
}

async function heldFile(octets: Buffer): Promise<HeldFile> {
  const path = join(folder, String(Math.random()));
  writeFileSync(path, octets);
  return new HeldFile(await open(path));
}

const bodyFrom = (file: HeldFile, bytes = Buffer.alloc(0)) => {
  return async (): Promise<LeavingBody> => ({ kind: 'fresh', bytes, file });
};
const PIPELINED = { extensions: ['PIPELINING'] };

describe('TXN-04 SMUG-05 a message from its open file', () => {
  test.each([1, BLOCK_OCTETS - 1, BLOCK_OCTETS, BLOCK_OCTETS + 1, 3 * BLOCK_OCTETS])(
    '%i octets arrive as they are, with what goes on top of them',
    async (octets) => {
      const message = Buffer.concat([messageOf(1, octets).subarray(0, octets - 1), Buffer.from('\n')]);
      const proper = octets === 1 ? Buffer.from('\r\n') : Buffer.concat([message.subarray(0, -2), Buffer.from('\r\n')]);
      const header = Buffer.from('DKIM-Signature: v=1\r\n');
      const file = await heldFile(proper);
      const at = await scene({ message: proper, policy: may, deliverer: { openBody: bodyFrom(file) } });
      const block = onlyBlock();
      expect(told(await at.deliver({ header }))).toBe('delivered 2.0.0 remote-accepted');
      expect(takeBlock()).toBe(block);
      expect(at.host.messages[0]?.content.equals(Buffer.concat([header, proper]))).toBe(true);
      file.release();
    },
  );

  test('many at once, some left in the middle: nothing of one gets into another', async () => {
    const messages = Array.from({ length: 24 }, (_, i) => messageOf(i, 400_000 + i * 20_011));
    const files = await Promise.all(messages.map(heldFile));
    const openBody = async (id: string): Promise<LeavingBody> => ({
      kind: 'fresh',
      bytes: Buffer.alloc(0),
      file: files[Number(id)] ?? null,
    });
    const good = await scene({ policy: may, deliverer: { openBody } });
    const early = await scene({
      host: { early: '552 5.3.4 too big', earlyAfter: 300_000 },
      policy: may,
      deliverer: { openBody },
    });
    const visits = messages.map((message, i) => {
      const { deliver, request } = i % 4 === 3 ? early : good;
      const content = { ...request.batch.content, size: message.length };
      return deliver({ batch: { ...request.batch, messageId: String(i), content } });
    });
    const ends = (await Promise.all(visits)).map(told);
    for (const [i, end] of ends.entries()) {
      expect(end).toBe(i % 4 === 3 ? 'bounced 5.3.4 remote-refused' : 'delivered 2.0.0 remote-accepted');
    }
    const arrived = good.host.messages.map(({ content }) => content);
    expect(arrived).toHaveLength(18);
    const sent = messages.filter((_, i) => i % 4 !== 3);
    for (const content of arrived) expect(sent.filter((each) => each.equals(content))).toHaveLength(1);
  });

  test('a host that stops taking octets is left, and its block is not given to anybody else', async () => {
    const file = await heldFile(messageOf(7, 9_000_000));
    const deliverer = { openBody: bodyFrom(file), timeouts: { block: 300 } };
    const at = await scene({ policy: may, content: { size: 9_000_000 }, deliverer });
    const block = onlyBlock();
    at.host.deafen();
    expect(await at.deliver()).toMatchObject({ kind: 'useless', trouble: { code: 'remote-timeout' } });
    await sleep(50);
    expect(takeBlock()).not.toBe(block);
    file.release();
  });
});

describe('a file that cannot be read ends the connection without the final dot', () => {
  test.each<[string, (file: HeldFile) => void, number]>([
    ['it is shorter than it was', () => {}, 700_000],
    ['it was closed', (file) => file.release(), 300_000],
  ])('%s', async (_, change, size) => {
    const file = await heldFile(messageOf(1, 400_000));
    change(file);
    const at = await scene({
      host: PIPELINED,
      policy: may,
      content: { size },
      deliverer: { openBody: bodyFrom(file) },
    });
    expect(told(await at.deliver())).toBe('deferred 4.3.0 stored-message-unreadable');
    expect(at.host.messages).toHaveLength(0);
  });
});

describe('a held file', () => {
  test('is open until the last who holds it lets go', async () => {
    const file = await heldFile(Buffer.from('octets'));
    file.hold();
    file.release();
    const into = Buffer.alloc(6);
    expect(await file.read(into, 2)).toBe(4);
    expect(into.toString('utf8', 0, 4)).toBe('tets');
    expect(await file.read(into, 6)).toBe(0);
    file.release();
    await expect(file.read(into, 0)).rejects.toThrow(/closed|EBADF/);
  });
});

/** The one that is taken next. */
function onlyBlock(): Buffer {
  const block = takeBlock();
  for (let i = 0; i < 100; i++) takeBlock();
  giveBlock(block);
  return block;
}
