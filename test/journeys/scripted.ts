/** Mail hosts that do as a script says, each the next hop of one domain, and a client that says what it is told. */

import type { LogEvent, RunningRelay } from '../../lab/relay.ts';
import { SmtpClient } from '../support/smtp-client.ts';
import { type HostOptions, type SmtpHost, startSmtpHost } from '../support/smtp-host.ts';

export interface Scripted {
  readonly hosts: Readonly<Record<string, SmtpHost>>;
  readonly host: (domain: string) => SmtpHost;
  /** As `destinations` in the configuration: each domain goes to its host, without any TLS being asked for. */
  readonly rules: readonly object[];
  readonly close: () => Promise<void>;
}

/** Hosts without STARTTLS where their script does not say otherwise. */
export async function startScripted(scripts: Readonly<Record<string, HostOptions>>): Promise<Scripted> {
  const started = await Promise.all(
    Object.entries(scripts).map(
      async ([domain, script]) => [domain, await startSmtpHost({ tls: null, ...script })] as const,
    ),
  );
  const hosts = Object.fromEntries(started);
  return {
    hosts,
    host: (domain) => {
      const host = hosts[domain];
      if (!host) throw new Error(`no host was scripted for ${domain}`);
      return host;
    },
    rules: started.map(([domain, { address, port }]) => ({ domain, tls: 'may', via: `[${address}]:${port}` })),
    close: async () => {
      await Promise.all(started.map(([, host]) => host.close()));
    },
  };
}

/** As `clients` in the configuration: whoever is on this machine, with or without TLS. */
export const ANYBODY_HERE: readonly object[] = [{ name: 'app', networks: ['127.0.0.0/8'], tls: 'optional' }];

export interface Letter {
  /** With its brackets and parameters: `<alice@office.test> RET=FULL`. */
  readonly from?: string;
  /** The same for each recipient. */
  readonly to: readonly string[];
  /** Ends with CRLF. */
  readonly content?: string | Buffer;
}

/** Hands one message in. Rejects with the first reply that is no success. */
export async function submit(
  relay: RunningRelay,
  { from = '<alice@office.test>', to, content = 'Subject: hello\r\n\r\nHello.\r\n' }: Letter,
): Promise<void> {
  const client = await SmtpClient.connect({ host: relay.address, port: relay.port });
  try {
    const say = async (octets: Buffer | string): Promise<void> => {
      client.raw(octets);
      const { code, text } = await client.reply();
      if (code >= 400) throw new Error(`the relay says: ${text}`);
    };
    await client.reply();
    await say('EHLO app.office.test\r\n');
    await say(`MAIL FROM:${from}\r\n`);
    for (const recipient of to) await say(`RCPT TO:${recipient}\r\n`);
    await say('DATA\r\n');
    const stuffed = Buffer.from(content).toString('latin1').replace(/^\./gm, '..');
    await say(Buffer.from(`${stuffed}.\r\n`, 'latin1'));
  } finally {
    client.socket.destroy();
  }
}

/** Resolves once it holds. Unlike `expect.poll` it can be used in tests that run side by side. */
export async function eventually(holds: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 120_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`not within 120 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const ENDS: readonly string[] = ['delivered', 'deferred', 'bounced', 'expired'];

/** What became of a recipient at each attempt so far: `deferred 4.7.1 remote-later`. */
export function storyOf(relay: RunningRelay, recipient: string): readonly string[] {
  return eventsOf(relay, recipient).map(({ event, status, code }) => `${event} ${status} ${code}`);
}

/** The end of the attempt with this number (from 1) for a recipient who is mailed to once. */
export async function attemptFor(relay: RunningRelay, recipient: string, number = 1): Promise<LogEvent> {
  await relay.untilEvent(() => eventsOf(relay, recipient).length >= number);
  const event = eventsOf(relay, recipient)[number - 1];
  if (!event) throw new Error(`no attempt ${number} for ${recipient}`);
  return event;
}

function eventsOf(relay: RunningRelay, to: string): readonly LogEvent[] {
  return relay.events().filter(({ event, recipient }) => recipient === to && ENDS.includes(event));
}
