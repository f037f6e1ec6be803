/**
 * Keeps the limits that all workers of a relay have in common. It counts what each of them has, so that a worker that
 * dies gives everything back:
 *
 *   connections to mail hosts   asked for one by one; a worker that has none waits in line, and who has most gives way
 *   connections of clients      let in or refused
 *   messages to a destination   where the operator's table limits them
 *   messages of a client        where it has a rate
 *
 * It decides and remembers, and knows no process: what it says to a worker goes through `tell`.
 */
import { Gate, type GateLimits } from '../receive/gate.ts';
import type { Refusal } from '../receive/refusal.ts';
import { type Rate, RateLimiter } from '../shared/rate.ts';

export interface ArbiterLimits {
  /** Connections to one mail host, and to all of them. */
  readonly perHost: number;
  readonly total: number;
  /** Connections of clients. */
  readonly gate: GateLimits;
}

export interface ArbiterOptions {
  readonly limits: ArbiterLimits;
  readonly now: () => number;
  /** One more connection to `host` is this worker's. */
  readonly grant: (worker: number, host: string) => void;
  /** Others wait: this worker shall give back one connection; null for any host. */
  readonly recall: (worker: number, host: string | null, howSoon: 'idle' | 'soon') => void;
}

/** What the operator's table allows for one recipient domain. */
export interface TurnLimits {
  readonly connections: number | null;
  readonly rate: Rate | null;
}

export interface Arbiter {
  readonly setLimits: (limits: ArbiterLimits) => void;
  /** The worker wants one more connection to the host, and gets it by `grant`, now or later. */
  readonly want: (worker: number, host: string) => void;
  readonly giveBack: (worker: number, host: string) => void;
  /** Counts a client's connection in, or says why it cannot come in. */
  readonly enter: (worker: number, peer: string) => Refusal | null;
  readonly leave: (worker: number, peer: string) => void;
  /** Waits for a turn to hand over one message; false when it is not its turn for longer than somebody should wait. */
  readonly begin: (worker: number, domain: string, limits: TurnLimits) => Promise<boolean>;
  readonly end: (worker: number, domain: string) => void;
  /** Counts one message of a client; false when it is too many. */
  readonly takeRate: (client: string, rate: Rate) => boolean;
  /** All that the worker had is free again. */
  readonly gone: (worker: number) => void;
}

/** No host has an empty name. */
const ANY = '';
/** Who may wait for a turn at one destination, for each turn there is. */
const WAITING_PER_TURN = 5;

