/**
 * What an administrator needs to hear when no record matches: which of the usual mistakes it looks like. Words only;
 * nothing here makes a certificate pass. Names out of certificates come from strangers and are made harmless.
 */
import { createHash } from 'node:crypto';
import type { TlsaRecord } from '../../model/tls-policy.ts';
import { associationData, type Certificate, readCertificate } from './certificate.ts';
import { readInside } from './der.ts';
import { type Details, readDetails } from './details.ts';
import { dnsNamesOf } from './names.ts';

/** The best hints that can be given, joined; never empty. */
export function hintForMismatch(
  chain: readonly [Certificate, ...Certificate[]],
  records: readonly TlsaRecord[],
  at: number,
): string {
  const near = records.slice(0, RECORDS_AT_MOST).map((record) => nearMiss(record, chain));
  const hints = [...new Set(near.filter((hint) => hint !== null))].slice(0, 3);
  return hints.length > 0 ? hints.join('; ') : farMiss(chain, records, at);
}

const RECORDS_AT_MOST = 50;
const CERTIFICATES_AT_MOST = 50;

/** `3 1 1 0123456789abcdef…`: enough to find a record by. */
export function shorten(record: string): string {
  return record.length > 30 ? `${record.slice(0, 22)}…` : record;
}

/** A record that picks something, only not what its three numbers say. */
function nearMiss(record: TlsaRecord, chain: readonly Certificate[]): string | null {
  const written = shorten(`${numbers(record)} ${record.data.toString('hex')}`);
  for (const [depth, certificate] of chain.slice(0, CERTIFICATES_AT_MOST).entries()) {
    const whose = depth === 0 ? 'the certificate of the server' : `certificate ${depth + 1} of those that were sent`;
    const fitting = COMBINATIONS.find(([selector, matching]) =>
      associationData(certificate, selector, matching)?.equals(record.data),
    );
    if (fitting) return misuse(record, written, whose, depth, fitting);
    if (isDigestOfBareKey(record, certificate)) {
      return `${written} is the digest of the bare key in ${whose}; it must be that of the whole SubjectPublicKeyInfo`;
    }
  }
  const [leaf] = chain;
  return leaf ? renewed(record, written, leaf) : null;
}

const COMBINATIONS = [
  [1, 1],
  [0, 1],
  [1, 2],
  [0, 2],
  [1, 0],
  [0, 0],
] as const;

function misuse(
  { usage, selector, matching }: TlsaRecord,
  written: string,
  whose: string,
  depth: number,
  [rightSelector, rightMatching]: readonly [number, number],
): string {
  const what = `${MATCHING[rightMatching]} ${SELECTOR[rightSelector]} ${whose}`;
  const rightUsage = depth === 0 ? 3 : 2;
  const right = `${rightUsage} ${rightSelector} ${rightMatching}`;
  const is = `${written} is ${what}`;
  if (usage === 2 && depth === 0) return `${is}, which is no trust anchor for itself: publish 3 1 1 instead`;
  if (usage === 3 && depth > 0)
    return `${is}, which is not its own: as an issuer it would have to be published as ${right}`;
  return selector === rightSelector && matching === rightMatching ? is : `${is}, so its numbers should be ${right}`;
}

const SELECTOR = ['of the whole of', 'of the key of'];
const MATCHING = ['the full encoding', 'the SHA-256', 'the SHA-512'];

function isDigestOfBareKey({ data, matching }: TlsaRecord, { spki }: Certificate): boolean {
  const key = readInside(spki)?.[1]?.content.subarray(1);
  const digest = matching === 1 ? 'sha256' : matching === 2 ? 'sha512' : null;
  return key !== undefined && digest !== null && createHash(digest).update(key).digest().equals(data);
}

/** A whole certificate in DNS can be laid beside the one that came. */
function renewed({ selector, matching, data }: TlsaRecord, written: string, leaf: Certificate): string | null {
  const old = selector === 0 && matching === 0 ? readCertificate(data) : null;
  if (old === null || !old.issuer.equals(leaf.issuer)) return null;
  const key = old.spki.equals(leaf.spki)
    ? 'with the same key, so a record 3 1 1 would still match'
    : 'with another key';
  return `${written} holds an older certificate from the same issuer; it has been renewed ${key}`;
}

/** Issuers whose records are still met although they issue no more. */
const RETIRED: Readonly<Record<string, string>> = {
  '60b87575447dcba2a36b7d11ac09fb24a9db406fee12d2cc90180517616e8a18': 'Let’s Encrypt X3, retired in 2020',
  '8d02536c887482bc34ff54e41d2ba659bf85b341a0a20afadb5813dcfbcf286d': 'Let’s Encrypt R3, retired in 2024',
};

function farMiss(
  [leaf, ...others]: readonly [Certificate, ...Certificate[]],
  records: readonly TlsaRecord[],
  at: number,
): string {
  const retired = records.map(({ data }) => RETIRED[data.toString('hex')]).find((name) => name !== undefined);
  const details = readDetails(leaf);
  const hints = [`the server sent a ${describe(leaf)}`];
  if (retired) hints.push(`a record names ${retired}`);
  if (records.some(({ usage }) => usage === 3)) hints.push(renewalHint(details, at));
  if (records.some(({ usage }) => usage === 2)) {
    const sent = others.length === 0 ? 'it sent no issuing certificate' : `it sent ${others.length} more`;
    hints.push(`${sent}; a trust anchor that is published by digest must be sent by the server`);
  }
  return hints.filter((hint) => hint !== '').join('; ');
}

const MONTH = 31 * 86_400_000;

function renewalHint({ notBefore }: Details, at: number): string {
  if (notBefore === null) return '';
  const since = `issued ${new Date(notBefore).toISOString().slice(0, 10)}`;
  const recent = at - notBefore >= 0 && at - notBefore < MONTH;
  return recent ? `${since}: probably renewed with a new key while the TLSA records stayed` : since;
}

/** A certificate in a few words. */
export function describe(certificate: Certificate): string {
  const { subject, issuer, alternativeNames } = readDetails(certificate);
  const { hosts } = dnsNamesOf({ subject, alternativeNames });
  const by = subject.id === issuer.id ? 'self-issued' : `by ${quoteAll(issuer.commonNames.slice(0, 1))}`;
  return `certificate for ${quoteAll(hosts.slice(0, 3))}, ${by}`;
}

/** Names for a line of text: printable ASCII, of bounded length and number. */
export function quoteAll(names: readonly string[], separator = ', '): string {
  if (names.length === 0) return 'no name';
  const shown = names.slice(0, 5).map(harmless);
  return names.length > 5 ? `${shown.join(separator)}${separator}… (${names.length} in all)` : shown.join(separator);
}

function harmless(name: string): string {
  const clean = name.slice(0, 100).replace(/[^!-~ ]/g, '?');
  return name.length > 100 ? `${clean}…` : clean;
}

function numbers({ usage, selector, matching }: TlsaRecord): string {
  return `${usage} ${selector} ${matching}`;
}
