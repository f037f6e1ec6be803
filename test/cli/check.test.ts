import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type CheckProbe, type CheckReport, checkCommand } from '../../src/cli/check.ts';
import { generalProbes } from '../../src/cli/probes.ts';
import type { Config } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import { type Printed, runCommands } from './support.ts';

const folder = mkdtempSync(join(tmpdir(), 'dane-relay-check-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const good: CheckProbe<Config> = { name: 'good', run: async () => ({ ok: true, text: 'all is well' }) };
const bad: CheckProbe<Config> = { name: 'resolver', run: async () => ({ ok: false, text: 'it does not validate' }) };
const absent: CheckProbe<Config> = {
  name: 'unbound',
  run: async () => ({ ok: false, text: 'not installed', missing: true }),
};
const broken: CheckProbe<Config> = { name: 'broken', run: () => Promise.reject(new Error('out of luck')) };

let count = 0;
function check(text: string, probes: readonly CheckProbe<Config>[], ...args: string[]): Promise<Printed> {
  const file = join(folder, `relay-${++count}.yaml`);
  writeFileSync(file, text);
  return runCommands([checkCommand({ loadConfig, probes })], 'check', '--config', file, ...args);
}

const report = ({ out }: Printed): CheckReport => JSON.parse(out) as CheckReport;

describe('check', () => {
  test('all fine: exit status 0, and what was tried', async () => {
    const { out, err, exitCode } = await check('hostname: relay.example.nl', [good]);
    expect([err, exitCode]).toEqual(['', 0]);
    expect(out).toMatch(
      /relay-\d+\.yaml: no mistakes\.\nnote {2}Nobody may send mail .*\nok {4}good {2}all is well\nReady to start\.\n$/,
    );
  });

  test('every mistake is told, nothing is tried, exit status 2', async () => {
    const tried: string[] = [];
    const probe: CheckProbe<Config> = {
      name: 'never',
      run: async () => {
        tried.push('tried');
        return { ok: true, text: '' };
      },
    };
    const { out, err, exitCode } = await check('hostname: 5\nlog: { level: x }\n', [probe]);
    expect([out, exitCode, tried]).toEqual(['', 2, []]);
    expect(err.trimEnd().split('\n')).toHaveLength(2);
  });

  test.each<[string, CheckProbe<Config>[], number]>([
    ['a probe says no', [good, bad], 1],
    ['a probe that cannot be tried is a no', [broken], 1],
    ['something needed is not there', [bad, absent, good], 3],
  ])('%s: exit status is right and the other probes are tried as well', async (_, probes, exitCode) => {
    const printed = await check('', probes);
    expect(printed.exitCode).toBe(exitCode);
    expect(printed.out.match(/^(?:ok|NO) /gm)).toHaveLength(probes.length);
    expect(printed.out).toContain('Not ready');
  });

  test('--json is one document: mistakes', async () => {
    const printed = await check('hostnme: a.nl', [good], '--json');
    expect([printed.err, printed.exitCode]).toEqual(['', 2]);
    expect(report(printed)).toMatchObject({
      ok: false,
      mistakes: [{ line: 1, column: 1, path: 'hostnme', message: 'is not a known key', nearest: 'hostname' }],
      probes: [],
    });
  });

  test('--json is one document: probes', async () => {
    const printed = await check('hostname: relay.example.nl', [good, absent], '--json');
    expect(printed.exitCode).toBe(3);
    expect(report(printed)).toMatchObject({
      ok: false,
      mistakes: [],
      notes: ['Nobody may send mail through this relay yet: no client is named under "clients".'],
      probes: [
        { name: 'good', ok: true, text: 'all is well' },
        { name: 'unbound', ok: false, text: 'not installed', missing: true },
      ],
    });
  });

  test('a file that is not there: exit status 3, also in JSON', async () => {
    const printed = await runCommands(
      [checkCommand({ loadConfig, probes: [] })],
      'check',
      '--json',
      '--config',
      '/nowhere',
    );
    expect(printed.exitCode).toBe(3);
    expect(report(printed).mistakes[0]?.message).toBe('cannot be read: there is no such file');
  });
});

describe('what can be tried without starting', () => {
  const tryAll = async (text: string) => report(await check(text, generalProbes, '--json')).probes;
  const ports = 'listen: [{ address: 127.0.0.1, port: 0 }]\nadmin: { listen: 127.0.0.1:0 }\n';

  test('ports that can be opened and a folder that can be made, nothing left behind', async () => {
    const state = join(folder, 'new', 'state');
    const probes = await tryAll(`${ports}state: ${state}\n`);
    expect(probes).toEqual([
      { name: 'ports', ok: true, text: '127.0.0.1:0, 127.0.0.1:0 can be opened' },
      { name: 'state', ok: true, text: `${state} can be made` },
    ]);
    expect(existsSync(join(folder, 'new'))).toBe(false);
  });

  test('a folder that is there is left as it was', async () => {
    const state = join(folder, 'there');
    mkdirSync(state);
    expect((await tryAll(`${ports}state: ${state}\n`))[1]).toEqual({
      name: 'state',
      ok: true,
      text: `${state} can be written to`,
    });
    expect(readdirSync(state)).toEqual([]);
  });

  test('a port that is taken and an address of another machine', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    const listen = `listen: [{ address: 127.0.0.1, port: ${port} }, { address: 192.0.2.1, port: 2525 }]\nadmin: { listen: 127.0.0.1:0 }\n`;
    const [probe] = await tryAll(`${listen}state: ${folder}\n`);
    server.close();
    expect(probe).toEqual({
      name: 'ports',
      ok: false,
      text:
        `127.0.0.1:${port} cannot be opened: something listens there already, perhaps the relay itself; ` +
        '192.0.2.1:2525 cannot be opened: this machine has no such address',
    });
  });

  test('a state folder that is a file', async () => {
    const state = join(folder, 'file');
    writeFileSync(state, '');
    const text = `${state} cannot be written to: it is, or is in, something that is no folder`;
    expect((await tryAll(`${ports}state: ${state}\n`))[1]).toEqual({ name: 'state', ok: false, text });
    expect((await tryAll(`${ports}state: ${state}/below\n`))[1]?.ok).toBe(false);
  });

  test('a state folder where nothing can be written', async () => {
    const [, probe] = await tryAll(`${ports}state: /proc/dane-relay\n`);
    expect(probe).toMatchObject({
      ok: false,
      text: expect.stringContaining('/proc/dane-relay cannot be written to: '),
    });
  });
});
