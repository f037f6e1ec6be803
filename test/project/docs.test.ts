import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { verdictsPage } from '../../docs/generate-verdicts.ts';

test('docs/verdicts.md says what the table of reasons says (npm run docs writes it)', () => {
  expect(readFileSync('docs/verdicts.md', 'utf8')).toBe(verdictsPage());
});

test.each([
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'bench/README.md',
  'docs/architecture.md',
  'docs/performance.md',
  'docs/smarthost.md',
])('every link of %s to a file of the project leads somewhere', (page) => {
  const links = [...readFileSync(page, 'utf8').matchAll(/\]\((?!https?:|#|mailto:)([^)#]+)/g)].map(([, to = '']) => to);
  expect(links.filter((to) => !existsSync(join(dirname(page), to)))).toEqual([]);
});
