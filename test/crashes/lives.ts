/**
 * A relay that is killed, started again and killed again, while clients hand in mail and mail hosts take it.
 *
 * One lab, one state folder. Each life begins with whatever the last one left, ends at a named step, and at the end
 * of all of them the relay is left alone, to deliver what it owes. `reckon` then says what was not as promised.
 *
 * With several workers it is one of them that reaches the step and dies. Every other time the relay has to go on by itself,
 * and is stopped when all is delivered; else, and in a power cut, all the others die with it.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { type Lab, startLab } from '../../lab/lab.ts';
import { type LogEvent, type RunningRelay, startRelay } from '../../lab/relay.ts';
import { WORLD } from '../../lab/world.ts';
import { type CrashPlan, HOST_STEPS, SPOOL_STEPS, STORE_STEPS, type Step } from '../support/crash-steps.ts';
import { type Chance, cutPower, deedsIn } from '../support/power-cut.ts';
import { type Account, type Copy, doubles, type Handed, owed, unheard, wrongs } from './ledger.ts';
import { GOOD, HESITANT, handIn, letter, REFUSING } from './letters.ts';

/** How a life ends. */
export interface Death {
  readonly step: Step;
  /**
   * `killed`: the disk stays as the kernel has it. `power cut`: what was not flushed may be lost. `thread`: only the
   * storage thread dies, and the relay must go on by itself.
   */
  readonly as: 'killed' | 'power cut' | 'thread';
}

export interface Reckoning {
  readonly wrongs: readonly string[];
  readonly deaths: readonly Death[];
  /** Letters that clients heard 250 for. */
  readonly promised: number;
  /** Copies that arrived a second time, by the step at which the life of the first ended. */
  readonly doubled: Readonly<Partial<Record<Step, number>>>;
  readonly unheard: number;
  /** Life ends that left something unflushed which was then taken away. */
  readonly powerLosses: number;
  /** Deaths of one worker that the relay has outlived. */
  readonly outlived: number;
}

export interface Lives {
  /** Starts the relay, lets mail flow, and waits until it has died of this. */
  readonly live: (death: Death) => Promise<void>;
  /** The last life: nobody dies. Delivers what is owed, stops, and looks at everything. */
  readonly reckon: () => Promise<Reckoning>;
  readonly end: () => Promise<void>;
}

const CLIENTS = 3;
const PATIENCE_MS = 180_000;
/** A step is not always died of at its first time. */
const OCCURRENCES = 4;
const PRELOAD = new URL('../support/crash-preload.ts', import.meta.url).href;

