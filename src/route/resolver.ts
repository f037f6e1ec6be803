/**
 * The relay's questions to its validating resolver, and how far each answer can be believed.
 *
 * A name is asked for as it stands, never with a search domain. The AD bit of a resolver on a loopback address is the
 * only thing that makes an answer `secure` (RFC 4035 §4.9.3); of any other resolver nothing is. CNAME chains are
 * followed by owner name, and one link that is not signed makes all of it insecure (RFC 7672 §2.1.3). Everything that
 * is neither an answer nor a word of absence is `failed`, with a reason for people (RFC 7672 §2.1.1).
 *
 * The cache of the resolver is the cache. What is kept here stays a minute at most, with its status, and a failure
 * never is.
 */
import type { DnsAnswer, ExtendedError, RecordData, RecordType, Resolve } from '../model/dns.ts';
import { isDomain } from '../shared/domain-name.ts';
import { isLoopback } from '../shared/loopback.ts';
import { createMemory, type Dated, type Memory } from './memory.ts';
import { exchange, type ServerAddress } from './transport.ts';
import type { Question, RecordOf, WireRecord } from './wire.ts';

export interface ResolverOptions {
  readonly server: ServerAddress;
  /** For one question with all its tries and links, in milliseconds. */
  readonly timeoutMs?: number;
  /** Hears every question with its answer, remembered ones too: what `explain` shows. */
  readonly onAnswer?: (question: Question, answer: DnsAnswer<unknown>) => void;
}

export interface Resolver {
  readonly resolve: Resolve;
  /** The same without any memory of ours: who tests the resolver must really ask it. */
  readonly resolveAfresh: Resolve;
  /** Drops what was remembered: for the moment when the resolver turns out to be other than it was taken for. */
  readonly forget: () => void;
  /** Ends what is under way as `failed`; later questions fail at once. */
  readonly close: () => void;
}

/** Links of one CNAME chain, over all replies. Unbound itself stops after eleven. */
const LINKS_AT_MOST = 16;

export function createResolver({ server, timeoutMs = 20_000, onAnswer }: ResolverOptions): Resolver {
  const closing = new AbortController();
  const adCounts = isLoopback(server.address);
  const memories: { readonly [Type in RecordType]: Memory<RecordData[Type]> } = {
    A: createMemory(),
    AAAA: createMemory(),
    CNAME: createMemory(),
    MX: createMemory(),
    TLSA: createMemory(),
    TXT: createMemory(),
    NS: createMemory(),
  };

  const ask = async <Type extends RecordType>(name: string, type: Type): Promise<Dated<RecordData[Type]>> => {
    const deadline = performance.now() + timeoutMs;
    let chain = startOfChain(name);
    while (true) {
      const result = await exchange(server, { name: chain.name, type }, deadline - performance.now(), closing.signal);
      if (result.kind === 'late') return failed(`no answer in ${String(timeoutMs / 1000)} s`);
      if (result.kind === 'failed') return failed(result.reason);

      const { rcode, authentic, answers, negativeTtl, extended } = result.reply;
      if (rcode !== NOERROR && rcode !== NXDOMAIN) return failed(rcodeInWords(rcode, extended), extended);
      const link = chain.name;
      chain = follow(chain, type, answers, adCounts && authentic);
      if (chain.trouble !== null) return failed(chain.trouble);

      const { name: owner, secure, ttl } = chain;
      const [first, ...rest] = recordsAt(answers, owner, type);
      if (first) {
        if (rcode === NXDOMAIN) return failed('malformed answer: NXDOMAIN together with records');
        const smallest = Math.min(ttl, ...[first, ...rest].map((record) => record.ttl));
        const records = [first.data, ...rest.map((record) => record.data)] as const;
        return { answer: { kind: 'found', secure, name: owner, records, ttl: smallest }, ttl: smallest };
      }
      if (rcode === NXDOMAIN || owner === link) {
        const nxdomain = rcode === NXDOMAIN;
        return { answer: { kind: 'absent', secure, name: owner, nxdomain }, ttl: Math.min(ttl, negativeTtl) };
      }
      // An alias without the records of its target: the target is asked for itself (RFC 7672 §2.1.3).
      if (!isDomain(owner)) return failed(`the alias leads to ${owner}, which is no name that can be asked for`);
    }
  };

  const answered = <Data>(question: Question, answer: DnsAnswer<Data>): DnsAnswer<Data> => {
    onAnswer?.(question, answer);
    return answer;
  };
  const checked = async <Type extends RecordType>(
    name: string,
    type: Type,
    how: () => Promise<DnsAnswer<RecordData[Type]>>,
  ): Promise<DnsAnswer<RecordData[Type]>> => {
    const legal = name === '.' || isDomain(name);
    return answered({ name, type }, legal ? await how() : failed('this is no name that DNS can be asked for').answer);
  };

  return {
    resolve: (name, type) => {
      const memory: Memory<RecordData[typeof type]> = memories[type];
      return checked(name, type, () => memory.recall(name, () => ask(name, type)));
    },
    resolveAfresh: (name, type) => checked(name, type, async () => (await ask(name, type)).answer),
    forget: () => {
      for (const memory of Object.values(memories)) memory.forget();
    },
    close: () => closing.abort(),
  };
}

