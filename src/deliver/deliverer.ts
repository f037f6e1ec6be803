/**
 * The door of this stage: hands one batch to one address of one host, or says why not.
 *
 *   place      wait for a place under the limits; a kept connection with the same proof comes with it
 *   dial       else connect, STARTTLS, judge the certificate                     connect.ts
 *   transact   MAIL, RCPT, DATA; an outcome for every recipient                  session.ts
 *   keep       the connection, for the next message that asks for the same
 *
 * Nothing that a remote host does makes a promise reject here. A fault of our own leaves the message waiting.
 */
import { hash } from 'node:crypto';
import type { SecureContext } from 'node:tls';
import type { ConnectionFacts, Visit, VisitRequest } from '../model/delivery.ts';
import type { Logger } from '../model/events.ts';
import type { LeavingBody } from '../model/message.ts';
import type { ReasonCode } from '../model/reasons.ts';
import type { Trouble } from '../model/route.ts';
import type { DaneProof } from '../model/tls-policy.ts';
import {
  type Dialled,
  type Dialling,
  dial,
  type GradeTls,
  type Judge,
  type JudgeNames,
  type Target,
} from './connect.ts';
import { Ledger, type Transaction } from './outcomes.ts';
import { clientContext, trustingContext } from './peer-certificates.ts';
import { DEFAULT_LIMITS, type Permits, type Place, Pool, type Poolable, type PoolLimits } from './pool.ts';
import { type Begun, beginBehind, type Line, transact } from './session.ts';
import type { SmtpConnection } from './smtp-connection.ts';
import { DEFAULT_TIMEOUTS, type Timeouts } from './timeouts.ts';

/** What may change while connections are open. */
export interface DelivererLimits {
  readonly timeouts?: Partial<Timeouts>;
  readonly pool?: Partial<PoolLimits>;
  /** Certificates in PEM of the authorities that `verify` and `sts` trust; null for the public ones. */
  readonly authorities?: readonly string[] | null;
}

export interface DelivererOptions extends DelivererLimits {
  /** What we say in EHLO. */
  readonly hostname: string;
  /** Opens the stored octets of a message: CRLF newlines, `content.size` octets or more. */
  readonly openBody: (messageId: string) => Promise<LeavingBody>;
  readonly judge: Judge;
  readonly judgeNames: JudgeNames;
  readonly grade: GradeTls;
  /** Address to connect from, for hosts of the same family. */
  readonly localAddress?: string;
  /** Where one of several workers asks before it connects. */
  readonly permits?: Permits;
  readonly log: Logger;
}

/** What was found out about a host without giving it a message. */
interface DialReport {
  readonly connection: ConnectionFacts;
  /** null when mail could have been handed over. */
  readonly trouble: Trouble | null;
  /** DER of the certificates as sent, leaf first; empty without TLS. */
  readonly chain: readonly Buffer[];
  /** `PIPELINING`, `SIZE 10240000`: what the host offers where mail would be sent. */
  readonly extensions: readonly string[];
}

export interface Deliverer {
  /** Hands over the batch, or says why not. Waits for a place when the host or the relay is busy. Never rejects. */
  readonly deliver: (request: VisitRequest) => Promise<Visit>;
  /** Connects and proves as `deliver` does, then QUIT. Nothing is said about any message. Never rejects. */
  readonly dial: (target: Target) => Promise<DialReport>;
  /** For connections and messages from now on; nothing that is open is ended. */
  readonly setLimits: (limits: DelivererLimits) => void;
  /** For what comes of `permits`: see `Pool.granted` and `Pool.recall`. */
  readonly granted: (host: string) => void;
  readonly recall: (host: string | null, howSoon: 'idle' | 'soon') => void;
  /** Ends all connections, those in the middle of a message too (that message waits). Never rejects. */
  readonly close: () => Promise<void>;
}

/** One open connection, with what it proved. */
interface Session extends Poolable {
  readonly dialled: Extract<Dialled, { kind: 'ready' }>;
  /** How many messages were sent over it. */
  messages: number;
  /** What was said already for the message that comes next. */
  begun: Begun | null;
}

type OurPlace = Place<Session, VisitRequest>;
/** Sent in the clear although the host may do TLS. */
const FELL_BACK: ReadonlySet<ReasonCode> = new Set([
  'clear-handshake-failed',
  'clear-starttls-refused',
  'report-clear',
]);

const STOPPING: Trouble = { code: 'shutting-down', detail: '' };

