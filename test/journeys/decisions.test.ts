/**
 * From mail handed in to mail handed over or kept back, through the whole relay: real Unbound, signed zones, real TLS.
 * Each row is a domain with what becomes of its mail. Hosts that must not hear of any mail are asked at the end.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tlsaFor } from '../../lab/certificates.ts';
import type { LabZone } from '../../lab/dns.ts';
import type { Lab } from '../../lab/lab.ts';
import type { LogEvent } from '../../lab/relay.ts';
import { goodHost, type PublishedTlsa } from '../../lab/world.ts';
import { bogus, signed, unsigned } from '../support/route-lab.ts';
import { arrived, type Follower, type Host, type Journey, startJourney, told, wasToldOfMail } from './support.ts';

const OWN: PublishedTlsa = { numbers: [3, 1, 1], of: 'host' };
const STRANGER: PublishedTlsa = { numbers: [3, 1, 1], of: 'stranger' };
const PKIX: PublishedTlsa = { numbers: [1, 0, 1], of: 'host' };

const HOSTS: readonly Host[] = [
  goodHost('office.test'),
  goodHost('good.test'),
  goodHost('second.test'),
  goodHost('wrong.test', { tlsa: [STRANGER] }),
  goodHost('forged.test', { tlsaForged: true }),
  goodHost('spoilt.test', { mood: 'handshake-fails' }),
  goodHost('notlsa.test', { tlsa: [] }),
  goodHost('clear.test', { tlsa: [], mood: 'no-starttls' }),
  goodHost('unusable.test', { tlsa: [PKIX] }),
  goodHost('unusable-clear.test', { tlsa: [PKIX], mood: 'no-starttls' }),
  goodHost('both-kinds.test', { tlsa: [PKIX, OWN] }),
  goodHost('no-rescue.test', { tlsa: [PKIX, STRANGER] }),
  goodHost('alias.test', { canonical: 'real.alias.test' }),
  { ...goodHost('unsigned.test'), dnssec: 'unsigned' },
  { ...goodHost('only-unsigned.test'), dnssec: 'unsigned' },
  { ...goodHost('far.test'), dnssec: 'unsigned' },
  goodHost('only-no-tlsa.test', { tlsa: [] }),
  goodHost('only-unusable.test', { tlsa: [PKIX] }),
  goodHost('fallback.test', { tlsa: [] }),
];

/** Hosts that may be dialled and must never be told of mail. */
const UNPROVEN = ['mx.wrong.test', 'mx.spoilt.test', 'mx.unusable-clear.test', 'mx.no-rescue.test'];
/** Hosts that must not even be dialled. */
const UNTOUCHABLE = [
  'mx.forged.test',
  'mx.only-unsigned.test',
  'mx.far.test',
  'mx.only-no-tlsa.test',
  'mx.only-unusable.test',
  'mx.fallback.test',
];

