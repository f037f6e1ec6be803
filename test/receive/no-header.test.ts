/** Content whose first line cannot be that of a header has none, and nothing in it is read as one. */
import { expect, test } from 'vitest';
import { Intake } from '../../src/receive/intake.ts';

test('REQ-06 LOOP-01 behind a first line that begins with white space nothing is a header field', () => {
  const intake = new Intake({
    messageBytes: 10_000,
    lineBytes: 1_000,
    hops: 1,
    bareNewlines: 'normalize',
    longLines: 'pass',
  });
  const text = ' x\r\nTLS-Required: No\r\nReceived: a\r\nReceived: b\r\n\r\ny\r\n';
  expect(`${intake.push(Buffer.from(text))}${intake.finish()}`).toBe(`\r\n${text}`);
  expect(intake.refusal).toBe(null);
  expect(intake.tlsOptional).toBe(false);
});
