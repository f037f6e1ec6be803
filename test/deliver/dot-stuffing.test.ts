/** Dot-stuffing, compared octet by octet with the plain rule and with nodemailer's own. */
import { PassThrough } from 'node:stream';
import DataStream from 'nodemailer/lib/smtp-connection/data-stream.js';
import { expect, test } from 'vitest';
import { DotStuffer } from '../../src/deliver/dot-stuffing.ts';

function stuffed(blocks: readonly Buffer[], newlines?: 'pairs'): string {
  const stuffer = new DotStuffer(newlines);
  const parts = blocks.flatMap((block) => stuffer.push(block));
  return Buffer.concat([...parts, stuffer.end()]).toString('latin1');
}

/** What has to come out, said in one breath. */
function plainRule(text: string): string {
  const lines = text.replace(/\r\n|\r|\n/g, '\r\n');
  const ended = lines.endsWith('\r\n') ? lines : `${lines}\r\n`;
  return `${ended.replace(/^\./gm, '..')}.\r\n`;
}

async function byNodemailer(blocks: readonly Buffer[]): Promise<string> {
  const stream = new DataStream();
  const out = stream.pipe(new PassThrough());
  for (const block of blocks) stream.write(block);
  stream.end();
  return Buffer.concat(await out.toArray()).toString('latin1');
}

/** Every text of up to so many of these octets. */
function* texts(octets: string, length: number): Iterable<string> {
  yield '';
  if (length > 0) for (const rest of texts(octets, length - 1)) for (const octet of octets) yield octet + rest;
}

test('SMUG-02 SMUG-05 every text of five octets, whole and cut at every place', () => {
  for (const text of new Set(texts('.\r\nx', 5))) {
    const expected = plainRule(text);
    const octets = Buffer.from(text, 'latin1');
    for (let cut = 0; cut <= octets.length; cut++) {
      const got = stuffed([octets.subarray(0, cut), octets.subarray(cut)]);
      if (got !== expected) expect({ text, cut, got }).toEqual({ text, cut, got: expected });
    }
  }
});

test('SMUG-05 text whose newlines are known to be pairs comes out the same, whole and cut at every place', () => {
  const pairs = (text: string): string => text.replaceAll('\n', '\r\n');
  for (const text of new Set(Array.from(texts('.\nx', 6), pairs))) {
    const expected = plainRule(text);
    const octets = Buffer.from(text, 'latin1');
    for (let cut = 0; cut <= octets.length; cut++) {
      const got = stuffed([octets.subarray(0, cut), octets.subarray(cut)], 'pairs');
      if (got !== expected) expect({ text, cut, got }).toEqual({ text, cut, got: expected });
    }
  }
});

test('SMUG-02 any octets in any blocks leave as nodemailer would send them', async () => {
  const alphabet = '\r\n\r\n\n\r\r\n..x\u00e9\u0000';
  for (let round = 0; round < 300; round++) {
    const blocks = Array.from({ length: 1 + (round % 4) }, () => {
      const octets = Array.from({ length: Math.floor(Math.random() * 40) }, () =>
        alphabet.charAt(Math.floor(Math.random() * alphabet.length)),
      );
      return Buffer.from(octets.join(''), 'latin1');
    });
    expect(stuffed(blocks), JSON.stringify(blocks.map(String))).toBe(await byNodemailer(blocks));
  }
});

test('blocks in which nothing is wrong are not copied', () => {
  const block = Buffer.from('a line\r\nanother\r\n'.repeat(1000));
  const parts = new DotStuffer().push(block);
  expect(parts).toHaveLength(1);
  expect(parts[0]?.buffer).toBe(block.buffer);
});
