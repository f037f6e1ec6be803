/** What people are shown of DKIM keys, and what they may ask for: the command line uses these words. */

/**
 * The life of a key that the relay manages: `next` waits until DNS shows it, `active` signs, `old` was replaced and its
 * record stays for mail that is on its way, `retired` is gone and its record may go. `file`: the configuration names it.
 */
export type KeyState = 'next' | 'active' | 'old' | 'retired' | 'file';

/** One key with its record. Times in milliseconds since the epoch. */
export interface KeyEntry {
  readonly domain: string;
  readonly selector: string;
  /** null for a key that cannot be read. */
  readonly algorithm: 'rsa-sha256' | 'ed25519-sha256' | null;
  readonly state: KeyState;
  /** When it began to sign, else when it was made. */
  readonly since: number | null;
  /** For an old key: when it is retired. */
  readonly retireAt: number | null;
  /** Name of its TXT record. */
  readonly name: string;
  /** The text of the record; null for a key that cannot be read. */
  readonly text: string | null;
  /** The record as a line for a zone file, in strings of at most 255 octets. */
  readonly zoneLine: string | null;
  /** What DNS has there; null when it was not asked. */
  readonly published: 'shown' | 'absent' | 'other' | 'unknown' | null;
  /** What there is to say or to do about it, in one sentence; empty for nothing. */
  readonly note: string;
  /** True where something has to be done before mail is signed and verified as it should be. */
  readonly wrong: boolean;
}

/** What a change came to. */
export type KeyChange =
  | { readonly done: true; readonly says: string; readonly entries: readonly KeyEntry[] }
  | { readonly done: false; readonly why: string; readonly entries: readonly KeyEntry[] };

/** The keys as an operator handles them, while the relay runs or not. */
export interface KeyDesk {
  /** Managed domains that have no keys at all. @param domain null for all */
  readonly bare: (domain: string | null) => readonly string[];
  /** Without asking DNS. Rejects with an `exitCode` of 2 for a domain that does not sign. @param domain null for all */
  readonly list: (domain: string | null) => Promise<readonly KeyEntry[]>;
  /** The same, with what DNS has. Changes nothing. */
  readonly check: (domain: string | null) => Promise<readonly KeyEntry[]>;
  /** Makes the next pair of keys of a managed domain. As the two below it rejects with an `exitCode` of 2 for any other. */
  readonly make: (domain: string) => Promise<KeyChange>;
  /** The next step of a rotation: makes the next pair where there is none, lets it sign where DNS shows it. */
  readonly rotate: (domain: string) => Promise<KeyChange>;
  /** Ends a pair that does not sign now. @param selector one of its two; null for all that are old */
  readonly retire: (domain: string, selector: string | null) => Promise<KeyChange>;
}
