import { describe, expect, test } from 'vitest';
import { clientName } from '../src/config/notation.ts';
import type { Visit } from '../src/model/delivery.ts';
import { type Batch, type QueuedRecipient, TLS_REPORTER } from '../src/model/message.ts';
import type { ReasonCode } from '../src/model/reasons.ts';
import type { Location, MailHost, Route, Trouble } from '../src/model/route.ts';
import { type HostFacts, type TlsPolicy, type TlsRule, withoutDemands } from '../src/model/tls-policy.ts';
import { decide } from '../src/policy/decide.ts';
import { attempt, mostTelling, type Stages } from '../src/relay.ts';

/**
 * The journey of relay.ts, told by what was tried and how it ended. Each row is a good day with one thing changed:
 * the far ends are described in words, relay.ts itself is the real one.
 */
interface Day {
  readonly rule: TlsRule;
  readonly resolverTrusted: boolean;
  readonly route: Route | 'two hosts';
  readonly location: Readonly<Record<string, Location>>;
  readonly policies: Readonly<Record<string, TlsPolicy>>;
  readonly visits: Readonly<Record<string, 'takes it' | Trouble>>;
  readonly literal: boolean;
  readonly envelope: Partial<Batch['envelope']>;
}

const goodDay: Day = {
  rule: 'dane',
  resolverTrusted: true,
  route: 'two hosts',
  location: {},
  policies: {},
  visits: {},
  literal: false,
  envelope: {},
};

const host = (name: string, preference: number, unusable: Trouble | null = null): MailHost => ({
  name,
  preference,
  unusable,
});
const mx = { kind: 'mx', dnssec: 'secure', expanded: null } as const;
const twoHosts: Route = { kind: 'hosts', mx, hosts: [host('mx1', 10), host('mx2', 20)] };
const skip = (code: ReasonCode): TlsPolicy => ({ kind: 'skip', trouble: { code, detail: 'seen in a test' } });
const dane: TlsPolicy = {
  kind: 'dane',
  code: 'tlsa-usable',
  sni: 'x',
  referenceNames: ['x'],
  records: [],
  wholePath: true,
};
const may: TlsPolicy = { kind: 'may', code: 'rule-may', sni: 'x' };
const recipient: QueuedRecipient = {
  id: 7,
  address: 'anna@example.nl',
  notify: null,
  orcpt: null,
  attempts: 0,
  delayNoticeSent: false,
  lastCode: null,
};
const batch: Batch = {
  messageId: 'M1',
  receivedAt: 0,
  expiresAt: 1,
  client: 'exchange',
  envelope: { sender: 'piet@office.nl', smtputf8: false, body: '7bit', ret: null, envid: null, tls: 'default' },
  content: { size: 1, eightBit: false, utf8Header: false },
  domain: 'example.nl',
  recipients: [recipient, { ...recipient, id: 8, address: 'ben@example.nl' }],
};

async function journey(change: Partial<Day>): Promise<string> {
  const day = { ...goodDay, ...change };
  const steps: string[] = [];
  const stages: Stages = {
    destination: (domain) => ({
      tls: day.rule,
      pins: [],
      nextHop: day.literal ? { kind: 'literal', address: '192.0.2.1', port: 25 } : { kind: 'domain', domain, port: 25 },
    }),
    resolverDoubt: () => (day.resolverTrusted ? null : 'it does not validate'),
    route: async () => (day.route === 'two hosts' ? twoHosts : day.route),
    findSts: async () => null,
    locate: async (name) => {
      steps.push(`locate ${name}`);
      return day.location[name] ?? { kind: 'found', addresses: ['192.0.2.1'], dnssec: 'secure', bases: [name] };
    },
    asksForTlsa: ({ location }: HostFacts) => location?.kind === 'found' && location.bases.length > 0,
    findTlsa: async ([base = ''], port) => {
      steps.push(`tlsa ${base}`);
      return { name: `_${port}._tcp.${base}`, dnssec: 'secure', base, records: [], considered: [], failure: null };
    },
    decide: ({ host: { name } }) => day.policies[name] ?? dane,
    deliver: async ({ host: { name }, address }): Promise<Visit> => {
      steps.push(`dial ${name} ${address}`);
      const connection = { address, record: null, depth: null, tls: null, reason: '' } as const;
      const result = day.visits[`${name} ${address}`] ?? day.visits[name] ?? 'takes it';
      if (result !== 'takes it') {
        return {
          kind: 'useless',
          connection: { ...connection, verdict: 'failed', code: result.code },
          trouble: result,
        };
      }
      const outcomes = batch.recipients.map(({ id }) => ({
        recipientId: id,
        result: 'delivered' as const,
        code: 'remote-accepted' as const,
        status: '2.0.0',
        detail: '',
        host: name,
        address,
        reply: null,
        dsnPassedOn: false,
      }));
      return { kind: 'settled', connection: { ...connection, verdict: 'authenticated', code: 'dane-ee' }, outcomes };
    },
    passOver: (_, { code }) => steps.push(`(${code})`),
  };
  const outcomes = await attempt({ ...batch, envelope: { ...batch.envelope, ...day.envelope } }, stages);
  expect(outcomes.map(({ recipientId }) => recipientId)).toEqual([7, 8]);
  const [first] = outcomes;
  return `${steps.join(', ')} → ${first?.result} ${first?.status} ${first?.code}`;
}

