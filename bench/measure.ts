/** One run: a fresh candidate, a warm-up, a cold resolver, the load, and what it cost until the last message was there. */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../lab/relay.ts';
import { type Candidate, startCandidate } from './candidates/candidate.ts';
import type { CandidateName, Case } from './cases.ts';
import { createGroup, type Group } from './group.ts';
import { type LoadStats, sendLoad } from './load.ts';
import { diskFlushes, othersBetween, stealBetween, ticks } from './machine.ts';
import type { RunResult } from './result.ts';
import type { SinkStats } from './sink.ts';
import type { Surroundings } from './surroundings.ts';

/** Without any message arriving, a run has come to its end. Exim's queue runners let some seconds pass. */
const STALL_MS = 30_000;
/** After the last message: for duplicates to show themselves, and for work that is still to do to be counted. */
const AFTERMATH_MS = 500;

/** A started candidate in a group and a folder of its own. */
export interface Started {
  readonly candidate: Candidate;
  readonly group: Group;
  readonly stop: () => Promise<void>;
}

/** @param env as in `Place` */
export async function startFresh(
  name: CandidateName,
  relay: Case['relay'],
  surroundings: Surroundings,
  env: Readonly<Record<string, string>> = {},
): Promise<Started> {
  const dir = await mkdtemp(join(surroundings.dir, `${name}-`));
  await chmod(dir, 0o755);
  const group = createGroup(name);
  const leave = async (): Promise<void> => {
    await group.close();
    await rm(dir, { recursive: true, force: true });
  };
  try {
    const candidate = await startCandidate(name, { dir, port: await freePort(), group, surroundings, relay, env });
    const stop = async (): Promise<void> => {
      await candidate.stop();
      await leave();
    };
    return { candidate, group, stop };
  } catch (error) {
    await leave();
    throw error;
  }
}

/** Measures one candidate in one case. Whatever happens, the candidate is stopped. */
export async function measure(
  it: Case,
  name: CandidateName,
  run: number,
  surroundings: Surroundings,
  signal: AbortSignal,
): Promise<RunResult> {
  const started = await startFresh(name, it.relay, surroundings);
  try {
    await warmUp(it, started.candidate, surroundings, signal);
    return await measureStarted(it, name, run, started, surroundings, signal);
  } finally {
    await started.stop();
  }
}

/** Some messages to the domains that the case does not use, so that code is compiled and nothing is known of those it uses. */
export async function warmUp(
  it: Case,
  candidate: Candidate,
  surroundings: Surroundings,
  signal: AbortSignal,
): Promise<void> {
  const { sink, dns } = surroundings;
  const messages = Math.max(20, Math.ceil(it.messages / 15));
  await sink.delay(0);
  await sendAndDrain(
    { ...it, messages, rate: null },
    it.domains === 1 ? 200 : 1,
    'warm-up',
    candidate,
    surroundings,
    signal,
  );
  await sleep(AFTERMATH_MS);
  await dns.forget();
}

/** The measurement alone, of a candidate that is warm. */
export async function measureStarted(
  it: Case,
  name: CandidateName,
  run: number,
  { candidate, group }: Started,
  surroundings: Surroundings,
  signal: AbortSignal,
): Promise<RunResult> {
  const { sink, dir } = surroundings;
  await sink.delay(it.delayMs);
  const before = { cpuMs: group.cpuMs(), flushes: diskFlushes(dir), ticks: ticks() };
  const memory = watchMemory(group);
  const load = await sendAndDrain(it, it.domains, `${it.name}-${name}-${run}`, candidate, surroundings, signal).finally(
    memory.stop,
  );
  const { pssMb, processes } = memory.highest();
  const flushesAfter = diskFlushes(dir);
  await sleep(AFTERMATH_MS);
  const cpuMs = group.cpuMs() - before.cpuMs;
  const ticksAfter = ticks();
  const stats = await sink.stats();
  await sink.delay(0);

  const arrived = Math.max(1, stats.unique);
  const flushes = before.flushes === null || flushesAfter === null ? null : flushesAfter - before.flushes;
  return {
    case: it.name,
    candidate: name,
    run,
    when: new Date().toISOString(),
    messages: it.messages,
    drain: stats.unique / seconds(load.firstNs, stats.lastNs),
    accept: load.accepted / seconds(load.firstNs, load.lastNs),
    cpuMs: cpuMs / arrived,
    pssMb,
    processes,
    p50Ms: stats.p50Ms,
    p99Ms: stats.p99Ms,
    acceptP50Ms: load.p50Ms,
    acceptP99Ms: load.p99Ms,
    flushes: flushes === null ? null : flushes / arrived,
    connections: stats.connections,
    loadCpuMs: load.cpuMs / arrived,
    sinkCpuMs: stats.cpuMs / arrived,
    steal: stealBetween(before.ticks, ticksAfter),
    others: othersBetween(before.ticks, ticksAfter, cpuMs + load.cpuMs + stats.cpuMs),
    faults: faultsOf(it, load, stats),
  };
}

/** Sends all messages of a case and waits until they have arrived, or until nothing arrives any more. */
async function sendAndDrain(
  it: Case,
  domains: 1 | 200,
  run: string,
  candidate: Candidate,
  { sink, programs }: Surroundings,
  signal: AbortSignal,
): Promise<LoadStats> {
  await sink.reset(run, it.messages);
  const to = domains === 1 ? 'dane.test' : domains;
  const load = await sendLoad(programs.load, { ...it, run, port: candidate.port, to }, signal);
  let last = { count: -1, at: Date.now() };
  for (;;) {
    signal.throwIfAborted();
    const count = await sink.count();
    if (count >= load.accepted) return load;
    if (count !== last.count) last = { count, at: Date.now() };
    else if (Date.now() - last.at > STALL_MS) return load;
    await sleep(20);
  }
}

/** Everything that a number must not be believed with. Empty when each message came once and as it should. */
export function faultsOf(it: Pick<Case, 'messages'>, load: LoadStats, stats: SinkStats): readonly string[] {
  const missing = it.messages - stats.unique;
  const counts: readonly (readonly [number, string])[] = [
    [it.messages - load.accepted, 'not accepted'],
    [load.lost, 'of unknown fate'],
    [missing, 'not arrived'],
    [stats.duplicates, 'arrived twice'],
    [stats.damaged, 'damaged'],
    [stats.misaddressed, 'with another envelope'],
    [stats.inClear, 'without TLS'],
    [stats.strays, 'from another run'],
  ];
  return counts.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`);
}

interface MemoryWatch {
  readonly stop: () => void;
  readonly highest: () => { readonly pssMb: number; readonly processes: number };
}

/** Looking costs the kernel a walk over all pages, so it looks less often where there are many. */
function watchMemory(group: Group): MemoryWatch {
  let pssMb = 0;
  let processes = 0;
  let timer: NodeJS.Timeout | undefined;
  const look = (): void => {
    const began = performance.now();
    processes = Math.max(processes, group.pids().length);
    pssMb = Math.max(pssMb, group.pssMb());
    clearTimeout(timer);
    timer = setTimeout(look, Math.max(100, 50 * (performance.now() - began)));
  };
  look();
  return {
    stop: () => {
      look();
      clearTimeout(timer);
    },
    highest: () => ({ pssMb, processes }),
  };
}

function seconds(fromNs: number, toNs: number): number {
  return Math.max(1e-3, (toNs - fromNs) / 1e9);
}
