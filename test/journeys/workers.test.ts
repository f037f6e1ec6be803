/**
 * Several workers behind one set of ports: what one process promises, all of them promise together, and the death of
 * one of them costs a moment and no mail.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, onTestFinished, test } from 'vitest';
import { childrenOf, monitoring, openRelayScene, type RelayScene, until } from '../support/relay-scene.ts';
import type { SmtpClient } from '../support/smtp-client.ts';
import { writeLetters } from '../support/steady-letters.ts';

let scene: RelayScene;
afterEach(async () => scene?.end());

/** A relay that has started: before that it takes mail, and whoever starts first delivers it. */
async function several(...about: Parameters<typeof openRelayScene>): Promise<RelayScene> {
  const opened = await openRelayScene(...about);
  await opened.relay.untilOutput(/"msg":"started"/);
  return opened;
}

const BODY = 'Subject: x\r\n\r\nHello.\r\n';

/** Numbers of the workers that have said something that fits. */
function workersThatSaid(fits: RegExp): Set<number> {
  const lines = scene.relay
    .output()
    .split('\n')
    .filter((line) => fits.test(line));
  return new Set(lines.flatMap((line) => (JSON.parse(line) as { worker?: number }).worker ?? []));
}

/** So many conversations, which are given to the workers by turns. */
async function clients(count: number): Promise<SmtpClient[]> {
  const all: SmtpClient[] = [];
  for (let each = 0; each < count; each++) all.push(await scene.greeted());
  return all;
}

async function reconfigure(change: object): Promise<void> {
  const before = JSON.parse(await readFile(scene.relay.config, 'utf8')) as object;
  await writeFile(scene.relay.config, JSON.stringify({ ...before, ...change }));
}

