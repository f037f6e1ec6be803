import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DnsAnswer } from '../../src/model/dns.ts';
import { createResolver } from '../../src/route/resolver.ts';
import { createTrust, judgeProof, type Trust, type TrustState } from '../../src/route/trust.ts';
import { type Clock, systemClock } from '../../src/shared/clock.ts';
import { a, type FakeDns, message, RCODE, rr, type Script, startFakeDns, TYPE, wireName } from '../support/fake-dns.ts';
import { bogus, type RouteLab, signed, startRouteLab, temporaryFolder } from '../support/route-lab.ts';

const NAME_SERVERS = rr('', TYPE.NS, wireName('ns.root'));

describe('what the probes prove', () => {
  const found = (secure: boolean): DnsAnswer<string> => ({ kind: 'found', secure, name: '.', records: ['x'], ttl: 1 });
  const absent = (nxdomain: boolean, secure = false): DnsAnswer<string> => ({
    kind: 'absent',
    secure,
    name: '.',
    nxdomain,
  });
  const failed: DnsAnswer<string> = { kind: 'failed', reason: 'SERVFAIL', extended: null };
  test.each<[string, DnsAnswer<string>, DnsAnswer<string>[], TrustState['kind']]>([
    ['AD on the signed name, the bogus one fails', found(true), [failed], 'proven'],
    ['the bogus one does not exist here', found(true), [absent(true)], 'proven'],
    ['there is none', found(true), [], 'proven'],
    ['no AD', found(false), [failed], 'not-validating'],
    ['no name servers', absent(false, true), [failed], 'not-validating'],
    ['no answer for the signed name', failed, [failed], 'unreachable'],
    ['data for the bogus name', found(true), [found(false)], 'not-validating'],
    ['data for one of the bogus names, with AD even', found(true), [failed, found(true)], 'not-validating'],
    ['NOERROR without data for the bogus name', found(true), [absent(false)], 'not-validating'],
  ])('DNS-17 %s', (_, good, bad, kind) => {
    const probes = bad.map((answer, i) => ({ name: `bogus${i}.nl`, answer }));
    expect(judgeProof({ name: '.', answer: good }, probes).kind).toBe(kind);
  });
});

describe('a real Unbound', () => {
  let lab: RouteLab;
  beforeAll(async () => {
    lab = await startRouteLab({
      'good.test': signed('mx A 127.0.0.2'),
      'bogus.test': bogus('@ A 127.0.0.2', '@ NS ns.bogus.test.'),
    });
  });
  afterAll(() => lab.close());

  /** The state of an Unbound whose configuration is the lab's with some words changed. */
  async function stateWith(change: (config: string) => string): Promise<TrustState> {
    const { path, remove } = await temporaryFolder();
    // Free on this address too: the lab could not have it otherwise.
    const { port } = lab.dns.server;
    const labConfig = await readFile(join(lab.dns.anchorFile, '..', 'unbound.conf'), 'utf8');
    const config = labConfig
      .replace(/interface: .*/, `interface: 127.0.0.7@${port}`)
      .replace(/control-enable: yes/, 'control-enable: no');
    const file = join(path, 'unbound.conf');
    await writeFile(file, `${change(config)}\nserver:\n  access-control: 127.0.0.0/8 allow\n`);
    const unbound = spawn('setpriv', ['--pdeathsig', 'KILL', '/usr/sbin/unbound', '-d', '-c', file], {
      stdio: 'ignore',
    });
    const resolver = createResolver({ server: { address: '127.0.0.7', port }, timeoutMs: 5000 });
    for (let up = false; !up; ) {
      const answer = await resolver.resolveAfresh('good.test', 'NS');
      up = answer.kind !== 'failed' || !answer.reason.includes('cannot be reached');
      if (unbound.exitCode !== null) throw new Error('unbound does not start');
    }
    const trust = createTrust({
      resolve: resolver.resolveAfresh,
      signed: '.',
      bogus: ['bogus.test'],
      clock: systemClock,
    });
    const state = await trust.check();
    resolver.close();
    unbound.kill();
    await once(unbound, 'exit');
    await remove();
    return state;
  }

  test('DNS-17 that validates is proven to', async () => {
    expect(await stateWith((config) => config)).toEqual({ kind: 'proven' });
  });

  test('DNS-17 in permissive mode is found out, by the bogus name alone', async () => {
    const state = await stateWith((config) => config.replace('server:\n', 'server:\n  val-permissive-mode: yes\n'));
    expect(state).toMatchObject({ kind: 'not-validating', reason: expect.stringContaining('bogus.test') });
  });

  test('DNS-17 without its validator is found out', async () => {
    const state = await stateWith((config) => config.replace('"validator iterator"', '"iterator"'));
    expect(state.kind).toBe('not-validating');
  });

  test('DNS-09 DNS-17 without a trust anchor is found out', async () => {
    const state = await stateWith((config) => config.replace(/trust-anchor-file: .*/, ''));
    expect(state.kind).toBe('not-validating');
  });

  test('DNS-17 with the trust anchor of another root: nothing can be looked up, and that is said', async () => {
    const anchor = 'trust-anchor-file: /usr/share/dns/root.key';
    const state = await stateWith((config) => config.replace(/trust-anchor-file: .*/, anchor));
    expect(state).toMatchObject({ kind: 'unreachable', reason: expect.stringContaining('SERVFAIL') });
  });

  test('DNS-17 the signed probe may be another name', async () => {
    const probe = (signedName: string): Promise<TrustState> =>
      createTrust({ resolve: lab.resolve, signed: signedName, bogus: ['bogus.test'], clock: systemClock }).check();
    expect(await probe('good.test')).toEqual({ kind: 'proven' });
    expect((await probe('bogus.test')).kind).toBe('unreachable');
  });

  test('the probes really ask, whatever the client remembers', async () => {
    lab.asked();
    const trust = createTrust({ resolve: lab.resolve, signed: '.', bogus: ['bogus.test'], clock: systemClock });
    await Promise.all([trust.check(), trust.check()]);
    await trust.check();
    expect(lab.asked().filter((question) => question === 'NS .')).toHaveLength(2);
  });
});

