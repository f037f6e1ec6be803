/** `verify`: the contract of interface and exit status, with files and arguments as people and scripts give them. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { verifyCommand } from '../../src/cli/verify.ts';
import { judgeChain } from '../../src/policy/dane/match.ts';
import { judgeRecords, parseTlsa } from '../../src/policy/dane/tlsa.ts';
import { ca, DAY, leaf, NOW, pem, tlsa } from '../policy/dane/pki.ts';
import { runCommands } from './support.ts';

const folder = mkdtempSync(join(tmpdir(), 'dane-verify-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const root = ca('Root', null);
const mx = leaf('mx.example.nl', root);
const old = leaf('mx.example.nl', root, { notAfter: NOW - DAY });
const AT = new Date(NOW).toISOString();

let files = 0;
function file(content: string | Buffer): string {
  const path = join(folder, `${files++}.pem`);
  writeFileSync(path, content);
  return path;
}
const block = ({ der }: { readonly der: Buffer }): string => pem('CERTIFICATE', der);
const chain = file(block(mx) + block(root));

const verify = (...args: string[]) =>
  runCommands([verifyCommand({ parseTlsa, judgeRecords, judgeChain })], 'verify', ...args);

async function answer(path: string, records: readonly string[], ...rest: string[]): Promise<Record<string, unknown>> {
  const printed = await verify(
    '--json',
    '--chain',
    path,
    ...records.flatMap((text) => ['--tlsa', text]),
    '--at',
    AT,
    ...rest,
  );
  return { exitCode: printed.exitCode, ...(JSON.parse(printed.out) as Record<string, unknown>) };
}

const NAME = ['--name', 'mx.example.nl'];

describe('what --json says', () => {
  test('EE-01 a match by DANE-EE, in the shape of the contract', async () => {
    const text = tlsa('3 1 1', mx);
    expect(await answer(chain, [text], ...NAME)).toEqual({
      exitCode: 0,
      verdict: 'authenticated',
      reason: 'dane-ee',
      record: text,
      depth: 0,
      records: [{ text, usable: true, considered: true, why: null }],
      explanation: expect.stringMatching(/^Authenticated: /),
      rfc: 'RFC 7672 §3.1.1',
    });
  });

  test.each<[string, string, readonly string[], readonly string[], object]>([
    ['TA-01 DANE-TA', chain, [tlsa('2 0 1', root)], NAME, { exitCode: 0, reason: 'dane-ta', depth: 1 }],
    [
      'TA-03 an anchor only in DNS counts as the certificate above',
      file(block(mx)),
      [tlsa('2 0 0', root)],
      NAME,
      { exitCode: 0, reason: 'dane-ta', depth: 1 },
    ],
    [
      'CONN-02 no match',
      chain,
      [tlsa('3 1 1', root)],
      NAME,
      { exitCode: 1, verdict: 'not-authenticated', reason: 'no-match', record: null, depth: null },
    ],
    [
      'NAME-01 another name',
      chain,
      [tlsa('2 0 1', root)],
      ['--name', 'x.example.nl'],
      { exitCode: 1, reason: 'name-mismatch' },
    ],
    ['NAME-01 one of several names', chain, [tlsa('2 0 1', root)], ['--name', 'example.nl', ...NAME], { exitCode: 0 }],
    [
      'NAME-12 NAME-13 names in any case, with a trailing dot',
      chain,
      [tlsa('2 0 1', root)],
      ['--name', 'MX.Example.NL.'],
      { exitCode: 0 },
    ],
    [
      'NAME-15 a name that is none matches nothing',
      chain,
      [tlsa('2 0 1', root)],
      ['--name', '.example.nl'],
      { exitCode: 1, reason: 'name-mismatch' },
    ],
    [
      'TA-20 no name: only DANE-EE can match',
      chain,
      [tlsa('2 0 1', root)],
      [],
      { exitCode: 1, reason: 'name-mismatch' },
    ],
    ['TA-12 expired', file(block(old) + block(root)), [tlsa('2 0 1', root)], NAME, { exitCode: 1, reason: 'expired' }],
    [
      'TA-12 not yet expired, two days before',
      file(block(old) + block(root)),
      [tlsa('2 0 1', root)],
      [...NAME, '--at', new Date(NOW - 2 * DAY).toISOString()],
      { exitCode: 0 },
    ],
    [
      'TA-07 an anchor that signed nothing here',
      file(block(leaf('mx.example.nl', null)) + block(root)),
      [tlsa('2 0 1', root)],
      NAME,
      { exitCode: 1, reason: 'not-trusted' },
    ],
    [
      'USE-08 nothing usable',
      chain,
      ['3 1 1 abcd', '1 1 1 ab', '3 1 1'],
      NAME,
      { exitCode: 1, verdict: 'unusable', reason: 'no-usable-record' },
    ],
    [
      'AGI-01 the weaker digest does not count',
      chain,
      [tlsa('3 1 1', mx), `3 1 2 ${'00'.repeat(64)}`],
      NAME,
      { exitCode: 1, reason: 'no-match' },
    ],
    [
      'AGI-09 unless it is preferred',
      chain,
      [tlsa('3 1 1', mx), `3 1 2 ${'00'.repeat(64)}`],
      [...NAME, '--prefer-digest', 'sha256'],
      { exitCode: 0 },
    ],
    [
      'text between the certificates',
      file(`hello\n${block(mx)}\n s:CN=x\n${block(root)}bye`),
      [tlsa('2 0 1', root)],
      NAME,
      { exitCode: 0 },
    ],
    [
      'lines that end in CRLF',
      file((block(mx) + block(root)).replaceAll('\n', '\r\n')),
      [tlsa('2 0 1', root)],
      NAME,
      { exitCode: 0 },
    ],
    [
      'a private key among the certificates',
      file(pem('PRIVATE KEY', Buffer.alloc(40)) + block(mx)),
      [tlsa('3 1 1', mx)],
      NAME,
      { exitCode: 0 },
    ],
    ['no certificate in the file', file('hello'), [tlsa('3 1 1', mx)], NAME, { exitCode: 1, reason: 'bad-chain' }],
    ['an empty file', file(''), [tlsa('3 1 1', mx)], NAME, { exitCode: 1, reason: 'bad-chain' }],
    [
      'a block that is no certificate',
      file(pem('CERTIFICATE', Buffer.from('garbage'))),
      [tlsa('3 1 1', mx)],
      NAME,
      { exitCode: 1, reason: 'bad-chain' },
    ],
    [
      'a block that is no base64',
      file(block(mx).replace('M', '!')),
      [tlsa('3 1 1', mx)],
      NAME,
      { exitCode: 1, reason: 'bad-chain' },
    ],
    [
      'a block without an end',
      file(block(mx).replace(/-----END.*/s, '')),
      [tlsa('3 1 1', mx)],
      NAME,
      { exitCode: 1, reason: 'bad-chain' },
    ],
    [
      'a second block that is garbage',
      file(block(mx) + pem('CERTIFICATE', Buffer.from('x'))),
      [tlsa('3 1 1', mx)],
      NAME,
      { exitCode: 1, reason: 'bad-chain' },
    ],
    [
      '100,000 beginnings',
      file('-----BEGIN CERTIFICATE-----\n'.repeat(100_000)),
      [tlsa('3 1 1', mx)],
      NAME,
      { exitCode: 1, reason: 'bad-chain' },
    ],
  ])('%s', async (_, path, records, rest, expected) => {
    expect(await answer(path, records, ...rest)).toMatchObject(expected);
  });

  test('USE-05 each record is listed as it was given, with why it does not count', async () => {
    const { records } = await answer(chain, ['1 1 1 AB', '\\# 2 0301', tlsa('3 1 1', mx)], ...NAME);
    expect(records).toEqual([
      { text: '1 1 1 ab', usable: false, considered: false, why: expect.any(String) },
      { text: '\\# 2 0301', usable: false, considered: false, why: expect.any(String) },
      { text: tlsa('3 1 1', mx), usable: true, considered: true, why: null },
    ]);
  });
});

