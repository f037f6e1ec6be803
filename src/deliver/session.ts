/**
 * One message over one connection that is ready for it: MAIL, every RCPT, DATA, and what the host said to each.
 *
 *   words of the host          become
 *   2xx after the final dot    delivered, for every recipient that was accepted
 *   4xx                        deferred                     5xx    bounced
 *   452 and 552 to RCPT        deferred, the recipient follows with the next transaction
 *   anything else, or silence  nothing is known: another address is asked, or the message waits
 *
 * Once the final dot is on its way no other address may be asked, because the host may have the message already.
 */
import type { VisitRequest } from '../model/delivery.ts';
import type { LeavingBody } from '../model/message.ts';
import type { Trouble } from '../model/route.ts';
import { messageOf } from '../shared/message-of.ts';
import { ConnectionFailure } from './connection-failure.ts';
import { type Extensions, planTransaction } from './envelope.ts';
import { Ledger, maybeTwice, refusal, refusedRecipient, type Transaction, unexpected } from './outcomes.ts';
import { isPositive, isRefusal, type Reply } from './replies.ts';
import { withHeader } from './signed-body.ts';
import type { Command, SmtpConnection } from './smtp-connection.ts';

/** A connection on which MAIL may be said. */
export interface Line {
  readonly connection: SmtpConnection;
  readonly extensions: Extensions;
  /** What it was used for last: nothing yet; a message that has just ended; a message some time ago. */
  readonly before: 'nothing' | 'message' | 'pause';
  /** This very transaction, when its commands are on their way already. */
  readonly begun: Begun | null;
}

/** A transaction whose commands went out together with the end of the message before. */
export interface Begun {
  readonly request: VisitRequest;
  readonly plan: PossiblePlan;
  readonly conversation: Conversation;
}

type PossiblePlan = Extract<ReturnType<typeof planTransaction>, { kind: 'possible' }>;

/**
 * Says MAIL, every RCPT and DATA for a message right behind the final dot of another, to be sent in one go with it
 * (RFC 2920 §3.1 lets the end of a message begin a group of commands). Null when there is nothing that could be said.
 */
export function beginBehind({ connection, extensions }: Line, request: VisitRequest): Begun | null {
  const plan = planTransaction(request.batch, extensions);
  if (plan.kind === 'impossible' || plan.recipients.length === 0) return null;
  return { request, plan, conversation: new Conversation(connection, true, commandsOf(plan, false)) };
}

/**
 * Sends the batch. Never rejects for anything the host does. Whether the connection can be used again is for it
 * to say (`usable`).
 *
 * @param dotSent called with the final dot: true when commands of another transaction were sent along with it
 */
export async function transact(
  line: Line,
  request: VisitRequest,
  openBody: (messageId: string) => Promise<LeavingBody>,
  dotSent: () => boolean,
): Promise<Transaction> {
  const ledger = new Ledger(request);
  const plan = line.begun?.plan ?? planTransaction(request.batch, line.extensions);
  if (plan.kind === 'impossible') {
    const { code } = plan.obstacle;
    // RFC 8689 §4.2.1: the next host may offer it.
    if (code === 'requiretls-not-offered') return { kind: 'useless', trouble: plan.obstacle };
    return ledger.settleOthers(plan.obstacle);
  }
  for (const { recipient, obstacle } of plan.unsendable) ledger.note(recipient, obstacle);
  if (plan.recipients.length === 0) return ledger.settled();

  let body: LeavingBody;
  try {
    body = withHeader(request.header, await openBody(request.batch.messageId));
  } catch (error) {
    const trouble: Trouble = { code: 'stored-message-unreadable', detail: messageOf(error) };
    // DATA has been said already, so this connection leads nowhere.
    if (line.begun) line.connection.abort(trouble);
    return ledger.settleOthers(trouble);
  }
  // It may fail while nobody reads it yet; sendBody finds out.
  if (body.kind === 'stream') body.stream.on('error', () => undefined);
  const progress = { inStep: line.begun === null };
  try {
    const transaction = await converse(line, request, plan, body, ledger, dotSent, progress);
    if (progress.inStep) return transaction;
    return { kind: 'stale', trouble: transaction.kind === 'settled' ? NOT_IN_STEP : transaction.trouble };
  } finally {
    if (body.kind === 'stream') body.stream.destroy();
  }
}

