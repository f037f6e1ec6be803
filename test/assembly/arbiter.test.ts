/** What all workers have in common, counted by one: how much there may be, whose turn it is, and what the dead give back. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import { type Arbiter, type ArbiterLimits, createArbiter } from '../../src/assembly/arbiter.ts';
import { Pool, type Poolable } from '../../src/deliver/pool.ts';
import { seeded } from '../support/seeded.ts';

interface Table {
  readonly arbiter: Arbiter;
  /** `worker host`, in the order in which they were granted. */
  readonly granted: string[];
  /** `worker host howSoon`; `*` for any host. */
  readonly recalled: string[];
  /** What the clock says. */
  time: number;
}

function table(limits: Partial<ArbiterLimits> = {}): Table {
  const all = { perHost: 2, total: 100, gate: { connections: 100, connectionsPerClient: 3 }, ...limits };
  const at: Table = {
    granted: [],
    recalled: [],
    time: 1_000_000,
    arbiter: createArbiter({
      limits: all,
      now: () => at.time,
      grant: (worker, host) => at.granted.push(`${worker} ${host}`),
      recall: (worker, host, howSoon) => at.recalled.push(`${worker} ${host ?? '*'} ${howSoon}`),
    }),
  };
  return at;
}

const ONE = { connections: 1, rate: null };

/** What the promise has come to so far; `waits` while it has not. */
async function soFar(answer: Promise<unknown>): Promise<unknown> {
  return Promise.race([answer, new Promise((resolve) => setImmediate(resolve, 'waits'))]);
}

describe('connections to mail hosts', () => {
  test('to one host: no more than the limit, whichever worker asks; others wait and get theirs in the order in which they asked', () => {
    const { arbiter, granted } = table({ perHost: 2 });
    for (const worker of [1, 2, 1, 3, 2]) arbiter.want(worker, 'a');
    expect(granted).toEqual(['1 a', '2 a']);
    arbiter.giveBack(2, 'a');
    arbiter.giveBack(1, 'a');
    arbiter.giveBack(1, 'a');
    expect(granted).toEqual(['1 a', '2 a', '1 a', '3 a', '2 a']);
  });

  test('a full host keeps nobody from another one', () => {
    const { arbiter, granted } = table({ perHost: 1 });
    for (const host of ['a', 'a', 'a', 'b']) arbiter.want(1, host);
    arbiter.want(2, 'c');
    expect(granted).toEqual(['1 a', '1 b', '2 c']);
  });

  test('to all hosts: no more than the limit; who waits longest is first, whatever the host', () => {
    const { arbiter, granted } = table({ total: 2 });
    for (const host of ['a', 'b', 'c']) arbiter.want(1, host);
    for (const host of ['d', 'a']) arbiter.want(2, host);
    expect(granted).toEqual(['1 a', '1 b']);
    for (const host of ['b', 'a', 'c']) arbiter.giveBack(1, host);
    expect(granted).toEqual(['1 a', '1 b', '1 c', '2 d', '2 a']);
  });

  test('what nobody has cannot be given back: the limit stays what it is', () => {
    const { arbiter, granted } = table({ perHost: 1, total: 1 });
    arbiter.giveBack(1, 'a');
    arbiter.want(1, 'a');
    arbiter.giveBack(2, 'a');
    arbiter.giveBack(1, 'b');
    arbiter.want(2, 'a');
    expect(granted).toEqual(['1 a']);
  });

  test('nor what another worker has, by one that has something else', () => {
    const { arbiter, granted } = table({ perHost: 1, total: 2 });
    arbiter.want(1, 'a');
    arbiter.want(2, 'b');
    arbiter.giveBack(2, 'a');
    arbiter.want(3, 'a');
    arbiter.want(3, 'c');
    expect(granted).toEqual(['1 a', '2 b']);
  });

  test('new limits hold at once: higher ones let in who waits, lower ones nobody until enough have left', () => {
    const { arbiter, granted } = table({ perHost: 1 });
    const gate = { connections: 100, connectionsPerClient: 3 };
    for (let each = 0; each < 4; each++) arbiter.want(1, 'a');
    arbiter.setLimits({ perHost: 3, total: 100, gate });
    expect(granted).toHaveLength(3);
    arbiter.setLimits({ perHost: 2, total: 100, gate });
    arbiter.giveBack(1, 'a');
    expect(granted).toHaveLength(3);
    arbiter.giveBack(1, 'a');
    expect(granted).toHaveLength(4);
  });
});

