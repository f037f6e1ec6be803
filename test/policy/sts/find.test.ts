/** Which policy holds, as time passes, DNS and policy hosts come and go, and processes come and go. On a real disk. */
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { DnsAnswer } from '../../../src/model/dns.ts';
import type { StsFindings } from '../../../src/model/sts.ts';
import { createStsCache } from '../../../src/policy/sts/cache.ts';
import type { Fetched } from '../../../src/policy/sts/fetch.ts';
import { createSts, type Sts } from '../../../src/policy/sts/find.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const DOMAIN = 'example.nl';

const policyOf = (mode: string, maxAge = 7 * 86_400): string =>
  `version: STSv1\nmode: ${mode}\nmx: mx.${mode}.nl\nmax_age: ${maxAge}\n`;
const served = (mode: string, maxAge?: number): Fetched => ({
  kind: 'fetched',
  octets: Buffer.from(policyOf(mode, maxAge)),
});
const gone: Fetched = { kind: 'failed', failure: { type: 'sts-policy-fetch-error', detail: 'nobody there' } };

/** A world with one thing to change at a time. `id` is what the TXT record says; null for none, 'fails' for SERVFAIL. */
interface World {
  id: string | null;
  host: Fetched | Promise<Fetched>;
  now: number;
  fetches: number;
  /** The DNS answers when this is done. */
  lookUp: Promise<void>;
  readonly warnings: string[];
}

let folder: string;
let world: World;
let sts: Sts;

/** Another process with the same folder, or the same one after a restart. */
function startProcess(changes: { keeps?: boolean; entriesAtMost?: number } = {}): Sts {
  const resolve = async (name: string): Promise<DnsAnswer<never>> => {
    await world.lookUp;
    if (world.id === 'fails') return { kind: 'failed', reason: 'SERVFAIL', extended: null };
    if (world.id === null) return { kind: 'absent', secure: false, name, nxdomain: true };
    const records = [`v=STSv1; id=${world.id};` as never] as const;
    return { kind: 'found', secure: false, name, records, ttl: 1 };
  };
  return createSts({
    resolve,
    fetchPolicy: async () => {
      world.fetches++;
      return world.host;
    },
    cache: createStsCache({
      folder,
      keeps: true,
      now: () => world.now,
      onTrouble: (error) => world.warnings.push(String(error)),
      ...changes,
    }),
    now: () => world.now,
    log: { info: () => {}, warn: (message) => world.warnings.push(message) },
  });
}

beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), 'sts-')), 'sts');
  world = {
    id: '1',
    host: served('enforce'),
    now: Date.UTC(2026, 0, 1),
    fetches: 0,
    lookUp: Promise.resolve(),
    warnings: [],
  };
  sts = startProcess();
});
afterEach(() => {
  chmodSync(join(folder, '..'), 0o700);
  // A policy may be on its way to the disk still.
  rmSync(join(folder, '..'), { recursive: true, force: true, maxRetries: 10 });
});

const story = (found: StsFindings): string => {
  const failure = found.failure === null ? '' : ` (${found.failure.type})`;
  return found.kind === 'none' ? `none${failure}` : `${found.policy.mode} ${found.id}${failure}`;
};
/** The one entry on disk. */
function storedIn(dir: string): { usedAt: number; policy: { id: string } } {
  const [file = ''] = readdirSync(dir).filter((name) => name.endsWith('.json'));
  return JSON.parse(readFileSync(join(dir, file), 'utf8'));
}
async function eventually(holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; !holds() && Date.now() < end; )
    await new Promise((done) => setTimeout(done, 5));
}
const find = async (domain = DOMAIN): Promise<string> => story(await sts.find(domain));

