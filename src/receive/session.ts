/**
 * One SMTP conversation with a client (RFC 5321 §3, §4), from the greeting to its end.
 *
 * smtp-server gives the connection: accepting, TLS, closing, replies that cannot be split. The commands are read and
 * answered here, because nearly every one of the library's own answers would have to be another. A message is 250 only
 * when it is stored; whatever goes wrong on our side is 4xx, so that the client keeps it.
 */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { SMTPServer } from 'smtp-server';
import { SMTPConnection, type SMTPConnectionOptions } from 'smtp-server/lib/smtp-connection.js';
import type { TlsFacts } from '../model/delivery.ts';
import type { Logger, MailEvent } from '../model/events.ts';
import type { EnvelopeRecipient, NewMessage } from '../model/message.ts';
import { verdictOf } from '../model/verdict.ts';
import type { Clock } from '../shared/clock.ts';
import { isAscii } from '../shared/domain-name.ts';
import type { RateLimiter } from '../shared/rate.ts';
import { spkiPin } from '../shared/spki.ts';
import { type Access, type ClientRule, type Credentials, plainAddress } from './access.ts';
import { type Arrival, takeIn } from './arrival.ts';
import { type Opening, readMail, readRcpt } from './envelope.ts';
import type { Gate } from './gate.ts';
import type { ContentRules } from './intake.ts';
import { receivedHeader } from './received-header.ts';
import { type Refusal, refusalText, refuse } from './refusal.ts';
import type { Spool } from './spool.ts';
import { type LineFault, Wire } from './wire.ts';

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

/** What all conversations share. */
export interface Desk {
  readonly hostname: string;
  /** Those of now: a new configuration puts others in their place. */
  rules: DeskRules;
  readonly gate: Gate;
  /** Messages begun, by the name of the client. */
  readonly rates: RateLimiter;
  readonly spool: Spool;
  readonly accept: (message: NewMessage) => Promise<void>;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly log: Logger;
}

interface Transaction extends Opening {
  readonly client: ClientRule;
  readonly tls: TlsFacts | null;
  readonly pin: string | null;
  readonly recipients: Map<string, EnvelopeRecipient>;
  /** A recipient was refused: then no recipient at all is not a mistake in the order of commands. */
  refusedSome: boolean;
}

type Stored = Extract<Arrival, { kind: 'stored' }>;

/** Commands that led to nothing, one after another, until the client is shown the door. */
const FRUITLESS_AT_MOST = 100;
const ERRORS_AT_MOST = 20;
const HTTP = /^(?:OPTIONS|GET|HEAD|POST|PUT|PATCH|DELETE|TRACE|CONNECT) \S+ HTTP\/\d/i;
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Emits `gone` when its connection is closed. */
export class Session extends SMTPConnection {
  readonly #desk: Desk;
  #credentials: Credentials | null = null;
  #transaction: Transaction | null = null;
  /** Where the connection stands with the gate. */
  #counted: 'no' | 'inside' | 'lingering' = 'no';
  /** A message has arrived and is being stored: the client waits for us, not we for it. */
  #storing = false;
  #draining = false;
  #errors = 0;
  #fruitless = 0;
  #deadline: NodeJS.Timeout | null = null;

  constructor(server: SMTPServer, socket: Socket | TLSSocket, options: SMTPConnectionOptions | null, desk: Desk) {
    super(server, socket, options);
    this.#desk = desk;
  }

  get peer(): string {
    return plainAddress(this.remoteAddress);
  }

  /** Greets at once: the library would wait 100 ms for early talkers and ask for the client's name in DNS. */
  override init(): void {
    this._setListeners(() => {
      this._resetSession();
      const { gate, rules } = this.#desk;
      const isStranger = rules.access.candidates(this.peer).length === 0;
      const refusal = isStranger ? refuse('client-unknown', this.peer) : gate.enter(this.peer);
      if (refusal) {
        this.#turnAway(refusal);
        return;
      }
      this.#counted = 'inside';
      this.#deadline = setTimeout(() => this.#onDeadline(), rules.idleMs);
      this._ready = true;
      this.send(220, `${this.#desk.hostname} ESMTP dane-relay`, false);
    });
  }

