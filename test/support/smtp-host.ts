/**
 * A mail host on loopback that does as it is told: well-behaved by default, with any one thing changed by a script.
 * It is a real server on a real socket, speaks real TLS, and records every octet that it was given.
 */
import type { EventEmitter } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { createSecureContext, type SecureContextOptions, TLSSocket } from 'node:tls';

/** What the host does at one point of the conversation. Text lines get their CRLF; Buffers go out as they are. */
export type Say =
  | string
  | Buffer
  /** These octets, then FIN. */
  | { readonly close: string | Buffer }
  /** RST, or as near as the system lets us. */
  | 'reset'
  /** Nothing, from now on. */
  | 'hang'
  /** One octet at a time, without end when it does not end in a newline. */
  | { readonly drip: string; readonly everyMs: number };

/** The script: each entry is what is said, or a function of what is known. Missing entries are the good day. */
export interface Script {
  readonly greeting?: Say;
  /** Lines after the first one of the EHLO reply. */
  readonly extensions?: readonly string[];
  readonly ehlo?: Say;
  readonly helo?: Say;
  readonly starttls?: Say;
  readonly mail?: Say | ((line: string) => Say);
  /** `count` is the number of RCPT commands of this transaction, this one included. */
  readonly rcpt?: Say | ((address: string, count: number) => Say);
  readonly data?: Say | ((mail: string) => Say);
  /** Said before the content has come. */
  readonly early?: Say;
  /** After how many octets of content `early` is said. */
  readonly earlyAfter?: number;
  readonly final?: Say | ((mail: string) => Say);
  readonly rset?: Say;
  readonly quit?: Say;
}

/** Certificate and limits of the host's TLS, and whether it wants a certificate of ours. */
export type HostTls = SecureContextOptions & { readonly requestCert?: boolean; readonly rejectUnauthorized?: boolean };

export interface HostOptions extends Script {
  readonly address?: string;
  /** null for a host without STARTTLS. */
  readonly tls?: HostTls | null;
  /** What comes instead of a handshake. */
  readonly handshake?: 'garbage' | 'close' | 'reset' | 'hang' | Buffer;
  /** Milliseconds before each reply, one after the other. */
  readonly paceMs?: number;
  /** True for a host that throws away what comes in one go with a final dot, though it offers PIPELINING. */
  readonly forgetful?: boolean;
  /** What changes once TLS is on. */
  readonly underTls?: Script;
}

/** What is undefined goes back to the good day. */
export type Changes = { readonly [Key in keyof HostOptions]?: HostOptions[Key] | undefined };

export interface ReceivedMessage {
  /** Commands as they came: `MAIL FROM:<a@b> SIZE=3`. */
  readonly mail: string;
  /** The accepted ones. */
  readonly rcpt: readonly string[];
  /** Between the CRLF after DATA and the final dot, as on the wire, stuffing included. */
  readonly wire: Buffer;
  /** The same without the stuffing: what the message is. */
  readonly content: Buffer;
  readonly underTls: boolean;
}

export interface Conversation {
  /** Every command line, in order, with `(TLS)` where the handshake was. */
  readonly commands: string[];
  readonly messages: ReceivedMessage[];
  /** All octets of content, also of messages that never ended. */
  contentOctets: number;
  sni: string | false | null;
  /** Protocol of the handshake. */
  protocol: string | null;
  ended: boolean;
}

export interface SmtpHost {
  readonly address: string;
  readonly port: number;
  readonly conversations: readonly Conversation[];
  readonly messages: readonly ReceivedMessage[];
  /** All commands of all conversations, joined for a short assertion. */
  readonly story: string;
  /** Changes the script for what comes. */
  readonly change: (script: Changes) => void;
  /** Says something unasked in every open conversation, or cuts them all. */
  readonly interject: (say: Say) => void;
  /** From the next DATA on nothing is read any more. */
  readonly deafen: () => void;
  readonly close: () => Promise<void>;
}

const GOOD_EXTENSIONS = ['PIPELINING', 'SIZE 10485760', '8BITMIME', 'SMTPUTF8', 'DSN', 'ENHANCEDSTATUSCODES'];

