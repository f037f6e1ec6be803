/** The daily look at exceptions: what it makes of a host with and without one, and that nobody waits for it at a stop. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createRechecker, recheck } from '../../src/assembly/recheck.ts';
import type { Dial } from '../../src/cli/explain.ts';
import type { Exception } from '../../src/model/exception.ts';
import type { ReasonCode } from '../../src/model/reasons.ts';
import type { MailHost, NextHop } from '../../src/model/route.ts';
import type { TlsaFindings, TlsPolicy } from '../../src/model/tls-policy.ts';
import { asksForTlsa } from '../../src/policy/decide.ts';
import { addException, readRechecks } from '../../src/policy/exceptions.ts';
import { createJudge } from '../../src/policy/judge.ts';
import type { Lookups } from '../../src/relay.ts';
import { systemClock } from '../../src/shared/clock.ts';

const NOW = Date.UTC(2026, 10, 22);
const DAY = 86_400_000;
const exception: Exception = {
  id: 'x1',
  scope: { kind: 'domain', name: 'example.nl' },
  owner: 'Jan',
  reason: 'renewal',
  since: NOW,
  until: NOW + 30 * DAY,
  pins: [],
};
const records: TlsaFindings = {
  name: '_25._tcp.mx',
  dnssec: 'secure',
  base: 'mx.example.nl',
  records: [],
  considered: [{ usage: 3, selector: 1, matching: 1, data: Buffer.alloc(32) }],
  failure: null,
};

/** A domain whose hosts have addresses, or none. */
const lookupsTo = (hosts: Readonly<Record<string, 'found' | 'absent'>>): Lookups => ({
  destination: (domain) => ({ tls: 'dane', pins: [], nextHop: { kind: 'domain', domain, port: 25 } }),
  resolverDoubt: () => null,
  route: async () => {
    const all = Object.keys(hosts).map((name, at): MailHost => ({ name, preference: at, unusable: null }));
    const [first, ...others] = all;
    if (!first) throw new TypeError('no host');
    return { kind: 'hosts', mx: { kind: 'mx', dnssec: 'secure', expanded: null }, hosts: [first, ...others] };
  },
  findSts: async () => null,
  locate: async (name) =>
    hosts[name] === 'found'
      ? { kind: 'found', addresses: ['192.0.2.1'], dnssec: 'secure', bases: [name] }
      : { kind: 'absent', dnssec: 'secure' },
  asksForTlsa: asksForTlsa('dane'),
  findTlsa: async () => records,
  decide: createJudge({ insecureMx: 'dane', resolverDoubt: () => null, forHost: () => null }),
});

/** Hosts that fail under these policies, and why. */
const dialTo =
  (fails: Partial<Record<TlsPolicy['kind'], ReasonCode>>): Dial =>
  async ({ address, policy }) => {
    const code = fails[policy.kind];
    const seen = { address, record: null, depth: null, tls: null, reason: 'as seen' } as const;
    const connection = { ...seen, verdict: code ? 'failed' : 'authenticated', code: code ?? 'dane-ee' } as const;
    return { connection, trouble: code ? { code, detail: 'as seen' } : null, extensions: [], chain: [] };
  };

test.each<[string, Parameters<typeof dialTo>[0], Parameters<typeof lookupsTo>[0], object]>([
  [
    'DANE fails: it is needed',
    { dane: 'tlsa-mismatch' },
    { mx: 'found' },
    { repaired: false, helps: true, detail: expect.stringMatching(/^mx: tlsa-mismatch: .*as seen/) },
  ],
  ['DANE holds again', {}, { mx: 'found' }, { repaired: true, helps: false }],
  [
    'DANE would hold, and TLS is too weak for anybody: it does not help',
    { dane: 'tls-too-weak', except: 'tls-too-weak' },
    { mx: 'found' },
    { repaired: false, helps: false, detail: expect.stringMatching(/NCSC.*as seen/) },
  ],
  [
    'the key is none of those that it names: it does not help',
    { dane: 'tlsa-mismatch', except: 'pin-mismatch' },
    { mx: 'found' },
    { repaired: false, helps: false, detail: expect.stringContaining('key') },
  ],
  [
    'nobody can be reached: that is all that is known',
    { dane: 'connect-failed', except: 'connect-failed' },
    { mx: 'found' },
    { repaired: false, helps: null, detail: expect.stringContaining('as seen') },
  ],
  [
    'all is well again, and another host never had an address',
    {},
    { mx: 'found', gone: 'absent' },
    { repaired: true, helps: false },
  ],
  [
    'DANE fails, and another host never had an address',
    { dane: 'tlsa-mismatch' },
    { gone: 'absent', mx: 'found' },
    { repaired: false, helps: true },
  ],
])('POL-04 %s', async (_, fails, hosts, expected) => {
  expect(await recheck(exception, lookupsTo(hosts), dialTo(fails), NOW)).toEqual({
    at: NOW,
    detail: expect.any(String),
    ...expected,
  });
});

