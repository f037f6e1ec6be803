/**
 * Counts and reports on disk: one SQLite file in the state folder, shared by all processes of a relay.
 *
 *   state of a report   means                                              becomes
 *   counting            its day is not over; sessions are added            waiting, when the day is over
 *   waiting             to be sent when due, and tried again after that    one of the three below
 *   sent                somebody accepted it, or our own queue has it      waiting or failed, if all its mail comes back
 *   failed              given up, and why
 *   unwanted            the domain asks for no reports
 *
 * Who sends is settled by a claim with a lease, so that one process does, and each acceptance is written down when it
 * happens: after a crash nobody gets a report again that he has accepted. The file may grow to a fixed size; then only
 * what is known already is counted on. Everything here is synchronous; ledger-thread.ts keeps it off the mail's way.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { chmodSync, closeSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import type { CountedPolicy, Failure } from './count.ts';
import type { PolicyCounts } from './report.ts';
import type { Tallied } from './tally.ts';

export const LEDGER_FILE = 'tls-reports.db';

export interface LedgerOptions {
  readonly file: string;
  /** The command line looks at what is there; a relay makes it. */
  readonly mode: 'relay' | 'visitor';
  readonly limits?: Partial<LedgerLimits>;
}

export interface LedgerLimits {
  /** Octets of the file from which on only known rows grow. */
  readonly octets: number;
  /** Domains in one day. */
  readonly domains: number;
  /** Policies of one domain in one day: about one a mail host. */
  readonly policies: number;
  /** Kinds of failure under one policy; the rest is told by result type and code alone. */
  readonly details: number;
}

const LIMITS: LedgerLimits = { octets: 128 * 1024 * 1024, domains: 20_000, policies: 32, details: 50 };

/** A report that one process is to send. */
export interface Claimed {
  readonly day: number;
  readonly domain: string;
  /** Names this very claim. */
  readonly token: string;
  /** Attempts made before this one, and when the first was; null before it. */
  readonly attempts: number;
  readonly firstAttempt: number | null;
  /** Chosen once: a receiver can see that it has a report already. */
  readonly reportId: string;
  readonly counts: readonly PolicyCounts[];
  /** Addresses that have accepted it. */
  readonly accepted: readonly string[];
  /** Addresses from which mail with it came back. */
  readonly returned: readonly string[];
}

export type Settled =
  | { readonly kind: 'sent' | 'failed' | 'unwanted'; readonly explanation: string }
  | { readonly kind: 'retry'; readonly due: number; readonly explanation: string };

export interface ReportEntry {
  readonly day: number;
  readonly domain: string;
  readonly state: 'counting' | 'waiting' | 'sent' | 'failed' | 'unwanted';
  /** When it is due; null unless it waits. */
  readonly due: number | null;
  readonly attempts: number;
  readonly explanation: string;
  readonly receivers: readonly Receiver[];
}

