/**
 * The one header that the relay adds to a message that it takes in: where it came from, how, when, under which id
 * (RFC 5321 §4.4, RFC 3848, RFC 6531 §4.3). Nothing that a client says can get out of its place in it.
 */
import { isAscii, literalAddress, toDomain } from '../shared/domain-name.ts';

export interface Reception {
  /** Argument of EHLO or HELO, as it came. */
  readonly helo: string;
  /** True for EHLO, false for HELO. */
  readonly extended: boolean;
  readonly peer: string;
  readonly hostname: string;
  readonly tls: { readonly version: string; readonly cipher: string } | null;
  readonly smtputf8: boolean;
  readonly id: string;
  readonly receivedAt: number;
  /** The recipient when there is only one: two would tell each other (RFC 5321 §7.2). */
  readonly onlyRecipient: string | null;
}

/** The header with its folds and its final CRLF. ASCII only, no line longer than 998 octets. */
export function receivedHeader(reception: Reception): Buffer {
  const { peer, hostname, tls, id, receivedAt, onlyRecipient } = reception;
  const address = peer.includes(':') ? `[IPv6:${peer}]` : `[${peer}]`;
  const lines = [
    `Received: from ${safeHelo(reception.helo)} (${address})`,
    `by ${hostname} with ${protocol(reception)} id ${id}`,
  ];
  if (tls) lines.push(`(${comment(tls.version)} cipher ${comment(tls.cipher)})`);
  // An address beyond ASCII would make a message need SMTPUTF8 that does not need it otherwise.
  if (onlyRecipient !== null && isAscii(onlyRecipient)) lines.push(`for <${onlyRecipient}>`);
  return Buffer.from(`${lines.join('\r\n\t')};\r\n\t${dateTime(receivedAt)}\r\n`, 'ascii');
}

/** The registered name of how it came: `ESMTPS`, `UTF8SMTPS` and so on (RFC 3848, RFC 6531 §4.3). */
function protocol({ extended, smtputf8, tls }: Reception): string {
  const base = smtputf8 ? 'UTF8SMTP' : extended ? 'ESMTP' : 'SMTP';
  // Without EHLO there is no registered name for TLS.
  return tls && extended ? `${base}S` : base;
}

/** A name or an address literal stays; whatever else clients call themselves loses what could mean something. */
function safeHelo(helo: string): string {
  if (literalAddress(helo) !== null) return helo;
  return toDomain(helo) ?? helo.replace(/[^A-Za-z0-9._:-]/gu, '?').slice(0, 255);
}

function comment(text: string): string {
  return text.replace(/[^A-Za-z0-9._-]/gu, '?');
}

/** Date and time of RFC 5322 §3.3, in UTC. */
function dateTime(ms: number): string {
  return new Date(ms).toUTCString().replace('GMT', '+0000');
}