describe('STS-07 what holds', () => {
  test('a policy is fetched once, and asked for again only when its version is another', async () => {
    expect([await find(), await find()]).toEqual(['enforce 1', 'enforce 1']);
    world.now += 6 * DAY;
    expect(await find()).toBe('enforce 1');
    expect(world.fetches).toBe(1);
    world.id = '2';
    world.host = served('testing');
    expect([await find(), await find()]).toEqual(['testing 2', 'testing 2']);
    expect(world.fetches).toBe(2);
  });

  test.each<[string, Partial<World>]>([
    ['the record is gone', { id: null }],
    ['the record cannot be looked up', { id: 'fails' }],
    ['the new version cannot be fetched', { id: '2', host: gone }],
    ['the new version is not valid', { id: '2', host: { kind: 'fetched', octets: Buffer.from('<html>') } }],
  ])('a policy that is known holds when %s; when its time is over nothing does', async (_, change) => {
    await find();
    Object.assign(world, { host: gone, ...change });
    expect(await find()).toMatch(/^enforce 1/);
    world.now += 6 * DAY;
    expect(await find()).toMatch(/^enforce 1/);
    // Also in another process, and after a restart.
    sts = startProcess();
    expect(await find()).toMatch(/^enforce 1/);
    world.now += 2 * DAY;
    expect(await find()).toMatch(/^none/);
  });

  test.each<[string, Partial<World>, string]>([
    ['no record', { id: null }, 'none'],
    ['a record that cannot be looked up', { id: 'fails' }, 'none'],
    ['a policy that cannot be fetched', { host: gone }, 'none (sts-policy-fetch-error)'],
    [
      'a policy that is not valid',
      { host: { kind: 'fetched', octets: Buffer.from('x') } },
      'none (sts-policy-invalid)',
    ],
  ])('with nothing known, %s is as no MTA-STS', async (_, change, told) => {
    Object.assign(world, change);
    expect(await find()).toBe(told);
  });

  test('a fetch that failed is tried again after five minutes, for the same version; another version at once', async () => {
    world.host = gone;
    expect([await find(), await find()]).toEqual(Array(2).fill('none (sts-policy-fetch-error)'));
    expect(world.fetches).toBe(1);
    world.now += 4.9 * MINUTE;
    sts = startProcess();
    await find();
    expect(world.fetches).toBe(1);
    world.id = '2';
    await find();
    expect(world.fetches).toBe(2);
    world.now += 5.1 * MINUTE;
    world.host = served('enforce');
    expect(await find()).toBe('enforce 2');
    expect(world.fetches).toBe(3);
    expect(world.warnings).toHaveLength(2);
  });

  test('a version that was announced and taken back again leaves no failure behind', async () => {
    await find();
    Object.assign(world, { id: '2', host: gone });
    expect(await find()).toBe('enforce 1 (sts-policy-fetch-error)');
    world.id = '1';
    expect(await find()).toBe('enforce 1');
  });

  test('what a policy says of itself cannot command a terminal that shows the log', async () => {
    world.host = { kind: 'fetched', octets: Buffer.from('version: STSv1\nmode: \u009b31m\u202eecrofne\nmax_age: 1\n') };
    expect(await find()).toBe('none (sts-policy-invalid)');
    expect(world.warnings).toEqual([expect.stringContaining('its mode is " 31m ecrofne"')]);
  });

  test('many who ask at once cause one fetch', async () => {
    let answer: (fetched: Fetched) => void = () => {};
    world.host = new Promise((resolve) => {
      answer = resolve;
    });
    const asked = Array.from({ length: 50 }, () => find());
    await new Promise((resolve) => setTimeout(resolve, 20));
    answer(served('enforce'));
    expect(new Set(await Promise.all(asked))).toEqual(new Set(['enforce 1']));
    expect(world.fetches).toBe(1);
  });

  test('a policy with max_age 0 holds for the message that it was fetched for', async () => {
    world.host = served('enforce', 0);
    expect(await find()).toBe('enforce 1');
    world.now += 1;
    expect(await find()).toBe('enforce 1');
    expect(world.fetches).toBe(2);
    world.now += 1;
    world.host = gone;
    expect(await find()).toBe('none (sts-policy-fetch-error)');
  });

  test('a fetch that our own stop has cut off is not held against the domain after the restart', async () => {
    world.host = { kind: 'stopped' };
    expect(await find()).toBe('none');
    expect(world.warnings).toEqual([]);
    world.host = served('enforce');
    sts = startProcess();
    expect(await find()).toBe('enforce 1');
  });

  test('a policy whose time is over does not come back with a failed fetch', async () => {
    await find();
    world.now += 8 * DAY;
    world.host = gone;
    expect(await find()).toBe('none (sts-policy-fetch-error)');
  });

  test('mode none ends what was enforced', async () => {
    await find();
    Object.assign(world, { id: '2', host: served('none') });
    expect(await find()).toBe('none 2');
  });

  test('a clock that is put back takes nothing away, and what it wrote down when it was ahead is put right', async () => {
    await find();
    world.now -= 300 * DAY;
    expect(await find()).toBe('enforce 1');
    await eventually(() => storedIn(folder).usedAt === world.now);
    expect(storedIn(folder).usedAt).toBe(world.now);
    expect(world.fetches).toBe(1);
    await sts.refresh();
    expect(world.fetches).toBe(2);
    Object.assign(world, { id: '2', host: gone });
    await find();
    world.now -= DAY;
    world.host = served('testing');
    expect(await find()).toBe('testing 2');
  });

  test('the parent domain, and any other, is never asked', async () => {
    const found = await sts.find('sub.example.nl');
    expect(found.domain).toBe('sub.example.nl');
    expect(readdirSync(folder)).toHaveLength(1);
  });
});

