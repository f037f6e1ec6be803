/**
 * One question to one server, over UDP and where it must be over TCP, within one deadline.
 *
 * Each try has a fresh connected socket, so that the kernel only lets the server's own packets in, and a random port
 * and id (RFC 5452 §9.2). What is not the answer to our question is ignored and we keep waiting; what is, and cannot
 * be read, ends the matter. Never rejects: trouble is a value with a reason in words.
 */
import { randomInt } from 'node:crypto';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createConnection, isIPv6, type Socket as TcpSocket } from 'node:net';
import { decodeReply, encodeQuery, type Question, type Reply } from './wire.ts';

export interface ServerAddress {
  readonly address: string;
  readonly port: number;
}

export type Exchange =
  | { readonly kind: 'reply'; readonly reply: Reply }
  | { readonly kind: 'late' }
  | { readonly kind: 'failed'; readonly reason: string };

/** When the question is sent again over UDP, as parts of the deadline: at 3 s and 8 s of 20 s. */
const TRIES = [0, 0.15, 0.4];
/** How long after a refusal (nobody listens) the next try is made: long enough for a resolver that is being restarted. */
const AFTER_REFUSAL_MS = 250;

/**
 * @param deadlineMs for all tries together, in milliseconds
 * @param signal ends it early, as failed
 */
export async function exchange(
  server: ServerAddress,
  question: Question,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Exchange> {
  const started = performance.now();
  const overUdp = await askOverUdp(server, question, deadlineMs, signal);
  if (overUdp.kind !== 'truncated') return overUdp;
  const left = deadlineMs - (performance.now() - started);
  return askOverTcp(server, question, left, signal);
}

function askOverUdp(
  { address, port }: ServerAddress,
  question: Question,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Exchange | { readonly kind: 'truncated' }> {
  return new Promise((resolve) => {
    const sockets = new Set<UdpSocket>();
    const timers = new Set<NodeJS.Timeout>();
    let tries = 0;
    let refusals = 0;

    const end = (result: Exchange | { readonly kind: 'truncated' }): void => {
      for (const timer of timers) clearTimeout(timer);
      for (const socket of sockets) socket.close();
      sockets.clear();
      signal.removeEventListener('abort', aborted);
      resolve(result);
    };
    const aborted = (): void => end({ kind: 'failed', reason: 'the resolver client was closed' });
    const later = (ms: number, action: () => void): void => {
      timers.add(setTimeout(action, ms));
    };

    /** Nobody listens: no use waiting for the planned tries, but three refusals in a row are an answer. */
    const refused = (socket: UdpSocket, error: Error): void => {
      if (!sockets.delete(socket)) return;
      socket.close();
      refusals++;
      if (refusals >= TRIES.length)
        end({ kind: 'failed', reason: `the resolver cannot be reached (${error.message})` });
      else if (tries < TRIES.length) later(AFTER_REFUSAL_MS, attempt);
    };

    const attempt = (): void => {
      if (tries >= TRIES.length) return;
      tries++;
      const id = randomInt(0x10000);
      const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
      sockets.add(socket);
      socket.on('error', (error) => refused(socket, error));
      socket.on('message', (message) => {
        if (!sockets.has(socket)) return;
        const decoded = decodeReply(message, id, question);
        if (decoded.kind === 'stray') return;
        end(decoded.kind === 'malformed' ? { kind: 'failed', reason: `malformed answer: ${decoded.reason}` } : decoded);
      });
      socket.connect(port, address, () => {
        if (!sockets.has(socket)) return;
        socket.send(encodeQuery(id, question), (error) => {
          if (error) refused(socket, error);
        });
      });
    };

    if (signal.aborted) return aborted();
    signal.addEventListener('abort', aborted);
    later(deadlineMs, () => end({ kind: 'late' }));
    for (const part of TRIES.slice(1)) later(part * deadlineMs, attempt);
    attempt();
  });
}

/** RFC 7766 §8: each message comes after its length in two octets, in whatever pieces. */
function askOverTcp(
  { address, port }: ServerAddress,
  question: Question,
  leftMs: number,
  signal: AbortSignal,
): Promise<Exchange> {
  return new Promise((resolve) => {
    const id = randomInt(0x10000);
    const socket: TcpSocket = createConnection({ host: address, port });
    let received: Buffer = Buffer.alloc(0);

    const end = (result: Exchange): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', aborted);
      socket.destroy();
      resolve(result);
    };
    const fail = (reason: string): void =>
      end({ kind: 'failed', reason: `the answer was cut short and over TCP ${reason}` });
    const aborted = (): void => end({ kind: 'failed', reason: 'the resolver client was closed' });
    const timer = setTimeout(() => end({ kind: 'late' }), Math.max(leftMs, 1));

    const look = (message: Buffer): boolean => {
      const decoded = decodeReply(message, id, question);
      switch (decoded.kind) {
        case 'stray':
          return false;
        case 'truncated':
          fail('it was cut short again');
          return true;
        case 'malformed':
          fail(`it was malformed: ${decoded.reason}`);
          return true;
        case 'reply':
          end(decoded);
          return true;
      }
    };

    if (signal.aborted) return aborted();
    signal.addEventListener('abort', aborted);
    socket.once('connect', () => {
      const query = encodeQuery(id, question);
      const length = Buffer.alloc(2);
      length.writeUInt16BE(query.length);
      socket.write(Buffer.concat([length, query]));
    });
    socket.on('data', (chunk: Buffer) => {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
      while (received.length >= 2) {
        const size = received.readUInt16BE();
        if (received.length < 2 + size) return;
        const message = received.subarray(2, 2 + size);
        received = received.subarray(2 + size);
        if (look(message)) return;
      }
    });
    socket.once('error', (error) => fail(`there was trouble (${error.message})`));
    socket.once('close', () => fail('the connection was closed before it was complete'));
  });
}