describe('wrong usage is exit status 2, with one line that says what is expected', () => {
  const good = ['--chain', chain, '--tlsa', tlsa('3 1 1', mx)];
  test.each<[string, string[], RegExp]>([
    ['no chain', ['--tlsa', tlsa('3 1 1', mx)], /--chain/],
    ['no record', ['--chain', chain], /--tlsa/],
    ['a record that is no record', ['--chain', chain, '--tlsa', 'DANE-EE'], /three numbers/],
    ['a record in base64', ['--chain', chain, '--tlsa', '3 1 1 q6s='], /hexadecimal/],
    ['a time that is none', [...good, '--at', 'yesterday'], /--at/],
    ['a month that is none', [...good, '--at', '2026-13-30T12:00:00Z'], /--at/],
    ['an unknown digest', [...good, '--prefer-digest', 'md5'], /sha256 or sha512/],
    ['an unknown option', [...good, '--nam', 'x'], /--name/],
  ])('%s', async (_, args, says) => {
    const { exitCode, out, err } = await verify(...args);
    expect({ exitCode, out }).toEqual({ exitCode: 2, out: '' });
    expect(err).toMatch(says);
    expect(err.trimEnd().split('\n')).toHaveLength(1);
  });
});

test('a file that is not there is exit status 3', async () => {
  const { exitCode, out, err } = await verify('--chain', join(folder, 'none.pem'), '--tlsa', tlsa('3 1 1', mx));
  expect({ exitCode, out }).toEqual({ exitCode: 3, out: '' });
  expect(err).toMatch(/no such file/);
});

test('a file without end is exit status 3, not a wait without end', async () => {
  expect((await verify('--chain', '/dev/zero', '--tlsa', tlsa('3 1 1', mx))).exitCode).toBe(3);
});

test('without --json it tells the same in lines for people', async () => {
  const { out, exitCode } = await verify('--chain', chain, '--tlsa', tlsa('3 1 1', mx), '--tlsa', '1 1 1 ab');
  expect(exitCode).toBe(0);
  expect(out).toMatch(/^verdict {4}authenticated \(dane-ee\)\n/);
  expect(out).toMatch(/1 1 1 ab\n +usage 1 relies on public CAs/);
});

test('the launcher runs it as a command of its own', async () => {
  const args = ['verify', '--json', '--chain', chain, '--tlsa', tlsa('3 1 1', root), ...NAME];
  const { code, out } = await new Promise<{ code: unknown; out: string }>((resolve) => {
    execFile('./dane-relay', args, (error, stdout) => resolve({ code: error ? error.code : 0, out: stdout }));
  });
  expect(code).toBe(1);
  expect(JSON.parse(out)).toMatchObject({ verdict: 'not-authenticated', reason: 'no-match' });
});