export function createDeliverer(options: DelivererOptions): Deliverer {
  const { log, openBody } = options;
  let limits: PoolLimits = { ...DEFAULT_LIMITS, ...options.pool };
  let timeouts: Timeouts = { ...DEFAULT_TIMEOUTS, ...options.timeouts };
  let trusted = trust(options.authorities ?? null);
  const pool = new Pool<Session, VisitRequest>(limits, options.permits);
  const wary = new WaryOf();
  const open = new Set<SmtpConnection>();
  let stopping = false;

  const dialling: Dialling = {
    hostname: options.hostname,
    judge: options.judge,
    judgeNames: options.judgeNames,
    grade: options.grade,
    trustingContext: () => trusted.context(),
    get timeouts() {
      return timeouts;
    },
    localAddress: options.localAddress,
    secureContext: clientContext(),
    made: (connection) => {
      open.add(connection);
      void connection.closed.then(() => open.delete(connection));
      if (stopping) connection.abort(STOPPING);
    },
  };

  /** Sends over a kept connection; null when it turns out to be dead, as if it had never been there. */
  async function again(session: Session, request: VisitRequest, place: OurPlace): Promise<Visit | null> {
    const { begun } = session;
    session.begun = null;
    const before = place.idled ? 'pause' : 'message';
    let transaction = await send(session, { before, begun }, request, place);
    if (begun && transaction.kind === 'stale') {
      if (WARNINGS.has(transaction.trouble.code)) wary.add(hostOf(request));
      if (session.usable) transaction = await send(session, { before: 'pause', begun: null }, request, place);
    }
    return transaction.kind === 'stale' ? null : { ...transaction, connection: session.dialled.facts };
  }

  async function afresh(request: VisitRequest, place: OurPlace): Promise<Visit> {
    const dialled = await dial(request, dialling);
    if (dialled.kind === 'failed') {
      place.leave(null);
      return { kind: 'useless', connection: dialled.facts, trouble: dialled.trouble, opened: dialled.opened };
    }
    const { connection, facts, opened } = dialled;
    const session: Session = {
      dialled,
      messages: 0,
      begun: null,
      get usable() {
        return connection.usable;
      },
      quit: () => connection.quit(),
    };
    const transaction = await send(session, { before: 'nothing', begun: null }, request, place);
    // Only a used connection can be stale.
    if (transaction.kind === 'stale') throw new Error('a fresh connection was called stale');
    return { ...transaction, connection: facts, opened };
  }

  async function send(
    session: Session,
    state: Pick<Line, 'before' | 'begun'>,
    request: VisitRequest,
    place: OurPlace,
  ): Promise<Transaction> {
    const { connection, extensions } = session.dialled;
    const line: Line = { connection, extensions, ...state };
    const transaction = await transact(line, request, openBody, () => follow(session, line, request, place));
    if (transaction.kind !== 'stale') place.leave(keepable(session));
    return transaction;
  }

  /** At the final dot of a message: says what is to be said for the next one, where one waits for this connection. */
  function follow(session: Session, line: Line, request: VisitRequest, place: OurPlace): boolean {
    const mayFollow =
      line.extensions.has('PIPELINING') &&
      session.messages + 1 < limits.messagesPerConnection &&
      !stopping &&
      !fellBack(session) &&
      !wary.has(hostOf(request));
    const next = mayFollow ? place.next() : null;
    session.begun = next && beginBehind(line, next);
    return session.begun !== null;
  }

  /** The session after one more message, when it may be kept; else it is ended. */
  function keepable(session: Session): Session | null {
    session.messages++;
    if (session.usable && !stopping) {
      if (session.begun) return session;
      // After a fallback the next message tries TLS again.
      if (!fellBack(session) && session.messages < limits.messagesPerConnection) return session;
    }
    // After DATA no QUIT can be said.
    if (session.begun) session.dialled.connection.abort(STOPPING);
    else void session.quit();
    return null;
  }

  async function deliver(request: VisitRequest): Promise<Visit> {
    const place = await pool.enter(keyOf(request, trusted.id), hostOf(request), request);
    if (place === 'busy') return uselessFor(request, { code: 'host-busy', detail: '' });
    if (!place) return uselessFor(request, STOPPING);
    try {
      const visit = place.kept ? await again(place.kept, request, place) : null;
      return visit ?? (await afresh(request, place));
    } catch (error) {
      // A bug. What the host has by now is unknown, so no other address may be asked.
      log.error('delivery failed inside the relay', { queueId: request.batch.messageId, error });
      const trouble: Trouble = { code: 'internal-error', detail: String(error) };
      const settled = new Ledger(request).settleOthers(trouble);
      const { connection } = uselessFor(request, trouble);
      return settled.kind === 'settled' ? { ...settled, connection } : { kind: 'useless', connection, trouble };
    } finally {
      place.leave(null);
    }
  }

  return {
    deliver,
    dial: async (target) => {
      const dialled = await dial(target, dialling);
      if (dialled.kind === 'ready') await dialled.connection.quit();
      return {
        connection: dialled.facts,
        trouble: dialled.kind === 'failed' ? dialled.trouble : null,
        chain: dialled.chain,
        extensions: [...dialled.extensions].map(([keyword, parameters]) => `${keyword} ${parameters}`.trim()),
      };
    },
    setLimits: (next) => {
      limits = { ...DEFAULT_LIMITS, ...next.pool };
      timeouts = { ...DEFAULT_TIMEOUTS, ...next.timeouts };
      pool.setLimits(limits);
      trusted = trust(next.authorities ?? null);
    },
    granted: (host) => pool.granted(host),
    recall: (host, howSoon) => pool.recall(host, howSoon),
    close: async () => {
      stopping = true;
      await pool.close();
      for (const connection of open) connection.abort(STOPPING);
      await Promise.all([...open].map(({ closed }) => closed));
    },
  };
}

