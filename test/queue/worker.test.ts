/** The worker on a real store and a clock that the test moves. Only the attempt, the far end of the queue, is played. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Outcome } from '../../src/model/delivery.ts';
import type { Logger, MailEvent } from '../../src/model/events.ts';
import type { Batch, NewMessage } from '../../src/model/message.ts';
import type { MakeNotice } from '../../src/queue/ending.ts';
import { createSchedule } from '../../src/queue/schedule.ts';
import { openSqliteStore } from '../../src/queue/sqlite.ts';
import { type Store, StoreFull } from '../../src/queue/store.ts';
import { createWorker, type QueueWorker, type WorkerLimits } from '../../src/queue/worker.ts';
import { HeldFile } from '../../src/shared/held-file.ts';
import {
  DAY,
  everything,
  HOUR,
  MINUTE,
  MONDAY,
  message,
  outcome,
  terms,
  unreachable,
  until,
  type VirtualClock,
  virtualClock,
  waits,
} from './good-day.ts';

let folder: string;
let store: Store;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'dane-relay-worker-'));
  store = await openSqliteStore({ folder, mode: 'relay', reserveBytes: 0 });
});

afterAll(async () => {
  await store.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Scene {
  readonly worker: QueueWorker;
  readonly clock: VirtualClock;
  readonly events: MailEvent[];
  readonly log: string[];
  /** Batches that were attempted: message and domain. */
  readonly attempts: string[];
  readonly notices: string[];
  /** Waits until everything that is due has been done. */
  readonly quiet: () => Promise<void>;
  /** Lets time pass up to the next thing that is due, or for `ms`. */
  readonly pass: (ms: number) => Promise<void>;
}

interface Change {
  readonly attempt?: (batch: Batch) => Promise<readonly Outcome[]>;
  readonly makeNotice?: MakeNotice;
  readonly store?: Partial<Store>;
  readonly concurrency?: number;
  readonly again?: number;
  readonly perDomain?: number;
  readonly limitsOf?: WorkerLimits['limitsOf'];
}

let running: QueueWorker | null = null;

const everybody = (change: Partial<Outcome>) => async (batch: Batch) =>
  batch.recipients.map(({ id }) => outcome(id, change));

function scene(change: Change = {}): Scene {
  const clock = virtualClock(MONDAY);
  const events: MailEvent[] = [];
  const log: string[] = [];
  const attempts: string[] = [];
  const notices: string[] = [];
  const say = (text: string): void => void log.push(text);
  const logger: Logger = { mail: (event) => void events.push(event), debug: say, info: say, warn: say, error: say };
  const worker = createWorker({
    store: { ...store, ...change.store },
    attempt: (batch) => {
      attempts.push(`${batch.messageId} ${batch.domain}`);
      return (change.attempt ?? everybody({}))(batch);
    },
    makeNotice:
      change.makeNotice ??
      (async (kind, batch, entries): Promise<NewMessage> => {
        const told = entries.map(({ recipient, outcome: { code } }) => `${recipient.address}=${code}`);
        notices.push(`${kind} ${batch.messageId} ${told.join(' ')}`);
        return message({ receivedAt: clock.now(), sender: '', to: [batch.envelope.sender] });
      }),
    schedule: createSchedule(
      {
        retry: [5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR],
        lifetime: 5 * DAY,
        tlsLifetime: null,
        delayNotice: 4 * HOUR,
      },
      () => 0,
    ),
    clock,
    concurrency: change.concurrency ?? 10,
    again: change.again ?? Math.ceil((change.concurrency ?? 10) / 2),
    perDomain: change.perDomain ?? 5,
    limitsOf: change.limitsOf ?? (() => ({ connections: null, rate: null })),
    log: logger,
    owner: 'node-1',
  });
  running = worker;
  // Both loops asleep and nothing running: the worker has done all it can at this time.
  const quiet = (): Promise<void> => until(() => worker.idle() && clock.sleepers() >= 2);
  const pass = async (ms: number): Promise<void> => {
    clock.pass(ms);
    await quiet();
  };
  return { worker, clock, events, log, attempts, notices, quiet, pass };
}

beforeEach(async () => {
  await store.recover('node-1');
  await store.drop({}, MONDAY + 1_000 * DAY);
});

afterEach(async () => {
  await running?.drain(0);
  running = null;
});

const waiting = async (): Promise<readonly string[]> =>
  (await store.list({}, MONDAY)).map(({ queueId, recipient, code }) => `${queueId} ${recipient} ${code}`);

