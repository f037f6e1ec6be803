/** Who is given up for being silent, and who is not, with a clock that is moved by hand. */
import { expect, test } from 'vitest';
import { untilSilent } from '../../src/assembly/sign-of-life.ts';

const PATIENCE = { everyMs: 1_000, questions: 3 };

/** @param answers when each question is answered, in seconds after the start; null for never */
async function ending(answers: readonly (number | null | 'refused')[], rounds = 12): Promise<number | null> {
  let second = 0;
  let asked = 0;
  const due = new Map<number, () => void>();
  const over = new AbortController();
  const silent = await untilSilent(
    () => {
      const when = answers[asked++ % answers.length] ?? null;
      if (when === 'refused') return Promise.reject(new Error('no'));
      return new Promise<void>((resolve) => {
        if (when !== null) due.set(when, resolve);
      });
    },
    PATIENCE,
    {
      sleep: async () => {
        second++;
        due.get(second)?.();
        if (second === rounds) over.abort();
      },
    },
    over.signal,
  );
  expect(silent).toBe(second < rounds);
  return silent ? second : null;
}

test('one that never answers is given up after so many questions, and not before', async () => {
  expect(await ending([null])).toBe(3);
});

test('any answer is a sign of life: one that comes at last, and one that refuses', async () => {
  expect(await ending(['refused'])).toBe(null);
  expect(await ending([2, null, null, null, null, null])).toBe(5);
  expect(await ending([null, 2, 5, null, null, 8])).toBe(11);
});

test('one question that was not answered in time, for whatever reason, is one question', async () => {
  expect(await ending([null, null, 'refused'])).toBe(null);
});
