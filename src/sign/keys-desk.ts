/**
 * What `dane-relay dkim` does: shows keys with their records, makes new ones, lets them sign and ends old ones. It works
 * on the same files as a relay that runs, which takes over what is changed.
 */
import { generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import type { KeyChange, KeyDesk, KeyEntry } from '../model/dkim.ts';
import type { Resolve } from '../model/dns.ts';
import type { Clock } from '../shared/clock.ts';
import { endPair, type KeySource, publicationOf, publicationsOf } from './keys.ts';
import { readKeyFile } from './keys-file.ts';
import { type Publication, publicationInWords, publicPart, recordName, recordText, zoneLine } from './keys-record.ts';
import { promote, ROTATE_AFTER_MS, signingPair } from './keys-rotation.ts';
import { changePairs, type KeyPair, keyPath, readPairs, selectorsOf, writeKeys } from './keys-state.ts';

export interface KeyDeskOptions {
  readonly sources: readonly KeySource[];
  /** Folder of the managed keys. */
  readonly folder: string;
  /** Used for what needs DNS only. */
  readonly resolve: Resolve;
  readonly clock: Clock;
}

const RSA_BITS = 2048;
const generate = promisify(generateKeyPair);

export function createKeyDesk({ sources, folder, resolve, clock }: KeyDeskOptions): KeyDesk {
  const wanted = (domain: string | null): readonly KeySource[] =>
    sources.filter((source) => domain === null || source.domain === domain);

  const pairsOf = (domain: string): readonly KeyPair[] => readPairs(folder).filter((pair) => pair.domain === domain);

  /** @param asks  whether DNS is asked */
  const entriesOf = async (source: KeySource, asks: boolean): Promise<readonly KeyEntry[]> => {
    const entries: KeyEntry[] = [];
    for (const { selector, path } of source.files) {
      entries.push(await fileEntry(source.domain, selector, path, asks ? resolve : null, clock.now()));
    }
    if (!source.managed) return entries;
    const pairs = pairsOf(source.domain);
    for (const pair of pairs) {
      const publications = asks ? await publicationsOf(pair, resolve) : [null, null];
      const keys = [
        [selectorsOf(pair).rsa, 'rsa-sha256', pair.rsa],
        [selectorsOf(pair).ed25519, 'ed25519-sha256', pair.ed25519],
      ] as const;
      for (const [index, [selector, algorithm, publicKey]] of keys.entries()) {
        const reading =
          pair.state === 'retired' ? null : await readKeyFile(keyPath(folder, pair.domain, selector), 'own');
        const trouble = reading?.ok === false ? reading.why : null;
        entries.push({
          ...entry(pair.domain, selector, algorithm, publicKey),
          state: pair.state,
          since: pair.activeSince ?? pair.madeAt,
          retireAt: pair.retireAt,
          ...judged(pair, publications[index] ?? null, trouble, pairs, clock.now()),
        });
      }
    }
    return entries;
  };

  const all = async (domain: string | null, asks: boolean): Promise<readonly KeyEntry[]> => {
    if (domain !== null && wanted(domain).length === 0) {
      throw Object.assign(new Error(`the configuration has no line for ${domain} under "dkim"`), { exitCode: 2 });
    }
    const entries: KeyEntry[] = [];
    for (const source of wanted(domain)) entries.push(...(await entriesOf(source, asks)));
    return entries;
  };

  const refused = async (domain: string, why: string, asks = false): Promise<KeyChange> => ({
    done: false,
    why,
    entries: await all(domain, asks),
  });

  const managed = (domain: string): { readonly managed: NonNullable<KeySource['managed']> } => {
    const [source] = wanted(domain);
    if (source?.managed) return { managed: source.managed };
    const why = `the configuration does not manage keys for ${domain}: it wants "dkim: [{ domain: ${domain}, managed: true }]"`;
    throw Object.assign(new Error(why), { exitCode: 2 });
  };

  const make = async (domain: string): Promise<KeyChange> => {
    managed(domain);
    if (pairsOf(domain).some(({ state }) => state === 'next')) {
      return refused(domain, 'the next keys are there already; they wait for their records in DNS');
    }
    const pair = await newPair(folder, domain, clock.now());
    const selectors = Object.values(selectorsOf(pair));
    const entries = (await all(domain, false)).filter(({ selector }) => selectors.includes(selector));
    return {
      done: true,
      says: 'The next keys are made. Put these records into DNS; the keys sign once DNS shows them.',
      entries,
    };
  };

  const rotate = async (domain: string): Promise<KeyChange> => {
    const { managed: terms } = managed(domain);
    const next = pairsOf(domain).find(({ state }) => state === 'next');
    if (!next) return make(domain);
    const publications = await publicationsOf(next, resolve);
    if (publications.some(({ kind }) => kind !== 'shown')) {
      return refused(domain, 'the next keys cannot sign before DNS shows both of their records', true);
    }
    changePairs(folder, (pairs) => promote(pairs, next, clock.now(), terms.retireAfter));
    return {
      done: true,
      says: 'The new keys sign from now on. Leave the records of the old ones in DNS until they are retired.',
      entries: await all(domain, false),
    };
  };

  const end = async (domain: string, selector: string | null): Promise<KeyChange> => {
    managed(domain);
    const pairs = pairsOf(domain);
    const ending = pairs.filter((pair) =>
      selector === null ? pair.state === 'old' : Object.values(selectorsOf(pair)).includes(selector),
    );
    if (ending.length === 0)
      return refused(domain, selector === null ? 'there are no old keys' : `there is no key ${selector}`);
    if (ending.some(({ state }) => state === 'active')) {
      return refused(domain, 'these keys sign; make the next ones with "dane-relay dkim rotate" first');
    }
    const signing = signingPair(pairs, domain);
    if (ending.some((pair) => pair === signing)) {
      return refused(
        domain,
        'these keys sign, because DNS does not show the newer ones: put the records of those back',
      );
    }
    for (const pair of ending) {
      if (!endPair(folder, pair)) return refused(domain, 'somebody else has just let these keys sign');
    }
    return {
      done: true,
      says: 'The private keys are deleted. Their records can be taken out of DNS, or left with an empty p= to revoke them.',
      entries: await all(domain, false),
    };
  };

  return {
    bare: (domain) =>
      wanted(domain)
        .filter((source) => source.managed && source.files.length === 0)
        .map((source) => source.domain)
        .filter((each) => pairsOf(each).every(({ state }) => state === 'retired')),
    list: (domain) => all(domain, false),
    check: (domain) => all(domain, true),
    make,
    rotate,
    retire: end,
  };
}

function entry(domain: string, selector: string, algorithm: 'rsa-sha256' | 'ed25519-sha256', publicKey: string) {
  const name = recordName(selector, domain);
  const text = recordText(algorithm, publicKey);
  return { domain, selector, algorithm, name, text, zoneLine: zoneLine(name, text) };
}

/** Makes both keys and writes them down. Their name is the day, with a number where that day had keys already. */
async function newPair(folder: string, domain: string, now: number): Promise<KeyPair> {
  const [rsa, ed25519] = await Promise.all([generate('rsa', { modulusLength: RSA_BITS }), generate('ed25519')]);
  const pem = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString();
  const day = new Date(now).toISOString().slice(0, 10).replaceAll('-', '');
  for (let number = 1; ; number++) {
    const name = number === 1 ? day : `${day}-${number}`;
    if (readPairs(folder).some((pair) => pair.domain === domain && pair.name === name)) continue;
    const pair: KeyPair = {
      domain,
      name,
      state: 'next',
      madeAt: now,
      activeSince: null,
      retireAt: null,
      missingSince: null,
      rsa: publicPart(rsa.privateKey, 'rsa-sha256'),
      ed25519: publicPart(ed25519.privateKey, 'ed25519-sha256'),
    };
    const { rsa: first, ed25519: second } = selectorsOf(pair);
    let remove: () => void;
    try {
      remove = writeKeys(folder, domain, { [first]: pem(rsa.privateKey), [second]: pem(ed25519.privateKey) });
    } catch (error) {
      // Left by a crash, or being made by somebody else at this moment.
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue;
      throw error;
    }
    const isFree = (each: KeyPair): boolean => each.domain !== domain || each.state !== 'next';
    const after = changePairs(folder, (pairs) => (pairs.every(isFree) ? [...pairs, pair] : null));
    if (after.some(({ rsa: p }) => p === pair.rsa)) return pair;
    remove();
    throw new Error(`somebody else has just made the next keys of ${domain}`);
  }
}

/** What there is to say of one key of a pair, and whether it is a fault. */
function judged(
  pair: KeyPair,
  publication: Publication | null,
  trouble: string | null,
  pairs: readonly KeyPair[],
  now: number,
): Pick<KeyEntry, 'published' | 'note' | 'wrong'> {
  const published = publication?.kind ?? null;
  const tell = (note: string, wrong: boolean): Pick<KeyEntry, 'published' | 'note' | 'wrong'> => ({
    published,
    note,
    wrong,
  });
  if (trouble !== null) return tell(trouble, true);
  const words = publication === null ? '' : publicationInWords(publication);
  switch (pair.state) {
    case 'next':
      if (published === 'shown')
        return tell(`${words}; it signs soon, or at once with "dane-relay dkim rotate"`, false);
      return tell(
        words === '' ? 'waits for its record in DNS' : `${words}; it does not sign before`,
        // Where others sign, new ones may take their time.
        published === 'other' || (published === 'absent' && pairs.every(({ state }) => state !== 'active')),
      );
    case 'active': {
      if (published === 'unknown') return tell(words, true);
      if (published !== null && published !== 'shown') return tell(`${words}; nobody can verify what it signs`, true);
      if (pair.missingSince !== null)
        return tell('DNS did not show its record; it does not sign until the relay sees it', true);
      const due =
        now - (pair.activeSince ?? pair.madeAt) > ROTATE_AFTER_MS && pairs.every(({ state }) => state !== 'next');
      return tell(due ? `in use for more than half a year: run "dane-relay dkim rotate ${pair.domain}"` : words, false);
    }
    case 'old': {
      const until = pair.retireAt === null ? '' : ` until ${new Date(pair.retireAt).toISOString().slice(0, 10)}`;
      return tell(`replaced; its record must stay in DNS${until}`, published === 'absent' || published === 'other');
    }
    case 'retired':
      return tell(published === 'absent' ? 'gone' : 'its record can be taken out of DNS', false);
  }
}

async function fileEntry(
  domain: string,
  selector: string,
  path: string,
  resolve: Resolve | null,
  now: number,
): Promise<KeyEntry> {
  const reading = await readKeyFile(path, 'installed');
  const rest = { state: 'file', retireAt: null, published: null } as const;
  if (!reading.ok) {
    const name = recordName(selector, domain);
    const nothing = { algorithm: null, since: null, text: null, zoneLine: null };
    return { domain, selector, name, ...nothing, ...rest, note: reading.why, wrong: true };
  }
  const { algorithm, key, since } = reading;
  const known = { ...entry(domain, selector, algorithm, publicPart(key, algorithm)), ...rest, since };
  const publication = resolve && (await publicationOf({ domain, selector, algorithm, key }, resolve));
  if (publication && publication.kind !== 'shown') {
    const words = publicationInWords(publication);
    const note = publication.kind === 'unknown' ? words : `${words}; nobody can verify what it signs`;
    return { ...known, published: publication.kind, note, wrong: true };
  }
  const due = now - since > ROTATE_AFTER_MS;
  const note = due
    ? 'in use for more than half a year: replace it'
    : publication
      ? publicationInWords(publication)
      : '';
  return { ...known, published: publication?.kind ?? null, note, wrong: false };
}
