/**
 * What the relay answers when it does not take something: one reply code for each reason. Words and enhanced status
 * come from the table of reasons, so that the client reads what the log says.
 */
import { type ReasonCode, reason } from '../model/reasons.ts';

export interface Refusal {
  /** Reply code (RFC 5321 §4.2.2). */
  readonly reply: number;
  /** Enhanced status code (RFC 3463). */
  readonly status: string;
  readonly code: ReasonCode;
  /** What exactly was seen, in words, without a full stop; may be empty. */
  readonly detail: string;
}

const REPLIES = {
  'client-unknown': 554,
  'client-needs-tls': 530,
  'requiretls-without-tls': 530,
  'client-certificate-missing': 530,
  'client-certificate-unknown': 530,
  'sender-not-allowed': 550,
  'too-many-connections': 421,
  'too-many-messages': 450,
  'too-many-recipients': 452,
  'too-many-errors': 421,
  'wrong-protocol': 421,
  'message-too-big': 552,
  'message-has-nul': 550,
  'message-has-bare-newline': 550,
  'message-line-too-long': 550,
  'too-many-hops': 554,
  'command-malformed': 500,
  'command-unknown': 500,
  'command-unsupported': 502,
  'command-syntax': 501,
  'command-order': 503,
  'no-valid-recipients': 554,
  'parameter-unknown': 555,
  'sender-address-bad': 501,
  'recipient-address-bad': 501,
  'smtputf8-undeclared': 553,
  'storage-failed': 451,
  'storage-full': 452,
  'shutting-down': 421,
  'client-timeout': 421,
} as const satisfies Partial<Record<ReasonCode, number>>;

export type RefusalCode = keyof typeof REPLIES;

export function refuse(code: RefusalCode, detail: string): Refusal {
  return { reply: REPLIES[code], status: reason(code).status, code, detail };
}

/** The text of the reply, to stand behind both codes. Short enough for a reply line (RFC 5321 §4.5.3.1.5). */
export function refusalText({ code, detail }: Refusal): string {
  const { says } = reason(code);
  const text = detail === '' ? says : `${says}: ${detail}`;
  return text.length > 480 ? `${text.slice(0, 479)}…` : text;
}
