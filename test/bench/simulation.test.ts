/** The simulated week is the relay's own schedule on a virtual clock: what it says of a small week must add up. */
import { beforeAll, describe, expect, test } from 'vitest';
import { Events } from '../../bench/simulation/events.ts';
import { type Node, simulate, type Week } from '../../bench/simulation/week.ts';
import { createWorld } from '../../bench/simulation/world.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const node: Node = {
  queue: { retry: [5 * MINUTE, 15 * MINUTE, HOUR], lifetime: 5 * 24 * HOUR, tlsLifetime: null, delayNotice: 4 * HOUR },
  concurrency: 200,
  perDomain: 20,
};

describe('a week of fifty thousand messages', () => {
  let week: Week;
  beforeAll(() => {
    week = simulate(createWorld(50_000, 7), node, 8);
  });

  test('every message comes to an end, and the hours add up to the week', () => {
    expect(week.accepted).toBeGreaterThan(45_000);
    expect(week.delivered + week.bounced + week.expired).toBe(week.accepted);
    const sum = (what: 'accepted' | 'delivered'): number => week.hours.reduce((all, hour) => all + hour[what], 0);
    expect(sum('accepted')).toBe(week.accepted);
    expect(sum('delivered')).toBe(week.delivered);
    expect(week.hours.at(-1)?.waiting).toBe(0);
    expect(week.allDelays).toHaveLength(week.delivered);
  });

  test('TXN-07 an outage of the largest receiver fills the queue, hardly dials, and is over soon after', () => {
    const [before, during, after] = [33, 37, 40].map((hour) => week.hours[hour]?.waiting ?? 0);
    expect(during).toBeGreaterThan(4 * (before ?? 0));
    expect(after).toBeLessThan((during ?? 0) / 2);
    const inOutage = week.hours.slice(34, 38);
    const putOff = inOutage.reduce((all, hour) => all + hour.putOff, 0);
    expect(putOff).toBeGreaterThan(inOutage.reduce((all, hour) => all + hour.deferred, 0));
  });

  test('mail to recipients that are well does not notice: most of it leaves within a second', () => {
    expect(week.delays[Math.floor(week.delays.length * 0.9)]).toBeLessThan(2_000);
  });

  test('the same seed gives the same week, another one another', () => {
    const small = (seed: number): Week => simulate(createWorld(5_000, seed), node, seed);
    expect(small(1)).toEqual(small(1));
    expect(small(2)).not.toEqual(small(1));
  });
});

test('events come in the order of their time, those of one time in the order they were put in', () => {
  const events = new Events<string>();
  const times = [5, 3, 9, 3, 1, 9, 3, 7];
  for (const [order, at] of times.entries()) events.add(at, `${at}/${order}`);
  const taken: string[] = [];
  while (events.next !== null) taken.push(events.take() ?? '');
  expect(taken).toEqual(['1/4', '3/1', '3/3', '3/6', '5/0', '7/7', '9/2', '9/5']);
  expect(events.take()).toBeNull();
});