describe('what is kept', () => {
  test('that mail went there again does not bring back the policy that another process has replaced', async () => {
    await find();
    world.now += 2 * DAY;
    // It reads what is known and is slow to hear from the DNS; meanwhile another one learns of the next version.
    const other = startProcess();
    const { promise: heard, resolve: hear } = Promise.withResolvers<void>();
    world.lookUp = heard;
    const slow = find();
    await new Promise((done) => setTimeout(done, 20));
    world.lookUp = Promise.resolve();
    Object.assign(world, { id: '2', host: served('testing') });
    expect(story(await other.find(DOMAIN))).toBe('testing 2');
    world.host = gone;
    hear();
    await slow;
    await eventually(() => storedIn(folder).usedAt === world.now);
    expect(storedIn(folder).policy.id).toBe('2');
  });

  test('STS-07 what another process has learned counts here a minute later, also where the record is gone by then', async () => {
    world.id = null;
    expect(await find()).toBe('none');
    world.id = '1';
    expect(story(await startProcess().find(DOMAIN))).toBe('enforce 1');
    world.id = null;
    const passed = performance.now() + 61_000;
    const time = vi.spyOn(performance, 'now').mockImplementation(() => passed);
    onTestFinished(() => time.mockRestore());
    expect(await find()).toBe('enforce 1');
  });

  test('memory keeps the newest policies, up to some megabytes, and the same one counts once', async () => {
    const cache = createStsCache({ folder, keeps: false, now: () => world.now, onTrouble: () => {} });
    const write = (domain: string): Promise<void> =>
      cache.write({
        domain,
        usedAt: 1,
        failure: null,
        policy: { id: '1', fetchedAt: 1, text: 'x'.repeat(60_000) },
      });
    const isKnown = async (domain: string): Promise<boolean> => (await cache.read(domain)) !== null;
    await write('first.nl');
    for (let at = 0; at < 500; at++) await write('again.nl');
    expect(await isKnown('first.nl')).toBe(true);
    for (let at = 0; at < 200; at++) await write(`d${at}.nl`);
    expect([await isKnown('first.nl'), await isKnown('d199.nl')]).toEqual([false, true]);
  });

  test('STS-07 a fetch that fails takes nothing from the policy that another process got meanwhile', async () => {
    const { promise: slow, resolve: fail } = Promise.withResolvers<Fetched>();
    world.host = slow;
    const mine = find();
    await eventually(() => world.fetches === 1);
    world.now += 1000;
    world.host = served('enforce');
    expect(story(await startProcess().find(DOMAIN))).toBe('enforce 1');
    fail(gone);
    expect(await mine).toBe('enforce 1');
    expect(storedIn(folder).policy.id).toBe('1');
  });

  test('another process sees a new policy when it meets the new version', async () => {
    const other = startProcess();
    await find();
    expect(story(await other.find(DOMAIN))).toBe('enforce 1');
    expect(world.fetches).toBe(1);
  });

  test('files that are damaged, foreign or under a wrong name are as none, and harm nobody', async () => {
    await find();
    const [file = ''] = readdirSync(folder);
    const whole = readFileSync(join(folder, file), 'utf8');
    for (const damage of [
      '',
      '{',
      'null',
      '[]',
      '{"domain":1}',
      whole.slice(0, -20),
      whole.replace(DOMAIN, 'other.nl'),
    ]) {
      writeFileSync(join(folder, file), damage);
      sts = startProcess();
      expect(await find()).toBe('enforce 1');
    }
    writeFileSync(join(folder, file), whole.replace('STSv1', 'STSv9'));
    sts = startProcess();
    expect(await find()).toBe('enforce 1');
  });

  test('of writes of one domain that are under way together, the last one stays', async () => {
    const cache = createStsCache({
      folder,
      keeps: true,
      now: () => world.now,
      onTrouble: (error) => world.warnings.push(String(error)),
    });
    const entry = { domain: DOMAIN, usedAt: world.now, failure: null };
    for (let round = 0; round < 50; round++) {
      const older = { id: 'old', fetchedAt: 1, text: 'x'.repeat(60_000) };
      void cache.write({ ...entry, policy: older });
      await cache.write({ ...entry, policy: { id: `new${round}`, fetchedAt: 2, text: 'y' } });
      for await (const stored of cache.all()) expect(stored.policy?.id).toBe(`new${round}`);
    }
    // Whoever asks the disk waits for what is on its way there.
    void cache.write({ ...entry, usedAt: 1, policy: null });
    expect((await cache.read(DOMAIN, 'disk'))?.usedAt).toBe(1);
  });

  test('a folder that cannot be made costs no mail: memory serves', async () => {
    writeFileSync(folder, 'a file where the folder should be');
    expect(await find()).toBe('enforce 1');
    world.id = null;
    expect(await find()).toBe('enforce 1');
    expect(world.warnings.join()).toMatch(/EEXIST|ENOTDIR/);
    rmSync(folder);
  });

  test('who only looks writes nothing', async () => {
    sts = startProcess({ keeps: false });
    expect(await find()).toBe('enforce 1');
    expect(() => readdirSync(folder)).toThrow(/ENOENT/);
  });

  test('the number of files is bounded, and those that nobody uses go in time', async () => {
    sts = startProcess({ entriesAtMost: 3 });
    for (const name of ['a', 'b', 'c', 'd', 'e']) {
      await sts.find(`${name}.nl`);
      world.now += 1;
    }
    writeFileSync(join(folder, 'left.over.part'), '');
    await sts.refresh();
    const kept = readdirSync(folder).filter((file) => file.endsWith('.json'));
    const domains = kept.map((file) => JSON.parse(readFileSync(join(folder, file), 'utf8')).domain);
    expect(domains.toSorted()).toEqual(['c.nl', 'd.nl', 'e.nl']);
    world.now += 401 * DAY;
    await sts.refresh();
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('STS-07 refreshed ahead of its end', () => {
  test('once a day while mail goes there, so that it outlives a DNS and a host that are away later', async () => {
    await find();
    world.now += 23 * HOUR;
    await sts.refresh();
    expect(world.fetches).toBe(1);
    world.now += 2 * HOUR;
    await sts.refresh();
    await sts.refresh();
    expect(world.fetches).toBe(2);
    Object.assign(world, { id: 'fails', host: gone });
    world.now += 6.9 * DAY;
    expect(await find()).toBe('enforce 1');
    Object.assign(world, { id: '2', host: served('testing') });
    await sts.refresh();
    expect(await find()).toBe('testing 2');
    expect(world.fetches).toBe(3);
  });

  test('eight at a time, each of them once: a silent policy host does not keep all others waiting', async () => {
    const domains = Array.from({ length: 20 }, (_, at) => `d${at}.nl`);
    for (const domain of domains) await find(domain);
    world.now += 25 * HOUR;
    const { promise, resolve } = Promise.withResolvers<Fetched>();
    world.host = promise;
    const pass = sts.refresh();
    await eventually(() => world.fetches >= 28);
    await new Promise((done) => setTimeout(done, 50));
    expect(world.fetches).toBe(28);
    world.host = served('enforce');
    resolve(gone);
    await pass;
    expect(world.fetches).toBe(40);
  });

  test('before half of a short time is over', async () => {
    world.host = served('enforce', 3600);
    await find();
    world.now += 31 * MINUTE;
    await sts.refresh();
    expect(world.fetches).toBe(2);
  });

  test('a refresh that fails is told, keeps what is known, and is not repeated at once', async () => {
    await find();
    world.now += 25 * HOUR;
    world.host = gone;
    await sts.refresh();
    await sts.refresh();
    expect(world.fetches).toBe(2);
    expect(world.warnings).toEqual([expect.stringContaining('nobody there')]);
    expect(await find()).toBe('enforce 1 (sts-policy-fetch-error)');
  });

  test('not where the record was taken away, not under mode none, not where no mail has gone for a month', async () => {
    await find();
    world.now += 2 * DAY;
    world.id = null;
    await sts.refresh();
    expect(world.fetches).toBe(1);
    Object.assign(world, { id: '2', host: served('none') });
    await find();
    world.now += 2 * DAY;
    await sts.refresh();
    expect(world.fetches).toBe(2);
    Object.assign(world, { id: '3', host: served('enforce', 31_557_600) });
    await find();
    world.now += 31 * DAY;
    await sts.refresh();
    expect(world.fetches).toBe(3);
  });
});
