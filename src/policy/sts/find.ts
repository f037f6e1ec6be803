/**
 * The MTA-STS policy that holds for a domain now: TXT record, cache, fetch (RFC 8461 §3.3, §5.1).
 *
 *   TXT record          policy in the cache          what holds
 *   same version        within its max_age           the cached one
 *   another version     any                          the new one, once it is fetched; if that fails, as below
 *   none, or unknown    within its max_age           the cached one
 *   none, or unknown    none, or its time is over    as if the domain had no MTA-STS
 *
 * So whoever keeps the DNS or the policy host from us cannot make us forget what we know. After a fetch that failed the
 * same version is left alone for five minutes. Every attempt to deliver asks for the TXT record, so that no mail can
 * fail for good before a newer policy was looked for.
 */
import type { Resolve } from '../../model/dns.ts';
import type { Logger } from '../../model/events.ts';
import type { StsFailure, StsFindings, StsPolicy } from '../../model/sts.ts';
import type { Destination } from '../../model/tls-policy.ts';
import { harmless } from '../../shared/harmless.ts';
import type { StsCache, StsEntry } from './cache.ts';
import type { Fetched, FetchPolicy } from './fetch.ts';
import { readPolicy } from './policy.ts';
import { readRecord, recordName, type StsRecord } from './record.ts';

/**
 * The domain whose policy counts: that of the recipient, or the one that a route names (RFC 8461 §3.4). Never the end of
 * an alias, and never a parent: those could be somebody else's. Null where MTA-STS has no say.
 */
export function policyDomainOf({ tls, nextHop }: Destination): string | null {
  if (tls === 'may' || nextHop.kind === 'literal') return null;
  return nextHop.kind === 'domain' ? nextHop.domain : nextHop.host;
}

export interface StsOptions {
  readonly resolve: Resolve;
  readonly fetchPolicy: FetchPolicy;
  readonly cache: StsCache;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly log: Pick<Logger, 'info' | 'warn'>;
}

export interface Sts {
  /** What holds for a policy domain (canonical). Never rejects. */
  readonly find: (domain: string) => Promise<StsFindings>;
  /** Fetches ahead of their end the policies of domains that mail goes to; forgets the others in time. Never rejects. */
  readonly refresh: () => Promise<void>;
}

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
/** RFC 8461 §3.3: five minutes or longer, for each version. */
const BACK_OFF = 5 * MINUTE;
/** RFC 8461 §10.2 suggests to refresh once a day. */
const REFRESHED_AFTER = DAY;
/** At the same time: a policy host that never answers keeps one of these places, and not all others waiting. */
const REFRESHED_AT_ONCE = 8;
/** How long a domain to which no mail goes is refreshed, and how long it is kept. */
const IN_USE = 30 * DAY;
const KEPT = 400 * DAY;

type Held = Extract<StsFindings, { kind: 'policy' }>;

