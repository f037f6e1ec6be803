/** Words that nobody has thought of, at the socket by which commands speak to the relay. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { askRelay, openControl } from '../../src/assembly/control.ts';

test.each(['nothing', 'constructor', 'toString', '__proto__'])(
  'the word "%s" gets an answer, and the relay goes on',
  async (word) => {
    const folder = mkdtempSync(join(tmpdir(), 'dane-control-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const control = await openControl(folder, { known: async () => 'yes' });
    expect(await askRelay(folder, word)).toEqual({ error: 'there is no such question' });
    expect(await askRelay(folder, 'known')).toBe('yes');
    await control.close();
  },
);
