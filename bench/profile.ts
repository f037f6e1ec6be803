/**
 * Where the relay's CPU time goes: `npm run bench:profile -- --case A`. Runs the relay alone in the case with V8's
 * profiler in every process and thread, and prints CPU a message by part. The profiles stay, for a look in a browser.
 *
 * Exit status: 0 done, 1 not every message arrived as it should, 2 wrong usage, 3 something is missing or did not work.
 */
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { PROJECT } from '../lab/relay.ts';
import { messageOf } from '../src/shared/message-of.ts';
import { CASES, type Case, casesNamed, quick } from './cases.ts';
import { inSurroundings } from './in-surroundings.ts';
import { measureStarted, startFresh, warmUp } from './measure.ts';
import { type ProfiledThread, profileTable } from './profile-table.ts';
import { type CpuProfile, scaled, type Times, timesIn, type Window } from './stages.ts';
import type { Surroundings } from './surroundings.ts';
import { lineOf } from './table.ts';
import { between, byKind, scriptThreads, type ThreadTimes, threadTimes } from './threads.ts';

const USAGE = `usage: npm run bench:profile -- [options]
  --case A        cases (${CASES.map(({ name }) => name).join(', ')}), A by default
  --quick         a tenth of the messages
  --out DIR       where the .cpuprofile files go; below var/bench by default
  --folder DIR    where queue and log are while it runs, on a disk; /var/tmp by default`;
/** Between two samples. */
const INTERVAL_US = 500;

interface Options {
  readonly cases: readonly Case[];
  readonly out: string;
  readonly folder: string;
}

function optionsFrom(words: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...words],
    options: {
      case: { type: 'string', default: 'A' },
      quick: { type: 'boolean', default: false },
      out: { type: 'string' },
      folder: { type: 'string', default: '/var/tmp' },
    },
  });
  const cases = casesNamed(values.case.split(','));
  const day = new Date().toISOString().slice(0, 19).replaceAll(':', '');
  return {
    cases: values.quick ? cases.map(quick) : cases,
    out: values.out ?? join(PROJECT, 'var', 'bench', `profile-${day}`),
    folder: values.folder,
  };
}

async function main(): Promise<number> {
  let options: Options;
  try {
    options = optionsFrom(process.argv.slice(2));
  } catch (error) {
    console.error(`${messageOf(error)}\n${USAGE}`);
    return 2;
  }
  return inSurroundings({ folder: options.folder, peers: false }, async (surroundings, signal) => {
    let faultless = true;
    for (const it of options.cases) {
      if (!(await profile(it, join(options.out, it.name), surroundings, signal))) faultless = false;
    }
    return faultless ? 0 : 1;
  });
}

/** Whether every message arrived as it should. */
async function profile(it: Case, out: string, surroundings: Surroundings, signal: AbortSignal): Promise<boolean> {
  await mkdir(out, { recursive: true });
  // By way of the environment it reaches every process and every thread that the relay starts.
  const flags = ['--cpu-prof', `--cpu-prof-dir=${out}`, `--cpu-prof-interval=${INTERVAL_US}`];
  const started = await startFresh('relay', it.relay, surroundings, { NODE_OPTIONS: flags.join(' ') });
  let stopped = false;
  const stop = async (): Promise<void> => {
    if (!stopped) await started.stop();
    stopped = true;
  };
  try {
    await warmUp(it, started.candidate, surroundings, signal);
    const before = threadTimes(started.group.pids());
    const fromUs = monotonicUs();
    const result = await measureStarted(it, 'relay', 1, started, surroundings, signal);
    const toUs = monotonicUs();
    const ran = between(before, threadTimes(started.group.pids()));
    await stop();

    console.log(`${lineOf(result)}\n(profiled, hence slower than it is)\n`);
    console.log('CPU ms a message by thread, as the kernel counts it:');
    for (const [kind, ms] of [...byKind(ran)].sort(([, one], [, other]) => other - one)) {
      console.log(`${(ms / it.messages).toFixed(3).padStart(8)}  ${kind}`);
    }
    console.log(`\n${profileTable(await threadsIn(out, { fromUs, toUs }, ran), it.messages)}\n`);
    console.log(`profiles: ${out} (open them in the Performance panel of a browser)\n`);
    return result.faults.length === 0;
  } finally {
    await stop();
  }
}

/**
 * The profiles of a folder that have samples in the window. Node names them CPU.DATE.TIME.PID.THREAD.NUMBER.
 *
 * A profile counts the time in which a thread did not sleep of its own accord. That is more than it ran where it waited
 * for a processor or, in a system call, for the disk; so its parts are made to add up to what the kernel counted.
 */
async function threadsIn(folder: string, window: Window, ran: ThreadTimes): Promise<readonly ProfiledThread[]> {
  const profiles: { pid: number; thread: number; times: Times }[] = [];
  for (const file of (await readdir(folder)).filter((name) => name.endsWith('.cpuprofile'))) {
    const [, , , pid, thread] = file.split('.').map(Number);
    const times = timesIn(JSON.parse(await readFile(join(folder, file), 'utf8')) as CpuProfile, window);
    if (pid !== undefined && thread !== undefined && times.busy > 0) profiles.push({ pid, thread, times });
  }
  profiles.sort((one, other) => one.pid - other.pid || one.thread - other.thread);
  return profiles.map(({ pid, thread, times }) => {
    const place = profiles.filter((each) => each.pid === pid).findIndex((each) => each.thread === thread);
    const counted = scriptThreads(ran, pid);
    const matches = counted.length === profiles.filter((each) => each.pid === pid).length;
    const ms = matches ? counted[place] : undefined;
    const name = `${pid} ${thread === 0 ? 'main' : `thread ${thread}`}`;
    return ms === undefined ? { name: `${name} (not scaled)`, times } : { name, times: scaled(times, ms) };
  });
}

function monotonicUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

process.exitCode = await main();
