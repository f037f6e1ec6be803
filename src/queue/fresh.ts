/**
 * Messages that were just accepted and are still in memory: they are delivered from there, and nothing of them is read
 * back. What waits here for its turn is under our lease already; how much that is, is bounded.
 */
import type { NewMessage } from '../model/message.ts';
import { domainOf } from '../shared/domain-name.ts';
import type { Claim } from './store.ts';

export interface Fresh {
  /**
   * Makes room for a message that is about to be accepted; false when there is none. Whoever got it must `enter` or
   * `cancel`.
   *
   * @param mostFor  messages for one domain in memory, at most
   */
  readonly reserve: (message: NewMessage, mostFor: (domain: string) => number) => boolean;
  readonly cancel: (message: NewMessage) => void;
  /** Keeps the octets of an accepted message until the last of its claims is `done`. */
  readonly enter: (message: NewMessage, claims: readonly Claim[]) => void;
  readonly done: (claim: Claim) => void;
  /** Octets of a message that are in memory, in blocks; null when they are not. */
  readonly octetsOf: (messageId: string) => readonly Buffer[] | null;

  /** Lets a claim wait for its turn. */
  readonly queue: (claim: Claim) => void;
  /** Domains whose claims wait, the longest waiting first. */
  readonly domains: () => Iterable<string>;
  readonly first: (domain: string) => Claim | null;
  /** Takes the first claim of a domain; the others of the domain come after those of other domains. */
  readonly shift: (domain: string) => void;
  readonly waiting: () => Iterable<Claim>;
}

/** Messages from memory at the same time, at most. */
const MESSAGES = 1_000;
/** Their octets. */
const OCTETS = 16 * 1024 * 1024;

export function createFresh(): Fresh {
  const bodies = new Map<
    string,
    { readonly blocks: readonly Buffer[] | null; readonly size: number; claims: number }
  >();
  const queues = new Map<string, Claim[]>();
  /** Messages on their way in whose octets stay in their file alone. */
  const unkept = new Set<string>();
  /** Messages in memory, by domain. */
  const held = new Map<string, number>();
  let messages = 0;
  let octets = 0;

  const release = (domain: string): void => {
    const others = (held.get(domain) ?? 1) - 1;
    if (others > 0) held.set(domain, others);
    else held.delete(domain);
  };

  const free = (size: number): void => {
    messages--;
    octets -= size;
  };

  return {
    reserve(message, mostFor) {
      const size = sizeOf(message);
      const domains = domainsOf(message);
      // What is in a file is not needed in memory.
      const fits = octets + size <= OCTETS;
      if (messages >= MESSAGES || (!fits && message.body.kind === 'memory')) return false;
      if (domains.some((domain) => (held.get(domain) ?? 0) >= mostFor(domain))) return false;
      messages++;
      if (fits) octets += size;
      else unkept.add(message.id);
      for (const domain of domains) held.set(domain, (held.get(domain) ?? 0) + 1);
      return true;
    },
    cancel(message) {
      free(unkept.delete(message.id) ? 0 : sizeOf(message));
      for (const domain of domainsOf(message)) release(domain);
    },
    enter(message, claims) {
      const blocks = unkept.delete(message.id) ? null : blocksOf(message);
      bodies.set(message.id, { blocks, size: blocks ? sizeOf(message) : 0, claims: claims.length });
    },
    done({ batch: { messageId, domain } }) {
      const entry = bodies.get(messageId);
      if (!entry) return;
      release(domain);
      if (--entry.claims > 0) return;
      bodies.delete(messageId);
      free(entry.size);
    },
    octetsOf: (messageId) => bodies.get(messageId)?.blocks ?? null,

    queue(claim) {
      const { domain } = claim.batch;
      const claims = queues.get(domain);
      if (claims) claims.push(claim);
      else queues.set(domain, [claim]);
    },
    domains: () => queues.keys(),
    first: (domain) => queues.get(domain)?.[0] ?? null,
    shift(domain) {
      const claims = queues.get(domain) ?? [];
      claims.shift();
      queues.delete(domain);
      if (claims.length > 0) queues.set(domain, claims);
    },
    *waiting() {
      for (const claims of queues.values()) yield* claims;
    },
  };
}

function domainsOf({ envelope }: NewMessage): readonly string[] {
  return [...new Set(envelope.recipients.map(({ address }) => domainOf(address)))];
}

function sizeOf(message: NewMessage): number {
  return blocksOf(message)?.reduce((sum, block) => sum + block.length, 0) ?? 0;
}

function blocksOf({ body }: NewMessage): readonly Buffer[] | null {
  return body.kind === 'memory' ? [body.bytes] : (body.blocks ?? null);
}
