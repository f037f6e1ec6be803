/** Citations rot unless something reads them: every section that the code cites must be one that docs/rfcs.md lists. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const known = new Map(
  [...readFileSync('docs/rfcs.md', 'utf8').matchAll(/^\| (\d+) \| ([^|]*) \|/gm)].map(([, rfc = '', sections = '']) => [
    rfc,
    new Set(sections.split(/[\s,]+/)),
  ]),
);

const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => join('src', file));

test.each(sources)('%s cites only RFC sections that docs/rfcs.md lists', (file) => {
  const text = readFileSync(file, 'utf8').replace(/\n\s*(?:\*|\/\/) ?/g, ' ');
  const strays = [...text.matchAll(/RFC (\d+)((?:(?:,| and)? §[\d.]*\d)*)/g)].flatMap(([, rfc = '', cited = '']) => {
    const listed = known.get(rfc);
    if (!listed) return [`RFC ${rfc}`];
    return [...cited.matchAll(/§([\d.]*\d)/g)].flatMap(([, section = '']) =>
      listed.has(section) ? [] : [`RFC ${rfc} §${section}`],
    );
  });
  expect(strays).toEqual([]);
});

test('docs/rfcs.md lists sections of the RFCs that are really there', () => {
  // Where an RFC is cited most, a wrong chapter would be noticed here: highest chapter number of each.
  const chapters: Record<string, number> = {
    '5321': 9,
    '7672': 11,
    '7671': 13,
    '6698': 11,
    '3461': 10,
    '3464': 9,
    '3207': 7,
  };
  const strays = [...known].flatMap(([rfc, sections]) =>
    [...sections]
      .filter((section) => Number(section.split('.')[0]) > (chapters[rfc] ?? 99))
      .map((section) => `${rfc} §${section}`),
  );
  expect(strays).toEqual([]);
});