export function createSts({ resolve, fetchPolicy, cache, now, log }: StsOptions): Sts {
  const underWay = new Map<string, Promise<StsEntry>>();

  const lookUp = async (domain: string): Promise<StsRecord> => readRecord(await resolve(recordName(domain), 'TXT'));

  /** Fetches one version; everybody who asks for it meanwhile gets the same answer. */
  function update(domain: string, id: string): Promise<StsEntry> {
    const key = `${domain} ${id}`;
    const already = underWay.get(key);
    if (already) return already;
    const fetching = fetchVersion(domain, id).finally(() => underWay.delete(key));
    underWay.set(key, fetching);
    return fetching;
  }

  async function fetchVersion(domain: string, id: string): Promise<StsEntry> {
    const began = now();
    const fetched = await fetchPolicy(domain);
    // Another process may have been luckier, or later.
    const known = await cache.read(domain, 'disk');
    if (known?.policy?.id === id && known.policy.fetchedAt > began) return known;
    const at = now();
    // Nothing goes out any more by then; a failure that was none must not be held against the domain later.
    if (fetched.kind === 'stopped') return known ?? { domain, usedAt: at, policy: null, failure: null };
    const { text, failure } = judge(fetched);
    const entry: StsEntry = {
      domain,
      usedAt: known?.usedAt ?? at,
      policy: failure ? (known?.policy ?? null) : { id, fetchedAt: at, text },
      failure: failure && { ...failure, id, at },
    };
    if (failure)
      log.warn(`the MTA-STS policy of ${domain} cannot be had: ${failure.detail}`, { domain, id, ...failure });
    else if (known?.policy?.text !== text) log.info(`a new MTA-STS policy of ${domain}`, { domain, id });
    await cache.write(entry);
    return entry;
  }

  const isLongAgo = ({ usedAt }: StsEntry): boolean => Math.abs(now() - usedAt) > DAY;

  /** Mail goes there. Meanwhile somebody may have written what is newer than what was just read, which must stay. */
  async function noteUse(domain: string): Promise<StsEntry | null> {
    const newest = await cache.read(domain, 'disk');
    if (newest && isLongAgo(newest)) void cache.write({ ...newest, usedAt: now() });
    return newest;
  }

  async function find(domain: string): Promise<StsFindings> {
    const [record, known] = await Promise.all([lookUp(domain), cache.read(domain)]);
    const before = known && isLongAgo(known) ? await noteUse(domain) : known;
    const held = heldBy(before, now());
    if (record.kind !== 'found') return held ?? { kind: 'none', domain, why: record.why, failure: null };
    // What went wrong with a version that is no longer announced does not matter any more.
    if (held?.id === record.id) return before?.failure?.id === record.id ? held : { ...held, failure: null };

    const backsOff = before !== null && isBackingOff(before, record.id, now());
    const entry = backsOff ? before : await update(domain, record.id);
    // What came just now holds for this message, however short its max_age.
    const cameNow = !backsOff && entry.failure === null ? entry.policy : null;
    const found = heldBy(entry, cameNow?.fetchedAt ?? now());
    const failure = entry.failure && { type: entry.failure.type, detail: entry.failure.detail };
    return found ?? { kind: 'none', domain, why: failure?.detail ?? 'its policy is out of date', failure };
  }

  async function refreshOne(entry: StsEntry): Promise<void> {
    const { domain, policy, usedAt } = entry;
    const parsed = policy && parse(policy);
    if (!policy || !parsed || parsed.mode === 'none' || now() - usedAt > IN_USE) return;
    const age = now() - policy.fetchedAt;
    if (age >= 0 && age < Math.min(REFRESHED_AFTER, parsed.maxAge * 500)) return;
    const record = await lookUp(domain);
    // A domain that has taken its record away wants its policy to end (RFC 8461 §8.3).
    if (record.kind === 'none') return;
    const id = record.kind === 'found' ? record.id : policy.id;
    if (!isBackingOff(entry, id, now())) await update(domain, id);
  }

  return {
    find,
    refresh: async () => {
      const entries = cache.all();
      const place = async (): Promise<void> => {
        for await (const entry of entries) await refreshOne(entry);
      };
      await Promise.all(Array.from({ length: REFRESHED_AT_ONCE }, place));
      await cache.sweep(now() - KEPT);
    },
  };
}

/** The policy of an entry while it holds; what went wrong since then goes with it. */
function heldBy(entry: StsEntry | null, at: number): Held | null {
  const policy = entry?.policy && parse(entry.policy);
  if (!entry?.policy || !policy || at > entry.policy.fetchedAt + policy.maxAge * 1000) return null;
  const { id, fetchedAt } = entry.policy;
  const failure = entry.failure && { type: entry.failure.type, detail: entry.failure.detail };
  return { kind: 'policy', domain: entry.domain, policy, id, fetchedAt, failure };
}

function isBackingOff({ failure }: StsEntry, id: string, at: number): boolean {
  return failure !== null && failure.id === id && Math.abs(at - failure.at) < BACK_OFF;
}

function judge(fetched: Exclude<Fetched, { kind: 'stopped' }>): {
  readonly text: string;
  readonly failure: StsFailure | null;
} {
  const failed = ({ type, detail }: StsFailure) => ({ text: '', failure: { type, detail: harmless(detail) } });
  if (fetched.kind === 'failed') return failed(fetched.failure);
  const reading = readPolicy(fetched.octets);
  if (reading.kind === 'policy') return { text: fetched.octets.toString('utf8'), failure: null };
  return failed({ type: 'sts-policy-invalid', detail: `its MTA-STS policy is not valid: ${reading.why}` });
}

/** Read once for as long as the entry is in memory. Null for a file that was tampered with. */
function parse(stored: NonNullable<StsEntry['policy']>): StsPolicy | null {
  const known = parsed.get(stored);
  if (known !== undefined) return known;
  const reading = readPolicy(Buffer.from(stored.text));
  const policy = reading.kind === 'policy' ? reading.policy : null;
  parsed.set(stored, policy);
  return policy;
}

const parsed = new WeakMap<NonNullable<StsEntry['policy']>, StsPolicy | null>();
