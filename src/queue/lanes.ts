/**
 * The lines in which mail waits in the SQLite store: one for new mail and one for what was tried or put off before, so that
 * neither has to wait until the other is empty. In each line a domain has one place, its lane, however many messages wait for
 * it. Called inside the transactions of sqlite-operations.ts.
 */
import type Database from 'better-sqlite3';

/** `recipient.again` and `lane.again`: whether it was tried or put off before. */
export const NEW = 0;
export const AGAIN = 1;
export type Again = typeof NEW | typeof AGAIN;

export interface Lane {
  readonly domain: string;
  readonly again: Again;
}

export interface Lanes {
  /** The lane has mail that is due then, if it had none that is due before. */
  readonly dueBy: (domain: string, again: Again, due: number) => void;
  /**
   * After recipients in these lanes have begun or ceased to wait.
   *
   * @param notBefore  puts a domain that was just served behind those that wait for their turn
   */
  readonly refresh: (lanes: readonly Lane[], notBefore?: number) => void;
  readonly isDue: (domain: string, again: Again, now: number) => boolean;
  readonly anyDue: (again: Again, now: number) => boolean;
  /** The longest waiting first. */
  readonly due: (again: Again, now: number, most: number) => readonly Lane[];
  /** The first moment after now at which a lane becomes due; null when there is none. */
  readonly next: (now: number) => number | null;
  /** The first message of a lane; null when none is due. */
  readonly head: (lane: Lane, now: number) => number | null;
  /** When the clock was put back. */
  readonly earlier: (by: number) => void;
}

/** What a lane has: recipients that are not held and not under a lease. */
export const WAITING = 'held = 0 AND lease IS NULL';

export function createLanes(db: Database.Database): Lanes {
  const dueBy = db.prepare(
    'INSERT INTO lane (domain, again, due) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET due = min(due, excluded.due)',
  );
  const dueAt = db.prepare(
    'INSERT INTO lane (domain, again, due) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET due = excluded.due',
  );
  const gone = db.prepare('DELETE FROM lane WHERE domain = ? AND again = ?');
  const isDue = db.prepare('SELECT 1 FROM lane WHERE domain = ? AND again = ? AND due <= ?');
  const anyDue = db.prepare('SELECT 1 FROM lane WHERE again = ? AND due <= ? LIMIT 1');
  const due = db.prepare<[Again, number, number], Lane>(
    'SELECT domain, again FROM lane WHERE again = ? AND due <= ? ORDER BY due LIMIT ?',
  );
  const next = db.prepare<[Again, number], { due: number | null }>(
    'SELECT min(due) AS due FROM lane WHERE again = ? AND due > ?',
  );
  const earliest = db.prepare<[string, Again], { due: number | null }>(
    `SELECT min(next_attempt) AS due FROM recipient WHERE domain = ? AND again = ? AND ${WAITING}`,
  );
  const head = db.prepare<[string, Again, number], { message: number }>(
    `SELECT message FROM recipient WHERE domain = ? AND again = ? AND ${WAITING} AND next_attempt <= ?
     ORDER BY next_attempt LIMIT 1`,
  );
  const earlier = db.prepare('UPDATE lane SET due = due - ?');

  return {
    dueBy: (domain, again, at) => void dueBy.run(domain, again, at),
    refresh(lanes, notBefore = 0) {
      const each = new Map(lanes.map((lane) => [`${lane.again} ${lane.domain}`, lane]));
      for (const { domain, again } of each.values()) {
        const at = earliest.get(domain, again)?.due ?? null;
        if (at === null) gone.run(domain, again);
        else dueAt.run(domain, again, Math.max(at, notBefore));
      }
    },
    isDue: (domain, again, now) => isDue.get(domain, again, now) !== undefined,
    anyDue: (again, now) => anyDue.get(again, now) !== undefined,
    due: (again, now, most) => due.all(again, now, most),
    next(now) {
      const times = ([NEW, AGAIN] as const).flatMap((again) => next.get(again, now)?.due ?? []);
      return times.length === 0 ? null : Math.min(...times);
    },
    head: ({ domain, again }, now) => head.get(domain, again, now)?.message ?? null,
    earlier: (by) => void earlier.run(by),
  };
}

/** One of each line in turn, while there are any, and no more than `most`. */
export function alternately<Item>(lines: readonly Iterator<Item>[], most: number): readonly Item[] {
  const items: Item[] = [];
  for (let open = lines; open.length > 0; ) {
    open = open.filter((line) => {
      if (items.length >= most) return false;
      const { done, value } = line.next();
      if (!done) items.push(value);
      return !done;
    });
  }
  return items;
}
