/**
 * The ports of a relay with several workers. Connections are accepted here and given to the workers by turns: long
 * conversations of a few clients are the rule, and what the kernel does among processes that accept on one socket was
 * measured at 15 to 5 (docs/decisions/0007). Nothing of what a client says is read here.
 */
import type { ChildProcess } from 'node:child_process';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Listener } from '../config/config.ts';

/** Who can be given connections. */
export interface Taker {
  readonly process: ChildProcess;
  /** Given and not yet confirmed, oldest first. */
  readonly given: Given[];
}

interface Given {
  readonly socket: Socket;
  /** What Node takes away from the socket while it is under way. */
  readonly handle: { readonly close: () => void } | null;
}

export interface Doors {
  /** Opens every port, or none: rejects with the error of the first that cannot be opened. */
  readonly open: () => Promise<readonly Listener[]>;
  /** Somebody is there again to take what waits. */
  readonly goOn: () => void;
  readonly close: () => void;
}

/** Connections that may wait while no worker is there. */
const WAITING_AT_MOST = 500;

/** @param takers who takes connections now, in turn */
export function createDoors(listeners: readonly Listener[], takers: () => readonly Taker[]): Doors {
  let turn = 0;
  let waiting: (readonly [Socket, number])[] = [];

  const give = (socket: Socket, door: number): void => {
    const able = takers();
    const taker = able[turn++ % Math.max(1, able.length)];
    if (!taker) {
      if (waiting.length >= WAITING_AT_MOST) socket.destroy();
      else waiting.push([socket, door]);
      return;
    }
    const handle = (Reflect.get(socket, '_handle') as Given['handle'] | undefined) ?? null;
    taker.given.push({ socket, handle });
    taker.process.send({ door }, socket, { keepOpen: false }, () => undefined);
  };

  const servers = listeners.map((_, door) =>
    createServer({ pauseOnConnect: true, noDelay: true, keepAlive: true }, (socket) => {
      socket.on('error', () => socket.destroy());
      give(socket, door);
    }),
  );
  const close = (): void => {
    for (const [socket] of waiting.splice(0)) socket.destroy();
    // Closed at once, although Node tells it only when all connections that came through it have ended.
    for (const server of servers) server.close();
  };

  return {
    async open() {
      try {
        for (const [door, server] of servers.entries()) await opened(server, listeners[door]);
      } catch (error) {
        close();
        throw error;
      }
      return listeners.map((rule, door) => ({
        ...rule,
        port: (servers[door]?.address() as AddressInfo | null)?.port ?? rule.port,
      }));
    },
    goOn() {
      const [...all] = waiting;
      waiting = [];
      for (const [socket, door] of all) give(socket, door);
    },
    close,
  };
}

/** The worker has the oldest connection that it was given. */
export function confirm({ given }: Taker): void {
  given.shift();
}

/** Ends what a worker was given and died before it had it: the client comes again. */
export function abandon({ given }: Taker): void {
  for (const { socket, handle } of given.splice(0)) {
    socket.destroy();
    handle?.close();
  }
}

function opened(server: Server, rule: Listener | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: rule?.address, port: rule?.port }, () => {
      server.off('error', reject);
      server.on('error', () => undefined);
      resolve();
    });
  });
}
