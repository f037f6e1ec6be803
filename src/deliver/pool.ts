/**
 * Connections kept for the next message, and how many there may be at once.
 *
 * A key says all that a connection was made for: host, address, port and the whole policy. Only what was asked for
 * under the very same key is used again (RFC 7672 §2.2: a connection proves what it was made to prove, no more).
 * The pool knows nothing of mail: what it keeps can be ended, and tells whether it has ended by itself.
 */

/** What the pool keeps. */
export interface Poolable {
  /** False once it has ended by itself. */
  readonly usable: boolean;
  /** Ends it politely; never rejects. */
  readonly quit: () => Promise<void>;
}

export interface PoolLimits {
  /** Connections to one address and port. */
  readonly perHost: number;
  /** How long a connection is kept without work, in milliseconds. */
  readonly idleMs: number;
  /** Messages after which a connection is ended. */
  readonly messagesPerConnection: number;
  /** Connections to all hosts together. */
  readonly total: number;
}

/** Who may wait for a place at one host, for each place there; and in all, for each place there is. */
const WAITING_PER_HOST = 5;
export const WAITING_IN_ALL = 2;

export const DEFAULT_LIMITS: PoolLimits = { perHost: 20, idleMs: 5_000, messagesPerConnection: 100, total: 200 };

/** A place under the limits, with the connection that was kept for it, if there is one. */
export interface Place<Kept> {
  readonly kept: Kept | null;
  /** Gives the place back, with a connection to keep or null. The first call counts. */
  readonly leave: (keep: Kept | null) => void;
}

interface Idle<Kept> {
  readonly key: string;
  readonly host: string;
  readonly connection: Kept;
  readonly timer: NodeJS.Timeout;
}

interface Waiting<Kept> {
  readonly key: string;
  readonly host: string;
  readonly enter: (place: Place<Kept> | 'busy' | null) => void;
}

export class Pool<Kept extends Poolable> {
  #limits: Pick<PoolLimits, 'perHost' | 'idleMs' | 'total'>;
  /** Oldest first. */
  readonly #idle = new Set<Idle<Kept>>();
  readonly #busy = new Map<string, number>();
  #busyTotal = 0;
  #waiting: Waiting<Kept>[] = [];
  #closed = false;

  constructor(limits: Pick<PoolLimits, 'perHost' | 'idleMs' | 'total'>) {
    this.#limits = limits;
  }

  /**
   * Waits for a place, first come first served for each host. Resolves to null when the pool is closed, to `busy` at
   * once when too many wait already: a slow host must not keep everybody's hands full.
   *
   * @param key  all that the connection must have been made for
   * @param host what `perHost` counts: address and port
   */
  enter(key: string, host: string): Promise<Place<Kept> | 'busy' | null> {
    if (this.#closed) return Promise.resolve(null);
    return new Promise((enter) => {
      const waiting: Waiting<Kept> = { key, host, enter };
      this.#waiting.push(waiting);
      this.#admit();
      if (!this.#waiting.includes(waiting) || !this.#isCrowded(host)) return;
      this.#waiting = this.#waiting.filter((each) => each !== waiting);
      enter('busy');
    });
  }

  #isCrowded(host: string): boolean {
    const { perHost, total } = this.#limits;
    if (this.#waiting.length > total * WAITING_IN_ALL) return true;
    return this.#waiting.filter((waiting) => waiting.host === host).length > perHost * WAITING_PER_HOST;
  }

  /** For places from now on; who is inside stays. */
  setLimits(limits: Pick<PoolLimits, 'perHost' | 'idleMs' | 'total'>): void {
    this.#limits = limits;
    this.#admit();
  }

  /** Ends what is kept and turns away who waits. Who is inside finishes and keeps nothing. Never rejects. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { enter } of this.#waiting.splice(0)) enter(null);
    await Promise.all([...this.#idle].map((idle) => this.#end(idle)));
  }

  #admit(): void {
    this.#waiting = this.#waiting.filter((waiting) => {
      const kept = this.#takeIdle(waiting.key);
      if (!kept && !this.#makeRoom(waiting.host)) return true;
      this.#busyTotal++;
      this.#busy.set(waiting.host, (this.#busy.get(waiting.host) ?? 0) + 1);
      let inside = true;
      const leave = (keep: Kept | null): void => {
        if (inside) this.#leave(waiting, keep);
        inside = false;
      };
      waiting.enter({ kept, leave });
      return false;
    });
  }

  #leave({ key, host }: Waiting<Kept>, connection: Kept | null): void {
    this.#busyTotal--;
    const left = (this.#busy.get(host) ?? 1) - 1;
    if (left === 0) this.#busy.delete(host);
    else this.#busy.set(host, left);
    if (connection && this.#closed) void connection.quit();
    else if (connection) this.#keep(key, host, connection);
    this.#admit();
  }

  #keep(key: string, host: string, connection: Kept): void {
    const timer = setTimeout(() => void this.#end(idle), this.#limits.idleMs);
    const idle: Idle<Kept> = { key, host, connection, timer };
    this.#idle.add(idle);
  }

  /** The newest is the likeliest to be alive, and lets the others run out when there is less to do. */
  #takeIdle(key: string): Kept | null {
    const idle = [...this.#idle].findLast(({ key: made, connection }) => made === key && connection.usable);
    if (!idle) return null;
    this.#forget(idle);
    return idle.connection;
  }

  /** True when one more connection may be made; what is idle gives way, oldest first. */
  #makeRoom(host: string): boolean {
    const { perHost, total } = this.#limits;
    const busyHere = this.#busy.get(host) ?? 0;
    if (busyHere >= perHost || this.#busyTotal >= total) return false;
    const idleHere = [...this.#idle].filter((idle) => idle.host === host);
    const tooManyHere = busyHere + idleHere.length + 1 - perHost;
    for (const idle of idleHere.slice(0, Math.max(0, tooManyHere))) void this.#end(idle);
    const tooMany = this.#busyTotal + this.#idle.size + 1 - total;
    for (const idle of [...this.#idle].slice(0, Math.max(0, tooMany))) void this.#end(idle);
    return true;
  }

  #forget(idle: Idle<Kept>): void {
    clearTimeout(idle.timer);
    this.#idle.delete(idle);
  }

  #end(idle: Idle<Kept>): Promise<void> {
    this.#forget(idle);
    return idle.connection.quit();
  }
}
