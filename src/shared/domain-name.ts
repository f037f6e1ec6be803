/**
 * Domain names and addresses as text. Every name in the code is in the form that `toDomain` returns: A-labels,
 * lower case, no trailing dot. Nothing else is ever put into a DNS question, into SNI or beside a certificate.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';

/**
 * The canonical form of a domain name as people write it, or null when it is none (RFC 1035 §2.3.4, RFC 5890 §2.3).
 * U-labels become A-labels; a single trailing dot is dropped; underscores are allowed, since DNS names have them.
 */
export function toDomain(text: string): string | null {
  const bare = text.endsWith('.') ? text.slice(0, -1) : text;
  if (bare === '' || bare.length > 1000) return null;
  // domainToASCII follows the URL rules, which read %41 as A and 0x7f.1 as an address: only names may reach it.
  if (/[\u0000-\u0020%/:?#@[\]\\^|<>"'`{}()!$&*+,;=~]/u.test(bare)) return null;
  const ascii = isAscii(bare) ? bare.toLowerCase() : domainToASCII(bare);
  return isDomain(ascii) ? ascii : null;
}

const NAME = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/;

/** True for a name in canonical form that may be asked for in DNS (RFC 1035 §2.3.4: labels to 63, names to 253). */
export function isDomain(name: string): boolean {
  return name.length <= 253 && NAME.test(name);
}

/** True for a canonical name that a mail host may have: letters, digits, hyphens inside (and underscores, as met). */
export function isHostName(name: string): boolean {
  // What is left out is IPv4 addresses and what passes for one somewhere. An IPv6 address is no domain name.
  return isDomain(name) && !/^[0-9.]+$/.test(name);
}

/** The address in an address literal (`[192.0.2.1]`, `[IPv6:2001:db8::1]`, RFC 5321 §4.1.3), or null. */
export function literalAddress(domain: string): string | null {
  const inside = /^\[(.*)\]$/.exec(domain)?.[1];
  if (inside === undefined) return null;
  if (isIPv4(inside)) return inside;
  const v6 = /^IPv6:(.*)$/i.exec(inside)?.[1];
  return v6 !== undefined && isIPv6(v6) ? v6.toLowerCase() : null;
}

/** The domain of a mail address in canonical form: `local@domain`, the last `@` counts. */
export function domainOf(address: string): string {
  return address.slice(address.lastIndexOf('@') + 1);
}

/** Whether a domain fits `example.nl`, `*.example.nl` (any depth below, not the domain itself) or `*`. */
export function fitsPattern(pattern: string, domain: string): boolean {
  if (pattern === '*') return true;
  return pattern.startsWith('*.') ? domain.endsWith(pattern.slice(1)) : domain === pattern;
}

export function isAscii(text: string): boolean {
  return /^[\u0000-\u007f]*$/.test(text);
}
