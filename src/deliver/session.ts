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
import type { StoredBody } from '../model/message.ts';
import { ConnectionFailure } from './connection-failure.ts';
import { type AddressedRecipient, type Extensions, planTransaction } from './envelope.ts';
import { Ledger, maybeTwice, refusal, refusedRecipient, type Transaction, unexpected } from './outcomes.ts';
import { isPositive, isRefusal, type Reply } from './replies.ts';
import type { Command, SmtpConnection } from './smtp-connection.ts';

/** A connection on which MAIL may be said. */
interface Line {
  readonly connection: SmtpConnection;
  readonly extensions: Extensions;
  /** True when an earlier message went over this connection. */
  readonly used: boolean;
}

/**
 * Sends the batch. Never rejects for anything the host does. Whether the connection can be used again is for it
 * to say (`usable`).
 */
export async function transact(
  line: Line,
  request: VisitRequest,
  openBody: (messageId: string) => Promise<StoredBody>,
): Promise<Transaction> {
  const ledger = new Ledger(request);
  const plan = planTransaction(request.batch, line.extensions);
  if (plan.kind === 'impossible') return ledger.settleOthers(plan.obstacle);
  for (const { recipient, obstacle } of plan.unsendable) ledger.note(recipient, obstacle);
  if (plan.recipients.length === 0) return ledger.settled();

  let body: StoredBody;
  try {
    body = await openBody(request.batch.messageId);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return ledger.settleOthers({ code: 'stored-message-unreadable', detail: why });
  }
  // It may fail while nobody reads it yet; sendBody finds out.
  if (body.kind === 'stream') body.stream.on('error', () => undefined);
  try {
    return await converse(line, request, plan.mail, plan.recipients, body, ledger);
  } finally {
    if (body.kind === 'stream') body.stream.destroy();
  }
}

async function converse(
  { connection, extensions, used }: Line,
  { batch }: VisitRequest,
  mailLine: string,
  recipients: readonly AddressedRecipient[],
  body: StoredBody,
  ledger: Ledger,
): Promise<Transaction> {
  const conversation = new Conversation(connection, extensions.has('PIPELINING'), [
    ...(used ? [{ line: 'RSET', phase: 'rset' } as const] : []),
    { line: mailLine, phase: 'mail' },
    ...recipients.map(({ line }) => ({ line, phase: 'rcpt' }) as const),
    { line: 'DATA', phase: 'data' },
  ]);
  let begun = !used;
  let mayHaveArrived = false;
  try {
    if (used) {
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
    for (const { recipient } of recipients) {
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

    const last = await connection.sendBody(body, batch.content.size, () => {
      mayHaveArrived = true;
    });
    if (isPositive(last)) return ledger.delivered(last, extensions.has('DSN'));
    if (isRefusal(last)) return ledger.settleOthers(refusal(last, 'the message'));
    connection.abort(unexpected(last, 'the message'));
    return ledger.settleOthers(maybeTwice(unexpected(last, 'the message')));
  } catch (error) {
    if (!(error instanceof ConnectionFailure)) throw error;
    if (!begun) return { kind: 'stale' };
    if (mayHaveArrived) return ledger.settleOthers(maybeTwice(error.trouble));
    // Another host cannot help when the message cannot be read.
    if (error.trouble.code === 'stored-message-unreadable') return ledger.settleOthers(error.trouble);
    return ledger.brokenOff(error.trouble);
  }
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
