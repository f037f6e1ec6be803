/**
 * What the SQLite store does, statement by statement. Everything here is synchronous and runs inside a transaction that
 * sqlite-engine.ts begins and commits; what cannot be rolled back by SQLite is entered in `deeds`.
 */
import { createHash, hash } from 'node:crypto';
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import type Database from 'better-sqlite3';
import type { NewMessage } from '../model/message.ts';
import type { Moved, QueuedMessage, QueueEntry, QueueFilter, QueueState } from '../model/queue.ts';
import { domainOf } from '../shared/domain-name.ts';
import type { BodyFiles } from './body-files.ts';
import type { Deeds } from './deeds.ts';
import { AGAIN, type Again, alternately, createLanes, type Lane, NEW, WAITING } from './lanes.ts';
import {
  BATCH_COLUMNS,
  type BatchRow,
  batchFrom,
  ENTRY_COLUMNS,
  type EntryRow,
  entryFrom,
  shownFrom,
  type Taken,
} from './rows.ts';
import {
  type Admission,
  type Claim,
  type ClaimRequest,
  type Outlook,
  type Settlement,
  StoreError,
  StoreFull,
  type TakeTerms,
} from './store.ts';

/** Bodies up to this size live in the database: 256 KiB. */
const LARGEST_IN_DATABASE = 256 * 1024;

/** Where the octets of a message are. */
export type BodyPlace =
  | { readonly kind: 'database'; readonly octets: Uint8Array }
  | {
      readonly kind: 'file';
      readonly path: string;
      readonly octets: number;
      /** Null for mail of an earlier release. */
      readonly sha256: Uint8Array | null;
    };

export type Action = 'retry' | 'hold' | 'release' | 'drop';

/** A part of what an operator asked for: the recipients with these row numbers. */
export interface Slice {
  /** Beyond this one. */
  readonly after: number;
  /** This one at most; null, in the first slice, for the last there is now. */
  readonly upTo: number | null;
}

export interface MovedSlice {
  readonly moved: Moved;
  /** What is left to do; null when that was all. */
  readonly rest: Slice | null;
}

/** Recipients changed in one slice, and those looked at: some 10 ms in which nobody else can write. */
const SLICE = 100;
const LOOKED_AT = 4_000;
/** Recipients counted at once: some milliseconds. */
const COUNTED = 10_000;

export interface Operations {
  readonly accept: (message: NewMessage, expiresAt: number, take: TakeTerms | null) => readonly Taken[];
  /** Whether a claim could find anything: asked first, so that an idle relay does not write. */
  readonly anythingDue: (request: ClaimRequest) => boolean;
  readonly claim: (request: ClaimRequest) => readonly Claim[];
  readonly settle: (
    lease: string,
    settlements: readonly Settlement[],
    notices: readonly Admission[],
  ) => 'settled' | 'lost';
  readonly giveBack: (leases: readonly string[], notBefore: number) => void;
  readonly extendLeases: (leases: readonly string[], until: number) => void;
  readonly move: (action: Action, filter: QueueFilter, now: number, slice: Slice) => MovedSlice;
  /** Leases of this owner that came after `lease`. */
  readonly takeBack: (owner: string, lease: number) => number;
  readonly isKnown: (messageId: string) => boolean;
  readonly outlook: (now: number, most: number) => Outlook;
  /** Counts those beyond row `after` that nobody works on; a long queue is counted in several goes. */
  readonly countUnleased: (after: number) => {
    readonly waiting: number;
    readonly held: number;
    /** The last row that was counted; null when there was none. */
    readonly last: number | null;
  };
  /** Those under a lease. Where it has run out they wait, or are held. */
  readonly countLeased: (now: number) => Readonly<Record<QueueState, number>>;
  readonly list: (filter: QueueFilter, now: number) => readonly QueueEntry[];
  readonly show: (messageId: string, now: number) => QueuedMessage | null;
  /** @param maxBytes  octets from the start that are wanted, null for all */
  readonly body: (messageId: string, maxBytes: number | null) => BodyPlace;
}

