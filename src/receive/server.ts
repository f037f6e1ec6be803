/**
 * The door for mail: listens, lets in whom the configuration names, and hands every complete message to `accept`.
 * A client hears 250 after `accept` has resolved, never before.
 */
import { constants } from 'node:crypto';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { Logger } from '../model/events.ts';
import type { NewMessage } from '../model/message.ts';
import type { Clock } from '../shared/clock.ts';
import { RateLimiter } from '../shared/rate.ts';
import { type ClientRule, createAccess } from './access.ts';
import { type Entrance, Gate, type GateLimits, LINGERING, Lobby } from './gate.ts';
import type { ContentRules } from './intake.ts';
import { type ClientRates, type Desk, type DeskRules, Session } from './session.ts';
import { Spool } from './spool.ts';

export interface ListenRule {
  readonly address: string;
  /** 0 for any that is free. */
  readonly port: number;
  readonly tls: 'starttls' | 'implicit';
}

/** Certificate chain and private key in PEM. */
export interface ServerCertificate {
  readonly cert: string;
  readonly key: string;
}

export interface ReceiverLimits extends GateLimits, Pick<ContentRules, 'messageBytes' | 'lineBytes' | 'hops'> {
  /** Recipients of one message (RFC 5321 §4.5.3.1.8: 100 at least). */
  readonly recipients: number;
  /** Time that a client may be silent or take for one command, in milliseconds (RFC 5321 §4.5.3.2.7: 5 minutes). */
  readonly idleMs: number;
  /** Time that the content of one message may take, in milliseconds. */
  readonly messageMs: number;
}

/** What may change while conversations go on. */
export interface IntakeRules extends Pick<ContentRules, 'bareNewlines' | 'longLines'> {
  readonly clients: readonly ClientRule[];
  readonly limits: ReceiverLimits;
}

export interface ReceiverOptions extends IntakeRules {
  readonly hostname: string;
  readonly listen: readonly ListenRule[];
  readonly certificate: ServerCertificate;
  /** Folder for messages that are too large for memory; on the file system of the store. */
  readonly spoolDir: string;
  /**
   * Makes a message safe. Resolves when it is, and then the client hears 250; an error named `StoreFull` is answered
   * 452 4.3.1, any other 451 4.3.0. A body in a file is deleted afterwards unless it was moved away.
   */
  readonly accept: (message: NewMessage) => Promise<void>;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly log: Logger;
  /**
   * For one of several workers: connections are counted elsewhere, and messages of clients, and no port is opened here
   * but connections are handed over by `take`.
   */
  readonly supervised?: { readonly gate: Entrance; readonly rates: ClientRates };
}

export interface Receiver {
  /** Opens every port, or none: rejects with the error of the first that cannot be opened. */
  readonly listen: () => Promise<void>;
  /** Goes on with a connection that was accepted for the listener with this index. */
  readonly take: (socket: Socket, listener: number) => void;
  /** What is listened on, in the order of the configuration. */
  readonly addresses: () => readonly ListenRule[];
  /** For connections from now on. @throws when this is no certificate with its key; the old one then stays */
  readonly setCertificate: (certificate: ServerCertificate) => void;
  /** From the next message on, also in connections that are open. @throws TypeError as `createReceiver` */
  readonly setRules: (rules: IntakeRules) => void;
  /** Takes no more connections, lets messages under way finish for up to `drainMs`, then ends all. Never rejects. */
  readonly close: (drainMs: number) => Promise<void>;
}

/** @throws TypeError for a client rule that the configuration should not have let through */
export function createReceiver(options: ReceiverOptions): Receiver {
  const { hostname, limits, spoolDir, accept, clock, newId, log } = options;
  const spool = new Spool(spoolDir);
  const desk: Desk = {
    hostname,
    rules: deskRules(options),
    rates: new RateLimiter(),
    gate: new Gate(limits),
    ...options.supervised,
    lobby: new Lobby(),
    spool,
    accept,
    secureContext: secureContextOf(options.certificate),
    clock,
    newId,
    log,
  };
  const doors = options.listen.map((rule) => new Door(rule, limits, desk));
  return {
    listen: async () => {
      await spool.clear();
      if (options.supervised) return;
      try {
        for (const door of doors) await door.open();
      } catch (error) {
        await Promise.all(doors.map((door) => door.shut(0)));
        throw error;
      }
    },
    take: (socket, listener) => {
      const door = doors[listener];
      if (door) door.take(socket);
      else socket.destroy();
    },
    addresses: () => doors.map((door) => door.rule()),
    setCertificate: (certificate) => {
      desk.secureContext = secureContextOf(certificate);
    },
    setRules: (rules) => {
      desk.rules = deskRules(rules);
      desk.gate.setLimits(rules.limits);
      for (const door of doors) door.setLimits(rules.limits);
    },
    close: async (drainMs) => {
      await Promise.all(doors.map((door) => door.shut(drainMs)));
    },
  };
}

function deskRules({ clients, limits, bareNewlines, longLines }: IntakeRules): DeskRules {
  const { recipients, idleMs, messageMs } = limits;
  return {
    access: createAccess(clients),
    content: { ...limits, bareNewlines, longLines },
    recipients,
    idleMs,
    messageMs,
  };
}

/**
 * One for all doors. Sessions are not resumed: each worker would have keys of its own for them, and a connection is
 * worth what the certificate is worth that was shown on it.
 */
function secureContextOf({ cert, key }: ServerCertificate): SecureContext {
  return createSecureContext({
    cert,
    key,
    minVersion: 'TLSv1.2',
    honorCipherOrder: true,
    sessionIdContext: 'dane-relay',
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_TICKET,
  });
}

/** One listening port. */
class Door {
  readonly #rule: ListenRule;
  readonly #server: Server;
  readonly #desk: Desk;
  readonly #sessions = new Set<Session>();
  #isShut = false;
  #onLast: (() => void) | null = null;

  constructor(rule: ListenRule, limits: GateLimits, desk: Desk) {
    this.#rule = rule;
    this.#desk = desk;
    this.#server = createServer({ noDelay: true, keepAlive: true }, (socket) => this.take(socket));
    this.#server.on('error', (error) => desk.log.debug('a connection failed', { error: error.message }));
    this.setLimits(limits);
  }

  rule(): ListenRule {
    const { port = this.#rule.port } = (this.#server.address() as AddressInfo | null) ?? {};
    return { ...this.#rule, port };
  }

  take(socket: Socket): void {
    if (this.#isShut) {
      socket.destroy();
      return;
    }
    const session: Session = new Session(socket, this.#rule.tls === 'implicit', this.#desk, () => {
      this.#sessions.delete(session);
      if (this.#sessions.size === 0) this.#onLast?.();
    });
    this.#sessions.add(session);
  }

  setLimits({ connections }: GateLimits): void {
    this.#server.maxConnections = connections + LINGERING;
  }

  open(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ host: this.#rule.address, port: this.#rule.port }, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
  }

  async shut(drainMs: number): Promise<void> {
    this.#isShut = true;
    const last = new Promise<void>((resolve) => {
      if (this.#sessions.size === 0) resolve();
      else this.#onLast = resolve;
    });
    const closed = Promise.all([last, new Promise<void>((resolve) => this.#server.close(() => resolve()))]);
    for (const session of this.#sessions) session.drain();
    const timer = setTimeout(() => {
      for (const session of this.#sessions) session.terminate();
    }, drainMs);
    await closed;
    clearTimeout(timer);
  }
}