describe('mail that was just accepted', () => {
  const body = (text: string) => ({ kind: 'memory', bytes: Buffer.from(text) }) as const;

  test('TXN-08 is safe before anybody works on it, and then delivered from memory: nothing is claimed or read back', async () => {
    const seen: unknown[] = [];
    const claimed: string[] = [];
    const { worker, quiet } = scene({
      attempt: async (batch) => {
        const [entry] = await store.list({ ids: [batch.messageId] }, MONDAY);
        seen.push(entry?.state, String(worker.octetsOf(batch.messageId)), batch);
        return batch.recipients.map(({ id }) => outcome(id));
      },
      store: {
        claim: async (request) => {
          const claims = await store.claim(request);
          claimed.push(...claims.map(({ batch }) => batch.messageId));
          return claims;
        },
      },
    });
    worker.start();
    await quiet();
    const sent = message({ id: 'NEW', to: ['a@x.example', 'b@x.example'], body: body('to be kept\r\n') });
    await worker.accept(sent);
    await until(async () => (await waiting()).length === 0);
    const { recipients, ...envelope } = sent.envelope;
    expect(seen).toEqual([
      'delivering',
      'to be kept\r\n',
      expect.objectContaining({
        messageId: 'NEW',
        domain: 'x.example',
        envelope,
        expiresAt: sent.receivedAt + 5 * DAY,
      }),
    ]);
    expect((seen[2] as Batch).recipients).toMatchObject(
      recipients.map((each) => ({ ...each, attempts: 0, lastCode: null })),
    );
    expect(claimed).toEqual([]);
    expect(worker.octetsOf('NEW')).toBeNull();
  });

  const large = async (): Promise<{ kind: 'file'; path: string; file: HeldFile }> => {
    const path = join(mkdtempSync(join(tmpdir(), 'held-')), 'large.eml');
    writeFileSync(path, 'to be kept\r\n');
    return { kind: 'file', path, file: new HeldFile(await open(path)) };
  };
  const read = async (held: unknown): Promise<string> => {
    const into = Buffer.alloc(12);
    return held instanceof HeldFile ? into.toString('utf8', 0, await held.read(into, 0)) : 'not at hand';
  };

  test('a large one stays open until all its attempts have ended, whoever else lets go of it', async () => {
    const content = await large();
    const { file } = content;
    const seen: string[] = [];
    const letGo = Promise.withResolvers<void>();
    const { worker, quiet } = scene({
      attempt: async (batch) => {
        const held = worker.octetsOf(batch.messageId);
        await letGo.promise;
        seen.push(await read(held));
        return batch.recipients.map(({ id }) => outcome(id));
      },
    });
    worker.start();
    await quiet();
    await worker.accept(message({ id: 'NEW', to: ['a@x.example', 'b@y.example'], body: content }));
    file.release();
    letGo.resolve();
    await until(async () => (await waiting()).length === 0);
    expect(seen).toEqual(['to be kept\r\n', 'to be kept\r\n']);
    await until(async () => worker.octetsOf('NEW') === null);
    await expect(read(file)).rejects.toThrow(/closed|EBADF/);
  });

  test('a large one stays open also for a destination that had to wait its turn in the store', async () => {
    const content = await large();
    const { file } = content;
    const gates = new Map<string, () => void>();
    const seen: string[] = [];
    const { worker, clock, quiet } = scene({
      perDomain: 1,
      attempt: async ({ messageId, domain, recipients }) => {
        const held = worker.octetsOf(messageId);
        await new Promise<void>((resolve) => gates.set(`${messageId} ${domain}`, resolve));
        if (messageId === 'NEW') seen.push(`${domain}: ${await read(held).catch(String)}`);
        return recipients.map(({ id }) => outcome(id));
      },
    });
    const isTried = (which: string): Promise<void> =>
      until(() => {
        clock.pass(1_000);
        return gates.has(which);
      });
    worker.start();
    await quiet();
    await store.accept(message({ id: 'OLD', to: ['a@y.example'] }), terms);
    await isTried('OLD y.example');
    await store.accept(message({ id: 'NEXT', to: ['a@y.example'] }), terms);
    await worker.accept(message({ id: 'NEW', to: ['a@x.example', 'b@y.example'], body: content }));
    file.release();
    await isTried('NEW x.example');
    gates.get('OLD y.example')?.();
    await isTried('NEXT y.example');
    gates.get('NEXT y.example')?.();
    await isTried('NEW y.example');
    gates.get('NEW x.example')?.();
    await until(async () => (await waiting()).length === 1);
    gates.get('NEW y.example')?.();
    await until(async () => (await waiting()).length === 0);
    expect(seen).toEqual(['x.example: to be kept\r\n', 'y.example: to be kept\r\n']);
    await until(() => worker.octetsOf('NEW') === null);
    await expect(read(file)).rejects.toThrow(/closed|EBADF/);
  });

  test('goes domain by domain, each with a claim of its own', async () => {
    const { worker, quiet, attempts } = scene({
      attempt: async ({ recipients, domain }) =>
        recipients.map(({ id }) => outcome(id, domain === 'y.example' ? unreachable : {})),
    });
    worker.start();
    await quiet();
    await worker.accept(message({ id: 'BOTH', to: ['a@x.example', 'b@y.example', 'c@x.example'] }));
    await quiet();
    expect(attempts.toSorted()).toEqual(['BOTH x.example', 'BOTH y.example']);
    expect(await waiting()).toEqual(['BOTH b@y.example connect-failed']);
  });

  test('waits behind older mail for the same destination, and for no other', async () => {
    const open = new Map<string, () => void>();
    const attempt = (batch: Batch): Promise<readonly Outcome[]> =>
      new Promise((resolve) => {
        open.set(batch.messageId, () => {
          open.delete(batch.messageId);
          resolve(batch.recipients.map(({ id }) => outcome(id)));
        });
      });
    const { worker, attempts } = scene({ attempt, perDomain: 1 });
    for (const id of ['OLD1', 'OLD2']) await store.accept(message({ id, to: ['a@x.example'] }), terms);
    worker.start();
    await until(() => open.size === 1);
    await until(async () => (await store.outlook(MONDAY, 9)).due.length === 1);
    await worker.accept(message({ id: 'LATE', to: ['a@x.example'] }));
    await worker.accept(message({ id: 'OTHER', to: ['a@y.example'] }));
    await until(() => open.has('OTHER'));
    await until(async () => {
      for (const finish of [...open.values()]) finish();
      return (await waiting()).length === 0;
    });
    expect(attempts.filter((each) => each.endsWith('x.example')).map((each) => each.split(' ')[0])).toEqual([
      'OLD1',
      'OLD2',
      'LATE',
    ]);
  });

  test('that has no turn yet waits under a lease that is kept up, and is handed back when the relay stops', async () => {
    let finish: (() => void) | null = null;
    const attempt = (batch: Batch): Promise<readonly Outcome[]> =>
      new Promise((resolve) => {
        finish = () => resolve(batch.recipients.map(({ id }) => outcome(id)));
      });
    const { worker, clock, quiet } = scene({ attempt, perDomain: 1 });
    worker.start();
    await quiet();
    for (const id of ['ONE', 'TWO']) await worker.accept(message({ id }));
    await until(() => finish !== null);
    for (let minute = 0; minute < 10; minute++) {
      clock.pass(20_000);
      await until(() => clock.sleepers() >= 2);
      await store.outlook(0, 1);
    }
    expect(await store.claim({ ...everything, owner: 'node-2', now: clock.now() })).toEqual([]);
    const drained = worker.drain(MINUTE);
    (finish as (() => void) | null)?.();
    expect(await drained).toBe(true);
    const taken = await store.claim({ ...everything, owner: 'node-2', now: clock.now() });
    expect(taken.map(({ batch }) => batch.messageId)).toEqual(['TWO']);
    await store.giveBack(
      taken.map(({ lease }) => lease),
      0,
    );
  });

  test('that could not be stored is attempted by nobody, and its sender hears of it', async () => {
    const { worker, quiet, attempts } = scene({ store: { accept: () => Promise.reject(new StoreFull('no room')) } });
    worker.start();
    await quiet();
    await expect(worker.accept(message({ id: 'NONE', body: body('x') }))).rejects.toThrow(StoreFull);
    expect(worker.octetsOf('NONE')).toBeNull();
    expect(attempts).toEqual([]);
  });

  test('is taken into memory only as far as there is room: 16 MiB, and no more of it for one destination than 500', async () => {
    const attempt = (): Promise<readonly Outcome[]> => new Promise(() => undefined);
    const { worker, quiet } = scene({ attempt });
    worker.start();
    await quiet();
    const large = body('x'.repeat(1024 * 1024));
    for (let n = 0; n < 17; n++) await worker.accept(message({ id: `BIG${n}`, to: [`a@d${n}.example`], body: large }));
    expect(worker.octetsOf('BIG15')).not.toBeNull();
    expect(worker.octetsOf('BIG16')).toBeNull();
    await Promise.all(
      Array.from({ length: 600 }, (_, n) =>
        worker.accept(message({ id: `SMALL${n}`, to: ['a@one.example'], body: body('') })),
      ),
    );
    const inMemory = Array.from({ length: 600 }, (_, n) => worker.octetsOf(`SMALL${n}`)).filter(Boolean);
    expect(inMemory).toHaveLength(500);
    expect(await waiting()).toHaveLength(617);
  });
});