describe('two workers', () => {
  test('both take and deliver mail; log, health and metrics speak for both; all of them end with the relay', async () => {
    scene = await several({ workers: 2 });
    const children = await childrenOf(scene.relay.pid);
    expect(children).toHaveLength(2);
    for (const [number, client] of (await clients(4)).entries()) {
      expect(await client.send('a@in.test', [`b${number}@out.test`], BODY)).toMatchObject({ code: 250 });
    }
    await until(() => scene.host.messages.length === 4);
    await until(() => scene.relay.events().filter(({ event }) => event === 'delivered').length === 4);
    expect(workersThatSaid(/"event":"accepted"/)).toEqual(new Set([1, 2]));
    expect(workersThatSaid(/"event":"delivered"/)).toEqual(new Set([1, 2]));
    await until(async () => (await monitoring(scene, '/healthz')).text.includes('"idle":true'));
    expect(JSON.parse((await monitoring(scene, '/healthz')).text)).toEqual({ status: 'ok', idle: true, workers: 2 });
    const { text } = await monitoring(scene, '/metrics');
    expect(text).toMatch(/dane_relay_mail_events_total\{event="accepted",code="[\w-]+"\} 4\n/);
    expect(text).toMatch(/dane_relay_queue_recipients\{state="waiting"\} 0\n/);

    // What a service manager and a terminal do: everybody is told.
    for (const pid of children) process.kill(pid, 'SIGTERM');
    expect(await scene.relay.stop()).toBe(0);
    for (const pid of children) expect(() => process.kill(pid, 0)).toThrow('ESRCH');
  });

  test('TXN-08 one of them killed again and again under load: all that was accepted arrives, doubled only where it was under way', async () => {
    scene = await several({ workers: 2, delivery: { messagesPerConnection: 5 } });
    const letters = writeLetters(scene, 8);
    const { accepted } = letters;
    for (let kill = 0; kill < 3; kill++) {
      const before = accepted.size;
      await until(() => accepted.size > before + 30);
      const pids = await childrenOf(scene.relay.pid);
      process.kill(pids[kill % pids.length] ?? 0, 'SIGKILL');
      await until(async () => JSON.parse((await monitoring(scene, '/healthz')).text).workers < 2);
      await until(async () => JSON.parse((await monitoring(scene, '/healthz')).text).workers === 2);
    }
    await letters.stop();
    const arrivals = await letters.arrivals();
    const doubled = arrivals.length - new Set(arrivals).size;
    expect(doubled).toBeLessThanOrEqual(3 * 20);
    console.info(`${accepted.size} promised, ${new Set(arrivals).size} arrived, ${doubled} of them twice`);
    expect(scene.relay.output()).toMatch(/"worker":\d,"how":"SIGKILL".*"a worker died and is started again"/);
    expect(await scene.relay.stop()).toBe(0);
  });

  test('what a dead worker was delivering is taken over at once by the other', async () => {
    scene = await several({ workers: 2 }, { final: 'hang' });
    const [client] = await clients(1);
    expect(await client?.send('a@in.test', ['b@out.test'], BODY)).toMatchObject({ code: 250 });
    await until(() => scene.host.conversations.some(({ messages }) => messages.length > 0));
    const [number = 0] = workersThatSaid(/"event":"accepted"/);
    scene.host.change({ final: undefined });
    const pids = await childrenOf(scene.relay.pid);
    process.kill(pids[number - 1] ?? 0, 'SIGKILL');
    await scene.relay.untilEvent(({ event }) => event === 'delivered');
    await scene.relay.untilOutput(/took over what a worker had left/);
  });

  test('what was being delivered when all of them were killed goes out at once, also with other workers than before', async () => {
    scene = await several({ workers: 3 }, { final: 'hang' });
    for (const client of await clients(3)) {
      expect(await client.send('a@in.test', ['b@out.test'], BODY)).toMatchObject({ code: 250 });
    }
    await until(() => scene.host.conversations.filter(({ messages }) => messages.length > 0).length === 3);
    await scene.relay.kill();
    scene.host.change({ final: undefined });
    await reconfigure({ workers: 1 });
    const again = await scene.relay.again();
    expect(await childrenOf(again.pid)).toEqual([]);
    await until(() => again.events().filter(({ event }) => event === 'delivered').length === 3);
    expect(again.output()).toMatch(/"leases":3,/);
    await again.stop();
  });

  test('SIGTERM in the middle of traffic: status 0, nothing is lost, nothing is doubled, and the rest goes out after the next start', async () => {
    scene = await several({ workers: 2, delivery: { messagesPerConnection: 5 } });
    const accepted = new Set<string>();
    let stop = false;
    onTestFinished(() => {
      stop = true;
    });
    const send = async (_: unknown, index: number): Promise<void> => {
      try {
        const client = await scene.greeted();
        for (let number = 0; !stop; number++) {
          const name = `letter-${index}-${number}`;
          const reply = await client.send('a@in.test', ['b@out.test'], `Subject: ${name}\r\n\r\nx\r\n`);
          if (reply.code !== 250) return;
          accepted.add(name);
        }
      } catch {
        // The relay has ended the conversation.
      }
    };
    const senders = Array.from({ length: 6 }, send);
    await until(() => accepted.size > 200);
    const { ended, pid } = scene.relay;
    const children = await childrenOf(pid);
    // As a service manager does: all of them.
    for (const each of [pid, ...children]) process.kill(each, 'SIGTERM');
    expect(await ended).toBe(0);
    await Promise.all(senders);
    const again = await scene.relay.again();
    try {
      const arrivals = (): string[] =>
        scene.host.messages.map(({ content }) => /letter-\d+-\d+/.exec(content.toString())?.[0] ?? '');
      await until(() => [...accepted].every((name) => arrivals().includes(name)));
      await until(async () => (await again.command('queue', 'list', '--json')).stdout.trim() === '[]');
      expect(arrivals()).toHaveLength(new Set(arrivals()).size);
      expect(await again.stop()).toBe(0);
    } finally {
      await again.stop();
    }
  });

  test('a second relay is refused, and disturbs nothing', async () => {
    scene = await several({ workers: 2 });
    const [client] = await clients(1);
    await client?.say('MAIL FROM:<a@in.test>', 'RCPT TO:<b@out.test>', 'DATA');
    client?.raw(`${'x'.repeat(76)}\r\n`.repeat(8_000));
    const other = await scene.relay.command('run');
    expect(other.status).toBe(3);
    expect(other.stderr).toContain('another relay works in');
    client?.raw('.\r\n');
    expect(await client?.reply()).toMatchObject({ code: 250 });
    await until(() => scene.host.messages.length === 1);
  });

  test('a new configuration is taken by all of them or by none', async () => {
    scene = await several({ workers: 2 });
    const open = await clients(2);
    const before = await readFile(scene.relay.config, 'utf8');
    const broken = join(scene.relay.config, '..', 'broken.pem');
    await writeFile(broken, 'no certificate\n');
    await reconfigure({ clients: [], certificate: { cert: broken, key: broken } });
    expect((await scene.relay.command('reload')).status).toBe(2);
    for (const client of open)
      expect(await client.say('MAIL FROM:<a@in.test>', 'RSET')).toMatchObject([{ code: 250 }, {}]);

    await writeFile(scene.relay.config, before);
    await reconfigure({ clients: [] });
    expect((await scene.relay.command('reload')).status).toBe(0);
    for (const client of open) expect(await client.one('MAIL FROM:<a@in.test>')).toMatchObject({ code: 554 });

    // Also by one that is started later.
    const [pid = 0] = await childrenOf(scene.relay.pid);
    process.kill(pid, 'SIGKILL');
    await scene.relay.untilOutput(/a worker was started again/);
    await reconfigure(JSON.parse(before));
    expect((await scene.relay.command('reload')).status).toBe(0);
    for (const client of await clients(4))
      expect(await client.one('MAIL FROM:<a@in.test>')).toMatchObject({ code: 250 });
  });
});