function zonesOf(lab: Pick<Lab, 'port' | 'address' | 'identity'>): Readonly<Record<string, LabZone>> {
  const own = (host: string): string => tlsaFor(3, 1, 1, lab.identity(host));
  const at = `_${lab.port}._tcp`;
  const first = lab.address('mx.wrong.test');
  const second = lab.address('mx.second.test');
  return {
    'customer.test': unsigned('@ MX 10 mx.good.test.'),
    'signed-customer.test': signed('@ MX 10 mx.good.test.'),
    'customer-of-wrong.test': unsigned('@ MX 10 mx.wrong.test.'),
    'customer-of-forged.test': unsigned('@ MX 10 mx.forged.test.'),
    'customer-of-unsigned.test': unsigned('@ MX 10 mx.unsigned.test.'),
    'plain-first.test': signed('@ MX 10 mx.notlsa.test.', '@ MX 20 mx.good.test.'),
    'wrong-first.test': signed('@ MX 10 mx.wrong.test.', '@ MX 20 mx.clear.test.'),
    'spoilt-first.test': signed('@ MX 10 mx.spoilt.test.', '@ MX 20 mx.good.test.'),
    'forged-first.test': signed('@ MX 10 mx.forged.test.', '@ MX 20 mx.notlsa.test.'),
    'only-wrong-first.test': signed('@ MX 10 mx.wrong.test.', '@ MX 20 mx.fallback.test.'),
    'only-wrong-then-good.test': signed('@ MX 10 mx.wrong.test.', '@ MX 20 mx.good.test.'),
    'only-far.test': signed('@ MX 10 mx.far.test.'),
    // One name with the addresses of two hosts, of which the second presents the key that is published, or neither.
    'twins.test': signed('@ MX 10 mx', `mx A ${first}`, `mx A ${second}`, `${at}.mx TLSA ${own('mx.second.test')}`),
    'strangers.test': signed('@ MX 10 mx', `mx A ${first}`, `mx A ${second}`, `${at}.mx TLSA ${own('mx.good.test')}`),
    // A signed alias to a name in an unsigned zone: what is published for the name in the MX record counts.
    'outward.test': signed('@ MX 10 mx', 'mx CNAME mx.unsigned.test.', `${at}.mx TLSA ${own('mx.unsigned.test')}`),
    'outward-wrong.test': signed('@ MX 10 mx', 'mx CNAME mx.unsigned.test.', `${at}.mx TLSA ${own('mx.good.test')}`),
    'tlsa-alias.test': signed(
      '@ MX 10 mx',
      `mx A ${second}`,
      `${at}.mx CNAME keys`,
      `keys TLSA ${own('mx.second.test')}`,
    ),
    'tlsa-outward.test': signed('@ MX 10 mx', `mx A ${second}`, `${at}.mx CNAME ${at}.mx.unsigned.test.`),
    'tlsa-dangling.test': signed('@ MX 10 mx', `mx A ${second}`, `${at}.mx CNAME nowhere`),
    'tlsa-circle.test': signed('@ MX 10 mx', `mx A ${second}`, `${at}.mx CNAME round`, `round CNAME ${at}.mx`),
    'tlsa-wildcard.test': signed('@ MX 10 mx', `mx A ${second}`, `*._tcp.mx TLSA ${own('mx.second.test')}`),
    'aliases.test': signed('to-mx CNAME good.test.', 'to-host CNAME implicit.test.'),
    'null-mx.test': signed('@ MX 0 .'),
    'dot-besides.test': signed('@ MX 0 .', '@ MX 10 mx.good.test.'),
    'bogus.test': bogus('@ MX 10 mx.notlsa.test.', `@ A ${second}`),
    'address-as-name.test': signed('@ MX 10 192.0.2.1.'),
    'no-address.test': signed('@ MX 10 mx', 'mx TXT "no address"'),
    'no-host.test': signed('@ TXT "no mail"'),
    'half-bogus.test': {
      ...signed('@ MX 10 mx', `mx A ${second}`, `${at}.mx TLSA ${own('mx.second.test')}`),
      forged: ['mx AAAA ::1'],
    },
    'alias-to-bogus.test': signed('@ MX 10 mx', 'mx CNAME mx.bogus.test.'),
    'implicit.test': signed(`@ A ${second}`, `${at} TLSA ${own('mx.second.test')}`),
    'many-records.test': signed(
      '@ MX 10 mx',
      `mx A ${second}`,
      ...Array.from({ length: 60 }, (_, i) => `${at}.mx TLSA 3 1 1 ${i.toString(16).padStart(64, '0')}`),
      `${at}.mx TLSA ${own('mx.second.test')}`,
    ),
    'loop.test': signed('@ MX 10 relay.office.test.'),
  };
}

