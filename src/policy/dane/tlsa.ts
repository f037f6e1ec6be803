/**
 * TLSA records: read, judged usable or not (RFC 6698 §4.1, RFC 7672 §3.1), thinned by digest agility (RFC 7671 §9),
 * and found under the base domain that rules (RFC 7672 §2.2.3). What they demand of a connection is decided elsewhere.
 */
import { X509Certificate } from 'node:crypto';
import { type DnsAnswer, dnssecOf, type Resolve } from '../../model/dns.ts';
import type { JudgedRecord, TlsaFindings, TlsaRecord } from '../../model/tls-policy.ts';
import { isDomain } from '../../shared/domain-name.ts';
import { DIGESTS, readCertificate } from './certificate.ts';
import { readPublicKey } from './signature.ts';

export type Digest = 'sha256' | 'sha512';

/** Digests in order of strength, the strongest first. One that is left out makes its records unusable. */
export const STRONGEST_FIRST: readonly Digest[] = ['sha512', 'sha256'];

/** The records of one RRset, judged one by one and as a set. */
export interface JudgedSet {
  readonly records: readonly JudgedRecord[];
  readonly considered: readonly TlsaRecord[];
}

/** @returns null for RDATA that is too short to be a record: no association data (RFC 6698 §2.1) */
export function readRdata(rdata: Buffer): TlsaRecord | null {
  const [usage, selector, matching] = rdata;
  if (usage === undefined || selector === undefined || matching === undefined || rdata.length === 3) return null;
  return { usage, selector, matching, data: rdata.subarray(3) };
}

/** The presentation form of RFC 6698 §2.2, or that of RFC 3597 §5 for RDATA that is no record. */
export function textOf(rdata: Buffer): string {
  const record = readRdata(rdata);
  return record ? textOfRecord(record) : `\\# ${rdata.length} ${rdata.toString('hex')}`.trimEnd();
}

export function textOfRecord({ usage, selector, matching, data }: TlsaRecord): string {
  return `${usage} ${selector} ${matching} ${data.toString('hex')}`;
}

/**
 * Reads `U S M HEX` as people write it: any case, HEX in one piece or several; `\# LENGTH HEX` as well.
 *
 * @returns RDATA, or in words what is wrong with the text. Numbers that nobody knows and data of a wrong length are
 *          no mistakes here: such records can be published, and are judged unusable
 */
export function parseTlsa(text: string): { readonly rdata: Buffer } | { readonly mistake: string } {
  const trimmed = text.trim();
  const unknown = /^\\#\s+(\d{1,5})((?:\s+[0-9a-f]+)*)$/i.exec(trimmed);
  if (unknown) {
    const rdata = hex(unknown[2] ?? '');
    return rdata?.length === Number(unknown[1])
      ? { rdata }
      : { mistake: 'the length after \\# is not that of the data' };
  }
  const fields = /^(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})(?:\s+(\S[\s\S]*))?$/.exec(trimmed);
  if (fields === null)
    return { mistake: 'a TLSA record is written as three numbers and hexadecimal data: 3 1 1 ab12…' };
  const numbers = fields.slice(1, 4).map(Number);
  if (numbers.some((number) => number > 255)) return { mistake: 'usage, selector and matching type are at most 255' };
  const data = hex(fields[4] ?? '');
  if (data === null) return { mistake: 'the data must be hexadecimal, two digits for each octet, not base64 or PEM' };
  return { rdata: Buffer.concat([Buffer.from(numbers), data]) };
}

function hex(text: string): Buffer | null {
  const digits = text.replace(/\s+/g, '');
  return digits.length % 2 === 0 && /^[0-9a-f]*$/i.test(digits) ? Buffer.from(digits, 'hex') : null;
}

/**
 * Judges an RRset: what cannot be used is set aside first, and only then the strongest digest is chosen for each usage
 * and selector; Full(0) is never excluded (RFC 7671 §9).
 */
export function judgeRecords(rrset: readonly Buffer[], digests: readonly Digest[] = STRONGEST_FIRST): JudgedSet {
  const judged = rrset.map((rdata) => {
    const record = readRdata(rdata);
    const why = record ? whyUnusable(record, digests) : 'it is too short: there is no association data';
    return { text: textOf(rdata), record, why };
  });

  const best = new Map<string, number>();
  for (const { record, why } of judged) {
    if (!record || why !== null || record.matching === 0) continue;
    best.set(groupOf(record), Math.min(best.get(groupOf(record)) ?? digests.length, rank(record, digests)));
  }

  const records: JudgedRecord[] = [];
  const considered: TlsaRecord[] = [];
  for (const { text, record, why } of judged) {
    const stronger = record && record.matching !== 0 ? best.get(groupOf(record)) : undefined;
    if (!record || why !== null) records.push({ text, usable: false, considered: false, why });
    else if (stronger !== undefined && stronger < rank(record, digests)) {
      const why = `set aside by digest agility: there are ${digests[stronger]} records with the same usage and selector`;
      records.push({ text, usable: true, considered: false, why });
    } else {
      records.push({ text, usable: true, considered: true, why: null });
      considered.push(record);
    }
  }
  return { records, considered };
}

