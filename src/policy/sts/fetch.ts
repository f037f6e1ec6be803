/**
 * Gets the octets of a policy over HTTPS (RFC 8461 §3.3), from a host that anybody may run.
 *
 * One GET of one address, over TLS with a certificate that is valid for `mta-sts.DOMAIN` by DNS-ID. Only 200 counts; no
 * redirect, no cache, no compression, 64 KiB and a minute at most. The addresses come from our own resolver. Nothing
 * here judges a policy.
 *
 * Mail waits for this, so silence is cut short: a host with which there is no TLS session within some seconds, as where a
 * firewall swallows what goes to port 443, is given up long before the minute is over.
 */
import { X509Certificate } from 'node:crypto';
import { request } from 'node:https';
import { isIP } from 'node:net';
import type { PeerCertificate } from 'node:tls';
import type { Location } from '../../model/route.ts';
import type { StsFailure } from '../../model/sts.ts';
import { messageOf } from '../../shared/message-of.ts';

export type Fetched =
  | { readonly kind: 'fetched'; readonly octets: Buffer }
  | { readonly kind: 'failed'; readonly failure: StsFailure }
  /** We have not waited for it, which says nothing of the domain. */
  | { readonly kind: 'stopped' };

/** Fetches for one policy domain. Never rejects. */
export type FetchPolicy = (domain: string) => Promise<Fetched>;

export interface FetchOptions {
  readonly locate: (hostName: string) => Promise<Location>;
  /** Authorities that are believed, as PEM; null for those that Node brings along. */
  readonly authorities: readonly string[] | null;
  readonly port?: number;
  /** For all of it, the addresses looked up and tried among them; in milliseconds. */
  readonly timeoutMs?: number;
  /** For the TCP connection and the TLS handshake with one address, in milliseconds; all addresses have twice that. */
  readonly connectMs?: number;
  /** Ends what is under way. */
  readonly signal?: AbortSignal;
}

/** RFC 8461 §3.3 suggests both. */
const OCTETS_AT_MOST = 64 * 1024;
const TIMEOUT_MS = 60_000;
/** Three tries of TCP, which come after 1 s and 3 s, and a handshake with a host far away. */
const CONNECT_MS = 10_000;
const ADDRESSES_AT_MOST = 4;
/** Of the time that is left, so that an address that swallows everything leaves some for the next. */
const SHARE = 0.5;

/** Where the policy of a domain is served. */
export function policyHost(domain: string): string {
  return `mta-sts.${domain}`;
}

export function createFetcher({
  locate,
  authorities,
  port = 443,
  timeoutMs = TIMEOUT_MS,
  connectMs = CONNECT_MS,
  signal,
}: FetchOptions) {
  const ca = authorities === null ? {} : { ca: [...authorities] };

  const fetchOne: FetchPolicy = async (domain) => {
    const host = policyHost(domain);
    const deadline = performance.now() + timeoutMs;
    const location = await within(locate(host), timeoutMs);
    if (location === null) return failed('sts-policy-fetch-error', `${host} was not found in ${inSeconds(timeoutMs)}`);
    if (location.kind !== 'found') {
      const why = location.kind === 'absent' ? 'has no address' : `could not be looked up: ${location.reason}`;
      return failed('sts-policy-fetch-error', `${host} ${why}`);
    }
    const addresses = location.addresses.slice(0, ADDRESSES_AT_MOST);
    let last: Fetched = failed('sts-policy-fetch-error', `${host} has no address`);
    let silence = 2 * connectMs;
    for (const [index, address] of addresses.entries()) {
      const left = deadline - performance.now();
      if (left <= 0 || silence <= 0 || signal?.aborted) break;
      const share = index === addresses.length - 1 ? 1 : SHARE;
      const connect = Math.min(connectMs, silence * share, left);
      const attempt = await getFrom({ host, address, port, patience: left * share, connect, ca, signal });
      if (attempt.final) return attempt.result;
      silence -= attempt.silentMs;
      last = attempt.result;
    }
    return last;
  };
  const fetchPolicy: FetchPolicy = async (domain) => {
    const fetched = await fetchOne(domain);
    // Whatever failed in the end, our own end may have been the reason.
    return fetched.kind === 'failed' && signal?.aborted ? { kind: 'stopped' } : fetched;
  };
  return fetchPolicy;
}

interface Get {
  readonly host: string;
  readonly address: string;
  readonly port: number;
  /** For all of it, and until there is a TLS session; in milliseconds. */
  readonly patience: number;
  readonly connect: number;
  readonly ca: { readonly ca?: string[] };
  readonly signal: AbortSignal | undefined;
}

interface Attempt {
  readonly result: Fetched;
  /** False when another address of the host may do better: no answer came from this one. */
  readonly final: boolean;
  /** How long it took until there was a TLS session, or until that was given up. */
  readonly silentMs: number;
}

