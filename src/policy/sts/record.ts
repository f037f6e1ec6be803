/**
 * The TXT record at `_mta-sts.DOMAIN`, which says that there is a policy and which version it has (RFC 8461 §3.1).
 *
 * Pure: an answer of the DNS goes in. It says nothing of the policy itself, and a record that is not there, not alone
 * or not well-formed does away with no policy that is known already (RFC 8461 §5.1).
 */
import type { DnsAnswer } from '../../model/dns.ts';
import { withoutWhiteSpace } from './white-space.ts';

export type StsRecord =
  | { readonly kind: 'found'; readonly id: string }
  /** There is none that counts, for the reason given in a clause. */
  | { readonly kind: 'none'; readonly why: string }
  /** Nobody knows. */
  | { readonly kind: 'unknown'; readonly why: string };

/** Where the record of a policy domain is. */
export function recordName(domain: string): string {
  return `_mta-sts.${domain}`;
}

/** @param answer the answer for TXT at `recordName`, each record with its strings joined */
export function readRecord(answer: DnsAnswer<string>): StsRecord {
  if (answer.kind === 'failed') {
    return { kind: 'unknown', why: `its MTA-STS record could not be looked up: ${answer.reason}` };
  }
  if (answer.kind === 'absent') return none('it has no MTA-STS record');
  const [text, ...others] = answer.records.filter((record) => VERSION.test(record));
  if (text === undefined) return none('it has no MTA-STS record');
  if (others.length > 0) return none(`it has ${others.length + 1} MTA-STS records, of which none counts`);
  const id = idIn(text);
  return id === null ? none('its MTA-STS record is malformed') : { kind: 'found', id };
}

/** Records that begin otherwise have nothing to do with MTA-STS. */
const VERSION = /^v=STSv1[ \t]*;/;
const FIELD = /^([A-Za-z0-9][A-Za-z0-9_.-]{0,31})=([\x21-\x3a\x3c\x3e-\x7e]+)$/;
const ID = /^[A-Za-z0-9]{1,32}$/;

/** The `id`; where there are several the first one. Null when the record breaks the grammar. */
function idIn(text: string): string | null {
  const fields = text.replace(VERSION, '').split(';');
  // One delimiter may stand at the end.
  if (fields.at(-1)?.trim() === '') fields.pop();
  let id: string | null = null;
  for (const field of fields) {
    const [, name, value = ''] = FIELD.exec(withoutWhiteSpace(field)) ?? [];
    if (name === undefined) return null;
    if (name !== 'id' || id !== null) continue;
    if (!ID.test(value)) return null;
    id = value;
  }
  return id;
}

function none(why: string): StsRecord {
  return { kind: 'none', why };
}
