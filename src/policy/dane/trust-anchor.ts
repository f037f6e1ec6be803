/**
 * Looks for a way from the certificate of a server up to a trust anchor that DANE-TA(2) records name
 * (RFC 7672 §3.1.2, RFC 7671 §5.2), and checks every certificate on it (RFC 5280 §6.1).
 *
 * The way is found by names and signatures, never by position: servers send certificates in any order, twice, and with
 * strangers among them. Shorter ways come first, and ways without fault before others, so the faults that are
 * reported are those of a way for which there is no better. Work is bounded: whoever sends hundreds of certificates
 * that all sign each other is refused, in milliseconds.
 *
 *   anchor                                       where its certificate comes from   RFC 7671
 *   certificate above the leaf that a record picks   the server sent it             §5.2.1, §5.2.2
 *   certificate in a 2 0 0 record                    DNS is enough                  §5.2.2
 *   key in a 2 1 0 record that signed the topmost    DNS is enough                  §5.2.3
 */
import type { TlsaRecord } from '../../model/tls-policy.ts';
import { type Certificate, createPicker, readCertificate } from './certificate.ts';
import { type Details, KEY_USAGE, readDetails } from './details.ts';
import { obeys } from './name-constraints.ts';
import { isSignedBy, isStrongKey, priceOf, weakDigest } from './signature.ts';

/** What is wrong with a way. */
export interface Fault {
  readonly kind: 'expired' | 'untrusted';
  /** In words, with the depth of the certificate. */
  readonly says: string;
}

export type AnchorSearch =
  /** `faults` is empty when the way may be trusted. `depth` is that of the anchor, 0 would be the leaf. */
  | { readonly kind: 'reached'; readonly record: TlsaRecord; readonly depth: number; readonly faults: readonly Fault[] }
  /** A record picks a certificate that was sent, but no chain of signatures leads there from the leaf. */
  | { readonly kind: 'unconnected'; readonly record: TlsaRecord; readonly position: number }
  | { readonly kind: 'none' };

/** How much was done, for the tests of the bounds. */
export interface Work {
  /** By what they cost: one with a key of common size is 1. */
  signatures: number;
  links: number;
  /** Of a name with a name constraint. */
  comparisons: number;
}

const SIGNATURES_AT_MOST = 200;
const LINKS_AT_MOST = 50_000;
/** Certificates above the leaf on one way. OpenSSL's own limit. */
const DEPTH_AT_MOST = 100;
/**
 * Ways that may lead on from the same certificate: they can differ in what name constraints make of them. This also
 * ends going round in circles.
 */
const WAYS_AT_MOST = 4;
const CERTIFICATES_AT_MOST = 2000;

/**
 * @param chain   what the server sent, in that order; the first is its own
 * @param records those that are considered; others than DANE-TA are passed over
 * @param at      milliseconds since the epoch
 */
export function findAnchor(
  chain: readonly [Certificate, ...Certificate[]],
  records: readonly TlsaRecord[],
  at: number,
  work: Work = { signatures: 0, links: 0, comparisons: 0 },
): AnchorSearch {
  const anchors = records.filter(({ usage }) => usage === 2);
  if (anchors.length === 0) return { kind: 'none' };
  return search(new Pool(chain, anchors, work), anchors, at) ?? sentButUnconnected(chain, anchors);
}

/** A way that has been gone so far, from the leaf up. */
interface Way {
  readonly top: Node;
  readonly below: Way | null;
  readonly depth: number;
  /** CA certificates on it that are not self-issued: what pathLenConstraint counts (RFC 5280 §4.2.1.9). */
  readonly length: number;
  readonly faults: readonly Fault[];
}

function search(pool: Pool, anchors: readonly TlsaRecord[], at: number): AnchorSearch | null {
  const { leaf } = pool;
  const clean: Way[] = [];
  const faulty: Way[] = [];
  const put = (way: Way): unknown => (way.faults.length === 0 ? clean : faulty).push(way);
  const ways = new Map<Node, number>();
  let best: (AnchorSearch & { kind: 'reached' }) | null = null;

  put({ top: leaf, below: null, depth: 0, length: 0, faults: faultsOfLeaf(leaf, at) });
  // The lists grow while they are read; a faulty way is followed only while there is no other.
  for (let [c, f] = [0, 0]; ; ) {
    const way = clean[c] ? clean[c++] : faulty[f++];
    if (way === undefined) return best;
    const reached = reach(way, pool, anchors, at);
    if (reached && isBetter(reached, best)) best = reached;
    if (best?.faults.length === 0) return best;
    if (reached || way.depth >= DEPTH_AT_MOST) continue;

    const timesBefore = ways.get(way.top) ?? 0;
    ways.set(way.top, timesBefore + 1);
    if (timesBefore >= WAYS_AT_MOST) continue;
    for (const issuer of pool.issuersOf(way.top)) put(climb(way, issuer, at));
  }
}

