import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ContentRules, Intake } from '../../src/receive/intake.ts';

const RULES: ContentRules = {
  messageBytes: 1_000_000,
  lineBytes: 65_536,
  hops: 100,
  bareNewlines: 'normalize',
  longLines: 'pass',
};

function run(pieces: readonly (string | Buffer)[], change: Partial<ContentRules> = {}) {
  const intake = new Intake({ ...RULES, ...change });
  const out = pieces.map((piece) => intake.push(Buffer.from(piece as string, 'latin1')));
  out.push(intake.finish());
  return { intake, octets: Buffer.concat(out), code: intake.refusal?.code ?? null };
}

/** Octets that newlines, headers and limits are made of, more often than others. */
const octets = fc
  .array(
    fc.constantFrom(
      '\r',
      '\n',
      '\r\n',
      '\r\n\r\n',
      'a',
      ' ',
      '\t',
      '.',
      'Received:',
      'TLS-Required:',
      'No',
      'x'.repeat(20),
      '\xe9',
    ),
    {
      maxLength: 40,
    },
  )
  .map((parts) => parts.join(''));

function cut(text: string, places: readonly number[]): string[] {
  const ends = [...new Set(places.map((place) => (text.length === 0 ? 0 : place % (text.length + 1))))].sort(
    (a, b) => a - b,
  );
  return [0, ...ends].map((from, i) => text.slice(from, ends[i] ?? text.length));
}

