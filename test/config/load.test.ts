import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { configOf, folder, line, load, mistakesOf } from './support.ts';

const PIN = 'sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=';

/** Loads without a file, in a folder that has none. */
function bare(env: Record<string, string> = {}, machine = 'relay.example.nl') {
  const cwd = join(folder, 'empty');
  mkdirSync(cwd, { recursive: true });
  return loadConfig({ path: null, env, cwd, machine });
}

/** What a rule says of nothing else. */
const plain = { pins: [], via: null, connections: null, rate: null, reportUntil: null };

describe('without a configuration', () => {
  test('the defaults are safe: loopback, STARTTLS, its own certificate, SQLite, managed Unbound, DANE, no client', () => {
    const state = join(folder, 'empty', 'var');
    expect(configOf(bare())).toEqual({
      hostname: 'relay.example.nl',
      state,
      listen: [{ address: '127.0.0.1', port: 2525, tls: 'starttls' }],
      certificate: { cert: join(state, 'relay.pem'), key: join(state, 'relay.key') },
      clients: [],
      resolver: { kind: 'managed', include: null, anchor: null, probe: { signed: '.', bogus: ['dnssec-failed.org'] } },
      destinations: [
        {
          ...plain,
          domain: '*',
          tls: 'dane',
          origin: { file: null, line: null, text: 'no rule fits, so it is tls: dane' },
        },
      ],
      delivery: {
        port: 25,
        insecureMx: 'dane',
        authorities: null,
        mtaSts: 'on',
        mtaStsPort: 443,
        minimum: 'may',
        reportUntil: null,
        connections: 500,
        connectionsPerHost: 20,
        messagesPerConnection: 100,
        connectTimeout: 30_000,
        idleTimeout: 5_000,
        timeouts: {
          greeting: 300_000,
          ehlo: 300_000,
          starttls: 120_000,
          handshake: 60_000,
          mail: 300_000,
          rcpt: 300_000,
          data: 120_000,
          block: 180_000,
          final: 600_000,
          quit: 5_000,
        },
      },
      queue: {
        retry: [300_000, 900_000, 1_800_000, 3_600_000, 7_200_000],
        lifetime: 432_000_000,
        tlsLifetime: null,
        delayNotice: 14_400_000,
        store: 'sqlite',
      },
      workers: 'auto',
      shutdownGrace: 30_000,
      dkim: [],
      notices: { language: 'en' },
      tlsReports: null,
      intake: {
        messageSize: 50_000_000,
        recipients: 1_000,
        connections: 500,
        connectionsPerClient: 100,
        hops: 100,
        bareNewlines: 'normalize',
        longLines: 'pass',
      },
      admin: { listen: { address: '127.0.0.1', port: 8025 } },
      log: { level: 'info' },
    });
  });

  test('it says that nobody may send yet, and which keys were left to their defaults', () => {
    const result = bare();
    expect(result).toMatchObject({
      ok: true,
      file: null,
      notes: ['Nobody may send mail through this relay yet: no client is named under "clients".'],
    });
    expect(result.ok && result.defaultsUsed).toContain('clients');
  });

  test.each([
    ['vm', 'vm'],
    ['under_score', 'under_score'],
    ['Relay.Example.NL.', 'relay.example.nl'],
    ['10.0.0.1', 'localhost'],
    ['a b', 'localhost'],
    ['', 'localhost'],
  ])('on a machine named %j the relay is called %j', (machine, hostname) => {
    const result = bare({}, machine);
    expect(configOf(result).hostname).toBe(hostname);
    const isNoted = result.ok && result.notes.some((note) => note.includes('is not a full name'));
    expect(isNoted).toBe(!hostname.includes('.'));
  });

  test.each(['', '# nothing\n', '---\n', 'delivery:\nlog:\nresolver:\n  probe:\ncertificate:\n', '{}', 'null'])(
    'a file with nothing in it is the same as no file: %j',
    (text) => {
      const { state, certificate, ...rest } = configOf(load(text));
      const { state: bareState, certificate: bareCertificate, ...defaults } = configOf(bare());
      expect(rest).toEqual(defaults);
      expect(state).toBe(join(folder, 'var'));
      expect(certificate.cert).toBe(join(state, 'relay.pem'));
      expect(bareCertificate.cert).toBe(join(bareState, 'relay.pem'));
    },
  );
});

