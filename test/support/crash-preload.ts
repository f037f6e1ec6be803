/**
 * Loaded into the relay by NODE_OPTIONS=--import: keeps a diary of what the relay does to its disk, and kills it when a
 * step of the plan is reached. The relay knows nothing of it; its calls to Node and to SQLite are wrapped from outside.
 *
 * The process dies by SIGKILL, the storage thread by the exit of its thread, both before the call that was wrapped
 * goes on. Without CRASH_PLAN nothing is done at all.
 */
import fs from 'node:fs';
import fsp, { type FileHandle } from 'node:fs/promises';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import { Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import type { CrashPlan, DiskDeed, Step } from './crash-steps.ts';
import { frontierOf } from './wal.ts';

const planFile = process.env['CRASH_PLAN'];
if (planFile && !process.execArgv.includes('-p')) install(JSON.parse(fs.readFileSync(planFile, 'utf8')) as CrashPlan);

function install(plan: CrashPlan): void {
  const diary = fs.openSync(plan.diary, 'a');
  const tell = (deed: DiskDeed): void => void fs.writeSync(diary, `${JSON.stringify(deed)}\n`);
  // A storage thread that takes the place of the one that died is left alone.
  const isOver = fs.readFileSync(plan.diary, 'utf8').includes('"died"');
  let reached = 0;
  const reach = (step: Step): void => {
    if (isOver || step !== plan.step || ++reached !== plan.occurrence) return;
    // Of several workers the first one that comes there dies.
    if (fs.readFileSync(plan.diary, 'utf8').includes('"died"')) return;
    tell({ did: 'died', step });
    if (plan.dies === 'thread') process.exit(1);
    process.kill(process.pid, 'SIGKILL');
    // The signal is on its way: nothing may be done until it is here.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  };
  if (isMainThread) watchReceiving(tell, reach);
  else watchStorage(tell, reach, join(dirname(plan.diary), 'removed'));
  syncBuiltinESMExports();
}

type Tell = (deed: DiskDeed) => void;
type Reach = (step: Step) => void;

/** Replaces a function by one that is given the real one, bound to its `this`. */
function wrap<Key extends string, Call extends (...args: never[]) => unknown>(
  holder: Record<Key, Call>,
  key: Key,
  around: (real: (...args: Parameters<Call>) => ReturnType<Call>, args: Parameters<Call>, self: unknown) => unknown,
): void {
  const real = holder[key];
  holder[key] = function (this: unknown, ...args: Parameters<Call>) {
    return around((...given) => Reflect.apply(real, this, given) as ReturnType<Call>, args, this);
  } as unknown as Call;
}

function watchReceiving(tell: Tell, reach: Reach): void {
  const watchFile = (path: string, file: FileHandle): void => {
    let parts = 0;
    wrap(file as unknown as Record<string, (...args: never[]) => Promise<unknown>>, 'write', async (real, args) => {
      const written = await real(...args);
      if (++parts === 2) reach('spool: part written');
      return written;
    });
    wrap(file as unknown as Record<string, (...args: never[]) => Promise<unknown>>, 'sync', async (real, args) => {
      reach('spool: before fsync');
      await real(...args);
      tell({ did: 'synced', path });
      reach('spool: after fsync');
    });
  };
  wrap(fsp as unknown as { open: typeof fsp.open }, 'open', async (real, args) => {
    const file = await real(...args);
    const path = String(args[0]);
    if (!path.endsWith('.incoming')) return file;
    tell({ did: 'made', path });
    watchFile(path, file);
    reach('spool: file made');
    return file;
  });
  wrap(Socket.prototype as unknown as Record<string, (...args: unknown[]) => boolean>, 'write', (real, args) => {
    if (typeof args[0] === 'string' && args[0].startsWith('250 2.0.0 Ok: queued')) reach('reply: before 250 is sent');
    return real(...args);
  });
}

/** What a transaction does, told by its statements. */
type Part = 'accept' | 'claim' | 'settle' | 'deferral' | 'bounce' | 'start';

const PARTS: readonly (readonly [Part, RegExp, (args: readonly unknown[]) => boolean])[] = [
  // The fifth value is the sender; a bounce has none.
  ['accept', /^INSERT INTO message/, (args) => args[4] !== ''],
  ['bounce', /^INSERT INTO message/, (args) => args[4] === ''],
  ['claim', /^INSERT INTO lease/, () => true],
  ['settle', /^DELETE FROM recipient/, () => true],
  ['deferral', /^UPDATE recipient SET lease = NULL, attempts/, () => true],
];

function watchStorage(tell: Tell, reach: Reach, removed: string): void {
  // As the storage thread itself will: the module is the same one then.
  const Database = createRequire(import.meta.url)('better-sqlite3') as new (
    path: string,
  ) => {
    prepare: (sql: string) => object;
    close: () => void;
  };
  const probe = new Database(':memory:');
  const statement = Object.getPrototypeOf(probe.prepare('SELECT 1')) as Record<string, (...args: unknown[]) => unknown>;
  probe.close();

  let parts = new Set<Part>();
  let started = false;
  wrap(statement, 'run', (real, args, self) => {
    const { source, database } = self as { source: string; database: StorageDatabase };
    const sql = source.trim();
    if (sql.startsWith('BEGIN')) parts = new Set();
    for (const [part, fits, also] of PARTS) if (fits.test(sql) && also(args)) parts.add(part);
    if (sql !== 'COMMIT') return real(...args);
    // The first transaction of a start takes back what the one before had claimed.
    if (!started) parts = new Set(['start']);
    started = true;
    for (const part of parts)
      reach(part === 'start' ? 'start: before leases are taken back' : `${part}: before commit`);
    const result = real(...args);
    const frontier = isDurable(database) ? frontierOf(database.name) : null;
    if (frontier) tell({ did: 'committed', frontier: { salts: frontier.salts, frames: frontier.frames } });
    for (const part of parts) reach(part === 'start' ? 'start: leases taken back' : `${part}: after commit`);
    return result;
  });

  fs.mkdirSync(removed, { recursive: true });
  const folders = new Map<number, string>();
  wrap(fs as unknown as { openSync: typeof fs.openSync }, 'openSync', (real, args) => {
    const handle = real(...args);
    folders.set(handle, String(args[0]));
    return handle;
  });
  wrap(fs as unknown as { fsyncSync: typeof fs.fsyncSync }, 'fsyncSync', (real, args) => {
    real(...args);
    const path = folders.get(args[0]);
    if (path !== undefined) tell({ did: 'folder-synced', path });
  });
  wrap(fs as unknown as { mkdirSync: typeof fs.mkdirSync }, 'mkdirSync', (real, args) => {
    const made = real(...args);
    if (made === undefined) return made;
    for (let folder = String(args[0]); folder.startsWith(made); folder = dirname(folder)) {
      tell({ did: 'made', path: folder });
    }
    return made;
  });
  wrap(fs as unknown as { writeFileSync: typeof fs.writeFileSync }, 'writeFileSync', (real, args) => {
    const [path, , options] = args;
    tell({ did: 'made', path: String(path) });
    real(...args);
    if (typeof options === 'object' && options?.flush === true) tell({ did: 'synced', path: String(path) });
  });
  wrap(fs as unknown as { renameSync: typeof fs.renameSync }, 'renameSync', (real, args) => {
    reach('accept: before the body file is moved');
    real(...args);
    tell({ did: 'renamed', from: String(args[0]), path: String(args[1]) });
    reach('accept: body file moved');
  });
  wrap(fs as unknown as { rmSync: typeof fs.rmSync }, 'rmSync', (real, args) => {
    const path = String(args[0]);
    reach('settle: before the body file is removed');
    const kept = join(removed, `${String(Date.now())}-${basename(path)}`);
    if (fs.existsSync(path)) fs.linkSync(path, kept);
    real(...args);
    tell({ did: 'removed', path, kept });
    reach('settle: body file removed');
  });
}

interface StorageDatabase {
  readonly name: string;
  readonly pragma: (text: string, options: { simple: true }) => unknown;
}

/** Whether a commit returns only after its octets were flushed: not assumed, but asked of SQLite. */
function isDurable(database: StorageDatabase): boolean {
  const isLog = database.pragma('journal_mode', { simple: true }) === 'wal';
  return isLog && Number(database.pragma('synchronous', { simple: true })) >= 2;
}
