/** What only reports at this moment instead of enforcing, told to whoever runs the relay. */
import type { Config } from '../config/config.ts';
import { systemClock as clock } from '../shared/clock.ts';

/** One sentence for each part of the configuration that only reports at this moment. */
export function reportOnlyIn({ delivery, destinations }: Config): readonly string[] {
  const now = clock.now();
  const ends = new Map<string, number>();
  if (delivery.reportUntil !== null) ends.set('all destinations', delivery.reportUntil);
  for (const { reportUntil, origin, domain } of destinations) {
    if (reportUntil !== null) ends.set(origin.line === null ? domain : `the rule "${origin.text}"`, reportUntil);
  }
  return [...ends]
    .filter(([, until]) => until > now)
    .map(
      ([whose, until]) =>
        `REPORT ONLY for ${whose} until ${new Date(until).toISOString()}: mail goes on where DANE fails`,
    );
}
