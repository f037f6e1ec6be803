/**
 * How rules, the minimum, exceptions, report-only, MTA-STS, REQUIRETLS and TLS-Required: No go together: every attempt
 * is the real one of relay.ts with the real decisions, to a host that is described by what it can prove.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ConnectionFacts, Visit, VisitRequest } from '../../src/model/delivery.ts';
import type { Dnssec } from '../../src/model/dns.ts';
import { type Batch, TLS_REPORTER, type TlsWish } from '../../src/model/message.ts';
import type { MxFacts, NextHop, Route } from '../../src/model/route.ts';
import type { StsFindings } from '../../src/model/sts.ts';
import type { Grant, InsecureMx, TlsaFindings, TlsMinimum, TlsPolicy, TlsRule } from '../../src/model/tls-policy.ts';
import { asksForTlsa } from '../../src/policy/decide.ts';
import { createDestinations, type DestinationRule } from '../../src/policy/destinations.ts';
import { createJudge } from '../../src/policy/judge.ts';
import { policyDomainOf } from '../../src/policy/sts/find.ts';
import { attempt, type Stages } from '../../src/relay.ts';

const HOST = 'mx.example.nl';
const KEYS = { rule: 'sha256/rule=', seen: 'sha256/seen=', other: 'sha256/other=' } as const;
const NOW = 1_000;

const tlsaOf = (change: Partial<TlsaFindings>): TlsaFindings => ({
  name: `_25._tcp.${HOST}`,
  dnssec: 'secure',
  base: HOST,
  records: [],
  considered: [],
  failure: null,
  ...change,
});
const usable = { usage: 3, selector: 1, matching: 1, data: Buffer.alloc(32, 7) };
const TLSA = {
  usable: tlsaOf({ considered: [usable] }),
  unusable: tlsaOf({}),
  none: tlsaOf({ base: null }),
  'not signed': tlsaOf({ base: null, dnssec: 'insecure' }),
  'not to be had': tlsaOf({ base: null, dnssec: 'error', failure: 'SERVFAIL' }),
} as const satisfies Record<string, TlsaFindings>;

const stsOf = (mode: 'enforce' | 'testing', mx: string): StsFindings => ({
  kind: 'policy',
  domain: 'example.nl',
  policy: { mode, mx: [mx], maxAge: 86_400, lines: [] },
  id: '1',
  fetchedAt: 0,
  failure: null,
});
const STS = {
  none: null,
  listed: stsOf('enforce', HOST),
  'not listed': stsOf('enforce', 'other.example'),
  testing: stsOf('testing', 'other.example'),
} as const satisfies Record<string, StsFindings | null>;

const EXCEPTION: Grant = { kind: 'exception', id: 'x1', owner: 'Jan', reason: 'renewal', until: NOW + 1, pins: [] };
const PINNED: Grant = { ...EXCEPTION, pins: [KEYS.seen] };
const EXCEPTIONS = { none: null, any: EXCEPTION, pinned: PINNED } as const;

interface World {
  readonly mx: 'secure' | 'insecure' | 'implicit' | 'route';
  readonly to: 'domain' | 'literal';
  readonly address: 'secure' | 'insecure';
  readonly tlsa: keyof typeof TLSA;
  readonly sts: keyof typeof STS;
  /** `lost`: it stops to validate when the route is known. */
  readonly resolver: 'trusted' | 'lost' | 'not trusted';
}

/** What the host can do and prove. */
interface Host {
  readonly tls: 'none' | 'weak' | 'strong';
  readonly matchesTlsa: boolean;
  /** A certificate of a trusted authority, for its name. */
  readonly trusted: boolean;
  readonly key: keyof typeof KEYS;
}

interface Wishes {
  readonly rule: TlsRule;
  readonly minimum: TlsMinimum;
  readonly insecureMx: InsecureMx;
  readonly reportOnly: boolean;
  readonly exception: keyof typeof EXCEPTIONS;
  readonly exceptionOf: 'domain' | 'host';
  readonly message: TlsWish | 'a TLS report';
}

/** What became of a message: null for one that was not handed over. */
type End = { readonly tls: Host['tls']; readonly policy: TlsPolicy['kind']; readonly leniently: boolean } | null;

