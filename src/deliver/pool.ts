/**
 * Connections kept for the next message, and how many there may be at once.
 *
 * A key says all that a connection was made for: host, address, port and the whole policy. Only what was asked for
 * under the very same key is used again (RFC 7672 §2.2: a connection proves what it was made to prove, no more).
 * Who leaves may hand its connection to whoever waits for the same, and may learn before it leaves who that is.
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

/** How long somebody may wait for any place while others go on over connections that are there. */
const PATIENCE_MS = 1_000;

/** Where connections are counted for all workers of a relay together. A worker alone needs nobody's leave. */
export interface Permits {
  /** Asks for one more connection to `host`; it comes through `Pool.granted`. */
  readonly want: (host: string) => void;
  readonly giveBack: (host: string) => void;
}

/** How long a connection is in use at least before it gives way to another worker that waits, in milliseconds. */
const TERM_MS = 1_000;

export const DEFAULT_LIMITS: PoolLimits = { perHost: 20, idleMs: 5_000, messagesPerConnection: 100, total: 200 };

/** A place under the limits, with the connection that is there for it, if there is one. */
export interface Place<Kept, Work> {
  readonly kept: Kept | null;
  /** True when `kept` had lain idle; false when it comes straight from the hands of another. */
  readonly idled: boolean;
  /**
   * Says whose turn it is after this one on the same connection, and keeps it for that one; null when nobody waits for
   * the very same, or somebody has waited too long for something else. To be asked once.
   */
  readonly next: () => Work | null;
  /** Gives the place back, with a connection to keep or null. The first call counts. */
  readonly leave: (keep: Kept | null) => void;
}

interface Idle<Kept, Work> {
  readonly key: string;
  readonly host: Host<Kept, Work>;
  readonly connection: Kept;
  readonly since: number;
  /** When it was permitted. */
  readonly permittedAt: number;
}

interface Waiting<Kept, Work> {
  readonly key: string;
  readonly work: Work;
  /** Later ones have higher numbers, whatever they wait for. */
  readonly order: number;
  readonly since: number;
  readonly enter: (place: Place<Kept, Work> | 'busy' | null) => void;
}

/** One address and port. */
interface Host<Kept, Work> {
  readonly name: string;
  busy: number;
  /** Oldest first. */
  readonly idle: Idle<Kept, Work>[];
  readonly waiting: Waiting<Kept, Work>[];
  /** Permits that no connection has been made with, those that were asked for, and connections that must give way. */
  spare: number;
  asked: number;
  owed: number;
}

type Limits = Pick<PoolLimits, 'perHost' | 'idleMs' | 'total'>;

export class Pool<Kept extends Poolable, Work = null> {
  #limits: Limits;
  readonly #hosts = new Map<string, Host<Kept, Work>>();
  /** Of all hosts, oldest first. */
  readonly #idle = new Set<Idle<Kept, Work>>();
  /** Those for which somebody waits. */
  readonly #wanted = new Set<Host<Kept, Work>>();
  #waiting = 0;
  #busy = 0;
  #order = 0;
  #sweeper: NodeJS.Timeout | undefined;
  #closed = false;
  readonly #permits: Permits | null;
  /** Connections in use that must give way, to whatever host. */
  #owed = 0;
  /** No more connections are permitted, to whatever host, and nothing was idle that could have made room. */
  #isScarce = false;

  constructor(limits: Limits, permits: Permits | null = null) {
    this.#limits = limits;
    this.#permits = permits;
  }

