/**
 * A mail host of the lab: a small real SMTP server with a mood, which writes down all that happens to it.
 *
 * It is written from nothing on Node's sockets, so that it shares no code with the relay, can misbehave in any way,
 * and keeps every octet as it came. That nobody dialled it is as much a fact to record as that mail arrived.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { createSecureContext, type SecureContext, type SecureContextOptions, TLSSocket } from 'node:tls';
import type { Identity } from './certificates.ts';

/** How a host can behave. */
export const MOODS = [
  /** As a good host does. */
  'well',
  /** Does not offer STARTTLS, as when something on the way has taken it out. */
  'no-starttls',
  /** Offers STARTTLS and then answers 454. */
  'starttls-refused',
  /** Says 220 to STARTTLS and then speaks no TLS. */
  'handshake-fails',
  /** Greets with 554. */
  'turns-away',
  /** Knows none of its recipients: 550 5.1.1. */
  'unknown-users',
  /** Asks each sender and recipient to come back once: 451 4.7.1. */
  'greylists',
  /** Answers DATA with 452 4.3.1. */
  'disk-full',
  /** Does not offer 8BITMIME or SMTPUTF8. */
  'seven-bit',
  /** Speaks no better than TLS 1.2 with CBC and SHA-1. */
  'weak-cipher',
  /** Speaks no better than TLS 1.1. */
  'old-tls',
  /** Offers REQUIRETLS under TLS (RFC 8689). */
  'requiretls',
  /** Nobody listens. */
  'down',
] as const;

export type Mood = (typeof MOODS)[number];

/** One message as it arrived. */
export interface Mail {
  readonly host: string;
  readonly sender: string;
  readonly recipients: readonly string[];
  /** What stood behind the addresses: `MAIL` first, then one for each recipient. */
  readonly parameters: readonly string[];
  /** The octets between DATA and the final dot, without dot stuffing. */
  readonly content: Buffer;
  /** Null when it came in the clear. */
  readonly tls: { readonly version: string; readonly cipher: string; readonly serverName: string | null } | null;
  readonly peer: string;
}

/** One connection, whether or not any mail came of it. */
export interface Contact {
  readonly peer: string;
  /** Command lines in the order in which they came, those before and after STARTTLS alike. */
  readonly commands: readonly string[];
}

/** What happens at a host while mail arrives, in order. Each is told before the host answers, `answered` after that. */
export const MOMENTS = [
  'connected',
  'EHLO',
  'STARTTLS',
  'MAIL',
  'RCPT',
  'DATA',
  /** A part of the content has come, and not yet its end. */
  'content',
  /** The final dot has come; nothing is kept yet. */
  'dot',
  'kept',
  /** The 250 to the final dot has left. */
  'answered',
] as const;

export type Moment = (typeof MOMENTS)[number];

export interface MailHost {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly mood: () => Mood;
  /** Connections that are open are closed, so that the next one meets the new mood. */
  readonly setMood: (mood: Mood) => Promise<void>;
  readonly identity: () => Identity;
  /** Puts another certificate in place; connections that are open are closed. */
  readonly setIdentity: (identity: Identity) => void;
  readonly mailbox: () => readonly Mail[];
  readonly contacts: () => readonly Contact[];
  readonly stop: () => Promise<void>;
}

interface HostOptions {
  readonly name: string;
  readonly address: string;
  /** 0 for a free one. */
  readonly port: number;
  readonly mood: Mood;
  readonly identity: Identity;
  readonly onMoment?: ((moment: Moment) => void) | undefined;
}

const LINE_AT_MOST = 64 * 1024;
const MESSAGE_AT_MOST = 64 * 1024 * 1024;

/** Rejects when the address cannot be listened on. */
export async function startHost(options: HostOptions): Promise<MailHost> {
  const { name, address, onMoment = () => undefined } = options;
  let { mood, identity } = options;
  let context = contextOf(identity, mood);
  const mailbox: Mail[] = [];
  const contacts: Contact[] = [];
  const sockets = new Set<Socket>();
  const greylist = new Set<string>();

  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    const peer = socket.remoteAddress ?? '';
    const commands: string[] = [];
    contacts.push({ peer, commands });
    converse(socket, { name, peer, mood, context, greylist, commands, keep: (mail) => mailbox.push(mail), onMoment });
  });
  // The port is taken once in any case, so that a host that is down keeps its place.
  const port = await listen(server, address, options.port);
  const disconnect = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      disconnect();
      if (!server.listening) return resolve();
      server.close(() => resolve());
    });
  if (mood === 'down') await close();

  return {
    name,
    address,
    port,
    mood: () => mood,
    setMood: async (next) => {
      mood = next;
      context = contextOf(identity, next);
      disconnect();
      if (next === 'down') await close();
      else if (!server.listening) await listen(server, address, port);
    },
    identity: () => identity,
    setIdentity: (next) => {
      identity = next;
      context = contextOf(next, mood);
      disconnect();
    },
    mailbox: () => mailbox,
    contacts: () => contacts,
    stop: close,
  };
}