describe('an attempt that ends', () => {
  test('delivered: the message leaves and the log says how', async () => {
    const { worker, events, quiet, clock } = scene({
      attempt: async ({ recipients: [{ id }] }) => {
        clock.pass(250);
        const log = { verdict: 'authenticated', policy: 'dane', event: 'refused' } as const;
        return [outcome(id, { log })];
      },
    });
    await store.accept(message({ id: 'ONE' }), terms);
    worker.start();
    await quiet();
    expect(await waiting()).toEqual([]);
    expect(events).toEqual([
      {
        event: 'delivered',
        queueId: 'ONE',
        client: 'exchange',
        sender: 'jan@rijk.example',
        recipient: 'piet@gemeente.example',
        domain: 'gemeente.example',
        host: 'mx1.gemeente.example',
        address: '192.0.2.1',
        code: 'dane-ee',
        status: '2.0.0',
        explanation: expect.stringMatching(/^Authenticated: .*\.$/),
        reply: '250 2.0.0 ok',
        size: 29,
        delayMs: 250,
        verdict: 'authenticated',
        policy: 'dane',
      },
    ]);
  });

  test('TXN-01 three recipients, three ends: one leaves, one waits, one is returned in the same step', async () => {
    const ends: Readonly<Record<string, Partial<Outcome>>> = {
      'ok@x.example': {},
      'later@x.example': { result: 'deferred', code: 'remote-later', status: '4.2.2' },
      'no@x.example': { result: 'bounced', code: 'remote-refused', status: '5.1.1' },
    };
    const { worker, events, notices, attempts, quiet, pass } = scene({
      attempt: async ({ recipients }) => recipients.map(({ id, address }) => outcome(id, ends[address])),
    });
    await store.accept(message({ id: 'ONE', to: Object.keys(ends) }), terms);
    worker.start();
    await quiet();
    expect(events.map(({ event, recipient, status }) => [event, recipient, status]).slice(0, 3)).toEqual([
      ['delivered', 'ok@x.example', '2.0.0'],
      ['deferred', 'later@x.example', '4.2.2'],
      ['bounced', 'no@x.example', '5.1.1'],
    ]);
    expect(notices).toEqual(['failed ONE no@x.example=remote-refused']);
    // The notice is mail like any other, and has been delivered by now.
    expect(attempts).toEqual(['ONE x.example', expect.stringMatching(/rijk\.example$/)]);
    expect(await waiting()).toEqual(['ONE later@x.example remote-later']);
    await pass(5 * MINUTE);
    expect(attempts).toHaveLength(3);
  });

  test('TXN-05 recipients that were too many for one transaction are tried again at once', async () => {
    const { worker, attempts, quiet } = scene({
      attempt: async ({ recipients }) =>
        recipients.map(({ id }, index) =>
          outcome(id, index < 2 ? {} : { result: 'deferred', code: 'remote-too-many-recipients', status: '4.5.3' }),
        ),
    });
    await store.accept(message({ id: 'ONE', to: ['a', 'b', 'c', 'd', 'e'].map((each) => `${each}@x.example`) }), terms);
    worker.start();
    await quiet();
    expect(attempts).toHaveLength(3);
    expect(await waiting()).toEqual([]);
  });

  test('DSN-03 success is reported where it was asked for and the next host does not', async () => {
    const passedOn = (batch: Batch): boolean => batch.domain === 'dsn.example';
    const { worker, notices, quiet } = scene({
      attempt: async (batch) => batch.recipients.map(({ id }) => outcome(id, { dsnPassedOn: passedOn(batch) })),
    });
    const asks = { notify: ['success'], orcpt: null } as const;
    const to = ['a@x.example', 'b@dsn.example'].map((address) => ({ address, ...asks }));
    await store.accept(message({ id: 'ONE', to: [...to, 'c@x.example'] }), terms);
    worker.start();
    await quiet();
    expect(notices).toEqual(['relayed ONE a@x.example=dane-ee']);
  });

  test('DSN-01 mail from the null sender that cannot be delivered is dropped and logged, without a notice', async () => {
    const bounce = everybody({ result: 'bounced', code: 'remote-refused', status: '5.1.1' });
    const { worker, notices, log, events, quiet } = scene({ attempt: bounce });
    await store.accept(message({ id: 'ONE', sender: '' }), terms);
    worker.start();
    await quiet();
    expect(await waiting()).toEqual([]);
    expect(notices).toEqual([]);
    expect(events.map(({ event }) => event)).toEqual(['bounced']);
    expect(log).toEqual(['dropped without a notice, because it has the null sender']);
  });
});

