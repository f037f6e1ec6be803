/** Holds the rules of docs/architecture.md: who may import whom, and one door for each library. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { describe, expect, test } from 'vitest';

const files = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => join('src', file));

const STAGES = ['receive', 'queue', 'route', 'policy', 'deliver', 'sign', 'report', 'admin', 'config'];

/** Which folders may import a library. */
const DOORS: Readonly<Record<string, readonly string[]>> = {
  nodemailer: ['deliver'],
  'dns-packet': ['route'],
  'better-sqlite3': ['queue', 'report'],
  pino: ['report'],
  'prom-client': ['report'],
  hono: ['admin'],
  '@hono/node-server': ['admin'],
  yaml: ['config'],
  zod: ['config'],
  commander: ['cli'],
};

function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  return [
    ...text.matchAll(/^(?:import|export)\s+(?:type\s+)?(?:[\w*{][^'";]*?\sfrom\s+)?['"]([^'"]+)['"]/gm),
    ...text.matchAll(/import\(['"]([^'"]+)['"]\)/g),
  ].map(([, target = '']) => target);
}

const folderOf = (file: string): string => relative('src', file).split('/')[0] ?? '';
const libraryOf = (target: string): string => target.split('/', target.startsWith('@') ? 2 : 1).join('/');

/** What is loaded with a file, without what it loads when it is needed. */
function loadedWith(...roots: readonly string[]): ReadonlySet<string> {
  const found = new Set<string>(roots);
  for (const file of found) {
    if (!file.endsWith('.ts')) continue;
    const text = readFileSync(file, 'utf8');
    const imports = text.matchAll(/^(?:import|export)\s+(?!type\s)(?:[\w*{][^'";]*?\sfrom\s+)?['"]([^'"]+)['"]/gm);
    for (const [, target = ''] of imports) {
      found.add(target.startsWith('.') ? normalize(join(dirname(file), target)) : libraryOf(target));
    }
  }
  return found;
}

test('a relay that runs has not loaded what reads its configuration', () => {
  const loaded = loadedWith(
    'src/main.ts',
    'src/assembly/run.ts',
    'src/assembly/start.ts',
    'src/assembly/worker-process.ts',
  );
  expect([...loaded]).toContain('src/config/load-apart.ts');
  expect(['yaml', 'zod', 'src/config/load.ts'].filter((name) => loaded.has(name))).toEqual([]);
});

test('the supervisor has loaded nothing that mail passes through', () => {
  const loaded = loadedWith('src/main.ts', 'src/assembly/run.ts', 'src/assembly/supervisor.ts');
  const needless = ['better-sqlite3', 'nodemailer', 'prom-client', 'node:tls', 'node:worker_threads', 'src/relay.ts'];
  expect(needless.filter((name) => loaded.has(name))).toEqual([]);
});

describe('who may import whom', () => {
  test.each(files)('%s', (file) => {
    const folder = folderOf(file);
    const strays = importsOf(file).filter((target) => {
      if (target.startsWith('node:')) return false;
      if (!target.startsWith('.')) return !(DOORS[libraryOf(target)] ?? []).includes(folder);
      const wanted = folderOf(normalize(join(dirname(file), target)));
      if (wanted === 'model' || wanted === 'shared' || wanted === folder) return false;
      if (folder === 'main.ts' || folder === 'assembly') return false;
      // The command line tells of the journey in relay.ts; everything else is handed to it.
      return !(folder === 'cli' && wanted === 'relay.ts');
    });
    expect(strays).toEqual([]);
  });

  test('model/ has no behaviour of a stage and shared/ knows no stage', () => {
    const strays = files
      .filter((file) => ['model', 'shared'].includes(folderOf(file)))
      .flatMap((file) => importsOf(file).map((target) => normalize(join(dirname(file), target))))
      .filter((target) => STAGES.includes(folderOf(target)));
    expect(strays).toEqual([]);
  });
});
