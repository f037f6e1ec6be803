import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  extensionsOf,
  LINE_LIMIT,
  REPLY_LIMIT,
  type Received,
  type Reply,
  ReplyReader,
  sanitise,
  statusOf,
  TEXT_LIMIT,
  temporary,
  textOf,
} from '../../src/deliver/replies.ts';

const read = (...chunks: (string | Buffer)[]): Received[] => {
  const reader = new ReplyReader();
  return chunks.flatMap((chunk) => reader.push(Buffer.from(chunk)));
};
const reply = (code: number, ...lines: [string, ...string[]]): Received => ({ kind: 'reply', reply: { code, lines } });

describe('the reader', () => {
  test.each<[string, string, Received[]]>([
    ['one line', '250 ok\r\n', [reply(250, 'ok')]],
    ['a code alone', '250\r\n', [reply(250, '')]],
    ['a code and a space', '250 \r\n', [reply(250, '')]],
    ['several lines', '250-a\r\n250-\r\n250 c\r\n', [reply(250, 'a', '', 'c')]],
    ['several replies', '250 a\r\n354 b\r\n', [reply(250, 'a'), reply(354, 'b')]],
    ['LF alone, as is met', '250-a\n250 b\n', [reply(250, 'a', 'b')]],
    ['UTF-8', '550 für dich\r\n', [reply(550, 'für dich')]],
    ['nothing whole yet', '250-a\r\n250', []],
  ])('takes %s', (_, text, received) => {
    expect(read(text)).toEqual(received);
    expect(read(...text)).toEqual(received);
  });

  test('TXN-06 takes nothing more after garbage', () => {
    expect(read('250-a\r\n251 b\r\n250 c\r\n').map(({ kind }) => kind)).toEqual(['garbage']);
    expect(read('what\r\n', '250 c\r\n').map(({ kind }) => kind)).toEqual(['garbage']);
  });

  test('TXN-06 holds back no more than a line and a reply may have', () => {
    expect(read('2'.repeat(LINE_LIMIT + 1)).map(({ kind }) => kind)).toEqual(['garbage']);
    const line = `250-${'x'.repeat(1000)}\r\n`;
    const many = new Array(Math.ceil(REPLY_LIMIT / 1000) + 1).fill(line);
    expect(read(...many).map(({ kind }) => kind)).toEqual(['garbage']);
  });

  test('says whether it is in the middle of a reply', () => {
    const reader = new ReplyReader();
    expect(reader.midway).toBe(false);
    reader.push(Buffer.from('250-a\r\n'));
    expect(reader.midway).toBe(true);
    reader.push(Buffer.from('250 b'));
    expect(reader).toMatchObject({ midway: true, fragment: 'a 250 b' });
    reader.push(Buffer.from('\r\n'));
    expect(reader.midway).toBe(false);
  });

  test('a whole reply is the same however it is cut, and any octets end in replies or one garbage', () => {
    const line = fc.string({ unit: 'grapheme', maxLength: 60 }).map((text) => text.replace(/[\r\n]/g, ''));
    const written = fc.record({
      code: fc.integer({ min: 200, max: 599 }),
      lines: fc.array(line, { minLength: 1, maxLength: 5 }),
    });
    const cuts = fc.array(fc.nat(2000), { maxLength: 20 });
    fc.assert(
      fc.property(fc.array(written, { maxLength: 5 }), cuts, (replies, places) => {
        const wire = replies.flatMap(({ code, lines }) =>
          lines.map((text, at) => `${code}${at === lines.length - 1 ? ' ' : '-'}${text}\r\n`),
        );
        expect(read(...slices(Buffer.from(wire.join('')), places))).toEqual(
          replies.map(({ code, lines }) => ({
            kind: 'reply',
            reply: { code, lines: lines.map((text) => Buffer.from(text).toString()) },
          })),
        );
      }),
    );
    const digitsOrAny = fc.oneof(
      fc.uint8Array({ maxLength: 40 }).map((octets) => Buffer.from(octets)),
      fc.constantFrom('250 ok\r\n', '250-', '\r\n', '\n', '5').map((text) => Buffer.from(text)),
    );
    fc.assert(
      fc.property(fc.array(digitsOrAny, { maxLength: 30 }), cuts, (parts, places) => {
        const octets = Buffer.concat(parts);
        const whole = read(octets);
        expect(read(...slices(octets, places))).toEqual(whole);
        expect(whole.slice(0, -1).every(({ kind }) => kind === 'reply')).toBe(true);
        for (const received of whole) {
          if (received.kind === 'garbage') continue;
          const text = textOf(received.reply);
          expect(text.length).toBeLessThanOrEqual(TEXT_LIMIT);
          expect(text).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
          expect(statusOf(received.reply)).toMatch(
            new RegExp(`^${Math.floor(received.reply.code / 100)}\\.\\d{1,3}\\.\\d{1,3}$`),
          );
        }
      }),
    );
  });
});

function slices(octets: Buffer, places: readonly number[]): Buffer[] {
  const cuts = [0, ...places.map((place) => place % (octets.length + 1)).toSorted((a, b) => a - b), octets.length];
  return cuts.slice(1).map((end, at) => octets.subarray(cuts[at], end));
}

test.each<[Reply, string]>([
  [{ code: 550, lines: ['5.1.1 no'] }, '5.1.1'],
  [{ code: 550, lines: ['5.1.10'] }, '5.1.10'],
  [{ code: 250, lines: ['2.1.5\tok'] }, '2.1.5'],
  [{ code: 450, lines: ['5.1.1 no'] }, '4.0.0'],
  [{ code: 550, lines: ['no 5.1.1'] }, '5.0.0'],
  [{ code: 550, lines: ['5.1'] }, '5.0.0'],
  [{ code: 550, lines: ['5.1.1.1 no'] }, '5.0.0'],
  [{ code: 550, lines: ['', '5.1.1 no'] }, '5.0.0'],
])('ST-01 the status of %j is %s', (given, status) => {
  expect(statusOf(given)).toBe(status);
});

test('EXT-01 not even a first line that is nothing but a keyword', () => {
  expect([...extensionsOf({ code: 250, lines: ['STARTTLS'] })]).toEqual([]);
});

test('a status made temporary keeps its subject', () => {
  expect(temporary('5.2.2')).toBe('4.2.2');
});

test('EXT-01 extensions are keywords on the lines after the first', () => {
  const lines: [string, ...string[]] = [
    'mx-dsn.size DSN',
    'size 1000',
    ' 8bitmime',
    'AUTH=LOGIN PLAIN',
    'X-DSN',
    'not-dsn dsn',
    '-x',
    '',
  ];
  expect([...extensionsOf({ code: 250, lines })]).toEqual([
    ['SIZE', '1000'],
    ['8BITMIME', ''],
    ['AUTH', 'LOGIN PLAIN'],
    ['X-DSN', ''],
    ['NOT-DSN', 'DSN'],
  ]);
});

test('text is cut between characters', () => {
  const long = sanitise('\u{1f600}'.repeat(TEXT_LIMIT));
  expect(long.isWellFormed()).toBe(true);
  expect(long.length).toBeLessThanOrEqual(TEXT_LIMIT);
});
