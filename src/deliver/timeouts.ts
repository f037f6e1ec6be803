/** How long each phase of a conversation may take, by the wall clock: a host that drips octets gains nothing. */

/** Times in milliseconds. Defaults and minimums are those of RFC 5321 §4.5.3.2 where it gives any. */
export interface Timeouts {
  /** TCP connection. */
  readonly connect: number;
  /** From the connection to the 220 (RFC 5321 §4.5.3.2.1). */
  readonly greeting: number;
  readonly ehlo: number;
  /** Reply to STARTTLS. */
  readonly starttls: number;
  readonly handshake: number;
  readonly mail: number;
  readonly rcpt: number;
  /** Reply to DATA (RFC 5321 §4.5.3.2.4). */
  readonly data: number;
  /** Without any progress while content is sent (RFC 5321 §4.5.3.2.5). */
  readonly block: number;
  /** Reply to the final dot (RFC 5321 §4.5.3.2.6): short times here are what makes duplicates. */
  readonly final: number;
  readonly rset: number;
  readonly quit: number;
}

const MINUTE = 60_000;

export const DEFAULT_TIMEOUTS: Timeouts = {
  connect: 30_000,
  greeting: 5 * MINUTE,
  ehlo: 5 * MINUTE,
  starttls: 2 * MINUTE,
  handshake: MINUTE,
  mail: 5 * MINUTE,
  rcpt: 5 * MINUTE,
  data: 2 * MINUTE,
  block: 3 * MINUTE,
  final: 10 * MINUTE,
  rset: 20_000,
  quit: 5_000,
};

/** What is said of a host that let the time of a phase pass. */
export const SILENCE: Readonly<Record<keyof Timeouts, string>> = {
  connect: 'no connection',
  greeting: 'no greeting',
  ehlo: 'no answer to EHLO',
  starttls: 'no answer to STARTTLS',
  handshake: 'the TLS handshake did not end',
  mail: 'no answer to MAIL FROM',
  rcpt: 'no answer to RCPT TO',
  data: 'no answer to DATA',
  block: 'the host did not take the message',
  final: 'no answer to the end of the message',
  rset: 'no answer to RSET',
  quit: 'no answer to QUIT',
};

/** Octets a second below which a host that takes content counts as hanging. */
const SLOWEST = 500;

/** Time for the whole content of `size` octets, in milliseconds. */
export function transferTime({ block }: Timeouts, size: number): number {
  // Node's timers end at 2³¹ − 1 ms.
  return Math.min(block + (size / SLOWEST) * 1000, 2 ** 31 - 1);
}
