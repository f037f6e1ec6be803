/**
 * Measures the relay beside Postfix and Exim: `npm run bench`. README.md says what and how.
 *
 * Exit status: 0 the goals hold, 1 one of them does not, 2 wrong usage, 3 something is missing or did not work.
 */
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { PROJECT } from '../lab/relay.ts';
import { messageOf } from '../src/shared/message-of.ts';
import { CANDIDATES, CASES, type CandidateName, type Case, casesNamed, quick } from './cases.ts';
import { gate } from './gate.ts';
import { inSurroundings } from './in-surroundings.ts';
import { judge } from './judge.ts';
import { machineInWords } from './machine.ts';
import { measure, startFresh } from './measure.ts';
import type { RunResult } from './result.ts';
import type { Surroundings } from './surroundings.ts';
import { lineOf, pageWith, report } from './table.ts';

const USAGE = `usage: npm run bench -- [options]
  --case A,B          cases (${CASES.map(({ name }) => name).join(', ')}); all by default
  --runs N            runs of every candidate in every case, 3 by default
  --candidates a,b    who is measured (${CANDIDATES.join(', ')}); all by default
  --quick             a tenth of the messages, for a look
  --write             puts the tables into docs/performance.md
  --results FILE      where every run goes as a line of JSON; below var/bench by default
  --folder DIR        where queues and logs are while it runs, on a disk; /var/tmp by default`;
const PAGE = join(PROJECT, 'docs', 'performance.md');

interface Options {
  readonly cases: readonly Case[];
  readonly runs: number;
  readonly candidates: readonly CandidateName[];
  readonly quick: boolean;
  readonly write: boolean;
  readonly results: string;
  readonly folder: string;
}

function optionsFrom(words: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...words],
    options: {
      case: { type: 'string' },
      runs: { type: 'string', default: '3' },
      candidates: { type: 'string', default: CANDIDATES.join(',') },
      quick: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      results: { type: 'string' },
      folder: { type: 'string', default: '/var/tmp' },
    },
  });
  const runs = Number(values.runs);
  if (!Number.isInteger(runs) || runs < 1 || runs > 20) throw new Error('--runs wants a number from 1 to 20');
  const wanted = values.candidates.split(',');
  const stranger = wanted.find((name) => !CANDIDATES.some((each) => each === name));
  if (stranger !== undefined) throw new Error(`there is no candidate ${stranger}; there are ${CANDIDATES.join(', ')}`);
  const cases = casesNamed(values.case?.split(',') ?? CASES.map(({ name }) => name));
  const day = new Date().toISOString().slice(0, 19).replaceAll(':', '');
  return {
    cases: values.quick ? cases.map(quick) : cases,
    runs,
    candidates: CANDIDATES.filter((name) => wanted.includes(name)),
    quick: values.quick,
    write: values.write,
    results: values.results ?? join(PROJECT, 'var', 'bench', `${day}.jsonl`),
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
  return inSurroundings({ folder: options.folder, peers: true }, (surroundings, signal) =>
    run(options, surroundings, signal),
  );
}

async function run(options: Options, surroundings: Surroundings, signal: AbortSignal): Promise<number> {
  const { cases, candidates } = options;
  if (!(await passTheGate(candidates, surroundings, signal))) return 1;

  mkdirSync(join(options.results, '..'), { recursive: true });
  const results: RunResult[] = [];
  for (const it of cases) {
    const taking = it.candidates.filter((name) => candidates.includes(name));
    for (let run = 1; run <= options.runs; run++) {
      // Whoever is first in one run is last in the next: nobody always gets the quiet moment.
      for (const [at] of taking.entries()) {
        const name = taking[(at + run - 1) % taking.length];
        if (name === undefined) continue;
        const result = await measure(it, name, run, surroundings, signal);
        results.push(result);
        appendFileSync(options.results, `${JSON.stringify(result)}\n`);
        console.error(lineOf(result));
      }
    }
  }
  const verdicts = judge(
    results,
    cases.map(({ name }) => name),
  );
  const text = report(results, verdicts, cases, {
    machine: machineInWords(),
    date: new Date().toISOString().slice(0, 10),
    runs: options.runs,
    quick: options.quick,
  });
  console.log(text);
  console.error(`every run: ${options.results}`);
  if (options.write) writeFileSync(PAGE, pageWith(readFileSync(PAGE, 'utf8'), text));
  return verdicts.every(({ holds }) => holds) ? 0 : 1;
}

/** Whether the relay and Postfix treat every destination as they must. */
async function passTheGate(
  candidates: readonly CandidateName[],
  surroundings: Surroundings,
  signal: AbortSignal,
): Promise<boolean> {
  let passed = true;
  for (const name of candidates) {
    const { candidate, stop } = await startFresh(name, {}, surroundings);
    try {
      const wrong = await gate(candidate, surroundings, signal);
      console.error(`gate ${name}: ${wrong.length === 0 ? 'passed' : wrong.join('; ')}`);
      if (wrong.length > 0) passed = false;
    } finally {
      await stop();
    }
  }
  return passed;
}

process.exitCode = await main();