describe('fairness', () => {
  test('who has most gives way: what is idle at once, one that works in time, until both have as many', () => {
    const { arbiter, recalled } = table({ perHost: 4 });
    for (let each = 0; each < 4; each++) arbiter.want(1, 'a');
    arbiter.want(2, 'a');
    expect(recalled).toEqual(['1 a idle', '1 a soon']);
    for (let each = 0; each < 5; each++) arbiter.want(2, 'a');
    expect(recalled.filter((each) => each.endsWith('soon'))).toEqual(['1 a soon', '1 a soon']);
  });

  test('who has none is not forgotten when another one gets what was given up: that one gives way next', () => {
    const { arbiter, granted, recalled } = table({ perHost: 1 });
    for (const worker of [1, 2, 3]) arbiter.want(worker, 'a');
    arbiter.giveBack(1, 'a');
    expect(granted).toEqual(['1 a', '2 a']);
    expect(recalled.filter((each) => each.endsWith('soon'))).toEqual(['1 a soon', '2 a soon']);
    arbiter.giveBack(2, 'a');
    expect(granted).toEqual(['1 a', '2 a', '3 a']);
  });

  test('the same where all connections are taken, and where the one before has died', () => {
    const { arbiter, granted, recalled } = table({ total: 1 });
    for (const worker of [1, 2, 3]) arbiter.want(worker, `host-${worker}`);
    arbiter.gone(1);
    expect(granted).toEqual(['1 host-1', '2 host-2']);
    expect(recalled.filter((each) => each.endsWith('soon'))).toEqual(['1 * soon', '2 * soon']);
  });

  test('who has some waits until others have two more: nothing goes to and fro', () => {
    const { arbiter, recalled } = table({ perHost: 3 });
    for (const worker of [1, 1, 2, 3]) arbiter.want(worker, 'a');
    recalled.length = 0;
    arbiter.want(2, 'a');
    arbiter.giveBack(1, 'a');
    // 1, 1 and 1: worker 2 waits for its second.
    expect(recalled.filter((each) => each.endsWith('soon'))).toEqual([]);
  });

  test('where all have as many nobody takes from anybody; what lies idle with who asks goes', () => {
    const { arbiter, recalled } = table({ perHost: 2 });
    for (const worker of [1, 2, 1]) arbiter.want(worker, 'a');
    expect(recalled).toEqual(['1 a idle']);
  });

  test('it is taken from the richest', () => {
    const { arbiter, recalled } = table({ perHost: 4 });
    for (const worker of [1, 2, 2, 2, 3]) arbiter.want(worker, 'a');
    expect(recalled.filter((each) => each.endsWith('soon'))).toEqual(['2 a soon']);
  });

  test('where all connections are taken, whatever the host, it may be one to any host', () => {
    const { arbiter, granted, recalled } = table({ total: 3 });
    for (const host of ['a', 'b', 'c']) arbiter.want(1, host);
    arbiter.want(2, 'd');
    expect(recalled).toEqual(['1 * idle', '1 * soon']);
    arbiter.giveBack(1, 'b');
    expect(granted.at(-1)).toBe('2 d');
  });

  test('a worker that has died owes nothing to anybody: the next one is asked as if it had never been', () => {
    const { arbiter, recalled } = table({ perHost: 2 });
    for (const worker of [1, 1, 2]) arbiter.want(worker, 'a');
    expect(recalled).toContain('1 a soon');
    arbiter.gone(1);
    recalled.length = 0;
    for (const worker of [2, 3]) arbiter.want(worker, 'a');
    expect(recalled.filter((each) => each.endsWith('soon'))).toEqual(['2 a soon']);
  });
});