export async function startSmtpHost(options: HostOptions = {}): Promise<SmtpHost> {
  let script: HostOptions & { readonly deaf?: boolean } = options;
  const conversations: Conversation[] = [];
  const sockets = new Set<Socket>();
  const talks = new Set<Talk>();
  const server: Server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    const conversation: Conversation = {
      commands: [],
      messages: [],
      contentOctets: 0,
      sni: null,
      protocol: null,
      ended: false,
    };
    conversations.push(conversation);
    const talk = new Talk(socket, conversation, () => script);
    talks.add(talk);
    socket.once('close', () => {
      conversation.ended = true;
      sockets.delete(socket);
      talks.delete(talk);
    });
  });
  const address = options.address ?? '127.0.0.1';
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, address, resolve);
  });
  const bound = server.address();
  return {
    address,
    port: typeof bound === 'object' && bound ? bound.port : 0,
    conversations,
    get messages() {
      return conversations.flatMap(({ messages }) => messages);
    },
    get story() {
      return conversations.map(({ commands }) => commands.join(' | ')).join(' || ');
    },
    change: (changes) => {
      script = { ...script, ...changes } as HostOptions;
    },
    interject: (say) => {
      for (const talk of talks) talk.say(say);
    },
    deafen: () => {
      script = { ...script, deaf: true };
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

class Talk {
  readonly #script: () => HostOptions & { readonly deaf?: boolean };
  readonly #conversation: Conversation;
  #socket: Socket;
  #underTls = false;
  #mute = false;
  #held = Buffer.alloc(0);
  #mail: string | null = null;
  #rcpt: string[] = [];
  #asked = 0;
  #content: Buffer[] | null = null;
  #paced: Promise<void> = Promise.resolve();

  constructor(socket: Socket, conversation: Conversation, script: () => HostOptions & { readonly deaf?: boolean }) {
    this.#socket = socket;
    this.#conversation = conversation;
    this.#script = script;
    this.#listen(socket);
    this.say(this.#entry('greeting') ?? '220 mx.example.test ESMTP');
  }

  say(say: Say): void {
    const socket = this.#socket;
    if (socket.destroyed || this.#mute) return;
    if (typeof say === 'string' && say !== 'reset' && say !== 'hang') this.#reply(withNewline(say));
    else if (Buffer.isBuffer(say)) socket.write(say);
    else if (say === 'reset') this.#reset();
    else if (say === 'hang') this.#mute = true;
    else if ('close' in say) socket.end(say.close);
    else {
      this.#mute = true;
      this.#drip(say);
    }
  }

  #reply(octets: Buffer): void {
    const { paceMs } = this.#script();
    if (paceMs === undefined) {
      this.#socket.write(octets);
      return;
    }
    this.#paced = this.#paced.then(async () => {
      await new Promise((resolve) => setTimeout(resolve, paceMs));
      if (!this.#socket.destroyed) this.#socket.write(octets);
    });
  }

  #entry<Key extends keyof Script>(key: Key): Script[Key] {
    const script = this.#script();
    return (this.#underTls ? script.underTls?.[key] : undefined) ?? script[key];
  }

  #listen(socket: Socket): void {
    // Peers go away in every possible manner; that is what these tests are about.
    (socket as EventEmitter).on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('end', () => socket.end());
  }

  #take(chunk: Buffer): void {
    if (this.#content) this.#takeContent(chunk);
    else {
      this.#held = Buffer.concat([this.#held, chunk]);
      this.#takeLines();
    }
  }

  #takeLines(): void {
    for (;;) {
      const end = this.#held.indexOf('\r\n');
      if (end < 0 || this.#content) return;
      const line = this.#held.subarray(0, end).toString('utf8');
      this.#held = this.#held.subarray(end + 2);
      this.#conversation.commands.push(line);
      const reply = this.#replyTo(line);
      if (reply !== null) this.say(reply);
      if (this.#content) {
        const rest = this.#held;
        this.#held = Buffer.alloc(0);
        if (rest.length > 0) this.#takeContent(rest);
      }
    }
  }

  /** What is said to a command; null where the handshake is the answer's other half. */
  #replyTo(line: string): Say | null {
    const [verb = ''] = line.toUpperCase().split(/[ :]/);
    switch (verb) {
      case 'EHLO':
        return this.#entry('ehlo') ?? this.#ehloReply();
      case 'HELO':
        return this.#entry('helo') ?? '250 mx.example.test';
      case 'STARTTLS':
        this.#startTls();
        return null;
      case 'MAIL': {
        const entry = this.#entry('mail') ?? '250 2.1.0 sender ok';
        const reply = typeof entry === 'function' ? entry(line) : entry;
        if (isYes(reply)) this.#mail = line;
        return reply;
      }
      case 'RCPT': {
        const entry = this.#entry('rcpt') ?? '250 2.1.5 recipient ok';
        const address = /<(.*)>/.exec(line)?.[1] ?? '';
        const reply = this.#mail === null ? '503 5.5.1 MAIL first' : sayOf(entry, address, ++this.#asked);
        if (isYes(reply)) this.#rcpt.push(line);
        return reply;
      }
      case 'DATA': {
        const ready = this.#rcpt.length > 0;
        const entry = this.#entry('data') ?? (ready ? '354 go on' : '554 5.5.1 no valid recipients');
        const reply = typeof entry === 'function' ? entry(this.#mail ?? '') : entry;
        if (typeof reply === 'string' && reply.startsWith('354')) this.#content = [];
        return reply;
      }
      case 'RSET':
        this.#forget();
        return this.#entry('rset') ?? '250 2.0.0 ok';
      case 'QUIT':
        return this.#entry('quit') ?? { close: '221 2.0.0 bye\r\n' };
      default:
        return '502 5.5.2 unknown command';
    }
  }

  #ehloReply(): string {
    const { tls } = this.#script();
    const offered = [...(this.#entry('extensions') ?? GOOD_EXTENSIONS)];
    if (tls && !this.#underTls) offered.push('STARTTLS');
    const lines = ['mx.example.test greets you', ...offered];
    return lines.map((text, at) => `250${at === lines.length - 1 ? ' ' : '-'}${text}`).join('\r\n');
  }

  #startTls(): void {
    const { tls, handshake } = this.#script();
    const reply = this.#entry('starttls') ?? (tls ? '220 2.0.0 go ahead' : '502 5.5.1 no TLS here');
    this.say(reply);
    const text = Buffer.isBuffer(reply) ? reply.toString('latin1') : reply;
    if (typeof text !== 'string' || !text.startsWith('220')) return;
    const plain = this.#socket;
    plain.removeAllListeners('data');
    plain.removeAllListeners('end');
    this.#held = Buffer.alloc(0);
    if (handshake !== undefined) {
      if (handshake === 'close') plain.end();
      else if (handshake === 'reset') this.#reset();
      else if (handshake === 'hang') plain.resume();
      else plain.once('data', () => plain.end(handshake === 'garbage' ? 'this is not TLS at all\r\n' : handshake));
      return;
    }
    const { requestCert = false, rejectUnauthorized = false, ...context } = tls ?? {};
    const secureContext = createSecureContext(context);
    const secure = new TLSSocket(plain, { isServer: true, secureContext, requestCert, rejectUnauthorized });
    this.#socket = secure;
    secure.once('secure', () => {
      this.#underTls = true;
      this.#conversation.commands.push('(TLS)');
      this.#conversation.protocol = secure.getProtocol();
      // Set by the runtime on the server's side of every connection with SNI.
      this.#conversation.sni = (secure as TLSSocket & { servername?: string | false }).servername ?? false;
    });
    this.#listen(secure);
  }

  #takeContent(chunk: Buffer): void {
    if (!this.#content) return;
    if (this.#script().deaf) this.#socket.pause();
    this.#content.push(chunk);
    this.#conversation.contentOctets += chunk.length;
    const early = this.#entry('early');
    const earlyAfter = this.#entry('earlyAfter') ?? 1;
    if (early !== undefined && this.#conversation.contentOctets >= earlyAfter) {
      // Whatever comes now is taken for commands.
      this.#held = Buffer.from(chunk.subarray(chunk.length - (this.#conversation.contentOctets - earlyAfter)));
      this.#content = null;
      this.#forget();
      this.say(early);
      this.#takeLines();
      return;
    }
    const tail = Buffer.concat(this.#content.slice(-6));
    if (!tail.includes('\r\n.\r\n') && !(this.#content.length <= 6 && tail.indexOf('.\r\n') === 0)) return;
    const all = Buffer.concat([Buffer.from('\r\n'), ...this.#content]);
    const end = all.indexOf('\r\n.\r\n');
    if (end < 0) return;
    const wire = all.subarray(2, end + 2);
    this.#held = this.#script().forgetful ? Buffer.alloc(0) : all.subarray(end + 5);
    this.#content = null;
    this.#conversation.messages.push({
      mail: this.#mail ?? '',
      rcpt: this.#rcpt,
      wire,
      content: Buffer.from(wire.toString('latin1').replace(/(^|\r\n)\./g, '$1'), 'latin1'),
      underTls: this.#underTls,
    });
    const entry = this.#entry('final') ?? '250 2.0.0 taken';
    const reply = typeof entry === 'function' ? entry(this.#mail ?? '') : entry;
    this.#forget();
    this.say(reply);
    this.#takeLines();
  }

  #forget(): void {
    this.#mail = null;
    this.#rcpt = [];
    this.#asked = 0;
  }

  #reset(): void {
    // Only the plain socket can send a RST; the TLS one over it goes with it.
    const socket = this.#socket;
    if (socket instanceof TLSSocket) socket.destroy();
    else socket.resetAndDestroy();
  }

  #drip({ drip, everyMs }: Extract<Say, { drip: string }>): void {
    const socket = this.#socket;
    let at = 0;
    const timer = setInterval(() => {
      if (socket.destroyed || at >= drip.length) return clearInterval(timer);
      socket.write(drip.charAt(at++));
    }, everyMs);
    socket.once('close', () => clearInterval(timer));
  }
}

function withNewline(text: string): Buffer {
  return Buffer.from(text.endsWith('\n') ? text : `${text}\r\n`);
}

function isYes(say: Say): boolean {
  return typeof say === 'string' && say.startsWith('2');
}

function sayOf(entry: NonNullable<Script['rcpt']>, address: string, count: number): Say {
  return typeof entry === 'function' ? entry(address, count) : entry;
}