/** Whether the way ends at an anchor: its top is one, or was signed by a key that is only in DNS. */
function reach(
  way: Way,
  pool: Pool,
  anchors: readonly TlsaRecord[],
  at: number,
): (AnchorSearch & { kind: 'reached' }) | null {
  const { top, depth } = way;
  // A leaf is never an anchor: it would vouch for itself.
  const record = depth > 0 ? pool.recordFor(top) : undefined;
  if (record) return { kind: 'reached', record, depth, faults: [...way.faults, ...faultsOfAnchor(way, at)] };

  const bare = anchors.find((anchor) => pool.isSignedByBareKey(top, anchor));
  if (bare === undefined) return null;
  const faults = [...way.faults, ...(depth > 0 ? faultsOfIssuer(way, at) : []), ...faultsOfSignature(top, depth)];
  return { kind: 'reached', record: bare, depth: depth + 1, faults };
}

/** One step up. Only now is it known that the old top is no anchor, and must be all that an intermediate must be. */
function climb(way: Way, issuer: Node, at: number): Way {
  const { top, depth } = way;
  const faults = [...way.faults, ...(depth > 0 ? faultsOfIssuer(way, at) : []), ...faultsOfSignature(top, depth)];
  const length = depth > 0 && !top.selfIssued ? way.length + 1 : way.length;
  return { top: issuer, below: way, depth: depth + 1, length, faults };
}

function isBetter(
  one: { readonly faults: readonly Fault[] },
  other: { readonly faults: readonly Fault[] } | null,
): boolean {
  return other === null || severity(one.faults) < severity(other.faults);
}

/** Dates pass by themselves or are easily put right: a way with only those says most. */
function severity(faults: readonly Fault[]): number {
  if (faults.length === 0) return 0;
  return faults.every(({ kind }) => kind === 'expired') ? 1 : 2;
}

function sentButUnconnected(
  [leaf, ...others]: readonly [Certificate, ...Certificate[]],
  anchors: readonly TlsaRecord[],
): AnchorSearch {
  const pick = createPicker(anchors);
  for (const [index, certificate] of others.slice(0, CERTIFICATES_AT_MOST).entries()) {
    const record = certificate.raw.equals(leaf.raw) ? undefined : pick(certificate);
    if (record) return { kind: 'unconnected', record, position: index + 1 };
  }
  return { kind: 'none' };
}

/** One certificate with what is read of it once. */
class Node {
  readonly certificate: Certificate;
  readonly details: Details;
  readonly selfIssued: boolean;
  readonly #work: Work;
  /** By the CA whose constraints they are: many ways may lead over the same two certificates. */
  readonly #obeyed = new Map<Node, boolean>();

  constructor(certificate: Certificate, work: Work) {
    this.certificate = certificate;
    this.#work = work;
    this.details = readDetails(certificate);
    this.selfIssued = this.details.subject.id === this.details.issuer.id;
  }

  /**
   * Whether names and key identifiers allow that one to have issued this one (RFC 5280 §4.2.1.1). One that cannot be
   * read has issued nothing.
   */
  mayComeFrom({ certificate, details }: Node): boolean {
    if (details.subject.id !== this.details.issuer.id || details.malformed !== null) return false;
    const { keyId, issuer, serial } = this.details.authorityKey ?? { keyId: null, issuer: null, serial: null };
    if (keyId && details.subjectKeyId && !keyId.equals(details.subjectKeyId)) return false;
    if (serial && !serial.equals(certificate.serial)) return false;
    return issuer === null || issuer === details.issuer.id;
  }