function handOver(policy: TlsPolicy, host: Host): End {
  if (policy.kind === 'skip') return null;
  if (policy.kind === 'except' || policy.kind === 'report') {
    const strictly = handOver(policy.strict, host);
    if (strictly) return strictly;
    const all = policy.enough.map((each) => handOver(each, host));
    return all.includes(null) ? null : { tls: host.tls, policy: policy.kind, leniently: true };
  }
  const end = { tls: host.tls, policy: policy.kind, leniently: false };
  if (policy.kind === 'may') return end;
  if (host.tls !== 'strong') return null;
  const dane = policy.kind === 'dane' || ('dane' in policy && policy.dane !== null);
  if (dane && !host.matchesTlsa) return null;
  if ((policy.kind === 'verify' || policy.kind === 'sts') && !host.trusted) return null;
  if (policy.kind === 'pin' && !policy.pins.includes(KEYS[host.key])) return null;
  return end;
}

/** Mail to an address literal, which no route takes elsewhere. */
const isLiteral = ({ to, mx }: World): boolean => to === 'literal' && mx !== 'route';

function routeOf(world: World, nextHop: NextHop): Route {
  const { mx } = world;
  const kind = isLiteral(world) ? 'literal' : mx === 'implicit' || mx === 'route' ? mx : 'mx';
  const dnssec: Dnssec | null = kind === 'literal' || kind === 'route' ? null : mx === 'insecure' ? mx : 'secure';
  const facts: MxFacts = { kind, dnssec, expanded: null };
  const name = nextHop.kind === 'literal' ? nextHop.address : HOST;
  return { kind: 'hosts', mx: facts, hosts: [{ name, preference: 10, unusable: null }] };
}

async function mail(world: World, wishes: Wishes, host: Host): Promise<{ end: End; result: string; code: string }> {
  const via: DestinationRule['via'] = world.mx === 'route' ? { kind: 'host', host: HOST, port: null } : null;
  const rule: DestinationRule = {
    domain: '*',
    tls: wishes.rule,
    pins: wishes.rule === 'pin' ? [KEYS.rule] : [],
    origin: { file: null, line: null, text: '' },
    reportUntil: wishes.reportOnly ? NOW + 1 : null,
    via,
  };
  const { minimum, insecureMx } = wishes;
  const table = createDestinations({ rules: [rule], minimum, reportUntil: null, now: () => NOW, port: 25 });
  const exceptionFor = (scope: Wishes['exceptionOf']): Grant | null =>
    wishes.exceptionOf === scope ? EXCEPTIONS[wishes.exception] : null;
  let isTrusted = world.resolver !== 'not trusted';
  const resolverDoubt = () => (isTrusted ? null : 'it does not validate');
  let end: End = null;
  const stages: Stages = {
    destination: (domain) => ({ ...table(domain), exception: exceptionFor('domain') }),
    resolverDoubt,
    route: async (nextHop) => {
      isTrusted = world.resolver === 'trusted';
      return routeOf(world, nextHop);
    },
    findSts: async (destination) => (policyDomainOf(destination) === null ? null : STS[world.sts]),
    locate: async (name) => ({
      kind: 'found',
      addresses: ['192.0.2.1'],
      dnssec: world.address,
      bases: world.address === 'secure' ? [name] : [],
    }),
    asksForTlsa: asksForTlsa(insecureMx),
    findTlsa: async () => TLSA[world.tlsa],
    decide: createJudge({ insecureMx, resolverDoubt, forHost: () => exceptionFor('host') }),
    deliver: async (request) => {
      end = handOver(request.policy, host);
      return visitOf(request, end !== null);
    },
    passOver: () => undefined,
  };
  const [outcome] = await attempt(batchOf(world, wishes), stages);
  return { end, result: outcome?.result ?? 'none', code: outcome?.code ?? 'none' };
}

function batchOf({ to }: World, { message }: Wishes): Batch {
  const isReport = message === 'a TLS report';
  return {
    messageId: 'M1',
    receivedAt: 0,
    expiresAt: 1,
    client: isReport ? TLS_REPORTER : 'exchange',
    envelope: {
      sender: 'a@office.nl',
      smtputf8: false,
      body: '7bit',
      ret: null,
      envid: null,
      tls: isReport ? 'default' : message,
    },
    content: { size: 1, eightBit: false, utf8Header: false },
    domain: to === 'literal' ? '[192.0.2.1]' : 'example.nl',
    recipients: [
      {
        id: 1,
        address: 'b@example.nl',
        notify: null,
        orcpt: null,
        attempts: 0,
        delayNoticeSent: false,
        lastCode: null,
      },
    ],
  };
}

