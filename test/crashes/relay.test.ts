/**
 * A 250 is kept, whenever the relay dies. The whole relay runs as a child in a small lab, takes mail from several
 * clients at once, and is killed at named steps of a message's life, sometimes with all that was not flushed to disk
 * taken away. `npm run test:torture` does this at every step, many times over.
 */
import { expect, test } from 'vitest';
import { seeded } from '../support/seeded.ts';
import { type Death, startLives } from './lives.ts';

/** Those between which something changes hands, in the process, on the disk and on the line. */
const LANES: readonly (readonly Death[])[] = [
  [
    { step: 'accept: before commit', as: 'power cut' },
    { step: 'host: message kept', as: 'killed' },
    { step: 'spool: part written', as: 'killed' },
    { step: 'claim: after commit', as: 'power cut' },
    { step: 'settle: before commit', as: 'power cut' },
    { step: 'client: 250 read', as: 'power cut' },
    { step: 'bounce: before commit', as: 'killed' },
    { step: 'accept: after commit', as: 'thread' },
    { step: 'settle: body file removed', as: 'power cut' },
    { step: 'host: DATA came', as: 'killed' },
    { step: 'claim: after commit', as: 'thread' },
  ],
  [
    { step: 'accept: body file moved', as: 'power cut' },
    { step: 'reply: before 250 is sent', as: 'power cut' },
    { step: 'settle: after commit', as: 'power cut' },
    { step: 'host: final dot came', as: 'killed' },
    { step: 'start: before leases are taken back', as: 'power cut' },
    { step: 'deferral: after commit', as: 'power cut' },
    { step: 'drain', as: 'killed' },
    { step: 'spool: after fsync', as: 'power cut' },
    { step: 'settle: before the body file is removed', as: 'killed' },
    { step: 'settle: before commit', as: 'thread' },
    { step: 'bounce: after commit', as: 'power cut' },
  ],
];

test('TXN-08 killed at twenty-two steps under load, the relay delivers all that it said 250 to, whole, and nothing else', async () => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  const reckonings = await Promise.all(
    LANES.map(async (deaths, lane) => {
      const lives = await startLives(seeded(seed + lane));
      try {
        for (const death of deaths) await lives.live(death);
        return await lives.reckon();
      } finally {
        await lives.end();
      }
    }),
  );
  for (const { wrongs, promised, doubled, unheard } of reckonings) {
    expect(wrongs, `seed ${String(seed)}`).toEqual([]);
    // A slow machine gets fewer through; lives that outlast their storage thread take some in any case.
    expect(promised).toBeGreaterThan(10);
    console.info(`${String(promised)} letters promised, ${String(unheard)} more arrived unheard, twice:`, doubled);
  }
}, 900_000);

/** Of two workers one dies at each that is seen from within, with or without the other; at the others it is left to chance. */
const OF_TWO: readonly Death[] = [
  { step: 'accept: after commit', as: 'killed' },
  { step: 'claim: after commit', as: 'power cut' },
  { step: 'host: message kept', as: 'killed' },
  { step: 'settle: before commit', as: 'power cut' },
  { step: 'spool: part written', as: 'killed' },
  { step: 'accept: before commit', as: 'thread' },
  { step: 'bounce: before commit', as: 'killed' },
  { step: 'client: 250 read', as: 'power cut' },
  { step: 'drain', as: 'killed' },
];

test('TXN-08 one of two workers killed at nine steps under load: the relay goes on, or starts again, and keeps every 250', async () => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  const lives = await startLives(seeded(seed), 2);
  try {
    for (const death of OF_TWO) await lives.live(death);
    const { wrongs, promised, doubled, unheard, outlived } = await lives.reckon();
    expect(wrongs, `seed ${String(seed)}`).toEqual([]);
    expect(promised).toBeGreaterThan(10);
    console.info(`${promised} letters promised, ${unheard} more unheard, ${outlived} deaths outlived, twice:`, doubled);
  } finally {
    await lives.end();
  }
}, 900_000);
