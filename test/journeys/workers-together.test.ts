/**
 * What an operator changes, and what is known of many messages, with two workers in one lab: exceptions, commands for the
 * queue, signatures and TLS reports are of the relay, whichever of its processes a message came to.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { send } from '../../lab/client.ts';
import type { Lab } from '../../lab/lab.ts';
import type { LogEvent } from '../../lab/relay.ts';
import { goodHost } from '../../lab/world.ts';
import { byMailauth } from '../support/dkim-verifiers.ts';
import { letDaysPass, type Office, openOffice, reportsTo, STRANGER } from './office.ts';
import { eventually } from './scripted.ts';
import { arrived, type Follower } from './support.ts';

const BOTH = new Set([1, 2]);

let office: Office;
let lab: Lab;
let relay: Follower;

beforeAll(async () => {
  office = await openOffice(
    [
      { ...goodHost('good.test'), reports: 'https' },
      { ...goodHost('mismatch.test', { tlsa: [STRANGER] }), reports: 'https' },
      goodHost('waiting.test', { tlsa: [STRANGER] }),
      goodHost('signed.test'),
    ],
    ({ port, web }) => ({
      workers: 2,
      clients: [{ name: 'legacy', networks: ['127.0.0.0/8'], tls: 'optional', senders: ['office.test'] }],
      // A session for each message, and no host that is left alone for having failed.
      delivery: { port, ca: web.ca, mtaStsPort: web.port, messagesPerConnection: 1 },
      queue: { retry: ['1h'] },
    }),
  );
  ({ lab, relay } = office);
  await relay.running.untilOutput(/"msg":"started"/);
});
afterAll(async () => office?.end());

const ended = (domain: string, event: LogEvent['event']): readonly LogEvent[] =>
  relay.running.events().filter((each) => each.domain === domain && each.event === event);

/** Numbers of the workers that told it. */
const workersOf = (events: readonly LogEvent[]): Set<unknown> =>
  new Set(events.map((event) => (event as LogEvent & { worker?: number }).worker));

/** So many letters to different people of a domain, over as many connections. */
async function write(domain: string, count: number): Promise<void> {
  for (let each = 0; each < count; each++) await relay.mail(`somebody-${each}@${domain}`);
}

const listed = async (...filter: string[]): Promise<readonly { state: string }[]> =>
  JSON.parse((await relay.running.command('queue', 'list', '--json', ...filter)).stdout);

test('both workers sign, with the same key, and their signatures hold', async () => {
  const { records } = office;
  for (let each = 0; each < 6; each++) {
    await send(relay.running, relay.running.client, {
      sender: 'alice@office.test',
      recipients: [`somebody-${each}@signed.test`],
      content: `From: <alice@office.test>\r\nSubject: ${each}\r\n\r\nHello.\r\n`,
    });
  }
  await eventually(() => ended('signed.test', 'delivered').length === 6, 'six deliveries');
  expect(workersOf(ended('signed.test', 'delivered'))).toEqual(BOTH);
  for (const { content } of arrived(lab, 'signed.test')) {
    expect(await byMailauth({ message: content, records })).toEqual(['rsa-sha256 office.test/s1 pass']);
  }
});

test('the operator’s commands reach mail of both: hold, release, retry, drop', async () => {
  await write('waiting.test', 6);
  await eventually(() => ended('waiting.test', 'deferred').length >= 6, 'six deferrals');
  const { running } = relay;
  expect(await listed()).toHaveLength(6);
  expect((await running.command('queue', 'hold', '--domain', 'waiting.test')).status).toBe(0);
  expect((await listed()).map(({ state }) => state)).toEqual(Array(6).fill('held'));
  const before = ended('waiting.test', 'deferred').length;
  expect((await running.command('queue', 'release', '--domain', 'waiting.test')).status).toBe(0);
  expect((await running.command('queue', 'retry', '--domain', 'waiting.test')).status).toBe(0);
  await eventually(() => ended('waiting.test', 'deferred').length >= before + 6, 'six more attempts');
  expect((await running.command('queue', 'drop', '--domain', 'waiting.test')).status).toBe(0);
  expect(await listed()).toEqual([]);
  expect(arrived(lab, 'waiting.test')).toEqual([]);
});

test('an exception counts in both from the next message on, until it is removed', async () => {
  await write('mismatch.test', 4);
  await eventually(() => ended('mismatch.test', 'deferred').length >= 4, 'four deferrals');
  const { running } = relay;
  const until = new Date(Date.now() + 5 * 86_400_000).toISOString().slice(0, 10);
  const words = ['--owner', 'Jan', '--reason', 'key renewed', '--until', until];
  const added = await running.command('exceptions', 'add', 'mismatch.test', ...words);
  expect(added).toMatchObject({ status: 0 });
  await write('mismatch.test', 6);
  await eventually(() => ended('mismatch.test', 'delivered').length >= 6, 'six deliveries');
  const delivered = ended('mismatch.test', 'delivered');
  expect(workersOf(delivered)).toEqual(BOTH);
  for (const { grant } of delivered) expect(grant).toMatchObject({ kind: 'exception', owner: 'Jan' });

  const [exception] = JSON.parse((await running.command('exceptions', 'list', '--json')).stdout) as { id: string }[];
  expect(await running.command('exceptions', 'remove', exception?.id ?? '')).toMatchObject({ status: 0 });
  expect((await running.command('queue', 'drop', '--domain', 'mismatch.test')).status).toBe(0);
  const sent = ended('mismatch.test', 'delivered').length;
  const put = ended('mismatch.test', 'deferred').length;
  await write('mismatch.test', 4);
  await eventually(() => ended('mismatch.test', 'deferred').length >= put + 4, 'four deferrals more');
  expect(workersOf(ended('mismatch.test', 'deferred').slice(put))).toEqual(BOTH);
  expect(ended('mismatch.test', 'delivered')).toHaveLength(sent);
});

test('RPT-04 what both have counted becomes one report for each domain, and one of them sends it', async () => {
  await write('good.test', 7);
  await eventually(() => ended('good.test', 'delivered').length === 7, 'seven deliveries');
  expect(workersOf(ended('good.test', 'delivered'))).toEqual(BOTH);
  const { running } = relay;
  await running.command('queue', 'drop', '--all');
  expect(await running.stop()).toBe(0);
  const failures = ended('mismatch.test', 'deferred').length;
  letDaysPass(running);

  const again = await running.again();
  try {
    await eventually(() => lab.tlsReports().length >= 2, 'two reports');
    await again.untilOutput(/TLS report sent/);
    // Both looked after midnight; one had something to send.
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const sums = (await reportsTo(lab)).map((report) => {
      const [policy] = report['policies'] as { policy: Record<string, string>; summary: Record<string, number> }[];
      const { summary } = policy ?? {};
      return `${policy?.policy['policy-domain']} ${summary?.['total-successful-session-count']}+${summary?.['total-failure-session-count']}`;
    });
    expect(sums).toHaveLength(2);
    expect(sums).toContain('mx.good.test 7+0');
    expect(sums.find((each) => each.startsWith('mx.mismatch.test'))).toMatch(/^mx\.mismatch\.test 0\+\d+$/);
    expect(failures).toBeGreaterThan(0);
    const senders = again.output().matchAll(/"worker":(\d)[^\n]*TLS report sent/g);
    expect(new Set([...senders].map(([, worker]) => worker))).toEqual(new Set(['1']));
  } finally {
    await again.stop();
  }
});