describe('over time', () => {
  /** A clock on which a test lets time pass: each sleep waits to be ended by `tick`. */
  function handClock(): Clock & { tick: () => Promise<number> } {
    const sleeps: { ms: number; wake: () => void }[] = [];
    return {
      now: () => 0,
      sleep: (ms, signal) =>
        new Promise((wake) => {
          sleeps.push({ ms, wake });
          signal?.addEventListener('abort', () => wake(), { once: true });
        }),
      tick: async () => {
        while (sleeps.length === 0) await new Promise((resolve) => setImmediate(resolve));
        const [sleep] = sleeps.splice(0);
        sleep?.wake();
        return sleep?.ms ?? 0;
      },
    };
  }

  const validating: Script = (query) =>
    query.type === TYPE.NS
      ? message(query, { ad: true, answers: [NAME_SERVERS] })
      : message(query, { rcode: RCODE.SERVFAIL });
  const permissive: Script = (query) =>
    query.type === TYPE.NS
      ? message(query, { ad: true, answers: [NAME_SERVERS] })
      : message(query, { answers: [a(query.name, '192.0.2.1')] });
  const broken: Script = (query) => message(query, { rcode: RCODE.SERVFAIL });

  test('DNS-17 each change is noticed at the next test, which comes sooner while there is no proof', async () => {
    const fake: FakeDns = await startFakeDns(broken);
    const { resolveAfresh, close } = createResolver({ server: fake.server, timeoutMs: 2000 });
    const clock = handClock();
    const changes: string[] = [];
    const trust: Trust = createTrust({
      resolve: resolveAfresh,
      signed: '.',
      bogus: ['dnssec-failed.org'],
      clock,
      onChange: (state, before) => changes.push(`${before.kind} → ${state.kind}`),
    });
    const next = async (script: Script): Promise<[number, boolean]> => {
      fake.script = script;
      const waited = await clock.tick();
      // The test that this tick began is over when the loop sleeps again.
      await trust.check();
      return [waited, trust.trusted()];
    };

    expect([trust.state().kind, trust.trusted()]).toEqual(['untested', false]);
    expect((await trust.start()).kind).toBe('unreachable');
    expect(await next(validating)).toEqual([5000, true]);
    expect(await next(validating)).toEqual([60_000, true]);
    expect(await next(permissive)).toEqual([60_000, false]);
    expect(await next(validating)).toEqual([5000, true]);
    expect(await next(broken)).toEqual([60_000, false]);
    trust.close();
    expect(changes).toEqual([
      'untested → unreachable',
      'unreachable → proven',
      'proven → not-validating',
      'not-validating → proven',
      'proven → unreachable',
    ]);
    close();
    await fake.close();
  });

  test('DNS-17 the bogus name is asked for, and breaks the trust in who believes it', async () => {
    const fake = await startFakeDns(permissive);
    const { resolveAfresh, close } = createResolver({ server: fake.server });
    const state = await createTrust({
      resolve: resolveAfresh,
      signed: '.',
      bogus: ['dnssec-failed.org'],
      clock: systemClock,
    }).check();
    expect(state).toMatchObject({ kind: 'not-validating', reason: expect.stringContaining('dnssec-failed.org') });
    expect(fake.queries.map(({ name }) => name).toSorted()).toEqual(['', 'dnssec-failed.org']);
    close();
    await fake.close();
  });
});
