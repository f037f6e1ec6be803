import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, describe, expect, test } from 'vitest';
import { mistakeLine } from '../../src/cli/mistakes.ts';
import { runCommand } from '../../src/cli/run.ts';
import { loadConfigApart } from '../../src/config/load-apart.ts';
import { runCommands } from './support.ts';

const folder = mkdtempSync(join(tmpdir(), 'dane-relay-program-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function commands(): Command[] {
  const queue = new Command('queue').description('look at queued mail');
  queue
    .command('list')
    .option('--domain <domain>')
    .action(() => undefined);
  const pin = new Command('pin')
    .argument('<file>')
    .option('--json')
    .action((file: string) => {
      process.stdout.write(`${file}\n`);
    });
  const crash = new Command('crash').action(() => Promise.reject(new Error('a bug')));
  const refuse = new Command('refuse').action((_, command: Command) => command.error('no such thing', { exitCode: 3 }));
  return [pin, queue, crash, refuse];
}

describe('wrong usage is one clear line on stderr and exit status 2', () => {
  test.each([
    [['pni', 'a.pem'], "dane-relay: unknown command 'pni' (Did you mean pin?)\n"],
    [['pin', '--jsno', 'a.pem'], "dane-relay: unknown option '--jsno' (Did you mean --json?)\n"],
    [['pin'], "dane-relay: missing required argument 'file'\n"],
    [['pin', 'a', 'b'], "dane-relay: too many arguments for 'pin'. Expected 1 argument but got 2: a, b.\n"],
    [['queue', 'lst'], "dane-relay: unknown command 'lst' (Did you mean list?)\n"],
    [['queue', 'list', '--domain'], "dane-relay: option '--domain <domain>' argument missing\n"],
    [['--wrong'], "dane-relay: unknown option '--wrong'\n"],
    [['\u001b[31m\nred'], "dane-relay: unknown command '?[31m red'\n"],
  ])('%j', async (args, err) => {
    expect(await runCommands(commands(), ...args)).toEqual({ out: '', err, exitCode: 2 });
  });

  test('no command at all: the help, on stderr', async () => {
    const { out, err, exitCode } = await runCommands(commands());
    expect([out, exitCode]).toEqual(['', 2]);
    expect(err).toMatch(/^Usage: dane-relay /);
  });

  test('a command that ends with a status of its own keeps it', async () => {
    expect(await runCommands(commands(), 'refuse')).toEqual({
      out: '',
      err: 'dane-relay: no such thing\n',
      exitCode: 3,
    });
  });
});

test.each([['--help'], ['help'], ['pin', '--help'], ['help', 'pin'], ['queue', 'list', '-h'], ['--version']])(
  '%s %s: printed on stdout, exit status 0',
  async (...args) => {
    const { out, err, exitCode } = await runCommands(commands(), ...args.filter((arg) => arg !== undefined));
    expect([err, exitCode]).toEqual(['', 0]);
    expect(out).toMatch(/^(?:Usage: dane-relay|\d+\.\d+\.\d+\n$)/);
  },
);

test('the version is that of package.json', async () => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  expect((await runCommands([], '--version')).out).toBe(`${version}\n`);
});

test('what a command says goes out as it is', async () => {
  expect(await runCommands(commands(), 'pin', 'a.pem')).toEqual({ out: 'a.pem\n', err: '', exitCode: 0 });
});

test('a bug in a command is not taken for wrong usage', async () => {
  await expect(runCommands(commands(), 'crash')).rejects.toThrow('a bug');
});

describe('run', () => {
  const started: unknown[] = [];
  const run = (...args: string[]) => {
    started.length = 0;
    const start = async (config: { readonly hostname: string }, notes: readonly string[], file: string | null) => {
      started.push([config.hostname, notes, file]);
    };
    return runCommands([runCommand({ loadConfig: loadConfigApart, start })], 'run', ...args);
  };

  test('starts with a configuration that is right, and hands on what to tell', async () => {
    const file = join(folder, 'good.yaml');
    writeFileSync(file, 'hostname: relay.example.nl\n');
    expect(await run('--config', file)).toEqual({ out: '', err: '', exitCode: 0 });
    const note = 'Nobody may send mail through this relay yet: no client is named under "clients".';
    expect(started).toEqual([['relay.example.nl', [note], file]]);
  });

  test('prints every mistake, starts nothing and exits with 2', async () => {
    const file = join(folder, 'bad.yaml');
    writeFileSync(file, 'hostnme: a.nl\nresolver: 9.9.9.9:53\nlog: { level: x }\n');
    const { out, err, exitCode } = await run('--config', file);
    expect([out, exitCode, started]).toEqual(['', 2, []]);
    const lines = err.trimEnd().split('\n');
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(
      /^\/.*bad\.yaml:1:1: hostnme: is not a known key \(expected one of .*; did you mean hostname\?\)$/,
    );
    expect(lines[1]).toMatch(/bad\.yaml:2:11: resolver: "9\.9\.9\.9:53" is not on this machine/);
  });

  test('a file that is not there: exit status 3', async () => {
    const { err, exitCode } = await run('--config', '/nowhere/relay.yaml');
    expect([err, exitCode, started]).toEqual(['/nowhere/relay.yaml: cannot be read: there is no such file\n', 3, []]);
  });

  test('a configuration that could not even be looked at: one line and exit status 3', async () => {
    const loadConfig = () => Promise.reject(new Error('the configuration was not read: no more processes'));
    const start = () => Promise.reject(new Error('nothing is started'));
    expect(await runCommands([runCommand({ loadConfig, start })], 'run')).toEqual({
      out: '',
      err: 'dane-relay: the configuration was not read: no more processes\n',
      exitCode: 3,
    });
  });
});

test.each([
  [
    { file: 'a.yaml', line: 3, column: 4, path: 'x.y', message: 'is wrong', expected: 'right', nearest: 'ok' },
    'a.yaml:3:4: x.y: is wrong (expected right; did you mean ok?)',
  ],
  [{ file: 'a.yaml', line: 3, column: 4, path: '', message: 'is wrong', expected: '' }, 'a.yaml:3:4: is wrong'],
  [
    { file: 'DANE_RELAY_X', line: null, column: null, path: 'x', message: 'is wrong', expected: '', nearest: 'y' },
    'DANE_RELAY_X: x: is wrong (did you mean y?)',
  ],
])('a mistake on one line: %j', (mistake, line) => {
  expect(mistakeLine(mistake)).toBe(line);
});