describe('content on its way in', () => {
  test('LOOP, SMUG-02 chunk boundaries change nothing, in any setting', () => {
    const setting = fc.record({
      bareNewlines: fc.constantFrom('normalize' as const, 'reject' as const),
      hops: fc.constantFrom(0, 1, 100),
      lineBytes: fc.constantFrom(25, 65_536),
      messageBytes: fc.constantFrom(50, 1_000_000),
    });
    fc.assert(
      fc.property(octets, fc.array(fc.nat(), { maxLength: 20 }), setting, (text, places, change) => {
        const whole = run([text], change);
        const parts = run(cut(text, places), change);
        const single = run([...text], change);
        for (const other of [parts, single]) {
          // Of two things that are wrong either may be met first.
          expect(other.code === null).toBe(whole.code === null);
          if (whole.code === null) {
            expect(other.octets).toEqual(whole.octets);
            expect(other.intake.utf8Header).toBe(whole.intake.utf8Header);
            expect(other.intake.eightBit).toBe(whole.intake.eightBit);
            expect(other.intake.tlsOptional).toBe(whole.intake.tlsOptional);
          }
        }
      }),
      { numRuns: 1000 },
    );
  });

  test.each([
    ['TLS-Required: No\r\n', true],
    ['tls-required:no\r\n', true],
    ['TLS-REQUIRED: \t NO  \r\n', true],
    ['TLS-Required:\r\n No\r\n', true],
    [`TLS-Required: No${' '.repeat(100)}\r\n`, true],
    [`TLS-Required: No${' '.repeat(100)}x\r\n`, false],
    ['TLS-Required: Yes\r\n', false],
    ['TLS-Required: No (really)\r\n', false],
    ['TLS-Required: No\r\n really\r\n', false],
    ['TLS-Required:\r\n', false],
    ['TLS-Required No\r\n', false],
    ['X-TLS-Required: No\r\n', false],
    ['Subject: x\r\n TLS-Required: No\r\n', false],
    ['TLS-Required: No\xa0\r\n', false],
    ['TLS-Required: No\r\nTLS-Required: No\r\n', false],
    ['TLS-Required: No\r\nTo: a\r\ntls-required: yes\r\n', false],
    ['TLS-Required : No\r\n', false],
    ['TLS-Required: No\r\nTLS-Required\t: yes\r\n', false],
  ])('REQ-06 the header field, once and exactly: %j', (field, says) => {
    for (const header of [field, `To: b\r\n${field}`, `${field}From: a\r\n b\r\n`]) {
      expect(run([`${header}\r\nTLS-Required: No\r\n`]).intake.tlsOptional).toBe(says);
      expect(run([...`${header}\r\nx`]).intake.tlsOptional).toBe(says);
    }
    expect(run([`A: b\r\n\r\n${field}`]).intake.tlsOptional).toBe(false);
  });

  test('SMUG-02 correct content comes out as it went in', () => {
    const lines = fc.array(fc.string({ unit: fc.constantFrom('a', '.', '\x01', '\x7f', '\xff', ' '), maxLength: 30 }), {
      minLength: 1,
    });
    fc.assert(
      fc.property(lines, fc.array(fc.nat(), { maxLength: 9 }), (all, places) => {
        const text = `A: b\r\n${all.join('\r\n')}\r\n`;
        expect(run(cut(text, places)).octets.toString('latin1')).toBe(text);
      }),
    );
  });

  test('SMUG-02 what comes out never has a bare CR or LF, and ends in CRLF', () => {
    fc.assert(
      fc.property(octets, (text) => {
        const out = run([text]).octets.toString('latin1');
        expect(out.replaceAll('\r\n', '')).not.toMatch(/[\r\n]/);
        expect(out === '' || out.endsWith('\r\n')).toBe(true);
      }),
    );
  });

  test('SMUG-04 every line is measured, wherever it is cut', () => {
    const lengths = fc.array(fc.constantFrom(0, 1, 24, 72, 996, 997, 998, 999, 1000, 1001, 1100, 3000), {
      maxLength: 20,
    });
    const limits = fc.constantFrom(25, 997, 998, 999, 1000, 65_536);
    fc.assert(
      fc.property(
        lengths,
        fc.array(fc.nat(), { maxLength: 9 }),
        limits,
        fc.boolean(),
        (all, places, lineBytes, isBody) => {
          const text = `${isBody ? 'A: b\r\n\r\n' : ''}${all.map((length) => `${'x'.repeat(length)}\r\n`).join('')}`;
          const { intake, code } = run(cut(text, places), { lineBytes });
          expect(code).toBe(all.some((length) => length > lineBytes) ? 'message-line-too-long' : null);
          if (code === null) expect(intake.longLines).toBe(all.filter((length) => length > 998).length);
        },
      ),
    );
  });

  test.each([
    ['a\nb\r\n', 'a\r\nb\r\n'],
    ['a\rb\r\n', 'a\r\nb\r\n'],
    ['a\r\r\n', 'a\r\n\r\n'],
    ['a\n\rb\r\n', 'a\r\n\r\nb\r\n'],
    ['\n.\n', '\r\n.\r\n'],
    ['', ''],
  ])('SMUG-02 %j becomes %j', (before, after) => {
    expect(run([before]).octets.toString()).toBe(after);
  });

  test('SMUG-05 a last line without CRLF gets one, not two', () => {
    expect(run(['a']).octets.toString()).toBe('a\r\n');
    expect(run(['a\r\n']).octets.toString()).toBe('a\r\n');
    expect(run(['a\r']).octets.toString()).toBe('a\r\n');
    expect(run(['a\r'], { bareNewlines: 'reject' }).code).toBe('message-has-bare-newline');
  });

  test.each([
    ['SMUG-02 a bare LF', 'a\nb\r\n', { bareNewlines: 'reject' }, 'message-has-bare-newline'],
    ['SMUG-02 a bare CR', 'a\rb\r\n', { bareNewlines: 'reject' }, 'message-has-bare-newline'],
    ['a NUL in the header', 'a\0: b\r\n\r\n', {}, 'message-has-nul'],
    ['a NUL in the body', 'a: b\r\n\r\n\0', {}, 'message-has-nul'],
    ['SMUG-04 a line above the limit', `${'x'.repeat(65_537)}\r\n`, {}, 'message-line-too-long'],
    ['SMUG-04 a line of 999 octets', `${'x'.repeat(999)}\r\n`, { longLines: 'reject' }, 'message-line-too-long'],
    ['a message above the limit', 'x\r\n'.repeat(4), { messageBytes: 11 }, 'message-too-big'],
    ['LOOP-01 one hop too many', 'Received: x\r\n'.repeat(101), {}, 'too-many-hops'],
  ] as const)('%s is refused', (_, text, change, code) => {
    expect(run([text], change).code).toBe(code);
    expect(run([...text], change).code).toBe(code);
  });

  test.each([
    ['SMUG-04 a line of 65,536 octets', `${'x'.repeat(65_536)}\r\n`, {}],
    ['SMUG-04 a line of 998 octets', `${'x'.repeat(998)}\r\n`, { longLines: 'reject' }],
    ['a message of just the limit', 'x\r\n'.repeat(4), { messageBytes: 12 }],
    ['LOOP-01 100 hops', 'rEcEiVeD : x\r\n'.repeat(100), {}],
    ['LOOP-01 Received in the body', `a: b\r\n\r\n${'Received: x\r\n'.repeat(200)}`, {}],
    [
      'LOOP-01 headers that are only called alike',
      'X-Received: x\r\nReceived-SPF: x\r\n Received: x\r\n'.repeat(100),
      {},
    ],
  ] as const)('%s passes', (_, text, change) => {
    const { code, octets: out } = run([text], change);
    expect(code).toBeNull();
    expect(out.toString()).toBe(text);
  });

  test('SMUG-04 long lines that pass are counted', () => {
    expect(run([`${'x'.repeat(999)}\r\n${'y'.repeat(998)}\r\n${'z'.repeat(5000)}`]).intake.longLines).toBe(2);
  });

  test('EXT-02 EXT-03 what the next host must be able to take is told', () => {
    const facts = (text: string): boolean[] => {
      const { intake } = run([text]);
      return [intake.eightBit, intake.utf8Header];
    };
    expect(facts('a: b\r\n\r\nc\r\n')).toEqual([false, false]);
    expect(facts('a: b\r\n\r\n\xe9\r\n')).toEqual([true, false]);
    expect(facts('a: \xe9\r\n\r\nc\r\n')).toEqual([true, true]);
    expect(facts('a: b\n\n\xe9\n')).toEqual([true, false]);
  });

  test('INJ-02 a first line that begins with a space does not become a part of our header', () => {
    expect(run([' for <x@y.test>\r\n']).octets.toString()).toBe('\r\n for <x@y.test>\r\n');
    expect(run(['\tx\r\n']).octets.toString()).toBe('\r\n\tx\r\n');
    expect(run(['x\r\n y\r\n']).octets.toString()).toBe('x\r\n y\r\n');
  });
});
