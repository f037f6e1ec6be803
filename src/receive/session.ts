/**
 * One SMTP conversation with a client (RFC 5321 §3, §4), from the greeting to its end. A message is 250 only when it is
 * stored; whatever goes wrong on our side is 4xx, so that the client keeps it.
 */
import type { Socket } from 'node:net';
import type { SecureContext, TLSSocket } from 'node:tls';
import type { TlsFacts } from '../model/delivery.ts';
import type { Logger, MailEvent } from '../model/events.ts';
import type { EnvelopeRecipient, NewMessage, TlsWish } from '../model/message.ts';
import { verdictOf } from '../model/verdict.ts';
import type { Clock } from '../shared/clock.ts';
import type { Rate } from '../shared/rate.ts';
import { spkiPin } from '../shared/spki.ts';
import { type Access, type ClientRule, type Credentials, plainAddress } from './access.ts';
import { type Arrival, Arriving } from './arrival.ts';
import { Connection, type Conversation } from './connection.ts';
import { type Opening, readMail, readRcpt } from './envelope.ts';
import type { Entrance, Lobby } from './gate.ts';
import type { ContentRules } from './intake.ts';
import { receivedHeader } from './received-header.ts';
import { type Refusal, refusalText, refuse } from './refusal.ts';
import type { Spool } from './spool.ts';
import type { LineFault } from './wire.ts';

/** What a new configuration may change, from the next message or connection on. */
export interface DeskRules {
  readonly access: Access;
  readonly content: ContentRules;
  readonly recipients: number;
  /** Time for one command, however slowly it drips in, in milliseconds. */
  readonly idleMs: number;
  /** Time for the content of one message, in milliseconds. */
  readonly messageMs: number;
}

/** Counts one message for the client; false when it is too many. */
export interface ClientRates {
  readonly take: (client: string, rate: Rate, now: number) => boolean | Promise<boolean>;
}

/** What all conversations share. */
export interface Desk {
  readonly hostname: string;
  /** Those of now: a new configuration puts others in their place. */
  rules: DeskRules;
  readonly gate: Entrance;
  readonly lobby: Lobby;
  /** Messages begun, by the name of the client. */
  readonly rates: ClientRates;
  readonly spool: Spool;
  readonly accept: (message: NewMessage) => Promise<void>;
  /** For handshakes from now on. */
  secureContext: SecureContext;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly log: Logger;
}

interface Transaction extends Opening {
  /** `optional` when the header has been read. */
  tls: TlsWish;
  readonly client: ClientRule;
  /** Queue id and time of DATA; there is none before it. */
  id: string;
  receivedAt: number;
  readonly recipients: Map<string, EnvelopeRecipient>;
  /** A recipient was refused: then no recipient at all is not a mistake in the order of commands. */
  refusedSome: boolean;
}

type Stored = Extract<Arrival, { kind: 'stored' }>;

/** Commands that led to nothing, one after another, until the client is shown the door. */
const FRUITLESS_AT_MOST = 100;
const ERRORS_AT_MOST = 20;
const EXTENSIONS = '250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n';
const HTTP = /^(?:OPTIONS|GET|HEAD|POST|PUT|PATCH|DELETE|TRACE|CONNECT) \S+ HTTP\/\d/i;
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Time at most for a TLS handshake that precedes the greeting, in milliseconds. */
const HANDSHAKE_MS = 60_000;
/** The same for a client that is only to hear why it is refused. */
const REFUSED_HANDSHAKE_MS = 5_000;

export class Session implements Conversation {
  readonly #desk: Desk;
  readonly #peer: string;
  readonly #connection: Connection;
  readonly #onGone: () => void;
  #helo: { readonly verb: 'EHLO' | 'HELO'; readonly name: string } | null = null;
  #credentials: Credentials = { secure: false, pin: null };
  #tls: TlsFacts | null = null;
  #transaction: Transaction | null = null;
  /** The message whose content is under way. */
  #arriving: Arriving | null = null;
  /** What is to be done when a handshake that precedes the greeting has ended. */
  #greetSecured: (() => void) | null = null;
  /** Where the connection stands with the gate. */
  #counted: 'no' | 'inside' | 'lingering' = 'no';
  /** Content is being written or stored: the client waits for us, not we for it. */
  #storing = false;
  #draining = false;
  /** The last reply was said, or there is nobody to hear one. */
  #isOver = false;
  #errors = 0;
  #fruitless = 0;
  /** Runs out when the client owes us something for too long: a command, more of the content, its side of a handshake. */
  #deadline: NodeJS.Timeout;
  /** Runs out when the content takes too long in all. */
  #contentDeadline: NodeJS.Timeout | null = null;

