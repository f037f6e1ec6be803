/**
 * The whole relay, killed at every named step of a message's life, many times over: see ../crashes/lives.ts.
 *
 * TORTURE_SEED takes the chances of an earlier run again, as far as the machine lets them; TORTURE_ROUNDS makes it shorter.
 */
import { expect, test } from 'vitest';
import { type Death, type Reckoning, startLives, THREAD_STEPS } from '../crashes/lives.ts';
import { STEPS } from '../support/crash-steps.ts';
import { seeded } from '../support/seeded.ts';

const ROUNDS = Number(process.env['TORTURE_ROUNDS'] ?? 9);
/** Labs beside each other. */
const LANES = 2;
/** Lives of one state folder, until all of it is reckoned up. */
const LIVES = 20;

/** Each step once a round, every other time with a power cut; and each at which the storage thread can die alone. */
function allDeaths(): readonly Death[] {
  const rounds = Array.from({ length: ROUNDS }, (_, round) =>
    STEPS.map((step): Death => ({ step, as: round % 2 === 0 ? 'killed' : 'power cut' })),
  );
  return [...rounds.flat(), ...THREAD_STEPS.map((step): Death => ({ step, as: 'thread' }))];
}

function shuffled<Item>(items: readonly Item[], chance: () => number): readonly Item[] {
  return items
    .map((item) => ({ item, at: chance() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

test.each([1, 2])(
  'TXN-08 killed at every step in every round, a relay with %i at work keeps every 250',
  async (workers) => {
    const seed = Number(process.env['TORTURE_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
    console.info(`TORTURE_SEED=${String(seed)}`);
    const deaths = shuffled(allDeaths(), seeded(seed));
    expect(deaths.length).toBe(ROUNDS * STEPS.length + THREAD_STEPS.length);
    const chapters = Array.from({ length: Math.ceil(deaths.length / LIVES) }, (_, index) =>
      deaths.slice(index * LIVES, (index + 1) * LIVES),
    );
    const began = Date.now();
    const reckonings: Reckoning[] = [];
    const lane = async (): Promise<void> => {
      for (let chapter = chapters.shift(); chapter; chapter = chapters.shift()) {
        const lives = await startLives(seeded(seed + chapters.length), workers);
        try {
          for (const death of chapter) await lives.live(death);
          reckonings.push(await lives.reckon());
        } finally {
          await lives.end();
        }
        console.info(`${String(chapters.length)} chapters to go, ${String(Math.round((Date.now() - began) / 1000))} s`);
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    console.info(summary(reckonings));
    expect(reckonings.flatMap(({ wrongs }) => wrongs)).toEqual([]);
  },
  3_600_000,
);

/** What was done and what came of it, for people. */
function summary(reckonings: readonly Reckoning[]): string {
  const deaths = reckonings.flatMap((each) => each.deaths);
  const sum = (of: (each: Reckoning) => number): string => String(reckonings.reduce((all, each) => all + of(each), 0));
  const rows = STEPS.map((step) => {
    const count = (as: Death['as']): string =>
      String(deaths.filter((death) => death.step === step && death.as === as).length).padStart(3);
    const doubled = sum((each) => each.doubled[step] ?? 0).padStart(3);
    return `${step.padEnd(42)} killed${count('killed')}  power cut${count('power cut')}  thread${count('thread')}  twice${doubled}`;
  });
  return [
    `${String(deaths.length)} deaths, ${sum((each) => each.powerLosses)} of them took away what was not flushed;`,
    `${sum((each) => each.outlived)} were those of one worker, and the relay went on by itself;`,
    `${sum((each) => each.promised)} letters promised, ${sum((each) => each.unheard)} more arrived unheard;`,
    `${sum((each) => Object.values(each.doubled).reduce((all, one) => all + one, 0))} arrived once more:`,
    ...rows,
  ].join('\n');
}
