/**
 * One TCP connection to a mail host: commands out, replies in, TLS when asked, content with its dots stuffed.
 *
 * This is the only file that knows nodemailer's SMTPConnection, and it knows its internals: it keeps the socket and
 * the change to TLS, and replaces how commands and content are written, how replies are read and how long all may
 * take. test/deliver/nodemailer-contract.test.ts fails when those internals change. It decides nothing about mail; whatever
 * goes wrong ends the connection and is told once to everybody who waits, as a ConnectionFailure.
 */
import { isIP, Socket } from 'node:net';
import { type SecureContext, TLSSocket } from 'node:tls';
import SMTPConnection, { type SMTPConnectionOptions } from 'nodemailer/lib/smtp-connection';
import type { LeavingBody } from '../model/message.ts';
import type { Trouble } from '../model/route.ts';
import { messageOf } from '../shared/message-of.ts';
import { ConnectionFailure } from './connection-failure.ts';
import { DotStuffer } from './dot-stuffing.ts';
import { inOneWrite, partsOf, written } from './parts.ts';
import { isPositive, isRefusal, type Reply, ReplyReader, sanitise, statusOf, textOf } from './replies.ts';
import { SILENCE, type Timeouts, transferTime } from './timeouts.ts';

/** A command that is answered by one reply; the rest of `Timeouts` are phases without one. */
type Phase = Exclude<keyof Timeouts, 'connect' | 'handshake' | 'block'>;

export interface Command {
  /** Without CRLF. */
  readonly line: string;
  readonly phase: Phase;
}

export interface ConnectionOptions {
  /** IPv4 or IPv6 address, never a name: nobody but route/ may look up names. */
  readonly address: string;
  readonly port: number;
  /** What we say in EHLO. */
  readonly hostname: string;
  readonly localAddress: string | undefined;
  readonly secureContext: SecureContext;
  /** Name in SNI, null for none. */
  readonly sni: string | null;
  readonly timeouts: Timeouts;
}

/** What of nodemailer's SMTPConnection is used or replaced here beyond its published face. */
interface Internals {
  _destroyed: boolean;
  _upgradeConnection(callback: (error: Error | null) => void): void;
  _onConnect(): void;
  _onData(chunk: Buffer): void;
  _onError(error: Error): void;
  _onClose(): void;
  _onTimeout(): void;
  _startPhase(timeout: number, error: Error): void;
}

type Constructor = new (options: SMTPConnectionOptions) => SMTPConnection & Internals;

const Base = SMTPConnection as unknown as Constructor;

interface Waiter {
  readonly phase: Phase;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (failure: ConnectionFailure) => void;
}

export class SmtpConnection extends Base {
  readonly #options: ConnectionOptions;
  #reader = new ReplyReader();
  #waiting: Waiter[] = [];
  /** The phase that runs, how long it may take, and when that time is over; without end between two phases. */
  #armed: keyof Timeouts = 'connect';
  #armedMs = 0;
  #deadline = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #firesAt = Number.POSITIVE_INFINITY;
  #failure: ConnectionFailure | null = null;
  #connected = false;
  /** From the 220 to STARTTLS until the first reply under TLS: what happens here is part of the handshake. */
  #tls: 'no' | 'next' | 'handshake' | 'fresh' | 'proven' = 'no';
  #handshakeFailed: ((failure: ConnectionFailure) => void) | null = null;
  #body: 'none' | 'sending' | 'refused' | 'dot-sent' = 'none';
  #inTransaction = false;
  #closed: (() => void) | undefined;

  /** Our end of the connection; null before there is one. It stays after the end. */
  localAddress: string | null = null;
  /** Settles when the socket is gone, after `close`, `abort` or a failure. */
  readonly closed: Promise<void>;

