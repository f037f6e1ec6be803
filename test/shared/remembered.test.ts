import { expect, test } from 'vitest';
import { remembered } from '../../src/shared/remembered.ts';

test('an answer is found once for the same octets, wherever they lie, and no more are kept than allowed', () => {
  const asked: string[] = [];
  const find = remembered(2, (octets) => {
    asked.push(octets.toString());
    return octets.length === 0 ? null : octets.toString().toUpperCase();
  });
  const ask = (text: string): string | null => find(Buffer.from(text));
  expect([ask('a'), ask('a'), ask('')]).toEqual(['A', 'A', null]);
  expect(ask('')).toBeNull();
  expect(asked).toEqual(['a', '']);
  expect([ask('b'), ask('b'), ask(''), ask('a')]).toEqual(['B', 'B', null, 'A']);
  expect(asked).toEqual(['a', '', 'b', 'a']);
});
