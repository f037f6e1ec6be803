/** Every item of docs/conformance.md has a test that is named after it, or a reason why it has none. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { CHAPTERS } from '../../docs/conformance-items.ts';
import { conformancePage, testedIn } from '../../docs/generate-conformance.ts';
import { itemsIn } from '../../docs/test-titles.ts';

const items = CHAPTERS.flatMap((chapter) => chapter.items);
const tested = testedIn();

test('every item is named by the title of a test, or has a reason in docs/conformance-items.ts', () => {
  expect(items.filter(({ id, untested }) => untested === null && !tested.has(id)).map(({ id }) => id)).toEqual([]);
});

test('an item that is tested needs no reason', () => {
  expect(items.filter(({ id, untested }) => untested !== null && tested.has(id)).map(({ id }) => id)).toEqual([]);
});

test('titles name only items that are in the table, and the table has each once', () => {
  const known = items.map(({ id }) => id);
  expect([...tested.keys()].filter((id) => !known.includes(id))).toEqual([]);
  expect(known.filter((id, at) => known.indexOf(id) !== at)).toEqual([]);
});

test('docs/conformance.md is what the table and the titles make of it (npm run docs writes it)', () => {
  expect(readFileSync('docs/conformance.md', 'utf8')).toBe(conformancePage());
});

describe('a title is', () => {
  // A Q stands for the hyphen, so that this file names no item itself.
  const read = (source: string): string => itemsIn(source.replaceAll('Q', '-')).join(' ').replaceAll('-', 'Q');

  test.each([
    ['what test() is given', "test('ABQ01 CDQ02 x', () => {})", 'ABQ01 CDQ02'],
    ['at any place in it', "  it(\n    'x (ABQ01)', f)", 'ABQ01'],
    ['a template', 'test(`ABQ01 $' + '{f(`CDQ02`, {})} EFQ03`, f)', 'CDQ02 ABQ01 EFQ03'],
    ['behind a table', "test.each<[string]>([[1, 'x']])('ABQ01 %s', f)", 'ABQ01'],
    ['behind a condition', "test.skipIf(a(b))('ABQ01 %s', f)", 'ABQ01'],
    ['what describe() is given', "describe('ABQ01 x', f)", 'ABQ01'],
    ['a row of a table', "const rows = [['ABQ01 x', 'y'], { title: \"CDQ02\" }]", 'ABQ01 CDQ02'],
    ['no other string', "expect(x, 'see ABQ01')", ''],
    ['no comment', "// test('ABQ01')\n/* 'CDQ02 x' */ f(); /** it's */ g('EFQ03 x')", 'EFQ03'],
    ['nothing in a regular expression', "f(/'/); test('ABQ01', f); x = a / b; g(/[/']`/, 'CDQ02')", 'ABQ01 CDQ02'],
    ['nothing that only looks like an item', "test('UTFQ16 SHAQ256 ABQ1 ABCDEFQ01', f)", ''],
  ])('%s', (_, source, expected) => {
    expect(read(source)).toBe(expected);
  });
});