interface Conversation {
  readonly name: string;
  readonly peer: string;
  readonly mood: Mood;
  readonly context: SecureContext;
  /** Sender and recipient pairs that have been here before. */
  readonly greylist: Set<string>;
  readonly commands: string[];
  readonly keep: (mail: Mail) => void;
  readonly onMoment: (moment: Moment) => void;
}

function converse(plain: Socket, conversation: Conversation): void {
  const { name, peer, mood, context, greylist, commands, keep, onMoment } = conversation;
  let socket: Socket | TLSSocket = plain;
  let buffered: Buffer[] = [];
  let size = 0;
  let tail: Buffer = Buffer.alloc(0);
  let inData = false;
  let over = false;
  let transaction: { sender: string; recipients: string[]; parameters: string[] } | null = null;

  const say = (...lines: readonly string[]): void => {
    if (lines.length > 0 && socket.writable) socket.write(lines.map((line) => `${line}\r\n`).join(''));
  };
  const hangUp = (line: string): void => {
    over = true;
    say(line);
    socket.end();
  };

  const onData = (chunk: Buffer): void => {
    if (over) return;
    buffered.push(chunk);
    size += chunk.length;
    // A large message is put together once, when its end has come, and not for every chunk.
    tail = Buffer.concat([tail.subarray(-4), chunk]);
    if (inData && !tail.includes('\r\n.\r\n')) onMoment('content');
    if (inData && size > chunk.length + 4 && size < MESSAGE_AT_MOST && !tail.includes('\r\n.\r\n')) return;
    let rest = Buffer.concat(buffered);
    while (rest.length > 0 && !over) {
      const taken = inData ? takeMessage(rest) : takeCommand(rest);
      if (taken === 0) break;
      rest = rest.subarray(taken);
    }
    if (rest.length > (inData ? MESSAGE_AT_MOST : LINE_AT_MOST)) hangUp('500 5.5.2 Too long');
    buffered = rest.length > 0 ? [rest] : [];
    size = rest.length;
  };

  const takeMessage = (octets: Buffer): number => {
    const end = octets.subarray(0, 3).equals(Buffer.from('.\r\n')) ? 0 : octets.indexOf('\r\n.\r\n') + 2;
    if (end === 1) return 0;
    inData = false;
    onMoment('dot');
    if (transaction)
      keep({ host: name, peer, ...transaction, content: unstuffed(octets.subarray(0, end)), tls: tlsOf(socket) });
    transaction = null;
    onMoment('kept');
    if (socket.writable) socket.write('250 2.0.0 Taken\r\n', () => onMoment('answered'));
    return end + 3;
  };

  const takeCommand = (octets: Buffer): number => {
    const end = octets.indexOf('\n');
    if (end < 0) return 0;
    const line = octets.subarray(0, end).toString('utf8').replace(/\r$/, '');
    commands.push(line);
    const verb = /^(?:MAIL FROM:|RCPT TO:|[A-Za-z]+)/i.exec(line)?.[0].toUpperCase() ?? '';
    const moment = MOMENTS.find((each) => each === verb.split(' ')[0]);
    if (moment) onMoment(moment);
    const reply = answer(verb, line);
    say(...reply);
    if (over) socket.end();
    // Whatever was sent behind STARTTLS before the handshake is thrown away (RFC 3207 §4.2).
    return verb === 'STARTTLS' && reply.length === 0 ? octets.length : end + 1;
  };

  const answer = (verb: string, line: string): readonly string[] => {
    switch (verb) {
      case 'EHLO':
        return greet();
      case 'HELO':
        return [`250 ${name}`];
      case 'STARTTLS':
        return startTls();
      case 'MAIL FROM:':
        transaction = { sender: addressIn(line), recipients: [], parameters: [parametersIn(line)] };
        return ['250 2.1.0 Sender ok'];
      case 'RCPT TO:':
        return receiveRecipient(line);
      case 'DATA':
        if (!transaction || transaction.recipients.length === 0) return ['503 5.5.1 No recipient'];
        if (mood === 'disk-full') return ['452 4.3.1 No room'];
        inData = true;
        return ['354 Go on'];
      case 'RSET':
        transaction = null;
        return ['250 2.0.0 Forgotten'];
      case 'NOOP':
        return ['250 2.0.0 Here'];
      case 'QUIT':
        over = true;
        return ['221 2.0.0 Bye'];
      default:
        return ['502 5.5.1 Not known here'];
    }
  };

  const greet = (): readonly string[] => {
    const words = [name, 'PIPELINING', 'SIZE 52428800', 'ENHANCEDSTATUSCODES'];
    if (mood !== 'seven-bit') words.push('8BITMIME', 'SMTPUTF8');
    if (mood !== 'no-starttls' && !(socket instanceof TLSSocket)) words.push('STARTTLS');
    if (mood === 'requiretls' && socket instanceof TLSSocket) words.push('REQUIRETLS');
    return words.map((word, index) => `250${index === words.length - 1 ? ' ' : '-'}${word}`);
  };

  const receiveRecipient = (line: string): readonly string[] => {
    if (!transaction) return ['503 5.5.1 No sender'];
    const recipient = addressIn(line);
    if (mood === 'unknown-users') return [`550 5.1.1 <${recipient}> is not known here`];
    const pair = `${transaction.sender} ${recipient}`;
    if (mood === 'greylists' && !greylist.has(pair)) {
      greylist.add(pair);
      return ['451 4.7.1 Greylisted, please try again later'];
    }
    transaction.recipients.push(recipient);
    transaction.parameters.push(parametersIn(line));
    return ['250 2.1.5 Recipient ok'];
  };

  const startTls = (): readonly string[] => {
    if (mood === 'no-starttls' || socket instanceof TLSSocket) return ['502 5.5.1 Not known here'];
    if (mood === 'starttls-refused') return ['454 4.7.0 TLS is not available just now'];
    plain.removeListener('data', onData);
    plain.write('220 2.0.0 Go ahead\r\n', () => {
      if (mood === 'handshake-fails') {
        plain.once('data', () => plain.end('This is no TLS.\r\n'));
        return;
      }
      transaction = null;
      const secured = new TLSSocket(plain, { isServer: true, secureContext: context });
      secured.on('error', () => plain.destroy());
      secured.on('data', onData);
      socket = secured;
    });
    return [];
  };

  plain.on('error', () => plain.destroy());
  plain.on('data', onData);
  onMoment('connected');
  if (mood === 'turns-away') hangUp(`554 5.3.2 ${name} takes no mail from you`);
  else say(`220 ${name} ESMTP`);
}

