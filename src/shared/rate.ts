/**
 * So many in any stretch of time, counted by name. A burst may use up all of it at once; then it takes until the oldest
 * of them are out of sight. Memory is bounded: per name by the number of slots, in all by the number of names.
 */
export interface Rate {
  /** At most, in any period. */
  readonly count: number;
  /** Milliseconds. */
  readonly period: number;
}

/** What happened in one slot of time counts until all of the slot is out of sight: rather a bit too long than too short. */
const SLOTS = 60;

/** One window that slides over time. */
class Window {
  readonly #rate: Rate;
  readonly #slotMs: number;
  /** Oldest first. */
  #slots: { readonly start: number; count: number }[] = [];

  constructor(rate: Rate) {
    this.#rate = rate;
    this.#slotMs = Math.ceil(rate.period / SLOTS);
  }

  has(rate: Rate): boolean {
    return this.#rate.count === rate.count && this.#rate.period === rate.period;
  }

  free(now: number): number {
    // A clock that was put back: what seems to lie in the future says nothing any more.
    this.#slots = this.#slots.filter(({ start }) => this.#endOf(start) > now && start <= now);
    return this.#slots.reduce((free, { count }) => free - count, this.#rate.count);
  }

  take(now: number): void {
    const start = now - (now % this.#slotMs);
    const last = this.#slots.at(-1);
    if (last?.start === start) last.count++;
    else this.#slots.push({ start, count: 1 });
  }

  /** When the oldest are out of sight. */
  opensAt(now: number): number {
    const [oldest] = this.#slots;
    return oldest ? this.#endOf(oldest.start) : now;
  }

  #endOf(start: number): number {
    return start + this.#slotMs + this.#rate.period;
  }
}

/** More names than this: the one that was used longest ago is forgotten. */
const NAMES_AT_MOST = 10_000;

export class RateLimiter {
  /** The one that was used longest ago comes first. */
  readonly #windows = new Map<string, Window>();

  /** Counts one more for `name`; false when it would be too many, and then it is not counted. */
  take(name: string, rate: Rate, now: number): boolean {
    const known = this.#windows.get(name);
    const window = known?.has(rate) ? known : new Window(rate);
    this.#windows.delete(name);
    this.#windows.set(name, window);
    this.#forgetOne(now);
    if (window.free(now) <= 0) return false;
    window.take(now);
    return true;
  }

  /** How many more there may be for `name` now. */
  free(name: string, rate: Rate, now: number): number {
    const window = this.#windows.get(name);
    return window?.has(rate) ? window.free(now) : rate.count;
  }

  /** When there may be more for `name`. */
  opensAt(name: string, now: number): number {
    return this.#windows.get(name)?.opensAt(now) ?? now;
  }

  /** Names that something is remembered of. */
  names(): IterableIterator<string> {
    return this.#windows.keys();
  }

  #forgetOne(now: number): void {
    for (const [name, window] of this.#windows) {
      const empty = window.opensAt(now) <= now;
      if (!empty && this.#windows.size <= NAMES_AT_MOST) return;
      // The one that was just asked for comes last, and stays.
      if (this.#windows.size > 1) this.#windows.delete(name);
      return;
    }
  }
}
