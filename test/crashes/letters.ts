/** The mail that is under way while the relay is killed: each letter tells its name, whom it is for and how long it is. */
import type { ClientCertificate, Relay } from '../../lab/client.ts';
import type { ClientStep } from '../support/crash-steps.ts';
import { SmtpClient } from '../support/smtp-client.ts';

export const SENDER = 'alice@office.test';
/** Takes all that comes. */
export const GOOD = 'dane-ee.test';
/** Wants to see everybody twice. */
export const HESITANT = 'greylisting.test';
/** Refuses everybody, so that a bounce goes to the sender. */
export const REFUSING = 'unknown-user.test';

export interface Letter {
  readonly name: string;
  readonly recipients: readonly string[];
  readonly content: Buffer;
}

/** Larger than what is kept in memory: goes through files. */
const LARGE = 300 * 1024;

const KINDS: readonly { readonly domains: readonly string[]; readonly octets: number }[] = [
  { domains: [GOOD], octets: 2_000 },
  { domains: [REFUSING], octets: 2_000 },
  { domains: [GOOD], octets: LARGE },
  { domains: [HESITANT], octets: 2_000 },
  { domains: [GOOD, GOOD], octets: 500 },
  { domains: [GOOD, HESITANT, REFUSING], octets: 2_000 },
  { domains: [GOOD], octets: 20_000 },
  { domains: [REFUSING], octets: LARGE },
];

/** The letter with this number; all kinds take turns. */
export function letter(client: string, number: number): Letter {
  const kind = KINDS[number % KINDS.length] ?? { domains: [GOOD], octets: 0 };
  const name = `${client}-${String(number)}`;
  const recipients = kind.domains.map((domain, index) => `${name}-${String(index)}@${domain}`);
  const head = `From: ${SENDER}\r\nSubject: ${name}\r\n\r\n`;
  const line = `${name} ${'0123456789'.repeat(6)}\r\n`;
  const content = Buffer.from(`${head}${line.repeat(Math.ceil(kind.octets / line.length))}-- the end of ${name}\r\n`);
  return { name, recipients, content };
}

export interface HandingIn {
  readonly relay: Relay;
  readonly own: ClientCertificate;
  readonly reach: (step: ClientStep) => void;
  /** Called before the final dot is sent: from here on the relay may have the letter. */
  readonly complete: () => void;
}

/** Resolves to the queue id once the relay has said 250. Rejects when it says something else, or nothing any more. */
export async function handIn({ recipients, content }: Letter, handing: HandingIn): Promise<string> {
  const { relay, own, reach, complete } = handing;
  const client = await SmtpClient.connect({ host: relay.address, port: relay.port });
  const expecting = async (code: number): Promise<string> => {
    const reply = await client.reply();
    if (reply.code !== code) throw new Error(`the relay says ${reply.text}`);
    return reply.text;
  };
  try {
    await expecting(220);
    await client.hello('legacy.office.test');
    await client.startTls({ cert: own.cert, key: own.key });
    client.raw(`MAIL FROM:<${SENDER}>\r\n`);
    await expecting(250);
    reach('client: MAIL answered');
    for (const recipient of recipients) {
      client.raw(`RCPT TO:<${recipient}>\r\n`);
      await expecting(250);
    }
    client.raw('DATA\r\n');
    await expecting(354);
    const half = Math.floor(content.length / 2);
    await written(client, content.subarray(0, half));
    reach('client: half of the content sent');
    await written(client, content.subarray(half));
    complete();
    await written(client, Buffer.from('.\r\n'));
    reach('client: final dot sent');
    const text = await expecting(250);
    reach('client: 250 read');
    return /queued as (\S+)/.exec(text)?.[1] ?? '';
  } finally {
    client.destroy();
  }
}

function written(client: SmtpClient, octets: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    client.socket.write(octets, (error) => (error ? reject(error) : resolve()));
  });
}