export function createArbiter(options: ArbiterOptions): Arbiter {
  const { now } = options;
  let { limits } = options;
  const gate = new Gate(limits.gate);
  const peers = new Tally();
  const connections = new Tally();
  /** What was recalled from working connections and is not back yet; by host, `ANY` for whichever. */
  const owed = new Tally();
  /** In the order in which they asked. */
  let wishes: { readonly worker: number; readonly host: string }[] = [];
  const clients = new RateLimiter();
  const destinations = new RateLimiter();
  const turns = new Tally();
  const queues = new Map<string, Turn[]>();

  const isFree = (host: string): boolean => connections.of(host) < limits.perHost && connections.total() < limits.total;

  const grantAll = (): void => {
    const fullHosts = new Set<string>();
    wishes = wishes.filter(({ worker, host }) => {
      if (fullHosts.has(host) || !isFree(host)) {
        fullHosts.add(host);
        return true;
      }
      connections.add(worker, host);
      options.grant(worker, host);
      return false;
    });
  };

  /** What is short for this host: null for connections to all hosts together. */
  const scarceFor = (host: string): string | null => (connections.of(host) < limits.perHost ? null : host);

  /** The worker with most gives up one that works, in time. @param fair how many nobody shall have to give up */
  const askRichest = (worker: number, scarce: string | null, fair: number): void => {
    const holders = connections.holders(scarce);
    const [richest, most] = [...holders].reduce((a, b) => (b[1] > a[1] ? b : a), [worker, 0]);
    if (richest === worker || most - owed.have(richest, scarce ?? ANY) <= fair) return;
    owed.add(richest, scarce ?? ANY);
    options.recall(richest, scarce, 'soon');
  };

  /**
   * Idle connections of who asks go at once, and those of workers that have more of them; the worker with most gives up
   * one that works, in time. Where all have as many nobody takes from anybody.
   */
  const askOthers = (worker: number, host: string): void => {
    const scarce = scarceFor(host);
    const holders = connections.holders(scarce);
    const hoped = wishes.filter((wish) => wish.worker === worker && (scarce === null || wish.host === scarce)).length;
    const fair = (holders.get(worker) ?? 0) + hoped - 1;
    for (const [each, count] of holders) if (each === worker || count > fair) options.recall(each, scarce, 'idle');
    askRichest(worker, scarce, fair);
  };

  /**
   * Something was free and somebody else has it now. Who waits longest and has none would wait for ever for one who
   * always has work, if nobody had to give way but when he began to wait.
   */
  const askAgain = (): void => {
    const asked = new Set<string | null>();
    for (const { worker, host } of wishes) {
      const scarce = scarceFor(host);
      if (asked.has(scarce)) continue;
      asked.add(scarce);
      const has = connections.holders(scarce).get(worker) ?? 0;
      askRichest(worker, scarce, has === 0 ? 0 : has + 1);
    }
  };

  const tryTurn = (turn: Turn): boolean | null => {
    const { worker, domain, limits: allowed } = turn;
    const { connections: most, rate } = allowed;
    if (rate !== null && destinations.free(domain, rate, now()) <= 0) return false;
    if (most !== null && turns.of(domain) >= most) return null;
    if (rate !== null) destinations.take(domain, rate, now());
    turns.add(worker, domain);
    return true;
  };

  const goOn = (domain: string): void => {
    const queue = queues.get(domain) ?? [];
    for (let turn = queue[0]; turn; turn = queue[0]) {
      const answer = tryTurn(turn);
      if (answer === null) return;
      queue.shift();
      turn.resolve(answer);
    }
    queues.delete(domain);
  };

  return {
    setLimits(next) {
      limits = next;
      gate.setLimits(next.gate);
      grantAll();
    },
    want(worker, host) {
      wishes.push({ worker, host });
      grantAll();
      if (wishes.some((wish) => wish.worker === worker && wish.host === host)) askOthers(worker, host);
    },
    giveBack(worker, host) {
      connections.remove(worker, host);
      owed.remove(worker, owed.have(worker, host) > 0 ? host : ANY);
      grantAll();
      askAgain();
    },
    enter(worker, peer) {
      const refusal = gate.enter(peer);
      if (refusal === null) peers.add(worker, peer);
      return refusal;
    },
    leave(worker, peer) {
      peers.remove(worker, peer);
      gate.leave(peer);
    },
    begin(worker, domain, allowed) {
      return new Promise((resolve) => {
        const turn: Turn = { worker, domain, limits: allowed, resolve };
        const queue = queues.get(domain) ?? [];
        const answer = queue.length > 0 ? null : tryTurn(turn);
        if (answer !== null) return resolve(answer);
        if (queue.length >= (allowed.connections ?? 1) * WAITING_PER_TURN) return resolve(false);
        queues.set(domain, [...queue, turn]);
      });
    },
    end(worker, domain) {
      turns.remove(worker, domain);
      goOn(domain);
    },
    takeRate: (client, rate) => clients.take(client, rate, now()),
    gone(worker) {
      wishes = wishes.filter((wish) => wish.worker !== worker);
      for (const [domain, queue] of queues)
        queues.set(
          domain,
          queue.filter((turn) => turn.worker !== worker),
        );
      for (const [peer, count] of peers.forget(worker)) for (let each = 0; each < count; each++) gate.leave(peer);
      connections.forget(worker);
      owed.forget(worker);
      turns.forget(worker);
      grantAll();
      askAgain();
      for (const domain of [...queues.keys()]) goOn(domain);
    },
  };
}

interface Turn {
  readonly worker: number;
  readonly domain: string;
  readonly limits: TurnLimits;
  readonly resolve: (go: boolean) => void;
}

/** How many of each thing each worker has. */
class Tally {
  readonly #byWorker = new Map<number, Map<string, number>>();
  readonly #byThing = new Map<string, number>();
  #total = 0;

  of(thing: string): number {
    return this.#byThing.get(thing) ?? 0;
  }

  have(worker: number, thing: string): number {
    return this.#byWorker.get(worker)?.get(thing) ?? 0;
  }

  total(): number {
    return this.#total;
  }

  add(worker: number, thing: string): void {
    const own = this.#byWorker.get(worker) ?? new Map<string, number>();
    this.#byWorker.set(worker, own.set(thing, (own.get(thing) ?? 0) + 1));
    this.#byThing.set(thing, this.of(thing) + 1);
    this.#total++;
  }

  /** Does nothing when the worker has none. */
  remove(worker: number, thing: string): void {
    const own = this.#byWorker.get(worker);
    if (!own?.has(thing)) return;
    lessen(own, thing, 1);
    lessen(this.#byThing, thing, 1);
    this.#total--;
  }

  /** Who has how many; of all things together for null. */
  holders(thing: string | null): ReadonlyMap<number, number> {
    const counts = new Map<number, number>();
    for (const [worker, own] of this.#byWorker) {
      const count = thing === null ? [...own.values()].reduce((sum, each) => sum + each, 0) : (own.get(thing) ?? 0);
      if (count > 0) counts.set(worker, count);
    }
    return counts;
  }

  /** Takes away all that a worker has, and says what it was. */
  forget(worker: number): ReadonlyMap<string, number> {
    const own = this.#byWorker.get(worker) ?? new Map<string, number>();
    this.#byWorker.delete(worker);
    for (const [thing, count] of own) {
      lessen(this.#byThing, thing, count);
      this.#total -= count;
    }
    return own;
  }
}

function lessen(counts: Map<string, number>, thing: string, by: number): void {
  const left = (counts.get(thing) ?? 0) - by;
  if (left > 0) counts.set(thing, left);
  else counts.delete(thing);
}
