/**
 * Whether the resolver validates, proven rather than assumed, again and again.
 *
 * A name that is signed must come back with AD, and names that are known to be bogus must not come back as if they
 * were good. A bogus name that does not exist here or cannot be reached proves nothing either way: closed networks do
 * not see it. While there is no proof, mail for which DANE could matter must wait (RFC 7672 §2.1.1, RFC 4035 §4.9.3).
 */
import type { DnsAnswer, Resolve } from '../model/dns.ts';
import type { Clock } from '../shared/clock.ts';

export type TrustState =
  | { readonly kind: 'untested' }
  | { readonly kind: 'proven' }
  /** The signed name got no answer at all: nothing can be looked up, or the resolver lost its trust anchor. */
  | { readonly kind: 'unreachable'; readonly reason: string }
  /** It answers, and does not validate: every TLSA record would silently count for nothing. */
  | { readonly kind: 'not-validating'; readonly reason: string };

export interface TrustOptions {
  /** Must ask the resolver each time: `resolveAfresh`. */
  readonly resolve: Resolve;
  /** A name with NS records that are signed, `.` for most. */
  readonly signed: string;
  /** Names whose signatures are broken on purpose. */
  readonly bogus: readonly string[];
  readonly everyMs?: number;
  /** Between two tries while there is no proof. */
  readonly soonMs?: number;
  readonly clock: Clock;
  /** Called when the kind of the state changes, or its reason does. */
  readonly onChange?: (state: TrustState, before: TrustState) => void;
}

export interface Trust {
  /** Tests now. Two at once are one. Never rejects. */
  readonly check: () => Promise<TrustState>;
  readonly trusted: () => boolean;
  /**
   * Whether what the resolver said just now can be believed: true when it proved itself within the last second, or does
   * so by the signed name now. When it does not, everything is tested at once. Never rejects.
   */
  readonly confirm: () => Promise<boolean>;
  readonly state: () => TrustState;
  /** Tests now and then for ever, until `close`. Resolves after the first test. */
  readonly start: () => Promise<TrustState>;
  readonly close: () => void;
}

/** For how long a proof covers the answers that come after it. */
const FRESH_MS = 1_000;

export function createTrust({
  resolve,
  signed,
  bogus,
  everyMs = 60_000,
  soonMs = 5_000,
  clock,
  onChange,
}: TrustOptions): Trust {
  const closing = new AbortController();
  let state: TrustState = { kind: 'untested' };
  let underWay: Promise<TrustState> | null = null;
  let confirming: Promise<boolean> | null = null;
  /** By a clock that does not leap. */
  let provenAt = 0;
  /** Ends the pause before the next test: a proof that was lost under way is looked for sooner than one that holds. */
  let pause = new AbortController();

  const test = async (): Promise<TrustState> => {
    const [good, ...bad] = await Promise.all([
      resolve(signed, 'NS'),
      ...bogus.map(async (name) => ({ name, answer: await resolve(name, 'A') })),
    ]);
    const before = state;
    state = judgeProof({ name: signed, answer: good }, bad);
    if (state.kind === 'proven') provenAt = performance.now();
    else if (before.kind === 'proven') pause.abort();
    if (!closing.signal.aborted && JSON.stringify(state) !== JSON.stringify(before)) onChange?.(state, before);
    return state;
  };
  const check = (): Promise<TrustState> => {
    underWay ??= test().finally(() => {
      underWay = null;
    });
    return underWay;
  };
  const ask = async (): Promise<boolean> => {
    const answer = await resolve(signed, 'NS');
    if (judgeProof({ name: signed, answer }, []).kind !== 'proven') return (await check()).kind === 'proven';
    provenAt = performance.now();
    return state.kind === 'proven';
  };
  const confirm = async (): Promise<boolean> => {
    if (state.kind !== 'proven') return false;
    if (performance.now() - provenAt < FRESH_MS) return true;
    confirming ??= ask().finally(() => {
      confirming = null;
    });
    return confirming;
  };
  const goOn = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      const wasProven = state.kind === 'proven';
      pause = new AbortController();
      await clock.sleep(wasProven ? everyMs : soonMs, AbortSignal.any([closing.signal, pause.signal]));
      // Lost while we slept: that was a test already, and the next one is due soon.
      if (wasProven && pause.signal.aborted) continue;
      if (!closing.signal.aborted) await check();
    }
  };

  return {
    check,
    confirm,
    trusted: () => state.kind === 'proven',
    state: () => state,
    start: async () => {
      const first = await check();
      void goOn();
      return first;
    },
    close: () => closing.abort(),
  };
}

interface Probe<Data> {
  readonly name: string;
  readonly answer: DnsAnswer<Data>;
}

/** What the answers to the probes prove. */
export function judgeProof(good: Probe<unknown>, bad: readonly Probe<unknown>[]): TrustState {
  const believed = bad.find(({ answer }) => answer.kind === 'found' || (answer.kind === 'absent' && !answer.nxdomain));
  if (believed) {
    const reason = `it answers for ${believed.name}, whose signatures are wrong`;
    return { kind: 'not-validating', reason };
  }
  const { name, answer } = good;
  switch (answer.kind) {
    case 'failed':
      return { kind: 'unreachable', reason: `no answer for ${name}: ${answer.reason}` };
    case 'absent':
      return { kind: 'not-validating', reason: `it knows no name servers of ${name}` };
    case 'found':
      if (answer.secure) return { kind: 'proven' };
      return { kind: 'not-validating', reason: `its answer for ${name}, which is signed, does not have the AD bit` };
  }
}
