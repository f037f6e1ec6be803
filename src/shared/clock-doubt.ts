/**
 * How far the clock of the machine can be believed about the age of mail. Nobody's mail may be returned because a clock
 * was set wrongly: a leap forwards counts as time that mail has waited only when the clock has kept to it for an hour.
 * The same goes for the time that the relay was not running: mail gets an hour of attempts before it is given up.
 */

/** Less than this is ordinary adjustment, in milliseconds. */
const LEAP = 60_000;
const PROBATION = 3_600_000;

export interface ClockDoubtOptions {
  /** Milliseconds since the epoch, as the clock of the machine says. */
  readonly now: () => number;
  /** Milliseconds that have really passed since some moment. */
  readonly elapsed: () => number;
  /** When the relay is known to have lived last, by the clock; null when it never did. */
  readonly lastSeen: number | null;
}

/** Returns a function that tells how many milliseconds of the clock's time are not believed now. */
export function createClockDoubt({ now, elapsed, lastSeen }: ClockDoubtOptions): () => number {
  const offset = (): number => now() - elapsed();
  let believed = lastSeen === null ? offset() : Math.min(offset(), lastSeen - elapsed());
  let claimed = offset();
  let since = elapsed();
  return () => {
    const present = offset();
    if (Math.abs(present - claimed) > LEAP) {
      claimed = present;
      since = elapsed();
    }
    // What goes slowly, or backwards, is believed at once.
    if (present - believed <= LEAP || elapsed() - since >= PROBATION) believed = present;
    return present - believed;
  };
}