/** Destinations in the configuration; `only-…` names must prove themselves by DANE. */
function rulesOf(lab: Lab): readonly object[] {
  const { port } = lab;
  return [
    { domain: 'only-routed.test', tls: 'dane-only', via: `[mx.good.test]:${port}` },
    ...['only-unsigned', 'only-far', 'only-no-tlsa', 'only-unusable', 'only-wrong-first', 'only-wrong-then-good'].map(
      (name) => ({ domain: `${name}.test`, tls: 'dane-only' }),
    ),
    { domain: 'routed.test', via: `[mx.good.test]:${port}` },
    { domain: 'routed-wrong.test', via: `[mx.wrong.test]:${port}` },
    { domain: 'routed-by-mx.test', via: 'second.test' },
    { domain: 'routed-by-address.test', via: `[${lab.address('mx.second.test')}]:${port}` },
  ];
}

let journey: Journey;
let lab: Lab;
let relay: Follower;

beforeAll(async () => {
  journey = await startJourney(HOSTS, zonesOf);
  lab = journey.lab;
  relay = await journey.relay({ queue: { retry: ['1h'] }, destinations: rulesOf(lab) });
});
afterAll(() => journey?.end());

/** Where SNI is not the name of the host in the log; null for none. */
const SNI: Readonly<Record<string, string | null>> = {
  'alias.test': 'real.alias.test',
  'to-host.aliases.test': 'implicit.test',
  'clear.test': null,
  'wrong-first.test': null,
  'routed-by-address.test': null,
};

