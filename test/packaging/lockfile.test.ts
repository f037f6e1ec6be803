/** What `npm ci` needs of the lockfile to work everywhere, whatever npm and registry wrote it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { PROJECT } from '../../lab/relay.ts';

interface Entry {
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly resolved?: string;
  readonly gypfile?: boolean;
}

async function lockedPackages(): Promise<Readonly<Record<string, Entry>>> {
  return JSON.parse(await readFile(join(PROJECT, 'package-lock.json'), 'utf8')).packages;
}

test('the lockfile has every optional package, those for other systems too, or npm ci refuses to run', async () => {
  const packages = await lockedPackages();
  const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter(
      (name) => !(`node_modules/${name}` in packages || `${path}/node_modules/${name}` in packages),
    ),
  );
  expect(missing).toEqual([]);
});

test('better-sqlite3 is not compiled at installation: it brings its binaries, and a fresh machine has no compiler', async () => {
  const packages = await lockedPackages();
  // npm takes a package with a binding.gyp for one to build, unless this stands in the lockfile.
  expect(packages['node_modules/better-sqlite3']?.gypfile).toBe(false);
});

test('the lockfile names no registry, so that everybody uses their own', async () => {
  const named = Object.entries(await lockedPackages()).filter(([, { resolved }]) => resolved !== undefined);
  expect(named).toEqual([]);
});
