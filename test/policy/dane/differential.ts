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
import {
  type BuiltChain,
  buildChain,
  type ChainPlan,
  chainPlan,
  recordsOf,
  type SetPlan,
  setPlan,
} from './scenario.ts';

const SETS_A_CHAIN = 8;

/** Our verdict in the words of the oracle. */
export function ours(
  sent: BuiltChain['sent'],
  records: readonly string[],
  name: string,
  at = NOW,
): Opinion & { detail: string } {
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
function isIntended(plan: ChainPlan, set: SetPlan, mine: Opinion, theirs: Opinion): boolean {
  const has = (...faults: readonly string[]): boolean => plan.levels.some(({ fault }) => faults.includes(fault));
  const bare = set.records.some(({ numbers }) => numbers === '2 1 0');
  if (mine.kind === 'fail' && theirs.kind === 'pass') {
    // OpenSSL looks at the dates of an anchor only where it is self-issued.
    const between = plan.levels.slice(1, -1).some(({ fault }) => fault === 'expired' || fault === 'early');
    if (mine.why === 'tlsa-expired' && between) return true;
    if (bare && has('sha1', 'md5', 'no-ca', 'version-1', 'two-basic-constraints')) return true;
    if (plan.naming === 'wildcard-cn') return has('excludes-example', 'permits-other');
    return plan.naming === 'wildcard' && has('excludes-example');
  }
  if (mine.kind === 'pass' && theirs.kind === 'fail') return has('any-purpose') || (bare && has('foreign-signature'));
  return false;
}

interface Difference {
  readonly plan: ChainPlan;
  readonly set: SetPlan;
  readonly mine: Opinion;
  readonly theirs: Opinion;
}

/** Judges one chain with its sets both ways. */
async function compare(plan: ChainPlan, sets: readonly SetPlan[]): Promise<Comparison> {
  const chain = buildChain(plan);
  return withServer(chain.sent, async (ask) => {
    const differences: Difference[] = [];
    let passed = 0;
    for (const set of sets) {
      const records = recordsOf(set, chain);
      const mine = ours(chain.sent, records, set.name, set.at);
      const theirs = await ask(records, set.name, set.at);
      if (theirs.kind === 'pass') passed++;
      if (!isSame(mine, theirs) && !isIntended(plan, set, mine, theirs)) differences.push({ plan, set, mine, theirs });
    }
    return { differences, verdicts: sets.length, passed };
  });
}

/** For a key that is only in DNS OpenSSL names the depth of the last certificate, and interface.md the one above. */
function isSame(mine: Opinion, theirs: Opinion): boolean {
  if (mine.kind !== theirs.kind) return false;
  if (mine.kind !== 'pass' || theirs.kind !== 'pass') return true;
  return mine.usage === theirs.usage && [theirs.depth, theirs.depth + 1].includes(mine.depth);
}

export interface Comparison {
  readonly differences: readonly Difference[];
  /** Verdicts compared, and how many of them were that the server is authenticated. */
  readonly verdicts: number;
  readonly passed: number;
}

/** Compares random chains, four at a time. */
export async function compareRandom(chains: number, seed: number): Promise<Comparison> {
  const cases = fc.sample(
    fc.tuple(chainPlan, fc.array(setPlan, { minLength: SETS_A_CHAIN, maxLength: SETS_A_CHAIN })),
    {
      seed,
      numRuns: chains,
    },
  );
  return together(cases);
}

/**
 * The matrix of Postfix's tls_dane.sh: every form of key identifier at two CAs, every selector and matching type,
 * every certificate as the target, good and wrong names, with and without the root.
 */
export async function compareMatrix(): Promise<Comparison> {
  const forms = ['none', 'keyid', 'issuer', 'both'] as const;
  const good = { kind: 'p256', pss: false, fault: 'none' } as const;
  const sets: SetPlan[] = [];
  for (const [usage, targets] of [
    ['3', [0, 1]],
    ['2', [0, 1, 2]],
  ] as const) {
    for (const target of targets) {
      for (const pair of ['0 0', '0 1', '0 2', '1 0', '1 1', '1 2']) {
        sets.push({ records: [{ target, numbers: `${usage} ${pair}`, wrong: false }], name: 'mx.example.nl', at: NOW });
      }
    }
  }
  sets.push(...sets.filter(({ records }) => records[0]?.target === 2).map((set) => ({ ...set, name: 'foo.nl' })));
  const cases: [ChainPlan, readonly SetPlan[]][] = [];
  for (const leafForm of forms) {
    for (const caForm of forms) {
      for (const subjectKey of [true, false]) {
        for (const shuffle of ['none', 'no-root'] as const) {
          const levels = [
            { ...good, authorityKey: leafForm, subjectKey: true },
            { ...good, authorityKey: caForm, subjectKey },
            { ...good, authorityKey: 'none' as const, subjectKey },
          ];
          cases.push([{ levels, naming: 'san', shuffle, selfSignedLeaf: false }, sets]);
        }
      }
    }
  }
  return together(cases);
}

async function together(cases: readonly (readonly [ChainPlan, readonly SetPlan[]])[]): Promise<Comparison> {
  const all: Comparison[] = [];
  const queue = cases.values();
  const worker = async (): Promise<void> => {
    for (const [plan, sets] of queue) all.push(await compare(plan, sets));
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
  return {
    differences: all.flatMap(({ differences }) => differences),
    verdicts: all.reduce((sum, { verdicts }) => sum + verdicts, 0),
    passed: all.reduce((sum, { passed }) => sum + passed, 0),
  };
}

if (import.meta.main) {
  const chains = Number(argv[2] ?? 300);
  const seed = Number(argv[3] ?? Date.now() % 1_000_000_000);
  for (const [what, comparison] of [
    [`random, seed ${seed}`, await compareRandom(chains, seed)],
    ['matrix', await compareMatrix()],
  ] as const) {
    const { differences, verdicts, passed } = comparison;
    for (const difference of differences) console.log(JSON.stringify(difference, null, 1));
    console.log(
      `${what}: ${verdicts} verdicts compared, ${passed} authenticated, ${differences.length} unexpected differences`,
    );
    if (differences.length > 0) process.exitCode = 1;
  }
}