  /** Whether the names of this one obey the constraints of a CA above it. */
  obeys(above: Node, isLeaf: boolean): boolean {
    const { nameConstraints } = above.details;
    if (nameConstraints === null) return true;
    const known = this.#obeyed.get(above);
    if (known !== undefined) return known;
    const answer = obeys(this.details, nameConstraints, isLeaf, this.#work);
    this.#obeyed.set(above, answer);
    return answer;
  }
}

/** The certificates at hand above the leaf, each once, with the answers about them that cost something. */
class Pool {
  readonly leaf: Node;
  readonly #work: Work;
  readonly #bySubject = new Map<string, Node[]>();
  readonly #signed = new Map<Node, Map<string, boolean>>();
  readonly #pick: (certificate: Certificate) => TlsaRecord | undefined;
  readonly #picked = new Map<Node, TlsaRecord | undefined>();

  constructor([leaf, ...others]: readonly [Certificate, ...Certificate[]], anchors: readonly TlsaRecord[], work: Work) {
    this.leaf = new Node(leaf, work);
    this.#work = work;
    this.#pick = createPicker(anchors);
    const inDns = anchors.filter(({ selector, matching }) => selector === 0 && matching === 0);
    const seen = new Set([leaf.raw.toString('latin1')]);
    const certificates = inDns.map(({ data }) => readCertificate(data)).filter((read) => read !== null);
    for (const certificate of [...certificates, ...others].slice(0, CERTIFICATES_AT_MOST)) {
      const octets = certificate.raw.toString('latin1');
      if (seen.has(octets)) continue;
      seen.add(octets);
      const node = new Node(certificate, work);
      const { id } = node.details.subject;
      const namesakes = this.#bySubject.get(id);
      if (namesakes) namesakes.push(node);
      else this.#bySubject.set(id, [node]);
    }
  }

