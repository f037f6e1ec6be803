/**
 * A report by HTTPS (RFC 8460 §5.4): one POST, to the addresses that our own resolver gives for the name.
 *
 * The certificate must be valid for that name, although RFC 8460 §3 would let us look away: the URL is a stranger's, and
 * this is what keeps it from pointing into our own network. No redirect is followed. All of it ends within a fixed time,
 * and of the answer no more is read than its status.
 */
import { request } from 'node:https';
import { isIP } from 'node:net';
import type { Resolve } from '../../model/dns.ts';
import { harmless } from '../../shared/harmless.ts';
import { messageOf } from '../../shared/message-of.ts';

export interface PostOptions {
  readonly resolve: Resolve;
  /** For all of it, in milliseconds. */
  readonly timeoutMs?: number;
  /** Authorities to trust, as PEM; null for the public ones. */
  readonly authorities?: readonly string[] | null;
}

/** Null when it was accepted; else why not, in a clause. Never rejects. */
export type Post = (url: URL, gzip: Buffer) => Promise<string | null>;

const ADDRESSES_AT_MOST = 8;
const ANSWER_HEADER_OCTETS = 16 * 1024;

export function createPost({ resolve, timeoutMs = 60_000, authorities = null }: PostOptions): Post {
  return async (url, gzip) => {
    const deadline = AbortSignal.timeout(timeoutMs);
    try {
      const addresses = await addressesOf(url.hostname, resolve);
      if (addresses.length === 0) return `${url.hostname} has no address`;
      return await post(url, gzip, addresses, deadline, authorities);
    } catch (error) {
      if (deadline.aborted) return `no answer within ${timeoutMs / 1000} s`;
      return harmless(messageOf(error));
    }
  };
}

async function addressesOf(host: string, resolve: Resolve): Promise<readonly string[]> {
  const answers = await Promise.all([resolve(host, 'AAAA'), resolve(host, 'A')]);
  const failed = answers.find((answer) => answer.kind === 'failed');
  const addresses = answers.flatMap((answer) => (answer.kind === 'found' ? answer.records : []));
  if (addresses.length === 0 && failed?.kind === 'failed')
    throw new Error(`${host} could not be looked up: ${failed.reason}`);
  return addresses.slice(0, ADDRESSES_AT_MOST);
}

function post(
  url: URL,
  gzip: Buffer,
  addresses: readonly string[],
  signal: AbortSignal,
  authorities: readonly string[] | null,
): Promise<string | null> {
  const known = addresses.map((address) => ({ address, family: isIP(address) }));
  return new Promise((resolve, reject) => {
    const posting = request(
      url,
      {
        method: 'POST',
        signal,
        agent: false,
        minVersion: 'TLSv1.2',
        maxHeaderSize: ANSWER_HEADER_OCTETS,
        headers: { 'content-type': 'application/tlsrpt+gzip', 'content-length': gzip.length },
        lookup: (_host, { all }, done) => {
          const [first] = known;
          if (all) done(null, known);
          else if (first) done(null, first.address, first.family);
        },
        ...(authorities !== null && { ca: [...authorities] }),
      },
      (answer) => {
        resolve(verdictOn(answer.statusCode ?? 0, answer.headers.location));
        answer.destroy();
      },
    );
    posting.on('error', reject);
    posting.end(gzip);
  });
}

function verdictOn(status: number, location: string | undefined): string | null {
  if (status >= 200 && status < 300) return null;
  if (status >= 300 && status < 400) {
    return `it answered ${status}, a redirect${location === undefined ? '' : ` to ${harmless(location).slice(0, 100)}`}, which is not followed`;
  }
  return `it answered ${status}`;
}