const mx1 = 'locate mx1, tlsa mx1, dial mx1 192.0.2.1';
const mx2 = 'locate mx2, tlsa mx2, dial mx2 192.0.2.1';
const mismatch: Trouble = { code: 'tlsa-mismatch', detail: '' };
const refused: Trouble = { code: 'connect-failed', detail: '' };

describe('one attempt, host by host', () => {
  test.each<[string, Partial<Day>, string]>([
    ['all well', {}, `${mx1} → delivered 2.0.0 dane-ee`],
    [
      'PREF-03 first host has the wrong key: the second is tried',
      { visits: { mx1: mismatch } },
      `${mx1}, (tlsa-mismatch), ${mx2} → delivered 2.0.0 dane-ee`,
    ],
    [
      'CONN-02 both have the wrong key: it waits',
      { visits: { mx1: mismatch, mx2: mismatch } },
      `${mx1}, (tlsa-mismatch), ${mx2}, (tlsa-mismatch) → deferred 4.7.5 tlsa-mismatch`,
    ],
    [
      'TLSA-10 TLSA lookup fails on the first: it is not dialled, the second is',
      { policies: { mx1: skip('tlsa-lookup-failed') } },
      `locate mx1, tlsa mx1, (tlsa-lookup-failed), ${mx2} → delivered 2.0.0 dane-ee`,
    ],
    [
      'PREF-04 TLSA lookup fails on both: nothing is dialled',
      { policies: { mx1: skip('tlsa-lookup-failed'), mx2: skip('tlsa-lookup-failed') } },
      'locate mx1, tlsa mx1, (tlsa-lookup-failed), locate mx2, tlsa mx2, (tlsa-lookup-failed) → deferred 4.7.5 tlsa-lookup-failed',
    ],
    [
      'PREF-04 of several reasons the most telling one is given',
      { visits: { mx1: mismatch, mx2: refused } },
      `${mx1}, (tlsa-mismatch), ${mx2}, (connect-failed) → deferred 4.7.5 tlsa-mismatch`,
    ],
    [
      'PREF-05 TLSA-13 DANE fails on the first address: the second of the same host is tried, after one lookup',
      {
        location: { mx1: { kind: 'found', addresses: ['192.0.2.1', '192.0.2.2'], dnssec: 'secure', bases: ['mx1'] } },
        visits: { 'mx1 192.0.2.1': mismatch },
      },
      `${mx1}, (tlsa-mismatch), dial mx1 192.0.2.2 → delivered 2.0.0 dane-ee`,
    ],
    [
      'ADDR-02 unsigned host: TLSA is never asked for',
      { location: { mx1: { kind: 'found', addresses: ['192.0.2.1'], dnssec: 'insecure', bases: [] } } },
      'locate mx1, dial mx1 192.0.2.1 → delivered 2.0.0 dane-ee',
    ],
    [
      'MX-02 the MX lookup fails: it waits, nothing is located or dialled',
      {
        route: {
          kind: 'dead-end',
          mx: { kind: 'failed', dnssec: 'error', expanded: null },
          trouble: { code: 'mx-lookup-failed', detail: 'SERVFAIL' },
        },
      },
      ' → deferred 4.4.3 mx-lookup-failed',
    ],
    [
      'MX-06 null MX: returned at once',
      {
        route: {
          kind: 'dead-end',
          mx: { kind: 'null', dnssec: 'secure', expanded: null },
          trouble: { code: 'null-mx', detail: '' },
        },
      },
      ' → bounced 5.1.10 null-mx',
    ],
    [
      'DNS-17 the resolver is not proven to validate: it waits, nothing is asked or dialled',
      { resolverTrusted: false },
      ' → deferred 4.4.3 resolver-untrusted',
    ],
    [
      'DNS-17 without DANE at stake an unproven resolver does not stop mail',
      { resolverTrusted: false, rule: 'may' },
      `${mx1} → delivered 2.0.0 dane-ee`,
    ],
    [
      'MX-15 address literal under dane-only: returned',
      { literal: true, rule: 'dane-only' },
      ' → bounced 5.7.10 dane-only-literal',
    ],
    [
      'ADDR-05 all hosts proven to have no address: returned',
      { policies: { mx1: skip('host-without-address'), mx2: skip('host-without-address') } },
      'locate mx1, tlsa mx1, (host-without-address), locate mx2, tlsa mx2, (host-without-address) → bounced 5.4.4 host-without-address',
    ],
    [
      'ADDR-05 one host without address, one lookup error: it waits',
      { policies: { mx1: skip('host-without-address'), mx2: skip('address-lookup-failed') } },
      'locate mx1, tlsa mx1, (host-without-address), locate mx2, tlsa mx2, (address-lookup-failed) → deferred 4.4.3 address-lookup-failed',
    ],
    [
      'TXN-02 every host turned us away for good: returned',
      {
        visits: {
          mx1: { code: 'greeting-refused', detail: '', status: '5.3.2' },
          mx2: { code: 'greeting-refused', detail: '', status: '5.3.2' },
        },
      },
      `${mx1}, (greeting-refused), ${mx2}, (greeting-refused) → bounced 5.3.2 greeting-refused`,
    ],
    [
      'TXN-02 one host turned us away for good, one was down: it waits',
      { visits: { mx1: { code: 'greeting-refused', detail: '', status: '5.3.2' }, mx2: refused } },
      `${mx1}, (greeting-refused), ${mx2}, (connect-failed) → deferred 4.4.1 connect-failed`,
    ],
    [
      'MX-14 an illegal host name is neither looked up nor dialled',
      {
        route: {
          kind: 'hosts',
          mx,
          hosts: [host('mx1', 10, { code: 'host-name-illegal', detail: '' }), host('mx2', 20)],
        },
      },
      `(host-name-illegal), ${mx2} → delivered 2.0.0 dane-ee`,
    ],
  ])('%s', async (_, change, story) => {
    expect(await journey(change)).toBe(story);
  });

  test('MX-19 a hundred dead hosts are not all dialled in one attempt', async () => {
    const many = Array.from({ length: 100 }, (_, at) => host(`mx${at}`, at));
    const [first = host('mx', 0), ...rest] = many;
    const visits = Object.fromEntries(many.map(({ name }) => [name, refused]));
    const story = await journey({ route: { kind: 'hosts', mx, hosts: [first, ...rest] }, visits });
    expect(story.match(/dial/g)).toHaveLength(8);
    expect(story).toMatch(/deferred 4\.4\.1 connect-failed$/);
  });

  test('PREF-05 a host with nothing but dead addresses does not stand before the next', async () => {
    const addresses = Array.from({ length: 9 }, (_, at) => `192.0.2.${at + 1}`) as [string, ...string[]];
    const location: Day['location'] = { mx1: { kind: 'found', addresses, dnssec: 'secure', bases: ['mx1'] } };
    const story = await journey({ location, visits: { mx1: refused } });
    expect(story.match(/dial mx1/g)).toHaveLength(4);
    expect(story).toMatch(/dial mx2 192\.0\.2\.1 → delivered/);
  });

  test('PREF-05 the only host is tried at eight of its addresses', async () => {
    const addresses = Array.from({ length: 9 }, (_, at) => `192.0.2.${at + 1}`) as [string, ...string[]];
    const location: Day['location'] = { mx1: { kind: 'found', addresses, dnssec: 'secure', bases: ['mx1'] } };
    const story = await journey({
      route: { kind: 'hosts', mx, hosts: [host('mx1', 10)] },
      location,
      visits: { mx1: refused },
    });
    expect(story.match(/dial mx1/g)).toHaveLength(8);
  });
});