/** What became of a report at one of its addresses. */
export interface Receiver {
  readonly uri: string;
  /** `returned`: our own queue had it, and the mail came to nothing. */
  readonly state: 'accepted' | 'queued' | 'failed' | 'returned';
  readonly explanation: string;
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS report (
    day           INTEGER NOT NULL,
    domain        TEXT NOT NULL,
    state         TEXT NOT NULL,
    due           INTEGER,
    attempts      INTEGER NOT NULL DEFAULT 0,
    first_attempt INTEGER,
    report_id     TEXT NOT NULL,
    token         TEXT,
    lease         INTEGER,
    explanation   TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (day, domain)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS report_due ON report (state, due);

  CREATE TABLE IF NOT EXISTS policy (
    day       INTEGER NOT NULL,
    domain    TEXT NOT NULL,
    key       TEXT NOT NULL,
    policy    TEXT NOT NULL,
    successes INTEGER NOT NULL DEFAULT 0,
    failures  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (day, domain, key)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE IF NOT EXISTS failure (
    day      INTEGER NOT NULL,
    domain   TEXT NOT NULL,
    key      TEXT NOT NULL,
    detail   TEXT NOT NULL,
    sessions INTEGER NOT NULL,
    PRIMARY KEY (day, domain, key, detail)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE IF NOT EXISTS receiver (
    day         INTEGER NOT NULL,
    domain      TEXT NOT NULL,
    uri         TEXT NOT NULL,
    state       TEXT NOT NULL,
    explanation TEXT NOT NULL,
    queue_id    TEXT,
    PRIMARY KEY (day, domain, uri)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS receiver_mail ON receiver (queue_id) WHERE queue_id IS NOT NULL;

  PRAGMA user_version = 1;
`;

/** Days for which what became of reports can be listed. */
const KEPT_DAYS = 7;
const EXPLANATION_OCTETS = 500;

type Row = Readonly<Record<string, unknown>>;

export class Ledger {
  readonly #db: Database.Database;
  readonly #limits: LedgerLimits;
  readonly #statements = new Map<string, Database.Statement<unknown[], Row>>();

  /** @throws when the file cannot be opened, is damaged, or belongs to a newer release */
  constructor({ file, mode, limits }: LedgerOptions) {
    this.#limits = { ...LIMITS, ...limits };
    if (mode === 'relay') makePrivately(file);
    this.#db = new Database(file, { fileMustExist: true, timeout: 5_000 });
    try {
      const version = Number(this.#db.pragma('user_version', { simple: true }));
      if (version > 1) throw new Error(`${file} was written by a newer release`);
      if (mode === 'visitor') return;
      this.#db.pragma('journal_mode = WAL');
      // A power cut may cost the counts of the last moments, never the file.
      this.#db.pragma('synchronous = NORMAL');
      this.#db.pragma('journal_size_limit = 4194304');
      this.#db.transaction(() => this.#db.exec(SCHEMA)).immediate();
    } catch (error) {
      this.#db.close();
      throw error;
    }
  }

  /**
   * Adds what was counted, all in one commit.
   *
   * @returns how many sessions had no place: their report is on its way already, or the limits are reached
   */
  add(tallied: readonly Tallied[]): number {
    const addAll = this.#db.transaction(() => {
      let lost = 0;
      for (const each of tallied) if (!this.#addOne(each)) lost += each.sessions;
      return lost;
    });
    return addAll.immediate();
  }

  #addOne(tallied: Tallied): boolean {
    const { day, domain, policy, policyKey, failure, sessions } = tallied;
    const roomy = this.#octets() < this.#limits.octets;
    const report = this.#get('SELECT attempts, state FROM report WHERE day = ? AND domain = ?', day, domain);
    if (report && (Number(report['attempts']) > 0 || !['counting', 'waiting'].includes(String(report['state'])))) {
      return false;
    }
    if (!report) {
      if (!roomy || this.#count('SELECT count(*) FROM report WHERE day = ?', day) >= this.#limits.domains) return false;
      const id = randomBytes(12).toString('hex');
      this.#run("INSERT INTO report (day, domain, state, report_id) VALUES (?, ?, 'counting', ?)", day, domain, id);
    }
    const known = this.#get('SELECT 1 FROM policy WHERE day = ? AND domain = ? AND key = ?', day, domain, policyKey);
    if (!known) {
      const policies = this.#count('SELECT count(*) FROM policy WHERE day = ? AND domain = ?', day, domain);
      if (!roomy || policies >= this.#limits.policies) return false;
      const text = JSON.stringify(policy);
      this.#run('INSERT INTO policy (day, domain, key, policy) VALUES (?, ?, ?, ?)', day, domain, policyKey, text);
    }
    const column = failure === null ? 'successes' : 'failures';
    this.#run(
      `UPDATE policy SET ${column} = ${column} + ? WHERE day = ? AND domain = ? AND key = ?`,
      sessions,
      day,
      domain,
      policyKey,
    );
    if (failure) this.#addDetail(tallied, failure, roomy);
    return true;
  }

  #addDetail({ day, domain, policyKey, sessions }: Tallied, failure: Failure, roomy: boolean): void {
    const of = [day, domain, policyKey] as const;
    const update = 'UPDATE failure SET sessions = sessions + ? WHERE day = ? AND domain = ? AND key = ? AND detail = ?';
    if (this.#run(update, sessions, ...of, JSON.stringify(failure)) > 0) return;
    const kinds = this.#count('SELECT count(*) FROM failure WHERE day = ? AND domain = ? AND key = ?', ...of);
    const detail = JSON.stringify(roomy && kinds < this.#limits.details ? failure : withoutPlaces(failure));
    if (this.#run(update, sessions, ...of, detail) > 0) return;
    this.#run(
      'INSERT INTO failure (day, domain, key, detail, sessions) VALUES (?, ?, ?, ?, ?)',
      ...of,
      detail,
      sessions,
    );
  }

  /**
   * Ends all days before `today`: their reports are due at some moment between so many milliseconds after midnight.
   *
   * @returns how many reports began to wait
   */
  closeDays(today: number, leastMs: number, mostMs: number): number {
    return this.#run(
      `UPDATE report SET state = 'waiting', due = (day + 1) * 86400000 + ? + abs(random() % ?)
       WHERE state = 'counting' AND day < ?`,
      leastMs,
      Math.max(1, mostMs - leastMs),
      today,
    );
  }

  /** Takes reports that are due, each for one caller until its lease ends. */
  claim(now: number, leaseMs: number, limit: number): readonly Claimed[] {
    const take = this.#db.transaction(() => {
      const rows = this.#all(
        `SELECT * FROM report WHERE state = 'waiting' AND due <= ? AND (lease IS NULL OR lease <= ?)
         ORDER BY due LIMIT ?`,
        now,
        now,
        limit,
      );
      return rows.map((row): Claimed => {
        const { day, domain } = keyOf(row);
        const token = randomUUID();
        const attempts = Number(row['attempts']);
        const firstAttempt = row['first_attempt'] === null ? null : Number(row['first_attempt']);
        this.#run(
          'UPDATE report SET token = ?, lease = ?, attempts = ?, first_attempt = ? WHERE day = ? AND domain = ?',
          token,
          now + leaseMs,
          attempts + 1,
          firstAttempt ?? now,
          day,
          domain,
        );
        const receivers = this.#receivers(day, domain);
        const uris = (states: readonly Receiver['state'][]): readonly string[] =>
          receivers.filter(({ state }) => states.includes(state)).map(({ uri }) => uri);
        return {
          day,
          domain,
          token,
          attempts,
          firstAttempt,
          reportId: String(row['report_id']),
          counts: this.counts(day, domain),
          accepted: uris(['accepted', 'queued']),
          returned: uris(['returned']),
        };
      });
    });
    return take.immediate();
  }

  /** Writes down what one address said. @returns false when the claim is not ours any more */
  heard(claim: Pick<Claimed, 'day' | 'domain' | 'token'>, receiver: Receiver, queueId: string | null): boolean {
    const note = this.#db.transaction(() => {
      if (!this.#isOurs(claim)) return false;
      this.#run(
        `INSERT OR REPLACE INTO receiver (day, domain, uri, state, explanation, queue_id) VALUES (?, ?, ?, ?, ?, ?)`,
        claim.day,
        claim.domain,
        receiver.uri,
        receiver.state,
        receiver.explanation.slice(0, EXPLANATION_OCTETS),
        queueId,
      );
      return true;
    });
    return note.immediate();
  }

  /** Ends a claim. @returns false when it is not ours any more, and nothing was changed */
  settle(claim: Pick<Claimed, 'day' | 'domain' | 'token'>, settled: Settled): boolean {
    const write = this.#db.transaction(() => {
      if (!this.#isOurs(claim)) return false;
      const { day, domain } = claim;
      const retry = settled.kind === 'retry';
      this.#run(
        `UPDATE report SET state = ?, due = coalesce(?, due), token = NULL, lease = NULL, explanation = ?
         WHERE day = ? AND domain = ?`,
        retry ? 'waiting' : settled.kind,
        retry ? settled.due : null,
        settled.explanation.slice(0, EXPLANATION_OCTETS),
        day,
        domain,
      );
      if (settled.kind === 'sent') this.#followMail(day, domain);
      else if (!retry) this.#forgetCounts(day, domain);
      return true;
    });
    return write.immediate();
  }

  /**
   * What became of a report that was given to our own queue. Other mail is not known here and changes nothing. Where all
   * mail came back the report is due again, for the addresses that it was not mailed to.
   */
  mailEnded(queueId: string, delivered: boolean, explanation: string): void {
    const note = this.#db.transaction(() => {
      const row = this.#get('SELECT day, domain FROM receiver WHERE queue_id = ?', queueId);
      if (!row) return;
      const { day, domain } = keyOf(row);
      const told = explanation.slice(0, EXPLANATION_OCTETS);
      this.#run(
        'UPDATE receiver SET state = ?, explanation = ?, queue_id = NULL WHERE queue_id = ?',
        delivered ? 'accepted' : 'returned',
        told,
        queueId,
      );
      this.#followMail(day, domain);
    });
    note.immediate();
  }

  /** What a report that was sent is now, by what is known of its mail. Its counts are kept while it may go again. */
  #followMail(day: number, domain: string): void {
    const report = this.#get('SELECT state FROM report WHERE day = ? AND domain = ?', day, domain);
    if (report?.['state'] !== 'sent') return;
    const receivers = this.#receivers(day, domain);
    const among = (state: Receiver['state']): boolean => receivers.some((receiver) => receiver.state === state);
    if (among('queued') && !among('accepted')) return;
    const back = among('accepted') ? undefined : receivers.find(({ state }) => state === 'returned');
    const again = back !== undefined && among('failed');
    if (back)
      this.#run(
        'UPDATE report SET state = ?, explanation = ? WHERE day = ? AND domain = ?',
        again ? 'waiting' : 'failed',
        back.explanation,
        day,
        domain,
      );
    if (!again) this.#forgetCounts(day, domain);
  }

  /** What was counted for a domain on one day. */
  counts(day: number, domain: string): readonly PolicyCounts[] {
    const policies = this.#all('SELECT * FROM policy WHERE day = ? AND domain = ? ORDER BY policy', day, domain);
    return policies.map((row) => {
      const details = this.#all(
        `SELECT detail, sessions FROM failure WHERE day = ? AND domain = ? AND key = ?
         ORDER BY sessions DESC, detail`,
        day,
        domain,
        row['key'],
      );
      return {
        policy: JSON.parse(String(row['policy'])) as CountedPolicy,
        successes: Number(row['successes']),
        failures: Number(row['failures']),
        details: details.map(({ detail, sessions }) => ({
          failure: JSON.parse(String(detail)) as Failure,
          sessions: Number(sessions),
        })),
      };
    });
  }

  /** Newest day first; those of domains that ask for no report, and of the day that is not over, are left out. */
  list(): readonly ReportEntry[] {
    const rows = this.#all(
      "SELECT * FROM report WHERE state NOT IN ('counting', 'unwanted') ORDER BY day DESC, domain LIMIT 10000",
    );
    return rows.map((row) => {
      const { day, domain } = keyOf(row);
      return {
        day,
        domain,
        state: String(row['state']) as ReportEntry['state'],
        due: row['state'] === 'waiting' && row['due'] !== null ? Number(row['due']) : null,
        attempts: Number(row['attempts']),
        explanation: String(row['explanation']),
        receivers: this.#receivers(day, domain),
      };
    });
  }

  /** Forgets days that nobody asks about any more. */
  forget(today: number): void {
    const clean = this.#db.transaction(() => {
      for (const table of ['report', 'policy', 'failure', 'receiver']) {
        this.#run(`DELETE FROM ${table} WHERE day < ?`, today - KEPT_DAYS);
      }
    });
    clean.immediate();
  }

  close(): void {
    this.#db.close();
  }

  #forgetCounts(day: number, domain: string): void {
    this.#run('DELETE FROM policy WHERE day = ? AND domain = ?', day, domain);
    this.#run('DELETE FROM failure WHERE day = ? AND domain = ?', day, domain);
  }

  #isOurs({ day, domain, token }: Pick<Claimed, 'day' | 'domain' | 'token'>): boolean {
    return this.#get('SELECT 1 FROM report WHERE day = ? AND domain = ? AND token = ?', day, domain, token) !== null;
  }

  #receivers(day: number, domain: string): readonly Receiver[] {
    const rows = this.#all('SELECT * FROM receiver WHERE day = ? AND domain = ? ORDER BY uri', day, domain);
    return rows.map(({ uri, state, explanation }) => ({
      uri: String(uri),
      state: String(state) as Receiver['state'],
      explanation: String(explanation),
    }));
  }

  /** Octets in use; what was deleted and not yet given back does not count. */
  #octets(): number {
    const pragma = (name: string): number => Number(this.#db.pragma(name, { simple: true }));
    return (pragma('page_count') - pragma('freelist_count')) * pragma('page_size');
  }

  #run(sql: string, ...values: readonly unknown[]): number {
    return this.#prepared(sql).run(...values).changes;
  }

  #get(sql: string, ...values: readonly unknown[]): Row | null {
    return this.#prepared(sql).get(...values) ?? null;
  }

  #all(sql: string, ...values: readonly unknown[]): readonly Row[] {
    return this.#prepared(sql).all(...values);
  }

  #count(sql: string, ...values: readonly unknown[]): number {
    return Number(Object.values(this.#get(sql, ...values) ?? {})[0]);
  }

  #prepared(sql: string): Database.Statement<unknown[], Row> {
    const known = this.#statements.get(sql) ?? this.#db.prepare<unknown[], Row>(sql);
    this.#statements.set(sql, known);
    return known;
  }
}

function keyOf(row: Row): { readonly day: number; readonly domain: string } {
  return { day: Number(row['day']), domain: String(row['domain']) };
}

function withoutPlaces({ type, code }: Failure): Failure {
  return { type, code, sendingAddress: null, mxHost: null, greeting: null, receivingAddress: null };
}

/** Who mails whom is private: only the owner reads it. SQLite gives its side files the same mode. */
function makePrivately(file: string): void {
  closeSync(openSync(file, 'a', 0o600));
  chmodSync(file, 0o600);
}
