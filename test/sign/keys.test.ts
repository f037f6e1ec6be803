/** Managed keys through their life, key files that must not be used, and records as DNS has them. */
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { KeyChange, KeyEntry } from '../../src/model/dkim.ts';
import type { DnsAnswer, Resolve } from '../../src/model/dns.ts';
import type { Logger } from '../../src/model/events.ts';
import { createKeyRing, endPair, type KeySource, SETTLE_MS } from '../../src/sign/keys.ts';
import { createKeyDesk } from '../../src/sign/keys-desk.ts';
import { readKeyFile } from '../../src/sign/keys-file.ts';
import { judgePublication, zoneLine } from '../../src/sign/keys-record.ts';
import { changePairs, type KeyPair, readPairs } from '../../src/sign/keys-state.ts';

const DAY = 86_400_000;
const DOMAIN = 'example.nl';

function folderFor(): string {
  const folder = mkdtempSync(join(tmpdir(), 'dane-dkim-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A relay and an operator at one folder, a DNS that shows what is put into it, and a clock that is set by hand. */
async function scene(changes: Partial<KeySource> = {}) {
  const folder = join(folderFor(), 'dkim');
  const sources: readonly KeySource[] = [{ domain: DOMAIN, files: [], managed: { retireAfter: 14 * DAY }, ...changes }];
  let now = Date.UTC(2029, 0, 1);
  const clock = { now: () => now, sleep: async () => undefined };
  const dns = new Map<string, string | DnsAnswer<string>>();
  const resolve: Resolve = async (name, _type) => {
    const entry = dns.get(name);
    if (entry === undefined) return { kind: 'absent', secure: false, name, nxdomain: true };
    const answer = typeof entry === 'string' ? found(entry) : entry;
    return answer as Awaited<ReturnType<Resolve>> as never;
  };
  const said: string[] = [];
  const say = (message: string): void => void said.push(message);
  const log: Logger = { mail() {}, debug() {}, info: say, warn: say, error: say };
  const ring = await createKeyRing({ sources, folder, clock, log });
  const desk = createKeyDesk({ sources, folder, resolve, clock });
  return {
    folder,
    ring,
    desk,
    said,
    dns,
    publish: ({ entries }: { readonly entries: readonly KeyEntry[] }): void => {
      for (const { name, text } of entries) dns.set(name, text ?? '');
    },
    later: async (ms: number): Promise<void> => {
      now += ms;
      await ring.tend(resolve);
    },
    signsWith: (): readonly string[] => {
      const keys = ring.keysOf(DOMAIN);
      return keys.kind === 'keys' ? keys.keys.map(({ selector }) => selector) : [keys.kind, keys.why];
    },
    states: (): readonly string[] => readPairs(folder).map(({ name, state }) => `${name} ${state}`),
  };
}

function found(...records: readonly [string, ...string[]]): DnsAnswer<string> {
  return { kind: 'found', secure: false, name: 'x', records, ttl: 60 };
}

const FAILED: DnsAnswer<string> = { kind: 'failed', reason: 'SERVFAIL', extended: null };

function done(change: KeyChange): KeyChange {
  expect(change).toMatchObject({ done: true });
  return change;
}

describe('a pair of keys through its life', () => {
  test('DKIM-09 it signs once DNS shows both records, not before, and not the moment that they are seen', async () => {
    const { desk, publish, later, signsWith, dns, said } = await scene();
    expect(desk.bare(null)).toEqual([DOMAIN]);
    expect(signsWith()).toEqual(['not-yet', 'example.nl has no keys yet: run "dane-relay dkim new example.nl"']);
    const made = done(await desk.make(DOMAIN));
    expect(desk.bare(null)).toEqual([]);
    expect(made.entries.map(({ selector, algorithm }) => [selector, algorithm])).toEqual([
      ['20290101r', 'rsa-sha256'],
      ['20290101e', 'ed25519-sha256'],
    ]);
    await later(DAY);
    expect(signsWith()).toEqual(['not-yet', 'the first keys of example.nl wait for their records in DNS']);
    // Nothing signs, and there is something to do.
    expect((await desk.check(DOMAIN)).map(({ wrong }) => wrong)).toEqual([true, true]);
    publish({ entries: made.entries.slice(0, 1) });
    expect(await desk.rotate(DOMAIN)).toMatchObject({ done: false });
    await later(DAY);
    await later(DAY);
    expect(signsWith()[0]).toBe('not-yet');
    publish(made);
    await later(DAY);
    expect(signsWith()[0]).toBe('not-yet');
    // Nobody knows what DNS has: neither a reason to begin nor to begin anew.
    for (const [name, text] of [...dns]) dns.set(name, FAILED).set(`${name} before`, text);
    await later(SETTLE_MS);
    expect(signsWith()[0]).toBe('not-yet');
    publish(made);
    await later(1);
    expect(signsWith()).toEqual(['20290101r', '20290101e']);
    expect(said.join('\n')).toContain('DNS shows the next keys; they sign from now on');
  });

  test('DKIM-10 the next pair takes over by itself; the old one stays published for its time and is then deleted', async () => {
    const { desk, publish, later, signsWith, states, folder, dns, said } = await scene();
    publish(done(await desk.make(DOMAIN)));
    done(await desk.rotate(DOMAIN));
    await later(DAY);
    const next = done(await desk.rotate(DOMAIN));
    expect(next.entries.map(({ selector }) => selector)).toEqual(['20290102r', '20290102e']);
    expect(await desk.rotate(DOMAIN)).toMatchObject({
      done: false,
      why: 'the next keys cannot sign before DNS shows both of their records',
    });
    await later(DAY);
    expect(signsWith()).toEqual(['20290101r', '20290101e']);
    publish(next);
    await later(DAY);
    await later(SETTLE_MS);
    expect(signsWith()).toEqual(['20290102r', '20290102e']);
    expect(states()).toEqual(['20290101 old', '20290102 active']);
    await later(13 * DAY);
    expect(existsSync(join(folder, DOMAIN, '20290101r.pem'))).toBe(true);
    await later(DAY);
    expect(states()).toEqual(['20290101 retired', '20290102 active']);
    expect(readdirSync(join(folder, DOMAIN)).sort()).toEqual(['20290102e.pem', '20290102r.pem']);
    expect(said.join('\n')).toContain('old keys are retired; their records can be taken out of DNS');
    for (const name of [...dns.keys()].filter((each) => each.startsWith('20290101'))) dns.delete(name);
    await later(DAY);
    expect(states()).toEqual(['20290102 active']);
  });

  test('DKIM-11 keys whose record is gone stop signing after a second look, the ones before them step in, else mail waits', async () => {
    const { desk, publish, later, signsWith, dns, ring, states } = await scene();
    const first = done(await desk.make(DOMAIN));
    publish(first);
    done(await desk.rotate(DOMAIN));
    await later(DAY);
    const second = done(await desk.rotate(DOMAIN));
    publish(second);
    done(await desk.rotate(DOMAIN));
    await ring.refresh();
    expect(signsWith()).toEqual(['20290102r', '20290102e']);
    for (const { name } of second.entries) dns.delete(name);
    await later(1);
    expect(signsWith()).toEqual(['20290102r', '20290102e']);
    await later(1);
    expect(signsWith()).toEqual(['20290101r', '20290101e']);
    for (const { name } of first.entries) dns.set(name, 'v=DKIM1; p=');
    await later(1);
    await later(1);
    expect(ring.keysOf(DOMAIN)).toMatchObject({ kind: 'unusable', code: 'dkim-key-unpublished' });
    // Not being told is no news.
    for (const { name } of second.entries) dns.set(name, FAILED);
    await later(1);
    expect(ring.keysOf(DOMAIN)).toMatchObject({ kind: 'unusable', code: 'dkim-key-unpublished' });
    // Nor is half of it.
    publish({ entries: second.entries.slice(0, 1) });
    await later(1);
    expect(ring.keysOf(DOMAIN)).toMatchObject({ kind: 'unusable', code: 'dkim-key-unpublished' });
    publish(second);
    await later(1);
    expect(signsWith()).toEqual(['20290102r', '20290102e']);
    // Old keys are not retired while nothing else signs.
    for (const { name } of second.entries) dns.delete(name);
    await later(1);
    await later(30 * DAY);
    expect(states()).toEqual(['20290101 old', '20290102 active']);
  });

  test('DKIM-11 a DNS that cannot be asked changes nothing, for a year', async () => {
    const { desk, publish, later, signsWith, dns } = await scene();
    publish(done(await desk.make(DOMAIN)));
    done(await desk.rotate(DOMAIN));
    for (const name of [...dns.keys()]) dns.set(name, FAILED);
    for (let days = 0; days < 365; days += 5) await later(5 * DAY);
    expect(signsWith()).toEqual(['20290101r', '20290101e']);
  });

  test('DKIM-12 after half a year the log and the check call for new keys, until they are made', async () => {
    const { desk, publish, later, said } = await scene();
    publish(done(await desk.make(DOMAIN)));
    done(await desk.rotate(DOMAIN));
    await later(181 * DAY);
    const reminders = (): number => said.filter((line) => line.includes('more than half a year')).length;
    expect(reminders()).toBe(0);
    await later(2 * DAY);
    await later(DAY);
    expect(reminders()).toBe(0);
    await later(7 * DAY);
    await later(DAY);
    expect(reminders()).toBe(1);
    const [entry] = await desk.check(DOMAIN);
    expect(entry).toMatchObject({ wrong: false, note: expect.stringContaining('dane-relay dkim rotate example.nl') });
    done(await desk.rotate(DOMAIN));
    await later(8 * DAY);
    expect(reminders()).toBe(1);
  });

  test('DKIM-13 an operator retires what does not sign, and never what does', async () => {
    const { desk, publish, states, ring } = await scene();
    publish(done(await desk.make(DOMAIN)));
    expect(await desk.make(DOMAIN)).toMatchObject({ done: false });
    done(await desk.rotate(DOMAIN));
    await ring.refresh();
    expect(await desk.retire(DOMAIN, '20290101r')).toMatchObject({ done: false });
    expect(await desk.retire(DOMAIN, null)).toMatchObject({ done: false, why: 'there are no old keys' });
    const next = done(await desk.rotate(DOMAIN));
    expect(next.entries.map(({ selector }) => selector)).toEqual(['20290101-2r', '20290101-2e']);
    done(await desk.retire(DOMAIN, '20290101-2e'));
    expect(states()).toEqual(['20290101 active', '20290101-2 retired']);
    await expect(desk.make('example.org')).rejects.toThrow('the configuration does not manage keys for example.org');
  });

  test('DKIM-14 keys that were there and are lost make mail wait, not leave unsigned', async () => {
    const { desk, publish, ring, folder, signsWith } = await scene();
    publish(done(await desk.make(DOMAIN)));
    done(await desk.rotate(DOMAIN));
    await ring.refresh();
    rmSync(folder, { recursive: true });
    await ring.refresh();
    expect(signsWith()[0]).toBe('unusable');
  });
});

describe('what may go wrong on the way', () => {
  /** Old keys and new ones that sign. */
  async function rotated() {
    const all = await scene();
    const first = done(await all.desk.make(DOMAIN));
    all.publish(first);
    done(await all.desk.rotate(DOMAIN));
    await all.later(DAY);
    const second = done(await all.desk.rotate(DOMAIN));
    all.publish(second);
    done(await all.desk.rotate(DOMAIN));
    await all.ring.refresh();
    return { ...all, first, second };
  }

  test('DKIM-09 a clock that is put back does not keep the next keys waiting until it has caught up', async () => {
    const { desk, publish, later, signsWith } = await scene();
    publish(done(await desk.make(DOMAIN)));
    await later(1);
    await later(-400 * DAY);
    expect(signsWith()[0]).toBe('not-yet');
    await later(SETTLE_MS);
    expect(signsWith()).toEqual(['20290101r', '20290101e']);
  });

  test('DKIM-12 a clock that is put back does not end the reminders', async () => {
    const { desk, publish, later, said } = await scene();
    publish(done(await desk.make(DOMAIN)));
    done(await desk.rotate(DOMAIN));
    await later(400 * DAY);
    await later(-200 * DAY);
    expect(said.filter((line) => line.includes('more than half a year'))).toHaveLength(2);
  });

  test('DKIM-13 old keys that sign in the place of newer ones are not retired', async () => {
    const { desk, later, signsWith, dns, second, states, folder } = await rotated();
    for (const { name } of second.entries) dns.delete(name);
    await later(1);
    await later(1);
    expect(signsWith()).toEqual(['20290101r', '20290101e']);
    for (const selector of [null, '20290101r']) {
      expect(await desk.retire(DOMAIN, selector)).toMatchObject({
        done: false,
        why: 'these keys sign, because DNS does not show the newer ones: put the records of those back',
      });
    }
    // Nor where who ends them saw something else before.
    const old = readPairs(folder).find(({ state }) => state === 'old');
    expect(old && endPair(folder, old)).toBe(false);
    expect(states()).toEqual(['20290101 old', '20290102 active']);
    expect(existsSync(join(folder, DOMAIN, '20290101e.pem'))).toBe(true);
    await later(1);
    expect(signsWith()).toEqual(['20290101r', '20290101e']);
  });

  test('DKIM-13 keys that another process lets sign at this moment are not deleted', async () => {
    const { desk, publish, folder, states } = await scene();
    publish(done(await desk.make(DOMAIN)));
    const [next] = readPairs(folder);
    if (!next) throw new Error('there are no keys');
    done(await desk.rotate(DOMAIN));
    expect(endPair(folder, next)).toBe(false);
    expect(states()).toEqual(['20290101 active']);
    expect(readdirSync(join(folder, DOMAIN))).toHaveLength(2);
  });

  test('DKIM-15 a crash in the middle of an end leaves no private keys for long', async () => {
    const { folder, later, states } = await rotated();
    const retired = (pair: KeyPair): KeyPair => ({ ...pair, state: 'retired', retireAt: null });
    changePairs(folder, (pairs) => pairs.map((pair) => (pair.state === 'old' ? retired(pair) : pair)));
    expect(readdirSync(join(folder, DOMAIN))).toHaveLength(4);
    await later(1);
    expect(states()).toEqual(['20290101 retired', '20290102 active']);
    expect(readdirSync(join(folder, DOMAIN)).sort()).toEqual(['20290102e.pem', '20290102r.pem']);
  });

  test('DKIM-15 a crash after the keys were written and before anybody knows of them: others are made', async () => {
    const { desk, folder, states } = await scene();
    mkdirSync(join(folder, DOMAIN), { recursive: true, mode: 0o700 });
    writeFileSync(join(folder, DOMAIN, '20290101r.pem'), 'half', { mode: 0o600 });
    writeFileSync(join(folder, 'new.1.0'), '{', { mode: 0o600 });
    done(await desk.make(DOMAIN));
    expect(states()).toEqual(['20290101-2 next']);
    expect(readFileSync(join(folder, DOMAIN, '20290101r.pem'), 'utf8')).toBe('half');
  });

  test('DKIM-15 two operators make the next keys at once: one pair is there, and no keys of the other', async () => {
    const { desk, folder, states } = await scene();
    const ends = await Promise.allSettled([desk.make(DOMAIN), desk.make(DOMAIN), desk.make(DOMAIN)]);
    expect(ends.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected', 'rejected']);
    expect(states()).toHaveLength(1);
    expect(readdirSync(join(folder, DOMAIN))).toHaveLength(2);
  });

  test('DKIM-15 domains that are new sign at once, also while all keys are being read', async () => {
    const path = join(folderFor(), 's1.pem');
    writeFileSync(path, generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }), {
      mode: 0o600,
    });
    const files = Array.from({ length: 50 }, (_, at) => ({ selector: `s${at}`, path }));
    const { ring } = await scene({ files, managed: null });
    const source = { files: files.slice(0, 1), managed: null };
    await Promise.all([ring.refresh(), ring.setSources([{ domain: 'new.example', ...source }])]);
    expect(ring.keysOf('new.example')).toMatchObject({ kind: 'keys' });
    expect(ring.keysOf(DOMAIN)).toMatchObject({ kind: 'not-yet' });
  });

  test('DKIM-16 what is not known is not told as if it were', async () => {
    const path = join(folderFor(), 's1.pem');
    writeFileSync(path, generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }), {
      mode: 0o600,
    });
    const { desk, publish, dns } = await scene({ files: [{ selector: 's1', path }] });
    publish(done(await desk.make(DOMAIN)));
    done(await desk.rotate(DOMAIN));
    publish({ entries: await desk.list(DOMAIN) });
    expect((await desk.check(DOMAIN)).map(({ wrong }) => wrong)).toEqual([false, false, false]);
    const next = done(await desk.rotate(DOMAIN));
    expect((await desk.check(DOMAIN)).map(({ wrong }) => wrong)).toEqual([false, false, false, false, false]);
    publish(next);
    for (const name of [...dns.keys()]) dns.set(name, FAILED);
    const told = (await desk.check(DOMAIN)).map(({ state, wrong, note }) => [state, wrong, note]);
    const unknown = 'DNS could not be asked: SERVFAIL';
    expect(told).toEqual([
      ['file', true, unknown],
      ['active', true, unknown],
      ['active', true, unknown],
      ['next', false, `${unknown}; it does not sign before`],
      ['next', false, `${unknown}; it does not sign before`],
    ]);
    expect(await desk.rotate(DOMAIN)).toMatchObject({ done: false });
  });
});

