/**
 * Where a domain wants its TLS reports, read from its TXT record at `_smtp._tls` (RFC 8460 §3). Whoever owns a domain
 * writes it, so nothing in it is believed: addresses that are odd are left out, each with a sentence that says why.
 */
import { isHostName, toDomain } from '../../shared/domain-name.ts';
import { harmless } from '../../shared/harmless.ts';

export type ReportAddress =
  /** `address` is `local@domain`, the domain in canonical form. */
  | { readonly kind: 'mail'; readonly uri: string; readonly address: string }
  | { readonly kind: 'https'; readonly uri: string; readonly url: URL };

export type ReportingPolicy =
  /** No reports are asked for. */
  | { readonly kind: 'none'; readonly why: string }
  | { readonly kind: 'asks'; readonly to: readonly ReportAddress[]; readonly ignored: readonly string[] };

const RECORD_OCTETS = 16 * 1024;
const ADDRESSES_AT_MOST = 10;
const URI_OCTETS = 1_024;

export function recordName(domain: string): string {
  return `_smtp._tls.${domain}`;
}

/** @param texts the TXT records at `recordName`, the strings of each put together */
export function readPolicy(texts: readonly string[]): ReportingPolicy {
  const records = texts.filter((text) => /^v=TLSRPTv1[ \t]*;/.test(text));
  const [record = ''] = records;
  if (records.length === 0) return { kind: 'none', why: 'there is no TLSRPT record' };
  if (records.length > 1) return { kind: 'none', why: `there are ${records.length} TLSRPT records instead of one` };
  if (record.length > RECORD_OCTETS) return { kind: 'none', why: `the TLSRPT record has ${record.length} octets` };

  const rua = record.split(';').flatMap((field) => {
    // Not by one expression: a record is a stranger's, and time must not grow with the square of its spaces.
    const [name = '', ...value] = field.split('=');
    return name.trim().toLowerCase() === 'rua' && value.length > 0 ? value.join('=').trim() : [];
  })[0];
  if (rua === undefined) return { kind: 'none', why: 'the TLSRPT record has no rua' };

  const uris = [...new Set(rua.split(',').map((uri) => uri.trim()))].filter((uri) => uri !== '');
  const to: ReportAddress[] = [];
  const ignored: string[] = [];
  for (const uri of uris.slice(0, ADDRESSES_AT_MOST)) {
    const read = readUri(uri);
    if (typeof read === 'string') ignored.push(`${shown(uri)} ${read}`);
    else to.push(read);
  }
  const rest = uris.length - ADDRESSES_AT_MOST;
  if (rest > 0) ignored.push(`${rest} more: only the first ${ADDRESSES_AT_MOST} addresses are looked at`);
  return { kind: 'asks', to, ignored };
}

/** @returns what is wrong with it, in words that go on after the address */
function readUri(uri: string): ReportAddress | string {
  if (uri.length > URI_OCTETS) return `is longer than ${URI_OCTETS} octets`;
  if (!/^[!-~]+$/.test(uri)) return 'has characters that no URI may have';
  if (uri.includes('!')) return 'has a "!" that is not percent-encoded';
  const [, scheme = '', rest = ''] = /^([A-Za-z][A-Za-z0-9+.-]*):(.*)$/s.exec(uri) ?? [];
  switch (scheme.toLowerCase()) {
    case 'mailto':
      return readMailto(uri, rest);
    case 'https':
      return readHttps(uri);
    case 'http':
      return 'is not https, and reports do not go in the clear';
    default:
      return 'is neither mailto nor https';
  }
}

/** One plain address; what comes after a `?` says how a person's mail program should fill in a form. */
function readMailto(uri: string, rest: string): ReportAddress | string {
  const [encoded = ''] = rest.split('?');
  let address: string;
  try {
    address = decodeURIComponent(encoded);
  } catch {
    return 'is not properly percent-encoded';
  }
  const at = address.lastIndexOf('@');
  const local = address.slice(0, at);
  const domain = toDomain(address.slice(at + 1));
  const plain = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/.test(local);
  // A domain of one label, as localhost is, would be one of our own.
  if (at < 1 || !plain || local.length > 64 || domain === null || !isHostName(domain) || !domain.includes('.'))
    return 'is no plain mail address';
  return { kind: 'mail', uri, address: `${local}@${domain}` };
}

/** Only to a name: an address could be one of our own network, and has no certificate that would prove otherwise. */
function readHttps(uri: string): ReportAddress | string {
  if (!URL.canParse(uri)) return 'is no URL';
  const url = new URL(uri);
  const host = toDomain(url.hostname);
  if (host === null || !isHostName(host) || !host.includes('.')) return 'does not name a host in the DNS';
  if (url.username !== '' || url.password !== '') return 'has a user name or password in it';
  // Without the dot of the root: neither DNS nor SNI is asked with it.
  url.hostname = host;
  return { kind: 'https', uri, url };
}

function shown(uri: string): string {
  const text = harmless(uri);
  return `"${text.length > 80 ? `${text.slice(0, 80)}…` : text}"`;
}
