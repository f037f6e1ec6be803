/**
 * The keys that sign now, for all signing domains, and the care for those that the relay manages.
 *
 *   refresh   reads files and state again, so that what an operator changes counts without a restart
 *   tend      asks DNS: a next pair that is shown begins to sign, one whose record is gone stops, an old one retires,
 *             and keys that are old are called to mind. One process of a relay does this; all of them refresh.
 *
 * What is not known changes nothing: when DNS cannot be asked, what signs goes on signing and what waits goes on waiting.
 */
import { rmSync } from 'node:fs';
import type { Resolve } from '../model/dns.ts';
import type { Logger } from '../model/events.ts';
import type { Clock } from '../shared/clock.ts';
import { messageOf } from '../shared/message-of.ts';
import type { DomainKeys } from './dkim.ts';
import type { SigningKey } from './dkim-signature.ts';
import { type KeyReading, readKeyFile } from './keys-file.ts';
import { judgePublication, type Publication, publicationInWords, publicPart, recordName } from './keys-record.ts';
import { forget, overdue, promote, ROTATE_AFTER_MS, retire, seen, signingPair } from './keys-rotation.ts';
import { changePairs, type KeyPair, keyPath, type Pairs, readPairs, selectorsOf } from './keys-state.ts';

/** Where the keys of one signing domain come from. */
export interface KeySource {
  readonly domain: string;
  readonly files: readonly { readonly selector: string; readonly path: string }[];
  readonly managed: { readonly retireAfter: number } | null;
}

