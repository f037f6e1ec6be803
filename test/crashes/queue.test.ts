import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openEngine, type Request } from '../../src/queue/sqlite-engine.ts';
import type { Claim } from '../../src/queue/store.ts';
import { bodyOf, brokenPromises, crashMessage, noticeFor, type Promises } from './queue-promises.ts';

let root: string;

beforeAll(() => {
  root = fs.mkdtempSync(join(tmpdir(), 'dane-relay-crash-'));
});

afterAll(() => fs.rmSync(root, { recursive: true, force: true }));

function startChild(folder: string, round: string): ChildProcessByStdio<null, Readable, null> {
  const incoming = join(root, 'incoming');
  fs.mkdirSync(incoming, { recursive: true });
  const script = new URL('./queue-child.ts', import.meta.url).pathname;
  // Fifty starts of the same program: what was compiled once need not be compiled again.
  const env = { ...process.env, NODE_COMPILE_CACHE: join(root, 'compiled') };
  return spawn(process.execPath, [script, folder, incoming, round], { env, stdio: ['ignore', 'pipe', 'inherit'] });
}

/** Runs a child on the queue until it has said `lines` things, and kills it in the middle of the next. */
async function killedAfter(lines: number, folder: string, round: string): Promise<Promises> {
  const child = startChild(folder, round);
  const said: (readonly [string, string])[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    const [what = '', id = ''] = line.split(' ');
    if (what !== 'open') said.push([what, id]);
    if (said.length >= lines) child.kill('SIGKILL');
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  expect(child.signalCode).toBe('SIGKILL');
  const those = (wanted: string): ReadonlySet<string> =>
    new Set(said.flatMap(([what, id]) => (what === wanted ? [id] : [])));
  // The child delivers all it can: any of its messages may have come to its end unsaid.
  return { accepted: those('accepted'), ending: those('accepted'), settled: those('settled') };
}

test('TXN-08 killed at fifty moments under load: all that was accepted is there once and whole, or its notice is', async () => {
  const told = { accepted: 0, settled: 0 };
  const rounds = async (lane: number): Promise<void> => {
    for (let round = 0; round < 25; round++) {
      // Odd steps, so that the kill falls between other pairs of promises each time.
      const lines = 1 + ((round * 37 + lane * 17) % 101);
      const folder = join(root, `lane-${String(lane)}-${String(round)}`);
      const promises = await killedAfter(lines, folder, `L${String(lane)}R${String(round)}`);
      expect(brokenPromises(folder, promises), `killed after ${String(lines)} promises`).toEqual([]);
      told.accepted += promises.accepted.size;
      told.settled += promises.settled.size;
      fs.rmSync(folder, { recursive: true });
    }
  };
  await once(startChild(join(root, 'warm-up'), 'warm-up'), 'exit');
  await Promise.all([rounds(0), rounds(1)]);
  expect(told.accepted).toBeGreaterThan(500);
  expect(told.settled).toBeGreaterThan(50);
}, 900_000);

test('TXN-08 killed before each step of a life: what is on disk at that moment keeps every promise', () => {
  const folder = join(root, 'queue');
  const incoming = join(root, 'incoming');
  fs.mkdirSync(incoming, { recursive: true });
  const accepted = new Set<string>();
  const ending = new Set<string>();
  const settled = new Set<string>();
  const moments: { readonly step: string; readonly copy: string; readonly promises: Promises }[] = [];

  const engine = openEngine({ folder, mode: 'relay', reserveBytes: 0 });
  /** What a kill would leave: the files as they are now. */
  const restore = beforeEachStep((step) => {
    const copy = join(root, `moment-${String(moments.length)}`);
    fs.cpSync(folder, copy, { recursive: true });
    const promises = { accepted: new Set(accepted), ending: new Set(ending), settled: new Set(settled) };
    moments.push({ step, copy, promises });
  });

  try {
    const run = (...requests: readonly Request[]): readonly unknown[] => {
      const replies = engine.run(requests);
      return requests.map(({ id }) => {
        const reply = replies.find((each) => each.id === id);
        if (!reply?.ok) throw new Error(reply?.failure.message);
        return reply.value;
      });
    };
    const accept = (id: string, how: 'small' | 'large' | 'file'): Request => {
      const path = join(incoming, `${id}.eml`);
      if (how === 'file') fs.writeFileSync(path, bodyOf(id, true));
      const body =
        how === 'file'
          ? ({ kind: 'file', path } as const)
          : { kind: 'memory' as const, bytes: bodyOf(id, how === 'large') };
      return { id: accepted.size + id.charCodeAt(0), name: 'accept', args: [crashMessage(id, body), 1e15, null] };
    };
    const acceptAll = (...requests: readonly (readonly [string, 'small' | 'large' | 'file'])[]): void => {
      run(...requests.map(([id, how]) => accept(id, how)));
      for (const [id] of requests) accepted.add(id);
    };
    const settle = ({ lease, batch }: Claim, index: number): Request => {
      const end = batch.recipients.map(({ id }) => ({ kind: 'leaves', recipientId: id }) as const);
      return {
        id: index,
        name: 'settle',
        args: [lease, end, [{ message: noticeFor(batch.messageId), expiresAt: 1e15 }]],
      };
    };
    const settleAll = (...claims: readonly Claim[]): void => {
      for (const { batch } of claims) ending.add(batch.messageId);
      run(...claims.map(settle));
      for (const { batch } of claims) settled.add(batch.messageId);
    };

    acceptAll(['A', 'small']);
    acceptAll(['B', 'file']);
    acceptAll(['C', 'small'], ['D', 'large'], ['E', 'file'], ['F', 'small']);
    const request = {
      owner: 'node-1',
      now: 1_000,
      leaseMs: 60_000,
      limit: 9,
      limitAgain: 9,
      perDomain: 9,
      taken: new Map(),
    };
    const [claims] = run({ id: 1, name: 'claim', args: [request] }) as readonly (readonly Claim[])[];
    const of = (id: string): Claim => {
      const claim = claims?.find(({ batch }) => batch.messageId === id);
      if (!claim) throw new Error(`${id} was not claimed`);
      return claim;
    };
    settleAll(of('A'));
    settleAll(of('B'));
    settleAll(of('D'), of('F'), of('E'));
  } finally {
    restore();
    engine.close();
  }

  expect(moments.length).toBeGreaterThan(100);
  const steps = new Set(moments.map(({ step }) => step));
  for (const step of ['BEGIN', 'COMMIT', 'renameSync', 'fsyncSync', 'rmSync', 'writeFileSync'])
    expect(steps).toContain(step);
  const broken = moments.flatMap(({ step, copy, promises }, index) =>
    brokenPromises(copy, promises).map((what) => `before step ${String(index)} (${step}): ${what}`),
  );
  expect(broken).toEqual([]);
}, 900_000);

/**
 * Calls `look` before everything that changes the disk: each statement of SQLite and each call to the file system. The
 * step is the name of the call, or the first word of the statement.
 */
function beforeEachStep(look: (step: string) => void): () => void {
  let looking = false;
  const seen = (step: string): void => {
    if (looking) return;
    looking = true;
    look(step);
    looking = false;
  };
  const undo: (() => void)[] = [];
  const wrap = <Key extends string>(
    holder: Record<Key, unknown>,
    key: Key,
    nameOf: (self: unknown) => string,
  ): void => {
    const real = holder[key] as (...args: readonly unknown[]) => unknown;
    holder[key] = function (this: unknown, ...args: readonly unknown[]) {
      seen(nameOf(this));
      return Reflect.apply(real, this, args);
    };
    undo.push(() => {
      holder[key] = real;
    });
  };
  const statement = Object.getPrototypeOf(new Database(':memory:').prepare('SELECT 1')) as Record<'run', unknown>;
  wrap(statement, 'run', (self) => (self as { source: string }).source.trim().split(/\s/)[0] ?? '');
  for (const call of ['renameSync', 'fsyncSync', 'rmSync', 'writeFileSync', 'mkdirSync'] as const) {
    wrap(fs as unknown as Record<string, unknown>, call, () => call);
  }
  syncBuiltinESMExports();
  return () => {
    for (const step of undo) step();
    syncBuiltinESMExports();
  };
}
