/** A short run over all that reads octets of strangers; the long one is torture/fuzz.torture.ts. The seed is printed. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TARGETS } from './targets.ts';

const seed = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2 ** 31);
console.info(`FUZZ_SEED=${seed}`);

test.each(TARGETS)('nothing throws and no cut matters: $name', async ({ name, property }) => {
  const numRuns = name === 'configuration' ? 100 : 500;
  const { failed, errorInstance, counterexample } = await fc.check(property, { seed, numRuns });
  expect(failed ? { seed, errorInstance, counterexample } : null).toBeNull();
});