describe('what becomes of mail', () => {
  test.each([
    ['CONN-01 POL-05 TLSA that fits', 'good.test', 'delivered dane-ee authenticated at mx.good.test'],
    ['CONN-02 ST-02 ROLL-05 TLSA of a key that is not presented', 'wrong.test', 'deferred 4.7.5 tlsa-mismatch'],
    ['CONN-06 a handshake that fails under DANE', 'spoilt.test', 'deferred 4.7.5 tls-handshake-failed'],
    ['TLSA-10 a TLSA lookup that fails', 'forged.test', 'deferred 4.7.5 tlsa-lookup-failed'],
    ['CONN-10 no TLSA', 'notlsa.test', 'delivered encrypted-opportunistic encrypted at mx.notlsa.test'],
    ['CONN-08 no TLSA and no STARTTLS', 'clear.test', 'delivered clear-not-offered clear at mx.clear.test'],
    [
      'CONN-07 OPS-04 unusable TLSA: TLS with any certificate',
      'unusable.test',
      'delivered encrypted-unauthenticated encrypted at mx.unusable.test',
    ],
    [
      'OPS-05 CONN-03 unusable TLSA and no STARTTLS: RFC 6698 would let it go in the clear',
      'unusable-clear.test',
      'deferred 4.7.4 starttls-not-offered',
    ],
    [
      'OPS-03 a PKIX record beside one that fits',
      'both-kinds.test',
      'delivered dane-ee authenticated at mx.both-kinds.test',
    ],
    ['OPS-03 USE-02 a PKIX record that fits beside another', 'no-rescue.test', 'deferred 4.7.5 tlsa-mismatch'],
    ['DNS-02 an unsigned domain', 'unsigned.test', 'delivered encrypted-opportunistic encrypted at mx.unsigned.test'],

    [
      'MX-11 insecure MX, host with TLSA that fits: the host is authenticated, no more',
      'customer.test',
      'delivered dane-ee host-authenticated at mx.good.test',
    ],
    ['MX-11 MX-12 insecure MX, host with another key', 'customer-of-wrong.test', 'deferred 4.7.5 tlsa-mismatch'],
    [
      'MX-12 insecure MX, TLSA lookup that fails: not dialled',
      'customer-of-forged.test',
      'deferred 4.7.5 tlsa-lookup-failed',
    ],
    [
      'MX-10 insecure MX, unsigned host',
      'customer-of-unsigned.test',
      'delivered encrypted-opportunistic encrypted at mx.unsigned.test',
    ],

    [
      'PREF-01 a first host without TLSA is not passed over for a second one with it',
      'plain-first.test',
      'delivered encrypted-opportunistic encrypted at mx.notlsa.test',
    ],
    [
      'PREF-02 after a first host with another key a second one may even be without TLS',
      'wrong-first.test',
      'delivered clear-not-offered clear at mx.clear.test',
    ],
    [
      'PREF-02 TLSA-10 so it may after a first host that was not dialled',
      'forged-first.test',
      'delivered encrypted-opportunistic encrypted at mx.notlsa.test',
    ],
    [
      'PREF-03 after a first host whose handshake fails the second proves itself',
      'spoilt-first.test',
      'delivered dane-ee authenticated at mx.good.test',
    ],
    [
      'TLSA-13 PREF-05 the same records for each address of a host: the second one fits',
      'twins.test',
      'delivered dane-ee authenticated at mx.twins.test',
    ],
    [
      'TLSA-13 the same records for each address of a host: none fits',
      'strangers.test',
      'deferred 4.7.5 tlsa-mismatch',
    ],

    [
      'ADDR-11 TLS-01 OPS-01 OPS-02 an alias as MX host: base and SNI are its end',
      'alias.test',
      'delivered dane-ee authenticated at mx.alias.test',
    ],
    [
      'ADDR-07 OPS-01 OPS-02 a signed alias into an unsigned zone: base and SNI are the name itself',
      'outward.test',
      'delivered dane-ee authenticated at mx.outward.test',
    ],
    ['ADDR-07 and its TLSA binds', 'outward-wrong.test', 'deferred 4.7.5 tlsa-mismatch'],
    [
      'TLSA-06 OPS-01 OPS-02 TLSA behind an alias: SNI stays the host',
      'tlsa-alias.test',
      'delivered dane-ee authenticated at mx.tlsa-alias.test',
    ],
    [
      'TLSA-07 TLSA that is an alias into an unsigned zone: none',
      'tlsa-outward.test',
      'delivered encrypted-opportunistic encrypted at mx.tlsa-outward.test',
    ],
    [
      'TLSA-08 TLSA that is an alias to nothing: none',
      'tlsa-dangling.test',
      'delivered encrypted-opportunistic encrypted at mx.tlsa-dangling.test',
    ],
    ['TLSA-08 TLSA that is an alias in a circle', 'tlsa-circle.test', 'deferred 4.7.5 tlsa-lookup-failed'],
    ['TLSA-09 TLSA from a wildcard', 'tlsa-wildcard.test', 'delivered dane-ee authenticated at mx.tlsa-wildcard.test'],
    [
      'MX-08 a recipient domain that is an alias of one with MX',
      'to-mx.aliases.test',
      'delivered dane-ee authenticated at mx.good.test',
    ],
    [
      'MX-09 OPS-01 a recipient domain that is an alias of one without: SNI is its end',
      'to-host.aliases.test',
      'delivered dane-ee authenticated at to-host.aliases.test',
    ],
    ['MX-02 a bogus domain: its address is not used either', 'bogus.test', 'deferred 4.4.3 mx-lookup-failed'],
    ['MX-03 a domain that does not exist', 'nothing.test', 'bounced 5.1.2 no-such-domain'],
    ['MX-05 a domain with neither MX nor address', 'no-host.test', 'bounced 5.4.4 no-mail-host'],
    ['MX-06 null MX', 'null-mx.test', 'bounced 5.1.10 null-mx'],
    ['MX-07 a dot beside a host', 'dot-besides.test', 'delivered dane-ee authenticated at mx.good.test'],
    ['MX-13 an address in place of a host', 'address-as-name.test', 'bounced 5.4.4 host-name-illegal'],
    ['ADDR-05 a host without an address', 'no-address.test', 'bounced 5.4.4 host-without-address'],
    [
      'ADDR-03 one address family is bogus: the other one is used, under DANE',
      'half-bogus.test',
      'delivered dane-ee authenticated at mx.half-bogus.test',
    ],
    [
      'ADDR-10 a host that is an alias into a bogus zone',
      'alias-to-bogus.test',
      'deferred 4.4.3 address-lookup-failed',
    ],
    ['MX-04 no MX: the domain is its own host', 'implicit.test', 'delivered dane-ee authenticated at implicit.test'],
    [
      'OPS-06 TLSA-12 61 TLSA records, the last of which fits',
      'many-records.test',
      'delivered dane-ee authenticated at mx.many-records.test',
    ],
    ['LOOP-03 MX-18 an MX record that names this relay', 'loop.test', 'bounced 5.4.6 loop-to-self'],

    [
      'MX-16 MX-17 a route to a host and port, of a domain that does not even exist',
      'routed.test',
      'delivered dane-ee authenticated at mx.good.test',
    ],
    ['MX-17 a route to a host with another key', 'routed-wrong.test', 'deferred 4.7.5 tlsa-mismatch'],
    ['MX-16 a route by MX records', 'routed-by-mx.test', 'delivered dane-ee authenticated at mx.second.test'],
    [
      'MX-16 TLS-02 a route to an address: no DANE, no SNI',
      'routed-by-address.test',
      'delivered encrypted-opportunistic encrypted at ADDRESS',
    ],

    ['POL-01 dane-only and an unsigned domain', 'only-unsigned.test', 'deferred 4.7.5 dane-only-mx-insecure'],
    ['POL-01 dane-only and an unsigned host', 'only-far.test', 'deferred 4.7.5 dane-only-host-insecure'],
    ['POL-01 dane-only and no TLSA', 'only-no-tlsa.test', 'deferred 4.7.5 dane-only-no-tlsa'],
    ['POL-01 POL-02 OPS-04 dane-only and unusable TLSA', 'only-unusable.test', 'deferred 4.7.5 dane-only-unusable'],
    [
      'PREF-02 POL-01 dane-only: the second host without TLSA is not dialled',
      'only-wrong-first.test',
      'deferred 4.7.5 tlsa-mismatch',
    ],
    [
      'PREF-03 POL-01 dane-only: the second host proves itself',
      'only-wrong-then-good.test',
      'delivered dane-ee authenticated at mx.good.test',
    ],
    [
      'MX-17 POL-01 dane-only on a route to a host',
      'only-routed.test',
      'delivered dane-ee authenticated at mx.good.test',
    ],
  ])('%s', async (_, domain, story) => {
    await relay.mail(domain);
    const event = await relay.attempt(domain);
    expect(told(event)).toBe(story.replace('ADDRESS', lab.address('mx.second.test')));
    const mail = arrived(lab, domain);
    expect(mail).toHaveLength(event.event === 'delivered' ? 1 : 0);
    const sni = SNI[domain] === undefined ? event.host : SNI[domain];
    if (mail[0]) expect(mail[0].tls?.serverName ?? null).toBe(sni);
  });
});

