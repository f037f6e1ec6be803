/**
 * One message from its first octet to the store: looked at, spooled, handed over. What is to be answered comes out;
 * the reply itself is for the session, once nothing of the message is left here.
 */
import type { Body, ContentFacts } from '../model/message.ts';
import { type ContentRules, Intake } from './intake.ts';
import { type Refusal, refuse } from './refusal.ts';
import type { Draft } from './spool.ts';

export type Arrival =
  | { readonly kind: 'stored'; readonly size: number; readonly longLines: number }
  | { readonly kind: 'refused'; readonly refusal: Refusal; readonly error: unknown };

/** An oversized message is read to its end, for the sake of a clean reply, up to this many times the limit. */
const PATIENCE = 2;

/**
 * A message that is on its way in. It is read to its end, whatever is wrong with it, and stored when nothing is. Must
 * be ended with `finish` or `abandon`; when these have resolved nothing of it is left here.
 */
export class Arriving {
  readonly #header: Buffer;
  readonly #rules: ContentRules;
  readonly #draft: Draft;
  readonly #intake: Intake;
  #arrived = 0;
  /** The first thing that went wrong in writing: then the rest is read and dropped, and it is told at the end. */
  #failure: { readonly error: unknown } | null = null;
  /** The write that is under way. */
  #writing: Promise<void> | null = null;

  /** @param header our own, which comes first */
  constructor(header: Buffer, rules: ContentRules, draft: Draft) {
    this.#header = header;
    this.#rules = rules;
    this.#draft = draft;
    this.#intake = new Intake(rules);
    this.#keep(header);
  }

  /** Why the rest is not worth waiting for: it went on far beyond the limit. */
  get flood(): Refusal | null {
    const { messageBytes } = this.#rules;
    return this.#arrived > PATIENCE * messageBytes
      ? refuse('message-too-big', `${messageBytes} octets are allowed`)
      : null;
  }

  /** Takes the next octets. A promise when they are being written: no more may come until it resolves, as it always does. */
  push(octets: Buffer): Promise<void> | null {
    this.#arrived += octets.length;
    if (this.flood) return null;
    try {
      return this.#keep(this.#intake.push(octets));
    } catch (error) {
      this.#failure ??= { error };
      return null;
    }
  }

  /**
   * All has arrived. Never rejects.
   *
   * @param store is told whether the header says `TLS-Required: No`
   */
  async finish(store: (content: ContentFacts, body: Body, tlsOptional: boolean) => Promise<void>): Promise<Arrival> {
    const intake = this.#intake;
    try {
      if (this.#writing) await this.#writing;
      await this.#keep(intake.finish());
      if (intake.refusal) return { kind: 'refused', refusal: intake.refusal, error: null };
      if (this.#failure) return notStored(this.#failure.error);
      const { eightBit, utf8Header, longLines } = intake;
      const size = this.#header.length + intake.size;
      await store({ size, eightBit, utf8Header }, await this.#draft.finish(), intake.tlsOptional);
      return { kind: 'stored', size, longLines };
    } catch (error) {
      return notStored(error);
    } finally {
      await this.#draft.discard();
    }
  }

  /** The end will not come. Never rejects. */
  async abandon(): Promise<void> {
    await this.#writing;
    await this.#draft.discard();
  }

  #keep(octets: Buffer): Promise<void> | null {
    if (this.#failure || octets.length === 0) return null;
    const written = this.#draft.write(octets);
    if (!written) return null;
    this.#writing = written.then(
      () => {
        this.#writing = null;
      },
      (error: unknown) => {
        this.#writing = null;
        this.#failure = { error };
      },
    );
    return this.#writing;
  }
}

function notStored(error: unknown): Arrival & { readonly kind: 'refused' } {
  return { kind: 'refused', refusal: refuse(isFull(error) ? 'storage-full' : 'storage-failed', ''), error };
}

/** The store or the file system says that there is no room. */
function isFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return error.name === 'StoreFull' || ('code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT'));
}
