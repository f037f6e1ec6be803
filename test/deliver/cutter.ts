/** Stands between relay and host, and cuts the connection after so many octets of one direction. */
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import type { SmtpHost } from '../support/smtp-host.ts';

export interface Cutter {
  readonly port: number;
  /** Octets that have passed, by direction. */
  passed: { toHost: number; toRelay: number };
  /** `once`: the next connection alone. */
  cut: { readonly direction: 'toHost' | 'toRelay'; readonly after: number; readonly once?: boolean } | null;
}

/** Passes octets on until it has passed so many of them, then cuts both ends off. */
export async function cutterBefore(host: SmtpHost): Promise<Cutter> {
  const sockets = new Set<Socket>();
  const cutter: Cutter & { port: number } = { port: 0, passed: { toHost: 0, toRelay: 0 }, cut: null };
  const server: Server = createServer((near) => {
    const far = createConnection({ host: host.address, port: host.port });
    const passed = { toHost: 0, toRelay: 0 };
    cutter.passed = passed;
    const { cut } = cutter;
    if (cut?.once) cutter.cut = null;
    for (const [from, to, direction] of [
      [near, far, 'toHost'],
      [far, near, 'toRelay'],
    ] as const) {
      sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => to.end());
      from.on('data', (chunk: Buffer) => {
        const room = cut?.direction === direction ? cut.after - passed[direction] : chunk.length;
        passed[direction] += Math.min(chunk.length, room);
        if (room >= chunk.length) {
          to.write(chunk);
          return;
        }
        // Everything up to the cut arrives; nothing of what the other side says to it does.
        from.destroy();
        to.end(chunk.subarray(0, room));
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  const bound = server.address();
  cutter.port = typeof bound === 'object' && bound ? bound.port : 0;
  return cutter;
}
