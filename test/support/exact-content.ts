/** What goes in comes out: contents and cuts made by chance, sent through a whole relay, compared as they leave it. */
import fc from 'fast-check';
import { expect } from 'vitest';
import { type RelayScene, sendPieces, stuffed, until } from './relay-scene.ts';
import type { SmtpClient } from './smtp-client.ts';

/** Longest line that passes, in octets. */
const LINE = 64 * 1024;

export interface Sample {
  readonly content: Buffer;
  /** Where the content is cut into segments on its way in. */
  readonly cuts: readonly number[];
}

const pieceOfText = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom('.', '..', '.\r', '\r\n', '\r\n.', '\r\n..', '\r\n.\r\n', 'a', ' ', '\t') },
  { weight: 1, arbitrary: fc.constantFrom('\r', '\n', '\n.', '\r.', '\r\r\n', '\n.\n', '\n.\r\n', '\r\n.\n', '\n\r') },
  { weight: 2, arbitrary: fc.constantFrom('\x7f', '\x80', '\xff', '\xc3\xa9', '\x1b', '\x01', 'From ', 'Subject: x') },
  { weight: 1, arbitrary: fc.integer({ min: 990, max: 1010 }).map((length) => 'l'.repeat(length)) },
);

const text = fc.array(pieceOfText, { maxLength: 40 }).map((pieces) => pieces.join(''));

/** Up to some 600 KiB: a short text again and again, and one line that is about as long as a line may be. */
const largeText = fc
  .record({ block: text, times: fc.integer({ min: 1, max: 300 }), line: fc.integer({ min: LINE - 3, max: LINE }) })
  .map(({ block, times, line }) => {
    const filled = `${block}${'0123456789'.repeat(200)}\r\n`;
    return `${filled.repeat(times)}${'.'.repeat(line)}\r\n${block}`;
  });

const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 8 });

export const small: fc.Arbitrary<Sample> = fc.record({ text, cuts }).map(sampleOf);
export const large: fc.Arbitrary<Sample> = fc.record({ text: largeText, cuts }).map(sampleOf);

function sampleOf(made: { readonly text: string; readonly cuts: readonly number[] }): Sample {
  return { content: Buffer.from(made.text, 'latin1'), cuts: made.cuts };
}

/** What the relay makes of content: line ends become CRLF, the last one included, and a header is not continued. */
function normalised(content: Buffer): Buffer {
  const lines = content.toString('latin1').replace(/\r\n|\r|\n/g, '\r\n');
  return Buffer.from(/^[ \t]/.test(lines) ? `\r\n${lines}` : lines, 'latin1');
}

/** Sends one message and compares what reaches the mail host, octet for octet, as it was on the wire. */
export async function comesOutAsItWentIn(scene: RelayScene, client: SmtpClient, sample: Sample): Promise<void> {
  const before = scene.host.messages.length;
  // A message ends in CRLF; a client whose text does not has to add it (RFC 5321 §4.1.1.4).
  const ended = sample.content.length === 0 || sample.content.subarray(-2).equals(Buffer.from('\r\n'));
  const content = ended ? sample.content : Buffer.concat([sample.content, Buffer.from('\r\n')]);
  const replies = await client.say('MAIL FROM:<a@in.test> BODY=8BITMIME', 'RCPT TO:<b@out.test>', 'DATA');
  expect(replies.map(({ code }) => code)).toEqual([250, 250, 354]);
  const wire = Buffer.concat([stuffed(content), Buffer.from('.\r\n')]);
  const ends = [...new Set(sample.cuts.map((part) => Math.floor(part * wire.length)))].sort((a, b) => a - b);
  await sendPieces(
    client,
    [0, ...ends].map((from, i) => wire.subarray(from, ends[i] ?? wire.length)),
  );
  expect(await client.reply()).toMatchObject({ code: 250 });
  await until(() => scene.host.messages.length > before);
  const message = scene.host.messages.at(-1);
  const arrived = message?.wire ?? Buffer.alloc(0);
  const header = /^Received: .*\r\n(?:\t.*\r\n)*/.exec(arrived.subarray(0, 2_000).toString('latin1'))?.[0] ?? '';
  expect(header).toMatch(/^Received: from /);
  expect(message?.underTls).toBe(true);
  const expected = stuffed(normalised(content));
  const rest = arrived.subarray(header.length);
  if (!rest.equals(expected)) expect(rest.toString('latin1')).toBe(expected.toString('latin1'));
}