  constructor(options: ConnectionOptions) {
    const { address, localAddress } = options;
    if (isIP(address) === 0) throw new TypeError(`not an address: ${address}`);
    super({
      host: address,
      port: options.port,
      secure: false,
      name: options.hostname,
      localAddress: localAddress !== undefined && isIP(localAddress) === isIP(address) ? localAddress : undefined,
      socketTimeout: options.timeouts.block,
      socketCloseTimeout: 1000,
      tls: {
        secureContext: options.secureContext,
        ...(options.sni === null ? {} : { servername: options.sni }),
        // What a certificate is worth is judged by the caller, who also knows which names it must be for.
        rejectUnauthorized: false,
        checkServerIdentity: () => undefined,
      },
    });
    this.#options = options;
    this.closed = new Promise((resolve) => {
      this.#closed = resolve;
    });
    this.once('end', () => this.#settle(new ConnectionFailure({ code: 'connection-lost', detail: 'closed' })));
  }

  /** False once anything went wrong, and after `close`. */
  get usable(): boolean {
    const socket = this._socket;
    return this.#failure === null && !this._destroyed && socket instanceof Socket && socket.writable;
  }

  /** From a MAIL that was accepted to the reply that ends it; RSET ends it too. */
  get inTransaction(): boolean {
    return this.#inTransaction;
  }

  /** The socket under TLS. @throws ConnectionFailure when there is none, so that nobody goes on without */
  get tlsSocket(): TLSSocket {
    const socket = this._socket;
    if (socket instanceof TLSSocket && socket.encrypted && this.secure) return socket;
    throw this.#fail({ code: 'tls-handshake-failed', detail: 'there is no TLS on this connection' });
  }

  /** Connects and waits for the greeting. */
  open(): Promise<Reply> {
    const greeting = this.#expect('greeting');
    this.#arm('connect');
    this.connect();
    return greeting;
  }

  /** Sends one command and waits for its reply, whatever the reply says. @throws ConnectionFailure (rejects) */
  command(command: Command): Promise<Reply> {
    const [reply] = this.pipeline([command]);
    return reply ?? Promise.reject(new TypeError('no command'));
  }

  /** Sends commands in one go (RFC 2920); the replies come in their order. Unread rejections are no error. */
  pipeline(commands: readonly Command[]): readonly Promise<Reply>[] {
    for (const { line } of commands) {
      if (/[\r\n\u0000]/.test(line)) throw new TypeError('a command must be one line');
    }
    if (this.#failure === null && this.#reader.midway && this.#waiting.length === 0) {
      this.#fail({ code: 'remote-garbage', detail: 'the host spoke before it was asked' });
    }
    const replies = commands.map(({ phase }) => this.#expect(phase));
    if (this.#failure !== null) return replies;
    const socket = this.#socket;
    socket.write(commands.map(({ line }) => `${line}\r\n`).join(''));
    return replies;
  }

  /** TLS handshake, right after the 220 to STARTTLS. @throws ConnectionFailure (rejects) */
  async startTls(): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    this.#tls = 'handshake';
    await new Promise<void>((resolve, reject) => {
      this.#handshakeFailed = reject;
      this._upgradeConnection((error) => {
        if (error) return this._onError(error);
        this.#disarm();
        this.#tls = 'fresh';
        this.#reader = new ReplyReader();
        resolve();
      });
      if (this.#tls === 'handshake') this.#arm('handshake');
    });
    this.#handshakeFailed = null;
    this.tlsSocket.disableRenegotiation();
    this.tlsSocket.setTimeout(0);
  }

  /**
   * Sends the content after the 354, dot-stuffed, and waits for the last reply. The final dot is sent only when the
   * body came to its proper end with `size` octets or more. A small body in memory goes out in one write, dot included.
   *
   * @param dotSent called when the final dot is on its way: from then on the host may have the message, whatever it says
   * @throws ConnectionFailure (rejects), `stored-message-unreadable` when the body could not be read
   */
  async sendBody(body: LeavingBody, size: number, dotSent: () => void): Promise<Reply> {
    const reply = this.#expect('final');
    this.#body = 'sending';
    this.#arm('block', transferTime(this.#options.timeouts, size));
    const stuffer = new DotStuffer(body.kind === 'fresh' ? 'pairs' : 'unknown');
    const whole = inOneWrite(body);
    if (whole) this.#sendAtOnce(whole, size, stuffer, dotSent);
    else void this.#sendInParts(partsOf(body), size, stuffer, dotSent);
    try {
      return await reply;
    } finally {
      if (body.kind === 'stream') body.stream.destroy();
      // Refused before its end: the host still waits for the dot, so nothing else can be said on this connection.
      if (this.#bodyState === 'refused')
        this.#fail({ code: 'connection-lost', detail: 'left in the middle of a message' });
    }
  }

  #sendAtOnce(bytes: Buffer, size: number, stuffer: DotStuffer, dotSent: () => void): void {
    if (this.#failure !== null) return;
    if (bytes.length < size) {
      this.#unreadable(tooShort(bytes.length, size));
      return;
    }
    const socket = this.#socket;
    socket.cork();
    socket.write(Buffer.concat(stuffer.push(bytes)));
    this.#endBody(stuffer, dotSent);
    socket.uncork();
  }

  /**
   * One part after the other, each when the socket is done with the one before. Never rejects: what goes wrong ends the
   * connection, and that ends the waiting for the reply.
   */
  async #sendInParts(
    parts: Iterable<Buffer> | AsyncIterable<Buffer>,
    size: number,
    stuffer: DotStuffer,
    dotSent: () => void,
  ): Promise<void> {
    let octets = 0;
    try {
      const socket = this.#socket;
      socket.setTimeout(this.#options.timeouts.block);
      for await (const part of parts) {
        if (this.#body !== 'sending' || this.#failure !== null) return;
        octets += part.length;
        if (!(await written(socket, stuffer.push(part)))) return;
      }
      if (this.#body !== 'sending' || this.#failure !== null) return;
      socket.setTimeout(0);
      if (octets < size) return this.#unreadable(tooShort(octets, size));
      socket.cork();
      this.#endBody(stuffer, dotSent);
      socket.uncork();
    } catch (error) {
      this.#unreadable(isEarlyEnd(error) ? 'it ended early' : messageOf(error));
    }
  }

  #endBody(stuffer: DotStuffer, dotSent: () => void): void {
    this.#socket.write(stuffer.end());
    this.#body = 'dot-sent';
    this.#arm('final');
    dotSent();
  }

  #unreadable(why: string): void {
    if (this.#body === 'sending') this.#fail({ code: 'stored-message-unreadable', detail: why });
  }

  /** Says QUIT, waits a moment for the answer, and closes. Never rejects. */
  override async quit(): Promise<void> {
    if (this.usable) await this.command({ line: 'QUIT', phase: 'quit' }).catch(() => undefined);
    this.close();
    await this.closed;
  }

  /**
   * Cuts the connection; whoever waits for a reply is told `trouble`.
   *
   * @returns what is to be thrown by who aborts: `trouble`, whatever had happened to the connection before
   */
  abort(trouble: Trouble): ConnectionFailure {
    this.#fail(trouble);
    return new ConnectionFailure(trouble);
  }

  override close(): void {
    this.#disarm();
    clearTimeout(this.#timer);
    const socket = this._socket;
    super.close();
    if (!socket || socket.destroyed) this.#closed?.();
    else socket.once('close', () => this.#closed?.());
  }

  // What nodemailer calls: the socket's events come here instead of its own handlers.

  override _onConnect(): void {
    super._onConnect();
    // Looked after while content is sent; elsewhere the phases have their time.
    this.#socket.setTimeout(0);
    this.#connected = true;
    const socket = this._socket;
    this.localAddress = socket instanceof Socket ? (socket.localAddress ?? null) : null;
    this.#arm('greeting');
  }

  override _onData(chunk: Buffer): void {
    if (this.#failure !== null) return;
    if (this.#handshakeIsNext) {
      this.#injected();
      return;
    }
    for (const received of this.#reader.push(chunk)) {
      if (this.#failure !== null) return;
      if (this.#handshakeIsNext) this.#injected();
      else if (received.kind === 'garbage') this.#fail({ code: 'remote-garbage', detail: received.why });
      else this.#answer(received.reply);
    }
    if (this.#handshakeIsNext && this.#reader.midway) this.#injected();
  }

  override _onError(error: Error & { code?: string; reason?: string; library?: string }): void {
    // OpenSSL's own message names a source file and a line of it; its reason is what people can use.
    const what = sanitise(error.reason ?? error.message);
    const detail = error.code === undefined || what.includes(error.code) ? what : `${what} (${error.code})`;
    if (!this.#connected) this.#fail({ code: 'connect-failed', detail });
    else if (this.#tls === 'handshake') this.#fail({ code: 'tls-handshake-failed', detail });
    // Under TLS 1.3 the host's verdict on the handshake may come after ours.
    else if (this.#tls === 'fresh' && error.code?.startsWith('ERR_SSL'))
      this.#fail({ code: 'tls-handshake-failed', detail });
    else this.#fail({ code: 'connection-lost', detail });
  }

  override _onClose(): void {
    const half = this.#reader.midway ? ` in the middle of a reply: "${this.#reader.fragment}"` : '';
    if (this.#tls === 'handshake')
      this.#fail({ code: 'tls-handshake-failed', detail: 'the host closed the connection during the handshake' });
    else this.#fail({ code: 'connection-lost', detail: `the host closed the connection${half}` });
  }

  override _onTimeout(): void {
    if (this.#body === 'sending') this.#timeout('block', this.#options.timeouts.block);
  }

  /** nodemailer's own timers, which know fewer phases than RFC 5321 §4.5.3.2. */
  override _startPhase(): void {}

  /** As it is now, whatever the compiler saw before the last call. */
  get #bodyState(): 'none' | 'sending' | 'refused' | 'dot-sent' {
    return this.#body;
  }

  get #handshakeIsNext(): boolean {
    return this.#tls === 'next';
  }

  get #socket(): Socket {
    const socket = this._socket;
    if (socket) return socket;
    throw this.#fail({ code: 'connection-lost', detail: 'there is no connection' });
  }

  #expect(phase: Phase): Promise<Reply> {
    const failure = this.#failure;
    const reply = new Promise<Reply>((resolve, reject) => {
      if (failure !== null) reject(failure);
      else this.#waiting.push({ phase, resolve, reject });
    });
    // In a pipeline the first failure is the one that is read.
    reply.catch(() => undefined);
    if (failure === null && this.#waiting.length === 1) this.#arm(phase);
    return reply;
  }

  #answer(reply: Reply): void {
    const waiter = this.#waiting.shift();
    const closing = reply.code === 421;
    if (!waiter) {
      if (closing) this.#goodbye(reply);
      else this.#fail({ code: 'remote-garbage', detail: 'a reply that answers nothing', reply: textOf(reply) });
      return;
    }
    if (waiter.phase === 'final' && this.#body === 'sending') {
      if (!isRefusal(reply)) {
        this.#waiting.unshift(waiter);
        this.#fail({ code: 'remote-garbage', detail: 'a reply before the end of the message', reply: textOf(reply) });
        return;
      }
      this.#body = 'refused';
    }
    if (this.#tls === 'fresh') this.#tls = 'proven';
    if (waiter.phase === 'starttls' && reply.code === 220) this.#tls = 'next';
    if (waiter.phase === 'final' && this.#body === 'dot-sent') this.#body = 'none';
    // The end of a message empties the host's buffers, whatever it says to it (RFC 5321 §4.1.1.4).
    if (waiter.phase === 'mail') this.#inTransaction ||= isPositive(reply);
    else if (waiter.phase === 'final' || waiter.phase === 'rset') this.#inTransaction = false;
    const next = this.#waiting[0];
    if (next) this.#arm(next.phase);
    else this.#disarm();
    waiter.resolve(reply);
    // RFC 5321 §3.8: after 421 nothing more comes.
    if (closing) this.#goodbye(reply);
  }

  #goodbye(reply: Reply): void {
    const text = textOf(reply);
    this.#fail({
      code: 'remote-later',
      detail: `the host ends the connection: ${text}`,
      status: statusOf(reply),
      reply: text,
    });
  }

  #injected(): void {
    this.#fail({ code: 'tls-injection', detail: 'octets came in the clear after the 220 to STARTTLS' });
  }

  #arm(phase: keyof Timeouts, ms: number = this.#options.timeouts[phase]): void {
    if (this.#failure !== null) return;
    this.#armed = phase;
    this.#armedMs = ms;
    this.#deadline = performance.now() + ms;
    // Phases follow each other by the millisecond: a timer that fires too early looks again, none is made for each.
    if (this.#deadline < this.#firesAt) this.#wakeIn(ms);
  }

  #disarm(): void {
    this.#deadline = Number.POSITIVE_INFINITY;
  }

  #wakeIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#firesAt = performance.now() + ms;
    this.#timer = setTimeout(() => {
      this.#firesAt = Number.POSITIVE_INFINITY;
      const left = this.#deadline - performance.now();
      if (left < 1) this.#timeout(this.#armed, this.#armedMs);
      else if (left < Number.POSITIVE_INFINITY) this.#wakeIn(left);
    }, ms);
  }

  #timeout(phase: keyof Timeouts, ms: number): void {
    const detail = `${SILENCE[phase]} in ${Math.round(ms / 100) / 10} s`;
    if (phase === 'connect') this.#fail({ code: 'connect-failed', detail });
    else if (phase === 'handshake') this.#fail({ code: 'tls-handshake-failed', detail });
    else this.#fail({ code: 'remote-timeout', detail });
  }

  /** The first failure counts: it ends the connection and everybody's waiting. */
  #fail(trouble: Trouble): ConnectionFailure {
    if (this.#failure !== null) return this.#failure;
    const failure = new ConnectionFailure({ ...trouble, detail: sanitise(trouble.detail) });
    this.#settle(failure);
    this.close();
    if (this._socket) this._socket.destroy();
    return failure;
  }

  #settle(failure: ConnectionFailure): void {
    if (this.#failure !== null) return;
    this.#failure = failure;
    this.#disarm();
    clearTimeout(this.#timer);
    this.#handshakeFailed?.(failure);
    for (const waiter of this.#waiting.splice(0)) waiter.reject(failure);
  }
}

function tooShort(octets: number, size: number): string {
  return `${octets} octets instead of ${size}`;
}

function isEarlyEnd(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ERR_STREAM_PREMATURE_CLOSE';
}