describe('a worker that dies', () => {
  test('gives back all its connections, and its wishes are forgotten', () => {
    const { arbiter, granted } = table({ perHost: 2 });
    for (const worker of [1, 1, 1, 2, 3]) arbiter.want(worker, 'a');
    arbiter.gone(1);
    expect(granted).toEqual(['1 a', '1 a', '2 a', '3 a']);
    arbiter.want(2, 'a');
    arbiter.giveBack(2, 'a');
    expect(granted).toEqual(['1 a', '1 a', '2 a', '3 a', '2 a']);
  });

  test('what comes from it later counts for nothing', () => {
    const { arbiter, granted } = table({ perHost: 1 });
    arbiter.want(1, 'a');
    arbiter.gone(1);
    arbiter.want(2, 'a');
    arbiter.giveBack(1, 'a');
    arbiter.leave(1, '192.0.2.1');
    arbiter.end(1, 'a.test');
    arbiter.want(3, 'a');
    expect(granted).toEqual(['1 a', '2 a']);
  });

  test('gives back the connections of its clients', () => {
    const { arbiter } = table();
    for (const worker of [1, 1, 2]) expect(arbiter.enter(worker, '192.0.2.1')).toBeNull();
    expect(arbiter.enter(2, '192.0.2.1')).toMatchObject({ code: 'too-many-connections' });
    arbiter.gone(1);
    for (const worker of [2, 2]) expect(arbiter.enter(worker, '192.0.2.1')).toBeNull();
    expect(arbiter.enter(2, '192.0.2.1')).toMatchObject({ code: 'too-many-connections' });
  });

  test('gives back its turns and does not keep its place in line', async () => {
    const { arbiter } = table();
    expect(await arbiter.begin(1, 'a.test', ONE)).toBe(true);
    const dead = arbiter.begin(1, 'a.test', ONE);
    const alive = arbiter.begin(2, 'a.test', ONE);
    expect(await soFar(alive)).toBe('waits');
    arbiter.gone(1);
    expect(await soFar(alive)).toBe(true);
    expect(await soFar(dead)).toBe('waits');
    const next = arbiter.begin(3, 'a.test', ONE);
    expect(await soFar(next)).toBe('waits');
    arbiter.end(2, 'a.test');
    expect(await soFar(next)).toBe(true);
  });
});

describe('connections of clients', () => {
  test('are counted for all workers together, each client for itself', () => {
    const { arbiter } = table({ gate: { connections: 4, connectionsPerClient: 3 } });
    for (const worker of [1, 2, 3]) expect(arbiter.enter(worker, '192.0.2.1')).toBeNull();
    expect(arbiter.enter(1, '192.0.2.1')).not.toBeNull();
    expect(arbiter.enter(1, '192.0.2.2')).toBeNull();
    // All of them together.
    expect(arbiter.enter(1, '192.0.2.3')).not.toBeNull();
    arbiter.leave(3, '192.0.2.1');
    expect(arbiter.enter(2, '192.0.2.1')).toBeNull();
  });

  test('one that was refused leaves nothing behind when its worker dies', () => {
    const { arbiter } = table({ gate: { connections: 1, connectionsPerClient: 1 } });
    expect(arbiter.enter(1, '192.0.2.1')).toBeNull();
    expect(arbiter.enter(2, '192.0.2.1')).not.toBeNull();
    arbiter.gone(2);
    expect(arbiter.enter(3, '192.0.2.1')).not.toBeNull();
  });
});

describe('messages', () => {
  test('of a client with a rate are counted for all workers together', () => {
    const at = table();
    const rate = { count: 3, period: 60_000 };
    expect([1, 2, 3, 4].map(() => at.arbiter.takeRate('hasty', rate))).toEqual([true, true, true, false]);
    expect(at.arbiter.takeRate('other', rate)).toBe(true);
    at.time += 120_000;
    expect(at.arbiter.takeRate('hasty', rate)).toBe(true);
  });

  test('to a destination with a rate: beyond it nobody has a turn, and nobody waits', async () => {
    const at = table();
    const limits = { connections: null, rate: { count: 2, period: 60_000 } };
    const turns = [1, 2, 3].map((worker) => at.arbiter.begin(worker, 'a.test', limits));
    expect(await Promise.all(turns.map(soFar))).toEqual([true, true, false]);
    at.time += 120_000;
    expect(await soFar(at.arbiter.begin(3, 'a.test', limits))).toBe(true);
  });

  test('to a destination with few connections go one after the other, in the order in which they asked', async () => {
    const { arbiter } = table();
    const turns = [1, 2, 1, 3].map((worker) => arbiter.begin(worker, 'a.test', { connections: 2, rate: null }));
    expect(await Promise.all(turns.map(soFar))).toEqual([true, true, 'waits', 'waits']);
    arbiter.end(2, 'a.test');
    expect(await Promise.all(turns.map(soFar))).toEqual([true, true, true, 'waits']);
    arbiter.end(1, 'a.test');
    expect(await Promise.all(turns.map(soFar))).toEqual([true, true, true, true]);
  });

  test('a turn that waited counts for the rate when it begins, and not before', async () => {
    const { arbiter } = table();
    const limits = { connections: 1, rate: { count: 2, period: 60_000 } };
    const turns = [1, 2, 3].map((worker) => arbiter.begin(worker, 'a.test', limits));
    expect(await Promise.all(turns.map(soFar))).toEqual([true, 'waits', 'waits']);
    arbiter.end(1, 'a.test');
    // The second has used up the rate: the third need not wait for anything.
    expect(await Promise.all(turns.map(soFar))).toEqual([true, true, false]);
  });

  test('one that begins does not go before those that wait', async () => {
    const { arbiter } = table();
    const first = arbiter.begin(1, 'a.test', ONE);
    const second = arbiter.begin(2, 'a.test', ONE);
    const others = arbiter.begin(3, 'b.test', ONE);
    expect(await Promise.all([first, second, others].map(soFar))).toEqual([true, 'waits', true]);
    arbiter.end(1, 'a.test');
    const third = arbiter.begin(1, 'a.test', ONE);
    expect(await Promise.all([second, third].map(soFar))).toEqual([true, 'waits']);
    // Also where a new configuration, which not all workers have yet, would let it.
    const fourth = arbiter.begin(3, 'a.test', { connections: 2, rate: null });
    expect(await soFar(fourth)).toBe('waits');
  });
});