describe('the folder of managed keys', () => {
  test('DKIM-14 keys are 0600 in folders of 0700; others who could read them make them useless', async () => {
    const { desk, publish, ring, folder, signsWith } = await scene();
    publish(done(await desk.make(DOMAIN)));
    done(await desk.rotate(DOMAIN));
    const key = join(folder, DOMAIN, '20290101r.pem');
    const modes = [folder, join(folder, DOMAIN), key, join(folder, 'state.2.json')];
    expect(modes.map((path) => (statSync(path).mode & 0o777).toString(8))).toEqual(['700', '700', '600', '600']);
    chmodSync(key, 0o640);
    await ring.refresh();
    expect(signsWith()).toEqual([
      'unusable',
      `${key} can be read or changed by others (mode 0640): run chmod 600 ${key}`,
    ]);
    expect((await desk.list(DOMAIN))[0]).toMatchObject({ wrong: true });
    chmodSync(key, 0o600);
    chmodSync(folder, 0o755);
    await ring.refresh();
    expect(signsWith()).toEqual([
      'unusable',
      `${folder} can be read or changed by others (mode 0755): run chmod 700 ${folder}`,
    ]);
    chmodSync(folder, 0o700);
    await ring.refresh();
    expect(signsWith()).toEqual(['20290101r', '20290101e']);
    writeFileSync(join(folder, 'state.3.json'), '{"pairs": [{}]}');
    await ring.refresh();
    expect(signsWith()).toEqual(['unusable', expect.stringContaining('state.3.json cannot be understood')]);
  });

  test('DKIM-15 changes of several processes at once are all kept', async () => {
    const folder = join(folderFor(), 'dkim');
    const url = new URL('../../src/sign/keys-state.ts', import.meta.url).href;
    const program = `
      import { changePairs } from '${url}';
      const pair = (name) => ({ domain: 'example.nl', name, state: 'old', madeAt: 0, activeSince: null, retireAt: null, missingSince: null, rsa: '', ed25519: '' });
      for (let i = 0; i < 20; i++) changePairs(process.argv[1], (pairs) => [...pairs, pair(process.argv[2] + '-' + i)]);
    `;
    const { spawn } = await import('node:child_process');
    const ends = ['a', 'b', 'c'].map((who) => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', program, folder, who], { stdio: 'inherit' });
      return new Promise((resolve) => child.once('exit', resolve));
    });
    expect(await Promise.all(ends)).toEqual([0, 0, 0]);
    const names = readPairs(folder).map(({ name }) => name);
    expect(new Set(names).size).toBe(60);
    expect(readdirSync(folder).length).toBeLessThan(25);
  });

  test('DKIM-15 a relay takes over what another process changed', async () => {
    const { desk, publish, ring, signsWith, folder } = await scene();
    publish(done(await desk.make(DOMAIN)));
    changePairs(folder, (pairs) => pairs.map((pair): KeyPair => ({ ...pair, state: 'active', activeSince: 0 })));
    await ring.refresh();
    expect(signsWith()).toEqual(['20290101r', '20290101e']);
  });
});

