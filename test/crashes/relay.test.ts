/**
 * A 250 is kept through SIGKILL. The whole relay runs as a child in a small lab, takes mail from several clients at
 * once, and is killed again and again at random moments while it takes and delivers. Everything that a client heard a
 * 250 for must arrive, whole; copies may be doubled, and are counted.
 */
import { randomInt } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { send } from '../../lab/client.ts';
import { type Lab, startLab } from '../../lab/lab.ts';
import { type RunningRelay, startRelay } from '../../lab/relay.ts';
import { WORLD } from '../../lab/world.ts';

const ROUNDS = 8;
const CLIENTS = 4;
/** Larger than what is kept in memory: goes through files. */
const LARGE = 400 * 1024;

let lab: Lab;
let folder: string;
let relay: RunningRelay | undefined;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dane-crash-'));
  const destinations = WORLD.filter(({ domain }) => ['dane-ee.test', 'no-tlsa.test', 'office.test'].includes(domain));
  lab = await startLab({ world: destinations });
});

afterAll(async () => {
  await relay?.stop();
  await lab?.stop();
  await rm(folder, { recursive: true, force: true });
});

test('TXN-08 killed at random moments, the relay delivers everything that it said 250 to, whole', async () => {
  const promised = new Map<string, { recipients: readonly string[]; octets: number }>();
  relay = await startRelay({ lab, dir: folder, config: { queue: { retry: ['1s'] } } });
  for (let round = 0; round < ROUNDS; round++) {
    const living: RunningRelay = relay;
    let killed = false;
    const clients = Array.from({ length: CLIENTS }, async (_, client) => {
      for (let number = 0; !killed; number++) {
        const name = `round-${round}-client-${client}-number-${number}`;
        const recipients = number % 2 === 0 ? ['bob@dane-ee.test'] : ['eve@dane-ee.test', 'bob@no-tlsa.test'];
        const content = letter(name, number % 5 === 4 ? LARGE : 2_000);
        try {
          await send(living, living.client, { sender: 'alice@office.test', recipients, content });
          promised.set(name, { recipients, octets: content.length });
        } catch {
          // Killed meanwhile, or about to be: nothing was promised.
          return;
        }
      }
    });
    await new Promise((resolve) => setTimeout(resolve, randomInt(150, 700)));
    await living.kill();
    killed = true;
    await Promise.all(clients);
    relay = await living.again();
  }
  expect(promised.size).toBeGreaterThan(ROUNDS);

  const arrived = (): Map<string, number> => {
    const copies = new Map<string, number>();
    for (const { content, recipients } of lab.mailboxes()) {
      const name = /^Subject: (\S+)/m.exec(content.toString('latin1'))?.[1] ?? '';
      for (const recipient of recipients)
        copies.set(`${name} ${recipient}`, (copies.get(`${name} ${recipient}`) ?? 0) + 1);
    }
    return copies;
  };
  const owed = [...promised].flatMap(([name, { recipients }]) => recipients.map((recipient) => `${name} ${recipient}`));
  const missing = (): string[] => {
    const copies = arrived();
    return owed.filter((each) => !copies.has(each));
  };
  const deadline = Date.now() + 45_000;
  while (missing().length > 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 100));
  expect(missing()).toEqual([]);

  const broken = lab.mailboxes().filter(({ content }) => !content.toString('latin1').endsWith('-- the end\r\n'));
  expect(broken).toEqual([]);

  await expect
    .poll(async () => (await relay?.command('queue', 'list', '--json'))?.stdout.trim(), { timeout: 30_000 })
    .toBe('[]');
  const left = await readdir(join(folder, 'state'), { recursive: true, withFileTypes: true });
  expect(left.filter((entry) => entry.isFile() && entry.name.endsWith('.eml'))).toEqual([]);

  const doubled = [...arrived()].filter(([each, copies]) => owed.includes(each) && copies > 1).length;
  console.info(`${owed.length} copies owed after ${ROUNDS} kills, ${doubled} of them arrived more than once`);
});

function letter(name: string, octets: number): string {
  const head = `From: alice@office.test\r\nTo: you\r\nSubject: ${name}\r\n\r\n`;
  const line = `${'0123456789'.repeat(7)}\r\n`;
  return `${head}${line.repeat(Math.ceil(octets / line.length))}-- the end\r\n`;
}
