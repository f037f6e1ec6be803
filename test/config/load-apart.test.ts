/** The configuration, read in a process of its own: the same answer, and nothing left of that process. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { loadConfigApart } from '../../src/config/load-apart.ts';
import { folder } from './support.ts';

afterEach(() => vi.unstubAllEnvs());

const request = { path: 'relay.yaml', cwd: folder, machine: 'relay.example.nl', now: Date.parse('2026-01-01') };

test.each([
  ['with everything in it', readFileSync('config/relay.example.yaml', 'utf8')],
  ['with mistakes', 'hostnme: a.nl\nqueue: { lifetime: 5 }\ndestinations:\n  - { domain: "*", tls: maybe }\n'],
  ['that is no YAML', 'listen: [\n'],
])('a file %s gives what it gives here', async (_, text) => {
  writeFileSync(join(folder, 'relay.yaml'), text);
  const env = { DANE_RELAY_LOG__LEVEL: 'debug', DANE_RELAY_SHUTDOWN_GRACE: 'soon' };
  for (const each of [{}, env]) {
    expect(await loadConfigApart({ ...request, env: each })).toEqual(loadConfig({ ...request, env: each }));
  }
});

test('the variables are those that were given, as a process has them', async () => {
  writeFileSync(join(folder, 'relay.yaml'), '');
  vi.stubEnv('DANE_RELAY_HOSTNAME', 'mail.example.nl');
  const loaded = await loadConfigApart({ ...request, env: process.env });
  expect(loaded.ok && loaded.config.hostname).toBe('mail.example.nl');
});

test('a reader that cannot work is told of, in words', async () => {
  vi.stubEnv('NODE_OPTIONS', '--require=/nowhere/at-all.cjs');
  await expect(loadConfigApart({ ...request, env: {} })).rejects.toThrow(
    'the configuration was not read: its reader ended with status 1',
  );
});

test('a pipe that nobody writes to does not hold it up for ever', async () => {
  const path = join(folder, 'silent.yaml');
  execFileSync('mkfifo', [path]);
  await expect(loadConfigApart({ ...request, path, env: {} }, 3_000)).rejects.toThrow(
    'the configuration was not read in 3 s: is it a pipe',
  );
  await expect.poll(() => readers()).toEqual([]);
});

test('nothing of it is left running', async () => {
  await loadConfigApart({ ...request, env: {} });
  await expect.poll(() => readers()).toEqual([]);
});

/** Processes that read a configuration for this one. */
function readers(): string[] {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').split(' ').filter(Boolean);
  return children.filter((id) => {
    try {
      return readFileSync(`/proc/${id}/cmdline`, 'utf8').includes('load-process');
    } catch {
      return false;
    }
  });
}
