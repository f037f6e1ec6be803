import { expect, test } from 'vitest';
import { createBacklog } from '../../src/queue/groups.ts';
import type { Request } from '../../src/queue/sqlite-engine.ts';
import { everything, message, terms } from './good-day.ts';

let lastId = 0;
const accepts = (count: number): readonly Request[] =>
  Array.from({ length: count }, () => ({ id: ++lastId, name: 'accept', args: [message(), terms.expiresAt, null] }));
const ends = (count: number): readonly Request[] =>
  Array.from({ length: count }, () => ({ id: ++lastId, name: 'settle', args: ['1', [], []] }));
const claim = (limit: number): Request => ({ id: ++lastId, name: 'claim', args: [{ ...everything, limit }] });
const names = (group: readonly Request[]): string => group.map(({ name }) => name.slice(0, 1)).join('');

test('what is handed in goes before a thousand ends that came earlier, with a few of them in the same commit', () => {
  const backlog = createBacklog();
  backlog.add(ends(1_000));
  backlog.add(accepts(2));
  expect(names(backlog.nextGroup())).toBe(`aa${'s'.repeat(16)}`);
  expect(names(backlog.nextGroup())).toBe('s'.repeat(64));
});

test('all that is not handed in keeps its order, and none of it is left out or taken twice', () => {
  const backlog = createBacklog();
  const all = [...ends(50), claim(50), ...ends(50), claim(500), claim(1), ...ends(300)];
  const seen: Request[] = [];
  for (const part of [all.slice(0, 120), all.slice(120)]) {
    backlog.add(part);
    backlog.add(accepts(1));
    seen.push(...backlog.nextGroup());
  }
  for (let group = backlog.nextGroup(); group.length > 0; group = backlog.nextGroup()) seen.push(...group);
  expect(seen.filter(({ name }) => name !== 'accept')).toEqual(all);
  expect(seen.filter(({ name }) => name === 'accept')).toHaveLength(2);
});

test('a claim counts for what it may take, and is never left waiting for good', () => {
  const backlog = createBacklog();
  backlog.add([claim(500), ...ends(10)]);
  backlog.add(accepts(1));
  expect(names(backlog.nextGroup())).toBe('ac');
  expect(names(backlog.nextGroup())).toBe('s'.repeat(10));
});

test('however many are handed in, what ends mail goes on beside them', () => {
  const backlog = createBacklog();
  backlog.add([...accepts(600), ...ends(40)]);
  expect(backlog.isFull()).toBe(true);
  expect(names(backlog.nextGroup())).toBe(`${'a'.repeat(256)}${'s'.repeat(16)}`);
  expect(names(backlog.nextGroup())).toBe(`${'a'.repeat(256)}${'s'.repeat(16)}`);
  expect(backlog.isFull()).toBe(false);
});