test('POL-04 for a mail host DANE counts, also where the rule for its own name switches it off; for a domain that rule does', async () => {
  const lookups = lookupsTo({ 'mx.example.nl': 'found' });
  const waived: Lookups = {
    ...lookups,
    destination: (domain) => ({ ...lookups.destination(domain), tls: 'may' }),
  };
  const look = (scope: Exception['scope']) =>
    recheck({ ...exception, scope }, waived, dialTo({ dane: 'tlsa-mismatch' }), NOW);
  expect(await look({ kind: 'host', name: 'mx.example.nl' })).toMatchObject({ repaired: false, helps: true });
  expect(await look({ kind: 'domain', name: 'example.nl' })).toMatchObject({ repaired: true, helps: false });
});

test('POL-04 while failures are only reported the look is as strict as it will be, and a mail host is asked for by its name', async () => {
  const lookups = lookupsTo({ 'mx.example.nl': 'found' });
  const asked: NextHop[] = [];
  const reporting: Lookups = {
    ...lookups,
    destination: (domain) => ({ ...lookups.destination(domain), reportUntil: NOW + DAY }),
    route: (nextHop) => {
      asked.push(nextHop);
      return lookups.route(nextHop);
    },
  };
  const scope = { kind: 'host', name: 'mx.example.nl' } as const;
  const dial = dialTo({ dane: 'tlsa-mismatch' });
  expect(await recheck({ ...exception, scope }, reporting, dial, NOW)).toMatchObject({ repaired: false, helps: true });
  expect(asked).toEqual([HOP, HOP]);
});

const HOP: NextHop = { kind: 'host', host: 'mx.example.nl', port: 25 };

test('POL-04 a host that says nothing keeps nobody from stopping, and nothing is held against it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'recheck-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const { id: _, ...wish } = exception;
  await addException(folder, { ...wish, since: Date.now(), until: Date.now() + DAY });
  let told = (): void => undefined;
  const dialled = new Promise<void>((resolve) => {
    told = resolve;
  });
  const rechecker = createRechecker({
    folder,
    lookups: () => lookupsTo({ mx: 'found' }),
    dial: () => {
      told();
      return new Promise(() => undefined);
    },
    clock: systemClock,
    log: { info() {}, warn() {}, error() {} },
  });
  rechecker.start();
  await dialled;
  await rechecker.close();
  expect(readRechecks(folder).size).toBe(0);
});

test('POL-04 the end of one that is needed is told ahead, and nothing while the resolver cannot be believed', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'recheck-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const { id: _, ...wish } = exception;
  await addException(folder, { ...wish, since: Date.now(), until: Date.now() + 6 * DAY });
  await addException(folder, { ...wish, since: Date.now(), until: Date.now() + 8 * DAY });
  const said: string[] = [];
  const say =
    (level: string) =>
    (text: string): void =>
      void said.push(`${level} ${text.split(':')[0]}`);
  const log = { info: say('info'), warn: say('warn'), error: say('error') };
  const dial = dialTo({ dane: 'tlsa-mismatch' });
  let doubt: string | null = 'it does not validate';
  const lookups = () => ({ ...lookupsTo({ mx: 'found' }), resolverDoubt: () => doubt });
  const { round } = createRechecker({ folder, lookups, dial, clock: systemClock, log });
  await round();
  expect(said).toEqual([]);
  doubt = null;
  await round();
  await round();
  expect(said).toEqual(['warn an exception that is needed ends soon', 'info an exception is still needed']);
});
