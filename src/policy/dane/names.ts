/**
 * Whether a certificate is for one of the names that RFC 7672 §3.2.2 accepts (RFC 7672 §3.2.3, RFC 6125 §6.4).
 *
 * Node's checkHost is not used: it takes partial wildcards, stumbles over a trailing dot and reads a leading one as
 * "any subdomain".
 */
import { isIP } from 'node:net';
import { isAscii, isDomain } from '../../shared/domain-name.ts';
import { type Details, GENERAL_NAME } from './details.ts';

export interface PresentedNames {
  /** As they stand in the certificate, unchecked. */
  readonly hosts: readonly string[];
  /** True when there is no dNSName and the common names stand in for them. */
  readonly fromCommonName: boolean;
}

/** The names that count: every dNSName, or with none of them every common name of the subject. */
export function dnsNamesOf({
  subject,
  alternativeNames,
}: Pick<Details, 'subject' | 'alternativeNames'>): PresentedNames {
  const hosts = alternativeNames.filter(({ type }) => type === GENERAL_NAME.dns).map(({ value }) => value);
  return hosts.length > 0 ? { hosts, fromCommonName: false } : { hosts: subject.commonNames, fromCommonName: true };
}

/** The first reference name that one of the presented names matches, or null. */
export function matchingName(presented: PresentedNames, references: readonly string[]): string | null {
  return references.find((reference) => presented.hosts.some((host) => matchesHost(host, reference))) ?? null;
}

/**
 * One name in a certificate against one reference name in canonical form (A-labels, lower case, no trailing dot).
 *
 * A wildcard must be the whole first label, stands for exactly one label, and needs two labels below it: `*.nl` would
 * speak for a whole country. Anything that is no host name matches nothing, an address included.
 */
export function matchesHost(presented: string, reference: string): boolean {
  // toLowerCase would turn a Kelvin sign into k: only ASCII gets there.
  if (!isDomain(reference) || isIP(reference) !== 0 || !isAscii(presented)) return false;
  const bare = presented.replace(/\.$/, '').toLowerCase();
  if (!bare.startsWith('*.')) return isDomain(bare) && bare === reference;
  const parent = bare.slice(2);
  return isDomain(parent) && parent.includes('.') && reference.slice(reference.indexOf('.') + 1) === parent;
}