function unstuffed(octets: Buffer): Buffer {
  const text = octets.toString('latin1');
  return Buffer.from(text.replace(/(^|\r\n)\./g, '$1'), 'latin1');
}

function addressIn(line: string): string {
  return /<(.*)>/.exec(line)?.[1] ?? '';
}

function parametersIn(line: string): string {
  return line.slice(line.lastIndexOf('>') + 1).trim();
}

function tlsOf(socket: Socket | TLSSocket): Mail['tls'] {
  if (!(socket instanceof TLSSocket)) return null;
  const { servername } = socket as TLSSocket & { readonly servername?: string | false | null };
  return {
    version: socket.getProtocol() ?? '',
    cipher: socket.getCipher().standardName,
    serverName: typeof servername === 'string' ? servername : null,
  };
}

function contextOf({ chain, key }: Identity, mood: Mood): SecureContext {
  return createSecureContext({ cert: chain, key, ...PROTECTION[mood] });
}

const PROTECTION: Readonly<Partial<Record<Mood, SecureContextOptions>>> = {
  'weak-cipher': { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES256-SHA' },
  // Below that version OpenSSL signs with SHA-1, which its level 0 alone allows.
  'old-tls': { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' },
};

function listen(server: Server, address: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: address, port, backlog: 511 }, () => {
      server.removeListener('error', reject);
      const bound = server.address();
      resolve(typeof bound === 'object' && bound ? bound.port : port);
    });
  });
}