describe('five days', () => {
  test('TXN-07 retries, one delay notice, one last attempt, then the message goes back', async () => {
    const dead = everybody({ result: 'deferred', code: 'tlsa-mismatch', status: '4.7.5', detail: 'seen 3 1 1 ab' });
    const { worker, clock, attempts, notices, events, quiet, pass } = scene({
      attempt: async (batch) => (batch.envelope.sender === '' ? everybody({})(batch) : dead(batch)),
    });
    await store.accept(message({ id: 'ONE' }), terms);
    worker.start();
    await quiet();
    const times = [0];
    for (;;) {
      const [entry] = await store.list({ ids: ['ONE'] }, clock.now());
      if (!entry) break;
      await pass(entry.nextAttempt - clock.now());
      times.push((clock.now() - MONDAY) / MINUTE);
    }
    expect(times.slice(0, 7)).toEqual([0, 5, 20, 50, 110, 230, 350]);
    expect(times.at(-1)).toBe((5 * DAY) / MINUTE);
    expect(attempts.filter((attempt) => attempt.startsWith('ONE '))).toHaveLength(times.length);
    expect(notices).toEqual([
      'delayed ONE piet@gemeente.example=tlsa-mismatch',
      'failed ONE piet@gemeente.example=lifetime-over',
    ]);
    const last = events.find(({ event }) => event === 'expired');
    expect(last).toMatchObject({ code: 'lifetime-over', status: '4.4.7', delayMs: 5 * DAY });
    expect(last?.explanation).toContain('seen 3 1 1 ab');
    expect(await waiting()).toEqual([]);
  });

  test('a delay notice that cannot be written is tried again; one that is not due is not', async () => {
    let writes = 0;
    const { worker, quiet, pass, log } = scene({
      attempt: everybody({ result: 'deferred', code: 'remote-later', status: '4.0.0' }),
      makeNotice: async () => {
        if (++writes === 1) throw new Error('no head to read');
        return null;
      },
    });
    await store.accept(message({ receivedAt: MONDAY - 4 * HOUR }), terms);
    worker.start();
    await quiet();
    expect(log).toEqual(['the delayed notice could not be written']);
    await pass(5 * MINUTE);
    await pass(15 * MINUTE);
    expect(writes).toBe(2);
  });
});

describe('what goes wrong leaves mail in the queue', () => {
  test.each<[string, (batch: Batch) => Promise<readonly Outcome[]>]>([
    ['an attempt that rejects', () => Promise.reject(new Error('a bug'))],
    [
      'an attempt that throws',
      () => {
        throw new Error('a bug');
      },
    ],
    ['an attempt without outcomes', async () => []],
    ['outcomes of other recipients', async () => [outcome(987_654)]],
  ])('%s', async (_, attempt) => {
    const { worker, quiet, pass, attempts, notices, log } = scene({ attempt });
    await store.accept(message({ id: 'ONE' }), terms);
    worker.start();
    await quiet();
    expect(await waiting()).toEqual(['ONE piet@gemeente.example internal-error']);
    expect(notices).toEqual([]);
    expect(log).toHaveLength(1);
    await pass(5 * MINUTE);
    expect(attempts).toHaveLength(2);
  });

  test('an outcome for one of two recipients counts; the other one waits', async () => {
    const { worker, quiet } = scene({ attempt: async ({ recipients: [{ id }] }) => [outcome(id)] });
    await store.accept(message({ id: 'ONE', to: ['a@x.example', 'b@x.example'] }), terms);
    worker.start();
    await quiet();
    expect(await waiting()).toEqual(['ONE b@x.example internal-error']);
  });

  test('a bounce that cannot be written keeps the message until it can', async () => {
    let broken = true;
    const { worker, quiet, pass } = scene({
      attempt: async (batch) =>
        everybody(batch.envelope.sender === '' ? {} : { result: 'bounced', code: 'remote-refused', status: '5.1.1' })(
          batch,
        ),
      makeNotice: async () => {
        if (broken) throw new Error('the body cannot be read');
        return message({ id: 'NOTICE', receivedAt: MONDAY, sender: '', to: ['jan@rijk.example'] });
      },
    });
    await store.accept(message({ id: 'ONE' }), terms);
    worker.start();
    await quiet();
    expect(await waiting()).toEqual(['ONE piet@gemeente.example internal-error']);
    broken = false;
    await pass(5 * MINUTE);
    expect(await waiting()).toEqual([]);
  });

  test('an end that cannot be stored is stored later, and the attempt is not made again', async () => {
    let refusals = 3;
    const { worker, clock, attempts, events, log } = scene({
      store: {
        settle: async (...args) => {
          if (refusals-- > 0) throw new StoreFull('no room');
          return store.settle(...args);
        },
      },
    });
    await store.accept(message({ id: 'ONE' }), terms);
    worker.start();
    await until(() => log.length === 1);
    expect(events).toEqual([]);
    expect((await store.list({}, clock.now())).map(({ state }) => state)).toEqual(['delivering']);
    await until(async () => {
      clock.pass(1_000);
      return events.length === 1;
    });
    expect(attempts).toHaveLength(1);
    expect(await waiting()).toEqual([]);
  });

  test('claims that were handed out are worked on, also where the look at what else is due fails', async () => {
    let refusals = 1;
    const { worker, clock, attempts, log, quiet } = scene({
      store: {
        outlook: async (...asked) => {
          if (refusals-- > 0) throw new StoreFull('disk I/O error');
          return store.outlook(...asked);
        },
      },
    });
    await store.accept(message(), terms);
    worker.start();
    await until(() => {
      clock.pass(1_000);
      return attempts.length > 0;
    });
    await quiet();
    expect(log).toEqual(['the queue cannot be read']);
    expect(await waiting()).toEqual([]);
  });

  test('a store that cannot be read is asked again', async () => {
    let refusals = 2;
    const { worker, clock, attempts, log, quiet } = scene({
      store: {
        claim: async (request) => {
          if (refusals-- > 0) throw new StoreFull('disk I/O error');
          return store.claim(request);
        },
      },
    });
    await store.accept(message(), terms);
    worker.start();
    await until(() => {
      clock.pass(1_000);
      return attempts.length > 0;
    });
    await quiet();
    expect(log).toEqual(['the queue cannot be read', 'the queue cannot be read']);
    expect(await waiting()).toEqual([]);
  });

  test('a claim that another node took over is not settled; what was delivered is still logged', async () => {
    const { worker, clock, events, log, quiet } = scene({
      attempt: async ({ recipients }) => {
        await store.recover('node-1');
        await store.claim({ ...everything, owner: 'node-2', now: clock.now(), leaseMs: DAY });
        return recipients.map(({ id }, index) => outcome(id, index === 0 ? {} : unreachable));
      },
    });
    await store.accept(message({ id: 'ONE', to: ['a@x.example', 'b@x.example'] }), terms);
    worker.start();
    await quiet();
    expect(log).toEqual(['a claim was lost to another relay node']);
    expect(events.map(({ event, recipient }) => `${event} ${recipient ?? ''}`)).toEqual(['delivered a@x.example']);
    expect(await waiting()).toHaveLength(2);
  });
});

