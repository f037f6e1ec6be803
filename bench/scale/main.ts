/**
 * What a long queue costs, and whether that is little enough: `node bench/scale/main.ts [SHORT LONG [EXPIRING]]`, by default
 * 50,000 and 500,000 waiting messages and 100,000 that expire. For each length a relay is started on a queue that was
 * filled beforehand: how long until it takes mail, what a claim costs, how much memory it has after some work, how long
 * mail takes that comes in, also while an operator drops what waits. Beside the long queue other messages are then given
 * up, half of them with nothing else to do and half while mail comes in. Ends with status 1 when a goal does not hold.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../lab/relay.ts';
import { startCountingHost } from '../../test/support/memory-load.ts';
import { machineInWords, stealBetween, ticks } from '../machine.ts';
import { type Figure, holds, table } from './goals.ts';
import { type Latencies, quantile } from './load.ts';
import { DOMAINS, type GivingUp, giveUp, type Standing, stand, type World } from './world.ts';

const numbers = process.argv.slice(2).map(Number);
const [short = 50_000, long = 500_000, expiring = 100_000] = numbers;
if (numbers.length === 1 || [short, long, expiring].some((each) => !Number.isSafeInteger(each) || each < 1_000)) {
  process.stderr.write('usage: node bench/scale/main.ts [SHORT LONG [EXPIRING]], 1000 messages at least\n');
  process.exit(2);
}
const before = ticks();
const brief = await inWorld((world) => stand(world, short));
const [full, over] = await inWorld(async (world) => [await stand(world, long), await giveUp(world, expiring)] as const);
const figures = judged(brief, full, over);
const number = (count: number): string => count.toLocaleString('en-US');
process.stdout.write(
  `${new Date().toISOString().slice(0, 10)}, ${machineInWords()}. ${number(short)} / ${number(long)} waiting messages for up to ` +
    `${number(DOMAINS)} domains; beside the longer queue ${number(expiring)} more are given up. Steal ` +
    `${(100 * stealBetween(before, ticks())).toFixed(0)} %.\n\n${table(figures)}\n`,
);
if (figures.some((figure) => holds(figure) === false)) process.exitCode = 1;

async function inWorld<Result>(measure: (world: World) => Promise<Result>): Promise<Result> {
  const folder = await mkdtemp(join(tmpdir(), 'dane-scale-'));
  const host = await startCountingHost();
  try {
    return await measure({ folder, host, dead: await freePort() });
  } finally {
    await host.close();
    await rm(folder, { recursive: true, force: true });
  }
}

function judged(brief: Standing, full: Standing, over: GivingUp): readonly Figure[] {
  const both = (pick: (of: Standing) => number): readonly number[] => [pick(brief), pick(full)];
  const times = (values: Latencies): readonly number[] => [0.5, 0.99].map((part) => quantile(values, part));
  const against = (values: Latencies): readonly number[] => [quantile(values, 0.99) / quantile(full.undisturbed, 0.99)];
  return [
    { what: 'start until mail is taken, ms', values: both(({ startMs }) => startMs), most: 5_000 },
    { what: 'memory after some work (PSS), MB', values: both(({ memoryMb }) => memoryMb) },
    { what: 'memory, longer to shorter', values: [full.memoryMb / brief.memoryMb], least: 0.8, most: 1.2 },
    { what: 'claim of fifty, median, ms', values: both(({ claimMs }) => claimMs) },
    { what: 'claim, longer to shorter', values: [full.claimMs / brief.claimMs], most: 2 },
    { what: 'given up a second, nothing else to do', values: [over.alone], least: 1_000 },
    { what: 'given up a second while mail comes in', values: [over.underLoad] },
    { what: 'notices for each message given up', values: [over.notices / expiring], least: 1, most: 1 },
    { what: 'mail taken beside the longer queue, p50 / p99, ms', values: times(full.undisturbed) },
    { what: 'the same while mail is given up', values: times(over.latencies) },
    { what: 'its p99 to that of a quiet time', values: against(over.latencies), most: 5 },
    { what: 'the same while an operator drops mail', values: times(full.dropping) },
    { what: 'its p99 to that of a quiet time', values: against(full.dropping), most: 5 },
    { what: 'dropped meanwhile', values: [full.dropped] },
  ];
}