  /** Begins the conversation: with the greeting, or with a handshake. `onGone` is called once, at its end. */
  constructor(socket: Socket, implicitTls: boolean, desk: Desk, onGone: () => void) {
    this.#desk = desk;
    this.#peer = plainAddress(socket.remoteAddress ?? '');
    this.#onGone = onGone;
    this.#connection = new Connection(socket, this);
    const { idleMs } = desk.rules;
    this.#deadline = setTimeout(() => this.#onDeadline(), implicitTls ? Math.min(idleMs, HANDSHAKE_MS) : idleMs);
    const isStranger = desk.rules.access.candidates(this.#peer).length === 0;
    const refusal = isStranger ? refuse('client-unknown', this.#peer) : desk.gate.enter(this.#peer);
    this.#after(refusal, (answer) => this.#admit(answer, implicitTls));
    if (!implicitTls) this.#connection.start();
  }

  /** Whoever comes is counted before a handshake as well: those who never end one must not take the places of others. */
  #admit(refusal: Refusal | null, implicitTls: boolean): void {
    const { gate, lobby, secureContext } = this.#desk;
    if (this.#isOver) {
      if (refusal === null) gate.leave(this.#peer);
      return;
    }
    if (refusal !== null && !lobby.linger()) {
      lobby.unlinger();
      this.#connection.destroy();
      return;
    }
    this.#counted = refusal === null ? 'inside' : 'lingering';
    if (!implicitTls) {
      this.#greet(refusal);
      return;
    }
    this.#greetSecured = () => this.#greet(refusal);
    if (refusal !== null) {
      clearTimeout(this.#deadline);
      this.#deadline = setTimeout(() => this.#onDeadline(), REFUSED_HANDSHAKE_MS);
    }
    this.#connection.upgrade(secureContext);
  }

  /** The first word on the connection. */
  #greet(refusal: Refusal | null): void {
    if (refusal === null) {
      this.#connection.say(`220 ${this.#desk.hostname} ESMTP dane-relay\r\n`);
    } else {
      this.#report(refusal, {});
      this.#close();
    }
  }

  /** Goes on when there is an answer: now, or after the time that it takes, in which no command is obeyed. */
  #after<Answer>(answer: Answer | Promise<Answer>, go: (answer: Answer) => void): void {
    if (!(answer instanceof Promise)) {
      go(answer);
      return;
    }
    this.#connection.hold();
    void answer.then(
      (settled) => {
        go(settled);
        this.#connection.release();
      },
      // Whoever was asked is gone, and this process is about to follow.
      () => this.#connection.destroy(),
    );
  }

  /** Lets the message that is under way finish, and ends the conversation after it (RFC 5321 §3.8). */
  drain(): void {
    this.#draining = true;
    if (this.#transaction === null) this.#hangUp(refuse('shutting-down', ''));
  }

  /** Ends the conversation now, whatever is under way. */
  terminate(): void {
    this.#hangUp(refuse('shutting-down', ''));
    this.#connection.destroySoon();
    setTimeout(() => this.#connection.destroy(), 500).unref();
  }

  command(line: Buffer): void {
    this.#deadline.refresh();
    try {
      const text = decoded(line);
      if (text === null) this.fault('control');
      else this.#dispatch(text);
    } catch (error) {
      this.#desk.log.error('a command could not be handled', { error: String(error), peer: this.#peer });
      this.#say(refuse('storage-failed', 'an error in this relay'));
    }
  }

  fault(fault: LineFault): void {
    this.#deadline.refresh();
    switch (fault) {
      case 'tls':
        this.#hangUp(refuse('wrong-protocol', 'that was a TLS handshake'));
        break;
      case 'too-long':
        this.#hangUp(refuse('command-malformed', 'it is too long'));
        break;
      case 'control':
        this.#mistake(refuse('command-malformed', 'it has octets that are not text'));
        break;
      case 'bare-newline':
        this.#mistake(refuse('command-malformed', 'it must end in CRLF'));
        break;
    }
  }

  content(octets: Buffer): void {
    const arriving = this.#arriving;
    if (!arriving) return;
    this.#deadline.refresh();
    const written = arriving.push(octets);
    if (arriving.flood) {
      this.#report(arriving.flood, this.#about());
      this.#close();
    } else if (written) {
      this.#storing = true;
      this.#connection.hold();
      void written.then(() => {
        // When the content ended meanwhile, it goes on when all of it is stored.
        if (this.#arriving !== arriving) return;
        this.#storing = false;
        this.#deadline.refresh();
        this.#connection.release();
      });
    }
  }

  contentEnd(): void {
    const arriving = this.#arriving;
    const transaction = this.#transaction;
    if (!arriving || !transaction) return;
    this.#arriving = null;
    this.#storing = true;
    this.#connection.hold();
    this.#clearContentDeadline();
    const { id, receivedAt, client, sender, recipients, smtputf8, body: declared, ret, envid } = transaction;
    const stored = arriving.finish((facts, body, tlsOptional) => {
      // RFC 8689 §4.1: the header counts for nothing beside the parameter.
      if (tlsOptional && transaction.tls === 'default') transaction.tls = 'optional';
      const { tls } = transaction;
      const envelope = { sender, recipients: [...recipients.values()], smtputf8, body: declared, ret, envid, tls };
      return this.#desk.accept({ id, receivedAt, client: client.name, envelope, content: facts, body });
    });
    void stored.then((arrival) => {
      this.#storing = false;
      this.#answer(arrival, transaction, this.#about());
      this.#transaction = null;
      this.#deadline.refresh();
      this.#connection.release();
    });
  }

  secured(socket: TLSSocket): void {
    const version = socket.getProtocol();
    // Node tells the key exchange group to clients only.
    this.#tls = version === null ? null : { version, cipher: socket.getCipher().name, group: null };
    const raw = socket.getPeerX509Certificate()?.raw;
    this.#credentials = { secure: true, pin: raw ? spkiPin(raw) : null };
    this.#helo = null;
    this.#transaction = null;
    this.#deadline.refresh();
    this.#greetSecured?.();
    this.#greetSecured = null;
  }

  failed(error: Error): void {
    this.#desk.log.debug('a connection failed', { error: error.message });
  }

  gone(): void {
    clearTimeout(this.#deadline);
    this.#isOver = true;
    this.#abandon();
    if (this.#counted === 'inside') this.#desk.gate.leave(this.#peer);
    if (this.#counted === 'lingering') this.#desk.lobby.unlinger();
    this.#counted = 'no';
    this.#onGone();
  }

  /** Whoever waits for us is not silent. */
  #onDeadline(): void {
    if (this.#storing) this.#deadline.refresh();
    else this.#tooSlow();
  }

  /** The end of the content will not come. */
  #abandon(): void {
    this.#clearContentDeadline();
    const arriving = this.#arriving;
    if (!arriving) return;
    this.#arriving = null;
    this.#desk.log.debug('a client left before its message was complete', { ...this.#about(), peer: this.#peer });
    void arriving.abandon();
  }

  #close(): void {
    this.#isOver = true;
    this.#connection.close();
    this.#abandon();
  }

  #clearContentDeadline(): void {
    if (this.#contentDeadline) clearTimeout(this.#contentDeadline);
    this.#contentDeadline = null;
  }

  #dispatch(line: string): void {
    const space = line.indexOf(' ');
    const verb = (space < 0 ? line : line.slice(0, space)).toUpperCase();
    const argument = space < 0 ? '' : line.slice(space + 1).trim();
    const fruitful = verb === 'RCPT' || verb === 'DATA';
    if (this.#draining && this.#transaction === null && verb !== 'QUIT') {
      this.#hangUp(refuse('shutting-down', ''));
    } else if (!fruitful && ++this.#fruitless > FRUITLESS_AT_MOST) {
      this.#hangUp(refuse('too-many-errors', `${FRUITLESS_AT_MOST} without a message`));
    } else {
      this.#obey(verb, argument, line);
    }
  }

  #obey(verb: string, argument: string, line: string): void {
    switch (verb) {
      case 'EHLO':
      case 'HELO':
        this.#hello(verb, argument);
        break;
      case 'MAIL':
        this.#mail(line);
        break;
      case 'RCPT':
        this.#rcpt(line);
        break;
      case 'DATA':
        this.#data(argument);
        break;
      case 'STARTTLS':
        this.#startTls(argument);
        break;
      case 'RSET':
        this.#transaction = null;
        this.#connection.say('250 2.0.0 Flushed\r\n');
        break;
      case 'NOOP':
        this.#connection.say('250 2.0.0 Ok\r\n');
        break;
      case 'HELP':
        this.#connection.say('214 2.0.0 EHLO HELO STARTTLS MAIL RCPT DATA RSET NOOP QUIT\r\n');
        break;
      case 'VRFY':
        this.#connection.say('252 2.0.0 Addresses are not looked up here; send a message and see\r\n');
        break;
      case 'QUIT':
        this.#connection.say('221 2.0.0 Bye\r\n');
        this.#close();
        break;
      case 'AUTH':
      case 'BDAT':
      case 'EXPN':
      case 'ETRN':
      case 'TURN':
        this.#mistake(refuse('command-unsupported', verb));
        break;
      default:
        if (HTTP.test(line)) this.#hangUp(refuse('wrong-protocol', 'that was HTTP'));
        else this.#mistake(refuse('command-unknown', ''));
    }
  }

  #hello(verb: 'EHLO' | 'HELO', argument: string): void {
    if (argument === '' || argument.includes(' ') || argument.length > 255) {
      this.#mistake(refuse('command-syntax', `it has the form ${verb} name`));
      return;
    }
    this.#helo = { verb, name: argument };
    this.#transaction = null;
    const { hostname, rules } = this.#desk;
    if (verb === 'HELO') {
      this.#connection.say(`250 ${hostname}\r\n`);
      return;
    }
    const size = `SIZE ${rules.content.messageBytes}`;
    const last = this.#connection.isSecure ? `250-REQUIRETLS\r\n250 ${size}` : `250-${size}\r\n250 STARTTLS`;
    this.#connection.say(`250-${hostname}\r\n${EXTENSIONS}${last}\r\n`);
  }

  #mail(line: string): void {
    const helo = this.#helo;
    if (!helo || this.#transaction) {
      this.#mistake(refuse('command-order', this.#transaction ? 'a message was already begun' : 'say EHLO first'));
      return;
    }
    const { access, content } = this.#desk.rules;
    const read = readMail(line, content.messageBytes, helo.verb === 'EHLO', this.#connection.isSecure);
    // Asked anew for each message: a client that has lost its permission meanwhile sends no more.
    const candidates = access.candidates(this.#peer);
    const allowed = 'refusal' in read ? read : access.mayMail(candidates, this.#credentials, read.value.sender);
    if ('refusal' in read || 'refusal' in allowed) {
      const sender = 'refusal' in read ? {} : { sender: read.value.sender };
      if ('refusal' in allowed) this.#report(allowed.refusal, sender);
      this.#countError();
      return;
    }
    const { client } = allowed;
    const { rates, clock } = this.#desk;
    const mayBegin = client.rate === null || rates.take(client.name, client.rate, clock.now());
    this.#after(mayBegin, (may) => this.#begin(may, read.value, client));
  }

  #begin(mayBegin: boolean, opening: Opening, client: ClientRule): void {
    if (this.#isOver) return;
    if (!mayBegin && client.rate !== null) {
      // Not counted as an error: a client that comes again later does what it is told.
      const detail = `${client.name} may send ${client.rate.count} in ${inWords(client.rate.period)}`;
      this.#report(refuse('too-many-messages', detail), { sender: opening.sender, client: client.name });
      return;
    }
    this.#transaction = {
      ...opening,
      client,
      id: '',
      receivedAt: 0,
      recipients: new Map(),
      refusedSome: false,
    };
    this.#connection.say('250 2.1.0 Sender ok\r\n');
  }

  #rcpt(line: string): void {
    const transaction = this.#transaction;
    if (!transaction) {
      this.#mistake(refuse('command-order', 'say MAIL first'));
      return;
    }
    const { recipients, sender, client, smtputf8 } = transaction;
    const read = readRcpt(line, smtputf8, this.#helo?.verb === 'EHLO');
    const most = this.#desk.rules.recipients;
    const full = 'value' in read && recipients.size >= most && !recipients.has(read.value.address);
    const refusal =
      'refusal' in read ? read.refusal : full ? refuse('too-many-recipients', `${most} are allowed`) : null;
    if ('refusal' in read || refusal) {
      // Not counted as an error of the client: a list of a thousand addresses may have a hundred bad ones.
      transaction.refusedSome = true;
      if (refusal) this.#report(refusal, { sender, client: client.name });
      return;
    }
    if (!recipients.has(read.value.address)) recipients.set(read.value.address, read.value);
    this.#connection.say('250 2.1.5 Recipient ok\r\n');
  }

  #data(argument: string): void {
    const transaction = this.#transaction;
    if (argument !== '' || !transaction || transaction.recipients.size === 0) {
      if (argument !== '') this.#mistake(refuse('command-syntax', 'DATA has no argument'));
      else if (transaction?.refusedSome) this.#mistake(refuse('no-valid-recipients', ''));
      else this.#mistake(refuse('command-order', transaction ? 'say RCPT first' : 'say MAIL first'));
      return;
    }
    const { rules, spool, newId, clock } = this.#desk;
    transaction.id = newId();
    transaction.receivedAt = clock.now();
    this.#arriving = new Arriving(this.#trace(transaction), rules.content, spool.draft(transaction.id));
    this.#contentDeadline = setTimeout(() => this.#tooSlow(), rules.messageMs);
    this.#connection.startContent();
    this.#connection.say('354 End data with <CR><LF>.<CR><LF>\r\n');
  }

  /** What the log is told of every message. */
  #about(): Partial<MailEvent> {
    const transaction = this.#transaction;
    return transaction ? { queueId: transaction.id, client: transaction.client.name, sender: transaction.sender } : {};
  }

  #answer(arrival: Arrival, transaction: Transaction, about: Partial<MailEvent>): void {
    const { log } = this.#desk;
    switch (arrival.kind) {
      case 'stored':
        this.#tellAccepted(transaction, about, arrival);
        break;
      case 'refused':
        if (arrival.error !== null)
          log.error('a message could not be stored', { ...about, error: String(arrival.error) });
        this.#report(arrival.refusal, about);
        break;
    }
    if (this.#draining) this.#hangUp(refuse('shutting-down', ''));
  }

  #tellAccepted(transaction: Transaction, about: Partial<MailEvent>, stored: Stored): void {
    const { size, longLines } = stored;
    const { code, status, explanation } = verdictOf('intake-accepted', '');
    const { pin } = this.#credentials;
    const tls = this.#tls;
    this.#errors = 0;
    this.#fruitless = 0;
    this.#desk.log.mail({
      event: 'accepted',
      code,
      status,
      explanation,
      ...about,
      peer: this.#peer,
      recipients: transaction.recipients.size,
      size,
      ...(tls && { tls }),
      ...(transaction.tls !== 'default' && { tlsWish: transaction.tls }),
      ...(pin !== null && { pin }),
    });
    if (longLines > 0) this.#desk.log.debug('lines longer than 998 octets were let through', { ...about, longLines });
    this.#connection.say(`250 2.0.0 Ok: queued as ${about.queueId}\r\n`);
  }

  #startTls(argument: string): void {
    if (this.#connection.isSecure) {
      this.#mistake(refuse('command-order', 'TLS is already there'));
    } else if (argument !== '') {
      this.#mistake(refuse('command-syntax', 'STARTTLS has no argument'));
    } else {
      this.#connection.say('220 2.0.0 Ready to start TLS\r\n');
      this.#connection.upgrade(this.#desk.secureContext);
    }
  }

  #trace({ id, receivedAt, recipients, smtputf8 }: Transaction): Buffer {
    const [first, second] = recipients.keys();
    return receivedHeader({
      helo: this.#helo?.name ?? '',
      extended: this.#helo?.verb === 'EHLO',
      peer: this.#peer,
      hostname: this.#desk.hostname,
      tls: this.#tls,
      smtputf8,
      id,
      receivedAt,
      onlyRecipient: second === undefined ? (first ?? null) : null,
    });
  }

  /** Answers and tells the log: this is about mail. */
  #report(refusal: Refusal, about: Partial<MailEvent>): void {
    const { explanation } = verdictOf(refusal.code, refusal.detail);
    const { pin } = this.#credentials;
    const { code, status } = refusal;
    const who = { peer: this.#peer, ...(pin !== null && { pin }) };
    this.#desk.log.mail({ event: 'refused', code, status, explanation, ...who, ...about });
    this.#say(refusal);
  }

  /** Answers a command that was no use, and ends the conversation when there were too many of them. */
  #mistake(refusal: Refusal): void {
    this.#say(refusal);
    this.#countError();
  }

  #countError(): void {
    if (++this.#errors >= ERRORS_AT_MOST) this.#hangUp(refuse('too-many-errors', `${ERRORS_AT_MOST} errors`));
  }

  #say(refusal: Refusal): void {
    const text = refusalText(refusal);
    const { reply, status } = refusal;
    this.#connection.say(`${reply} ${status} ${text.replace(/[^ -~]/gu, '?')}\r\n`);
  }

  #tooSlow(): void {
    const refusal = refuse('client-timeout', '');
    if (this.#transaction) this.#report(refusal, { sender: this.#transaction.sender });
    else this.#say(refusal);
    this.#close();
  }

  #hangUp(refusal: Refusal): void {
    this.#say(refusal);
    this.#close();
  }
}

function inWords(period: number): string {
  if (period === 60_000) return 'a minute';
  return period === 3_600_000 ? 'an hour' : period === 86_400_000 ? 'a day' : `${period / 1_000} s`;
}

function decoded(line: Buffer): string | null {
  try {
    return UTF8.decode(line);
  } catch {
    return null;
  }
}
