import fc from 'fast-check';
import { expect, test } from 'vitest';
import { verdictOf } from '../../src/model/verdict.ts';
import { harmless } from '../../src/shared/harmless.ts';

const HARMFUL = /[\p{Cc}\p{Cs}\u2028\u2029\p{Bidi_Control}]/u;

test.each([
  ['a\r\nb', 'a b'],
  ['\u001b[2Jgone', ' [2Jgone'],
  ['a\u0085b\u2028c\u202ed', 'a b c d'],
  ['half \ud83d', 'half \ufffd'],
  ['caf\u00e9 \u{1f600}', 'caf\u00e9 \u{1f600}'],
])('%j', (text, shown) => expect(harmless(text)).toBe(shown));

test('DSN-04 INJ-02 whatever strangers say, a verdict is one line that steers nothing', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (detail) => {
      expect(verdictOf('remote-refused', detail).explanation).not.toMatch(HARMFUL);
    }),
    { numRuns: 500 },
  );
});
