/**
 * Fetches the certificates of a server for the commands that print them: SMTP with STARTTLS, or TLS at once on the
 * ports where that is the custom. Nothing is verified: what comes back is for looking at, not for trusting.
 */
import { once } from 'node:events';
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';

const IMPLICIT_TLS: ReadonlySet<number> = new Set([443, 465, 636, 853, 990, 993, 995, 8443]);
const TIME_LIMIT = 15_000;
const REPLY_LIMIT = 65_536;

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** Reads `host:port` or `[2001:db8::1]:25`; null for anything else, a path for one. */
export function parseEndpoint(text: string): Endpoint | null {
  const parts = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+)):(\d{1,5})$/i.exec(text);
  const host = parts?.[1] ?? parts?.[2];
  const port = Number(parts?.[3]);
  return host === undefined || port < 1 || port > 65_535 ? null : { host, port };
}

/** @returns DER as sent, leaf first, one at least. Rejects with an Error whose message is for people */
export async function fetchChain({ host, port }: Endpoint): Promise<readonly [Buffer, ...Buffer[]]> {
  const socket = connect({ host, port, autoSelectFamily: true });
  let tls: TLSSocket | null = null;
  const signal = AbortSignal.timeout(TIME_LIMIT);
  try {
    // Every wait below is for an event that a closed or broken connection also ends.
    socket.on('error', () => {});
    await once(socket, 'connect', { signal });
    if (!IMPLICIT_TLS.has(port)) await startTls(socket, signal);
    const servername = isIP(host) === 0 ? { servername: host } : {};
    tls = connectTls({ socket, ...servername, rejectUnauthorized: false });
    await once(tls, 'secureConnect', { signal });
    const chain: Buffer[] = [];
    // The getter gives the certificates in the order sent, and only once (nodejs/node#65579).
    for (let certificate = tls.getPeerX509Certificate(); certificate; certificate = certificate.issuerCertificate) {
      chain.push(Buffer.from(certificate.raw));
    }
    const [leaf, ...others] = chain;
    if (leaf === undefined) throw new Error('the server sent no certificate');
    return [leaf, ...others];
  } catch (error) {
    throw signal.aborted ? new Error(`no answer in ${TIME_LIMIT / 1000} s`) : error;
  } finally {
    tls?.destroy();
    socket.destroy();
  }
}

async function startTls(socket: Socket, signal: AbortSignal): Promise<void> {
  await expectReply(socket, 220, signal, 'the greeting');
  socket.write('EHLO dane-relay.invalid\r\n');
  const offers = await expectReply(socket, 250, signal, 'EHLO');
  if (!/^250[- ]STARTTLS\s*$/im.test(offers)) throw new Error('the server does not offer STARTTLS');
  socket.write('STARTTLS\r\n');
  await expectReply(socket, 220, signal, 'STARTTLS');
}

async function expectReply(socket: Socket, code: number, signal: AbortSignal, what: string): Promise<string> {
  let reply = '';
  while (!/^\d{3}(?: [^\n]*)?\r?\n$/m.test(reply)) {
    const chunk: unknown = socket.read();
    if (Buffer.isBuffer(chunk)) reply += chunk.toString('latin1');
    else if (socket.readableEnded || socket.destroyed)
      throw new Error(`the server closed the connection after ${what}`);
    else await Promise.race([once(socket, 'readable', { signal }), once(socket, 'close', { signal })]);
    if (reply.length > REPLY_LIMIT) throw new Error(`the reply to ${what} has no end`);
  }
  if (!reply.startsWith(String(code))) {
    throw new Error(
      `the server answered ${what} with: ${reply
        .trim()
        .slice(0, 200)
        .replace(/[^ -~]+/g, ' ')}`,
    );
  }
  return reply;
}
