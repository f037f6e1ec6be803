/**
 * Puts into package-lock.json what npm leaves out, depending on the registry and machine that it ran on. Run it after
 * every `npm install`; test/packaging/lockfile.test.ts fails when it is needed.
 *
 * - Packages for other systems that the registry did not have are optional, and still `npm ci` refuses to run without
 *   their entries.
 * - better-sqlite3 brings its binaries; without `gypfile: false` npm would compile it, on machines without a compiler.
 */
import { readFileSync, writeFileSync } from 'node:fs';

interface Entry {
  version: string;
  optionalDependencies?: Record<string, string>;
  [key: string]: unknown;
}

const file = new URL('../package-lock.json', import.meta.url);
const lock = JSON.parse(readFileSync(file, 'utf8')) as { packages: Record<string, Entry> };
const { packages } = lock;

for (const { optionalDependencies = {}, ...parent } of Object.values(packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    const path = `node_modules/${name}`;
    const system = /-(linux|darwin|win32)-(x64|arm64)(-musl)?$/.exec(name);
    if (path in packages || !system) continue;
    const [, os = '', cpu = '', musl] = system;
    packages[path] = {
      version,
      cpu: [cpu],
      ...(parent['dev'] === true && { dev: true }),
      ...(musl && { libc: ['musl'] }),
      optional: true,
      os: [os],
    };
  }
}
const sqlite = packages['node_modules/better-sqlite3'];
if (sqlite) sqlite['gypfile'] = false;

lock.packages = Object.fromEntries(Object.entries(packages).toSorted(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