describe('messages that each go to a thousand destinations', () => {
  test('cost no more than they have destinations: what waits is not looked through after each attempt', async () => {
    const { worker, clock, attempts, events } = scene();
    let looks = 0;
    const { now } = clock;
    Object.assign(clock, {
      now: () => {
        looks++;
        return now();
      },
    });
    worker.start();
    const to = (at: number): readonly string[] =>
      Array.from({ length: 1_000 }, (_, each) => `x@d${at}-${each}.example`);
    await Promise.all([1, 2, 3].map((at) => worker.accept(message({ to: to(at) }))));
    // Those of two of them; the third one waits in the store.
    expect(await store.count(MONDAY)).toMatchObject({ waiting: expect.toSatisfy((count: number) => count > 800) });
    await until(() => events.length === 3_000);
    expect(new Set(attempts).size).toBe(3_000);
    expect(looks).toBeLessThan(3_000 * 20);
  });
});

describe('how much at once', () => {
  /** Attempts that wait for the test. */
  function gate() {
    const open = new Map<string, () => void>();
    return {
      open,
      attempt: (batch: Batch): Promise<readonly Outcome[]> =>
        new Promise((resolve) => {
          open.set(batch.messageId, () => {
            open.delete(batch.messageId);
            resolve(batch.recipients.map(({ id }) => outcome(id)));
          });
        }),
    };
  }

  const crowd = async (): Promise<void> => {
    for (let count = 0; count < 10; count++) {
      await store.accept(message({ id: `BIG${String(count)}`, to: ['x@big.example'] }), terms);
    }
    for (const id of ['one', 'two', 'three']) await store.accept(message({ id, to: [`x@${id}.example`] }), terms);
  };

  test('mail that ends faster than it can be stored is not claimed any further, until it has been', async () => {
    const held: (() => void)[] = [];
    let slow = true;
    const { worker, attempts, events, clock } = scene({
      concurrency: 1_000,
      perDomain: 1_000,
      store: {
        settle: async (...args) => {
          if (slow) await new Promise<void>((resolve) => held.push(resolve));
          return store.settle(...args);
        },
      },
    });
    await Promise.all(
      Array.from({ length: 500 }, (_, at) => store.accept(message({ to: [`x@d${String(at % 50)}.example`] }), terms)),
    );
    worker.start();
    await until(() => held.length > 200 && clock.sleepers() >= 2);
    expect(attempts.length).toBeLessThanOrEqual(350);
    slow = false;
    for (const go of held) go();
    await until(() => events.length === 500);
    expect(attempts).toHaveLength(500);
  });

  test('ends that cannot be stored do not keep other mail from being claimed', async () => {
    const { worker, events } = scene({
      concurrency: 1_000,
      perDomain: 1_000,
      store: {
        settle: async (lease, settlements, notices) => {
          if (settlements.length === 2) throw new StoreFull('no room');
          return store.settle(lease, settlements, notices);
        },
      },
    });
    await Promise.all(
      Array.from({ length: 300 }, () => store.accept(message({ to: ['a@x.example', 'b@x.example'] }), terms)),
    );
    await store.accept(message({ to: ['a@y.example'], receivedAt: MONDAY }), terms);
    worker.start();
    await until(() => events.length === 1);
    expect(events).toMatchObject([{ event: 'delivered', domain: 'y.example' }]);
  });

  test('of notices a few are written at a time', async () => {
    let [writing, most] = [0, 0];
    const { worker, clock, events } = scene({
      concurrency: 200,
      perDomain: 200,
      attempt: everybody({ result: 'bounced', code: 'remote-refused', status: '5.1.1' }),
      makeNotice: async () => {
        most = Math.max(most, ++writing);
        await store.count(clock.now());
        writing--;
        return null;
      },
    });
    await Promise.all(Array.from({ length: 150 }, () => store.accept(message(), terms)));
    worker.start();
    await until(() => events.length === 150);
    expect(most).toBe(32);
  });

  test('no more attempts than `concurrency`; whoever finishes makes room for the next', async () => {
    const { open, attempt } = gate();
    const { worker } = scene({ attempt, concurrency: 4 });
    await crowd();
    worker.start();
    await until(() => open.size === 4);
    expect([...open.keys()].toSorted()).toEqual(['BIG0', 'one', 'three', 'two']);
    open.get('one')?.();
    await until(() => open.has('BIG1'));
    expect(open.size).toBe(4);
  });

  test('no more than `perDomain` for one domain: one that hangs holds nobody else up', async () => {
    const { open, attempt } = gate();
    const { worker, quiet, clock } = scene({ attempt, perDomain: 2 });
    await crowd();
    worker.start();
    await until(() => open.size === 5);
    for (const id of ['one', 'two', 'three']) open.get(id)?.();
    await until(() => open.size === 2);
    expect([...open.keys()]).toEqual(['BIG0', 'BIG1']);
    await worker.accept(message({ id: 'late', to: ['x@late.example'] }));
    await until(() => open.has('late'));
    await until(async () => {
      for (const finish of [...open.values()]) finish();
      return (await store.list({}, clock.now())).length === 0;
    });
    await quiet();
  });

  test('leases are extended while an attempt runs', async () => {
    const { open, attempt } = gate();
    const { worker, clock } = scene({ attempt });
    await store.accept(message({ id: 'SLOW' }), terms);
    worker.start();
    await until(() => open.size === 1);
    for (let minute = 0; minute < 10; minute++) {
      clock.pass(20_000);
      await until(() => clock.sleepers() >= 2);
      await store.outlook(0, 1);
    }
    const other = { ...everything, owner: 'node-2', now: clock.now() };
    expect(await store.claim(other)).toEqual([]);
    open.get('SLOW')?.();
    await until(async () => (await store.list({}, clock.now())).length === 0);
  });

  test('drain claims nothing more and waits for what runs', async () => {
    const { open, attempt } = gate();
    const { worker, clock } = scene({ attempt, concurrency: 1 });
    await store.accept(message({ id: 'ONE' }), terms);
    await store.accept(message({ id: 'TWO' }), terms);
    worker.start();
    await until(() => open.size === 1);
    const drained = worker.drain(MINUTE);
    open.get('ONE')?.();
    expect(await drained).toBe(true);
    expect(worker.idle()).toBe(true);
    expect((await store.list({}, clock.now())).map(({ queueId, state }) => `${queueId} ${state}`)).toEqual([
      'TWO waiting',
    ]);
  });

  test('drain gives up at its deadline; the mail is due again after the next start', async () => {
    const { open, attempt } = gate();
    const { worker, clock } = scene({ attempt });
    await store.accept(message({ id: 'ONE' }), terms);
    worker.start();
    await until(() => open.size === 1);
    const drained = worker.drain(MINUTE);
    clock.pass(MINUTE);
    expect(await drained).toBe(false);
    expect(await store.recover('node-1')).toMatchObject({ leases: 1 });
    expect((await store.list({}, clock.now())).map(({ state }) => state)).toEqual(['waiting']);
  });

  test('what is accepted is attempted at once, and what the command line changes is seen within a second', async () => {
    const { worker, attempts, quiet, pass } = scene();
    worker.start();
    await quiet();
    await worker.accept(message({ id: 'ONE' }));
    await until(() => attempts.length === 1);
    await quiet();
    await store.accept(message({ id: 'TWO' }), terms);
    await pass(1_000);
    await until(() => attempts.length === 2);
    await quiet();
  });
});