  /** Certificates whose key signed `subject`, anchors first. None for a self-signed one: it leads nowhere but to itself. */
  issuersOf(subject: Node): readonly Node[] {
    const candidates = this.#candidates(subject);
    if (candidates.length === 0 || this.#isSelfSigned(subject)) return [];
    const isAnchor = (node: Node): boolean => this.recordFor(node) !== undefined;
    return [...candidates.filter(isAnchor), ...candidates.filter((node) => !isAnchor(node))].filter(({ certificate }) =>
      this.#signs(certificate.spki, subject),
    );
  }

  /** The record that picks this certificate, if any does. */
  recordFor(node: Node): TlsaRecord | undefined {
    if (!this.#picked.has(node)) this.#picked.set(node, this.#pick(node.certificate));
    return this.#picked.get(node);
  }

  /**
   * Whether a 2 1 0 record holds the key that signed `subject`, and that key is known from DNS alone. Where the server
   * sent a certificate for the key, that certificate counts, with its dates and constraints.
   */
  isSignedByBareKey(subject: Node, record: TlsaRecord): boolean {
    if (record.selector !== 1 || record.matching !== 0) return false;
    const sent = this.#candidates(subject).some(({ certificate }) => certificate.spki.equals(record.data));
    return !sent && this.#signs(record.data, subject);
  }

  #candidates(subject: Node): readonly Node[] {
    const named = this.#bySubject.get(subject.details.issuer.id) ?? [];
    if (this.#work.links + named.length > LINKS_AT_MOST) return [];
    this.#work.links += named.length;
    return named.filter((node) => subject.mayComeFrom(node));
  }

  #isSelfSigned(node: Node): boolean {
    return node.selfIssued && node.mayComeFrom(node) && this.#signs(node.certificate.spki, node);
  }

  #signs(spki: Buffer, subject: Node): boolean {
    const known = this.#signed.get(subject) ?? new Map<string, boolean>();
    this.#signed.set(subject, known);
    const key = spki.toString('latin1');
    const before = known.get(key);
    if (before !== undefined) return before;
    const price = priceOf(spki);
    if (this.#work.signatures + price > SIGNATURES_AT_MOST) return false;
    this.#work.signatures += price;
    const answer = isSignedBy(subject.certificate, spki);
    known.set(key, answer);
    return answer;
  }
}

const SERVER_AUTH: readonly string[] = ['1.3.6.1.5.5.7.3.1', '2.5.29.37.0'];
/** Server Gated Cryptography, which OpenSSL takes for the same. */
const SGC: readonly string[] = ['2.16.840.1.113730.4.1', '1.3.6.1.4.1.311.10.3.3'];

function faultsOfLeaf(leaf: Node, at: number): readonly Fault[] {
  const { keyUsage } = leaf.details;
  const { digitalSignature, keyEncipherment, keyAgreement } = KEY_USAGE;
  const forTls = [digitalSignature, keyEncipherment, keyAgreement];
  const unfit = keyUsage && !forTls.some((bit) => keyUsage.has(bit));
  return [...faultsOfAny(leaf, 0, at), ...untrusted(unfit, 'keyUsage of the server certificate does not allow TLS')];
}

/** What must hold for each certificate, the anchor included. */
function faultsOfAny({ details, certificate }: Node, depth: number, at: number): readonly Fault[] {
  const { malformed, unknownCritical, extendedKeyUsage } = details;
  const purposes = [...SERVER_AUTH, ...SGC];
  const where = `the certificate at depth ${depth}`;
  return [
    ...untrusted(malformed !== null, `${where} is malformed: ${malformed}`),
    ...untrusted(unknownCritical.length > 0, `${where} has the unknown critical extension ${unknownCritical[0]}`),
    ...untrusted(
      extendedKeyUsage && !extendedKeyUsage.some((oid) => purposes.includes(oid)),
      `extended key usage of ${where} does not allow server authentication`,
    ),
    ...untrusted(!isStrongKey(certificate.spki), `the key of ${where} is too weak or of an unknown kind`),
    ...faultsOfDates(details, where, at),
  ];
}

/** Both ends belong to the validity (RFC 5280 §4.1.2.5); certificates count in whole seconds. */
function faultsOfDates({ notBefore, notAfter }: Details, where: string, at: number): readonly Fault[] {
  if (notBefore === null || notAfter === null) return untrusted(true, `${where} has no proper dates`);
  if (at < notBefore) return [{ kind: 'expired', says: `${where} is not valid before ${iso(notBefore)}` }];
  return at >= notAfter + 1000 ? [{ kind: 'expired', says: `${where} expired ${iso(notAfter)}` }] : [];
}

/** An intermediate certificate must say that it is a CA (RFC 5280 §6.1.4). */
function faultsOfIssuer(way: Way, at: number): readonly Fault[] {
  return faultsOfCa(way, at, way.top.details.ca === true);
}

/**
 * An anchor is trusted because it was published, so one that is old enough to have no basicConstraints may still be
 * one: self-issued of version 1, or with keyCertSign. What it says about itself holds, though (RFC 7671 §5.2.2).
 */
function faultsOfAnchor(way: Way, at: number): readonly Fault[] {
  const { details, certificate, selfIssued } = way.top;
  const old = details.ca === null && ((certificate.version === 1 && selfIssued) || details.keyUsage !== null);
  return faultsOfCa(way, at, details.ca === true || old);
}

function faultsOfCa({ top, below, depth, length }: Way, at: number, isCa: boolean): readonly Fault[] {
  const { keyUsage, pathLength, nameConstraints } = top.details;
  const where = `the certificate at depth ${depth}`;
  return [
    ...faultsOfAny(top, depth, at),
    ...untrusted(!isCa, `${where} is not that of a CA`),
    ...untrusted(
      keyUsage && !keyUsage.has(KEY_USAGE.keyCertSign),
      `keyUsage of ${where} does not allow to sign certificates`,
    ),
    ...untrusted(pathLength !== null && length > pathLength, `${where} allows fewer certificates below it`),
    ...untrusted(
      nameConstraints && !everyBelow(below, (node, isLeaf) => node.obeys(top, isLeaf)),
      `${where} may not issue for the names below it`,
    ),
  ];
}

/** Self-issued intermediates are exempt (RFC 5280 §4.2.1.10). */
function everyBelow(from: Way | null, holds: (node: Node, isLeaf: boolean) => boolean): boolean {
  for (let way = from; way; way = way.below) {
    const isLeaf = way.depth === 0;
    if ((isLeaf || !way.top.selfIssued) && !holds(way.top, isLeaf)) return false;
  }
  return true;
}

/** The anchor's own signature proves nothing, those below it everything. */
function faultsOfSignature({ certificate }: Node, depth: number): readonly Fault[] {
  const weak = weakDigest(certificate);
  return untrusted(weak !== null, `the certificate at depth ${depth} was signed over ${weak}`);
}

function untrusted(applies: boolean | null, says: string): readonly Fault[] {
  return applies ? [{ kind: 'untrusted', says }] : [];
}

function iso(time: number): string {
  return new Date(time).toISOString().replace('.000Z', 'Z');
}