/** How far a CNAME chain has been followed, over one reply or several. */
interface Chain {
  readonly name: string;
  readonly seen: ReadonlySet<string>;
  /** Whether every reply so far had AD. */
  readonly secure: boolean;
  /** Smallest TTL of its links, in seconds. */
  readonly ttl: number;
  readonly trouble: string | null;
}

function startOfChain(name: string): Chain {
  return { name, seen: new Set([name]), secure: true, ttl: Number.POSITIVE_INFINITY, trouble: null };
}

/**
 * Follows the CNAME records of one reply from owner to target as far as they go. Records at other owners, a DNAME
 * beside its synthesised CNAME among them, play no part.
 */
function follow(chain: Chain, type: RecordType, answers: readonly WireRecord[], authentic: boolean): Chain {
  let { name, ttl } = chain;
  const seen = new Set(chain.seen);
  const ended = (trouble: string | null): Chain => ({ name, seen, ttl, secure: chain.secure && authentic, trouble });
  if (type === 'CNAME') return ended(null);
  for (;;) {
    const aliases = recordsAt(answers, name, 'CNAME');
    const [alias] = aliases;
    if (!alias) return ended(null);
    if (aliases.some(({ data }) => data !== alias.data)) return ended(`malformed answer: ${name} has several aliases`);
    if (recordsAt(answers, name, type).length > 0) {
      return ended(`malformed answer: ${name} has an alias beside other records`);
    }
    if (seen.has(alias.data)) return ended(`the aliases go round in a circle at ${alias.data}`);
    if (seen.size > LINKS_AT_MOST) return ended(`more than ${String(LINKS_AT_MOST)} aliases in a row`);
    name = alias.data;
    ttl = Math.min(ttl, alias.ttl);
    seen.add(name);
  }
}

function recordsAt<Type extends RecordType>(
  answers: readonly WireRecord[],
  owner: string,
  type: Type,
): readonly RecordOf<Type>[] {
  const wanted = (record: WireRecord): record is WireRecord & RecordOf<Type> =>
    record.type === type && record.owner === owner;
  return answers.filter(wanted);
}

const NOERROR = 0;
const NXDOMAIN = 3;

/** RFC 6895 §2.3: those that a resolver may well answer with. */
const RCODES: Readonly<Record<number, string>> = {
  1: 'FORMERR',
  2: 'SERVFAIL',
  4: 'NOTIMP',
  5: 'REFUSED',
  16: 'BADVERS',
};

/** RFC 8914 §4. */
const EXTENDED_ERRORS: readonly string[] = [
  'other error',
  'unsupported DNSKEY algorithm',
  'unsupported DS digest type',
  'stale answer',
  'forged answer',
  'DNSSEC indeterminate',
  'DNSSEC bogus',
  'signature expired',
  'signature not yet valid',
  'DNSKEY missing',
  'RRSIGs missing',
  'no zone key bit set',
  'NSEC missing',
  'cached error',
  'not ready',
  'blocked',
  'censored',
  'filtered',
  'prohibited',
  'stale NXDOMAIN answer',
  'not authoritative',
  'not supported',
  'no reachable authority',
  'network error',
  'invalid data',
];

function rcodeInWords(rcode: number, extended: ExtendedError | null): string {
  const word = RCODES[rcode] ?? `response code ${String(rcode)}`;
  if (!extended) return word;
  const means = EXTENDED_ERRORS[extended.code] ?? `extended error ${String(extended.code)}`;
  return extended.text === '' ? `${word} (${means})` : `${word} (${means}: ${extended.text})`;
}

function failed(reason: string, extended: ExtendedError | null = null): Dated<never> {
  return { answer: { kind: 'failed', reason, extended }, ttl: 0 };
}