describe('a message that demands TLS on the whole way', () => {
  const required = { tls: 'required' } as const;
  const notOffered: Trouble = { code: 'requiretls-not-offered', detail: '' };
  const both = (trouble: Trouble): Partial<Day> => ({ envelope: required, visits: { mx1: trouble, mx2: trouble } });
  const told = (code: ReasonCode): string => `${mx1}, (${code}), ${mx2}, (${code}) →`;

  test.each<[string, Partial<Day>, string]>([
    [
      'REQ-02 the first does not offer REQUIRETLS: the second is tried',
      { envelope: required, visits: { mx1: notOffered } },
      `${mx1}, (requiretls-not-offered), ${mx2} → delivered 2.0.0 dane-ee`,
    ],
    [
      'REQ-02 none offers it: returned',
      both(notOffered),
      `${told('requiretls-not-offered')} bounced 5.7.30 requiretls-not-offered`,
    ],
    [
      'REQ-02 none proves itself: returned',
      both(mismatch),
      `${told('requiretls-not-proven')} bounced 5.7.10 requiretls-not-proven`,
    ],
    [
      'REQ-02 none offers STARTTLS: returned',
      both({ code: 'starttls-not-offered', detail: '' }),
      `${told('requiretls-not-proven')} bounced 5.7.10 requiretls-not-proven`,
    ],
    [
      'REQ-02 STARTTLS is refused for now: it waits',
      both({ code: 'starttls-refused', detail: '', reply: '454 4.7.0 not now' }),
      `${told('starttls-refused')} deferred 4.7.4 starttls-refused`,
    ],
    [
      'REQ-02 one cannot be reached: it waits',
      { envelope: required, visits: { mx1: notOffered, mx2: refused } },
      `${mx1}, (requiretls-not-offered), ${mx2}, (connect-failed) → deferred 4.4.1 connect-failed`,
    ],
    [
      'REQ-02 a lookup fails: it waits',
      { envelope: required, policies: { mx1: skip('tlsa-lookup-failed') }, visits: { mx2: notOffered } },
      `locate mx1, tlsa mx1, (tlsa-lookup-failed), ${mx2}, (requiretls-not-offered) → deferred 4.7.5 tlsa-lookup-failed`,
    ],
    [
      'REQ-02 no host is tied to the domain: nothing is dialled',
      { envelope: required, policies: { mx1: skip('requiretls-not-proven'), mx2: skip('requiretls-not-proven') } },
      'locate mx1, tlsa mx1, (requiretls-not-proven), locate mx2, tlsa mx2, (requiretls-not-proven) → bounced 5.7.10 requiretls-not-proven',
    ],
    [
      'REQ-05 a notice is not thrown away for that: it waits',
      { ...both(mismatch), envelope: { ...required, sender: '' } },
      `${told('requiretls-not-proven')} deferred 4.7.10 requiretls-not-proven`,
    ],
  ])('%s', async (_, change, story) => expect(await journey(change)).toBe(story));
});