describe('memory', () => {
  test('no more than a few wait for each turn: others are told to come again', async () => {
    const { arbiter } = table();
    const turns = Array.from({ length: 1_000 }, () => arbiter.begin(1, 'a.test', { connections: 2, rate: null }));
    const answers = await Promise.all(turns.map(soFar));
    expect(answers.filter((answer) => answer === true)).toHaveLength(2);
    expect(answers.filter((answer) => answer === 'waits')).toHaveLength(10);
    expect(answers.filter((answer) => answer === false)).toHaveLength(988);
  });

  test('a hundred thousand hosts, clients and destinations that come and go leave nothing behind', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const at = table();
    const used = (): number => {
      collect();
      return process.memoryUsage().heapUsed;
    };
    const visit = async (from: number, to: number): Promise<void> => {
      for (let each = from; each < to; each++) {
        const worker = 1 + (each % 3);
        at.arbiter.want(worker, `host-${each}`);
        at.arbiter.giveBack(worker, `host-${each}`);
        at.arbiter.enter(worker, `client-${each}`);
        at.arbiter.leave(worker, `client-${each}`);
        if (await at.arbiter.begin(worker, `domain-${each}`, ONE)) at.arbiter.end(worker, `domain-${each}`);
        if (each % 1_000 === 0) at.arbiter.gone(worker);
        at.granted.length = 0;
        at.recalled.length = 0;
      }
    };
    await visit(0, 20_000);
    const before = used();
    await visit(20_000, 120_000);
    expect(used() - before).toBeLessThan(3_000_000);
  });
});

/** Takes and gives at random, and keeps its own books. */
describe('whatever happens', () => {
  test.each([1, 2, 3, 4, 5])(
    'limits hold, nobody waits for what is free, and nothing is lost with the dead: %i',
    (seed) => {
      const chance = seeded(seed);
      const pick = (most: number): number => Math.floor(chance() * most);
      const perHost = 1 + pick(3);
      const total = 3 + pick(6);
      const has = new Map<string, number>();
      const wishes: string[] = [];
      const count = (fits: (key: string) => boolean): number =>
        [...has].reduce((sum, [key, each]) => sum + (fits(key) ? each : 0), 0);
      const arbiter = createArbiter({
        limits: { perHost, total, gate: { connections: 1, connectionsPerClient: 1 } },
        now: () => 0,
        grant: (worker, host) => {
          const key = `${worker} ${host}`;
          const waited = wishes.indexOf(key);
          expect(waited).toBeGreaterThanOrEqual(0);
          // Nobody who asked earlier for the same host.
          expect(wishes.slice(0, waited).filter((wish) => wish.endsWith(` ${host}`))).toEqual([]);
          wishes.splice(waited, 1);
          has.set(key, (has.get(key) ?? 0) + 1);
        },
        recall: () => undefined,
      });
      let nextWorker = 4;
      const workers = [1, 2, 3];
      for (let step = 0; step < 3_000; step++) {
        const at = pick(workers.length);
        const worker = workers[at] ?? 0;
        const host = `h${pick(4)}`;
        const what = chance();
        if (what < 0.5 && wishes.length < 30) {
          wishes.push(`${worker} ${host}`);
          arbiter.want(worker, host);
        } else if (what < 0.98) {
          const held = [...has].filter(([key, each]) => each > 0 && key.startsWith(`${worker} `)).map(([key]) => key);
          const key = held[pick(held.length)];
          if (key === undefined) continue;
          has.set(key, (has.get(key) ?? 0) - 1);
          arbiter.giveBack(worker, key.slice(key.indexOf(' ') + 1));
        } else {
          for (const key of [...has.keys()].filter((each) => each.startsWith(`${worker} `))) has.delete(key);
          for (const wish of wishes.filter((each) => each.startsWith(`${worker} `)))
            wishes.splice(wishes.indexOf(wish), 1);
          workers[at] = nextWorker++;
          arbiter.gone(worker);
        }
        expect(count(() => true)).toBeLessThanOrEqual(total);
        for (const each of ['h0', 'h1', 'h2', 'h3']) {
          const taken = count((key) => key.endsWith(` ${each}`));
          expect(taken).toBeLessThanOrEqual(perHost);
          const isFree = taken < perHost && count(() => true) < total;
          if (isFree) expect(wishes.filter((wish) => wish.endsWith(` ${each}`))).toEqual([]);
        }
      }
    },
  );
});

