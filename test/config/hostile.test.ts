/** Whatever is in the file, loading it ends soon, throws nothing, and never opens what is closed by default. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { load, mistakesOf } from './support.ts';

/** The example with its lists and many of its keys switched on. */
const example = readFileSync('config/relay.example.yaml', 'utf8')
  // A key that is managed is not given as a file besides.
  .replace(/^#dkim:\n(?:#.*\n)*/m, '')
  .replace(/^#(?=(?:listen|clients|destinations):| {2,})/gm, '')
  .replace(/^( +)#(?=(?:managed|probe|bogus|port|insecureMx|retry|lifetime|messageSize|listen|level): )/gm, '$1');

test('the file that is spoiled below is good to begin with', () => {
  expect(load(example).ok).toBe(true);
});

test.each([
  ['brackets without end', '['.repeat(50_000)],
  ['braces without end', '{a: '.repeat(20_000)],
  ['deep maps', Array.from({ length: 3_000 }, (_, depth) => `${' '.repeat(depth)}a:\n`).join('')],
  ['deep lists', `listen: ${'['.repeat(500)}${']'.repeat(500)}`],
  [
    'a billion laughs',
    `a: &a [x, x, x, x, x, x, x, x, x]\n${'bcdefghij'.replace(/./g, (name, at: number) => `${name}: &${name} [${Array(9).fill(`*${'abcdefghij'[at]}`).join(', ')}]\n`)}`,
  ],
  ['many aliases', `a: &a x\nlisten: [${'*a, '.repeat(30_000)}]`],
  ['many keys', Array.from({ length: 30_000 }, (_, index) => `k${index}: 1\n`).join('')],
  ['many wrong elements', `clients: [${'1, '.repeat(30_000)}]`],
  ['one endless word', `hostname: ${'a'.repeat(1_000_000)}`],
  ['control characters', 'hostname: "\\u0000\\u0007"\n\u0001: 2'],
  ['the prototype', '__proto__: { clients: [{ name: a, networks: [0.0.0.0/0] }] }'],
  ['constructors', 'constructor: { prototype: 1 }\ntoString: 1\nhasOwnProperty: 2'],
  ['numbers at the edge', 'delivery: { port: .inf, connections: .nan, connectionsPerHost: 1e400, idleTimeout: -0 }'],
])('%s: told as mistakes', (_, text) => {
  const mistakes = mistakesOf(load(text));
  expect(mistakes.length).toBeLessThanOrEqual(100);
  for (const { message, expected } of mistakes) expect(`${message}${expected}`).toMatch(/^[^\u0000-\u001f]{1,1000}$/);
});

test('ten thousand destinations are no trouble', () => {
  const rules = Array.from({ length: 10_000 }, (_, index) => `  - { domain: d${index}.nl, tls: encrypt }\n`).join('');
  const result = load(`destinations:\n${rules}`);
  expect(result.ok && result.config.destinations.length).toBe(10_001);
});

test('any text at all', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.string({ unit: 'binary' })), (text) => {
      const result = load(text);
      if (result.ok) expect(result.config.clients).toEqual([]);
    }),
    { numRuns: 150 },
  );
});

test('any values under the known keys', () => {
  const value = fc.letrec((tie) => ({
    any: fc.oneof(
      { depthSize: 'small' },
      fc.jsonValue(),
      fc.constantFrom('managed', '*', '127.0.0.1:53', '10.0.0.0/8', '5m', '50MB', 'dane', 'sqlite'),
      fc.array(tie('any'), { maxLength: 3 }),
      fc.dictionary(
        fc.constantFrom(
          'name',
          'networks',
          'pins',
          'tls',
          'address',
          'port',
          'domain',
          'via',
          'retry',
          'probe',
          'length',
        ),
        tie('any'),
      ),
    ),
  })).any;
  const keys = [
    'hostname',
    'state',
    'listen',
    'certificate',
    'clients',
    'resolver',
    'destinations',
    'delivery',
    'queue',
    'notices',
    'intake',
    'shutdownGrace',
    'admin',
    'log',
  ];
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...keys), value), (config) => {
      const result = load(JSON.stringify(config));
      for (const client of result.ok ? result.config.clients : []) {
        expect(client.networks.length + client.pins.length).toBeGreaterThan(0);
      }
      if (!result.ok) expect(result.mistakes.every(({ file, message }) => file !== '' && message !== '')).toBe(true);
    }),
    { numRuns: 200 },
  );
});

test('a section where a list belongs, with the key that lists have', () => {
  for (const at of ['destinations', 'listen', 'clients']) {
    for (const length of [false, 0, 1, 1e9, null]) {
      expect(load(JSON.stringify({ [at]: { length } }))).toMatchObject({ ok: false });
    }
  }
});

test('a good file with letters lost, doubled and swapped', () => {
  const edit = fc.record({ at: fc.nat(example.length), cut: fc.nat(3), put: fc.string({ maxLength: 3 }) });
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 6 }), (edits) => {
      const text = edits.reduce((whole, { at, cut, put }) => whole.slice(0, at) + put + whole.slice(at + cut), example);
      const result = load(text);
      const lines = text.split('\n').length;
      for (const { line, column } of result.ok ? [] : result.mistakes) {
        expect(line).toBeGreaterThan(0);
        expect(line).toBeLessThanOrEqual(lines + 1);
        expect(column).toBeGreaterThan(0);
      }
    }),
    { numRuns: 200 },
  );
});

test('any environment', () => {
  const name = fc.constantFrom(
    'HOSTNAME',
    'CLIENTS',
    'LISTEN',
    'DELIVERY',
    'DELIVERY_PORT',
    'RESOLVER',
    'RESOLVER_PROBE',
    'CLIENTS_FILE',
    'X',
  );
  fc.assert(
    fc.property(fc.dictionary(name, fc.oneof(fc.string(), fc.json())), (variables) => {
      const env = Object.fromEntries(Object.entries(variables).map(([key, value]) => [`DANE_RELAY_${key}`, value]));
      const result = load('', env);
      if (!result.ok) expect(result.mistakes[0].file).toMatch(/^DANE_RELAY_/);
    }),
    { numRuns: 150 },
  );
});
