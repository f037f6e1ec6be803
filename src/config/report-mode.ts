/** Report-only is for the first weeks: its end may be 30 days ahead at most, and is told when it has passed. */
import type { Path } from './document.ts';
import type { Written } from './schema.ts';

const DAYS_AT_MOST = 30;
const DAY = 86_400_000;

/** Every place where report-only is asked for, with its end. */
function modes({ delivery, destinations }: Written): readonly { readonly path: Path; readonly until: number }[] {
  const all = [
    { path: ['delivery', 'until'] as Path, until: delivery.until },
    ...destinations.map(({ until }, index) => ({ path: ['destinations', index, 'until'] as Path, until })),
  ];
  return all.flatMap(({ path, until }) => (until === undefined ? [] : [{ path, until }]));
}

/** @param now milliseconds since the epoch */
export function tooFarAhead(
  written: Written,
  now: number,
): readonly { readonly path: Path; readonly message: string }[] {
  return modes(written)
    .filter(({ until }) => until > now + (DAYS_AT_MOST + 1) * DAY)
    .map(({ path }) => ({ path, message: `is more than ${DAYS_AT_MOST} days ahead` }));
}

/** One sentence for each: until when nothing is enforced, or that it is over. */
export function reportNotes(written: Written, now: number): readonly string[] {
  return modes(written).map(({ path, until }) => {
    const [section, index] = path;
    const rule = section === 'destinations' ? written.destinations[Number(index)] : undefined;
    const whose = rule === undefined ? 'all destinations' : (rule.domain ?? `the domains in ${rule.domains}`);
    const when = new Date(until).toISOString();
    return until > now
      ? `REPORT ONLY for ${whose} until ${when}: what fails under DANE is told and mail goes on.`
      : `Report-only for ${whose} ended ${when}: DANE is enforced. "mode: report" can be taken out.`;
  });
}
