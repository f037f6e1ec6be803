/** Fifty thousand messages for a dead host, and a very long one: what that costs the relay, and others. */
import { expect, test } from 'vitest';
import { pileUp } from '../support/pile.ts';

test('50,000 waiting messages and a 100 MB message within 300 MB; fresh mail for others goes at once', async () => {
  const figures = await pileUp({ messages: 50_000, longOctets: 100_000_000 });
  console.log(JSON.stringify(figures, null, 2));
  expect(figures.queued).toBe(50_000);
  expect(figures.delivered).toBeGreaterThanOrEqual(100_000_000);
  expect(figures.memory.most).toBeLessThan(300);
  // Minutes would mean that it stood in line; the machine may be slow.
});