describe('limits hold for both together', () => {
  test('connections of one client, also after a worker has died with some', async () => {
    scene = await several({ workers: 2, intake: { connectionsPerClient: 3 } });
    const open = await clients(3);
    await expect(clients(1)).rejects.toThrow();
    expect(scene.relay.events().some(({ code }) => code === 'too-many-connections')).toBe(true);
    expect(await open[0]?.one('QUIT')).toMatchObject({ code: 221 });
    await until(() => clients(1).then(Boolean, () => false));

    const [pid = 0] = await childrenOf(scene.relay.pid);
    process.kill(pid, 'SIGKILL');
    await until(() => clients(1).then(Boolean, () => false));
  });

  test('messages of a client with a rate', async () => {
    scene = await several({
      workers: 2,
      clients: [{ name: 'hasty', networks: ['127.0.0.0/8'], tls: 'optional', rate: '5/h' }],
    });
    const codes: number[] = [];
    for (const client of await clients(4)) {
      const replies = await client.say('MAIL FROM:<a@in.test>', 'RSET', 'MAIL FROM:<a@in.test>', 'RSET');
      codes.push(...[replies[0], replies[2]].map((reply) => reply?.code ?? 0));
    }
    expect(codes).toEqual([250, 250, 250, 250, 250, 450, 450, 450]);
  });

  test('connections to one mail host, and no worker goes without', async () => {
    scene = await several({ workers: 2, delivery: { connectionsPerHost: 2 } });
    const most = await mostAtOnce(60, isOpen);
    expect(most).toBeLessThanOrEqual(2);
    expect(workersThatSaid(/"event":"delivered"/)).toEqual(new Set([1, 2]));
  });

  test('connections of a destination', async () => {
    scene = await several({ workers: 2 });
    const via = `[${scene.host.address}]:${scene.host.port}`;
    await reconfigure({ destinations: [{ domain: '*', tls: 'encrypt', via, connections: 1 }] });
    expect((await scene.relay.command('reload')).status).toBe(0);
    expect(await mostAtOnce(20, isAtWork)).toBe(1);
  });

  test('rate of a destination', async () => {
    scene = await several({ workers: 2 });
    const via = `[${scene.host.address}]:${scene.host.port}`;
    await reconfigure({ destinations: [{ domain: '*', tls: 'encrypt', via, rate: '7/h' }] });
    expect((await scene.relay.command('reload')).status).toBe(0);
    await hand(20);
    await until(() => scene.host.messages.length >= 7);
    // Several claims later still nothing more.
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect(scene.host.messages).toHaveLength(7);
  });
});

/** Hands in so many messages over four conversations. */
async function hand(count: number): Promise<void> {
  const open = await clients(4);
  await Promise.all(
    open.map(async (client) => {
      for (let each = 0; each < count / open.length; each++) {
        expect(await client.send('a@in.test', ['b@out.test'], BODY)).toMatchObject({ code: 250 });
      }
    }),
  );
}

type Conversation = RelayScene['host']['conversations'][number];

const isOpen = ({ commands, ended }: Conversation): boolean =>
  !ended && commands.length > 0 && !commands.some((command) => /^QUIT/i.test(command));
const isAtWork = ({ commands, ended, messages }: Conversation): boolean =>
  !ended && commands.filter((command) => /^MAIL/i.test(command)).length > messages.length;

/** Hands in so many messages, and tells how many conversations of a kind the mail host has had at once. */
async function mostAtOnce(count: number, kind: (conversation: Conversation) => boolean): Promise<number> {
  let most = 0;
  const look = setInterval(() => {
    most = Math.max(most, scene.host.conversations.filter(kind).length);
  }, 1);
  await hand(count);
  await until(() => scene.host.messages.length >= count);
  clearInterval(look);
  return most;
}
