/** What people are shown of the queue, and what they may ask of it: the command line and the pages use these words. */
import type { Envelope, EnvelopeRecipient } from './message.ts';
import type { ReasonCode } from './reasons.ts';

/** `delivering`: an attempt is running; `held`: an operator stopped it; `waiting`: for its next attempt. */
export type QueueState = 'waiting' | 'held' | 'delivering';

/** One recipient that still waits for its copy. Times in milliseconds since the epoch. */
export interface QueueEntry {
  readonly queueId: string;
  /** Reverse-path, empty for the null sender. */
  readonly sender: string;
  readonly recipient: string;
  readonly domain: string;
  readonly state: QueueState;
  /** The last thing that went wrong, `not-tried-yet` before the first attempt. */
  readonly code: ReasonCode;
  readonly status: string;
  readonly explanation: string;
  readonly host: string | null;
  readonly attempts: number;
  readonly receivedAt: number;
  /** For a held recipient: when it would be tried if it were released. */
  readonly nextAttempt: number;
  readonly expiresAt: number;
  /** Octets of the message. */
  readonly size: number;
}

/** A whole message with those of its recipients that still wait. */
export interface QueuedMessage {
  readonly queueId: string;
  readonly client: string;
  readonly receivedAt: number;
  readonly expiresAt: number;
  readonly size: number;
  readonly envelope: Omit<Envelope, 'recipients'>;
  readonly recipients: readonly (QueueEntry & Pick<EnvelopeRecipient, 'notify' | 'orcpt'>)[];
}

/** Everything that is given must hold; an empty filter means every recipient in the queue. */
export interface QueueFilter {
  /** Queue ids, any of them. */
  readonly ids?: readonly string[];
  /** Recipient domain in canonical form, or a literal. */
  readonly domain?: string;
  /** Recipient address; upper and lower case are one. */
  readonly recipient?: string;
  readonly code?: ReasonCode;
}

/** How many recipients an operator's request reached. */
export interface Moved {
  readonly changed: number;
  /** Left alone, because an attempt is running for them. */
  readonly delivering: number;
  /** Left alone, because they are held. */
  readonly held: number;
}

/** The queue as an operator handles it. `now` in milliseconds since the epoch. */
export interface QueueDesk {
  /** How many recipients are in each state, for metrics: of a long queue while it changes, about how many. */
  readonly count: (now: number) => Promise<Readonly<Record<QueueState, number>>>;
  /** Oldest message first. */
  readonly list: (filter: QueueFilter, now: number) => Promise<readonly QueueEntry[]>;
  /** Null when no recipient of that message waits any more. */
  readonly show: (queueId: string, now: number) => Promise<QueuedMessage | null>;
  /** Makes waiting recipients due now, whatever is known against their destination. Held ones stay held. */
  readonly retry: (filter: QueueFilter, now: number) => Promise<Moved>;
  /** Stops further attempts. One that is running goes on; what it leaves behind is held. */
  readonly hold: (filter: QueueFilter, now: number) => Promise<Moved>;
  /** Undoes `hold`; the schedule goes on where it was. */
  readonly release: (filter: QueueFilter, now: number) => Promise<Moved>;
  /** Removes recipients for good, without telling the sender. Those being delivered are left alone. */
  readonly drop: (filter: QueueFilter, now: number) => Promise<Moved>;
  readonly close: () => Promise<void>;
}