/** A clock that goes back by less than this is being adjusted, in milliseconds. */
const ADJUSTMENT_MS = 60_000;

/**
 * @param room   octets that new mail may take, as `roomOn` says
 * @param lives  whether a process that runs works under this name, or might
 */
export function createOperations(
  db: Database.Database,
  files: BodyFiles,
  deeds: Deeds,
  room: () => number,
  lives: (owner: string) => boolean,
): Operations {
  const lanes = createLanes(db);
  const insertMessage = db.prepare(
    `INSERT INTO message (id, received_at, expires_at, client, sender, smtputf8, body_type, ret, envid, size, eight_bit,
     utf8_header, body_octets, body_in_file, body_sha256, tls) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const insertBody = db.prepare('INSERT INTO body (message, octets) VALUES (?, ?)');
  const insertRecipient = db.prepare(
    'INSERT INTO recipient (message, address, domain, notify, orcpt, next_attempt, lease) VALUES (?, ?, ?, ?, ?, ?, ?)',
  );
  const newest = db.prepare<[], { received_at: number }>('SELECT received_at FROM message ORDER BY seq DESC LIMIT 1');
  const recipientsEarlier = db.prepare('UPDATE recipient SET next_attempt = next_attempt - ?');
  const overdue = db.prepare<[number, string], { id: number; owner: string }>(
    'SELECT id, owner FROM lease WHERE until <= ? AND owner <> ?',
  );
  // The index is named, because SQLite would rather look through all messages that wait for the domain.
  const take = db.prepare(
    `UPDATE recipient INDEXED BY recipient_of_message SET lease = ? WHERE message = ? AND domain = ? AND ${WAITING} AND next_attempt <= ?`,
  );
  const leasedRows = db.prepare<[number], BatchRow>(
    `SELECT ${BATCH_COLUMNS} FROM recipient r JOIN message m ON m.seq = r.message WHERE r.lease = ? ORDER BY r.id`,
  );
  const insertLease = db.prepare('INSERT INTO lease (owner, until) VALUES (?, ?)');
  const extendLease = db.prepare('UPDATE lease SET until = ? WHERE id = ?');
  const deleteLease = db.prepare('DELETE FROM lease WHERE id = ?');
  const leasesOf = db.prepare<[string, number], { id: number }>('SELECT id FROM lease WHERE owner = ? AND id > ?');
  const leased = db.prepare<[number], Lane & { id: number; message: number; held: number }>(
    'SELECT id, message, domain, again, held FROM recipient WHERE lease = ?',
  );
  const freeLeased = db.prepare('UPDATE recipient SET lease = NULL WHERE lease = ?');
  const wait = db.prepare(
    `UPDATE recipient SET lease = NULL, attempts = attempts + ?, asked_at = NULL, next_attempt = ?, code = ?, status = ?,
     explanation = ?, host = ?, delay_notice_sent = ? WHERE id = ?`,
  );
  const deleteRecipient = db.prepare('DELETE FROM recipient WHERE id = ?');
  const anyRecipient = db.prepare('SELECT 1 FROM recipient WHERE message = ? LIMIT 1');
  const messageBySeq = db.prepare<[number], { id: string; body_in_file: number }>(
    'SELECT id, body_in_file FROM message WHERE seq = ?',
  );
  const messageById = db.prepare<[string], BodyRow>(
    'SELECT seq, body_octets, body_in_file, body_sha256 FROM message WHERE id = ?',
  );
  const deleteBody = db.prepare('DELETE FROM body WHERE message = ?');
  const deleteMessage = db.prepare('DELETE FROM message WHERE seq = ?');
  const selectBody = db.prepare<[number], { octets: Buffer }>('SELECT octets FROM body WHERE message = ?');
  const selectHead = db.prepare<[number, number], { octets: Buffer }>(
    "SELECT coalesce(substr(octets, 1, ?), x'') AS octets FROM body WHERE message = ?",
  );
  const countUnleased = db.prepare<[number], { waiting: number; held: number; last: number | null }>(
    `SELECT count(*) FILTER (WHERE ${WAITING}) AS waiting, count(*) FILTER (WHERE held = 1 AND lease IS NULL) AS held,
     max(id) AS last FROM (SELECT id, held, lease FROM recipient WHERE id > ? ORDER BY id LIMIT ${COUNTED})`,
  );
  const countLeased = db.prepare<[{ now: number }], Readonly<Record<QueueState, number>>>(
    `SELECT count(*) FILTER (WHERE l.until > @now) AS delivering, count(*) FILTER (WHERE l.until <= @now AND r.held = 0) AS waiting,
     count(*) FILTER (WHERE l.until <= @now AND r.held = 1) AS held
     FROM lease l JOIN recipient r INDEXED BY recipient_leased ON r.lease = l.id`,
  );
  const lastRecipient = db.prepare<[], { id: number | null }>('SELECT max(id) AS id FROM recipient');
  const lastLookedAt = db.prepare<[number, number], { id: number | null }>(
    `SELECT max(id) AS id FROM (SELECT id FROM recipient WHERE id > ? AND id <= ? ORDER BY id LIMIT ${LOOKED_AT})`,
  );
  const setDue = db.prepare('UPDATE recipient SET next_attempt = ?, asked_at = ? WHERE id = ?');
  const setHeld = db.prepare('UPDATE recipient SET held = ? WHERE id = ?');

  const refuseWhenShort = ({ body }: NewMessage): void => {
    const octets = room();
    if (octets >= (body.kind === 'memory' ? body.bytes.length : 0)) return;
    throw new StoreFull(
      `the disk is nearly full: ${octets > 0 ? `${String(octets)} octets are left for new mail` : 'what is left is kept for delivery'}`,
    );
  };

  const store = (message: NewMessage, expiresAt: number, take: TakeTerms | null): readonly Taken[] => {
    const { id, envelope, content, body, receivedAt } = message;
    const octets = body.kind === 'file' ? statSync(body.path).size : body.bytes.length;
    if (envelope.recipients.length === 0) throw new StoreError('a message without recipients');
    const inFile = body.kind === 'file' || octets > LARGEST_IN_DATABASE;
    const { lastInsertRowid: seq } = insertMessage.run(
      id,
      receivedAt,
      expiresAt,
      message.client,
      envelope.sender,
      Number(envelope.smtputf8),
      envelope.body,
      envelope.ret,
      envelope.envid,
      content.size,
      Number(content.eightBit),
      Number(content.utf8Header),
      octets,
      Number(inFile),
      body.kind === 'file' ? (body.sha256 ?? digestOf(body.path)) : hash('sha256', body.bytes, 'buffer'),
      envelope.tls,
    );
    const byDomain = new Map<string, { lease: number | null; ids: number[] }>();
    for (const { address, notify, orcpt } of envelope.recipients) {
      const domain = domainOf(address);
      let place = byDomain.get(domain);
      if (!place) {
        // What is new goes before what was tried already, and not before what is new as well.
        const mayTake = take && !lanes.isDue(domain, NEW, take.now);
        place = { lease: mayTake ? Number(insertLease.run(take.owner, take.until).lastInsertRowid) : null, ids: [] };
        byDomain.set(domain, place);
      }
      const row = [seq, address, domain, notify?.join(' ') ?? null, orcpt, receivedAt, place.lease];
      place.ids.push(Number(insertRecipient.run(...row).lastInsertRowid));
    }
    for (const [domain, { lease }] of byDomain) if (lease === null) lanes.dueBy(domain, NEW, receivedAt);
    // Last, since a file is harder to put back than a row; and after the id has proven to be new.
    if (body.kind === 'file') {
      files.moveIn(id, body.path);
      deeds.did({ undo: () => files.moveOut(id, body.path) });
    } else if (inFile) {
      deeds.did({ undo: () => files.remove(id) });
      files.write(id, body.bytes);
    } else {
      insertBody.run(seq, body.bytes);
    }
    return [...byDomain].flatMap(([domain, { lease, ids }]) =>
      lease === null ? [] : [{ lease: String(lease), domain, recipientIds: ids }],
    );
  };

  const dropRecipient = (id: number, message: number): void => {
    deleteRecipient.run(id);
    if (anyRecipient.get(message)) return;
    const row = messageBySeq.get(message);
    deleteBody.run(message);
    deleteMessage.run(message);
    // The row goes for good before the file does: the other way round a crash would leave a message without its body.
    if (row?.body_in_file === 1) deeds.did({ afterCommit: () => files.remove(row.id) });
  };

  const freeLease = (lease: number, notBefore = 0): void => {
    const freed = leased.all(lease);
    freeLeased.run(lease);
    deleteLease.run(lease);
    lanes.refresh(freed, notBefore);
  };

  /**
   * Leases of others that have run out under an owner who is dead. They run out under one who lives when the clock leaps, the
   * machine sleeps, or the disk takes nothing for a while: that mail may have been handed over already.
   */
  const abandoned = (now: number, owner: string): readonly number[] => {
    const alive = remembering(lives);
    return overdue.all(now, owner).flatMap((lease) => (alive(lease.owner) ? [] : [lease.id]));
  };

  /** Where there is room for one claim only, the two kinds of mail take turns. */
  let newGoesFirst = false;

  /** The latest time that the clock has shown here. */
  let latest: number | null = null;

  /** 0 for what is ordinary adjustment. */
  const clockWentBackBy = (now: number): number => {
    latest ??= newest.get()?.received_at ?? now;
    if (latest - now > ADJUSTMENT_MS) return latest - now;
    latest = Math.max(latest, now);
    return 0;
  };

  /** What was put off by a clock that was ahead must not wait until the time has caught up with it. */
  const followClock = (now: number): void => {
    const by = clockWentBackBy(now);
    if (by === 0) return;
    const before = latest;
    deeds.did({
      undo: () => {
        latest = before;
      },
    });
    recipientsEarlier.run(by);
    lanes.earlier(by);
    latest = now;
  };

  /** @param served  lanes that have to be looked at again afterwards */
  const claimOne = (lane: Lane, { owner, now, leaseMs }: ClaimRequest, served: Lane[]): Claim | null => {
    const { domain, again } = lane;
    served.push(lane);
    const next = lanes.head(lane, now);
    if (next === null) return null;
    const lease = Number(insertLease.run(owner, now + leaseMs).lastInsertRowid);
    take.run(lease, next, domain, now);
    const rows = leasedRows.all(lease);
    // Where an operator held some of them for a while, both kinds go together.
    for (const row of rows) if (row.again !== again) served.push({ domain, again: row.again });
    const asked = rows.flatMap((row) => row.asked_at ?? []);
    return {
      batch: batchFrom(rows),
      lease: String(lease),
      askedAt: asked.length === 0 ? null : asked.reduce((latest, each) => Math.max(latest, each)),
    };
  };

  const entries = (filter: QueueFilter): readonly EntryRow[] => {
    const { where, values } = whereOf(filter);
    return db
      .prepare<unknown[], EntryRow>(
        `SELECT ${ENTRY_COLUMNS} FROM message m JOIN recipient r ON r.message = m.seq LEFT JOIN lease l ON l.id = r.lease
         ${where} ORDER BY m.seq, r.id`,
      )
      .all(...values);
  };

  const sliceOf = (filter: QueueFilter, after: number, upTo: number): readonly EntryRow[] => {
    const { where, values } = whereOf(filter);
    return db
      .prepare<unknown[], EntryRow>(
        `SELECT ${ENTRY_COLUMNS} FROM message m JOIN recipient r ON r.message = m.seq LEFT JOIN lease l ON l.id = r.lease
         ${where === '' ? 'WHERE' : `${where} AND`} r.id > ? AND r.id <= ? ORDER BY r.id LIMIT ${SLICE}`,
      )
      .all(...values, after, upTo);
  };

  return {
    accept(message, expiresAt, take) {
      refuseWhenShort(message);
      return store(message, expiresAt, take);
    },

    anythingDue: ({ now, owner, limitAgain }) =>
      clockWentBackBy(now) > 0 ||
      lanes.anyDue(NEW, now) ||
      (limitAgain > 0 && lanes.anyDue(AGAIN, now)) ||
      abandoned(now, owner).length > 0,

    claim(request) {
      const { now, owner, limit, limitAgain, perDomain, taken } = request;
      followClock(now);
      for (const lease of abandoned(now, owner)) freeLease(lease);
      const room = new Map(taken);
      const served: Lane[] = [];
      // Each lane gets one turn after the other, as long as it has mail and its domain has room.
      const claimsFrom = function* (again: Again, most: number): Generator<Claim, undefined> {
        if (most <= 0) return;
        // Domains that have all they may have can stand in front: so many rows more may have to be looked at.
        let open = lanes.due(again, now, most + taken.size);
        for (let left = most; open.length > 0; ) {
          const more: Lane[] = [];
          for (const lane of open) {
            const used = room.get(lane.domain) ?? 0;
            const claim = used < perDomain && claimOne(lane, request, served);
            if (!claim) continue;
            room.set(lane.domain, used + 1);
            more.push(lane);
            yield claim;
            if (--left === 0) return;
          }
          open = more;
        }
      };
      newGoesFirst = !newGoesFirst;
      const lines = [claimsFrom(NEW, limit), claimsFrom(AGAIN, Math.min(limit, limitAgain))];
      const claims = alternately(newGoesFirst ? lines : lines.toReversed(), limit);
      lanes.refresh(served, now);
      return claims;
    },

    settle(lease, settlements, notices) {
      const id = Number(lease);
      const ours = new Map(leased.all(id).map((row) => [row.id, row]));
      if (ours.size === 0) return 'lost';
      if (ours.size !== settlements.length) throw new StoreError('a claim must be settled as a whole');
      // Before anything leaves, so that a notice cannot take the id of the message that it is about. Notices may use the
      // room that intake leaves: they are what the room is for.
      for (const { message, expiresAt } of notices) store(message, expiresAt, null);
      for (const settlement of settlements) {
        const row = ours.get(settlement.recipientId);
        if (!row) throw new StoreError('a recipient that is not in the claim');
        if (settlement.kind === 'leaves') {
          dropRecipient(row.id, row.message);
          continue;
        }
        const { tried, nextAttempt, code, status, explanation, host, delayNoticeSent } = settlement;
        wait.run(Number(tried), nextAttempt, code, status, explanation, host, Number(delayNoticeSent), row.id);
        if (row.held === 0) lanes.dueBy(row.domain, AGAIN, nextAttempt);
      }
      deleteLease.run(id);
      return 'settled';
    },

    giveBack(leases, notBefore) {
      for (const lease of leases) freeLease(Number(lease), notBefore);
    },

    extendLeases(leases, until) {
      for (const lease of leases) extendLease.run(until, Number(lease));
    },

    move(action, filter, now, { after, upTo }) {
      const last = upTo ?? lastRecipient.get()?.id ?? 0;
      // Messages are found by their ids; for all else rows are looked through, not too many at once.
      const seen = filter.ids ? last : (lastLookedAt.get(after, last)?.id ?? last);
      const rows = sliceOf(filter, after, seen);
      const moved = { changed: 0, delivering: 0, held: 0 };
      const touched: Lane[] = [];
      const alive = remembering(lives);
      for (const row of rows) {
        const delivering = row.until !== null && (row.until > now || (row.owner !== null && alive(row.owner)));
        if (delivering && (action === 'retry' || action === 'drop')) {
          moved.delivering++;
          continue;
        }
        if (action === 'retry' && row.held === 1) {
          moved.held++;
          continue;
        }
        if (row.lease !== null && !delivering) freeLease(row.lease);
        if (action === 'drop') dropRecipient(row.recipient_id, row.message);
        else if (action === 'retry') setDue.run(now, now, row.recipient_id);
        else setHeld.run(Number(action === 'hold'), row.recipient_id);
        touched.push({ domain: row.domain, again: row.code === null ? NEW : AGAIN });
        moved.changed++;
      }
      lanes.refresh(touched);
      const end = rows.length < SLICE ? seen : (rows.at(-1)?.recipient_id ?? seen);
      return { moved, rest: end < last ? { after: end, upTo: last } : null };
    },

    takeBack(owner, lease) {
      const leases = leasesOf.all(owner, lease);
      for (const { id } of leases) freeLease(id);
      return leases.length;
    },

    isKnown: (messageId) => messageById.get(messageId)?.body_in_file === 1,

    outlook(now, most) {
      const fresh = lanes.due(NEW, now, most);
      const due = [...fresh, ...lanes.due(AGAIN, now, most - fresh.length)].map(({ domain }) => domain);
      return { due, next: lanes.next(now) };
    },

    countUnleased: (after) => countUnleased.get(after) ?? { waiting: 0, held: 0, last: null },

    countLeased: (now) => countLeased.get({ now }) ?? { waiting: 0, held: 0, delivering: 0 },

    list: (filter, now) => entries(filter).map((row) => entryFrom(row, now)),

    show: (messageId, now) => shownFrom(entries({ ids: [messageId] }), now),

    body(messageId, maxBytes) {
      const message = messageById.get(messageId);
      if (!message) throw new StoreError(`message ${messageId} is not in the queue`);
      const { seq, body_octets, body_sha256: sha256 } = message;
      if (message.body_in_file === 1) {
        return { kind: 'file', path: files.pathOf(messageId), octets: body_octets, sha256 };
      }
      const octets = (maxBytes === null ? selectBody.get(seq) : selectHead.get(maxBytes, seq))?.octets;
      const wanted = maxBytes === null ? body_octets : Math.min(maxBytes, body_octets);
      if (octets?.length !== wanted) throw new StoreError(`the body of message ${messageId} is not whole`);
      if (maxBytes === null && sha256 !== null && !hash('sha256', octets, 'buffer').equals(sha256)) {
        throw new StoreError(`the body of message ${messageId} has changed on the disk`);
      }
      return { kind: 'database', octets };
    },
  };
}

/** Finds out once for each owner. */
function remembering(lives: (owner: string) => boolean): (owner: string) => boolean {
  const known = new Map<string, boolean>();
  return (owner) => {
    const answer = known.get(owner) ?? lives(owner);
    known.set(owner, answer);
    return answer;
  };
}

interface BodyRow {
  readonly seq: number;
  readonly body_octets: number;
  readonly body_in_file: number;
  readonly body_sha256: Buffer | null;
}

function digestOf(path: string): Buffer {
  const digest = createHash('sha256');
  const chunk = Buffer.alloc(64 * 1024);
  const file = openSync(path, 'r');
  try {
    for (let octets = readSync(file, chunk); octets > 0; octets = readSync(file, chunk)) {
      digest.update(chunk.subarray(0, octets));
    }
  } finally {
    closeSync(file);
  }
  return digest.digest();
}

function whereOf({ ids, domain, recipient, code }: QueueFilter): { where: string; values: readonly string[] } {
  const terms: (readonly [string, string])[] = [];
  if (ids) terms.push(['m.id IN (SELECT value FROM json_each(?))', JSON.stringify(ids)]);
  if (domain !== undefined) terms.push(['r.domain = ?', domain]);
  if (recipient !== undefined) terms.push(['r.address = ? COLLATE NOCASE', recipient]);
  if (code !== undefined) terms.push(["coalesce(r.code, 'not-tried-yet') = ?", code]);
  const where = terms.length === 0 ? '' : `WHERE ${terms.map(([term]) => term).join(' AND ')}`;
  return { where, values: terms.map(([, value]) => value) };
}
