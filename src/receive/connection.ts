/**
 * The connection of one client: octets in and out, the handshake of TLS, the end. What is said on it is for the
 * conversation.
 *
 *   open        octets are handled, replies are sent
 *   handshake   of TLS: nothing is said, and nothing that came before it counts after it (RFC 3207 §4.2)
 *   closing     the last reply was said; what still comes is thrown away, for a short time
 *   closed      there is no socket any more
 */
import type { Socket } from 'node:net';
import { type SecureContext, TLSSocket } from 'node:tls';
import { Wire, type WireHandlers } from './wire.ts';

/** What is told to whoever talks on a connection. */
export interface Conversation extends WireHandlers {
  /** A handshake has ended well. */
  readonly secured: (socket: TLSSocket) => void;
  /** The connection failed, and will be `gone`. */
  readonly failed: (error: Error) => void;
  /** There is no connection any more. Called once. */
  readonly gone: () => void;
}

/** Time at most that a client may take to hang up after the last reply, in milliseconds. */
const FAREWELL_MS = 5_000;

export class Connection {
  readonly #conversation: Conversation;
  /** The one on top: that of TLS as soon as there is one. */
  #socket: Socket;
  #wire: Wire;
  #state: 'open' | 'handshake' | 'closing' | 'closed' = 'open';
  #isSecure = false;
  /** Replies that were said while commands are being handled: those of one packet leave in one packet (RFC 2920 §3.2). */
  #replies = '';
  #isBusy = false;
  /** The other side reads nothing, and has to before it is listened to again. */
  #isBlocked = false;
  #isPaused = false;
  /** The client says nothing more, and waits for the answers. */
  #hasEnded = false;
  #farewell: NodeJS.Timeout | null = null;

  constructor(socket: Socket, conversation: Conversation) {
    this.#socket = socket;
    this.#conversation = conversation;
    this.#wire = new Wire(conversation);
    // Who ends what it says still hears the answer: without its 250 a message that is stored would come once more.
    socket.allowHalfOpen = true;
    socket.on('error', (error) => this.#fail(error));
    socket.once('end', () => this.#heardAll());
    socket.once('close', () => this.#closed());
  }

  get isSecure(): boolean {
    return this.#isSecure;
  }

  /** Listens to the client from now on. */
  start(): void {
    this.#socket.on('data', (octets: Buffer) => this.#take(octets));
    this.#socket.on('drain', () => {
      this.#isBlocked = false;
      this.#work();
    });
  }

  /** Sends a reply: whole lines of ASCII. Nothing is sent during a handshake or after the end. */
  say(lines: string): void {
    if (this.#state !== 'open') return;
    this.#replies += lines;
    if (!this.#isBusy) this.#flush();
  }

  startContent(): void {
    this.#wire.startContent();
  }

  /** Handles nothing more until `release`; soon the client cannot send more either. */
  hold(): void {
    this.#wire.hold();
  }

  release(): void {
    this.#wire.release();
    if (!this.#isBusy) this.#work();
  }

  /** Makes it a TLS connection. What the client sent before the handshake is thrown away. */
  upgrade(secureContext: SecureContext): void {
    this.#flush();
    this.#state = 'handshake';
    this.#wire.close();
    this.#wire = new Wire(this.#conversation);
    const plain = this.#socket;
    plain.removeAllListeners('data');
    plain.removeAllListeners('drain');
    plain.removeAllListeners('close');
    if (this.#hasEnded) {
      plain.destroy();
      this.#closed();
      return;
    }
    plain.removeAllListeners('end');
    plain.pause();
    this.#isPaused = false;
    this.#isBlocked = false;
    // Clients are known by their pin; who signed their certificate means nothing here.
    const socket = new TLSSocket(plain, {
      isServer: true,
      secureContext,
      requestCert: true,
      rejectUnauthorized: false,
    });
    this.#socket = socket;
    // Node tells of what goes wrong in TLS in either of two ways, and destroys the socket in one of them only.
    socket.on('error', (error) => this.#fail(error));
    socket.on('_tlsError', (error: Error) => socket.destroy(error));
    socket.once('end', () => this.#heardAll());
    socket.once('close', () => {
      if (!plain.destroyed) plain.destroy();
      this.#closed();
    });
    socket.once('secure', () => {
      if (this.#state !== 'handshake') return;
      this.#state = 'open';
      this.#isSecure = true;
      this.#conversation.secured(socket);
      this.start();
    });
  }

  /** Ends it after what was said. What the client still says is not heard. */
  close(): void {
    if (this.#state === 'handshake') this.destroy();
    if (this.#state !== 'open') return;
    this.#flush();
    this.#state = 'closing';
    this.#wire.close();
    this.#socket.end();
    // A client that left is noticed only where somebody reads.
    this.#socket.resume();
    this.#farewell = setTimeout(() => this.destroy(), FAREWELL_MS);
    this.#farewell.unref();
  }

  /** Ends it when what was said has left, without waiting for the client to hang up. */
  destroySoon(): void {
    this.#socket.destroySoon();
  }

  /** Ends it at once. */
  destroy(): void {
    this.#wire.close();
    // Only ever the socket on top: one below it must not be taken away from a handshake.
    this.#socket.destroy();
  }

  #take(octets: Buffer): void {
    if (this.#state !== 'open') return;
    this.#wire.add(octets);
    this.#work();
  }

  /** Handles what was received, and sends the replies to it in one go. */
  #work(): void {
    if (this.#state !== 'open') return;
    if (this.#isBlocked) {
      this.#pause(true);
      return;
    }
    const wire = this.#wire;
    this.#isBusy = true;
    let again = false;
    try {
      again = wire.run();
    } finally {
      this.#isBusy = false;
      this.#flush();
    }
    if (this.#state !== 'open' || wire !== this.#wire) return;
    if (this.#hasEnded && !again && !wire.isHeld) {
      this.close();
      return;
    }
    if (again && !this.#isBlocked) setImmediate(() => this.#work());
    this.#pause(again || this.#isBlocked || wire.isFull);
  }

  /** What the client said before is still done and answered. */
  #heardAll(): void {
    this.#hasEnded = true;
    if (this.#state === 'handshake') this.destroy();
    else this.#work();
  }

  #pause(wanted: boolean): void {
    if (wanted === this.#isPaused) return;
    this.#isPaused = wanted;
    if (wanted) this.#socket.pause();
    else this.#socket.resume();
  }

  #flush(): void {
    if (this.#replies === '' || this.#state !== 'open') return;
    const replies = this.#replies;
    this.#replies = '';
    if (this.#socket.writable && !this.#socket.write(replies, 'latin1')) this.#isBlocked = true;
  }

  #fail(error: Error): void {
    this.#conversation.failed(error);
    this.destroy();
  }

  #closed(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#wire.close();
    if (this.#farewell) clearTimeout(this.#farewell);
    this.#conversation.gone();
  }
}