test('REQ-08 a rule that demands TLS wins over TLS-Required: No, and the verdict says so', async () => {
  const passed: string[] = [];
  const overruled = (tls: TlsRule): Stages => ({
    destination: (domain) => ({
      tls,
      pins: [],
      nextHop: { kind: 'domain', domain, port: 25 },
      rule: { file: 'relay.yaml', line: 7, text: 'example.nl: dane-only' },
    }),
    resolverDoubt: () => null,
    route: async () => twoHosts,
    findSts: async () => null,
    locate: async () => ({ kind: 'found', addresses: ['192.0.2.1'], dnssec: 'insecure', bases: [] }),
    asksForTlsa: () => false,
    findTlsa: () => Promise.reject(new Error('nobody asks')),
    decide: decide('dane'),
    deliver: async ({ address }): Promise<Visit> => ({
      kind: 'useless',
      connection: {
        address,
        record: null,
        depth: null,
        tls: null,
        reason: '',
        verdict: 'failed',
        code: 'connect-failed',
      },
      trouble: refused,
    }),
    passOver: (_, { code, detail }) => passed.push(`${code} ${detail}`),
  });
  const optional = { ...batch, envelope: { ...batch.envelope, tls: 'optional' as const } };
  const [kept] = await attempt(optional, overruled('dane-only'));
  expect(kept).toMatchObject({ code: 'dane-only-host-insecure', result: 'deferred', log: { tlsWish: 'overruled' } });
  expect(kept?.detail).toBe('mx1; the message says TLS-Required: No, and the rule "example.nl: dane-only" demands TLS');
  const [heeded] = await attempt(optional, overruled('dane'));
  expect(heeded).toMatchObject({ code: 'connect-failed', log: { tlsWish: 'optional', policy: 'may' } });
});

test('PREF-04 without any trouble to tell of, mail still waits', () => {
  expect(mostTelling([])).toMatchObject({ code: 'internal-error' });
});

