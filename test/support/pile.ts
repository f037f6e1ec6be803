/** A relay with a long queue for a dead host and a very long message, watched from outside. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, startRelay } from '../../lab/relay.ts';
import { Client, longContent, memoryOf, pidWith, startCountingHost } from './memory-load.ts';

export interface PileFigures {
  /** Resident memory of the relay and its children, in MB. */
  readonly memory: { readonly idle: number; readonly piled: number; readonly most: number };
  /** Milliseconds from the reply to the end of DATA of a fresh message until the host has it. */
  readonly fresh: { readonly alone: number; readonly behindThePile: number };
  /** Messages a second that were taken while the pile was made. */
  readonly intakeRate: number;
  readonly queued: number;
  /** Octets of the long message at the far end. */
  readonly delivered: number;
}

export interface PileSize {
  readonly messages: number;
  readonly longOctets: number;
}

const CLIENTS = 50;
const PATIENCE_MS = 300_000;

export async function pileUp({ messages, longOctets }: PileSize): Promise<PileFigures> {
  const folder = await mkdtemp(join(tmpdir(), 'dane-pile-'));
  const host = await startCountingHost();
  const dead = await freePort();
  const relay = await startRelay({
    lab: { port: 25, resolver: { address: '127.0.0.1:53', probe: { signed: '.', bogus: [] } } },
    dir: folder,
    config: {
      // Its own Unbound, whose memory counts too; no rule here needs it to be believed.
      resolver: 'managed',
      clients: [{ name: 'loader', networks: ['127.0.0.0/8'], tls: 'optional' }],
      destinations: [
        { domain: 'dead.test', tls: 'may', via: `[127.0.0.1]:${dead}` },
        { domain: '*', tls: 'may', via: `[127.0.0.1]:${host.port}` },
      ],
      queue: { retry: ['5m', '1h'] },
      intake: { messageSize: '150MB' },
      log: { level: 'warn' },
    },
  });
  try {
    const pid = pidWith(relay.config);
    const until = async (condition: () => boolean): Promise<void> => {
      const deadline = Date.now() + PATIENCE_MS;
      while (!condition()) {
        if (Date.now() > deadline) throw new Error(`waited in vain:\n${relay.output().slice(-4_000)}`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
    const fresh = async (name: string): Promise<number> => {
      const client = new Client(relay.port);
      await client.greet();
      const to = `${name}@good.test`;
      await client.send(to, ['Subject: fresh\r\n']);
      const sent = Date.now();
      client.end();
      await until(() => host.messages.some((message) => message.to === to));
      return (host.messages.find((message) => message.to === to)?.at ?? 0) - sent;
    };
    const median = async (name: string): Promise<number> => {
      const all: number[] = [];
      for (let at = 0; at < 9; at++) all.push(await fresh(`${name}${at}`));
      return all.toSorted((a, b) => a - b)[4] ?? 0;
    };

    const alone = await median('alone');
    const idle = memoryOf(pid).now;
    const begun = Date.now();
    await Promise.all(
      Array.from({ length: CLIENTS }, async () => {
        const client = new Client(relay.port);
        await client.greet();
        for (let at = 0; at < messages / CLIENTS; at++) {
          await client.send(`x${at}@dead.test`, [`Subject: waits\r\n\r\n${'hello '.repeat(300)}`]);
        }
        client.end();
      }),
    );
    const intakeRate = Math.round((messages * 1_000) / (Date.now() - begun));
    const behindThePile = await median('behind');
    const piled = memoryOf(pid).now;

    const client = new Client(relay.port);
    await client.greet();
    await client.send('long@good.test', longContent(longOctets));
    client.end();
    await until(() => host.messages.some(({ to }) => to === 'long@good.test'));
    const { most } = memoryOf(pid);
    const list = await relay.command('queue', 'list', '--json', '--domain', 'dead.test');
    return {
      memory: { idle, piled, most },
      fresh: { alone, behindThePile },
      intakeRate,
      queued: (JSON.parse(list.stdout) as unknown[]).length,
      delivered: host.messages.find(({ to }) => to === 'long@good.test')?.octets ?? 0,
    };
  } finally {
    await relay.stop();
    await host.close();
    await rm(folder, { recursive: true, force: true });
  }
}
