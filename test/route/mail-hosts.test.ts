import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { NextHop, Route } from '../../src/model/route.ts';
import { createLocator } from '../../src/route/addresses.ts';
import { createRouter, judgeMx, type Self } from '../../src/route/mail-hosts.ts';
import { createResolver } from '../../src/route/resolver.ts';
import { a, type FakeDns, message, mx, startFakeDns, TYPE } from '../support/fake-dns.ts';
import { bogus, type RouteLab, signed, startRouteLab, unsigned } from '../support/route-lab.ts';

let lab: RouteLab;

beforeAll(async () => {
  lab = await startRouteLab({
    'good.test': signed(
      '@ MX 20 mx2',
      '@ MX 10 mx1',
      '@ MX 30 mx3',
      'mx1 A 127.0.0.2',
      'mx2 A 127.0.0.3',
      'mx3 A 127.0.0.4',
      ...Array.from({ length: 6 }, (_, i) => `equal MX 5 e${i}`),
      'null MX 0 .',
      'null A 127.0.0.2',
      'mixed MX 0 .',
      'mixed MX 10 mx1',
      'twice MX 10 mx1',
      'twice MX 5 mx1',
      'implicit A 127.0.0.2',
      'nothing TXT "neither"',
      'alias CNAME good.test.',
      'toimplicit CNAME implicit',
      'tonothing CNAME nothing',
      'tonowhere CNAME nowhere',
      'outer CNAME plain.test.',
      'ruined MX 10 192.0.2.1.',
      'ruined MX 10 1.2.3.',
      'ruined MX 20 mx1',
      'onlyruined MX 10 192.0.2.1.',
      'backup MX 10 mx1',
      'backup MX 20 relay',
      'backup MX 20 mx2',
      'backup MX 30 mx3',
      'backupofnothing MX 10 nothing',
      'backupofnothing MX 20 relay',
      'loop MX 10 relay',
      'loop MX 20 mx2',
      'relay A 127.0.0.99',
      'cousin MX 10 cousin-name',
      'cousin-name A 127.0.0.99',
      ...Array.from({ length: 300 }, (_, i) => `many MX ${i} h${i}`),
    ),
    'plain.test': unsigned('@ MX 10 mx', 'mx A 127.0.0.2'),
    'broken.test': bogus('@ MX 10 mx', '@ A 127.0.0.2'),
    'half.test': { ...signed('@ TXT "no MX here"'), forged: ['@ A 127.0.0.2'] },
  });
});
afterAll(() => lab.close());

const NOBODY: Self = { names: [] };
const domain = (name: string): NextHop => ({ kind: 'domain', domain: name, port: 25 });

function router(self: Self = NOBODY, random?: () => number): (nextHop: NextHop) => Promise<Route> {
  const { resolve } = lab;
  const locate = createLocator({ resolve, ipv6: false });
  return createRouter({ resolve, locate, self, ...(random ? { random } : {}) });
}

async function find(name: string, self: Self = NOBODY): Promise<Route> {
  lab.asked();
  return router(self)(domain(name));
}

/** `kind dnssec: name, name!code` or `kind dnssec: code`. */
function inShort(route: Route): string {
  const { kind, dnssec, expanded } = route.mx;
  const head = `${kind} ${String(dnssec)}${expanded === null ? '' : ` → ${expanded}`}: `;
  if (route.kind === 'dead-end') return head + route.trouble.code;
  return head + route.hosts.map(({ name, unusable }) => (unusable ? `${name}!${unusable.code}` : name)).join(', ');
}

