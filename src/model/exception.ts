/** An exception that an operator made for a recipient whose DANE is broken: who answers for it, why, and until when. */

export interface Exception {
  /** Short, and never used twice. */
  readonly id: string;
  /** Canonical name of a recipient domain, or of a mail host, for whatever domain it takes mail. */
  readonly scope: { readonly kind: 'domain' | 'host'; readonly name: string };
  readonly owner: string;
  readonly reason: string;
  /** Milliseconds since the epoch, as all times here. */
  readonly since: number;
  /** Over from this moment on; at most 90 days after `since`. */
  readonly until: number;
  /** `sha256/BASE64=` of the keys that the server must have; empty where any certificate will do under TLS. */
  readonly pins: readonly string[];
}

/** What the last look at the recipient came to. */
export interface Recheck {
  readonly at: number;
  /** Mail would leave without the exception, to the same hosts. */
  readonly repaired: boolean;
  /** With the exception mail would leave to a host that it would not leave to without; null when nobody can be reached. */
  readonly helps: boolean | null;
  /** In words. */
  readonly detail: string;
}

/** How long an exception may last. */
export const EXCEPTION_DAYS = 90;