describe('key files', () => {
  const openssl = (...args: string[]): string =>
    execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'ignore'] }).toString();
  const pkcs1 = openssl('genrsa', '-traditional', '2048');
  test.each<[string, () => string, number, string]>([
    ['RSA', () => openssl('genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'), 0o600, 'rsa-sha256'],
    ['RSA in PKCS #1', () => pkcs1, 0o600, 'rsa-sha256'],
    ['Ed25519', () => openssl('genpkey', '-algorithm', 'ED25519'), 0o640, 'ed25519-sha256'],
    [
      'EC P-256',
      () => openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout'),
      0o600,
      'holds a key of the kind ec (prime256v1); DKIM knows RSA and Ed25519',
    ],
    [
      'RSA with 1024 bits',
      () => openssl('genrsa', '1024'),
      0o600,
      'holds an RSA key of 1024 bits; at least 2048 are needed',
    ],
    [
      'an encrypted key',
      () => openssl('genpkey', '-algorithm', 'ED25519', '-aes256', '-pass', 'pass:secret'),
      0o600,
      'is encrypted, and nobody is there to give a password when the relay starts',
    ],
    [
      'a public key',
      () => '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n',
      0o600,
      'holds no private key in PEM',
    ],
    ['a damaged key', () => pkcs1.replace(/.{64}\n/, '\n'), 0o600, 'holds no private key that can be read'],
    ['nothing', () => '', 0o600, 'holds no private key in PEM'],
    ['a file for all to read', () => pkcs1, 0o644, 'can be read or changed by others (mode 0644): run chmod 600 PATH'],
    [
      'a file for the group to write',
      () => pkcs1,
      0o660,
      'can be read or changed by others (mode 0660): run chmod 600 PATH',
    ],
    ['a large file', () => 'x'.repeat(100_000), 0o600, 'is too large for a key'],
  ])('DKIM-16 %s', async (_, make, mode, end) => {
    const path = join(folderFor(), 'key.pem');
    writeFileSync(path, make());
    chmodSync(path, mode);
    const reading = await readKeyFile(path, 'installed');
    expect(reading.ok ? reading.algorithm : reading.why.replaceAll(path, 'PATH')).toBe(
      reading.ok ? end : `PATH ${end}`,
    );
  });

  test('DKIM-16 a pipe keeps nobody waiting', async () => {
    const path = join(folderFor(), 'pipe');
    execFileSync('mkfifo', ['-m', '600', path]);
    expect(await readKeyFile(path, 'installed')).toEqual({ ok: false, why: `${path} is not a file` });
  });

  test('DKIM-16 no file, and a folder in its place', async () => {
    const folder = folderFor();
    expect(await readKeyFile(folder, 'installed')).toEqual({ ok: false, why: `${folder} is not a file` });
    expect(await readKeyFile(join(folder, 'x'), 'installed')).toMatchObject({
      ok: false,
      why: expect.stringContaining('ENOENT'),
    });
  });

  test('DKIM-16 a key that is given as a file signs as it is; the log tells when DNS has something else', async () => {
    const path = join(folderFor(), 's1.pem');
    writeFileSync(path, pkcs1, { mode: 0o600 });
    const { ring, later, said, signsWith, desk, publish } = await scene({
      files: [{ selector: 's1', path }],
      managed: null,
    });
    expect(signsWith()).toEqual(['s1']);
    await later(1);
    await later(1);
    expect(said.filter((line) => line.includes('cannot be verified: DNS has no record for it'))).toHaveLength(1);
    expect((await desk.check(DOMAIN))[0]).toMatchObject({ wrong: true, published: 'absent' });
    publish({ entries: await desk.list(DOMAIN) });
    await later(1);
    expect(said.at(-1)).toContain('all is well again');
    rmSync(path);
    await ring.refresh();
    expect(signsWith()[0]).toBe('unusable');
  });
});

