/**
 * Before any number is believed: mail must go where it may and wait where it must, for the candidate as it is measured.
 * What is fast because it looks less closely would be found here.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Candidate } from './candidates/candidate.ts';
import { sendLoad } from './load.ts';
import type { SinkStats } from './sink.ts';
import type { GATE_ZONES, Surroundings } from './surroundings.ts';

const ARRIVES = ['dane.test', 'd001.test', 'no-tlsa.test', 'unsigned.test'] as const;
const WAITS = ['bogus.test', 'wrong-tlsa.test', 'no-starttls.test'] as const satisfies (keyof typeof GATE_ZONES)[];
/** For one message to arrive, or to be said to wait. */
const PATIENCE_MS = 30_000;

/** What was wrong, a sentence each; empty when the candidate did right with every destination. */
export async function gate(
  candidate: Candidate,
  { sink, programs }: Surroundings,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const wrong: string[] = [];
  let strays = 0;
  const post = async (domain: string): Promise<void> => {
    strays += (await sink.stats()).strays;
    const run = `gate-${domain.split('.')[0]}`;
    await sink.reset(run, 1);
    const load = { run, port: candidate.port, to: domain, messages: 1, size: 4096, sessions: 1, perConnection: 1 };
    const { accepted } = await sendLoad(programs.load, load, signal);
    if (accepted !== 1) wrong.push(`mail to ${domain} was not accepted`);
  };
  await sink.reset('gate', 1);

  for (const domain of ARRIVES) {
    await post(domain);
    const stats = await until(async () => ((await sink.count()) > 0 ? sink.stats() : null), signal);
    if (!stats) wrong.push(`mail to ${domain} did not arrive`);
    else if (stats.unique !== 1) wrong.push(`mail to ${domain} arrived ${faultOf(stats)}`);
  }
  for (const domain of WAITS) {
    await post(domain);
    const end = await until(async () => {
      if ((await sink.count()) > 0) return 'handed over';
      return (await candidate.deferred(domain)) ? 'waits' : null;
    }, signal);
    if (end === 'handed over') wrong.push(`mail to ${domain} was handed over`);
    if (end === null) wrong.push(`the log does not say that mail to ${domain} waits`);
  }
  // What arrived late belongs to an earlier message, which then should have waited.
  if (strays + (await sink.stats()).strays > 0) wrong.push('mail that should have waited was handed over late');
  return wrong;
}

function faultOf({ inClear, damaged, misaddressed }: SinkStats): string {
  if (inClear > 0) return 'without TLS';
  if (damaged > 0) return 'damaged';
  return misaddressed > 0 ? 'for somebody else' : 'and was counted wrong';
}

async function until<Result>(look: () => Promise<Result | null>, signal: AbortSignal): Promise<Result | null> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    signal.throwIfAborted();
    const found = await look();
    if (found !== null || Date.now() > deadline) return found;
    await sleep(50);
  }
}
