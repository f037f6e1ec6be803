/** `tlsa`: records for a zone file, out of a file or of a server. */
import { describe, expect, test } from 'vitest';
import { tlsaCommand } from '../../src/cli/tlsa.ts';
import { pem, tlsa } from '../policy/dane/pki.ts';
import { block, file, mailHost, mx, root } from './certificates.ts';
import { runCommands } from './support.ts';

const run = (...args: string[]) => runCommands([tlsaCommand()], 'tlsa', ...args);
const chain = file(block(mx) + block(root));

describe('records of a file', () => {
  test.each<[string, string, string[], string]>([
    ['the usual one', chain, [], tlsa('3 1 1', mx)],
    ['the whole certificate', chain, ['--selector', '0'], tlsa('3 0 1', mx)],
    ['SHA-512', chain, ['--matching', '2'], tlsa('3 1 2', mx)],
    ['in full', chain, ['--matching', '0'], tlsa('3 1 0', mx)],
    ['the issuer', chain, ['--usage', '2'], tlsa('2 1 1', root)],
    ['a file with the issuer alone', file(block(root)), ['--usage', '2', '--selector', '0'], tlsa('2 0 1', root)],
    ['a certificate in DER', file(mx.der), [], tlsa('3 1 1', mx)],
    [
      'with a name: a line for the zone',
      chain,
      ['--name', 'MX.example.nl.'],
      `_25._tcp.mx.example.nl. IN TLSA ${tlsa('3 1 1', mx)}`,
    ],
    [
      'another port',
      chain,
      ['--name', 'mx.example.nl', '--port', '587'],
      `_587._tcp.mx.example.nl. IN TLSA ${tlsa('3 1 1', mx)}`,
    ],
  ])('%s', async (_, path, options, line) => {
    expect(await run(path, ...options)).toEqual({ out: `${line}\n`, err: '', exitCode: 0 });
  });

  test('as JSON', async () => {
    const { out } = await run(chain, '--json', '--name', 'mx.example.nl');
    expect(JSON.parse(out)).toEqual({
      name: '_25._tcp.mx.example.nl',
      records: [{ text: tlsa('3 1 1', mx), depth: 0 }],
    });
  });

  test.each<[string, string[], number, RegExp]>([
    ['usage 1', [chain, '--usage', '1'], 2, /3 or 2/],
    ['selector 2', [chain, '--selector', '2'], 2, /--selector/],
    ['a name that is none', [chain, '--name', 'a b'], 2, /no host name/],
    ['no argument', [], 2, /missing/],
    ['no such file', ['/nowhere.pem'], 3, /no such file/],
    ['no certificate inside', [file('text')], 3, /no certificate/],
    ['garbage inside', [file(pem('CERTIFICATE', Buffer.from('x')))], 3, /no certificate/],
  ])('%s', async (_, args, exitCode, says) => {
    const printed = await run(...args);
    expect(printed).toMatchObject({ exitCode, out: '' });
    expect(printed.err).toMatch(says);
  });
});

describe('records of a server', () => {
  test('SMTP with STARTTLS: what it sends, under its name and port', async () => {
    const host = await mailHost();
    const { out, exitCode } = await run(`127.0.0.1:${host.port}`, '--name', 'mx.example.nl', '--json');
    expect(exitCode).toBe(0);
    expect(JSON.parse(out)).toEqual({
      name: `_${host.port}._tcp.mx.example.nl`,
      records: [{ text: tlsa('3 1 1', mx), depth: 0 }],
    });
    expect(host.story).toMatch(/^EHLO \S+ \| STARTTLS/);
  });

  test('the issuers that it sends', async () => {
    const host = await mailHost();
    const { out } = await run(`127.0.0.1:${host.port}`, '--usage', '2', '--name', 'mx.example.nl', '--port', '25');
    expect(out).toBe(`_25._tcp.mx.example.nl. IN TLSA ${tlsa('2 1 1', root)}\n`);
  });

  test.each<[string, Parameters<typeof mailHost>[0], RegExp]>([
    ['no STARTTLS', { tls: null }, /does not offer STARTTLS/],
    ['STARTTLS refused', { starttls: '454 4.7.0 not now' }, /454 4\.7\.0 not now/],
    ['a greeting that turns away', { greeting: '554 go away' }, /554 go away/],
    ['gone after the greeting', { ehlo: { close: '' } }, /closed|ended|ECONNRESET/i],
    ['no handshake', { handshake: 'close' }, /./],
  ])('%s is exit status 3', async (_, change, says) => {
    const host = await mailHost(change);
    const { out, err, exitCode } = await run(`127.0.0.1:${host.port}`);
    expect({ out, exitCode }).toEqual({ out: '', exitCode: 3 });
    expect(err).toMatch(says);
    expect(err.trimEnd().split('\n')).toHaveLength(1);
  });

  test('nobody there is exit status 3', async () => {
    const host = await mailHost();
    await host.close();
    expect(await run(`127.0.0.1:${host.port}`)).toMatchObject({ exitCode: 3, out: '' });
  });
});