describe('what is told of TLS sessions', () => {
  const opened = { localAddress: '192.0.2.9', greeting: 'mx1 ESMTP' };

  /** The ends that were told of in one attempt to two hosts, the first of which is as `first` says. */
  async function ends(first: 'skipped' | 'useless' | 'kept' | 'well', client = 'exchange'): Promise<string[]> {
    const told: string[] = [];
    await attempt(
      { ...batch, client },
      {
        destination: (domain) => ({ tls: 'dane', pins: [], nextHop: { kind: 'domain', domain, port: 25 } }),
        resolverDoubt: () => null,
        route: async () => twoHosts,
        findSts: async () => null,
        locate: async (name) => ({ kind: 'found', addresses: ['192.0.2.1'], dnssec: 'secure', bases: [name] }),
        asksForTlsa: () => false,
        findTlsa: () => Promise.reject(new Error('nobody asks')),
        decide: ({ host: { name }, destination: { tls } }) =>
          first === 'skipped' && name === 'mx1' ? skip('tlsa-lookup-failed') : tls === 'may' ? may : dane,
        deliver: async ({ host: { name }, address, policy }): Promise<Visit> => {
          const facts = { address, record: null, depth: null, tls: null, reason: policy.kind };
          const useless = first === 'useless' && name === 'mx1';
          const connection = useless
            ? ({ ...facts, verdict: 'failed', code: 'tlsa-mismatch' } as const)
            : ({ ...facts, verdict: 'authenticated', code: 'dane-ee' } as const);
          const fresh = first === 'kept' ? {} : { opened };
          if (useless) {
            return { kind: 'useless', connection, trouble: { code: 'tlsa-mismatch', detail: '' }, ...fresh };
          }
          return { kind: 'settled', connection, outcomes: [], ...fresh };
        },
        passOver: () => undefined,
        sessionEnded: ({ plan, dialled, trouble }) =>
          told.push(
            `${plan?.host.name} ${dialled?.connection.code ?? trouble?.code} ${dialled?.connection.reason ?? ''}`,
          ),
      },
    );
    return told;
  }

  test('RPT-05 each that was made or failed, once; a kept connection is not told again', async () => {
    expect(await ends('well')).toEqual(['mx1 dane-ee dane']);
    expect(await ends('useless')).toEqual(['mx1 tlsa-mismatch dane', 'mx2 dane-ee dane']);
    expect(await ends('skipped')).toEqual(['mx1 tlsa-lookup-failed ', 'mx2 dane-ee dane']);
    expect(await ends('kept')).toEqual([]);
  });

  test('RPT-13 a TLS report is handed over with nothing demanded of TLS, and is not counted itself', async () => {
    expect(await ends('well', TLS_REPORTER)).toEqual([]);
    expect(await ends('well', 'dane-relay')).toEqual(['mx1 dane-ee dane']);
    const policies: string[] = [];
    await attempt(
      { ...batch, client: TLS_REPORTER },
      {
        destination: (domain) => ({ tls: 'dane-only', pins: [], nextHop: { kind: 'domain', domain, port: 25 } }),
        resolverDoubt: () => 'it does not validate',
        route: async () => twoHosts,
        findSts: async () => null,
        locate: async (name) => ({ kind: 'found', addresses: ['192.0.2.1'], dnssec: 'secure', bases: [name] }),
        asksForTlsa: ({ destination: { tls } }) => tls !== 'may',
        findTlsa: () => Promise.reject(new Error('nobody asks')),
        decide: decide('dane'),
        deliver: async ({ policy, address }): Promise<Visit> => {
          policies.push(policy.kind);
          const facts = { address, record: null, depth: null, tls: null, reason: '' };
          return {
            kind: 'settled',
            connection: { ...facts, verdict: 'clear', code: 'clear-not-offered' },
            outcomes: [],
          };
        },
        passOver: () => undefined,
      },
    );
    expect(policies).toEqual(['may']);
  });

  test('RPT-13 only where nothing may leave in the clear does a report not either', () => {
    const nextHop = { kind: 'domain', domain: 'example.nl', port: 25 } as const;
    const wanted = { tls: 'dane-only', pins: [], nextHop } as const;
    for (const [minimum, kind] of [
      [undefined, 'may'],
      ['encrypt', 'encrypt'],
    ] as const) {
      const destination = withoutDemands({ ...wanted, ...(minimum && { minimum }) });
      const location = { kind: 'found', addresses: ['192.0.2.1'], dnssec: 'secure', bases: ['mx1'] } as const;
      const facts: HostFacts = { destination, mx, host: host('mx1', 10), location, tlsa: null, sts: null };
      expect(decide('dane')(facts)).toMatchObject({ kind });
    }
  });

  test('RPT-13 no client can be given the name that reports go by', () => {
    expect(clientName.read(TLS_REPORTER).ok).toBe(false);
  });
});
