/**
 * Mail addresses as they stand in MAIL and RCPT (RFC 5321 §4.1.2, RFC 6531 §3.3). The domain comes out in canonical
 * form, the local part exactly as it came in. What cannot be an address is refused; nothing is repaired.
 */
import { isAscii, isHostName, literalAddress, toDomain } from '../shared/domain-name.ts';

export type PathReading =
  | {
      readonly kind: 'mailbox';
      /** `local@domain`, the domain in lower-case A-labels or an address literal. */
      readonly address: string;
      /** True when local part or domain was given in characters beyond ASCII. */
      readonly utf8: boolean;
    }
  | { readonly kind: 'null' }
  | { readonly kind: 'bad'; readonly detail: string };

/** Octets that an address may have: 256 for a path less its brackets (RFC 5321 §4.5.3.1.3). */
const ADDRESS_OCTETS = 254;

/**
 * Dots may stand anywhere in an unquoted local part: RFC 5321 has them between atoms only, but mailboxes with others
 * exist and only their own host can say that they do not.
 */
const UNQUOTED = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u00a1-\u{10ffff}-]+$/u;
const QUOTED = /^"(?:[ !#-[\]-~\u00a0-\u{10ffff}]|\\[ -~])*"$/u;

/** Characters that nobody can see, with which an address passes for another one, and halves of characters. */
const DECEPTIVE = /[\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffd\ud800-\udfff]/u;

/**
 * Reads the inside of `<…>`: nothing, or a mailbox with perhaps a source route, which is ignored (RFC 5321 §C).
 *
 * @param path decoded UTF-8
 */
export function readPath(path: string): PathReading {
  if (path === '') return { kind: 'null' };
  const bare = path.replace(/^@[^\s,:@"]+(?:,@[^\s,:@"]+)*:/u, '');
  const at = bare.lastIndexOf('@');
  if (at < 0) return bad('it has no domain');
  const local = bare.slice(0, at);
  const domain = bare.slice(at + 1);
  if (local === '') return bad('it has no local part');
  if (DECEPTIVE.test(bare)) return bad('it has invisible characters');
  if (!UNQUOTED.test(local) && !QUOTED.test(local)) return bad('its local part is neither dotted atoms nor quoted');
  const canonical = canonicalDomain(domain);
  if (canonical === null) return bad('its domain is neither a domain name nor an address literal');
  const address = `${local}@${canonical}`;
  if (Buffer.byteLength(address) > ADDRESS_OCTETS) return bad(`it has more than ${ADDRESS_OCTETS} octets`);
  return { kind: 'mailbox', address, utf8: !isAscii(bare) };
}

function canonicalDomain(domain: string): string | null {
  if (domain.startsWith('[')) {
    const address = literalAddress(domain);
    if (address === null || address.includes('%')) return null;
    return address.includes(':') ? `[IPv6:${address}]` : `[${address}]`;
  }
  const name = toDomain(domain);
  return name !== null && isHostName(name) ? name : null;
}

function bad(detail: string): PathReading {
  return { kind: 'bad', detail };
}
