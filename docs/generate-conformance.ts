/**
 * Writes docs/conformance.md: each item of conformance-items.ts with the test files whose titles name it. `npm run docs`
 * runs it, and a test fails when an item has no test or the page is stale.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CHAPTERS, type Item } from './conformance-items.ts';
import { itemsIn } from './test-titles.ts';

const PROJECT = fileURLToPath(new URL('..', import.meta.url));

/** Which test files name an item in a title, by item; paths as they are in the project, sorted. */
export function testedIn(): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  const files = readdirSync(join(PROJECT, 'test'), { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((name) => name.endsWith('.ts')).toSorted()) {
    for (const item of itemsIn(readFileSync(join(PROJECT, 'test', file), 'utf8'))) {
      found.set(item, [...(found.get(item) ?? []), `test/${file}`]);
    }
  }
  return found;
}

export function conformancePage(tested: ReadonlyMap<string, readonly string[]> = testedIn()): string {
  const items = CHAPTERS.flatMap((chapter) => chapter.items);
  const untested = items.filter((item) => item.untested !== null);
  return [
    '# Conformance',
    '',
    'What has to hold, item by item, and the test files that show it: search them for the item. This page is written from',
    '`docs/conformance-items.ts` and the titles of the tests by `npm run docs`. A test fails when an item has neither a test',
    'nor a reason, or when a title names an item that is not here.',
    '',
    `${items.length - untested.length} items are tested. ${untested.length} are not, for the reason given in their place.`,
    '',
    ...CHAPTERS.flatMap((chapter) => [
      `## ${chapter.title}`,
      '',
      '| item | source | what must hold | where it is tested |',
      '|---|---|---|---|',
      ...chapter.items.map((item) => row(item, tested.get(item.id) ?? [])),
      '',
    ]),
  ].join('\n');
}

function row({ id, source, holds, untested }: Item, files: readonly string[]): string {
  const where = untested === null ? files.map(link).join(', ') : `not tested: ${untested}`;
  return `| ${id} | ${source} | ${holds} | ${where} |`;
}

function link(file: string): string {
  return `[${file.replace(/^test\/|(?:\.test)?\.ts$/g, '')}](../${file})`;
}

if (import.meta.main) writeFileSync(new URL('conformance.md', import.meta.url), conformancePage());
