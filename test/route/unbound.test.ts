import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { createResolver, type Resolver } from '../../src/route/resolver.ts';
import { createTrust } from '../../src/route/trust.ts';
import { type ManagedUnbound, startUnbound, UnboundUnavailable } from '../../src/route/unbound.ts';
import { unboundConfig } from '../../src/route/unbound-config.ts';
import { systemClock } from '../../src/shared/clock.ts';
import { a, type FakeDns, message, soa, startFakeDns, TYPE } from '../support/fake-dns.ts';
import { bogus, type RouteLab, signed, startRouteLab, temporaryFolder, unsigned } from '../support/route-lab.ts';

const run = promisify(execFile);

const ADDRESSES: Readonly<Record<string, string>> = {
  out: '192.0.2.1',
  inside: '10.1.2.3',
  loop: '127.0.0.2',
  link: '169.254.1.1',
  zero: '0.0.0.0',
};

let lab: RouteLab;
let stranger: FakeDns;
let world: { readonly anchor: string; readonly include: string };
let folder: Awaited<ReturnType<typeof temporaryFolder>>;
const open: (() => void | Promise<void>)[] = [];
const said: string[] = [];

beforeAll(async () => {
  // Somebody whose names lead into other people's machines.
  stranger = await startFakeDns((query) => {
    const address = ADDRESSES[query.name.replace('.rebind.test', '')];
    const answers = address && query.type === TYPE.A ? [a(query.name, address)] : [];
    return message(query, { aa: true, answers, authorities: answers.length === 0 ? [soa('rebind.test', 0)] : [] });
  });
  lab = await startRouteLab({
    'good.test': signed('mx A 127.0.0.2'),
    'plain.test': unsigned('mx A 127.0.0.2'),
    'bogus.test': bogus('@ A 127.0.0.2'),
    'rebind.test': { ...unsigned(), server: stranger.server },
  });
  folder = await temporaryFolder();
  world = { anchor: lab.dns.anchorFile, include: join(folder.path, 'lab.conf') };
  await writeFile(world.include, lab.dns.worldConfig());
});
afterAll(async () => {
  await lab.close();
  await stranger.close();
  await folder.remove();
});
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
  said.length = 0;
});

const log = {
  debug: (words: string) => void said.push(`debug ${words}`),
  info: (words: string) => void said.push(`info ${words}`),
  warn: (words: string) => void said.push(`warn ${words}`),
  error: (words: string) => void said.push(`error ${words}`),
};

async function start(options: { dir?: string; anchor?: string; include?: string } = world): Promise<ManagedUnbound> {
  const { path, remove } = await temporaryFolder();
  open.push(remove);
  const unbound = await startUnbound({ dir: join(path, 'unbound'), ...options, log });
  open.push(unbound.close);
  return unbound;
}

function client({ server }: ManagedUnbound): Resolver {
  const resolver = createResolver({ server, timeoutMs: 10_000 });
  open.push(resolver.close);
  return resolver;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  await vi.waitFor(async () => expect(await condition()).toBe(true), { timeout: 120_000, interval: 20 });
}

describe('a managed Unbound', () => {
  test('DNS-17 validates from the trust anchor that it was given, and is proven to', async () => {
    const { resolveAfresh } = client(await start());
    const trust = createTrust({ resolve: resolveAfresh, signed: '.', bogus: ['bogus.test'], clock: systemClock });
    expect(await trust.check()).toEqual({ kind: 'proven' });
    expect(await resolveAfresh('mx.good.test', 'A')).toMatchObject({ kind: 'found', secure: true });
    expect(await resolveAfresh('mx.plain.test', 'A')).toMatchObject({ kind: 'found', secure: false });
    expect(await resolveAfresh('bogus.test', 'A')).toMatchObject({
      kind: 'failed',
      extended: { code: expect.any(Number) },
    });
  });

  test('DNS-15 listens on 127.0.0.1, below the ports that outgoing connections use', async () => {
    const { server } = await start();
    expect(server.address).toBe('127.0.0.1');
    expect(server.port).toBeGreaterThanOrEqual(20_000);
    expect(server.port).toBeLessThan(32_000);
  });

  test('killed by SIGKILL it comes back on the same port, validating, and the log says so', async () => {
    const unbound = await start();
    const { resolveAfresh } = client(unbound);
    for (let life = 0; life < 2; life++) {
      const before = unbound.pid();
      if (before === null) throw new Error('it has no process');
      process.kill(before, 'SIGKILL');
      await until(() => unbound.pid() !== null && unbound.pid() !== before);
      await until(async () => {
        const answer = await resolveAfresh('mx.good.test', 'A');
        return answer.kind === 'found' && answer.secure;
      });
    }
    expect(said.filter((words) => words.startsWith('error unbound died'))).toHaveLength(2);
  });

  test('close() leaves no process, also while a restart is being waited for', async () => {
    const first = await start();
    const pid = first.pid();
    await first.close();
    expect([first.pid(), pid !== null && isRunning(pid)]).toEqual([null, false]);

    const second = await start();
    const doomed = second.pid();
    if (doomed !== null) process.kill(doomed, 'SIGKILL');
    await until(() => second.pid() !== doomed);
    await second.close();
    expect(second.pid()).toBe(null);
  });

  test('when the relay is killed by SIGKILL, Unbound goes with it', async () => {
    const { path, remove } = await temporaryFolder();
    const script = new URL('../support/managed-unbound.ts', import.meta.url).pathname;
    const relay = spawn(process.execPath, [script, path, world.anchor, world.include], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(relay.stdout, 'data')) as [Buffer];
    const { pid } = JSON.parse(line.toString()) as { pid: number };
    expect(isRunning(pid)).toBe(true);
    relay.kill('SIGKILL');
    await once(relay, 'exit');
    await until(() => !isRunning(pid));
    await remove();
  });

  test('starts with the keys of the real root, be the internet there or not', async () => {
    const unbound = await start({});
    expect((await client(unbound).resolveAfresh('localhost', 'A')).kind).toBe('found');
  });
});

