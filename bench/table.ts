/** What people read: a line for each run, and the tables of docs/performance.md. */
import { CANDIDATES, type CandidateName, type Case } from './cases.ts';
import type { Verdict } from './judge.ts';
import { median, type RunResult, resultsOf } from './result.ts';

const NAMES: Readonly<Record<CandidateName, string>> = {
  relay: 'dane-relay',
  postfix: 'Postfix default',
  'postfix-tuned': 'Postfix tuned',
  exim: 'Exim',
};
/** Above these shares of the processors' time the figures say more of the neighbours than of the candidates. */
const MUCH_STEAL = 0.1;
const MUCH_OTHERS = 0.2;

/** One line while it runs. */
export function lineOf(result: RunResult): string {
  const { candidate, run, drain, accept, cpuMs, pssMb, p50Ms, p99Ms, steal, others, faults, connections } = result;
  const parts = [
    `${result.case} ${run}. ${NAMES[candidate].padEnd(15)}`,
    `${drain.toFixed(0).padStart(5)}/s`,
    `accept ${accept.toFixed(0)}/s`,
    `CPU ${cpuMs.toFixed(2)} ms`,
    `PSS ${pssMb.toFixed(0)} MB`,
    `p50 ${p50Ms.toFixed(0)} p99 ${p99Ms.toFixed(0)} ms`,
    `${connections} connections`,
    `steal ${percent(steal)}, others ${percent(others)}`,
  ];
  return `${parts.join('  ')}${faults.length > 0 ? `  FAULTS: ${faults.join(', ')}` : ''}`;
}

/** Goals and figures as Markdown. */
export function report(
  results: readonly RunResult[],
  verdicts: readonly Verdict[],
  cases: readonly Case[],
  about: { readonly machine: string; readonly date: string; readonly runs: number; readonly quick: boolean },
): string {
  const { machine, date, runs, quick } = about;
  const steal = Math.max(0, ...results.map((each) => each.steal));
  const others = Math.max(0, ...results.map((each) => each.others));
  const warnings = [
    ...(steal > MUCH_STEAL ? [`the machine below took up to ${percent(steal)}`] : []),
    ...(others > MUCH_OTHERS ? [`other programs took up to ${percent(others)}`] : []),
  ];
  return [
    `${date}, ${machine}. Medians of ${runs} interleaved ${runs === 1 ? 'run' : 'runs'}${quick ? ' with a tenth of the messages' : ''}; steal at most ${percent(steal)}.`,
    '',
    ...(warnings.length > 0
      ? [
          `**NOT A QUIET MACHINE: of the processors' time ${warnings.join(' and ')}. Rates are worth little, ratios not much.**`,
          '',
        ]
      : []),
    '| case | goal | wanted | measured | holds |',
    '|---|---|---|---|---|',
    ...verdicts.map(goalRow),
    '',
    '| case | who | drain, msg/s | accept, msg/s | relay / it | CPU ms/msg | PSS MB | p50 / p99 ms | flushes/msg |',
    '|---|---|---|---|---|---|---|---|---|',
    ...cases.flatMap((it) => CANDIDATES.flatMap((name) => figuresRow(results, it, name))),
    '',
    ...cases
      .map(({ name, tells }) => `${name}: ${tells}.`)
      .join(' ')
      .split('\n'),
    '',
  ].join('\n');
}

function goalRow({ case: name, goal, measured, wanted, atLeast, holds }: Verdict): string {
  const figure = measured === null ? 'nothing' : measured.toFixed(Number.isInteger(measured) ? 0 : 2);
  return `| ${name} | ${goal} | ${atLeast ? '≥' : '≤'} ${wanted} | ${figure} | ${holds ? 'yes' : '**no**'} |`;
}

function figuresRow(results: readonly RunResult[], { name }: Case, candidate: CandidateName): string[] {
  const runs = resultsOf(results, name, candidate);
  if (runs.length === 0) return [];
  const middle = (pick: (result: RunResult) => number): number => median(runs.map(pick));
  const own = median(resultsOf(results, name, 'relay').map(({ drain }) => drain));
  const flushes = runs.flatMap((each) => each.flushes ?? []);
  const cells = [
    name,
    NAMES[candidate],
    spread(runs.map(({ drain }) => drain)),
    spread(runs.map(({ accept }) => accept)),
    candidate === 'relay' || Number.isNaN(own) ? '' : `${(own / middle(({ drain }) => drain)).toFixed(2)}×`,
    middle(({ cpuMs }) => cpuMs).toFixed(2),
    middle(({ pssMb }) => pssMb).toFixed(0),
    `${middle(({ p50Ms }) => p50Ms).toFixed(0)} / ${middle(({ p99Ms }) => p99Ms).toFixed(0)}`,
    flushes.length === 0 ? '' : median(flushes).toFixed(2),
  ];
  return [`| ${cells.join(' | ')} |`];
}

/** `median (least–most)`. */
function spread(values: readonly number[]): string {
  const figure = median(values).toFixed(0);
  return values.length === 1
    ? figure
    : `${figure} (${Math.min(...values).toFixed(0)}–${Math.max(...values).toFixed(0)})`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}

const BEGIN = '<!-- written by npm run bench -- --write -->';
const END = '<!-- end of what was written -->';

/** The page with the report between its two marks. Throws a sentence when it has no such marks. */
export function pageWith(page: string, text: string): string {
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`the page has no lines "${BEGIN}" and "${END}"`);
  return `${page.slice(0, begin + BEGIN.length)}\n\n${text}\n${page.slice(end)}`;
}
