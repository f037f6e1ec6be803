/** The bounded version of test/torture/pile.torture.ts. */
import { expect, test } from 'vitest';
import { missingTools } from '../../lab/lab.ts';
import { pileUp } from '../support/pile.ts';

const missing = missingTools();
const excuse = missing.length === 0 ? '' : ` (skipped: missing ${missing.join('; ')})`;

test.skipIf(excuse)(
  `a thousand waiting messages and a 40 MB message, in and out, within 300 MB of memory${excuse}`,
  async () => {
    const figures = await pileUp({ messages: 1_000, longOctets: 40_000_000 });
    expect(figures.queued).toBe(1_000);
    expect(figures.delivered).toBeGreaterThanOrEqual(40_000_000);
    expect(figures.memory.most).toBeLessThan(300);
  },
);