test('MX-15 mail to an address literal: no DANE, no SNI', async () => {
  const domain = `[${lab.address('mx.second.test')}]`;
  await relay.mail(domain);
  const event = await relay.attempt(domain);
  expect(told(event)).toBe(`delivered encrypted-opportunistic encrypted at ${lab.address('mx.second.test')}`);
  expect(event.dnssec).toMatchObject({ mx: null, tlsa: null });
  expect(arrived(lab, domain).map(({ tls }) => tls?.serverName)).toEqual([null]);
});

test('CONN-06 PREF-02 hosts that did not prove themselves were never told of any mail, neither in the clear nor under TLS', () => {
  expect(UNPROVEN.filter((host) => lab.contacts(host).length === 0)).toEqual([]);
  expect(UNPROVEN.filter((host) => wasToldOfMail(lab, host))).toEqual([]);
});

test('TLSA-10 POL-01 POL-02 PREF-04 MX-12 hosts that cannot prove themselves were not even dialled', () => {
  expect(UNTOUCHABLE.filter((host) => lab.contacts(host).length > 0)).toEqual([]);
});

test('CONN-14 TXN-09 one mail host of two domains: one copy for the recipients of each, and no connection serves both', async () => {
  const signed = ['a@signed-customer.test', 'b@signed-customer.test'];
  const insecure = ['c@customer.test', 'd@customer.test'];
  const seen = relay.running.events().length;
  const deliveries = (): readonly LogEvent[] =>
    relay.running
      .events()
      .slice(seen)
      .filter(({ event }) => event === 'delivered');
  await relay.mail(...signed, ...insecure);
  await relay.running.untilEvent(() => deliveries().length === 4);
  expect(Object.fromEntries(deliveries().map(({ recipient, verdict }) => [recipient, verdict]))).toEqual({
    'a@signed-customer.test': 'authenticated',
    'b@signed-customer.test': 'authenticated',
    'c@customer.test': 'host-authenticated',
    'd@customer.test': 'host-authenticated',
  });
  const copies = lab.mailboxes().filter(({ content }) => content.includes('for a@signed-customer.test'));
  expect(copies.map(({ recipients }) => recipients.join(' ')).toSorted()).toEqual([
    signed.join(' '),
    insecure.join(' '),
  ]);

  const connections = lab.contacts('mx.good.test').map(({ commands }) => commands.join('\n'));
  expect(connections.filter((said) => said.includes('@customer.test>')).length).toBeGreaterThan(0);
  expect(connections.filter((said) => said.includes('@customer.test>') && said.includes('@signed-'))).toEqual([]);
});

