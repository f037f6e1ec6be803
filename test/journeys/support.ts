/** One lab, and relays in it: mail is handed in as a legacy server does, and followed in the log and at the far end. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { send } from '../../lab/client.ts';
import type { Mail } from '../../lab/host.ts';
import { type Lab, type LabOptions, startLab } from '../../lab/lab.ts';
import { type LogEvent, type RelayOptions, type RunningRelay, startRelay } from '../../lab/relay.ts';
import type { Destination, HostEntry } from '../../lab/world.ts';

export interface Journey {
  readonly lab: Lab;
  /** Starts another relay in this lab; it ends with the journey. */
  readonly relay: (config: RelayOptions['config']) => Promise<Follower>;
  readonly end: () => Promise<void>;
}

/** A running relay, with what became of mail to a domain. */
export interface Follower {
  readonly running: RunningRelay;
  /** Hands in one message for all these recipients; a domain stands for somebody there. */
  readonly mail: (...recipients: readonly string[]) => Promise<void>;
  /** The attempt with this number (from 1) for a domain that is mailed to once, as soon as it is over. */
  readonly attempt: (domain: string, number?: number) => Promise<LogEvent>;
}

/** A mail host in a zone of its own: `mx.good.test` is the one of `good.test`. */
export type Host = HostEntry & Partial<Pick<Destination, 'dnssec' | 'sts' | 'reports'>>;

const ENDS: readonly string[] = ['delivered', 'deferred', 'bounced', 'expired'];

/**
 * @param hosts  mail hosts, each with its own zone, signed unless it says otherwise
 * @param zones  zones besides, made when addresses and port are known
 */
export async function startJourney(hosts: readonly Host[], zones: NonNullable<LabOptions['zones']>): Promise<Journey> {
  const folder = await mkdtemp(join(tmpdir(), 'dane-journey-'));
  const lab = await startLab({ port: 0, world: hosts.map(destinationOf), zones });
  const running: RunningRelay[] = [];
  return {
    lab,
    relay: async (config) => {
      const relay = await startRelay({ lab, dir: join(folder, String(running.length)), config: config ?? {} });
      running.push(relay);
      return follow(relay);
    },
    end: async () => {
      await Promise.all(running.map((relay) => relay.stop()));
      await lab.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function destinationOf({ dnssec = 'signed', sts, reports, ...host }: Host): Destination {
  return {
    domain: host.name.slice(host.name.indexOf('.') + 1),
    tells: '',
    because: '',
    dnssec,
    ...(sts && { sts }),
    ...(reports && { reports }),
    hosts: [host],
    expect: { event: 'delivered', code: 'dane-ee', arrivesAt: [], notDialled: [] },
  };
}

function follow(running: RunningRelay): Follower {
  const endsFor = (domain: string): readonly LogEvent[] =>
    running.events().filter((event) => event.domain === domain && ENDS.includes(event.event));
  return {
    running,
    mail: async (...recipients) => {
      const addresses = recipients.map((one) => (one.includes('@') ? one : `someone@${one}`));
      const content = `Subject: for ${addresses.join(' ')}\r\n\r\nHello.\r\n`;
      await send(running, running.client, { sender: 'alice@office.test', recipients: addresses, content });
    },
    attempt: async (domain, number = 1) => {
      await running.untilEvent(() => endsFor(domain).length >= number);
      const event = endsFor(domain)[number - 1];
      if (!event) throw new Error(`no attempt ${number} for ${domain}`);
      return event;
    },
  };
}

/** What became of an attempt, in one line: `deferred 4.7.5 tlsa-mismatch`, `delivered dane-ee authenticated at mx.a.test`. */
export function told({ event, status, code, verdict, host }: LogEvent): string {
  return event === 'delivered' ? `delivered ${code} ${verdict ?? ''} at ${host ?? ''}` : `${event} ${status} ${code}`;
}

/** Mail for a domain, wherever it arrived. */
export function arrived(lab: Lab, domain: string): readonly Mail[] {
  return lab.mailboxes().filter(({ recipients }) => recipients.some((address) => address.endsWith(`@${domain}`)));
}

/** True when a host was told of a message, or got one: MAIL, RCPT, DATA, on any connection. */
export function wasToldOfMail(lab: Lab, host: string): boolean {
  return lab.contacts(host).some(({ commands }) => commands.some((command) => /^(?:MAIL|RCPT|DATA)/i.test(command)));
}
