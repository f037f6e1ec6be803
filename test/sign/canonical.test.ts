/** The relaxed form of a body, against the words of RFC 6376 written as three replacements, however it is cut. */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RelaxedBodyHash, relaxedField } from '../../src/sign/dkim-canonical.ts';
import { HeadReader } from '../../src/sign/dkim-head.ts';

/** RFC 6376 §3.4.4, on the whole body at once. */
function reference(body: string): string {
  const lines = body.replace(/[ \t]+/g, ' ').replace(/ (?=\r\n)| $/g, '');
  const text = lines.replace(/(?:\r\n)+$/, '');
  return createHash('sha256')
    .update(text === '' ? '' : `${text}\r\n`, 'latin1')
    .digest('base64');
}

const pieces = fc.array(
  fc.array(fc.constantFrom(' ', '\t', 'a', 'b', '.', '\r\n', '\r\n\r\n', '\r', '\n', 'plain', '\u00e9'), {
    maxLength: 12,
  }),
  { maxLength: 8 },
);

test('DKIM-02 the hash of a body in pieces is that of the whole, bare CR and LF among them', () => {
  fc.assert(
    fc.property(pieces, fc.integer({ min: 1, max: 5 }), (parts, cut) => {
      const body = parts.map((part) => part.join('')).join('');
      const octets = Buffer.from(body, 'latin1');
      const byParts = new RelaxedBodyHash();
      for (const part of parts) byParts.update(Buffer.from(part.join(''), 'latin1'));
      const byCuts = new RelaxedBodyHash();
      for (let at = 0; at < octets.length; at += cut) byCuts.update(octets.subarray(at, at + cut));
      const expected = reference(body);
      expect([byParts.digest(), byCuts.digest()]).toEqual([expected, expected]);
    }),
    { numRuns: 3_000 },
  );
});

test('DKIM-02 the examples of RFC 6376 §3.4.5', () => {
  expect(relaxedField({ name: 'A', value: ' X' })).toBe('a:X');
  expect(relaxedField({ name: 'B', value: ' Y\t\r\n\tZ  ' })).toBe('b:Y Z');
  const hash = new RelaxedBodyHash();
  hash.update(Buffer.from(' C \r\nD \t E\r\n\r\n\r\n'));
  expect(hash.digest()).toBe(createHash('sha256').update(' C\r\nD E\r\n').digest('base64'));
});

test.each<[string, string, string[], string]>([
  ['fields and a body', 'A: 1\r\nB: 2\r\n\r\nbody\r\n', ['A= 1', 'B= 2'], 'body\r\n'],
  ['no body', 'A: 1\r\n', ['A= 1'], ''],
  ['no header', '\r\nA: 1\r\n', [], 'A: 1\r\n'],
  ['a fold', 'A: 1\r\n\t2\r\n\r\n', ['A= 1\r\n\t2'], ''],
  ['a line that is no field', 'A: 1\r\nnothing\r\nB : 2\r\n\r\nx', ['A= 1', 'B= 2'], 'x'],
  ['an empty line at once, then more', '\r\n\r\nx', [], '\r\nx'],
])('DKIM-02 a header is told from its body: %s', (_, message, fields, body) => {
  for (let size = 1; size <= message.length; size++) {
    const head = new HeadReader();
    let rest = '';
    for (let at = 0; at < message.length; at += size) {
      rest += head.push(Buffer.from(message.slice(at, at + size))).toString();
    }
    expect(head.fields().map(({ name, value }) => `${name}=${value}`)).toEqual(fields);
    expect(rest).toBe(body);
  }
});