describe('POL-06 the log tells what the decision was made from', () => {
  const tls: unknown = { version: 'TLSv1.3', cipher: expect.stringMatching(/^TLS_/) };
  const record: unknown = expect.stringMatching(/^3 1 1 [0-9a-f]{64}$/);

  test.each<[string, { readonly [Field in keyof LogEvent]?: unknown }]>([
    [
      'good.test',
      {
        host: 'mx.good.test',
        dnssec: { mx: 'secure', address: 'secure', tlsa: 'secure' },
        policy: 'dane',
        verdict: 'authenticated',
        record,
        tls,
      },
    ],
    [
      'customer.test',
      {
        host: 'mx.good.test',
        dnssec: { mx: 'insecure', address: 'secure', tlsa: 'secure' },
        policy: 'dane',
        verdict: 'host-authenticated',
        record,
        tls,
      },
    ],
    [
      'outward.test',
      { host: 'mx.outward.test', dnssec: { mx: 'secure', address: 'insecure', tlsa: 'secure' }, policy: 'dane' },
    ],
    [
      'unusable.test',
      { dnssec: { mx: 'secure', address: 'secure', tlsa: 'secure' }, policy: 'encrypt', verdict: 'encrypted', tls },
    ],
    [
      'customer-of-unsigned.test',
      { dnssec: { mx: 'insecure', address: 'insecure', tlsa: null }, policy: 'may', verdict: 'encrypted', tls },
    ],
    [
      'wrong.test',
      {
        host: 'mx.wrong.test',
        address: expect.stringMatching(/^127\./),
        dnssec: { mx: 'secure', address: 'secure', tlsa: 'secure' },
        policy: 'dane',
        verdict: 'failed',
        explanation: expect.stringContaining('matches none of the TLSA records'),
      },
    ],
    [
      'forged.test',
      { host: 'mx.forged.test', dnssec: { mx: 'secure', address: 'secure', tlsa: 'error' }, policy: 'skip' },
    ],
  ])('%s', async (domain, fields) => {
    expect(await relay.attempt(domain)).toMatchObject(fields);
  });

  test('MX-11 of a host behind an insecure MX nothing more is claimed than that it is that host', async () => {
    const event = await relay.attempt('customer.test');
    expect(JSON.stringify(event).replaceAll('host-authenticated', '')).not.toMatch(/verified|"authenticated"/i);
  });
});
