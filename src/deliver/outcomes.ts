/** Who of a batch has heard what: exactly one outcome for each recipient, in the words of the table of reasons. */
import type { Outcome, VisitRequest } from '../model/delivery.ts';
import type { QueuedRecipient } from '../model/message.ts';
import type { Trouble } from '../model/route.ts';
import { verdictOf } from '../model/verdict.ts';
import { isPermanentRefusal, type Reply, sanitise, statusOf, temporary, textOf } from './replies.ts';

/** How a transaction ended. */
export type Transaction =
  /** Every recipient has an outcome. */
  | { readonly kind: 'settled'; readonly outcomes: readonly Outcome[] }
  /** The host said nothing that binds anybody: another address may be asked. */
  | { readonly kind: 'useless'; readonly trouble: Trouble }
  /** Nothing that was said counts, no content was sent, and it may be said once more: a kept connection had died. */
  | { readonly kind: 'stale'; readonly trouble: Trouble };

export class Ledger {
  readonly #request: VisitRequest;
  readonly #outcomes = new Map<number, Outcome>();

  constructor(request: VisitRequest) {
    this.#request = request;
  }

  /** Writes down what keeps the message from one recipient. The first word on a recipient stays. */
  note({ id }: QueuedRecipient, trouble: Trouble): void {
    const { host, address } = this.#request;
    const { code, status, result } = verdictOf(trouble.code, trouble.detail, trouble.status);
    if (this.#outcomes.has(id)) return;
    const reply = trouble.reply ?? null;
    const { detail } = trouble;
    this.#outcomes.set(id, {
      recipientId: id,
      result,
      code,
      status,
      detail,
      host: host.name,
      address,
      reply,
      dsnPassedOn: false,
    });
  }

  /** The same for everybody of whom nothing is known yet. */
  settleOthers(trouble: Trouble): Transaction {
    for (const recipient of this.#request.batch.recipients) this.note(recipient, trouble);
    return this.settled();
  }

  /** The host took the message for everybody of whom nothing is known yet. */
  delivered(last: Reply, dsnPassedOn: boolean): Transaction {
    const reply = textOf(last);
    const { host, address, batch } = this.#request;
    for (const { id } of batch.recipients) {
      if (this.#outcomes.has(id)) continue;
      this.#outcomes.set(id, {
        recipientId: id,
        result: 'delivered',
        code: 'remote-accepted',
        status: statusOf(last),
        detail: '',
        host: host.name,
        address,
        reply,
        dsnPassedOn,
      });
    }
    return this.settled();
  }

  /**
   * The conversation ended before the message was sent. Where a recipient was already refused for good that word
   * stands and the others wait; else another address may be asked. After garbage no earlier word stands: the host
   * and we may have lost count of who was meant.
   */
  brokenOff(trouble: Trouble): Transaction {
    const inStep = trouble.code !== 'remote-garbage';
    const refused = inStep && [...this.#outcomes.values()].some(({ result }) => result === 'bounced');
    return refused ? this.settleOthers(trouble) : { kind: 'useless', trouble };
  }

  settled(): Transaction {
    return { kind: 'settled', outcomes: [...this.#outcomes.values()] };
  }
}

/** A refusal as trouble: 4xx asks to come back, 5xx is for good (RFC 5321 §4.2.1). */
export function refusal(reply: Reply, to: string): Trouble {
  const text = textOf(reply);
  return {
    code: isPermanentRefusal(reply) ? 'remote-refused' : 'remote-later',
    detail: `to ${to} it said ${text}`,
    status: statusOf(reply),
    reply: text,
  };
}

/**
 * A refusal of one recipient. 452, and 552 from hosts that follow the old text, mean that this transaction has no room
 * for more recipients, not that the recipient is refused (RFC 5321 §4.5.3.1.10).
 *
 * @param others how many recipients the host accepted before in this transaction
 */
export function refusedRecipient(reply: Reply, others: number): Trouble {
  const trouble = refusal(reply, 'RCPT TO');
  if (reply.code !== 452 && reply.code !== 552) return trouble;
  const status = temporary(statusOf(reply));
  if (status === '4.5.3' || (status === '4.0.0' && others > 0)) {
    return { ...trouble, code: 'remote-too-many-recipients', status: '4.5.3' };
  }
  return { ...trouble, code: 'remote-later', status };
}

/** A whole reply that has no meaning at this place: 2xx to DATA, 3xx to anything else. */
export function unexpected(reply: Reply, to: string): Trouble {
  const text = textOf(reply);
  return { code: 'remote-garbage', detail: `to ${to} it said ${text}`, reply: text };
}

/** Trouble after the whole message was sent. Waiting may bring it twice; giving up may lose it. */
export function maybeTwice(trouble: Trouble): Trouble {
  const detail = `${trouble.detail}; the whole message had been sent, so it may have arrived and may now arrive twice`;
  return { ...trouble, detail: sanitise(detail) };
}