describe('what the administrator must put right', () => {
  test('a configuration that Unbound does not like is told in its own words', async () => {
    const include = join(folder.path, 'wrong.conf');
    await writeFile(include, 'server:\n  no-such-option: yes\n');
    const failure = await start({ ...world, include }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(UnboundUnavailable);
    expect(String(failure)).toMatch(/does not start: .*(syntax error|unknown keyword|no-such-option)/);
  });

  test('a trust anchor that is not there', async () => {
    await expect(start({ ...world, anchor: '/nowhere/root.key' })).rejects.toThrow(/trust anchor cannot be read/);
  });

  test('a path that cannot stand in a configuration', () => {
    const settings = { dir: '/x"\n', port: 1, anchorFile: '/a', ipv6: false };
    expect(() => unboundConfig(settings)).toThrow(TypeError);
  });
});

describe('the trust anchor', () => {
  test('what Unbound learnt about the root stays over restarts (RFC 5011), until the system has other keys', async () => {
    const { path, remove } = await temporaryFolder();
    open.push(remove);
    const anchor = join(path, 'system.key');
    const keys = await readFile(world.anchor, 'utf8');
    await writeFile(anchor, keys);
    const dir = join(path, 'unbound');
    const file = join(dir, 'root.key');
    const options = { ...world, dir, anchor };

    await (await start(options)).close();
    await writeFile(file, `${await readFile(file, 'utf8')}; learnt\n`);
    await (await start(options)).close();
    expect(await readFile(file, 'utf8')).toContain('learnt');

    await writeFile(anchor, `; the system was updated\n${keys}`);
    await (await start(options)).close();
    expect(await readFile(file, 'utf8')).not.toContain('learnt');
  });

  test('Unbound keeps it up to date by itself: it writes down when it last saw the keys', async () => {
    const { path, remove } = await temporaryFolder();
    open.push(remove);
    const dir = join(path, 'unbound');
    const { resolveAfresh } = client(await start({ ...world, dir }));
    await resolveAfresh('good.test', 'NS');
    await until(async () => /;;state=2|VALID/.test(await readFile(join(dir, 'root.key'), 'utf8')));
  });
});

describe('its configuration', () => {
  const settings = { dir: '/tmp', port: 20_053, anchorFile: '/usr/share/dns/root.key', ipv6: true };

  test('is one that Unbound accepts, with IPv6 and without', async () => {
    const { path, remove } = await temporaryFolder();
    for (const ipv6 of [true, false]) {
      const file = join(path, 'unbound.conf');
      await writeFile(file, unboundConfig({ ...settings, dir: path, ipv6 }));
      await expect(run('/usr/sbin/unbound-checkconf', [file])).resolves.toMatchObject({
        stdout: expect.stringContaining('no errors'),
      });
    }
    await remove();
  });

  test.each<[string, RegExp]>([
    ['validates', /module-config: "validator iterator"/],
    ['DNS-17 never lets bogus data pass', /val-permissive-mode: no/],
    ['DNS-16 nor lets a client ask for it', /ignore-cd-flag: yes/],
    ['never answers past the time of an answer', /serve-expired: no/],
    ['follows the keys of the root (RFC 5011)', /auto-trust-anchor-file: "\/usr/],
    ['asks each server no more than it must know', /qname-minimisation: yes/],
    ['believes proofs of absence', /aggressive-nsec: yes/],
    ['says why', /ede: yes/],
    ['answers this machine only', /interface: 127\.0\.0\.1@20053\n\s+access-control: 0\.0\.0\.0\/0 refuse/],
  ])('%s', (_, words) => {
    expect(unboundConfig(settings)).toMatch(words);
  });

  test('no stranger can point a mail host at this machine, while private networks stay reachable', async () => {
    const include = join(folder.path, 'strangers.conf');
    await writeFile(include, lab.dns.worldConfig().replace(/.*private-domain.*\n/g, ''));
    const { resolveAfresh } = client(await start({ ...world, include }));
    const addresses = async (name: string): Promise<unknown> => {
      const answer = await resolveAfresh(`${name}.rebind.test`, 'A');
      return answer.kind === 'found' ? answer.records : 'none';
    };
    expect(await Promise.all(Object.keys(ADDRESSES).map(addresses))).toEqual([
      ['192.0.2.1'],
      ['10.1.2.3'],
      'none',
      'none',
      'none',
    ]);
  });
});
