import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

async function logged(level: string, script: string): Promise<{ stdout: object[]; stderr: string }> {
  const code = `import { createLogger } from './src/report/log.ts'; const log = createLogger('${level}', 1); ${script}`;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [
    '--input-type=module-typescript',
    '-e',
    code,
  ]);
  return {
    stdout: stdout
      .trim()
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line)),
    stderr,
  };
}

test('a mail event is one JSON object on a line of stdout, with its time and the names of the contract', async () => {
  const { stdout } = await logged(
    'info',
    `log.mail({ event: 'deferred', code: 'tlsa-mismatch', status: '4.7.5', explanation: 'Why.', queueId: 'A1', domain: 'x.nl' });`,
  );
  expect(stdout).toEqual([
    {
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      event: 'deferred',
      code: 'tlsa-mismatch',
      status: '4.7.5',
      explanation: 'Why.',
      queueId: 'A1',
      domain: 'x.nl',
      msg: 'Why.',
    },
  ]);
});

test('newlines from outside cannot start a line of their own', async () => {
  const { stdout } = await logged('info', `log.warn('odd', { reply: '250 ok\\n{"event":"delivered"}' });`);
  expect(stdout).toHaveLength(1);
});

test('the level is kept, and a line is out before the process dies', async () => {
  const { stdout } = await logged(
    'warn',
    `log.info('quiet'); log.error('loud'); process.kill(process.pid, 'SIGKILL');`,
  ).catch((error: { stdout: string; stderr: string }) => ({
    stdout: error.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)),
  }));
  expect(stdout).toMatchObject([{ level: 'error', msg: 'loud' }]);
});
