import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Rate, RateLimiter } from '../../src/shared/rate.ts';

const MINUTE = 60_000;
const START = Date.UTC(2026, 10, 2, 8);

describe('so many in any stretch of time', () => {
  test('never more, wherever the stretch begins; and the limit is nearly reached when there is always more', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.constantFrom(1_000, MINUTE, 60 * MINUTE),
        fc.array(fc.nat({ max: 4_000 }), { minLength: 1, maxLength: 400 }),
        (count, period, steps) => {
          const limiter = new RateLimiter();
          const rate: Rate = { count, period };
          const taken: number[] = [];
          let now = START;
          for (const step of steps) {
            now += step;
            if (limiter.take('one', rate, now)) taken.push(now);
            else expect(limiter.opensAt('one', now)).toBeGreaterThan(now);
          }
          for (const [index, at] of taken.entries()) {
            const last = taken[index + count];
            if (last !== undefined) expect(last - at).toBeGreaterThanOrEqual(period);
          }
        },
      ),
      { numRuns: 50 },
    );
  });

  test('a burst may use it all up; the next one comes when the window has moved on', () => {
    const limiter = new RateLimiter();
    const rate = { count: 3, period: MINUTE };
    expect([1, 2, 3, 4].map(() => limiter.take('one', rate, START))).toEqual([true, true, true, false]);
    expect(limiter.free('one', rate, START)).toBe(0);
    expect(limiter.free('other', rate, START)).toBe(3);
    const opens = limiter.opensAt('one', START);
    expect(opens - START).toBeLessThanOrEqual(MINUTE * 1.02);
    expect(limiter.take('one', rate, opens - 1)).toBe(false);
    expect(limiter.take('one', rate, opens)).toBe(true);
  });

  test('a clock that is put back does not close the door for long', () => {
    const limiter = new RateLimiter();
    const rate = { count: 1, period: MINUTE };
    expect(limiter.take('one', rate, START)).toBe(true);
    expect(limiter.take('one', rate, START - 365 * 24 * 60 * MINUTE)).toBe(true);
  });

  test('a hundred thousand names take bounded memory', () => {
    const limiter = new RateLimiter();
    const rate = { count: 10, period: MINUTE };
    for (let name = 0; name < 100_000; name++) limiter.take(`d${name}.example`, rate, START + name);
    expect([...limiter.names()].length).toBeLessThanOrEqual(10_000);
    expect(limiter.free('d99999.example', rate, START + 100_000)).toBe(9);
  });
});
