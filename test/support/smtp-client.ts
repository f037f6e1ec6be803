/** An SMTP client for tests that says exactly what it is told, octet by octet, and reads replies. */
import { connect as connectTcp, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';

export interface Reply {
  readonly code: number;
  /** Enhanced status code of the last line; empty when there is none. */
  readonly status: string;
  /** Whole reply, lines joined by LF. */
  readonly text: string;
}

export interface ClientOptions {
  readonly port: number;
  readonly host?: string;
  readonly localAddress?: string;
  /** TLS from the first octet. */
  readonly tls?: ConnectionOptions;
}

export class SmtpClient {
  socket: Socket | TLSSocket;
  readonly #replies: Reply[] = [];
  readonly #waiting: ((reply: Reply | null) => void)[] = [];
  #pending = '';
  #lines: string[] = [];
  #ended = false;
  #onEnd: (() => void)[] = [];

  private constructor(socket: Socket | TLSSocket) {
    this.socket = socket;
    this.#attach(socket);
  }

  /** Connects; the greeting is the first reply. */
  static async connect({ port, host = '127.0.0.1', localAddress, tls }: ClientOptions): Promise<SmtpClient> {
    const from = localAddress === undefined ? {} : { localAddress };
    const socket = tls
      ? connectTls({ port, host, rejectUnauthorized: false, ...from, ...tls })
      : connectTcp({ port, host, ...from });
    const client = new SmtpClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once(tls ? 'secureConnect' : 'connect', () => resolve());
      socket.once('error', reject);
    });
    return client;
  }

  /** Writes octets as they are. */
  raw(octets: string | Buffer): void {
    this.socket.write(octets);
  }

  /** Writes the lines in one go, each with CRLF, and returns a reply for each. */
  async say(...lines: readonly string[]): Promise<readonly Reply[]> {
    this.raw(lines.map((line) => `${line}\r\n`).join(''));
    const replies: Reply[] = [];
    for (const _ of lines) replies.push(await this.reply());
    return replies;
  }

  async one(line: string): Promise<Reply> {
    this.raw(`${line}\r\n`);
    return this.reply();
  }

  /** The next reply. Rejects when the connection ends without one. */
  async reply(): Promise<Reply> {
    const reply = await this.replyOrEnd();
    if (!reply) throw new Error('the connection ended instead of a reply');
    return reply;
  }

  /** The next reply, or null when the server has closed the connection. */
  async replyOrEnd(): Promise<Reply | null> {
    const ready = this.#replies.shift();
    if (ready) return ready;
    if (this.#ended) return null;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Resolves when the server has closed its side. */
  async closed(): Promise<void> {
    if (!this.#ended) await new Promise<void>((resolve) => this.#onEnd.push(resolve));
  }

  /** EHLO after the greeting was read. */
  async hello(name = 'client.test'): Promise<Reply> {
    return this.one(`EHLO ${name}`);
  }

  /** STARTTLS, the handshake and another EHLO. `injected` is sent in the same segment as STARTTLS. */
  async startTls(options: ConnectionOptions = {}, injected = ''): Promise<Reply> {
    this.raw(`STARTTLS\r\n${injected}`);
    const go = await this.reply();
    if (go.code !== 220) return go;
    await this.secure(options);
    return this.hello();
  }

  /** The handshake alone. */
  async secure(options: ConnectionOptions = {}): Promise<void> {
    const plain = this.socket;
    plain.removeAllListeners('data');
    plain.removeAllListeners('close');
    plain.removeAllListeners('end');
    const socket = connectTls({ socket: plain, rejectUnauthorized: false, ...options });
    this.socket = socket;
    this.#attach(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', () => resolve());
      socket.once('error', reject);
      socket.once('close', () => reject(new Error('closed during the handshake')));
    });
  }

  /** MAIL, RCPT, DATA and the content, which must be dot-stuffed and end in CRLF; returns the last reply. */
  async send(from: string, to: readonly string[], content: string | Buffer): Promise<Reply> {
    const replies = await this.say(`MAIL FROM:<${from}>`, ...to.map((address) => `RCPT TO:<${address}>`), 'DATA');
    const wrong = replies.find(({ code }, i) => code !== (i === replies.length - 1 ? 354 : 250));
    if (wrong) return wrong;
    this.raw(content);
    this.raw('.\r\n');
    return this.reply();
  }

  destroy(): void {
    this.socket.destroy();
  }

  #attach(socket: Socket | TLSSocket): void {
    socket.on('data', (chunk: Buffer) => this.#read(chunk.toString('utf8')));
    socket.on('error', () => undefined);
    const end = (): void => {
      this.#ended = true;
      for (const resolve of this.#waiting.splice(0)) resolve(null);
      for (const resolve of this.#onEnd.splice(0)) resolve();
    };
    socket.on('end', end);
    socket.on('close', end);
  }

  #read(text: string): void {
    this.#pending += text;
    for (let at = this.#pending.indexOf('\r\n'); at >= 0; at = this.#pending.indexOf('\r\n')) {
      const line = this.#pending.slice(0, at);
      this.#pending = this.#pending.slice(at + 2);
      this.#lines.push(line);
      if (line[3] === '-') continue;
      const status = /^\d{3} ([245]\.\d{1,3}\.\d{1,3})(?: |$)/.exec(line)?.[1] ?? '';
      const reply = { code: Number(line.slice(0, 3)), status, text: this.#lines.join('\n') };
      this.#lines = [];
      const waiting = this.#waiting.shift();
      if (waiting) waiting(reply);
      else this.#replies.push(reply);
    }
  }
}
