/**
 * The one way to say what became of mail and why. Log, bounce, command line and reports all print this object,
 * so that they cannot differ in wording.
 */
import { harmless } from '../shared/harmless.ts';
import type { RecipientResult } from './delivery.ts';
import { type ReasonCode, reason, type Whose, whatNext } from './reasons.ts';

export interface Verdict {
  readonly code: ReasonCode;
  /** Enhanced status code (RFC 3463). */
  readonly status: string;
  readonly result: RecipientResult;
  /** One sentence: what the code means, then what exactly was seen. */
  readonly explanation: string;
  readonly rfc: string;
  /** One sentence: who can put it right. Empty when there is nothing to put right. */
  readonly remedy: string;
  /** One sentence: what the relay does now. */
  readonly next: string;
}

const REMEDY: Readonly<Record<Whose, string>> = {
  recipient: 'The administrator of the recipient can put this right.',
  sender: 'The sender or the administrator of the sender can put this right.',
  us: 'The administrator of this relay can put this right.',
  network: 'This is a fault on the way between this relay and the recipient; it often passes by itself.',
  nobody: '',
};

const NEXT: Readonly<Record<RecipientResult, string>> = {
  delivered: 'Nothing is left to do.',
  deferred: 'The message is safe in the queue and is tried again by itself.',
  bounced: 'The message is returned to the sender.',
};

/** @param detail what was seen, in words without a full stop; may be empty, and may hold the words of strangers */
export function verdictOf(code: ReasonCode, detail: string, status?: string): Verdict {
  const entry = reason(code);
  const effective = status ?? entry.status;
  const result = whatNext(effective);
  const says = entry.says.charAt(0).toUpperCase() + entry.says.slice(1);
  return {
    code,
    status: effective,
    result,
    explanation: detail === '' ? `${says}.` : `${says}: ${harmless(detail)}.`,
    rfc: entry.rfc,
    remedy: REMEDY[entry.whose],
    next: NEXT[result],
  };
}
