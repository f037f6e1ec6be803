/**
 * The life of a message on disk, and the contract that every store keeps. The states come first; the code follows them.
 *
 *   state       on disk                               after a crash                   who moves it on
 *   none        nothing, or a file that the caller    the caller's own business:      receive: accept()
 *               still owns                            it has promised nobody anything
 *   placed      body file under bodies/, no row       recover() deletes the file      accept(): commits or moves it back
 *   waiting     message, body, recipients             tried when due                  worker: claim(); operator: hold, drop
 *   held        the same, recipients marked held      still held                      operator: release, drop
 *   delivering  the same, recipients under a lease    tried again: at once when the   worker: settle(); recover(); another
 *                                                     same owner starts again, else   owner's claim() after the lease,
 *                                                     when the lease has run out      where this owner is dead
 *   settled     no rows; a body file may remain       recover() deletes the file      settle(): after its commit
 *
 * A recipient has the state; a message has its recipients and goes with the last of them. `waiting` begins with one
 * durable commit, and the client hears 250 after that and never before (RFC 5321 §6.1). A message that somebody can go to
 * work on at once begins as `delivering` in that same commit. Every other line is one commit too: recipients leave in the same commit that brings their bounce, so neither is lost and neither is doubled. At
 * worst a recipient gets a message twice: after a crash in `delivering` nobody can know whether the host had said 250.
 */
import type { Batch, NewMessage, StoredBody } from '../model/message.ts';
import type { QueueDesk } from '../model/queue.ts';
import type { ReasonCode } from '../model/reasons.ts';

/** A message and how long it may wait. */
export interface Admission {
  readonly message: NewMessage;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

export interface ClaimRequest {
  /** Who will do the work. Unique among the relay nodes of a store, and the same after a restart. */
  readonly owner: string;
  readonly now: number;
  readonly leaseMs: number;
  /** Batches at most. */
  readonly limit: number;
  /** Of them, batches at most that were tried or put off before. */
  readonly limitAgain: number;
  /** Batches at most for one domain, those in `taken` included. */
  readonly perDomain: number;
  /** Batches that the caller already works on, by domain. */
  readonly taken: ReadonlyMap<string, number>;
}

/** For who goes to work on a message as soon as it is stored. */
export interface TakeTerms {
  /** As in a `ClaimRequest`. */
  readonly owner: string;
  readonly now: number;
  /** Until when the leases hold, in milliseconds since the epoch. */
  readonly until: number;
}

/** What a claim would find. */
export interface Outlook {
  /**
   * Domains with new mail that is due and then those with mail that was tried before, the longest waiting first; no more
   * than were asked for. One with both may be named twice.
   */
  readonly due: readonly string[];
  /** The first moment after now at which a recipient becomes due; null when there is none. */
  readonly next: number | null;
}

/** A batch that is ours until the lease runs out or is settled. */
export interface Claim {
  readonly batch: Batch;
  /** Names this very claim; never used twice. */
  readonly lease: string;
  /** When an operator last asked for an attempt (`queue retry`); null when nobody did since the last one. */
  readonly askedAt: number | null;
}

/** What an attempt changes for one recipient. */
export type Settlement =
  /** Delivered or given up: nothing more is owed. */
  | { readonly kind: 'leaves'; readonly recipientId: number }
  | {
      readonly kind: 'waits';
      readonly recipientId: number;
      /** False when it was put off without an attempt, which is then not counted. */
      readonly tried: boolean;
      readonly nextAttempt: number;
      readonly code: ReasonCode;
      readonly status: string;
      readonly explanation: string;
      readonly host: string | null;
      readonly delayNoticeSent: boolean;
    };

/** What was left behind by a crash and is now put right. */
export interface Recovered {
  /** Claims of this owner that had not been settled. */
  readonly leases: number;
  /** Body files that belong to no message. */
  readonly orphans: number;
}

/** Whether mail can be taken in now. */
export interface StoreHealth {
  /** Octets that new mail may take; below zero when the room that is kept for mail that leaves is touched already. */
  readonly room: number;
  /** Why nothing can be accepted, in one clause; null when only `room` counts. */
  readonly fault: string | null;
}

export interface Store extends QueueDesk {
  /**
   * Resolves only after a durable commit. A body of kind `file` was written and fsynced by the caller on the same file
   * system; the store moves it to its own folder. After a rejection the message is not in the queue and the caller
   * still owns its file. With `take` the message goes from nothing to `delivering` in that commit, and its claims are
   * handed back, one for each domain for which no other new mail waits that is due; all else waits.
   *
   * @throws StoreFull when there is no room; StoreError for everything else
   */
  readonly accept: (
    message: NewMessage,
    terms: { readonly expiresAt: number; readonly take?: TakeTerms },
  ) => Promise<readonly Claim[]>;

