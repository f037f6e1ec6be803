/**
 * What can be learned of the other end of a TLS connection. The certificates are those that the host sent, in its
 * order, nothing added and nothing left out; trust is judged elsewhere.
 */
import { createSecureContext, rootCertificates, type SecureContext, type TLSSocket } from 'node:tls';
import type { PathFinding, TlsFacts } from '../model/delivery.ts';

/** Certificates that are looked at in one handshake; OpenSSL's own limit of 100 KB comes first with real ones. */
const CHAIN_LIMIT = 200;

/**
 * The context of every connection: TLS 1.2 and later (RFC 8996), no certificate of our own, no public CAs. Sharing
 * one saves a quarter of the cost of a handshake. The runtime offers X25519MLKEM768 first.
 */
export function clientContext(): SecureContext {
  // With an empty list of CAs no chain verifies, so Node never looks at the certificates before we do.
  return createSecureContext({ minVersion: 'TLSv1.2', ca: [] });
}

/**
 * The context where a certificate must come from an authority: OpenSSL then looks for a way to one during the handshake.
 * What it finds only counts in `pathFinding`, never for DANE.
 *
 * @param authorities certificates in PEM; null for the public ones that the runtime brings (Mozilla's list)
 */
export function trustingContext(authorities: readonly string[] | null): SecureContext {
  return createSecureContext({ minVersion: 'TLSv1.2', ca: [...(authorities ?? rootCertificates)] });
}

/**
 * What OpenSSL made of the certificates in the handshake: signatures, dates, purpose and constraints up to a trusted
 * authority. Names are judged elsewhere. A resumed session shows no certificate, so it finds nothing.
 */
export function pathFinding(socket: TLSSocket): PathFinding {
  if (socket.isSessionReused()) return { kind: 'not-trusted', why: 'the session was resumed' };
  // The check of names is switched off in smtp-connection.ts, so this is about the path only.
  if (socket.authorized) return { kind: 'trusted' };
  return { kind: 'not-trusted', why: String(socket.authorizationError ?? 'unknown') };
}

/**
 * DER of the certificates as sent, leaf first. Empty when there is none, or when the session was resumed, which
 * carries none: both must fail where a certificate is needed.
 *
 * To be called once for each connection: the runtime's getter empties what it reads (nodejs/node#65579).
 */
export function takeChain(socket: TLSSocket): readonly Buffer[] {
  if (socket.isSessionReused()) return [];
  const chain: Buffer[] = [];
  // Each certificate names the next one sent as its "issuer", whoever issued it.
  let certificate = socket.getPeerX509Certificate();
  while (certificate !== undefined && chain.length < CHAIN_LIMIT) {
    chain.push(Buffer.from(certificate.raw));
    certificate = certificate.issuerCertificate;
  }
  return chain;
}

export function tlsFacts(socket: TLSSocket): TlsFacts {
  const version = socket.getProtocol() ?? 'unknown';
  return { version, cipher: socket.getCipher().standardName, group: groupOf(socket, version) };
}

/** A finite field has no name here; under TLS 1.3 it can only be one that has a name. */
function groupOf(socket: TLSSocket, version: string): string | null {
  const { type, name, size }: { type?: string; name?: string; size?: number } = socket.getEphemeralKeyInfo() ?? {};
  if (type === 'DH') return version === 'TLSv1.3' ? `ffdhe${size}` : `DH ${size}`;
  return name ?? null;
}