describe('what is written is settled', () => {
  test('the example of the contract', () => {
    const config = configOf(
      load(`hostname: relay.example.nl
state: /var/lib/dane-relay            # queue, keys, evidence; default ./var
listen:
  - { address: 127.0.0.1, port: 2525, tls: starttls }        # starttls | implicit
certificate: { cert: relay.pem, key: relay.key }             # made at first start when absent
clients:                                                     # nobody may send until named here
  - name: exchange
    networks: [10.1.0.0/16]           # where both are given, network and pin must both hold
    pins: ["${PIN}"]
    tls: required                     # required | optional
    senders: [example.nl, "*.example.nl"]
resolver: managed
destinations:                         # first match wins; the last line is the default
  - { domain: partner.nl, tls: dane-only }
  - { domain: bank.example, tls: encrypt }
  - { domain: plant.example, via: "[10.2.0.9]:25", tls: may }
  - { domain: "*", tls: dane }
delivery: { port: 25, insecureMx: dane }
queue: { retry: [5m, 15m, 30m, 1h, 2h], lifetime: 5d, delayNotice: 4h, store: sqlite }
admin: { listen: 127.0.0.1:8025 }
log: { level: info }
`),
    );
    expect(config).toMatchObject({
      state: '/var/lib/dane-relay',
      certificate: { cert: join(folder, 'relay.pem'), key: join(folder, 'relay.key') },
      clients: [
        {
          name: 'exchange',
          networks: ['10.1.0.0/16'],
          pins: [PIN],
          tls: 'required',
          senders: ['example.nl', '*.example.nl'],
        },
      ],
      destinations: [
        { domain: 'partner.nl', tls: 'dane-only', via: null },
        { domain: 'bank.example', tls: 'encrypt', via: null },
        { domain: 'plant.example', tls: 'may', via: { kind: 'literal', address: '10.2.0.9', port: 25 } },
        { domain: '*', tls: 'dane', via: null },
      ],
    });
  });

  test('a table of destinations that names no default ends with DANE for all others', () => {
    const { destinations } = configOf(load('destinations: [{ domain: a.nl, tls: may }]'));
    expect(destinations).toEqual([
      { ...plain, domain: 'a.nl', tls: 'may', origin: { file: 'relay.yaml', line: 1, text: 'domain: a.nl, tls: may' } },
      {
        ...plain,
        domain: '*',
        tls: 'dane',
        origin: { file: null, line: null, text: 'no rule fits, so it is tls: dane' },
      },
    ]);
  });

  test('a client without networks, pins or senders of its own has empty lists of them and every sender', () => {
    const { clients } = configOf(load(`clients: [{ name: a, networks: [10.0.0.1] }, { name: b, pins: ["${PIN}"] }]`));
    expect(clients).toEqual([
      { name: 'a', networks: ['10.0.0.1/32'], pins: [], tls: 'required', senders: ['*'], rate: null },
      { name: 'b', networks: [], pins: [PIN], tls: 'required', senders: ['*'], rate: null },
    ]);
  });

  test.each([
    ['resolver: managed', { kind: 'managed', include: null, anchor: null }],
    ['resolver: { managed: true, include: zones.conf }', { kind: 'managed', include: join(folder, 'zones.conf') }],
    ['resolver: { anchor: /etc/root.key }', { kind: 'managed', anchor: '/etc/root.key' }],
    ['resolver: 127.0.0.1:5353', { kind: 'external', endpoint: { address: '127.0.0.1', port: 5353 } }],
    ['resolver: 127.1.2.3', { kind: 'external', endpoint: { address: '127.1.2.3', port: 53 } }],
    ['resolver: "[::1]:53"', { kind: 'external', endpoint: { address: '::1', port: 53 } }],
    [
      'resolver: { address: 127.0.0.1:53, probe: { signed: test, bogus: [bogus.test] } }',
      { kind: 'external', probe: { signed: 'test', bogus: ['bogus.test'] } },
    ],
  ])('%s', (text, resolver) => {
    expect(configOf(load(text)).resolver).toMatchObject(resolver);
  });

  test('an alias is what it stands for', () => {
    const text = 'clients:\n  - { name: a, networks: &office [10.0.0.0/8] }\n  - { name: b, networks: *office }\n';
    expect(configOf(load(text)).clients.map(({ networks }) => networks)).toEqual([['10.0.0.0/8'], ['10.0.0.0/8']]);
  });

  test.each([
    [
      'a rule that sends to an address under dane',
      'destinations: [{ domain: a.nl, via: "[192.0.2.1]" }]',
      'where DANE cannot apply',
    ],
    ['a delay notice after the end', 'queue: { lifetime: 2h }', 'Nobody is told of a late message'],
    ['metrics for everybody', 'admin: { listen: 0.0.0.0:8025 }', 'Everybody who can reach 0.0.0.0'],
    [
      'RPT-12 TLS reports without a key',
      'tlsReports: { organisation: A, contact: tls@a.nl }',
      'TLS reports go by HTTPS only: nothing under "dkim" signs for a.nl',
    ],
    ['a short name', 'hostname: relay', 'The hostname, relay, is not a full name'],
  ])('%s is noted, not refused', (_, text, note) => {
    const result = load(text);
    expect(result.ok && result.notes.join('\n')).toContain(note);
  });

  test('a delay notice may be switched off', () => {
    expect(configOf(load('queue: { lifetime: 2h, delayNotice: never }')).queue.delayNotice).toBeNull();
  });
});

