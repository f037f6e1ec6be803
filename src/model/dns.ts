/**
 * What the DNS told us, with how far it can be believed.
 *
 * One union answers one question. The cases are named for what the caller must do next (RFC 7672 §2.1.1):
 * an answer or a proof of absence may be used according to `secure`; `failed` stops whatever hung on it.
 * Names are A-labels in lower case without a trailing dot; the root is `.`. A label with octets outside
 * letters, digits, `-` and `_` is written with the escapes of RFC 1035 §5.1, so that it can never be taken
 * for a legal name.
 */

/** How a set of records is known: validated, provably outside DNSSEC, or not at all. */
export type Dnssec = 'secure' | 'insecure' | 'error';

export interface MxRecord {
  readonly preference: number;
  /** Name of the mail host; `.` in a null MX (RFC 7505 §3). */
  readonly exchange: string;
}

/** What one record of each type is turned into. TLSA and the types of the probe stay octets: policy judges them. */
export interface RecordData {
  readonly A: string;
  readonly AAAA: string;
  readonly CNAME: string;
  readonly MX: MxRecord;
  readonly TLSA: Buffer;
  readonly TXT: string;
  readonly NS: string;
}

export type RecordType = keyof RecordData;

/** Extended DNS error (RFC 8914): it explains, it never decides. */
export interface ExtendedError {
  readonly code: number;
  readonly text: string;
}

export type DnsAnswer<Data> =
  | {
      readonly kind: 'found';
      readonly secure: boolean;
      /** Owner name of the records: the question's name, or the end of its CNAME chain. */
      readonly name: string;
      readonly records: readonly [Data, ...Data[]];
      /** Smallest TTL on the way, in seconds. */
      readonly ttl: number;
    }
  | {
      readonly kind: 'absent';
      readonly secure: boolean;
      readonly name: string;
      /** True for NXDOMAIN, false when the name exists without this type. */
      readonly nxdomain: boolean;
    }
  | {
      readonly kind: 'failed';
      /** In words for people: `SERVFAIL`, `no answer in 10 s`, `malformed answer: …`. */
      readonly reason: string;
      readonly extended: ExtendedError | null;
    };

/**
 * Asks the validating resolver one question. Never rejects: trouble of the network is `failed`, and so is a name
 * that DNS cannot be asked for.
 */
export type Resolve = <Type extends RecordType>(name: string, type: Type) => Promise<DnsAnswer<RecordData[Type]>>;

/** The status that a caller may report for an answer. */
export function dnssecOf(answer: DnsAnswer<unknown>): Dnssec {
  if (answer.kind === 'failed') return 'error';
  return answer.secure ? 'secure' : 'insecure';
}