function groupOf({ usage, selector }: TlsaRecord): string {
  return `${usage} ${selector}`;
}

function rank({ matching }: TlsaRecord, digests: readonly Digest[]): number {
  const digest = DIGESTS[matching];
  return digest ? digests.indexOf(digest.name) : digests.length;
}

/**
 * Why a record cannot be used for SMTP, in words; null when it can (RFC 6698 §4.1, RFC 7672 §3.1).
 *
 * Only DANE-TA(2) and DANE-EE(3) count: a mail server has nobody to ask about public CAs (RFC 7672 §3.1.3). Data that
 * could never match, by its length or because it is no certificate or key, makes a record as unusable as an unknown
 * number does.
 */
function whyUnusable({ usage, selector, matching, data }: TlsaRecord, digests: readonly Digest[]): string | null {
  if (usage === 0 || usage === 1) return `usage ${usage} relies on public CAs, which do not count for SMTP`;
  if (usage > 3) return `usage ${usage} is unknown`;
  if (selector > 1) return `selector ${selector} is unknown`;
  if (matching === 0) return selector === 0 ? whyNoCertificate(data) : whyNoKey(data);

  const digest = DIGESTS[matching];
  if (digest === undefined) return `matching type ${matching} is unknown`;
  if (!digests.includes(digest.name)) return `matching type ${matching} (${digest.name}) is not accepted here`;
  if (data.length === digest.octets) return null;
  const other = Object.entries(DIGESTS).find(([, known]) => known?.octets === data.length);
  const hint = other ? `, which is the length for matching type ${other[0]}` : '';
  return `matching type ${matching} has ${digest.octets} octets of data, this record ${data.length}${hint}`;
}

function whyNoCertificate(data: Buffer): string | null {
  const certificate = readCertificate(data);
  if (certificate === null || !isReadable(data)) return 'the data is not exactly one certificate in DER';
  return readPublicKey(certificate.spki) ? null : 'the key of the certificate in the data is of an unsupported kind';
}

function isReadable(certificate: Buffer): boolean {
  try {
    return new X509Certificate(certificate).raw.equals(certificate);
  } catch {
    return false;
  }
}

function whyNoKey(data: Buffer): string | null {
  return readPublicKey(data) ? null : 'the data is not exactly one public key in DER of a supported kind';
}

export interface TlsaFinderOptions {
  readonly resolve: Resolve;
  /** Default: SHA2-512 before SHA2-256. */
  readonly digests?: readonly Digest[];
}

/**
 * Asks for the TLSA records of a host under each candidate base domain in turn (RFC 7672 §2.2.3).
 *
 * The first secure RRset rules, usable or not. A proof that there is none, and an insecure answer, lead on to the next
 * candidate; a failed lookup ends the walk, whatever the next candidate might say.
 *
 * @returns a function of the candidates (A-labels, in order) and the TCP port; it never rejects for what the network did
 */
export function createTlsaFinder({ resolve, digests = STRONGEST_FIRST }: TlsaFinderOptions) {
  return async (bases: readonly string[], port: number): Promise<TlsaFindings> => {
    let last: TlsaFindings = findings('', { kind: 'absent', secure: false, name: '', nxdomain: true }, null, digests);
    for (const base of bases) {
      const name = `_${port}._tcp.${base}`;
      // A name that is too long to ask for cannot have been published either.
      const answer: DnsAnswer<Buffer> = isDomain(name)
        ? await resolve(name, 'TLSA')
        : { kind: 'absent', secure: true, name, nxdomain: true };
      last = findings(name, answer, base, digests);
      if (answer.kind === 'failed' || last.base !== null) return last;
    }
    return last;
  };
}

/** What one answer means, with no network in it. */
function findings(
  name: string,
  answer: DnsAnswer<Buffer>,
  base: string | null,
  digests: readonly Digest[],
): TlsaFindings {
  const nothing = { name, dnssec: dnssecOf(answer), base: null, records: [], considered: [], failure: null };
  switch (answer.kind) {
    case 'failed':
      return {
        ...nothing,
        failure: answer.extended?.text ? `${answer.reason} (${answer.extended.text})` : answer.reason,
      };
    case 'absent':
      return nothing;
    case 'found': {
      const judged = judgeRecords(answer.records, digests);
      if (answer.secure) return { ...nothing, base, ...judged };
      const why = 'the answer is not protected by DNSSEC';
      return { ...nothing, records: judged.records.map((record) => ({ ...record, considered: false, why })) };
    }
  }
}