  /** Lets the message that is under way finish, and ends the conversation after it (RFC 5321 §3.8). */
  drain(): void {
    this.#draining = true;
    if (this.#transaction === null) this.#hangUp(refuse('shutting-down', ''));
  }

  /** Ends the conversation now, whatever is under way. */
  terminate(): void {
    this.#hangUp(refuse('shutting-down', ''));
    this._socket.destroySoon();
    setTimeout(() => this._socket.destroy(), 500).unref();
  }

  override _createParser(): Wire {
    const wire = new Wire({
      command: (line, next) => this._onCommand(line, next),
      fault: (fault, next) => {
        if (!this._upgrading && !this._closing) this.#onFault(fault);
        this.#goOn(next);
      },
    });
    wire.on('error', (error) => this._onError(error));
    return wire;
  }

  /** Replies carry the enhanced code that they are given; `false` stands for none (RFC 2034 §4). */
  override _getEnhancedStatusCode(_code: number, context?: string | false): string {
    return context || '';
  }

  override _onCommand(command: Buffer, callback: () => void = () => undefined): void {
    // What came before a TLS handshake is not answered into it; what comes after a farewell not at all.
    if (this._upgrading) callback();
    if (this._upgrading || this._closing) return;
    try {
      const line = decoded(command);
      if (line === null) this.#onFault('control');
      else this.#dispatch(line);
    } catch (error) {
      this.#desk.log.error('a command could not be handled', { error: String(error), peer: this.peer });
      this.#say(refuse('storage-failed', 'an error in this relay'));
    }
    this.#goOn(callback);
  }

  /** Takes the next line when the replies so far have left, so that a client that does not read them has to wait. */
  #goOn(callback: () => void): void {
    this.#deadline?.refresh();
    if (this._upgrading) callback();
    else if (!this._closing) this._whenWritable(callback);
  }

  /** Silence. Whoever waits for us is not silent. */
  override _onTimeout(): void {
    if (this._closing) this._socket.destroy();
    else if (this.#storing) this._armTimeout();
    else this.#tooSlow();
  }

  /** A command that drips in octet by octet is not silence, and comes to the same. Content has a time of its own. */
  #onDeadline(): void {
    if (this._dataStream) this.#deadline?.refresh();
    else if (!this._closing) this.#tooSlow();
  }

  override _resetSession(): void {
    super._resetSession();
    this.#transaction = null;
    this.#credentials = null;
  }