function visitOf({ address, host, batch }: VisitRequest, takes: boolean): Visit {
  const code = takes ? 'remote-accepted' : 'tls-handshake-failed';
  const verdict: ConnectionFacts['verdict'] = takes ? 'encrypted' : 'failed';
  const connection: ConnectionFacts = { address, verdict, record: null, depth: null, tls: null, code, reason: '' };
  if (!takes) return { kind: 'useless', connection, trouble: { code, detail: '' } };
  const outcomes = batch.recipients.map(({ id }) => ({
    recipientId: id,
    result: 'delivered' as const,
    code: 'remote-accepted' as const,
    status: '2.0.0',
    detail: '',
    host: host.name,
    address,
    reply: '250',
    dsnPassedOn: false,
  }));
  return { kind: 'settled', connection, outcomes };
}

const keysOf = <Table extends object>(table: Table) => fc.constantFrom(...(Object.keys(table) as (keyof Table)[]));
const RULES = ['dane', 'dane-only', 'encrypt', 'verify', 'pin', 'may'] as const;
const anyWorld: fc.Arbitrary<World> = fc.record({
  mx: fc.constantFrom('secure', 'insecure', 'implicit', 'route'),
  to: fc.constantFrom('domain', 'domain', 'domain', 'literal'),
  address: fc.constantFrom('secure', 'secure', 'insecure'),
  tlsa: keysOf(TLSA),
  sts: keysOf(STS),
  resolver: fc.constantFrom('trusted', 'trusted', 'trusted', 'lost', 'not trusted'),
});
const anyWishes: fc.Arbitrary<Wishes> = fc.record({
  rule: fc.constantFrom(...RULES),
  minimum: fc.constantFrom('may', 'dane', 'encrypt'),
  insecureMx: fc.constantFrom('dane', 'encrypt', 'may'),
  reportOnly: fc.boolean(),
  exception: keysOf(EXCEPTIONS),
  exceptionOf: fc.constantFrom('domain', 'host'),
  message: fc.constantFrom('default', 'default', 'required', 'optional', 'a TLS report'),
});
const anyHost: fc.Arbitrary<Host> = fc.record({
  tls: fc.constantFrom('none', 'weak', 'strong', 'strong'),
  matchesTlsa: fc.boolean(),
  trusted: fc.boolean(),
  key: keysOf(KEYS),
});

const holds = (claim: (world: World, wishes: Wishes, host: Host) => Promise<void>) =>
  fc.assert(fc.asyncProperty(anyWorld, anyWishes, anyHost, claim), { numRuns: 6_000 });

const PLAIN: Partial<Wishes> = { exception: 'none', reportOnly: false };

/** Whether the recipient has told by DANE what its host must be like, as far as the relay listens. */
const daneSpeaks = (world: World, { insecureMx }: Wishes): boolean =>
  !isLiteral(world) &&
  world.address === 'secure' &&
  (world.mx !== 'insecure' || insecureMx !== 'may') &&
  ['usable', 'unusable', 'not to be had'].includes(world.tlsa);

test('POL-03 POL-04 nothing weakens what DANE demands but what was granted, and only as far as that says', async () => {
  await holds(async (world, wishes, host) => {
    const { end } = await mail(world, wishes, host);
    if (end === null) return;
    const { message, reportOnly, exception, minimum } = wishes;
    const rule = wishes.rule === 'may' && minimum !== 'may' ? 'dane' : wishes.rule;
    if (message === 'a TLS report' || (rule === 'may' && message !== 'required')) return;
    if (message === 'optional' && rule === 'dane' && minimum !== 'encrypt') return;
    const granted = message !== 'required' && (reportOnly || exception !== 'none');
    expect(end.leniently && !granted).toBe(false);
    if (granted && reportOnly) return;
    // Nobody grants more than TLS that protects, to the key that the exception names.
    if (daneSpeaks(world, wishes)) expect(end.tls).toBe('strong');
    if (end.leniently && exception === 'pinned') expect(host.key).toBe('seen');
    if (granted) return;
    if (world.resolver !== 'trusted') expect(isLiteral(world)).toBe(true);
    if (daneSpeaks(world, wishes)) expect(world.tlsa).not.toBe('not to be had');
    const mustMatch = world.tlsa === 'usable' && (world.mx !== 'insecure' || wishes.insecureMx === 'dane');
    if (daneSpeaks(world, wishes) && mustMatch) expect(host.matchesTlsa).toBe(true);
    if (rule === 'dane-only') expect(end.policy).toBe('dane');
  });
});

