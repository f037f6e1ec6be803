/** `explain` as scripts and people see it, against the lab: the real command, real zones, real hosts. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Lab, startLab } from '../../lab/lab.ts';
import { freePort, runCommand } from '../../lab/relay.ts';
import type { FullExplanation } from '../../src/cli/explain.ts';

let lab: Lab;
let folder: string;
let config: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dane-explain-'));
  lab = await startLab({
    port: 0,
    zones: () => ({
      'implicit.test': { records: ['@ A 127.9.9.9'], dnssec: 'signed' },
      'empty.test': { records: ['@ TXT "no mail host and no address"'], dnssec: 'signed' },
      'nowhere.test': { records: ['@ MX 10 gone', '@ MX 20 127.0.0.1.', '@ MX 30 bad\\046name'], dnssec: 'signed' },
      'other-name.test': { records: ['@ MX 10 mx.dane-ee.test.', 'www CNAME @'], dnssec: 'signed' },
    }),
  });
  config = join(folder, 'relay.yaml');
  await writeConfig({});
});

afterAll(async () => {
  await lab?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function writeConfig(more: object): Promise<void> {
  await writeFile(
    config,
    JSON.stringify({
      resolver: lab.resolver,
      delivery: { port: lab.port, ca: lab.web.ca, mtaStsPort: lab.web.port },
      ...more,
    }),
  );
}

async function explained(...words: string[]): Promise<FullExplanation & { readonly exit: number | null }> {
  const { stdout, stderr, status } = await runCommand('explain', ...words, '--json', '--config', config);
  expect(stderr).toBe('');
  return { ...JSON.parse(stdout), exit: status };
}

describe('what scripts get', () => {
  test('the shape of the contract, in full, for a good host that was dialled', async () => {
    const { exit, ...answer } = await explained('bob@dane-ee.test', '--connect');
    const record = expect.stringMatching(/^3 1 1 [0-9a-f]{64}$/);
    expect(exit).toBe(0);
    expect(answer).toMatchObject({
      domain: 'dane-ee.test',
      mx: { kind: 'mx', dnssec: 'secure', expanded: null },
      hosts: [
        {
          name: 'mx.dane-ee.test',
          preference: 10,
          addresses: [lab.address('mx.dane-ee.test')],
          addressDnssec: 'secure',
          tlsa: {
            name: `_${lab.port}._tcp.mx.dane-ee.test`,
            dnssec: 'secure',
            records: [{ text: record, usable: true, considered: true, why: null }],
          },
          policy: 'dane',
          sni: 'mx.dane-ee.test',
          referenceNames: ['mx.dane-ee.test', 'dane-ee.test'],
          code: 'tlsa-usable',
          connection: {
            address: lab.address('mx.dane-ee.test'),
            verdict: 'authenticated',
            record,
            depth: 0,
            tls: { version: 'TLSv1.3', cipher: expect.any(String), group: 'X25519MLKEM768', grade: 'sufficient' },
            code: 'dane-ee',
            reason: expect.any(String),
          },
        },
      ],
      outcome: 'authenticated',
      status: null,
      code: 'dane-ee',
      explanation: expect.stringMatching(/^Authenticated: .*\.$/),
      rfc: 'RFC 7672 §3.1.1',
    });
    expect(answer.lookups.map(({ name, type, dnssec }) => `${type} ${name} ${dnssec}`)).toEqual([
      'MX dane-ee.test secure',
      'TXT _mta-sts.dane-ee.test secure',
      'A mx.dane-ee.test secure',
      'AAAA mx.dane-ee.test secure',
      `TLSA _${lab.port}._tcp.mx.dane-ee.test secure`,
    ]);
  });

  test.each<[string, string[], string, string | null, string, number]>([
    // what                                   words                                     outcome          status   code                     exit
    ['without dialling, DANE is taken to hold', ['wrong-certificate.test'], 'authenticated', null, 'tlsa-usable', 0],
    ['CONN-02 dialled, it does not', ['wrong-certificate.test', '--connect'], 'deferred', '4.7.5', 'tlsa-mismatch', 1],
    ['CONN-03 STARTTLS stripped', ['stripped.test', '--connect'], 'deferred', '4.7.4', 'starttls-not-offered', 1],
    ['TLSA-10 TLSA lookup fails', ['lookup-fails.test', '--connect'], 'deferred', '4.7.5', 'tlsa-lookup-failed', 1],
    ['no TLSA, not dialled', ['no-tlsa.test'], 'opportunistic', null, 'tlsa-absent', 0],
    ['no TLSA, dialled', ['no-tlsa.test', '--connect'], 'encrypted', null, 'encrypted-opportunistic', 0],
    ['CONN-08 no TLSA, no STARTTLS', ['clear.test', '--connect'], 'clear', null, 'clear-not-offered', 0],
    ['CONN-07 all unusable', ['unusable.test', '--connect'], 'encrypted', null, 'encrypted-unauthenticated', 0],
    ['PREF-03 the second host', ['two-hosts.test', '--connect'], 'authenticated', null, 'dane-ee', 0],
    ['MX-06 null MX', ['null-mx.test'], 'bounced', '5.1.10', 'null-mx', 1],
    ['MX-02 bogus', ['bogus.test'], 'deferred', '4.4.3', 'mx-lookup-failed', 1],
    ['MX-03 no such domain', ['no-such-domain.test'], 'bounced', '5.1.2', 'no-such-domain', 1],
    ['MX-05 neither MX nor address', ['empty.test'], 'bounced', '5.4.4', 'no-mail-host', 1],
    ['MX-04 implicit MX', ['implicit.test'], 'opportunistic', null, 'tlsa-absent', 0],
    ['MX-15 address literal', ['[192.0.2.1]'], 'opportunistic', null, 'literal-address', 0],
    ['MX-13 MX-14 no host that may be used', ['nowhere.test'], 'bounced', '5.4.4', expect.any(String), 1],
  ])('%s', async (_, words, outcome, status, code, exit) => {
    expect(await explained(...words)).toMatchObject({ outcome, status, code, exit });
  });

  test.each<[string, string, string | null]>([
    ['null-mx.test', 'null', 'secure'],
    ['no-such-domain.test', 'none', 'secure'],
    ['empty.test', 'none', 'secure'],
    ['implicit.test', 'implicit', 'secure'],
    ['unsigned.test', 'mx', 'insecure'],
    ['bogus.test', 'failed', 'error'],
    ['[192.0.2.1]', 'literal', null],
  ])('mx of %s: kind %s, dnssec %s', async (domain, kind, dnssec) => {
    expect((await explained(domain)).mx).toMatchObject({ kind, dnssec });
  });

  test('MX-13 MX-14 ADDR-05 hosts that may not be used are listed with their code, and never dialled', async () => {
    const { hosts } = await explained('nowhere.test', '--connect');
    expect(hosts.map(({ policy, code, connection }) => [policy, code, connection])).toEqual([
      ['skip', 'host-without-address', null],
      ['skip', 'host-name-illegal', null],
      ['skip', 'host-name-illegal', null],
    ]);
  });

  test('MX-08 an alias of a domain is told, and its names count', async () => {
    const { mx, hosts } = await explained('www.other-name.test');
    expect(mx.expanded).toBe('other-name.test');
    expect(hosts[0]?.referenceNames).toEqual(['mx.dane-ee.test', 'www.other-name.test', 'other-name.test']);
  });

  test('IDN-01 a domain in other scripts is asked for in A-labels', async () => {
    expect((await explained('bob@Bücher.test')).domain).toBe('xn--bcher-kva.test');
  });

  test('a route and dane-only from the configuration', async () => {
    await writeConfig({
      destinations: [
        { domain: 'no-tlsa.test', tls: 'dane-only' },
        { domain: 'routed.test', tls: 'dane', via: `[mx.dane-ee.test]:${lab.port}` },
        { domain: 'elsewhere.test', tls: 'dane', via: 'dane-ee.test' },
      ],
    });
    expect(await explained('no-tlsa.test', '--connect')).toMatchObject({
      outcome: 'deferred',
      status: '4.7.5',
      hosts: [{ policy: 'skip', code: 'dane-only-no-tlsa', connection: null }],
    });
    expect(await explained('routed.test', '--connect')).toMatchObject({
      mx: { kind: 'route', dnssec: null },
      via: null,
      outcome: 'authenticated',
    });
    expect(await explained('elsewhere.test')).toMatchObject({ domain: 'elsewhere.test', via: 'dane-ee.test' });
    expect((await runCommand('explain', 'elsewhere.test', '--config', config)).stdout).toContain(
      'route    as mail for dane-ee.test: by its MX records  signed',
    );
    await writeConfig({});
  });

  test('--resolver and --port stand in for the configuration', async () => {
    const { server } = lab.dns;
    const words = ['--resolver', `${server.address}:${server.port}`, '--port', '2599'];
    const { hosts } = await explained('dane-ee.test', ...words);
    expect(hosts[0]?.tlsa?.name).toBe('_2599._tcp.mx.dane-ee.test');
  });
});

describe('what is refused', () => {
  test.each<[string, string[], number, RegExp]>([
    ['no domain', ['exa mple'], 2, /is no domain name/],
    ['an empty label', ['a..b'], 2, /is no domain name/],
    ['no argument', [], 2, /missing required argument/],
    ['an unknown option', ['dane-ee.test', '--conect'], 2, /--connect/],
    ['a wrong port', ['dane-ee.test', '--port', '70000'], 2, /--port 70000/],
    ['DNS-15 a resolver elsewhere', ['dane-ee.test', '--resolver', '192.0.2.53:53'], 2, /not on this machine/],
    ['a configuration that is not there', ['dane-ee.test', '--config', '/nonexistent.yaml'], 3, /nonexistent/],
  ])('%s', async (_, words, exit, says) => {
    const { status, stdout, stderr } = await runCommand('explain', ...words);
    expect([status, stdout]).toEqual([exit, '']);
    expect(stderr).toMatch(says);
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  test('DNS-17 a resolver that does not answer: exit 3, nothing is taken for granted', async () => {
    const answer = await explained('dane-ee.test', '--resolver', `127.0.0.1:${await freePort()}`, '--connect');
    expect(answer).toMatchObject({ exit: 3, outcome: 'deferred', code: 'resolver-untrusted', hosts: [] });
  });
});

test('people get every lookup, record, name and certificate, and the same outcome', async () => {
  const { stdout, status } = await runCommand('explain', 'dane-ta.test', '--connect', '--config', config);
  expect(status).toBe(0);
  for (const line of [
    /^route +dane-ta\.test: by its MX records {2}signed$/m,
    /^asked +MX +dane-ta\.test +signed {2}10 mx\.dane-ta\.test$/m,
    /^ +counts +2 0 1 [0-9a-f]{64}$/m,
    /^names +mx\.dane-ta\.test or dane-ta\.test$/m,
    /^sent 0 +for mx\.dane-ta\.test, issued by Lab Issuer, valid \d{4}-/m,
    /^match +2 0 1 [0-9a-f]{64} {2}at depth 2$/m,
    /^outcome +authenticated$/m,
  ]) {
    expect(stdout).toMatch(line);
  }
  expect(stdout).not.toContain('\u001b');
});

test('a failed lookup is shown with its extended DNS error', async () => {
  const { stdout } = await runCommand('explain', 'lookup-fails.test', '--config', config);
  expect(stdout).toMatch(/^ +TLSA .* FAILED {2}SERVFAIL \(DNSSEC bogus\) {2}EDE 6$/m);
});

describe('MTA-STS', () => {
  test('STS-04 STS-06 the policy that was found, and why a host is ruled out', async () => {
    const good = await explained('sts-enforced.test', '--connect');
    expect(good).toMatchObject({
      exit: 0,
      outcome: 'authenticated',
      code: 'webpki-matched',
      sts: {
        domain: 'sts-enforced.test',
        mode: 'enforce',
        id: '1',
        maxAge: 604_800,
        mx: ['mx.sts-enforced.test'],
        why: null,
        failure: null,
      },
      hosts: [
        { policy: 'sts', sni: 'mx.sts-enforced.test', referenceNames: ['mx.sts-enforced.test'], code: 'sts-enforce' },
      ],
    });
    expect(good.sts?.age).toBeLessThan(60);
    expect(await explained('sts-other-host.test')).toMatchObject({
      exit: 1,
      outcome: 'deferred',
      status: '4.7.5',
      code: 'sts-mx-not-listed',
      hosts: [{ policy: 'skip', code: 'sts-mx-not-listed', connection: null }],
    });
  });

  test('STS-07 a policy that cannot be had', async () => {
    expect(await explained('sts-missing.test')).toMatchObject({
      exit: 0,
      outcome: 'opportunistic',
      sts: { mode: null, failure: 'sts-policy-fetch-error', why: expect.stringContaining('answers 404, not 200') },
    });
  });

  test('for people', async () => {
    const { stdout } = await runCommand('explain', 'sts-enforced.test', '--config', config);
    expect(stdout).toMatch(/^mta-sts +enforce {2}policy 1 of sts-enforced\.test {2}fetched \d+ s ago, holds 7 days$/m);
    expect(stdout).toMatch(/^ +lists mx\.sts-enforced\.test$/m);
    expect(stdout).toMatch(/^policy +sts /m);
    const { stdout: none } = await runCommand('explain', 'sts-missing.test', '--config', config);
    expect(none).toMatch(/^mta-sts +no policy {2}\(https:\/\/mta-sts\.sts-missing\.test\/.* answers 404, not 200\)$/m);
  });

  test('off: nobody is asked', async () => {
    await writeConfig({ delivery: { port: lab.port, mtaSts: 'off' } });
    const { sts, lookups, exit } = await explained('sts-other-host.test');
    expect([sts, exit]).toEqual([null, 0]);
    expect(lookups.filter(({ type }) => type === 'TXT')).toEqual([]);
    await writeConfig({});
  });
});