  /**
   * Takes due batches under a lease: the recipients of one message and one domain that are due together. New mail gets
   * every other turn and what was tried before the others, and within each domains take turns: neither a long queue for
   * one of them nor one for all of them holds up what is new. Leases of other owners that have run out are taken over when
   * their owner is dead; one that lives, as the caller, ends its own by `settle` or `recover` alone, so that neither a clock
   * that leaps nor a disk that takes nothing for a while can make two of them do the same work.
   */
  readonly claim: (request: ClaimRequest) => Promise<readonly Claim[]>;

  /**
   * Ends a claim in one durable commit: recipients leave or wait, notices are accepted, the message goes with its last
   * recipient. `lost`: the lease is not ours any more and nothing was changed.
   */
  readonly settle: (
    lease: string,
    settlements: readonly Settlement[],
    notices: readonly Admission[],
  ) => Promise<'settled' | 'lost'>;

  /**
   * Ends claims that nothing was done with: their recipients wait as before. Those that are lost stay lost.
   *
   * @param notBefore  when their domains are served again at the earliest, unless something new comes for them
   */
  readonly giveBack: (leases: readonly string[], notBefore: number) => Promise<void>;

  /** Leases that are lost already stay lost. */
  readonly extendLeases: (leases: readonly string[], until: number) => Promise<void>;

  /**
   * The octets of a message as they were accepted. Rejects when it is gone or its body is not whole; where octets have
   * changed on the disk, a stream breaks off with a StoreError at the latest where its end would be.
   */
  readonly openBody: (messageId: string) => Promise<StoredBody>;
  /** The first octets of a message. */
  readonly readHead: (messageId: string, maxBytes: number) => Promise<Buffer>;

  /** @param most  domains to be named */
  readonly outlook: (now: number, most: number) => Promise<Outlook>;

  /**
   * Called once by a relay node before it works: takes back the leases of this owner and of its workers (`owner/1`, …)
   * and deletes body files without a message.
   *
   * @throws StoreError when a process that runs has the name of one of them
   */
  readonly recover: (owner: string) => Promise<Recovered>;

  /**
   * Called once by a worker that joins others before it works: takes back its own leases and nothing else.
   *
   * @throws StoreError when a process that runs has the same owner name
   */
  readonly join: (owner: string) => Promise<Recovered>;

  /**
   * Takes back the leases of another owner that has died: its mail is due at once.
   *
   * @throws StoreError when it has not
   */
  readonly takeOver: (owner: string) => Promise<Recovered>;

  /** Finds out by writing. Rejects only when the store cannot be asked at all. */
  readonly health: () => Promise<StoreHealth>;
}

/** Something that the store could not do. Nothing was changed. */
export class StoreError extends Error {
  override readonly name: string = 'StoreError';
}

/** There is no room: SMTP answers 452 4.3.1. */
export class StoreFull extends StoreError {
  override readonly name = 'StoreFull';
}

/** There is no queue here, and none was to be made. */
export class StoreMissing extends StoreError {
  override readonly name = 'StoreMissing';
}
