/** The long run over all that reads octets of strangers: FUZZ_SECONDS for each (60), from FUZZ_SEED on. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TARGETS } from '../fuzz/targets.ts';

const seconds = Number(process.env['FUZZ_SECONDS'] ?? 60);
const first = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2 ** 31);
console.info(`FUZZ_SEED=${first}`);

test.each(TARGETS)(`${seconds} s: $name`, { timeout: seconds * 1_000 + 600_000 }, async ({ name, property }) => {
  const end = Date.now() + seconds * 1_000;
  let runs = 0;
  for (let seed = first; Date.now() < end; seed++) {
    const { failed, errorInstance, counterexample, numRuns } = await fc.check(property, { seed, numRuns: 500 });
    expect(failed ? { seed, errorInstance, counterexample } : null).toBeNull();
    runs += numRuns;
  }
  console.info(`${name}: ${runs} runs`);
});