async function converse(
  { connection, extensions, before, begun: behind }: Line,
  { batch }: VisitRequest,
  plan: PossiblePlan,
  body: LeavingBody,
  ledger: Ledger,
  dotSent: () => boolean,
  progress: { inStep: boolean },
): Promise<Transaction> {
  // What lay idle may be dead or have been left in the middle: RSET finds out.
  const reset = behind === null && (before === 'pause' || connection.inTransaction);
  const conversation =
    behind?.conversation ?? new Conversation(connection, extensions.has('PIPELINING'), commandsOf(plan, reset));
  let begun = before === 'nothing';
  let mayHaveArrived = false;
  let followed = false;
  try {
    if (reset) {
      const rset = await conversation.next();
      if (!isPositive(rset)) throw connection.abort(unexpected(rset, 'RSET'));
    }
    const mail = await conversation.next();
    // RFC 5321 §3.8: 421 says nothing about the message, only that this connection ends.
    if (mail.code === 421) throw connection.abort(refusal(mail, 'MAIL FROM'));
    begun = true;
    if (isRefusal(mail)) {
      await conversation.end();
      return ledger.settleOthers(refusal(mail, 'MAIL FROM'));
    }
    if (!isPositive(mail)) throw connection.abort(unexpected(mail, 'MAIL FROM'));

    let accepted = 0;
    for (const { recipient } of plan.recipients) {
      const reply = await conversation.next();
      if (isPositive(reply)) accepted++;
      else if (isRefusal(reply)) ledger.note(recipient, refusedRecipient(reply, accepted));
      else throw connection.abort(unexpected(reply, 'RCPT TO'));
    }
    if (accepted === 0) {
      await conversation.end();
      return ledger.settled();
    }

    const data = await conversation.next();
    if (isRefusal(data)) return ledger.settleOthers(refusal(data, 'DATA'));
    if (data.code !== 354) throw connection.abort(unexpected(data, 'DATA'));
    progress.inStep = true;

    const last = await connection.sendBody(body, batch.content.size, () => {
      mayHaveArrived = true;
      followed = dotSent();
    });
    if (isPositive(last)) return ledger.delivered(last, extensions.has('DSN'));
    // A host that refuses before it has read the end may take what follows for commands of this message: what it says
    // to the next one would bind nobody.
    if (followed) connection.abort({ code: 'connection-lost', detail: 'the message before was not taken' });
    if (isRefusal(last)) return ledger.settleOthers(refusal(last, 'the message'));
    connection.abort(unexpected(last, 'the message'));
    return ledger.settleOthers(maybeTwice(unexpected(last, 'the message')));
  } catch (error) {
    if (!(error instanceof ConnectionFailure)) throw error;
    if (!begun) return { kind: 'stale', trouble: error.trouble };
    if (mayHaveArrived) return ledger.settleOthers(maybeTwice(error.trouble));
    // Another host cannot help when the message cannot be read.
    if (error.trouble.code === 'stored-message-unreadable') return ledger.settleOthers(error.trouble);
    return ledger.brokenOff(error.trouble);
  }
}

/**
 * Behind another message no refusal counts: had the host said one word more or less to that one, it would be the answer
 * to something else. Only a 354 in its place shows that all replies are in theirs.
 */
const NOT_IN_STEP: Trouble = { code: 'remote-later', detail: 'refused behind another message: to be asked again' };

function commandsOf({ mail, recipients }: PossiblePlan, reset: boolean): readonly Command[] {
  return [
    ...(reset ? [{ line: 'RSET', phase: 'rset' } as const] : []),
    { line: mail, phase: 'mail' },
    ...recipients.map(({ line }) => ({ line, phase: 'rcpt' }) as const),
    { line: 'DATA', phase: 'data' },
  ];
}

/** The commands of one transaction in order: sent all at once where the host allows it (RFC 2920), else one by one. */
class Conversation {
  readonly #connection: SmtpConnection;
  readonly #commands: readonly Command[];
  readonly #sent: readonly Promise<Reply>[] | null;
  #at = 0;

  constructor(connection: SmtpConnection, pipelining: boolean, commands: readonly Command[]) {
    this.#connection = connection;
    this.#commands = commands;
    this.#sent = pipelining ? connection.pipeline(commands) : null;
  }

  /** The reply to the next command. @throws ConnectionFailure (rejects) */
  next(): Promise<Reply> {
    const at = this.#at++;
    const command = this.#commands[at];
    if (!command) throw new RangeError('no command is left');
    return this.#sent?.[at] ?? this.#connection.command(command);
  }

  /**
   * Ends a transaction that has nobody to go to. Nothing more is said; the replies to what was said already are
   * waited for. A host that takes DATA all the same is left, not given a message without recipients.
   */
  async end(): Promise<void> {
    if (this.#sent === null) return;
    const replies = await Promise.allSettled(this.#sent.slice(this.#at));
    const data = replies.at(-1);
    if (data?.status !== 'fulfilled' || isRefusal(data.value)) return;
    this.#connection.abort({ code: 'remote-garbage', detail: 'the host takes DATA without a recipient' });
  }
}