describe('MX records', () => {
  test.each<[string, string, string]>([
    ['MX-01 are sorted by preference', 'good.test', 'mx secure: mx1.good.test, mx2.good.test, mx3.good.test'],
    ['MX-10 without DNSSEC are insecure', 'plain.test', 'mx insecure: mx.plain.test'],
    ['MX-02 that cannot be looked up are a dead end for now', 'broken.test', 'failed error: mx-lookup-failed'],
    ['MX-03 no such domain, signed', 'nowhere.good.test', 'none secure: no-such-domain'],
    ['MX-03 no such domain, unsigned', 'nowhere.plain.test', 'none insecure: no-such-domain'],
    ['MX-04 none, but an address: the domain itself', 'implicit.good.test', 'implicit secure: implicit.good.test'],
    ['MX-05 neither MX nor address', 'nothing.good.test', 'none secure: no-mail-host'],
    ['MX-05 no MX, and the address cannot be looked up: not given up', 'half.test', 'implicit secure: half.test'],
    ['MX-06 null MX, even where there is an address', 'null.good.test', 'null secure: null-mx'],
    ['MX-07 `.` beside others is dropped', 'mixed.good.test', 'mx secure: mx1.good.test'],
    [
      'MX-08 behind an alias: the MX of its target',
      'alias.good.test',
      'mx secure → good.test: mx1.good.test, mx2.good.test, mx3.good.test',
    ],
    [
      'MX-08 behind a signed alias to an unsigned domain: insecure',
      'outer.good.test',
      'mx insecure → plain.test: mx.plain.test',
    ],
    [
      'MX-09 an implicit MX behind an alias keeps its name',
      'toimplicit.good.test',
      'implicit secure → implicit.good.test: toimplicit.good.test',
    ],
    ['MX-05 an alias to a name with nothing', 'tonothing.good.test', 'none secure → nothing.good.test: no-mail-host'],
    ['MX-03 an alias to no name', 'tonowhere.good.test', 'none secure → nowhere.good.test: no-such-domain'],
    [
      'MX-13 an address for a name is unusable, alone too',
      'onlyruined.good.test',
      'mx secure: 192.0.2.1!host-name-illegal',
    ],
    ['a host named twice stands at its better preference', 'twice.good.test', 'mx secure: mx1.good.test'],
  ])('%s', async (_, name, expected) => {
    expect(inShort(await find(name))).toBe(expected);
  });

  test('MX-13 an address for a name is unusable, the others are used', async () => {
    const route = await find('ruined.good.test');
    expect(inShort(route).replace('mx secure: ', '').split(', ').toSorted()).toEqual([
      '1.2.3!host-name-illegal',
      '192.0.2.1!host-name-illegal',
      'mx1.good.test',
    ]);
    expect(route.kind === 'hosts' && route.hosts.at(-1)?.name).toBe('mx1.good.test');
  });

  test('MX-02 after a failed MX lookup no address is asked for', async () => {
    await find('broken.test');
    expect(lab.asked()).toEqual(['MX broken.test']);
  });

  test('MX-06 a null MX is asked nothing more', async () => {
    await find('null.good.test');
    expect(lab.asked()).toEqual(['MX null.good.test']);
  });

  test('MX-07 nothing is ever asked of the root as a mail host', async () => {
    await find('mixed.good.test', { names: [], isOwnAddress: () => false });
    expect(lab.asked().toSorted()).toEqual(['A mx1.good.test', 'AAAA mx1.good.test', 'MX mixed.good.test']);
  });

  test('MX-01 equal preferences come in every order', async () => {
    const firsts = new Set<string>();
    for (let i = 0; i < 200 && firsts.size < 6; i++) {
      const route = await find('equal.good.test');
      if (route.kind === 'hosts') firsts.add(route.hosts[0].name);
    }
    expect(firsts.size).toBe(6);
  });

  test('MX-19 of very many hosts the best hundred are looked at', async () => {
    const route = await find('many.good.test');
    expect(route.kind === 'hosts' && route.hosts.map(({ name }) => name)).toEqual(
      Array.from({ length: 100 }, (_, i) => `h${i}.good.test`),
    );
  });

  test.each([
    '',
    'a..b',
    'exa mple.nl',
    '-x.nl',
    'bücher.nl',
    `${'a'.repeat(64)}.nl`,
    'x.nl.',
    Array(60).fill('abcde').join('.'),
  ])('IDN-01 IDN-02 %j is no domain, and nothing is asked', async (name) => {
    expect(inShort(await find(name))).toBe('none null: invalid-domain');
    expect(lab.asked()).toEqual([]);
  });

  test.each(['localhost', 'mail.localhost'])('%s is ourselves, not a place on the internet', async (name) => {
    expect(inShort(await find(name))).toMatch(/loop-to-self|no-such-domain|no-mail-host/);
  });
});

describe('names that no honest zone holds', () => {
  let fake: FakeDns;
  beforeAll(async () => {
    fake = await startFakeDns((query) => {
      if (query.type !== TYPE.MX)
        return message(query, { ad: true, answers: query.type === TYPE.A ? [a(query.name, '127.0.0.2')] : [] });
      const odd = [
        ['mx.evi', 'com'],
        ['mx\0', 'nl'],
        ['m\xfc', 'nl'],
        ['mx nl'],
        ['-mx', 'nl'],
        ['*', 'nl'],
        ['2001:db8::1'],
      ];
      return message(query, {
        ad: true,
        answers: [...odd.map((labels) => mx(query.name, 1, labels)), mx(query.name, 2, 'mx_1.good.nl')],
      });
    });
  });
  afterAll(() => fake.close());

  test('MX-14 are unusable, each with its reason, and the others are used', async () => {
    const { resolve, close } = createResolver({ server: fake.server });
    const route = await createRouter({ resolve, locate: createLocator({ resolve }), self: NOBODY })(domain('x.nl'));
    close();
    const hosts = route.kind === 'hosts' ? route.hosts : [];
    expect(hosts.filter(({ unusable }) => unusable === null).map(({ name }) => name)).toEqual(['mx_1.good.nl']);
    expect(hosts.filter(({ unusable }) => unusable?.code === 'host-name-illegal')).toHaveLength(7);
  });
});