function fellBack({ dialled }: Session): boolean {
  return FELL_BACK.has(dialled.facts.code);
}

function hostOf({ address, port }: Target): string {
  return `${address} ${port}`;
}

/** What shows that a host loses count when commands follow a final dot, though it offers PIPELINING. */
const WARNINGS: ReadonlySet<ReasonCode> = new Set(['remote-timeout', 'remote-garbage']);
const WARY_OF_AT_MOST = 1000;

/** Hosts to which no commands are sent along with a final dot any more, for as long as the process runs. */
class WaryOf {
  readonly #hosts = new Set<string>();

  has(host: string): boolean {
    return this.#hosts.has(host);
  }

  add(host: string): void {
    this.#hosts.add(host);
    const [oldest] = this.#hosts;
    if (this.#hosts.size > WARY_OF_AT_MOST && oldest !== undefined) this.#hosts.delete(oldest);
  }
}

function uselessFor({ address }: VisitRequest, trouble: Trouble): Extract<Visit, { kind: 'useless' }> {
  const { code, detail } = trouble;
  const connection: ConnectionFacts = {
    address,
    verdict: 'failed',
    record: null,
    depth: null,
    tls: null,
    code,
    reason: detail,
  };
  return { kind: 'useless', connection, trouble };
}

/** Authorities that are trusted, made ready when they are first needed. */
function trust(authorities: readonly string[] | null) {
  let context: SecureContext | null = null;
  return {
    /** The same for the same authorities. */
    id: authorities === null ? '' : hash('sha256', authorities.join(), 'base64'),
    context: (): SecureContext => {
      context ??= trustingContext(authorities);
      return context;
    },
  };
}

/**
 * All that a connection must have been made for to carry a message: two domains with one mail host share it only when
 * they ask for the same proof (RFC 7672 §2.2, §3.2.2).
 *
 * @param trusted name of the set of authorities that are trusted
 */
export function keyOf({ host, address, port, policy }: Target, trusted: string): string {
  return JSON.stringify([host.name, address, port, policy.kind, policy.code, policy.sni, ...proofOf(policy, trusted)]);
}

function proofOf(policy: Target['policy'], trusted: string): readonly unknown[] {
  switch (policy.kind) {
    case 'dane':
      return daneProofOf(policy);
    case 'verify':
    case 'sts':
      return [trusted, policy.wholePath, policy.names, daneProofOf(policy.dane)];
    case 'pin':
      return [policy.pins, daneProofOf(policy.dane)];
    case 'encrypt':
    case 'may':
      return [];
    case 'except':
    case 'report': {
      const { strict, enough, grant } = policy;
      const parts = [...(strict.kind === 'skip' ? [] : [strict]), ...enough];
      const trouble = strict.kind === 'skip' ? strict.trouble : null;
      return [grant, trouble, ...parts.map((part) => [part.kind, part.code, part.sni, proofOf(part, trusted)])];
    }
  }
}

function daneProofOf(proof: DaneProof | null): readonly unknown[] {
  return proof === null ? [] : [proof.wholePath, proof.referenceNames, ...proof.records.map(keyOfRecord)];
}

function keyOfRecord({ usage, selector, matching, data }: DaneProof['records'][number]): readonly unknown[] {
  return [usage, selector, matching, data.length <= 64 ? data.toString('base64') : hash('sha256', data, 'base64')];
}
