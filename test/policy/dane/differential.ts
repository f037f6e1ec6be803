/**
 * The full comparison with OpenSSL: `node test/policy/dane/differential.ts [CHAINS] [SEED]`. Each chain is served once
 * and judged by eight random TLSA sets, by this code and by `openssl s_client -dane_*`. Every difference that is not
 * one of docs/decisions/0003-differences-from-openssl.md is printed with what brings it back; exit status 1 then.
 */
import { argv } from 'node:process';
import fc from 'fast-check';
import { judgeChain } from '../../../src/policy/dane/match.ts';
import { judgeRecords, parseTlsa } from '../../../src/policy/dane/tlsa.ts';
import { type Opinion, withServer } from './openssl.ts';
import { NOW } from './pki.ts';
import { type BuiltChain, buildChain, type ChainPlan, chainPlan, recordsOf, type SetPlan, setPlan } from './scenario.ts';

export const SETS_A_CHAIN = 8;

/** Our verdict in the words of the oracle. */
export function ours(sent: BuiltChain['sent'], records: readonly string[], name: string, at = NOW): Opinion & { detail: string } {
  const rrset = records.map((text) => {
    const parsed = parseTlsa(text);
    if ('mistake' in parsed) throw new Error(parsed.mistake);
    return parsed.rdata;
  });
  const { considered } = judgeRecords(rrset);
  const chain = sent.map(({ der }) => der);
  const { verdict, code, depth, detail } = judgeChain({ chain, records: considered, names: [name], at });
  if (verdict === 'unusable') return { kind: 'unusable', detail };
  if (verdict === 'not-authenticated') return { kind: 'fail', why: code, detail };
  return { kind: 'pass', usage: code === 'dane-ee' ? 3 : 2, depth: depth ?? -1, detail };
}

/** Differences that are meant; the decision record has the reasons. */
export function isIntended(plan: ChainPlan, set: SetPlan, mine: Opinion, theirs: Opinion): boolean {
  const has = (...faults: readonly string[]): boolean => plan.levels.some(({ fault }) => faults.includes(fault));
  const bare = set.records.some(({ numbers }) => numbers === '2 1 0');
  if (mine.kind === 'fail' && theirs.kind === 'pass') {
    if (bare && has('sha1', 'md5', 'no-ca', 'version-1')) return true;
    return plan.naming.startsWith('wildcard') && has('excludes-example');
  }
  if (mine.kind === 'pass' && theirs.kind === 'fail') return has('any-purpose');
  return false;
}

export interface Difference {
  readonly plan: ChainPlan;
  readonly set: SetPlan;
  readonly mine: Opinion;
  readonly theirs: Opinion;
}

/** Judges one chain with its sets both ways. */
export async function compare(plan: ChainPlan, sets: readonly SetPlan[]): Promise<readonly Difference[]> {
  const chain = buildChain(plan);
  return withServer(chain.sent, async (ask) => {
    const differences: Difference[] = [];
    for (const set of sets) {
      const records = recordsOf(set, chain);
      const mine = ours(chain.sent, records, set.name, set.at);
      const theirs = await ask(records, set.name, set.at);
      if (!isSame(mine, theirs) && !isIntended(plan, set, mine, theirs)) differences.push({ plan, set, mine, theirs });
    }
    return differences;
  });
}

/** For a key that is only in DNS OpenSSL names the depth of the last certificate, and interface.md the one above. */
function isSame(mine: Opinion, theirs: Opinion): boolean {
  if (mine.kind !== theirs.kind) return false;
  if (mine.kind !== 'pass' || theirs.kind !== 'pass') return true;
  return mine.usage === theirs.usage && [theirs.depth, theirs.depth + 1].includes(mine.depth);
}

/** @returns everything that differs; runs four chains at a time */
export async function run(chains: number, seed: number): Promise<readonly Difference[]> {
  const cases = fc.sample(fc.tuple(chainPlan, fc.array(setPlan, { minLength: SETS_A_CHAIN, maxLength: SETS_A_CHAIN })), {
    seed,
    numRuns: chains,
  });
  const differences: Difference[] = [];
  const queue = cases.values();
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      for (const [plan, sets] of queue) differences.push(...(await compare(plan, sets)));
    }),
  );
  return differences;
}

if (import.meta.main) {
  const chains = Number(argv[2] ?? 300);
  const seed = Number(argv[3] ?? Date.now() % 1_000_000_000);
  const differences = await run(chains, seed);
  for (const difference of differences) console.log(JSON.stringify(difference, null, 1));
  console.log(`${chains * SETS_A_CHAIN} verdicts compared with OpenSSL, seed ${seed}: ${differences.length} unexpected differences`);
  process.exitCode = differences.length > 0 ? 1 : 0;
}