describe('ourselves', () => {
  const byName: Self = { names: ['relay.good.test'] };
  const byAddress: Self = { names: [], isOwnAddress: (address, port) => address === '127.0.0.99' && port === 25 };
  test.each<[string, string, Self, RegExp]>([
    [
      'MX-18 we are a backup: whoever is not better than us is out',
      'backup.good.test',
      byName,
      /^mx secure: mx1\.good\.test, (mx2|relay)\.good\.test!own-host, (mx2|relay)\.good\.test!own-host, mx3\.good\.test!own-host$/,
    ],
    [
      'MX-18 known by our address',
      'backup.good.test',
      byAddress,
      /^mx secure: mx1\.good\.test, .*relay\.good\.test!own-host/,
    ],
    [
      'MX-18 another name for our address',
      'cousin.good.test',
      byAddress,
      /^mx secure: cousin-name\.good\.test!loop-to-self$/,
    ],
    [
      'MX-18 nobody is better than us',
      'loop.good.test',
      byName,
      /^mx secure: relay\.good\.test!loop-to-self, mx2\.good\.test!loop-to-self$/,
    ],
    ['MX-18 the domain itself is us', 'relay.good.test', byName, /^implicit secure: relay\.good\.test!loop-to-self$/],
    [
      'MX-18 a better host that has no address leaves us waiting',
      'backupofnothing.good.test',
      byName,
      /nothing\.good\.test, relay\.good\.test!own-host$/,
    ],
  ])('%s', async (_, name, self, expected) => {
    expect(inShort(await find(name, self))).toMatch(expected);
  });

  test('addresses are only asked for when the relay could be met at one', async () => {
    await find('good.test', byName);
    expect(lab.asked()).toEqual(['MX good.test']);
  });
});

describe('fixed next hops', () => {
  test('MX-15 a literal: no DNS at all', async () => {
    lab.asked();
    const route = await router()({ kind: 'literal', address: '192.0.2.1', port: 25 });
    expect(inShort(route)).toBe('literal null: 192.0.2.1');
    expect(lab.asked()).toEqual([]);
  });

  test('MX-16 MX-17 a host: no MX lookup', async () => {
    lab.asked();
    const route = await router({ names: ['mx1.good.test'] })({ kind: 'host', host: 'mx1.good.test', port: 587 });
    expect(inShort(route)).toBe('route null: mx1.good.test');
    expect(lab.asked()).toEqual([]);
  });

  test('MX-18 one that leads back to us is seen by its address and port', async () => {
    const find = router({ names: [], isOwnAddress: (address, port) => address === '127.0.0.99' && port === 2525 });
    const ends = async (nextHop: NextHop): Promise<string> => inShort(await find(nextHop));
    expect(await ends({ kind: 'literal', address: '127.0.0.99', port: 2525 })).toBe(
      'literal null: 127.0.0.99!loop-to-self',
    );
    expect(await ends({ kind: 'literal', address: '127.0.0.99', port: 25 })).toBe('literal null: 127.0.0.99');
    expect(await ends({ kind: 'host', host: 'relay.good.test', port: 2525 })).toBe(
      'route null: relay.good.test!loop-to-self',
    );
    expect(await ends({ kind: 'host', host: 'relay.good.test', port: 25 })).toBe('route null: relay.good.test');
    expect(await ends({ kind: 'host', host: '192.0.2.300', port: 25 })).toBe(
      'route null: 192.0.2.300!host-name-illegal',
    );
  });
});

test('MX-06 several null MX records are still null', () => {
  const nothing = { preference: 0, exchange: '.' };
  const answer = {
    kind: 'found',
    secure: true,
    name: 'x.nl',
    records: [nothing, { ...nothing, preference: 9 }],
    ttl: 1,
  } as const;
  expect(judgeMx('x.nl', answer, Math.random)).toMatchObject({ kind: 'dead-end', trouble: { code: 'null-mx' } });
});
