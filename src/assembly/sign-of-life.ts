/**
 * Whether another process still does anything: it is asked from time to time, and is given up when it has left many
 * questions in a row unanswered. What is counted are questions that had their time, not hours: a machine that sleeps,
 * or a process that is not let run itself, adds one at most, however long that lasts.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { Clock } from '../shared/clock.ts';

/** How long somebody may be silent. */
export interface Patience {
  /** From one question to the next, in milliseconds. */
  readonly everyMs: number;
  /** So many without an answer are too many. */
  readonly questions: number;
}

/** Two minutes: a busy process, a slow disk and a machine that gives hardly any time are all back before that. */
export const PATIENCE: Patience = { everyMs: 15_000, questions: 8 };

/**
 * Resolves to true when nobody answers any more, and to false once `over` is aborted. Never rejects.
 *
 * @param ask any answer is a sign of life, also one that comes late or refuses
 */
export async function untilSilent(
  ask: () => Promise<unknown>,
  { everyMs, questions }: Patience,
  clock: Pick<Clock, 'sleep'>,
  over: AbortSignal,
): Promise<boolean> {
  let unanswered = 0;
  const heard = (): void => {
    unanswered = 0;
  };
  while (unanswered < questions) {
    unanswered++;
    void ask().then(heard, heard);
    await clock.sleep(everyMs, over);
    // What lies in the pipe is read first: after a sleep of our own it is there, and the time is over as well.
    await turn();
    if (over.aborted) return false;
  }
  return true;
}
