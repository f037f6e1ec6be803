/** How many connections there may be: in total, from one client address, and on their way out. */
import { type Refusal, refuse } from './refusal.ts';

export interface GateLimits {
  readonly connections: number;
  readonly connectionsPerClient: number;
}

/** Refused connections that may still be there to read their reply. More of them are dropped without one. */
export const LINGERING = 200;

/** Who lets connections in: a `Gate`, or one that stands elsewhere and answers later. */
export interface Entrance {
  readonly setLimits: (limits: GateLimits) => void;
  readonly enter: (peer: string) => Refusal | null | Promise<Refusal | null>;
  readonly leave: (peer: string) => void;
}

export class Gate implements Entrance {
  #limits: GateLimits;
  readonly #perClient = new Map<string, number>();
  #inside = 0;

  constructor(limits: GateLimits) {
    this.#limits = limits;
  }

  /** For connections from now on; who is inside stays. */
  setLimits(limits: GateLimits): void {
    this.#limits = limits;
  }

  /** Counts a connection in, or says why it cannot come in. Whoever came in must `leave`. */
  enter(peer: string): Refusal | null {
    const client = clientOf(peer);
    const own = this.#perClient.get(client) ?? 0;
    if (this.#inside >= this.#limits.connections) {
      return refuse('too-many-connections', `${this.#limits.connections} are allowed in total`);
    }
    if (own >= this.#limits.connectionsPerClient) {
      return refuse('too-many-connections', `${this.#limits.connectionsPerClient} are allowed from ${peer}`);
    }
    this.#inside++;
    this.#perClient.set(client, own + 1);
    return null;
  }

  leave(peer: string): void {
    const client = clientOf(peer);
    const left = (this.#perClient.get(client) ?? 0) - 1;
    this.#inside--;
    if (left > 0) this.#perClient.set(client, left);
    else this.#perClient.delete(client);
  }
}

/** Refused connections that are still there. */
export class Lobby {
  #refused = 0;

  /** Counts a refused connection; false when there are too many to be polite to. */
  linger(): boolean {
    return ++this.#refused <= LINGERING;
  }

  unlinger(): void {
    this.#refused--;
  }
}

/** One address, or for IPv6 the /64 that one machine has to choose from. */
function clientOf(peer: string): string {
  if (!peer.includes(':')) return peer;
  const [head = '', tail] = peer.replace(/%.*$/, '').toLowerCase().split('::');
  const before = head.split(':').filter(Boolean);
  const after = tail?.split(':').filter(Boolean) ?? [];
  const zeros = Math.max(0, 8 - before.length - after.length);
  return [...before, ...Array<string>(zeros).fill('0'), ...after].slice(0, 4).join(':');
}