export async function startLives(chance: Chance, workers = 1): Promise<Lives> {
  const folder = await mkdtemp(join(tmpdir(), 'dane-lives-'));
  const state = join(folder, 'state');
  const diary = join(folder, 'diary');
  const planFile = join(folder, 'plan');
  const handed = new Map<string, Handed>();
  const copies: Copy[] = [];
  const told: { event: LogEvent; life: number }[] = [];
  const deaths: Death[] = [];
  const deadWorkers = new Map<number, number>();
  let powerLosses = 0;
  let outlived = 0;
  let reach: (step: Step) => void = () => undefined;

  const domains = [GOOD, HESITANT, REFUSING, 'office.test'];
  const lab: Lab = await startLab({
    port: 0,
    world: WORLD.filter(({ domain }) => domains.includes(domain)),
    onMoment: (moment) => {
      for (const [step, at] of Object.entries(HOST_STEPS)) if (at === moment) reach(step as Step);
    },
  });

  const plan = (step: Step | null, dies: CrashPlan['dies'], occurrence = 1): void =>
    writeFileSync(planFile, JSON.stringify({ step, dies, occurrence, diary } satisfies CrashPlan));
  const hasDied = (): boolean => deedsIn(diary).some(({ did }) => did === 'died');

  plan(null, 'process');
  const env = {
    CRASH_PLAN: planFile,
    NODE_OPTIONS: `--import=${PRELOAD}`,
    NODE_COMPILE_CACHE: join(folder, 'compiled'),
  };
  const config = { queue: { retry: ['100ms'] }, delivery: { port: lab.port, idleTimeout: '1s' }, workers };
  let relay = await startRelay({ lab, dir: folder, env, config });
  await relay.stop();

  const account: Account = { handed, copies, deadWorkers, told };

  /** Writes down what arrived since the last time, as arrived in this life. */
  const collect = (life: number, running: RunningRelay | null): void => {
    for (const mail of lab.mailboxes().filter((each) => !collected.has(each))) {
      collected.add(mail);
      copies.push({ mail, life });
    }
    for (const event of running?.events() ?? []) if (event.event === 'delivered') told.push({ event, life });
  };
  const collected = new Set<unknown>();

  /** Clients that hand in one letter after another until it is over. */
  const keepWriting = (running: RunningRelay, life: number, load: { over: boolean }): Promise<unknown> => {
    let number = life * 3;
    const client = async (index: number): Promise<void> => {
      while (!load.over) {
        const each = letter(`life${String(life)}-client${String(index)}`, number++);
        const entry: Handed = { letter: each, complete: false, promised: false };
        handed.set(each.name, entry);
        try {
          await handIn(each, {
            relay: running,
            own: running.client,
            reach: (step) => reach(step),
            complete: () => {
              entry.complete = true;
            },
          });
          entry.promised = true;
        } catch {
          // The relay is dead, or its storage thread is: nothing was promised.
        }
        await sleep(5 + 20 * chance());
      }
    };
    return Promise.all(Array.from({ length: CLIENTS }, (_, index) => client(index)));
  };

  const within = async <Value>(promise: Promise<Value>, what: string): Promise<Value> => {
    const giveUp = new AbortController();
    const late = sleep(PATIENCE_MS, null, { signal: giveUp.signal }).then(() => {
      throw new Error(`${what} within ${String(PATIENCE_MS)} ms; the relay printed:\n${relay.output().slice(-3_000)}`);
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      giveUp.abort();
      late.catch(() => undefined);
    }
  };

  const until = async (holds: () => boolean | Promise<boolean>, what: () => string): Promise<void> => {
    for (const end = Date.now() + PATIENCE_MS; !(await holds()); await sleep(25)) {
      if (Date.now() > end) throw new Error(`${what()}; the relay printed:\n${relay.output().slice(-3_000)}`);
    }
  };

  /** Starts it again; null when it died before it could be spoken to, as it should. */
  const rise = async (): Promise<RunningRelay | null> => {
    try {
      relay = await relay.again();
      return relay;
    } catch (error) {
      if (hasDied()) return null;
      throw error;
    }
  };

  /** Calls `act` when it comes to `step` for the n-th time, seen from outside. */
  const watchOutside = (step: Step, occurrence: number, act: () => void): void => {
    let reached = 0;
    reach = (each) => {
      if (each === step && ++reached === occurrence) act();
    };
  };

  const killOneWorker = ({ pid }: RunningRelay): void => {
    const children = readFileSync(`/proc/${String(pid)}/task/${String(pid)}/children`, 'utf8')
      .split(' ')
      .filter(Boolean);
    const chosen = Number(children[Math.floor(chance() * children.length)] ?? 0);
    if (chosen > 0) process.kill(chosen, 'SIGKILL');
  };

  const dieDraining = async (running: RunningRelay, life: number): Promise<void> => {
    await until(
      () =>
        [...handed.values()].filter((each) => each.promised && each.letter.name.startsWith(`life${String(life)}-`))
          .length > 3,
      () => 'nothing was promised before the drain',
    );
    void running.stop();
    await running.untilOutput(/"stopping"/);
    await sleep(30 * chance());
    await running.kill();
  };

  const live = async (death: Death): Promise<void> => {
    const life = deaths.push(death);
    const isThread = death.as === 'thread';
    const oneOfSeveral = workers > 1 && !isThread && death.step !== 'drain';
    const outlives = isThread || (oneOfSeveral && death.as === 'killed' && chance() < 0.5);
    const occurrence = death.step.startsWith('start') ? 1 : 1 + Math.floor(chance() * OCCURRENCES);
    plan(death.step, isThread ? 'thread' : 'process', occurrence);
    writeFileSync(diary, readFileSync(diary, 'utf8').replace(/^.*"died".*\n/gm, ''));
    const running = await rise();
    if (running) {
      const load = { over: false };
      const dead = (): boolean => hasDied() || /"a worker died and is started again"/.test(running.output());
      watchOutside(death.step, occurrence, () => (outlives ? killOneWorker(running) : void running.kill()));
      const writing = keepWriting(running, life, load);
      // Whoever is left may deliver again what the dead one had under way.
      if (oneOfSeveral && (outlives || isInside(death.step))) deadWorkers.set(life, 1);
      try {
        if (outlives) {
          await outlive(running, load, isThread ? hasDied : dead);
          if (!isThread) outlived++;
        } else if (death.step === 'drain') await dieDraining(running, life);
        else if (oneOfSeveral && isInside(death.step)) {
          await until(hasDied, () => `"${death.step}" was not reached`);
          await running.kill();
        }
        await within(running.ended, `"${death.step}" was not reached`);
      } finally {
        load.over = true;
        reach = () => undefined;
        await running.kill();
        await writing;
      }
    }
    if (isInside(death.step) && !hasDied()) throw new Error(`it died, but not at "${death.step}":\n${relay.output()}`);
    // What the dead relay had sent is still read by the hosts.
    await sleep(30);
    collect(life, running);
    if (death.as === 'power cut' && cutPower(state, diary, chance).length > 0) powerLosses++;
  };

  /** The relay goes on without a restart: takes new mail and has delivered all when it is stopped. */
  const outlive = async (running: RunningRelay, load: { over: boolean }, dead: () => boolean): Promise<void> => {
    await until(dead, () => 'nobody has died');
    const before = promised();
    await until(
      () => promised() > before + 5,
      () => 'nothing was taken after a part had died',
    );
    load.over = true;
    await settled(running);
    const status = await running.stop();
    if (status !== 0) throw new Error(`stopped with ${String(status)}:\n${running.output()}`);
  };
  const promised = (): number => [...handed.values()].filter((each) => each.promised).length;

  /** All that was promised is delivered, and the queue is empty. */
  const settled = async (running: RunningRelay): Promise<void> => {
    const left = (): readonly string[] => {
      const here = lab.mailboxes().filter((each) => !collected.has(each));
      return owed({ ...account, copies: [...copies, ...here.map((mail) => ({ mail, life: 0 }))] });
    };
    let listed = '';
    try {
      await until(
        () => left().length === 0,
        () => `not delivered: ${left().join(', ')}`,
      );
    } catch (error) {
      listed = (await running.command('queue', 'list')).stdout;
      throw new Error(`${(error as Error).message}\nin the queue:\n${listed}`);
    }
    await until(
      async () => {
        listed = (await running.command('queue', 'list', '--json')).stdout.trim();
        return listed === '[]';
      },
      () => `the queue is not empty: ${listed}`,
    );
  };

  return {
    live,
    async reckon() {
      plan(null, 'process');
      relay = await relay.again();
      const wrong: string[] = [];
      try {
        await settled(relay);
      } catch (error) {
        wrong.push((error as Error).message);
      }
      const status = await relay.stop();
      if (status !== 0) wrong.push(`the last stop ended with ${String(status)}`);
      collect(deaths.length + 1, relay);
      wrong.push(...wrongs(account), ...leftBehind(state));
      const doubled: Partial<Record<Step, number>> = {};
      for (const { life } of doubles(account)) {
        const step = deaths[life - 1]?.step;
        if (step) doubled[step] = (doubled[step] ?? 0) + 1;
        else wrong.push('something arrived twice in the last life');
      }
      return { wrongs: wrong, deaths, promised: promised(), doubled, unheard: unheard(account), powerLosses, outlived };
    },
    async end() {
      await relay.kill();
      await lab.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Whatever is in the state folder after all mail has left, and the word of SQLite on its database. */
function leftBehind(state: string): readonly string[] {
  const files = readdirSync(state, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(?:eml|incoming)$/.test(entry.name))
    .map(({ name }) => `left behind: ${name}`);
  const db = new Database(join(state, 'queue.db'), { readonly: true });
  try {
    const check = db.pragma('integrity_check', { simple: true });
    const rows = ['message', 'body', 'recipient', 'lease', 'lane'].flatMap((table) => {
      const { rows: count } = db.prepare(`SELECT count(*) AS rows FROM ${table}`).get() as { rows: number };
      return count === 0 ? [] : [`${String(count)} rows left in ${table}`];
    });
    return [...files, ...rows, ...(check === 'ok' ? [] : [`the database: ${String(check)}`])];
  } finally {
    db.close();
  }
}

/** Whether the relay is killed from within: then its diary must say so. */
function isInside(step: Step): boolean {
  return [...SPOOL_STEPS, ...STORE_STEPS].some((each) => each === step);
}

/** Steps at which the storage thread can die alone. */
export const THREAD_STEPS: readonly Step[] = STORE_STEPS.filter((step) => !step.startsWith('start'));
