/** The goals are judged from results alone, so made-up results show what is judged. */
import { describe, expect, test } from 'vitest';
import type { CandidateName } from '../../bench/cases.ts';
import { CASES, casesNamed } from '../../bench/cases.ts';
import { judge } from '../../bench/judge.ts';
import { median, type RunResult } from '../../bench/result.ts';
import { pageWith, report } from '../../bench/table.ts';

function result(candidate: CandidateName, changes: Partial<RunResult> = {}): RunResult {
  return {
    case: 'A',
    candidate,
    run: 1,
    when: '2026-11-22T00:00:00.000Z',
    messages: 5000,
    drain: 400,
    accept: 800,
    cpuMs: 1,
    pssMb: 100,
    processes: 1,
    p50Ms: 10,
    p99Ms: 20,
    acceptP50Ms: 1,
    acceptP99Ms: 2,
    flushes: 1,
    connections: 20,
    loadCpuMs: 0.2,
    sinkCpuMs: 0.1,
    steal: 0,
    others: 0,
    faults: [],
    ...changes,
  };
}

const failed = (results: readonly RunResult[], ...cases: string[]): string[] =>
  judge(results, cases)
    .filter(({ holds }) => !holds)
    .map(({ case: name, goal }) => `${name}: ${goal}`);

const postfixes = [result('postfix'), result('postfix-tuned', { drain: 700 })];

test('five times the default and more than 1.2 times the tuned one is enough in case A', () => {
  expect(failed([...postfixes, result('relay', { drain: 2000, accept: 2100 })], 'A')).toEqual([]);
});

test.each<[string, Partial<RunResult>, string[]]>([
  ['a little less', { drain: 1999, accept: 2100 }, ['A: drain against Postfix default']],
  [
    'less than the tuned one',
    { drain: 800, accept: 900 },
    ['A: drain against Postfix default', 'A: drain against Postfix tuned'],
  ],
  ['slow acceptance', { drain: 2000, accept: 1900 }, ['A: acceptance against drain']],
  ['too much memory', { drain: 2000, accept: 2100, pssMb: 221 }, ['A: PSS, MB']],
  ['one lost message', { drain: 2000, accept: 2100, faults: ['1 not arrived'] }, ['A: runs of the relay with a fault']],
])('%s is not enough', (_, changes, goals) => {
  expect(failed([...postfixes, result('relay', changes)], 'A')).toEqual(goals);
});

test('medians are compared, not single runs', () => {
  const drains = [2000, 100, 9000];
  const runs = drains.map((drain, at) => result('relay', { drain, accept: 9000, run: at + 1 }));
  expect(failed([...postfixes, ...runs], 'A')).toEqual([]);
});

test('what was not measured does not hold', () => {
  expect(failed([], 'A', 'L')).toEqual([
    'A: runs of the relay with a fault',
    'A: drain against Postfix default',
    'A: acceptance against drain',
    'A: PSS, MB',
    'L: runs of the relay with a fault',
    'L: p50 to the last octet, ms',
  ]);
});

test('every case has a goal beyond being faultless', () => {
  for (const { name } of CASES) expect(judge([], [name]).length, name).toBeGreaterThan(1);
});

test('the median of nothing is no number, of two their mean', () => {
  expect([median([]), median([3]), median([1, 4]), median([9, 1, 2])]).toEqual([Number.NaN, 3, 2.5, 2]);
});

test('an unknown case is told with those that there are', () => {
  expect(() => casesNamed(['A', 'Z'])).toThrow(/no case Z; there are A, A1, B/);
});

describe('the report', () => {
  const about = { machine: 'a machine', date: '2026-11-22', runs: 1, quick: false };
  const text = (changes: Partial<RunResult>): string => {
    const results = [...postfixes, result('relay', { drain: 2000, accept: 2100, ...changes })];
    return report(results, judge(results, ['A']), casesNamed(['A']), about);
  };

  test('has a row for every goal and for every candidate, with the ratio', () => {
    expect(text({})).toContain('| A | drain against Postfix default | ≥ 5 | 5 | yes |');
    expect(text({})).toContain('| A | Postfix default | 400 | 800 | 5.00× | 1.00 | 100 | 10 / 20 | 1.00 |');
    expect(text({})).not.toContain('NOT A QUIET MACHINE');
  });

  test('says loudly when others had the processors', () => {
    expect(text({ steal: 0.11 })).toContain(
      "NOT A QUIET MACHINE: of the processors' time the machine below took up to 11 %",
    );
    expect(text({ others: 0.5 })).toContain('other programs took up to 50 %');
  });

  test('goes between its marks on the page, again and again', () => {
    const page = 'before\n<!-- written by npm run bench -- --write -->\nold\n<!-- end of what was written -->\nafter\n';
    const once = pageWith(page, 'new');
    expect(once).toBe(page.replace('\nold\n', '\n\nnew\n'));
    expect(pageWith(once, 'new')).toBe(once);
    expect(() => pageWith('no marks', 'new')).toThrow('the page has no lines');
  });
});