interface Connection extends Poolable {
  readonly host: string;
  open: boolean;
}

/** Workers as their pools are, with the arbiter between them; what is said takes a turn of the event loop. */
describe('pools that ask the arbiter', () => {
  function crew(workers: number, perHost: number, total: number) {
    const open = new Set<Connection>();
    let most = { host: 0, total: 0 };
    const pools = new Map<number, Pool<Connection, null>>();
    const later = (what: () => void): void => void setImmediate(what);
    const arbiter = createArbiter({
      limits: { perHost, total, gate: { connections: 1, connectionsPerClient: 1 } },
      now: () => 0,
      grant: (worker, host) => later(() => pools.get(worker)?.granted(host)),
      recall: (worker, host, howSoon) => later(() => pools.get(worker)?.recall(host, howSoon)),
    });
    for (let worker = 1; worker <= workers; worker++) {
      const permits = {
        want: (host: string) => later(() => arbiter.want(worker, host)),
        giveBack: (host: string) => later(() => arbiter.giveBack(worker, host)),
      };
      pools.set(worker, new Pool({ perHost, total, idleMs: 60_000 }, permits));
    }
    const dial = (host: string): Connection => {
      const connection: Connection = {
        host,
        open: true,
        get usable() {
          return this.open;
        },
        quit: () => {
          connection.open = false;
          open.delete(connection);
          return Promise.resolve();
        },
      };
      open.add(connection);
      const same = [...open].filter((each) => each.host === host).length;
      most = { host: Math.max(most.host, same), total: Math.max(most.total, open.size) };
      return connection;
    };
    /** One message over whatever connection it gets. */
    const carry = async (worker: number, host: string, ms: number): Promise<void> => {
      for (;;) {
        const place = await pools.get(worker)?.enter(host, host, null);
        if (!place) throw new Error('the pool is closed');
        if (place === 'busy') {
          await new Promise((resolve) => setTimeout(resolve, 5));
          continue;
        }
        const connection = place.kept ?? dial(host);
        await new Promise((resolve) => setTimeout(resolve, ms));
        place.leave(connection);
        return;
      }
    };
    const end = (): Promise<unknown> => Promise.all([...pools.values()].map((pool) => pool.close()));
    return { carry, end, most: () => most };
  }

  test('one connection to a host, two workers with work for it all the time: both get it again and again', async () => {
    const { carry, end, most } = crew(2, 1, 10);
    const told: number[] = [];
    const began = performance.now();
    const keep = async (worker: number): Promise<void> => {
      while (performance.now() - began < 4_500) {
        await carry(worker, 'a', 5);
        told.push(worker);
      }
    };
    // Two at once for each, so that there is always somebody who waits.
    await Promise.all([keep(1), keep(1), keep(2), keep(2)]);
    await end();
    const changes = told.filter((worker, at) => at > 0 && told[at - 1] !== worker).length;
    expect(changes).toBeGreaterThanOrEqual(2);
    expect(most().host).toBe(1);
  });

  test.each([11, 12, 13])(
    'hundreds of messages of three workers for ten hosts: all are carried, within the limits (%i)',
    async (seed) => {
      const chance = seeded(seed);
      const { carry, end, most } = crew(3, 2, 6);
      const all = Array.from({ length: 400 }, () =>
        carry(1 + Math.floor(chance() * 3), `h${Math.floor(chance() * 10)}`, Math.floor(chance() * 3)),
      );
      await Promise.all(all);
      await end();
      expect(most().host).toBeLessThanOrEqual(2);
      expect(most().total).toBeLessThanOrEqual(6);
    },
  );
});