describe('which file is read', () => {
  const dir = (name: string): string => {
    mkdirSync(join(folder, name, 'config'), { recursive: true });
    return join(folder, name);
  };

  test('the one that is named, else that of DANE_RELAY_CONFIG, else config/relay.yaml', () => {
    const cwd = dir('three');
    writeFileSync(join(cwd, 'named.yaml'), 'hostname: named.example.nl\ncertificate: { cert: a.pem, key: a.key }\n');
    writeFileSync(join(cwd, 'variable.yaml'), 'hostname: variable.example.nl\n');
    writeFileSync(join(cwd, 'config', 'relay.yaml'), 'hostname: usual.example.nl\nstate: state\n');
    const env = { DANE_RELAY_CONFIG: 'variable.yaml' };
    const named = configOf(loadConfig({ path: 'named.yaml', env, cwd }));
    expect([named.hostname, named.certificate.cert]).toEqual(['named.example.nl', join(cwd, 'a.pem')]);
    expect(configOf(loadConfig({ path: null, env, cwd })).hostname).toBe('variable.example.nl');
    const usual = configOf(loadConfig({ path: null, env: {}, cwd }));
    expect([usual.hostname, usual.state]).toEqual(['usual.example.nl', join(cwd, 'config', 'state')]);
  });

  test.each([
    [
      'a file that is not there',
      { path: 'nowhere.yaml' },
      true,
      'nowhere.yaml',
      'cannot be read: there is no such file',
    ],
    [
      'a variable that names none',
      { variable: 'gone.yaml' },
      true,
      'gone.yaml',
      'cannot be read: there is no such file',
    ],
    ['a folder', { path: 'config' }, false, 'config', 'cannot be read: it is a folder'],
    [
      'something endless',
      { path: '/dev/zero' },
      false,
      '/dev/zero',
      'cannot be read: it is larger than 8388608 octets',
    ],
    ['something that is no text', { path: 'binary' }, false, 'binary', 'cannot be read: it is not text in UTF-8'],
  ])('%s is a mistake', (_, { path, variable }: { path?: string; variable?: string }, missing, file, message) => {
    const cwd = dir('unreadable');
    writeFileSync(join(cwd, 'binary'), Buffer.from([0xff, 0xfe, 0x00]));
    const env = variable === undefined ? {} : { DANE_RELAY_CONFIG: variable };
    expect(loadConfig({ path: path ?? null, env, cwd })).toEqual({
      ok: false,
      missing,
      mistakes: [{ file, line: null, column: null, path: '', message, expected: '' }],
    });
  });
});

