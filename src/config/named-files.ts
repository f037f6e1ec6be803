/** Reads the files that the configuration names and that decide what is right: a mistake in one is told with its place. */
import { X509Certificate } from 'node:crypto';
import type { Path, Place } from './document.ts';
import { domainPattern } from './notation.ts';
import { readTextFile } from './read-file.ts';
import type { Written } from './schema.ts';

export interface NamedFiles {
  /** Certificates in PEM; null where no file is named. */
  readonly authorities: readonly string[] | null;
  /** By the number of the rule that names the file. */
  readonly domains: ReadonlyMap<number, DomainsFile>;
  readonly complaints: readonly FileComplaint[];
}

interface DomainsFile {
  readonly file: string;
  /** Canonical patterns with the lines that they stand in. */
  readonly entries: readonly { readonly domain: string; readonly line: number }[];
}

interface FileComplaint {
  /** The key that names the file. */
  readonly path: Path;
  /** Where in the file it is; null for the file as a whole. */
  readonly inside: { readonly file: string; readonly place: Place } | null;
  readonly message: string;
  readonly expected: string;
  readonly nearest?: string;
}

type Complain = (complaint: Omit<FileComplaint, 'path'>) => void;

/** A bundle of all public authorities has about 250 kB. */
const AUTHORITIES_OCTETS = 4_194_304;
/** A million domains fit. */
const DOMAINS_OCTETS = 33_554_432;
/** More are not listed: nobody reads them. */
const MISTAKES_IN_A_FILE = 20;

/** @param place makes a path absolute */
export function readNamedFiles({ delivery, destinations }: Written, place: (path: string) => string): NamedFiles {
  const complaints: FileComplaint[] = [];
  const at =
    (path: Path): Complain =>
    (complaint) =>
      void complaints.push({ path, ...complaint });
  const { ca } = delivery;
  const authorities = ca === undefined ? null : readAuthorities(place(ca), at(['delivery', 'ca']));
  const domains = new Map<number, DomainsFile>();
  destinations.forEach(({ domains: file }, index) => {
    if (file === undefined) return;
    domains.set(index, { file, entries: readDomains(file, place(file), at(['destinations', index, 'domains'])) });
  });
  return { authorities, domains, complaints };
}

function readAuthorities(path: string, complain: Complain): readonly string[] {
  const about = { inside: null, expected: 'a file with certificates of authorities as PEM' };
  const read = readTextFile(path, AUTHORITIES_OCTETS);
  if (read.kind !== 'text') {
    complain({ ...about, message: `names a file that cannot be read: ${read.reason}` });
    return [];
  }
  const found = read.text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (found.length === 0) complain({ ...about, message: 'names a file without any certificate' });
  const bad = found.findIndex((pem) => !isAuthority(pem));
  if (bad >= 0) {
    complain({ ...about, message: `names a file whose certificate number ${bad + 1} is not that of an authority` });
  }
  return found;
}

function isAuthority(pem: string): boolean {
  try {
    const { ca, subject, issuer } = new X509Certificate(pem);
    // Roots of version 1 do not say that they are one.
    return ca || subject === issuer;
  } catch {
    return false;
  }
}

function readDomains(file: string, path: string, complain: Complain): DomainsFile['entries'] {
  const read = readTextFile(path, DOMAINS_OCTETS);
  if (read.kind !== 'text') {
    const expected = 'a file with one domain a line';
    complain({ inside: null, message: `names a file that cannot be read: ${read.reason}`, expected });
    return [];
  }
  const entries: DomainsFile['entries'][number][] = [];
  let mistakes = 0;
  let line = 0;
  for (const row of read.text.replace(/^\ufeff/, '').split('\n')) {
    line += 1;
    const written = row.replace(/#.*/, '').trim();
    if (written === '') continue;
    const reading = domainPattern.read(written);
    if (reading.ok) entries.push({ domain: reading.value, line });
    else if (mistakes++ < MISTAKES_IN_A_FILE) {
      const inside = { file, place: { line, column: row.indexOf(written) + 1 } };
      const { message, nearest } = reading;
      complain({ inside, message, expected: domainPattern.expected, ...(nearest !== undefined && { nearest }) });
    }
  }
  // A rule that was meant for many and holds for nobody is a mistake: the mail would go by another rule.
  if (entries.length === 0 && mistakes === 0) {
    complain({ inside: null, message: 'names a file without any domain', expected: 'one domain a line' });
  }
  return entries;
}
