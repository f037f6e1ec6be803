/**
 * Questions and answers between two processes of one relay, in either direction. What is said in one turn of the event
 * loop travels together, because most of what a message between processes costs is paid once a message.
 */
import { messageOf } from './message-of.ts';

/** What can be asked of this side. What it gives back, or throws, is what the other side gets. JSON only. */
export type Answers = Readonly<Record<string, (...args: never[]) => unknown>>;

export interface Link {
  /** Rejects with the words of the other side, or when the other side is gone. */
  readonly ask: <Answer>(name: string, ...args: readonly unknown[]) => Promise<Answer>;
  /** Wants no answer, and does not learn whether it was heard. */
  readonly tell: (name: string, ...args: readonly unknown[]) => void;
  /**
   * To be called with what the other side has sent; after `cut` nothing is heard.
   *
   * @throws what was told but could not be done, and for what no link says: then the rest of the packet is not heard
   */
  readonly hear: (packet: unknown) => void;
  /** The other side is gone: nothing is answered any more. Who asks, or has asked, hears these words. */
  readonly cut: (why: string) => void;
}

type Word =
  | { readonly kind: 'ask'; readonly id: number; readonly name: string; readonly args: readonly unknown[] }
  | { readonly kind: 'tell'; readonly name: string; readonly args: readonly unknown[] }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'refusal'; readonly id: number; readonly message: string };

interface Asked {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
}

/** @param send hands over one packet, which `hear` of the other side gets; never throws */
export function createLink(send: (packet: readonly object[]) => void, answers: Answers): Link {
  const asked = new Map<number, Asked>();
  let packet: Word[] = [];
  let lastId = 0;
  let whyCut: string | null = null;

  const flush = (): void => {
    const words = packet;
    packet = [];
    if (whyCut === null) send(words);
  };
  const say = (word: Word): void => {
    if (packet.push(word) === 1) setImmediate(flush);
  };
  const run = (name: string, args: readonly unknown[]): unknown => {
    if (!Object.hasOwn(answers, name)) throw new Error(`there is no such question: ${name}`);
    const answer = answers[name] as (...given: readonly unknown[]) => unknown;
    return answer(...args);
  };
  const reply = async (id: number, name: string, args: readonly unknown[]): Promise<void> => {
    try {
      say({ kind: 'answer', id, value: await run(name, args) });
    } catch (error) {
      say({ kind: 'refusal', id, message: messageOf(error) });
    }
  };
  const settle = (id: number): Asked | undefined => {
    const found = asked.get(id);
    asked.delete(id);
    return found;
  };

  return {
    ask: <Answer>(name: string, ...args: readonly unknown[]) =>
      new Promise<Answer>((resolve, reject) => {
        if (whyCut !== null) return reject(new Error(whyCut));
        asked.set(++lastId, { resolve, reject });
        say({ kind: 'ask', id: lastId, name, args });
      }),
    tell: (name, ...args) => say({ kind: 'tell', name, args }),
    hear(heard) {
      if (whyCut !== null) return;
      if (!Array.isArray(heard)) throw new Error(NONSENSE);
      for (const word of heard) {
        if (!isWord(word)) throw new Error(NONSENSE);
        if (word.kind === 'answer') settle(word.id)?.resolve(word.value as never);
        else if (word.kind === 'refusal') settle(word.id)?.reject(new Error(word.message));
        else if (word.kind === 'tell') run(word.name, word.args);
        else void reply(word.id, word.name, word.args);
      }
    },
    cut(why) {
      whyCut = why;
      for (const { reject } of asked.values()) reject(new Error(why));
      asked.clear();
    },
  };
}

const NONSENSE = 'the other process says what cannot be understood';

function isWord(heard: unknown): heard is Word {
  const { kind, id, name, args, message } = Object(heard) as Readonly<Record<string, unknown>>;
  if (kind === 'answer') return typeof id === 'number';
  if (kind === 'refusal') return typeof id === 'number' && typeof message === 'string';
  const isCall = typeof name === 'string' && Array.isArray(args);
  return isCall && (kind === 'tell' || (kind === 'ask' && typeof id === 'number'));
}