describe('values from the environment', () => {
  test('replace what the file says', () => {
    const config = configOf(
      load('hostname: file.example.nl\ndelivery: { port: 2500, connections: 7 }\n', {
        DANE_RELAY_HOSTNAME: 'variable.example.nl',
        DANE_RELAY_DELIVERY_PORT: '2525',
        DANE_RELAY_DELIVERY_INSECURE_MX: 'encrypt',
        DANE_RELAY_QUEUE_RETRY: '[1m, 2m]',
        DANE_RELAY_CLIENTS: '[{ name: app, networks: [10.0.0.0/8] }]',
        DANE_RELAY_RESOLVER: '[::1]:53',
        DANE_RELAY_LOG: '{ level: debug }',
        OTHER_RELAY_HOSTNAME: 'x',
      }),
    );
    expect(config).toMatchObject({
      hostname: 'variable.example.nl',
      delivery: { port: 2525, connections: 7, insecureMx: 'encrypt' },
      queue: { retry: [60_000, 120_000] },
      clients: [{ name: 'app' }],
      resolver: { kind: 'external', endpoint: { address: '::1', port: 53 } },
      log: { level: 'debug' },
    });
  });

  test('a section and one of its keys: the key wins', () => {
    const env = { DANE_RELAY_DELIVERY_PORT: '26', DANE_RELAY_DELIVERY: '{ port: 27, connections: 3 }' };
    expect(configOf(load('delivery: { idleTimeout: 9s }', env)).delivery).toMatchObject({
      port: 26,
      connections: 3,
      idleTimeout: 5_000,
    });
  });

  test('a key of a resolver that the file has in its short form', () => {
    const { resolver } = configOf(load('resolver: managed', { DANE_RELAY_RESOLVER_INCLUDE: '/etc/zones.conf' }));
    expect(resolver).toMatchObject({ kind: 'managed', include: '/etc/zones.conf' });
  });

  test('a value that is in a file, its last newline taken off', () => {
    const secret = join(folder, 'clients.secret');
    writeFileSync(secret, '- name: app\n  networks: [10.0.0.0/8]\n');
    writeFileSync(join(folder, 'name.secret'), 'secret.example.nl\n');
    const config = configOf(
      load('', { DANE_RELAY_CLIENTS_FILE: secret, DANE_RELAY_HOSTNAME_FILE: join(folder, 'name.secret') }),
    );
    expect([config.hostname, config.clients.length]).toEqual(['secret.example.nl', 1]);
  });

  test('an empty variable is not set', () => {
    expect(configOf(load('hostname: a.nl', { DANE_RELAY_HOSTNAME: '', DANE_RELAY_UNKNOWN: '' })).hostname).toBe('a.nl');
  });

  test.each<[Record<string, string>, string[]]>([
    [
      { DANE_RELAY_HOSTNAM: 'x' },
      [
        'DANE_RELAY_HOSTNAM : is not a known variable | a key after DANE_RELAY_, as in DANE_RELAY_HOSTNAME | DANE_RELAY_HOSTNAME',
      ],
    ],
    [
      { DANE_RELAY_DKIM: '[{ domain: example.nl }]' },
      ['DANE_RELAY_DKIM dkim[0]: has no selector and no key | selector and key, or managed: true'],
    ],
    [
      { DANE_RELAY_HOSTNAME: 'a b' },
      ['DANE_RELAY_HOSTNAME hostname: "a b" is not a host name | a full host name such as relay.example.nl'],
    ],
    [
      { DANE_RELAY_DELIVERY_PORT: 'smtp' },
      ['DANE_RELAY_DELIVERY_PORT delivery.port: is "smtp" | a whole number from 1 to 65535'],
    ],
    [
      { DANE_RELAY_DELIVERY: '{ prot: 1 }' },
      [
        expect.stringMatching(
          /^DANE_RELAY_DELIVERY delivery.prot: is not a known key .* \| port$/,
        ) as unknown as string,
      ],
    ],
    [
      { DANE_RELAY_CLIENTS: '[{ name: x, networks: [10.0.0.0/33] }]' },
      [
        'DANE_RELAY_CLIENTS clients[0].networks[0]: "10.0.0.0/33" has a prefix length above 32 | a network such as 10.1.0.0/16 or 2001:db8::/32, or one address',
      ],
    ],
    [
      { DANE_RELAY_LISTEN: '[{' },
      [expect.stringMatching(/^DANE_RELAY_LISTEN listen: is not valid YAML: /) as unknown as string],
    ],
    [
      { DANE_RELAY_RESOLVER: '10.0.0.53:53' },
      [expect.stringMatching(/^DANE_RELAY_RESOLVER resolver: .* is not on this machine/) as unknown as string],
    ],
    [
      { DANE_RELAY_STATE_FILE: '/nowhere/at/all' },
      ['DANE_RELAY_STATE_FILE state: names a file that cannot be read: there is no such file | '],
    ],
    [
      { DANE_RELAY_STATE_FILE: '/x', DANE_RELAY_STATE: '/y' },
      ['DANE_RELAY_STATE_FILE state: is set, and DANE_RELAY_STATE is set as well | one of the two'],
    ],
  ])('a mistake names the variable: %j', (env, expected) => {
    expect(mistakesOf(load('', env)).map(line)).toEqual(expected);
  });

  test('a mistake in the file keeps its place beside one in a variable', () => {
    const mistakes = mistakesOf(load('delivery: { port: 0 }\n', { DANE_RELAY_LOG_LEVEL: 'loud' })).map(line);
    expect(mistakes.map((each) => each.split(':').slice(0, 2).join(':'))).toEqual([
      '1:19 delivery.port',
      'DANE_RELAY_LOG_LEVEL log.level: is "loud" | debug, info, warn or error'.split(':').slice(0, 2).join(':'),
    ]);
  });
});