describe('a destination that cannot be reached', () => {
  const accept = async (ids: readonly string[]): Promise<void> => {
    for (const id of ids) await store.accept(message({ id, to: ['x@dead.example'] }), terms);
  };
  const many = Array.from({ length: 30 }, (_, index) => `M${String(index).padStart(2, '0')}`);

  test('TXN-07 one probe, not a stampede: the rest is put off with the reason, and tried when the time is over', async () => {
    let alive = false;
    const { worker, attempts, quiet, pass, clock } = scene({
      attempt: async (batch) => {
        clock.pass(1);
        return everybody(alive ? {} : unreachable)(batch);
      },
    });
    await accept(many);
    worker.start();
    await quiet();
    // Five side by side before anything was known, and one more to be sure.
    expect(attempts).toHaveLength(6);
    const entries = await store.list({}, clock.now());
    expect(entries.map(({ code }) => code)).toEqual(many.map(() => 'connect-failed'));
    const putOff = entries.filter(({ explanation }) => explanation.includes('not tried now'));
    expect(putOff).toHaveLength(24);
    // What was not tried is not counted as an attempt.
    expect(new Set(putOff.map(({ attempts }) => attempts))).toEqual(new Set([0]));
    expect(putOff[0]?.explanation).toBe(
      'No connection to the mail host: not tried now, the attempt of 2026-11-02T08:00:00.006Z failed: 192.0.2.1 port 25 refused it.',
    );
    expect(new Set(putOff.map(({ nextAttempt }) => nextAttempt))).toEqual(new Set([MONDAY + 6 + 30_000]));
    await pass(30_000);
    expect(attempts).toHaveLength(7);
    alive = true;
    await pass(60_000);
    await pass(15 * MINUTE);
    expect(await waiting()).toEqual([]);
  });

  test('others are not touched by it', async () => {
    const { worker, quiet, events } = scene({
      attempt: async (batch) => everybody(batch.domain === 'dead.example' ? unreachable : {})(batch),
    });
    await accept(many);
    await store.accept(message({ id: 'GOOD', to: ['x@good.example'] }), terms);
    worker.start();
    await quiet();
    expect(events.filter(({ event }) => event === 'delivered').map(({ queueId }) => queueId)).toEqual(['GOOD']);
  });

  test('an operator who asks gets a real attempt', async () => {
    let alive = false;
    const { worker, quiet, attempts, clock } = scene({
      attempt: async (batch) => everybody(alive ? {} : unreachable)(batch),
      perDomain: 1,
    });
    await accept(['ONE', 'TWO', 'THREE']);
    worker.start();
    await quiet();
    expect(attempts).toHaveLength(2);
    alive = true;
    await store.retry({ ids: ['THREE'] }, clock.now());
    clock.pass(1_000);
    await until(async () => (await store.list({ ids: ['THREE'] }, clock.now())).length === 0);
    expect(attempts.at(-1)).toBe('THREE dead.example');
  });

  test('trouble with one message is no trouble of the destination', async () => {
    const { worker, quiet, attempts } = scene({
      attempt: everybody({ result: 'deferred', code: 'remote-later', status: '4.2.2' }),
    });
    await accept(many);
    worker.start();
    await quiet();
    expect(attempts).toHaveLength(30);
  });
});