export interface KeyRingOptions {
  readonly sources: readonly KeySource[];
  /** Folder of the managed keys. */
  readonly folder: string;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface KeyRing {
  readonly keysOf: (domain: string) => DomainKeys;
  /** Reads everything again. Never rejects. */
  readonly refresh: () => Promise<void>;
  /** One round of care. Never rejects. */
  readonly tend: (resolve: Resolve) => Promise<void>;
  /** Other domains from now on; they can be used when this resolves. */
  readonly setSources: (sources: readonly KeySource[]) => Promise<void>;
}

/** A new record has to be seen for so long before it signs: all name servers of the domain should have it by then. */
export const SETTLE_MS = 10 * 60_000;
const REMIND_EVERY_MS = 7 * 86_400_000;

export async function createKeyRing({ sources, folder, clock, log }: KeyRingOptions): Promise<KeyRing> {
  let domains = sources;
  let known: ReadonlyMap<string, DomainKeys> = new Map();
  /** Domains that signed since this process began: what they have lost since then is a fault. */
  const signed = new Set<string>();
  /** Since when a next pair is seen in DNS. */
  const sightings = new Map<string, number>();
  const strikes = new Map<string, number>();
  const said = new Map<string, string>();
  let reminded = Number.NEGATIVE_INFINITY;

  /** Says it once, until it is something else. */
  const sayOnce = (about: string, words: string | null, fields: object): void => {
    if (said.get(about) === words || (words === null && !said.has(about))) return;
    if (words === null) {
      said.delete(about);
      log.info(`DKIM: ${about}: all is well again`, fields);
    } else {
      said.set(about, words);
      log.error(`DKIM: ${words.includes(about) ? '' : `${about}: `}${words}`, fields);
    }
  };

  const readAll = async (): Promise<void> => {
    const state = pairsOrWhy(folder);
    const next = new Map<string, DomainKeys>();
    for (const source of domains) {
      const keys = await keysFrom(source, folder, state);
      const { domain } = source;
      if (keys.kind === 'keys') signed.add(domain);
      const lost = keys.kind === 'not-yet' && signed.has(domain);
      const now: DomainKeys = lost ? { kind: 'unusable', code: 'dkim-key-unusable', why: keys.why } : keys;
      sayOnce(domain, now.kind === 'keys' ? null : now.why, { domain });
      next.set(domain, now);
    }
    known = next;
  };

  /** One after the other: what was read before must not come in the place of what was read later. */
  let reading = Promise.resolve();
  const refresh = (): Promise<void> => {
    // One that fails is no reason for the next not to read.
    reading = reading.then(readAll, readAll);
    return reading;
  };

  const change = (how: (pairs: Pairs) => Pairs | null): void => void changePairs(folder, how);

  const tendNext = (pair: KeyPair, retireAfter: number, shown: boolean, now: number): void => {
    const id = `${pair.domain} ${pair.name}`;
    if (!shown) return void sightings.delete(id);
    // What was seen at a time that is still to come was seen by a clock that has been put back since.
    const since = Math.min(sightings.get(id) ?? now, now);
    sightings.set(id, since);
    if (now - since < SETTLE_MS) return;
    sightings.delete(id);
    change((pairs) => promote(pairs, pair, now, retireAfter));
    log.info('DKIM: DNS shows the next keys; they sign from now on', {
      domain: pair.domain,
      selectors: selectorsOf(pair),
    });
  };

  /** One answer may be a slip; two in a row are not. */
  const tendShown = (pair: KeyPair, publications: readonly Publication[], now: number): void => {
    const id = `${pair.domain} ${pair.name}`;
    const gone = publications.find(({ kind }) => kind === 'absent' || kind === 'other');
    if (!gone) {
      strikes.delete(id);
      if (publications.every(({ kind }) => kind === 'shown')) change((pairs) => seen(pairs, pair, true, now));
      return;
    }
    const count = (strikes.get(id) ?? 0) + 1;
    strikes.set(id, count);
    if (count < 2 || pair.missingSince !== null) return;
    change((pairs) => seen(pairs, pair, false, now));
    log.error(`DKIM: keys do not sign any more: ${publicationInWords(gone)}`, {
      domain: pair.domain,
      selectors: selectorsOf(pair),
    });
  };

  const tendDomain = async ({ domain, managed }: KeySource, resolve: Resolve): Promise<void> => {
    if (!managed) return;
    for (const pair of readPairs(folder).filter((each) => each.domain === domain)) {
      const publications = await publicationsOf(pair, resolve);
      const now = clock.now();
      if (pair.state === 'next') {
        const shown = publications.every(({ kind }) => kind === 'shown');
        // Not knowing is no reason to begin, nor to begin anew.
        if (shown || publications.some(({ kind }) => kind === 'absent' || kind === 'other')) {
          tendNext(pair, managed.retireAfter, shown, now);
        }
      } else if (pair.state !== 'retired') {
        tendShown(pair, publications, now);
      } else {
        // A crash between the two steps of an end leaves the keys behind.
        deleteKeys(folder, pair);
        if (publications.every(({ kind }) => kind === 'absent')) change((pairs) => forget(pairs, pair));
      }
    }
    for (const pair of overdue(readPairs(folder), clock.now()).filter((each) => each.domain === domain)) {
      if (!endPair(folder, pair)) continue;
      log.warn('DKIM: old keys are retired; their records can be taken out of DNS', {
        domain,
        records: Object.values(selectorsOf(pair)).map((selector) => recordName(selector, domain)),
      });
    }
  };

  const tendFiles = async ({ domain, files }: KeySource, resolve: Resolve): Promise<void> => {
    for (const { selector, path } of files) {
      const reading = await readKeyFile(path, 'installed');
      if (!reading.ok) continue;
      const publication = await publicationOf({ domain, selector, ...reading }, resolve);
      if (publication.kind === 'unknown') continue;
      const words =
        publication.kind === 'shown' ? null : `signatures cannot be verified: ${publicationInWords(publication)}`;
      sayOnce(recordName(selector, domain), words, { domain, selector });
    }
  };

  const remind = async (): Promise<void> => {
    const now = clock.now();
    if (Math.abs(now - reminded) < REMIND_EVERY_MS) return;
    reminded = now;
    const state = pairsOrWhy(folder);
    for (const source of domains) {
      const since = await agesOf(source, state.ok ? state.pairs : []);
      if (!since.some((at) => now - at > ROTATE_AFTER_MS)) continue;
      const { domain } = source;
      const how = source.managed ? `run "dane-relay dkim rotate ${domain}"` : 'replace its key and its record';
      log.warn(`DKIM: a key of ${domain} has signed for more than half a year: ${how}`, { domain });
    }
  };

  await refresh();
  return {
    keysOf: (domain) => known.get(domain) ?? { kind: 'not-yet', why: `no key is configured for ${domain}` },
    refresh,
    tend: async (resolve) => {
      for (const source of domains) {
        try {
          await tendDomain(source, resolve);
          await tendFiles(source, resolve);
        } catch (error) {
          log.error('DKIM: the keys of a domain could not be looked after', {
            domain: source.domain,
            error: messageOf(error),
          });
        }
      }
      await remind();
      await refresh();
    },
    setSources: async (next) => {
      domains = next;
      await refresh();
    },
  };
}

/** What DNS has for both keys of a pair. */
export async function publicationsOf(pair: KeyPair, resolve: Resolve): Promise<readonly [Publication, Publication]> {
  const { rsa, ed25519 } = selectorsOf(pair);
  return [
    judgePublication(await resolve(recordName(rsa, pair.domain), 'TXT'), 'rsa-sha256', pair.rsa),
    judgePublication(await resolve(recordName(ed25519, pair.domain), 'TXT'), 'ed25519-sha256', pair.ed25519),
  ];
}

/** What DNS has for a key that is at hand. */
export async function publicationOf(
  { domain, selector, algorithm, key }: SigningKey,
  resolve: Resolve,
): Promise<Publication> {
  return judgePublication(await resolve(recordName(selector, domain), 'TXT'), algorithm, publicPart(key, algorithm));
}

/**
 * Retires a pair and deletes its private keys.
 *
 * @returns false where it signs, or has been let sign by another process meanwhile: then nothing is deleted
 */
export function endPair(folder: string, pair: KeyPair): boolean {
  const after = changePairs(folder, (pairs) => retire(pairs, pair));
  const ended = after.some(({ rsa, state }) => rsa === pair.rsa && state === 'retired');
  if (ended) deleteKeys(folder, pair);
  return ended;
}

function deleteKeys(folder: string, pair: KeyPair): void {
  for (const selector of Object.values(selectorsOf(pair)))
    rmSync(keyPath(folder, pair.domain, selector), { force: true });
}

type State = { readonly ok: true; readonly pairs: Pairs } | { readonly ok: false; readonly why: string };

function pairsOrWhy(folder: string): State {
  try {
    return { ok: true, pairs: readPairs(folder) };
  } catch (error) {
    return { ok: false, why: messageOf(error) };
  }
}

async function keysFrom({ domain, files, managed }: KeySource, folder: string, state: State): Promise<DomainKeys> {
  const unusable = (why: string): DomainKeys => ({ kind: 'unusable', code: 'dkim-key-unusable', why });
  const keys: SigningKey[] = [];
  const take = (selector: string, reading: KeyReading): string | null => {
    if (!reading.ok) return reading.why;
    keys.push({ domain, selector, algorithm: reading.algorithm, key: reading.key });
    return null;
  };
  for (const { selector, path } of files) {
    const trouble = take(selector, await readKeyFile(path, 'installed'));
    if (trouble !== null) return unusable(trouble);
  }
  if (managed) {
    if (!state.ok) return unusable(state.why);
    const pair = signingPair(state.pairs, domain);
    for (const selector of pair ? Object.values(selectorsOf(pair)) : []) {
      const trouble = take(selector, await readKeyFile(keyPath(folder, domain, selector), 'own'));
      if (trouble !== null) return unusable(trouble);
    }
  }
  const [first, ...rest] = keys;
  return first ? { kind: 'keys', keys: [first, ...rest] } : whyNone(domain, state.ok ? state.pairs : []);
}

function whyNone(domain: string, pairs: Pairs): DomainKeys {
  const states = pairs.filter((pair) => pair.domain === domain).map(({ state }) => state);
  if (states.includes('active')) {
    return { kind: 'unusable', code: 'dkim-key-unpublished', why: `DNS does not show the keys of ${domain} any more` };
  }
  if (states.includes('next')) {
    return { kind: 'not-yet', why: `the first keys of ${domain} wait for their records in DNS` };
  }
  return { kind: 'not-yet', why: `${domain} has no keys yet: run "dane-relay dkim new ${domain}"` };
}

/** Since when the keys that sign for a domain have been in use; none where the next ones are made already. */
async function agesOf({ domain, files, managed }: KeySource, pairs: Pairs): Promise<readonly number[]> {
  const own = managed ? pairs.filter((pair) => pair.domain === domain) : [];
  const active = own.some(({ state }) => state === 'next') ? [] : own.filter(({ state }) => state === 'active');
  const readings = await Promise.all(files.map(({ path }) => readKeyFile(path, 'installed')));
  return [
    ...active.map(({ activeSince, madeAt }) => activeSince ?? madeAt),
    ...readings.flatMap((key) => (key.ok ? key.since : [])),
  ];
}
