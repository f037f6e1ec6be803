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
  | { readonly kind: 'refused'; readonly refusal: Refusal; readonly error: unknown }
  /** It went on far beyond the limit: the rest is not worth waiting for. */
  | { readonly kind: 'flooded'; readonly refusal: Refusal }
  /** The client left before the end. */
  | { readonly kind: 'gone' };

/** An oversized message is read to its end, for the sake of a clean reply, up to this many times the limit. */
const PATIENCE = 2;

/**
 * Reads the content to its end, whatever is wrong with it, and stores it when nothing is. The draft is ended in every
 * case, before this resolves. Never rejects.
 *
 * @param header our own, which comes first
 */
export async function takeIn(
  stream: AsyncIterable<Buffer>,
  header: Buffer,
  rules: ContentRules,
  draft: Draft,
  store: (content: ContentFacts, body: Body) => Promise<void>,
): Promise<Arrival> {
  try {
    const read = await readAll(stream, header, rules, draft);
    return read.kind === 'whole' ? await hand(read.intake, header, draft, store) : read;
  } finally {
    await draft.discard();
  }
}

type Read = { readonly kind: 'whole'; readonly intake: Intake } | Exclude<Arrival, { kind: 'stored' }>;

async function readAll(
  stream: AsyncIterable<Buffer>,
  header: Buffer,
  rules: ContentRules,
  draft: Draft,
): Promise<Read> {
  const intake = new Intake(rules);
  /** The first thing that went wrong in writing: then the rest is read and dropped, and it is told at the end. */
  const failures: unknown[] = [];
  const keep = async (octets: Buffer): Promise<void> => {
    if (failures.length > 0 || octets.length === 0) return;
    try {
      await draft.write(octets);
    } catch (error) {
      failures.push(error);
    }
  };
  await keep(header);
  let arrived = 0;
  try {
    for await (const chunk of stream) {
      arrived += chunk.length;
      if (arrived > PATIENCE * rules.messageBytes) {
        return { kind: 'flooded', refusal: refuse('message-too-big', `${rules.messageBytes} octets are allowed`) };
      }
      await keep(intake.push(chunk));
    }
  } catch {
    return { kind: 'gone' };
  }
  await keep(intake.finish());
  if (intake.refusal) return { kind: 'refused', refusal: intake.refusal, error: null };
  return failures.length > 0 ? notStored(failures[0]) : { kind: 'whole', intake };
}

async function hand(
  intake: Intake,
  header: Buffer,
  draft: Draft,
  store: (content: ContentFacts, body: Body) => Promise<void>,
): Promise<Arrival> {
  const { eightBit, utf8Header, longLines } = intake;
  const size = header.length + intake.size;
  try {
    await store({ size, eightBit, utf8Header }, await draft.finish());
    return { kind: 'stored', size, longLines };
  } catch (error) {
    return notStored(error);
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
