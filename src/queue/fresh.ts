/**
 * Messages that were just accepted and are at hand still, small ones in memory and large ones in a file that is open:
 * they are delivered from there, and the store is not asked for them. What waits here for its turn is under our lease
 * already; how much that is, is bounded.
 */
import type { NewMessage } from '../model/message.ts';
import { domainOf } from '../shared/domain-name.ts';
import type { HeldFile } from '../shared/held-file.ts';
import type { Claim } from './store.ts';

/** The octets of a message, or its file. */
export type AtHand = Buffer | HeldFile;

export interface Fresh {
  /**
   * Makes room for a message that is about to be accepted; false when there is none. Whoever got it must `enter` or
   * `cancel`.
   *
   * @param mostFor  messages for one domain in memory, at most
   */
  readonly reserve: (message: NewMessage, mostFor: (domain: string) => number) => boolean;
  readonly cancel: (message: NewMessage) => void;
  /**
   * Keeps the octets of an accepted message, or its file open, until the last of its claims is `done`.
   *
   * @returns domains for which there is no claim: the message has to be claimed for them later
   */
  readonly enter: (message: NewMessage, claims: readonly Claim[]) => readonly string[];
  /**
   * For a claim of the store. True when its message is at hand still, for another destination: then it stays so until
   * this claim is `done` as well.
   */
  readonly join: (claim: Claim) => boolean;
  readonly done: (claim: Claim) => void;
  /** What is at hand of a message; null when the store has to be asked. */
  readonly octetsOf: (messageId: string) => AtHand | null;

  /** Lets a claim wait for its turn. */
  readonly queue: (claim: Claim) => void;
  /** Domains whose claims wait, the longest waiting first; one that is shifted meanwhile comes once more. */
  readonly domains: () => Iterable<string>;
  readonly first: (domain: string) => Claim | null;
  /** Takes the first claim of a domain; the others of the domain come after those of other domains. */
  readonly shift: (domain: string) => void;
  readonly waiting: () => Iterable<Claim>;
}

/** Messages from memory at the same time, at most. */
const MESSAGES = 1_000;
/** Their destinations, each message's counted: so many claims are looked through, and kept alive. */
const CLAIMS = 2_000;
/** Their octets in memory. */
const OCTETS = 16 * 1024 * 1024;
/** Their files that are open. */
const FILES = 200;

export function createFresh(): Fresh {
  const bodies = new Map<string, { readonly octets: AtHand | null; claims: number }>();
  const queues = new Map<string, Claim[]>();
  /** Messages on their way in for whose files there was no place. */
  const unheld = new Set<string>();
  /** Messages in memory, by domain. */
  const held = new Map<string, number>();
  let messages = 0;
  let claimed = 0;
  let octets = 0;
  let files = 0;

  const hold = (domain: string): void => {
    held.set(domain, (held.get(domain) ?? 0) + 1);
    claimed++;
  };
  const release = (domain: string): void => {
    claimed--;
    const others = (held.get(domain) ?? 1) - 1;
    if (others > 0) held.set(domain, others);
    else held.delete(domain);
  };

  /** Counts what is at hand in, or out again. */
  const count = (atHand: AtHand | null, by: 1 | -1): void => {
    if (Buffer.isBuffer(atHand)) octets += by * atHand.length;
    else if (atHand) files += by;
  };

  const cancel = (message: NewMessage): void => {
    messages--;
    if (!unheld.delete(message.id)) count(atHandOf(message), -1);
    for (const domain of domainsOf(message)) release(domain);
  };

  return {
    reserve(message, mostFor) {
      const atHand = atHandOf(message);
      const domains = domainsOf(message);
      if (messages >= MESSAGES || (Buffer.isBuffer(atHand) && octets + atHand.length > OCTETS)) return false;
      if (claimed + domains.length > CLAIMS) return false;
      if (domains.some((domain) => (held.get(domain) ?? 0) >= mostFor(domain))) return false;
      messages++;
      if (files >= FILES && !Buffer.isBuffer(atHand)) unheld.add(message.id);
      else count(atHand, 1);
      for (const domain of domains) hold(domain);
      return true;
    },
    cancel,
    enter(message, claims) {
      const domains = domainsOf(message);
      if (claims.length === 0) {
        cancel(message);
        return domains;
      }
      const ours = new Set(claims.map(({ batch }) => batch.domain));
      const others = domains.filter((domain) => !ours.has(domain));
      for (const domain of others) release(domain);
      const atHand = unheld.delete(message.id) ? null : atHandOf(message);
      if (atHand && !Buffer.isBuffer(atHand)) atHand.hold();
      bodies.set(message.id, { octets: atHand, claims: claims.length });
      return others;
    },
    join({ batch: { messageId, domain } }) {
      const entry = bodies.get(messageId);
      if (!entry) return false;
      entry.claims++;
      hold(domain);
      return true;
    },
    done({ batch: { messageId, domain } }) {
      const entry = bodies.get(messageId);
      if (!entry) return;
      release(domain);
      if (--entry.claims > 0) return;
      bodies.delete(messageId);
      messages--;
      count(entry.octets, -1);
      if (entry.octets && !Buffer.isBuffer(entry.octets)) entry.octets.release();
    },
    octetsOf: (messageId) => bodies.get(messageId)?.octets ?? null,

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

/** Recipient domains, each once. */
export function domainsOf({ envelope }: NewMessage): readonly string[] {
  return [...new Set(envelope.recipients.map(({ address }) => domainOf(address)))];
}

function atHandOf({ body }: NewMessage): AtHand | null {
  return body.kind === 'memory' ? body.bytes : (body.file ?? null);
}