/** One request to one address. */
function getFrom({ host, address, port, patience, connect, ca, signal }: Get): Promise<Attempt> {
  return new Promise((resolve) => {
    const began = performance.now();
    let connectedAfter: number | null = null;
    const where = `https://${host}/.well-known/mta-sts.txt at ${address}`;
    const end = (result: Fetched, final: boolean): void => {
      clearTimeout(timer);
      clearTimeout(silent);
      signal?.removeEventListener('abort', stopped);
      resolve({ result, final, silentMs: connectedAfter ?? performance.now() - began });
      get.destroy();
    };
    const giveUp = (what: string, final: boolean): void =>
      end(failed('sts-policy-fetch-error', `${where} ${what}`), final);
    const stopped = (): void => giveUp('was left because the relay stops', true);
    const get = request({
      host,
      port,
      path: '/.well-known/mta-sts.txt',
      servername: host,
      headers: {
        host,
        accept: 'text/plain',
        'accept-encoding': 'identity',
        'user-agent': 'dane-relay',
        connection: 'close',
      },
      agent: false,
      minVersion: 'TLSv1.2',
      ...ca,
      rejectUnauthorized: true,
      checkServerIdentity: (_, certificate) => wrongNameIn(host, certificate),
      // Only the address that our own resolver gave.
      lookup: (_name, { all }, callback) => {
        const family = isIP(address);
        if (all) callback(null, [{ address, family }]);
        else callback(null, address, family);
      },
    });
    const timer = setTimeout(() => giveUp(`did not answer in full in ${inSeconds(patience)}`, false), patience);
    const silent = setTimeout(() => giveUp(`could not be reached in ${inSeconds(connect)}`, false), connect);
    get.on('socket', (socket) =>
      socket.once('secureConnect', () => {
        connectedAfter = performance.now() - began;
        clearTimeout(silent);
      }),
    );
    signal?.addEventListener('abort', stopped, { once: true });
    if (signal?.aborted) stopped();

    get.on('error', (error: NodeJS.ErrnoException) => {
      if (isAboutCertificate(error)) {
        end(
          failed('sts-webpki-invalid', `the certificate of ${host} at ${address} is not valid: ${messageOf(error)}`),
          false,
        );
      } else giveUp(`cannot be fetched: ${messageOf(error)}`, false);
    });
    get.on('response', (response) => {
      const refusal = refusalOf(response.statusCode, response.headers);
      if (refusal !== null) return giveUp(refusal, true);
      const parts: Buffer[] = [];
      let size = 0;
      response.on('data', (part: Buffer) => {
        size += part.length;
        if (size > OCTETS_AT_MOST) giveUp(TOO_LARGE, true);
        else parts.push(part);
      });
      response.on('error', (error) => giveUp(`broke off: ${messageOf(error)}`, false));
      response.on('end', () => {
        if (response.complete) end({ kind: 'fetched', octets: Buffer.concat(parts) }, true);
        else giveUp('broke off', false);
      });
    });
    get.end();
  });
}

const TOO_LARGE = `is larger than ${OCTETS_AT_MOST / 1024} KiB`;

/** Why an answer is not taken, from its head alone; null when its body may be read. */
function refusalOf(status = 0, headers: Readonly<NodeJS.Dict<string | string[]>>): string | null {
  if (status >= 300 && status < 400) return `answers ${status}: a redirect is not followed`;
  if (status !== 200) return `answers ${status}, not 200`;
  const encoding = String(headers['content-encoding'] ?? 'identity').toLowerCase();
  if (encoding !== 'identity') return 'is compressed, which nobody asked for';
  // Guards against hosts that let others upload pages or pictures; parameters do not matter (RFC 8461 §3.2).
  const type = String(headers['content-type'] ?? 'text/plain').split(';', 1)[0] ?? '';
  if (type.trim().toLowerCase() !== 'text/plain') return `is ${type.trim().slice(0, 60)}, not text/plain`;
  return Number(headers['content-length'] ?? 0) > OCTETS_AT_MOST ? TOO_LARGE : null;
}

/** Only a dNSName counts, never a common name; a wildcard is a whole leftmost label (RFC 8461 §3.3). */
function wrongNameIn(host: string, { raw }: PeerCertificate): Error | undefined {
  try {
    const certificate = new X509Certificate(raw);
    if (certificate.checkHost(host, { subject: 'never', partialWildcards: false })) return undefined;
  } catch {
    // One that cannot be read is for nobody.
  }
  return Object.assign(new Error(`it is not for ${host}`), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
}

/** Codes of OpenSSL's verification, as Node names them, and of the check of names. */
function isAboutCertificate({ code = '' }: NodeJS.ErrnoException): boolean {
  return !code.startsWith('ERR_SSL') && /CERT|_CRL|SIGNATURE|INVALID_PURPOSE|INVALID_CA|PATH_LENGTH/.test(code);
}

function within<Value>(promise: Promise<Value>, ms: number): Promise<Value | null> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(null), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

function inSeconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}

function failed(type: StsFailure['type'], detail: string): Fetched {
  return { kind: 'failed', failure: { type, detail } };
}
