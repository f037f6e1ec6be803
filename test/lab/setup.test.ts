/** setup.sh: silent when all is there, and one clear sentence when it cannot help. */
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PROJECT } from '../../lab/relay.ts';

const run = promisify(execFile);
const SCRIPT = join(PROJECT, 'setup.sh');
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dane-setup-'));
  await chmod(folder, 0o755);
  for (const tool of ['id', 'sed']) await symlink(`/usr/bin/${tool}`, join(folder, tool));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Ended {
  readonly code: number;
  readonly stderr: string;
}

function setup(words: readonly string[], path = process.env['PATH'] ?? ''): Promise<Ended> {
  return run(SCRIPT, [...words], { env: { ...process.env, PATH: path } }).then(
    ({ stdout, stderr }) => ({ code: 0, stderr: stdout + stderr }),
    (error: Ended) => ({ code: error.code, stderr: error.stderr }),
  );
}

test.each([['demo'], ['test'], ['bench']])('says nothing when all that --for %s needs is there', async (purpose) => {
  expect(await setup(['--for', purpose])).toEqual({ code: 0, stderr: '' });
});

test.each([
  [['--for'], 'test or bench'],
  [['--for', 'fun'], '"fun"'],
  [['--quickly'], '"--quickly"'],
])('%s is wrong usage', async (words, told) => {
  expect(await setup(words)).toEqual({ code: 2, stderr: expect.stringContaining(told) });
});

test('without apt it names the packages in one sentence and ends with status 3', async () => {
  const { code, stderr } = await setup(['--for', 'demo'], folder);
  expect(code).toBe(3);
  expect(stderr).toMatch(/^setup\.sh: missing: .*ldnsutils.*\bopenssl\b.*\n$/);
});

test.runIf(process.getuid?.() === 0)('another user than root is told the command to run', async () => {
  const poor = join(folder, 'poor');
  await run('mkdir', [poor]);
  for (const tool of ['id', 'sed', 'apt-get']) await symlink(`/usr/bin/${tool}`, join(poor, tool));
  const words = ['--reuid', '65534', '--clear-groups', SCRIPT, '--for', 'demo'];
  const ended = run('/usr/bin/setpriv', words, { env: { PATH: poor } });
  await expect(ended).rejects.toMatchObject({ code: 3, stderr: expect.stringContaining('sudo ./setup.sh --for demo') });
});
