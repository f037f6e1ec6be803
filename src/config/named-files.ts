/** Reads the files that the configuration names and that decide what is right: a mistake in one is told with the key. */
import { X509Certificate } from 'node:crypto';
import type { Path } from './document.ts';
import { readTextFile } from './read-file.ts';
import type { Written } from './schema.ts';

export interface NamedFiles {
  /** Certificates in PEM; null where no file is named. */
  readonly authorities: readonly string[] | null;
  readonly complaints: readonly FileComplaint[];
}

interface FileComplaint {
  /** The key that names the file. */
  readonly path: Path;
  readonly message: string;
  readonly expected: string;
}

/** A bundle of all public authorities has about 250 kB. */
const AUTHORITIES_OCTETS = 4_194_304;

/** @param place makes a path absolute */
export function readNamedFiles({ delivery }: Written, place: (path: string) => string): NamedFiles {
  const complaints: FileComplaint[] = [];
  const { ca } = delivery;
  const authorities =
    ca === undefined
      ? null
      : readAuthorities(place(ca), (message) => {
          complaints.push({
            path: ['delivery', 'ca'],
            message,
            expected: 'a file with certificates of authorities as PEM',
          });
        });
  return { authorities, complaints };
}

function readAuthorities(file: string, complain: (message: string) => void): readonly string[] {
  const read = readTextFile(file, AUTHORITIES_OCTETS);
  if (read.kind !== 'text') {
    complain(`names a file that cannot be read: ${read.reason}`);
    return [];
  }
  const found = read.text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (found.length === 0) complain('names a file without any certificate');
  const bad = found.findIndex((pem) => !isAuthority(pem));
  if (bad >= 0) complain(`names a file whose certificate number ${bad + 1} is not that of an authority`);
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