describe('limits of a destination', () => {
  const accept = async (count: number, domain: string): Promise<void> => {
    for (let at = 0; at < count; at++) await store.accept(message({ to: [`x@${domain}`] }), terms);
  };
  const left = async (clock: VirtualClock) => (await store.list({}, clock.now())).length;

  test('TXN-07 a rate: so many in any minute, the others wait untouched, and other destinations do not', async () => {
    const rate = { count: 3, period: MINUTE };
    const { worker, attempts, quiet, pass, clock } = scene({
      limitsOf: (domain) => ({ connections: null, rate: domain === 'slow.example' ? rate : null }),
    });
    await accept(8, 'slow.example');
    await accept(4, 'fast.example');
    worker.start();
    await quiet();
    const slow = (): number => attempts.filter((each) => each.endsWith(' slow.example')).length;
    expect(slow()).toBe(3);
    expect(attempts.length - slow()).toBe(4);
    const entries = await store.list({}, clock.now());
    expect(entries.map(({ state, attempts: made, code }) => `${state} ${made} ${code}`)).toEqual(
      new Array(5).fill('waiting 0 not-tried-yet'),
    );
    await pass(MINUTE - 1_000);
    expect(slow()).toBe(3);
    await pass(3_000);
    expect(slow()).toBe(6);
    await pass(62_000);
    expect(slow()).toBe(8);
    expect(await left(clock)).toBe(0);
  });

  test('TXN-07 connections: never more at once than the table says', async () => {
    let [at, most] = [0, 0];
    const { worker, attempts, clock } = scene({
      limitsOf: () => ({ connections: 2, rate: null }),
      attempt: async (batch) => {
        most = Math.max(most, ++at);
        await new Promise((resolve) => setImmediate(resolve));
        at--;
        return everybody({})(batch);
      },
    });
    await accept(12, 'few.example');
    worker.start();
    await until(async () => (await left(clock)) === 0);
    expect(attempts).toHaveLength(12);
    expect(most).toBe(2);
  });

  test('mail for a host that has its hands full goes back to the queue as it was, and is tried again soon', async () => {
    let busy = true;
    const { worker, events, attempts, quiet, pass, clock } = scene({
      attempt: async (batch) => {
        const full = busy && batch.domain !== 'good.example';
        return everybody(full ? { result: 'deferred', code: 'host-busy', status: '4.4.5' } : {})(batch);
      },
    });
    for (let at = 0; at < 20; at++) await accept(3, `d${at}.shared.example`);
    await accept(1, 'good.example');
    worker.start();
    await quiet();
    expect(events.map(({ event, domain }) => `${event} ${domain}`)).toEqual(['delivered good.example']);
    const entries = await store.list({}, clock.now());
    expect(new Set(entries.map(({ state, attempts: made }) => `${state} ${made}`))).toEqual(new Set(['waiting 0']));
    expect(attempts.length).toBeLessThanOrEqual(61);
    busy = false;
    for (let second = 0; second < 5; second++) await pass(1_000);
    expect(await left(clock)).toBe(0);
  });

  test('a clock that is put back meanwhile keeps nobody away from a host that was busy', async () => {
    let busy = true;
    const { worker, attempts, quiet, pass, clock } = scene({
      attempt: (batch) => everybody(busy ? { result: 'deferred', code: 'host-busy', status: '4.4.5' } : {})(batch),
    });
    for (let at = 0; at < 20; at++) await accept(1, `d${at}.shared.example`);
    worker.start();
    await quiet();
    expect(attempts).toHaveLength(20);
    clock.putBack(3 * DAY);
    for (let second = 0; second < 5; second++) await pass(1_000);
    // Still busy: they came, and are to come again by the time that it is now.
    expect(attempts.length).toBeGreaterThanOrEqual(40);
    busy = false;
    for (let second = 0; second < 5; second++) await pass(1_000);
    expect(await left(clock)).toBe(0);
  });

  test('domains that share a busy host come back about as fast as mail goes out', async () => {
    let busy = true;
    let taken = 0;
    const { worker, events, quiet, pass } = scene({
      attempt: async (batch) => {
        const full = busy && ++taken > 200;
        return everybody(full ? { result: 'deferred', code: 'host-busy', status: '4.4.5' } : {})(batch);
      },
    });
    const pile = Array.from({ length: 1_000 }, (_, at) => message({ to: [`x@d${at}.shared.example`] }));
    await Promise.all(pile.map((each) => store.accept(each, terms)));
    worker.start();
    await quiet();
    expect(events).toHaveLength(200);
    busy = false;
    await pass(500);
    expect(events).toHaveLength(200);
    // A second, up to another one by chance, and half a millisecond for each.
    await pass(1_900);
    await until(() => events.length === 1_000);
  });

  test('claims that cannot be given back at once are given back later', async () => {
    let broken = 3;
    const giveBack: Store['giveBack'] = async (leases, notBefore) => {
      if (broken-- > 0) throw new StoreFull('disk full');
      await store.giveBack(leases, notBefore);
    };
    const { worker, quiet, pass, clock } = scene({
      store: { giveBack },
      limitsOf: () => ({ connections: null, rate: { count: 1, period: MINUTE } }),
    });
    await accept(3, 'slow.example');
    worker.start();
    await until(() => clock.sleepers() >= 2);
    for (let at = 0; at < 6; at++) await pass(31_000);
    expect(await left(clock)).toBe(0);
    await quiet();
  });
});

describe('five days in a moment', () => {
  test('TXN-07 DSN-04 a host that is dead for five days: tries, the delay notice, the last try, the bounce', async () => {
    const { worker, events, attempts, notices, quiet, pass, clock } = scene({
      attempt: async (batch) => everybody(batch.domain === 'dead.example' ? unreachable : {})(batch),
    });
    await store.accept(message({ id: 'LATE', to: ['x@dead.example'] }), terms);
    worker.start();
    await quiet();
    const tried: number[] = [MONDAY];
    while (clock.now() < MONDAY + 5 * DAY + HOUR) {
      const before = attempts.filter((each) => each.startsWith('LATE')).length;
      await pass(MINUTE);
      if (attempts.filter((each) => each.startsWith('LATE')).length > before) tried.push(clock.now());
    }
    const withinTheHour = tried.filter((at) => at > MONDAY && at <= MONDAY + HOUR);
    expect(withinTheHour).toHaveLength(3);
    const gaps = tried.slice(1).map((at, index) => at - (tried[index] ?? 0));
    expect(Math.max(...gaps)).toBeLessThanOrEqual(2 * HOUR + MINUTE);
    expect(tried.length).toBeGreaterThan(60);
    expect(tried.length).toBeLessThan(70);
    expect(notices).toEqual(['delayed LATE x@dead.example=connect-failed', 'failed LATE x@dead.example=lifetime-over']);
    expect(events.filter(({ event }) => event === 'expired')).toMatchObject([{ queueId: 'LATE', status: '4.4.7' }]);
    expect(Math.abs((tried.at(-1) ?? 0) - MONDAY - 5 * DAY)).toBeLessThanOrEqual(MINUTE);
  });

  test('TXN-07 thirty messages for the dead host: few tries in five days, and every one of them is given up', async () => {
    const { worker, events, attempts, quiet, pass, clock } = scene({
      attempt: async (batch) => everybody(batch.domain === 'dead.example' ? unreachable : {})(batch),
    });
    for (let at = 0; at < 30; at++) await store.accept(message({ to: ['x@dead.example'], sender: '' }), terms);
    worker.start();
    await quiet();
    while (clock.now() < MONDAY + 5 * DAY + 10 * MINUTE) await pass(5 * MINUTE);
    expect(events.filter(({ event }) => event === 'expired')).toHaveLength(30);
    expect(await store.list({}, clock.now())).toEqual([]);
    // Each on its own would be two thousand: the host is asked once in five minutes at most, and once for all.
    expect(attempts.length).toBeLessThanOrEqual((5 * DAY) / (5 * MINUTE) + 12);
  });
});