test('POL-03 POL-04 whatever is granted, the rule and MTA-STS are as strict as without', async () => {
  await holds(async (world, wishes, host) => {
    const { end } = await mail(world, wishes, host);
    if (end === null || wishes.message === 'a TLS report') return;
    const { rule, message } = wishes;
    if (rule === 'verify') expect([end.tls, host.trusted]).toEqual(['strong', true]);
    if (rule === 'pin') expect([end.tls, host.key]).toEqual(['strong', 'rule']);
    if (rule === 'encrypt') expect(end.tls).toBe('strong');
    const waived = message === 'optional' && wishes.minimum !== 'encrypt' && (rule === 'dane' || rule === 'may');
    const heard = !waived && rule !== 'pin' && !isLiteral(world) && (rule !== 'may' || wishes.minimum !== 'may');
    if (!heard || (world.sts !== 'listed' && world.sts !== 'not listed')) return;
    const byDane = end.policy === 'dane' || end.policy === 'verify';
    if (!byDane) expect([world.sts, end.tls, host.trusted]).toEqual(['listed', 'strong', true]);
  });
});

test('with minimum: encrypt nothing leaves in the clear or under TLS that protects from nobody, whoever asks for it', async () => {
  await holds(async (world, wishes, host) => {
    const { end } = await mail(world, { ...wishes, minimum: 'encrypt' }, host);
    if (end !== null) expect(end.tls).toBe('strong');
  });
});

test('POL-03 POL-04 what is granted never keeps mail back that would have left, and changes nothing for what is proven', async () => {
  await holds(async (world, wishes, host) => {
    const [before, after] = [await mail(world, { ...wishes, ...PLAIN }, host), await mail(world, wishes, host)];
    if (before.end === null) return;
    expect(after.end).toEqual(before.end);
  });
});

test('POL-03 while failures are only reported, DANE keeps nothing back: what leaves without records leaves with any', async () => {
  await holds(async (world, wishes, host) => {
    const rule = wishes.rule === 'dane-only' ? 'dane' : wishes.rule;
    const without = { ...world, tlsa: 'none', resolver: 'trusted' } as const;
    const [bare, reported] = [
      await mail(without, { ...wishes, ...PLAIN, rule, message: 'default' }, host),
      await mail(world, { ...wishes, reportOnly: true, message: 'default' }, host),
    ];
    if (bare.end !== null) expect(reported.end).not.toBeNull();
  });
});

test('POL-04 an exception for the mail host grants what one for the domain does', async () => {
  await holds(async (world, wishes, host) => {
    const [ofDomain, ofHost] = [
      await mail(world, { ...wishes, exceptionOf: 'domain' }, host),
      await mail(world, { ...wishes, exceptionOf: 'host' }, host),
    ];
    expect(ofHost).toEqual(ofDomain);
  });
});

test('REQ-02 for a message that demands TLS nothing counts that was granted, and encryption alone never does', async () => {
  await holds(async (world, wishes, host) => {
    const demanding = { ...wishes, message: 'required' } as const;
    const [bare, granted] = [await mail(world, { ...demanding, ...PLAIN }, host), await mail(world, demanding, host)];
    expect(granted).toEqual(bare);
    if (granted.end === null) return;
    expect(granted.end.tls).toBe('strong');
    expect(['dane', 'verify', 'sts', 'pin']).toContain(granted.end.policy);
    if (world.mx === 'insecure' && granted.end.policy !== 'pin') expect(granted.end.policy).toBe('sts');
  });
});

test('REQ-06 REQ-08 a message that waives TLS is never held to more than others, and the rules hold as ever', async () => {
  await holds(async (world, wishes, host) => {
    const [plain, waiving] = [
      await mail(world, { ...wishes, message: 'default' }, host),
      await mail(world, { ...wishes, message: 'optional' }, host),
    ];
    if (plain.end !== null) expect(waiving.end).not.toBeNull();
    const { rule, minimum } = wishes;
    if (minimum !== 'encrypt' && (rule === 'dane' || rule === 'may')) expect(waiving.end).not.toBeNull();
    else expect(waiving.end).toEqual(plain.end);
  });
});

test('RPT-13 a TLS report leaves whatever is wrong with TLS; under minimum: encrypt, under any TLS that protects', async () => {
  await holds(async (world, wishes, host) => {
    const { end } = await mail(world, { ...wishes, message: 'a TLS report' }, host);
    if (wishes.minimum !== 'encrypt' || host.tls === 'strong') expect(end).not.toBeNull();
  });
});
