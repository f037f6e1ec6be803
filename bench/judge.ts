/** Whether the goals hold, from the results alone. Ratios are of medians within one run of the harness. */
import type { CandidateName } from './cases.ts';
import { median, type RunResult, resultsOf } from './result.ts';

export interface Verdict {
  readonly case: string;
  readonly goal: string;
  /** Null when there is nothing to judge by. */
  readonly measured: number | null;
  readonly wanted: number;
  /** Whether more is better. */
  readonly atLeast: boolean;
  readonly holds: boolean;
}

/** Drain rate of the relay as a multiple of Postfix as Debian installs it, at least. */
const AGAINST_DEFAULT: Readonly<Record<string, number>> = {
  A: 5,
  A1: 2.5,
  B: 3.5,
  C: 1.8,
  D: 3,
  A20: 3.5,
  B20: 3,
  AN: 1.8,
};
/** The same against Postfix tuned, wherever that was measured. */
const AGAINST_TUNED = 1.2;
/** Acceptance may not be slower than drain. They are told by two clocks' readings, hence not exactly. */
const ACCEPT_TO_DRAIN = 0.98;
/** Highest median, in milliseconds and MB. */
const CEILINGS: readonly { readonly case: string; readonly what: 'p50Ms' | 'pssMb'; readonly most: number }[] = [
  { case: 'L', what: 'p50Ms', most: 20 },
  { case: 'M1', what: 'pssMb', most: 128 },
  { case: 'A', what: 'pssMb', most: 220 },
  { case: 'M100', what: 'pssMb', most: 300 },
];
const CEILING_NAMES = { p50Ms: 'p50 to the last octet, ms', pssMb: 'PSS, MB' } as const;

/** One verdict for each goal of the cases that were run; what was run and has no result does not hold. */
export function judge(results: readonly RunResult[], cases: readonly string[]): readonly Verdict[] {
  return cases.flatMap((name) => [...faultless(results, name), ...ratios(results, name), ...ceilings(results, name)]);
}

function faultless(results: readonly RunResult[], name: string): Verdict[] {
  const runs = resultsOf(results, name, 'relay');
  const faulty = runs.filter(({ faults }) => faults.length > 0).length;
  const measured = runs.length === 0 ? null : faulty;
  return [verdict({ case: name, goal: 'runs of the relay with a fault', measured, wanted: 0, atLeast: false })];
}

function ratios(results: readonly RunResult[], name: string): Verdict[] {
  const drain = medianOf(results, name, 'relay', 'drain');
  const against = (other: CandidateName, goal: string, wanted: number): Verdict =>
    verdict({
      case: name,
      goal,
      measured: ratio(drain, medianOf(results, name, other, 'drain')),
      wanted,
      atLeast: true,
    });
  const verdicts: Verdict[] = [];
  const wanted = AGAINST_DEFAULT[name];
  if (wanted === undefined) return verdicts;
  verdicts.push(against('postfix', 'drain against Postfix default', wanted));
  if (resultsOf(results, name, 'postfix-tuned').length > 0) {
    verdicts.push(against('postfix-tuned', 'drain against Postfix tuned', AGAINST_TUNED));
  }
  const accept = ratio(medianOf(results, name, 'relay', 'accept'), drain);
  verdicts.push(
    verdict({
      case: name,
      goal: 'acceptance against drain',
      measured: accept,
      wanted: ACCEPT_TO_DRAIN,
      atLeast: true,
    }),
  );
  return verdicts;
}

function ceilings(results: readonly RunResult[], name: string): Verdict[] {
  return CEILINGS.filter((each) => each.case === name).map(({ what, most }) =>
    verdict({
      case: name,
      goal: CEILING_NAMES[what],
      measured: medianOf(results, name, 'relay', what),
      wanted: most,
      atLeast: false,
    }),
  );
}

function verdict(facts: Omit<Verdict, 'holds'>): Verdict {
  const { measured, wanted, atLeast } = facts;
  return { ...facts, holds: measured !== null && (atLeast ? measured >= wanted : measured <= wanted) };
}

function medianOf(
  results: readonly RunResult[],
  name: string,
  candidate: CandidateName,
  what: 'drain' | 'accept' | 'p50Ms' | 'pssMb',
): number | null {
  const value = median(resultsOf(results, name, candidate).map((each) => each[what]));
  return Number.isNaN(value) ? null : value;
}

function ratio(one: number | null, other: number | null): number | null {
  return one === null || other === null || other === 0 ? null : one / other;
}