  /**
   * Waits for a place, first come first served for each host. Resolves to null when the pool is closed, to `busy` at
   * once when too many wait already: a slow host must not keep everybody's hands full.
   *
   * @param key  all that the connection must have been made for
   * @param hostName what `perHost` counts: address and port
   * @param work what it is for; told to who has the connection before
   */
  enter(key: string, hostName: string, work: Work): Promise<Place<Kept, Work> | 'busy' | null> {
    if (this.#closed) return Promise.resolve(null);
    const host = this.#hostOf(hostName);
    return new Promise((enter) => {
      const waiting: Waiting<Kept, Work> = { key, work, order: ++this.#order, since: performance.now(), enter };
      if (this.#admits(host, key)) this.#admit(host, waiting);
      else if (this.#isCrowded(host)) enter('busy');
      else this.#queue(host, waiting);
      this.#ask(host);
      this.#forgetHost(host);
    });
  }

  /** For places from now on; who is inside stays. */
  setLimits(limits: Limits): void {
    this.#limits = limits;
    this.#sweepLater();
    this.#admitOldest();
    for (const host of this.#wanted) this.#ask(host);
  }

  /** One connection more is permitted. What nobody waits for any more is given back. */
  granted(hostName: string): void {
    const host = this.#hostOf(hostName);
    host.asked = Math.max(0, host.asked - 1);
    host.spare++;
    this.#admitAll(host);
    this.#giveBackSpare(host);
    this.#ask(host);
    this.#forgetHost(host);
  }

  /**
   * Other workers wait for a connection to `host`, or to any for null: what is idle is ended now; one of those in use,
   * when that is asked for, after the message that it carries.
   */
  recall(hostName: string | null, howSoon: 'idle' | 'soon'): void {
    const host = hostName === null ? null : this.#hosts.get(hostName);
    const [idle] = host ? host.idle : hostName === null ? this.#idle : [];
    if (idle) void this.#end(idle);
    else if (howSoon === 'idle') this.#isScarce ||= hostName === null;
    else if (host && host.busy > 0) host.owed++;
    else if (hostName === null && this.#busy > 0) this.#owed++;
  }

  /** Ends what is kept and turns away who waits. Who is inside finishes and keeps nothing. Never rejects. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#sweeper);
    const turnedAway = [...this.#wanted].flatMap((host) => host.waiting.splice(0));
    this.#wanted.clear();
    this.#waiting = 0;
    for (const { enter } of turnedAway) enter(null);
    await Promise.all([...this.#idle].map((idle) => this.#end(idle)));
  }

  #hostOf(name: string): Host<Kept, Work> {
    const known = this.#hosts.get(name);
    if (known) return known;
    const host: Host<Kept, Work> = { name, busy: 0, idle: [], waiting: [], spare: 0, asked: 0, owed: 0 };
    this.#hosts.set(name, host);
    return host;
  }

  /** Whether one more may wait. */
  #isCrowded(host: Host<Kept, Work>): boolean {
    const { perHost, total } = this.#limits;
    return this.#waiting >= total * WAITING_IN_ALL || host.waiting.length >= perHost * WAITING_PER_HOST;
  }

  #queue(host: Host<Kept, Work>, waiting: Waiting<Kept, Work>): void {
    host.waiting.push(waiting);
    this.#wanted.add(host);
    this.#waiting++;
  }

  #dequeue(host: Host<Kept, Work>): Waiting<Kept, Work> | undefined {
    const first = host.waiting.shift();
    if (first) this.#waiting--;
    if (host.waiting.length === 0) this.#wanted.delete(host);
    if (this.#waiting === 0) this.#isScarce = false;
    return first;
  }

  /** Whether whoever waits for this key can come in now. */
  #admits({ busy, spare, idle }: Host<Kept, Work>, key: string): boolean {
    if (busy >= this.#limits.perHost || this.#busy >= this.#limits.total) return false;
    return this.#permits === null || spare > 0 || idle.some((each) => each.key === key && each.connection.usable);
  }

  /** As many permits as there are who wait and could use one. */
  #ask(host: Host<Kept, Work>): void {
    // Where all places are taken here, it is asked for when one of them is free.
    if (this.#permits === null || this.#closed || this.#busy >= this.#limits.total) return;
    const most = Math.min(host.waiting.length, this.#limits.perHost - host.busy);
    for (; host.asked < most; host.asked++) this.#permits.want(host.name);
  }

  #giveBackSpare(host: Host<Kept, Work>): void {
    for (; host.spare > 0; host.spare--) this.#permits?.giveBack(host.name);
  }

  /** Whether a connection must make room for one of another worker: at once where nobody here has work for it. */
  #givesWay(host: Host<Kept, Work>, permittedAt: number): boolean {
    if (host.owed + this.#owed === 0) return false;
    return performance.now() - permittedAt >= TERM_MS || host.waiting.length === 0;
  }

  /** Where a connection has ended: whoever waits here goes before those of other workers, until it is their turn. */
  #release(host: Host<Kept, Work>): void {
    if (host.owed > 0) host.owed--;
    else if (this.#owed > 0) this.#owed--;
    else {
      host.spare++;
      return;
    }
    this.#permits?.giveBack(host.name);
  }

  #admit(host: Host<Kept, Work>, { key, enter }: Waiting<Kept, Work>): void {
    const kept = this.#takeIdle(host, key);
    host.busy++;
    this.#busy++;
    if (!kept) {
      if (this.#permits) host.spare--;
      this.#makeRoom(host);
    }
    enter(this.#place(host, key, kept?.connection ?? null, true, kept?.permittedAt ?? performance.now()));
  }

  #place(
    host: Host<Kept, Work>,
    key: string,
    kept: Kept | null,
    idled: boolean,
    permittedAt: number,
  ): Place<Kept, Work> {
    let inside = true;
    let next: Waiting<Kept, Work> | undefined;
    return {
      kept,
      idled,
      next: () => {
        if (inside && !next && !this.#givesWay(host, permittedAt) && this.#isNext(host, key))
          next = this.#dequeue(host);
        return next?.work ?? null;
      },
      leave: (keep) => {
        if (!inside) return;
        inside = false;
        const givesWay = this.#givesWay(host, permittedAt);
        if (!next && keep?.usable && !givesWay && this.#isNext(host, key)) next = this.#dequeue(host);
        if (next && !this.#closed) next.enter(this.#place(host, next.key, keep, false, permittedAt));
        else this.#leave(host, key, keep, permittedAt, givesWay);
        if (this.#closed) next?.enter(null);
      },
    };
  }

  /**
   * Whether the first who waits for a host waits for this key. Somebody else may have waited longer because all places
   * are taken: for a while a connection that is there goes before one that would have to be made in its stead.
   */
  #isNext(host: Host<Kept, Work>, key: string): boolean {
    const [first] = host.waiting;
    if (first?.key !== key || host.busy > this.#limits.perHost || this.#busy > this.#limits.total) return false;
    if (this.#busy < this.#limits.total) return true;
    const before = performance.now() - PATIENCE_MS;
    for (const { waiting, busy } of this.#wanted) {
      const [other] = waiting;
      if (other && other.since < before && other.order < first.order && busy < this.#limits.perHost) return false;
    }
    return true;
  }

  #leave(host: Host<Kept, Work>, key: string, connection: Kept | null, permittedAt: number, givesWay: boolean): void {
    const wasFull = this.#busy >= this.#limits.total;
    this.#busy--;
    host.busy--;
    // What lies idle would keep whoever waits here for another host from the only permit there is.
    const makesRoom = this.#isScarce && this.#waiting > host.waiting.length;
    const isKept = connection !== null && !this.#closed && !givesWay && !makesRoom;
    if (connection && !isKept) void connection.quit();
    if (connection && isKept) this.#keep(host, key, connection, permittedAt);
    else this.#release(host);
    if (wasFull) {
      this.#admitOldest();
      for (const each of this.#wanted) this.#ask(each);
    } else {
      this.#admitAll(host);
    }
    this.#giveBackSpare(host);
    this.#ask(host);
    this.#forgetHost(host);
  }

  #admitAll(host: Host<Kept, Work>): void {
    for (let first = host.waiting[0]; first && this.#admits(host, first.key); first = host.waiting[0]) {
      this.#admitFirst(host);
    }
  }

  #admitFirst(host: Host<Kept, Work>): void {
    const first = this.#dequeue(host);
    if (first) this.#admit(host, first);
  }

  /** Lets in whoever can come in, who waits longest first. */
  #admitOldest(): void {
    for (;;) {
      let oldest: Host<Kept, Work> | null = null;
      for (const host of this.#wanted) {
        const [first] = host.waiting;
        if (!first || first.order > (oldest?.waiting[0]?.order ?? Number.POSITIVE_INFINITY)) continue;
        if (this.#admits(host, first.key)) oldest = host;
      }
      if (!oldest) return;
      this.#admitFirst(oldest);
    }
  }

  #keep(host: Host<Kept, Work>, key: string, connection: Kept, permittedAt: number): void {
    const idle: Idle<Kept, Work> = { key, host, connection, since: performance.now(), permittedAt };
    this.#idle.add(idle);
    host.idle.push(idle);
    if (this.#sweeper === undefined) this.#sweepLater();
  }

  /** The newest is the likeliest to be alive, and lets the others run out when there is less to do. */
  #takeIdle(host: Host<Kept, Work>, key: string): Idle<Kept, Work> | null {
    const idle = host.idle.findLast(({ key: made, connection }) => made === key && connection.usable);
    if (!idle) return null;
    this.#forget(idle);
    return idle;
  }

  /** What is idle gives way to what is busy, oldest first. */
  #makeRoom(host: Host<Kept, Work>): void {
    const { perHost, total } = this.#limits;
    while (host.idle[0] && host.busy + host.idle.length > perHost) void this.#end(host.idle[0]);
    for (const idle of this.#idle) {
      if (this.#busy + this.#idle.size <= total) return;
      void this.#end(idle);
    }
  }

  /** One timer for all: what is kept runs out in the order in which it came. */
  #sweepLater(): void {
    clearTimeout(this.#sweeper);
    this.#sweeper = undefined;
    const [oldest] = this.#idle;
    if (!oldest) return;
    const ms = Math.max(0, oldest.since + this.#limits.idleMs - performance.now());
    this.#sweeper = setTimeout(() => {
      const before = performance.now() - this.#limits.idleMs;
      for (const idle of this.#idle) {
        // Timers may come a little early.
        if (idle.since > before + 1) break;
        void this.#end(idle);
      }
      this.#sweepLater();
    }, ms);
  }

  #forget(idle: Idle<Kept, Work>): void {
    this.#idle.delete(idle);
    const { host } = idle;
    host.idle.splice(host.idle.indexOf(idle), 1);
  }

  #end(idle: Idle<Kept, Work>): Promise<void> {
    this.#forget(idle);
    this.#permits?.giveBack(idle.host.name);
    const host = this.#hosts.get(idle.host.name);
    if (host) this.#forgetHost(host);
    return idle.connection.quit();
  }

  #forgetHost(host: Host<Kept, Work>): void {
    if (host.busy === 0) host.owed = 0;
    if (host.busy + host.idle.length + host.waiting.length + host.asked === 0) this.#hosts.delete(host.name);
  }
}
