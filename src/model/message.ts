/** A message and its envelope, as the stages hand them to each other. */
import type { Readable } from 'node:stream';
import type { HeldFile } from '../shared/held-file.ts';
import type { ReasonCode } from './reasons.ts';

export type Notify = 'never' | 'success' | 'failure' | 'delay';

export interface EnvelopeRecipient {
  /** `local@domain`: local part as it came (quoted where it must be), domain in lower-case A-labels or a literal. */
  readonly address: string;
  /** NOTIFY of RFC 3461 §4.1; null when the client gave none. */
  readonly notify: readonly Notify[] | null;
  /** ORCPT of RFC 3461 §4.2, decoded, with its address type: `rfc822;user@example.nl`. */
  readonly orcpt: string | null;
}

/**
 * What the sender asks of TLS on the whole way (RFC 8689): nothing; `required`, proven at each step, by REQUIRETLS; or
 * `optional`, delivery before protection, by `TLS-Required: No`.
 */
export type TlsWish = 'default' | 'required' | 'optional';

export interface Envelope {
  /** Reverse-path, empty for the null sender. */
  readonly sender: string;
  readonly recipients: readonly EnvelopeRecipient[];
  readonly smtputf8: boolean;
  readonly body: '7bit' | '8bitmime';
  readonly ret: 'full' | 'hdrs' | null;
  /** ENVID of RFC 3461 §4.4, decoded. */
  readonly envid: string | null;
  readonly tls: TlsWish;
}

/** What the octets of a message ask of the next host. */
export interface ContentFacts {
  /** Octets as stored, our Received header included. */
  readonly size: number;
  /** Any octet above 127. */
  readonly eightBit: boolean;
  /** Any octet above 127 in the header section: UTF-8 that needs SMTPUTF8 where the client declared it (RFC 6531 §3.1). */
  readonly utf8Header: boolean;
}

/** Octets of a message: small ones in memory, large ones in a file that the store takes over. */
export type Body =
  | { readonly kind: 'memory'; readonly bytes: Buffer }
  | {
      readonly kind: 'file';
      readonly path: string;
      /** SHA-256 of what was written; the store reads the file when it is not told. */
      readonly sha256?: Uint8Array;
      /** The file, open: who delivers it at once reads it here. */
      readonly file?: HeldFile;
    };

/** Octets of an accepted message: in one piece where they are in memory anyway, else as they are read. */
export type StoredBody =
  | { readonly kind: 'memory'; readonly bytes: Buffer }
  | { readonly kind: 'stream'; readonly stream: Readable };

/**
 * Octets of an accepted message on their way out. What came in just now needs no more looking: CR and LF stand in pairs,
 * since that was seen to on the way in, and what this process has written was not damaged on a disk. It is what is in
 * memory, and the file after it.
 */
export type LeavingBody =
  | StoredBody
  | { readonly kind: 'fresh'; readonly bytes: Buffer; readonly file: HeldFile | null };

/**
 * The client of TLS reports that this relay writes. They are handed over whatever becomes of TLS (RFC 8460 §3), so no
 * stranger may have this name: it is not one that a client could be given in the configuration.
 */
export const TLS_REPORTER = 'dane-relay/tls-reports';

export interface NewMessage {
  /** Queue id: 1 to 32 characters of `[0-9A-Za-z]`, unique for the life of the store. */
  readonly id: string;
  /** Milliseconds since the epoch, as all times in the code. */
  readonly receivedAt: number;
  /** Name of the client in the configuration; `dane-relay` for our own notices, `TLS_REPORTER` for our TLS reports. */
  readonly client: string;
  readonly envelope: Envelope;
  readonly content: ContentFacts;
  readonly body: Body;
}

export interface QueuedRecipient extends EnvelopeRecipient {
  readonly id: number;
  /** Attempts made before this one. */
  readonly attempts: number;
  readonly delayNoticeSent: boolean;
  /** The last thing that went wrong; null before the first attempt. */
  readonly lastCode: ReasonCode | null;
}

/** One message and those of its recipients that share a domain: the unit of work of a delivery attempt. */
export interface Batch {
  readonly messageId: string;
  readonly receivedAt: number;
  readonly expiresAt: number;
  readonly client: string;
  readonly envelope: Omit<Envelope, 'recipients'>;
  readonly content: ContentFacts;
  /** Domain of all the recipients: lower-case A-labels, or an address literal in brackets. */
  readonly domain: string;
  readonly recipients: readonly [QueuedRecipient, ...QueuedRecipient[]];
}

/** The three reports of RFC 3464 §2.3.3 that this relay makes. */
export type NoticeKind = 'failed' | 'delayed' | 'relayed';