  override _onClose(): void {
    if (this.#deadline) clearTimeout(this.#deadline);
    super._onClose();
    if (this.#counted === 'inside') this.#desk.gate.leave(this.peer);
    if (this.#counted === 'lingering') this.#desk.gate.unlinger();
    this.#counted = 'no';
    this.emit('gone');
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
        this._resetSession();
        this.send(250, 'Flushed', '2.0.0');
        break;
      case 'NOOP':
        this.send(250, 'Ok', '2.0.0');
        break;
      case 'HELP':
        this.send(214, 'EHLO HELO STARTTLS MAIL RCPT DATA RSET NOOP QUIT', '2.0.0');
        break;
      case 'VRFY':
        this.send(252, 'Addresses are not looked up here; send a message and see', '2.0.0');
        break;
      case 'QUIT':
        this.send(221, 'Bye', '2.0.0');
        this.close();
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
    this.openingCommand = verb;
    this.hostNameAppearsAs = argument;
    this._resetSession();
    const { hostname, rules } = this.#desk;
    const offers = [
      'PIPELINING',
      '8BITMIME',
      'SMTPUTF8',
      'ENHANCEDSTATUSCODES',
      'DSN',
      `SIZE ${rules.content.messageBytes}`,
    ];
    if (!this.secure) offers.push('STARTTLS');
    this.send(250, verb === 'EHLO' ? [hostname, ...offers] : hostname, false);
  }

  #mail(line: string): void {
    if (this.hostNameAppearsAs === false || this.#transaction) {
      this.#mistake(refuse('command-order', this.#transaction ? 'a message was already begun' : 'say EHLO first'));
      return;
    }
    const { access, content } = this.#desk.rules;
    const read = readMail(line, content.messageBytes, this.openingCommand === 'EHLO');
    // Asked anew for each message: a client that has lost its permission meanwhile sends no more.
    const candidates = access.candidates(this.peer);
    const allowed = 'refusal' in read ? read : access.mayMail(candidates, this.#whoIsIt(), read.value.sender);
    if ('refusal' in read || 'refusal' in allowed) {
      const sender = 'refusal' in read ? {} : { sender: read.value.sender };
      if ('refusal' in allowed) this.#report(allowed.refusal, sender);
      this.#countError();
      return;
    }
    const { client } = allowed;
    const { rates, clock } = this.#desk;
    if (client.rate && !rates.take(client.name, client.rate, clock.now())) {
      // Not counted as an error: a client that comes again later does what it is told.
      const detail = `${client.name} may send ${client.rate.count} in ${inWords(client.rate.period)}`;
      this.#report(refuse('too-many-messages', detail), { sender: read.value.sender, client: client.name });
      return;
    }
    const { pin } = this.#whoIsIt();
    const tls = this.#tlsFacts();
    this.#transaction = { ...read.value, client, tls, pin, recipients: new Map(), refusedSome: false };
    this.send(250, 'Sender ok', '2.1.0');
  }

  #rcpt(line: string): void {
    const transaction = this.#transaction;
    if (!transaction) {
      this.#mistake(refuse('command-order', 'say MAIL first'));
      return;
    }
    const { recipients, sender, client, smtputf8 } = transaction;
    const read = readRcpt(line, smtputf8, this.openingCommand === 'EHLO');
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
    this.send(250, 'Recipient ok', '2.1.5');
  }

  #data(argument: string): void {
    const transaction = this.#transaction;
    const wire = this._parser;
    if (argument !== '' || !transaction || transaction.recipients.size === 0 || !wire) {
      if (argument !== '') this.#mistake(refuse('command-syntax', 'DATA has no argument'));
      else if (transaction?.refusedSome) this.#mistake(refuse('no-valid-recipients', ''));
      else this.#mistake(refuse('command-order', transaction ? 'say RCPT first' : 'say MAIL first'));
      return;
    }
    const id = this.#desk.newId();
    const receivedAt = this.#desk.clock.now();
    const stream = wire.startDataMode();
    this._dataStream = stream;
    const timer = setTimeout(() => {
      if (wire._dataMode) this.#tooSlow();
    }, this.#desk.rules.messageMs);
    stream.once('end', () => {
      this.#storing = true;
    });
    const { rules, spool } = this.#desk;
    const header = this.#trace(transaction, id, receivedAt);
    const { client, sender, recipients, smtputf8, body: declared, ret, envid } = transaction;
    const arriving = takeIn(stream, header, rules.content, spool.draft(id), (facts, body) => {
      const envelope = { sender, recipients: [...recipients.values()], smtputf8, body: declared, ret, envid };
      return this.#desk.accept({ id, receivedAt, client: client.name, envelope, content: facts, body });
    });
    void arriving.then((arrival) => {
      clearTimeout(timer);
      this._dataStream = false;
      this.#storing = false;
      this.#answer(arrival, transaction, { queueId: id, client: client.name, sender });
      this._resetSession();
      this.#deadline?.refresh();
      if (!this._closing && !this._closed) wire.continue();
    });
    this.send(354, 'End data with <CR><LF>.<CR><LF>', false);
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
      case 'flooded':
        this.#report(arrival.refusal, about);
        this.close();
        break;
      case 'gone':
        log.debug('a client left before its message was complete', { ...about, peer: this.peer });
        this.close();
        break;
    }
    if (this.#draining && !this._closing && !this._closed) this.#hangUp(refuse('shutting-down', ''));
  }

  #tellAccepted(transaction: Transaction, about: Partial<MailEvent>, stored: Stored): void {
    const { size, longLines } = stored;
    const { code, status, explanation } = verdictOf('intake-accepted', '');
    const { tls, pin } = transaction;
    this.#errors = 0;
    this.#fruitless = 0;
    this.#desk.log.mail({
      event: 'accepted',
      code,
      status,
      explanation,
      ...about,
      peer: this.peer,
      recipients: transaction.recipients.size,
      size,
      ...(tls && { tls }),
      ...(pin !== null && { pin }),
    });
    if (longLines > 0) this.#desk.log.debug('lines longer than 998 octets were let through', { ...about, longLines });
    this.send(250, `Ok: queued as ${about.queueId}`, '2.0.0');
  }

  #startTls(argument: string): void {
    if (this.secure) {
      this.#mistake(refuse('command-order', 'TLS is already there'));
    } else if (argument !== '') {
      this.#mistake(refuse('command-syntax', 'STARTTLS has no argument'));
    } else {
      this.send(220, 'Ready to start TLS', '2.0.0');
      // The wire is replaced, and the old one throws away what was sent before the handshake (RFC 3207 §6).
      this.upgrade(() => undefined);
    }
  }

  #onFault(fault: LineFault): void {
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

  #trace(transaction: Transaction, id: string, receivedAt: number): Buffer {
    const [first, second] = transaction.recipients.keys();
    return receivedHeader({
      helo: this.hostNameAppearsAs || '',
      extended: this.openingCommand === 'EHLO',
      peer: this.peer,
      hostname: this.#desk.hostname,
      tls: transaction.tls,
      smtputf8: transaction.smtputf8,
      id,
      receivedAt,
      onlyRecipient: second === undefined ? (first ?? null) : null,
    });
  }

  #tlsFacts(): TlsFacts | null {
    const version = this._socket instanceof TLSSocket ? this._socket.getProtocol() : null;
    // Node tells the key exchange group to clients only.
    return version && this.tlsOptions ? { version, cipher: this.tlsOptions.name, group: null } : null;
  }

  #whoIsIt(): Credentials {
    if (this.#credentials) return this.#credentials;
    const raw = this._socket instanceof TLSSocket ? this._socket.getPeerX509Certificate()?.raw : undefined;
    this.#credentials = { secure: this.secure, pin: raw ? spkiPin(raw) : null };
    return this.#credentials;
  }

  /** Answers and tells the log: this is about mail. */
  #report(refusal: Refusal, about: Partial<MailEvent>): void {
    const { explanation } = verdictOf(refusal.code, refusal.detail);
    const { pin } = this.#whoIsIt();
    const { code, status } = refusal;
    const who = { peer: this.peer, ...(pin !== null && { pin }) };
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
    this.send(refusal.reply, isAscii(text) ? text : text.replace(/[^ -~]/gu, '?'), refusal.status);
  }

  #tooSlow(): void {
    const refusal = refuse('client-timeout', '');
    if (this.#transaction) this.#report(refusal, { sender: this.#transaction.sender });
    else this.#say(refusal);
    this.close();
  }

  #hangUp(refusal: Refusal): void {
    this.#say(refusal);
    this.close();
  }

  #turnAway(refusal: Refusal): void {
    if (!this.#desk.gate.linger()) {
      this.#desk.gate.unlinger();
      this._socket.destroy();
      return;
    }
    this.#counted = 'lingering';
    this.#report(refusal, {});
    this.close();
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