describe('one destination with a long queue', () => {
  test.each<[string, Partial<Outcome> | 'hangs']>([
    ['dead', unreachable],
    ['slow', 'hangs'],
  ])('that is %s: a fresh message to another is delivered while thousands wait', async (_, change) => {
    const pile = Array.from({ length: 3_000 }, () => message({ to: ['x@pile.example'] }));
    await Promise.all(pile.map((each) => store.accept(each, terms)));
    const hanging: (() => void)[] = [];
    const { worker, events, attempts } = scene({
      attempt: async (batch) => {
        if (batch.domain === 'good.example') return everybody({})(batch);
        if (change !== 'hangs') return everybody(change)(batch);
        await new Promise<void>((resolve) => hanging.push(resolve));
        return everybody({})(batch);
      },
    });
    worker.start();
    await until(() => attempts.length >= 5);
    const begun = events.length;
    await worker.accept(message({ id: 'FRESH', to: ['x@good.example'] }));
    await until(() => events.some(({ queueId }) => queueId === 'FRESH'));
    // By count and not by the clock: no more than a few rounds of the others came before it.
    expect(events.findIndex(({ queueId }) => queueId === 'FRESH') - begun).toBeLessThan(500);
    expect(attempts.filter((each) => each.endsWith(' pile.example')).length).toBeLessThanOrEqual(6);
    await running?.drain(0);
    for (const go of hanging) go();
  });
});

describe('a long queue of mail that was tried before, all of it due, for thousands of destinations', () => {
  const HOUSES = 3_000;

  /** After an outage: one message for each destination, tried once. */
  const backlog = async (now: number): Promise<void> => {
    const pile = Array.from({ length: HOUSES }, (_, at) => message({ to: [`x@d${at}.example`] }));
    await Promise.all(pile.map((each) => store.accept(each, terms)));
    const claims = await store.claim({ ...everything, limit: HOUSES });
    await Promise.all(
      claims.map(({ lease, batch }) =>
        store.settle(
          lease,
          batch.recipients.map(({ id }) => waits(id, now)),
          [],
        ),
      ),
    );
  };
  /** How many others were begun before it, after `from` of them. */
  const before = (attempts: readonly string[], id: string, from = 0): number =>
    attempts.findIndex((each) => each.startsWith(`${id} `)) - from;

  test.each(['good.example', `d${String(HOUSES - 1)}.example`])('a new message to %s goes between', async (domain) => {
    const { worker, attempts, events } = scene();
    await backlog(MONDAY);
    worker.start();
    await until(() => attempts.length >= 100);
    const begun = attempts.length;
    await worker.accept(message({ id: 'NEW', to: [`y@${domain}`] }));
    await until(() => events.some(({ queueId }) => queueId === 'NEW'));
    expect(before(attempts, 'NEW', begun)).toBeLessThan(300);
    await until(() => events.length === HOUSES + 1);
    expect(attempts).toHaveLength(HOUSES + 1);
    expect(await waiting()).toEqual([]);
  });

  test('new mail that is claimed from the store, as after a restart, gets every other turn', async () => {
    const { worker, attempts } = scene();
    await backlog(MONDAY - HOUR);
    const to = (at: number): readonly string[] => [`y@n${String(at)}.example`];
    await Promise.all(
      Array.from({ length: 200 }, (_, at) => store.accept(message({ id: `N${String(at)}`, to: to(at) }), terms)),
    );
    worker.start();
    await until(() => attempts.length >= 600);
    const isNew = attempts.map((each) => each.startsWith('N'));
    // Neither is kept waiting by the other: the last of the new comes after about as many of the others.
    expect(isNew.lastIndexOf(true)).toBeLessThan(500);
    expect(isNew.slice(0, 200).filter((each) => !each).length).toBeGreaterThan(50);
  });

  test('that hangs leaves places for new mail, and new mail leaves places for what waits', async () => {
    const hanging: (() => void)[] = [];
    const { worker, attempts, events } = scene({
      attempt: async (batch) => {
        if (!batch.messageId.startsWith('GOOD')) await new Promise<void>((resolve) => hanging.push(resolve));
        return everybody({})(batch);
      },
    });
    await backlog(MONDAY);
    worker.start();
    await until(() => hanging.length === 5);
    for (let at = 0; at < 20; at++) await worker.accept(message({ id: `GOOD${at}`, to: ['y@good.example'] }));
    await until(() => events.length === 20);
    expect(hanging).toHaveLength(5);
    for (let at = 0; at < 20; at++) await worker.accept(message({ id: `SLOW${at}`, to: [`y@slow${at}.example`] }));
    await until(() => hanging.length === 10);
    // One of each ends, and one of each begins.
    for (const end of [hanging[0], hanging[9]]) end?.();
    await until(() => hanging.length === 12);
    const slow = attempts.filter((each) => each.startsWith('SLOW')).length;
    expect([slow, attempts.length - 20 - slow]).toEqual([6, 6]);
    await running?.drain(0);
    for (const end of hanging) end();
  });
});
