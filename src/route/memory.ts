/** Answers that were asked for a moment ago: identical questions under way are asked once, and what came is kept briefly. */
import type { DnsAnswer } from '../model/dns.ts';

/** An answer, and for how many seconds it may be kept: 0 for a failure. */
export interface Dated<Data> {
  readonly answer: DnsAnswer<Data>;
  readonly ttl: number;
}

export interface Memory<Data> {
  /** The answer for `name`: kept, on its way already, or from `ask`, which must not reject. */
  readonly recall: (name: string, ask: () => Promise<Dated<Data>>) => Promise<DnsAnswer<Data>>;
  /** Drops everything; what is on its way still reaches those who asked, and is not kept. */
  readonly forget: () => void;
}

/** The oldest go first beyond this many. */
const ENTRIES_AT_MOST = 2000;
/** Longest time in the process, in seconds, whatever the TTL. */
const SECONDS_AT_MOST = 60;

export function createMemory<Data>(): Memory<Data> {
  const underWay = new Map<string, Promise<DnsAnswer<Data>>>();
  const kept = new Map<string, { readonly answer: DnsAnswer<Data>; readonly until: number }>();

  const keep = (name: string, { answer, ttl }: Dated<Data>): void => {
    if (ttl <= 0 || answer.kind === 'failed') return;
    kept.delete(name);
    kept.set(name, { answer, until: performance.now() + Math.min(ttl, SECONDS_AT_MOST) * 1000 });
    const [oldest] = kept.keys();
    if (kept.size > ENTRIES_AT_MOST && oldest !== undefined) kept.delete(oldest);
  };

  return {
    recall: (name, ask) => {
      const known = kept.get(name);
      if (known && known.until > performance.now()) return Promise.resolve(known.answer);

      const already = underWay.get(name);
      if (already) return already;
      // After forget() a question is no longer the one under way, and its answer may be what was to be forgotten.
      const asked: Promise<DnsAnswer<Data>> = ask()
        .then((dated) => {
          if (underWay.get(name) === asked) keep(name, dated);
          return dated.answer;
        })
        .finally(() => {
          if (underWay.get(name) === asked) underWay.delete(name);
        });
      underWay.set(name, asked);
      return asked;
    },
    forget: () => {
      kept.clear();
      underWay.clear();
    },
  };
}
