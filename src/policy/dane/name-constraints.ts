/**
 * Name constraints of a CA on the certificates below it (RFC 5280 §4.2.1.10). A constraint on a kind of name that is
 * not understood here, where the certificate has such a name, is a violation: nothing is ignored.
 */
import { type Details, GENERAL_NAME, type GeneralName, type NameConstraints } from './details.ts';
import { dnsNamesOf } from './names.ts';

/** Comparisons in one search. OpenSSL stops at 1,048,576 for each pair of certificates, and a chain has many pairs. */
const COMPARISONS_AT_MOST = 200_000;

/**
 * Whether the names in a certificate obey the constraints of a CA above it. Where that would cost too much it is a no.
 *
 * @param isLeaf only there the common name may serve as a host name, and is then constrained like one
 * @param work   counts what the whole search has cost so far
 */
export function obeys(
  names: Details,
  constraints: NameConstraints,
  isLeaf: boolean,
  work: { comparisons: number },
): boolean {
  const all = namesOf(names, isLeaf);
  const { permitted, excluded } = constraints;
  const comparisons = all.length * (permitted.length + excluded.length);
  if (work.comparisons + comparisons > COMPARISONS_AT_MOST) return false;
  work.comparisons += comparisons;
  return all.every((name) => {
    const allowed = permitted.filter(({ type }) => type === name.type);
    const forbidden = excluded.filter(({ type }) => type === name.type);
    if (allowed.length + forbidden.length === 0) return true;
    const within = WITHIN[name.type];
    if (within === undefined) return false;
    if (allowed.length > 0 && !allowed.some((base) => within(name.value, base.value) === true)) return false;
    return forbidden.every((base) => (OVERLAPS[name.type] ?? within)(name.value, base.value) === false);
  });
}

function namesOf({ subject, alternativeNames }: Details, isLeaf: boolean): readonly GeneralName[] {
  const names = [...alternativeNames];
  if (subject.parts.length > 0) names.push({ type: GENERAL_NAME.directory, value: subject.id });
  for (const value of subject.emailAddresses) names.push({ type: GENERAL_NAME.email, value });
  const { hosts, fromCommonName } = dnsNamesOf({ subject, alternativeNames });
  return isLeaf && fromCommonName ? [...names, ...hosts.map((value) => ({ type: GENERAL_NAME.dns, value }))] : names;
}

/** Whether a name lies within a subtree; null when that cannot be said. */
type Within = (name: string, base: string) => boolean | null;

const WITHIN: Readonly<Partial<Record<number, Within>>> = {
  [GENERAL_NAME.email]: emailWithin,
  [GENERAL_NAME.dns]: dnsWithin,
  [GENERAL_NAME.directory]: directoryWithin,
  [GENERAL_NAME.uri]: uriWithin,
  [GENERAL_NAME.ip]: ipWithin,
};

/** For exclusion a wildcard counts for every name that it stands for. */
const OVERLAPS: Readonly<Partial<Record<number, Within>>> = {
  [GENERAL_NAME.dns]: (name, base) => {
    if (dnsWithin(name, base)) return true;
    const host = name.toLowerCase();
    return host.startsWith('*.') && base.toLowerCase().replace(/^\./, '').endsWith(host.slice(1));
  },
};

/** `example.nl` stands for itself and all below it, `.example.nl` for what is below, nothing at all for everything. */
function dnsWithin(name: string, base: string): boolean {
  const [host, domain] = [name.toLowerCase().replace(/\.$/, ''), base.toLowerCase()];
  if (domain === '') return true;
  return domain.startsWith('.') ? host.endsWith(domain) : host === domain || host.endsWith(`.${domain}`);
}

/** A whole address, a host, or with a leading dot all hosts below a domain. */
function emailWithin(name: string, base: string): boolean | null {
  const at = name.lastIndexOf('@');
  if (at < 0) return null;
  const baseAt = base.lastIndexOf('@');
  if (baseAt > 0 && name.slice(0, at) !== base.slice(0, baseAt)) return false;
  return hostWithin(name.slice(at + 1), base.slice(baseAt + 1));
}

function uriWithin(name: string, base: string): boolean | null {
  const host = /^[^:]+:\/\/(?:[^@/?#]*@)?([^:/?#]+)/.exec(name)?.[1];
  return host === undefined ? null : hostWithin(host, base);
}

/** In addresses and URIs a name without a leading dot stands for that host alone. */
function hostWithin(name: string, base: string): boolean {
  const [host, domain] = [name.toLowerCase(), base.toLowerCase()];
  return domain === '' || (domain.startsWith('.') ? host.endsWith(domain) : host === domain);
}

/** An address within address and mask. */
function ipWithin(name: string, base: string): boolean | null {
  const [address, range] = [Buffer.from(name, 'latin1'), Buffer.from(base, 'latin1')];
  if (![4, 16].includes(address.length) || ![8, 32].includes(range.length)) return null;
  if (range.length !== 2 * address.length) return false;
  return address.every((octet, index) => {
    const mask = range[address.length + index] ?? 0;
    return (octet & mask) === ((range[index] ?? 0) & mask);
  });
}

/** A directory name lies within another that it starts with. */
function directoryWithin(name: string, base: string): boolean {
  const [parts, prefix] = [JSON.parse(name), JSON.parse(base)] as [string[], string[]];
  return prefix.every((part, index) => part === parts[index]);
}
