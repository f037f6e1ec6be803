const FIRST_MS = 1_000;
const LONGEST_MS = 30_000;

/** Milliseconds to wait after the storage failed so many times in a row: 1, 2, 4 … 30 seconds. */
export function pauseAfter(failures: number): number {
  return Math.min(FIRST_MS * 2 ** Math.min(failures - 1, 10), LONGEST_MS);
}
