/**
 * A week of a shared-service centre, simulated: `node bench/simulation/main.ts [MESSAGES] [SEED]`. Prints queue length,
 * retry traffic and delay; docs/performance.md has the result for ten million.
 */
import { simulate, type Week } from './week.ts';
import { createWorld } from './world.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const [messages = 10_000_000, seed = 1] = process.argv.slice(2).map(Number);
if (!Number.isSafeInteger(messages) || messages < 1 || !Number.isSafeInteger(seed)) {
  process.stderr.write('usage: node bench/simulation/main.ts [MESSAGES] [SEED]\n');
  process.exit(2);
}
const settings = {
  queue: {
    retry: [5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR] as const,
    lifetime: 5 * 24 * HOUR,
    tlsLifetime: null,
    delayNotice: 4 * HOUR,
  },
  concurrency: 1_000,
  perDomain: 20,
};
print(simulate(createWorld(messages, seed), settings, seed + 1));

function print(week: Week): void {
  const busiest = week.hours.reduce((most, hour) => (hour.accepted > most.accepted ? hour : most));
  const rows: readonly (readonly [string, string])[] = [
    ['accepted', count(week.accepted)],
    ['delivered', count(week.delivered)],
    ['refused by the recipient (bounced)', count(week.bounced)],
    ['given up after five days', count(week.expired)],
    ['delay notices', count(week.delayed)],
    ['busiest hour, messages a second', (busiest.accepted / 3_600).toFixed(1)],
    ['most messages in the queue', count(week.mostWaiting)],
    ['connections or transactions tried a message', week.attemptsPerMessage.toFixed(3)],
    ['delay p50, p99, p99.9 where the recipient was well', delays(week.delays)],
    ['delay p50, p99, p99.9 of all', delays(week.allDelays)],
  ];
  const lines = rows.map(([what, figure]) => `| ${what} | ${figure} |`);
  const table = week.hours.flatMap(({ accepted, delivered, deferred, putOff, waiting }, hour) =>
    hour % 6 === 5 && hour < 7 * 24
      ? [`| ${day(hour)} | ${[accepted, delivered, deferred, putOff, waiting].map(count).join(' | ')} |`]
      : [],
  );
  process.stdout.write(
    [
      '| figure of the week | |\n|---|---|',
      ...lines,
      '',
      '| the hour up to | accepted | delivered | deferred | put off without a connection | in the queue |\n|---|---|---|---|---|---|',
      ...table,
      '',
    ].join('\n'),
  );
}

function day(hour: number): string {
  const name = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][Math.floor(hour / 24)] ?? '';
  return `${name} ${String((hour % 24) + 1).padStart(2, '0')}:00`;
}

function count(number: number): string {
  return number.toLocaleString('en-US');
}

function delays(sorted: Float64Array): string {
  const at = (part: number): string => {
    const ms = sorted[Math.floor((sorted.length - 1) * part)] ?? 0;
    return ms < MINUTE
      ? `${(ms / 1_000).toFixed(2)} s`
      : ms < 2 * HOUR
        ? `${(ms / MINUTE).toFixed(1)} min`
        : `${(ms / HOUR).toFixed(1)} h`;
  };
  return [0.5, 0.99, 0.999].map(at).join(', ');
}
