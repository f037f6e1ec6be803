/**
 * A queue with as many waiting messages as wanted, written straight into the schema that the storage engine has made: the
 * rows are those that an acceptance leaves, only that a thousand are made by one statement and no commit waits for the disk.
 */
import { createHash } from 'node:crypto';
import { openEngine } from '../../src/queue/sqlite-engine.ts';

export interface Pile {
  /** State folder of a relay that does not run. */
  readonly folder: string;
  readonly messages: number;
  /** Distinct recipient domains, spread over so many zones: `d0.pile0.test`, `d1.pile1.test` … */
  readonly domains: number;
  readonly zones: number;
  /** So that several piles can stand in one queue. */
  readonly name: string;
  /** When all of them are next tried, and when they are given up, in milliseconds since the epoch. */
  readonly nextAttempt: number;
  readonly expiresAt: number;
  /** Who hears of it when it is given up; nobody for the null sender. */
  readonly sender: string;
}

/** The rows of a pile in the table of recipients, first and last. */
export interface Rows {
  readonly first: number;
  readonly last: number;
}

const AT_ONCE = 10_000;
const CONTENT = Buffer.from(`Subject: waits\r\n\r\n${'An ordinary line of an ordinary letter.\r\n'.repeat(24)}`);

const DOMAIN = "'d' || (i % @domains) || '.' || @name || (i % @domains % @zones) || '.test'";
const NUMBERS = 'WITH RECURSIVE n (i) AS (SELECT @from UNION ALL SELECT i + 1 FROM n WHERE i + 1 < @to)';

/** @throws StoreError when the queue cannot be written */
export function fill(pile: Pile): Rows {
  const { db, close } = openEngine({ folder: pile.folder, mode: 'relay', reserveBytes: null });
  try {
    db.pragma('synchronous = OFF');
    const last = (table: string, column: string): number =>
      Number(db.prepare(`SELECT coalesce(max(${column}), 0) FROM ${table}`).pluck().get());
    const [seq, id] = [last('message', 'seq'), last('recipient', 'id')];
    const { messages, name, nextAttempt, expiresAt, sender } = pile;
    // As integers: a number of JavaScript would make `d5.0` of `d5`.
    const [domains, zones] = [BigInt(pile.domains), BigInt(pile.zones)];
    const values = { seq, id, domains, zones, name, nextAttempt, expiresAt, sender, receivedAt: Date.now() };
    const content = { octets: CONTENT, size: CONTENT.length, sha256: createHash('sha256').update(CONTENT).digest() };
    const rows = [
      `${NUMBERS} INSERT INTO message (seq, id, received_at, expires_at, client, sender, smtputf8, body_type, size, eight_bit,
       utf8_header, body_octets, body_in_file, body_sha256)
       SELECT @seq + i + 1, @name || i, @receivedAt, @expiresAt, 'loader', @sender, 0, '7bit', @size, 0, 0, @size, 0, @sha256
       FROM n`,
      `${NUMBERS} INSERT INTO body SELECT @seq + i + 1, @octets FROM n`,
      `${NUMBERS} INSERT INTO recipient (id, message, address, domain, next_attempt)
       SELECT @id + i + 1, @seq + i + 1, 'someone@' || ${DOMAIN}, ${DOMAIN}, @nextAttempt FROM n`,
      `${NUMBERS} INSERT INTO lane SELECT ${DOMAIN}, 0, @nextAttempt FROM n WHERE i < @domains`,
    ].map((sql) => db.prepare(sql));
    const write = db.transaction((from: number, to: number) => {
      for (const row of rows) row.run({ ...values, ...content, from: BigInt(from), to: BigInt(to) });
    });
    for (let from = 0; from < messages; from += AT_ONCE) write(from, Math.min(messages, from + AT_ONCE));
    db.pragma('wal_checkpoint(TRUNCATE)');
    return { first: id + 1, last: id + messages };
  } finally {
    close();
  }
}