describe('records', () => {
  const RECORD = 'v=DKIM1; k=rsa; p=AAAABBBB';
  test.each<[string, DnsAnswer<string>, string]>([
    ['itself', found(RECORD), 'shown'],
    ['with white space', found(' v = DKIM1 ; k=rsa;p=AAAA BBBB;'), 'shown'],
    ['without what is understood', found('p=AAAABBBB'), 'shown'],
    ['with limits that fit', found(`${RECORD}; h=sha1:sha256; s=email:tlsrpt; t=s`), 'shown'],
    ['none', { kind: 'absent', secure: true, name: 'x', nxdomain: true }, 'absent'],
    ['a failed lookup', FAILED, 'unknown: SERVFAIL'],
    ['two records', found(RECORD, RECORD), 'other: there are 2 TXT records'],
    ['another key', found('v=DKIM1; p=AAAA'), 'other: the record holds another key, or a part of this one'],
    ['of another kind', found('v=DKIM1; k=ed25519; p=AAAABBBB'), 'other: the record is not for rsa'],
    ['revoked', found('v=DKIM1; p='), 'other: the record says that the key is revoked: its p= is empty'],
    ['for SHA-1', found(`${RECORD}; h=sha1`), 'other: its h= does not allow sha256'],
    ['for something else', found(`${RECORD}; s=tlsrpt`), 'other: its s= does not allow email'],
    ['for testing', found(`${RECORD}; t=y:s`), 'other: its t=y asks everybody to treat the mail as not signed'],
    ['SPF', found('v=spf1 -all'), 'other: its version is not DKIM1'],
    ['words', found('hello'), 'other: the record is no list of tags'],
    ['its version last', found('k=rsa; p=AAAABBBB; v=DKIM1'), 'other: its v= is not the first tag'],
    ['escaped for a zone file', found('v=DKIM1\\; k=rsa\\; p=AAAABBBB'), 'other: its version is not DKIM1'],
    ['with quotes in it', found(`"${RECORD}"`), 'other: the record is no list of tags'],
    ['without a key', found('v=DKIM1'), 'other: the record has no p='],
  ])('DKIM-17 %s', (_, answer, end) => {
    const judged = judgePublication(answer, 'rsa-sha256', 'AAAABBBB');
    expect('why' in judged ? `${judged.kind}: ${judged.why}` : judged.kind).toBe(end);
  });

  test('DKIM-17 a zone file line has strings of 255 octets at most, and reads back as the record', () => {
    const text = `v=DKIM1; k=rsa; p=${'A'.repeat(392)}`;
    const line = zoneLine('s1._domainkey.example.nl', text);
    const strings = [...line.matchAll(/"([^"]*)"/g)].map(([, string = '']) => string);
    expect(strings.map(({ length }) => length)).toEqual([255, text.length - 255]);
    const path = join(folderFor(), 'zone');
    writeFileSync(path, `$ORIGIN example.nl.\n@ 60 IN SOA a b 1 1 1 1 1\n${line}\n`);
    const read = execFileSync('ldns-read-zone', [path]).toString();
    expect(read.replaceAll('" "', '')).toContain(`s1._domainkey.example.nl.\t60\tIN\tTXT\t"${text}"`);
    expect(readFileSync(path, 'utf8')).toContain(line);
  });
});
