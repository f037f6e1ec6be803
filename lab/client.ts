/**
 * A mail server that cannot do DANE, as far as the relay sees it: an SMTP client with a pinned certificate.
 *
 * It trusts exactly one key, the relay's, and proves itself with its own certificate. Nothing is sent before both ends
 * are known. One message a connection, one command at a time, and every reply is checked.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { createConnection, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

export interface Relay {
  readonly address: string;
  readonly port: number;
  /** Pin of its key: `sha256/…=`. */
  readonly pin: string;
}

/** Certificate and key of the client, in PEM. */
export interface ClientCertificate {
  readonly cert: string;
  readonly key: string;
}

export interface Letter {
  readonly sender: string;
  readonly recipients: readonly string[];
  /** The whole message with CRLF line ends, header and body. */
  readonly content: Buffer | string;
  /** Asks for TLS all the way (RFC 8689); the relay takes that under TLS only. */
  readonly requireTls?: boolean;
}

/** Reply of the relay to one message, with what it says about where it is kept. */
export interface Receipt {
  readonly reply: string;
  readonly tls: string;
}

const PATIENCE_MS = 30_000;

/** Rejects with the reply of the relay when it is not a 2xx or 3xx, and when the relay has another key than its pin. */
export async function send(relay: Relay, own: ClientCertificate, letter: Letter): Promise<Receipt> {
  const plain = createConnection({ host: relay.address, port: relay.port });
  try {
    let say = dialogue(plain);
    await say(null);
    await say('EHLO legacy.office.test');
    await say('STARTTLS');
    plain.removeAllListeners();
    const secured = connectTls({ socket: plain, cert: own.cert, key: own.key, rejectUnauthorized: false });
    await new Promise<void>((resolve, reject) => {
      secured.once('secureConnect', resolve);
      secured.once('error', reject);
    });
    const pin = keyPin(secured.getPeerX509Certificate());
    if (pin !== relay.pin) throw new Error(`the relay presents another key: ${pin} is not the pinned ${relay.pin}`);

    say = dialogue(secured);
    await say('EHLO legacy.office.test');
    const reply = await hand(say, letter);
    return { reply, tls: secured.getProtocol() ?? '' };
  } finally {
    plain.destroy();
  }
}

/** Hands a letter in without TLS, as a program does to the mail server on its own machine. Resolves to the reply. */
export async function submit({ address, port }: Omit<Relay, 'pin'>, letter: Letter): Promise<string> {
  const socket = createConnection({ host: address, port });
  try {
    const say = dialogue(socket);
    await say(null);
    await say('EHLO app.office.test');
    return await hand(say, letter);
  } finally {
    socket.destroy();
  }
}

async function hand(say: Say, { sender, recipients, content, requireTls }: Letter): Promise<string> {
  const parameters = `${isSevenBit(content) ? '' : ' BODY=8BITMIME'}${requireTls ? ' REQUIRETLS' : ''}`;
  await say(`MAIL FROM:<${sender}>${parameters}`);
  for (const recipient of recipients) await say(`RCPT TO:<${recipient}>`);
  await say('DATA');
  const reply = await say(`${stuffed(content)}.`, 'latin1');
  await say('QUIT');
  return reply;
}

type Say = (line: string | null, encoding?: BufferEncoding) => Promise<string>;

/** Says one line, or nothing, and resolves to the reply. */
function dialogue(socket: Socket): Say {
  let heard = '';
  let waiting: { resolve: (reply: string) => void; reject: (error: Error) => void } | null = null;
  const settle = (): void => {
    const reply = /^(?:\d{3}-.*\r\n)*\d{3}(?: .*)?\r\n/.exec(heard)?.[0];
    if (reply === undefined || !waiting) return;
    heard = heard.slice(reply.length);
    const { resolve, reject } = waiting;
    waiting = null;
    if (/^[23]/.test(reply)) resolve(reply.trim());
    else reject(new Error(`the relay says: ${reply.trim()}`));
  };
  socket.on('data', (chunk: Buffer) => {
    heard += chunk.toString('utf8');
    settle();
  });
  socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error('the relay does not answer')));
  socket.on('error', (error) => waiting?.reject(error));
  socket.on('close', () => waiting?.reject(new Error(`the relay closed the connection: ${heard.trim()}`)));
  return (line, encoding = 'utf8') =>
    new Promise((resolve, reject) => {
      waiting = { resolve, reject };
      if (line !== null) socket.write(`${line}\r\n`, encoding);
      settle();
    });
}

function stuffed(content: Buffer | string): string {
  const text = Buffer.from(content).toString('latin1');
  return (text.endsWith('\r\n') ? text : `${text}\r\n`).replace(/^\./gm, '..');
}

function isSevenBit(content: Buffer | string): boolean {
  return Buffer.from(content).every((octet) => octet < 0x80);
}

function keyPin(certificate: X509Certificate | undefined): string {
  if (!certificate) return 'no certificate';
  const key = certificate.publicKey.export({ type: 'spki', format: 'der' });
  return `sha256/${createHash('sha256').update(key).digest('base64')}`;
}

/** The pin of the first certificate in a PEM text, in the notation of the configuration. */
export function pinOfPem(pem: string): string {
  return keyPin(new X509Certificate(pem));
}
