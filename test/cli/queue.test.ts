import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { openSqliteStore } from '../../src/queue/sqlite.ts';
import type { Store } from '../../src/queue/store.ts';
import { DAY, message, waits } from '../queue/good-day.ts';
import { runQueue } from './queue-cli.ts';

/** The command works on the clock of the machine. */
const now = Date.now();
const terms = { expiresAt: now + 5 * DAY };

let root: string;
let store: Store;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'dane-relay-cli-queue-'));
  store = await openSqliteStore({ folder: join(root, 'queue'), mode: 'relay', reserveBytes: 0 });
});

afterAll(async () => {
  await store.close();
  rmSync(root, { recursive: true, force: true });
});

interface Run {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command in a process of its own. */
function queueProcess(args: readonly string[], folder: string): Promise<Run> {
  const script = new URL('./queue-cli.ts', import.meta.url).pathname;
  const env = { ...process.env, QUEUE_FOLDER: folder };
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [script, 'queue', ...args], { env }, (_, stdout, stderr) =>
      resolve({ status: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

/** The same in this process, which is ten times faster, with what it prints caught on its way out. */
async function queue(args: readonly string[]): Promise<Run> {
  const caught = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((stream) =>
    vi.spyOn(process[stream], 'write').mockImplementation((text) => {
      caught[stream] += String(text);
      return true;
    }),
  );
  try {
    await runQueue(join(root, 'queue'), ['node', 'dane-relay', 'queue', ...args]);
    return { status: Number(process.exitCode ?? 0), ...caught };
  } finally {
    for (const spy of spies) spy.mockRestore();
    process.exitCode = 0;
  }
}

/** ONE waits for piet after one try and for kees untried, TWO for piet and is held. The relay has them open. */
beforeEach(async () => {
  await store.drop({}, now + 1_000 * DAY);
  await store.accept(message({ id: 'ONE', receivedAt: now, to: ['piet@x.example', 'kees@y.example'] }), terms);
  await store.accept(message({ id: 'TWO', receivedAt: now, to: ['piet@x.example'], sender: '' }), terms);
  await store.hold({ ids: ['TWO'] }, now);
  const request = {
    owner: 'relay',
    now,
    leaseMs: DAY,
    limit: 1,
    limitAgain: 1,
    perDomain: 1,
    taken: new Map([['y.example', 1]]),
  };
  const [claim] = await store.claim(request);
  const explanation = 'No connection to the mail host: it said \u001b[2Jboo.';
  const end = { ...waits(claim?.batch.recipients[0].id ?? 0, now + DAY), explanation };
  await store.settle(claim?.lease ?? '', [end], []);
});

describe('queue list', () => {
  test('--json prints exactly what the contract says, while the relay has the queue open', async () => {
    const { status, stdout } = await queueProcess(['list', '--json'], join(root, 'queue'));
    expect(status).toBe(0);
    const entries = JSON.parse(stdout) as readonly object[];
    expect(entries).toHaveLength(3);
    expect(entries[0]).toEqual({
      queueId: 'ONE',
      sender: 'jan@rijk.example',
      recipient: 'piet@x.example',
      domain: 'x.example',
      state: 'waiting',
      code: 'connect-failed',
      status: '4.4.1',
      explanation: 'No connection to the mail host: it said \u001b[2Jboo.',
      host: 'mx1.gemeente.example',
      attempts: 1,
      receivedAt: new Date(now).toISOString(),
      nextAttempt: new Date(now + DAY).toISOString(),
      expiresAt: new Date(terms.expiresAt).toISOString(),
      size: 29,
    });
    expect(entries.slice(1)).toMatchObject([
      { queueId: 'ONE', recipient: 'kees@y.example', code: 'not-tried-yet', host: null },
      { queueId: 'TWO', sender: '', state: 'held' },
    ]);
  });

  test('the text is a table for people', async () => {
    const { status, stdout } = await queue(['list']);
    expect(status).toBe(0);
    const [head = '', ...lines] = stdout.trimEnd().split('\n');
    expect(head).toMatch(/^QUEUE ID {2}STATE {4}SIZE +TRIES {2}NEXT TRY \(UTC\) {4}RECIPIENT +REASON$/);
    expect(lines[0]).toMatch(/^ONE +waiting +29 B +1 +20\d\d-\d\d-\d\d \d\d:\d\d +piet@x\.example +connect-failed$/);
    expect(lines[2]).toMatch(/^TWO +held +29 B +0 +- +piet@x\.example +not-tried-yet$/);
    expect(lines.at(-1)).toContain('3 recipients in 2 messages');
  });

  test.each([
    ['by domain, in any form', ['--domain', 'X.Example.'], 0, 2],
    ['by recipient', ['--recipient', 'PIET@x.EXAMPLE'], 0, 2],
    ['by code', ['--code', 'connect-failed'], 0, 1],
    ['by id and code', ['TWO', '--code', 'connect-failed'], 1, 0],
    ['by an id that is not there', ['NONE'], 1, 0],
  ])('filters %s; 1 when nothing matched', async (_, filter, status, found) => {
    const run = await queue(['list', '--json', ...filter]);
    expect(run.status).toBe(status);
    expect(JSON.parse(run.stdout)).toHaveLength(found);
  });
});

describe('queue show', () => {
  test('tells one message, without letting the words of a host steer the terminal', async () => {
    const { status, stdout } = await queue(['show', 'ONE']);
    expect(status).toBe(0);
    expect(stdout).toContain('<jan@rijk.example> by way of exchange');
    expect(stdout).toContain('connect-failed (4.4.1)');
    expect(stdout).toContain('it said  [2Jboo.');
    expect(stdout).not.toContain('\u001b');
  });

  test('--json has the facts of the message and its recipients; 1 for a message that is not there', async () => {
    const { status, stdout } = await queue(['show', 'ONE', '--json']);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      queueId: 'ONE',
      client: 'exchange',
      receivedAt: new Date(now).toISOString(),
      envelope: { sender: 'jan@rijk.example', body: '7bit' },
      recipients: [{ recipient: 'piet@x.example', notify: null }, { recipient: 'kees@y.example' }],
    });
    const missing = await queue(['show', 'NONE', '--json']);
    expect(missing).toMatchObject({ status: 1, stdout: '' });
    expect(missing.stderr).toContain('no message NONE');
  });
});

describe('queue retry, hold, release and drop', () => {
  test('TXN-07 retry makes mail due now and leaves held mail alone', async () => {
    const { status, stdout } = await queue(['retry', '--domain', 'x.example', '--json']);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ changed: 1, delivering: 0, held: 1 });
    const [entry] = await store.list({ ids: ['ONE'], domain: 'x.example' }, now);
    expect(entry?.nextAttempt).toBeLessThan(now + DAY / 2);
  });

  test('hold, release and drop do what they say, and say it', async () => {
    expect(await queue(['hold', 'ONE'])).toMatchObject({ status: 0, stdout: '2 recipients held.\n' });
    expect((await store.list({}, now)).map(({ state }) => state)).toEqual(['held', 'held', 'held']);
    expect(await queue(['release', '--all'])).toMatchObject({ status: 0, stdout: '3 recipients released.\n' });
    expect(await queue(['drop', '--code', 'connect-failed'])).toMatchObject({ stdout: '1 recipient removed.\n' });
    expect((await store.list({}, now)).map(({ queueId }) => queueId)).toEqual(['ONE', 'TWO']);
  });

  test.each(['retry', 'hold', 'release', 'drop'])(
    '%s without anything named is wrong usage and does nothing',
    async (action) => {
      const { status, stdout, stderr } = await queue([action]);
      expect(status).toBe(2);
      expect(stdout).toBe('');
      expect(stderr).toContain('--all');
      expect((await store.list({}, now)).map(({ state }) => state)).toEqual(['waiting', 'waiting', 'held']);
    },
  );

  test('1 when nothing matched', async () => {
    expect(await queue(['drop', 'NONE'])).toMatchObject({ status: 1, stdout: '0 recipients removed.\n' });
  });
});

describe('wrong usage', () => {
  test.each([
    ['a code that is not in the table', ['list', '--code', 'tlsa-mismatched'], 2, 'no such code'],
    ['something that is no domain', ['list', '--domain', 'a b'], 2, 'no domain name'],
    ['something that is no address', ['list', '--recipient', 'piet'], 2, 'no mail address'],
    ['an option that is not there', ['list', '--domian', 'x'], 2, '--domian'],
    ['show without an id', ['show'], 2, 'id'],
    ['a configuration with mistakes', ['list', '--config', 'wrong.yaml'], 2, 'wrong.yaml:1:1'],
  ])('%s', async (_, args, status, words) => {
    const run = await queue(args);
    expect(run).toMatchObject({ status, stdout: '' });
    expect(run.stderr).toContain(words);
  });

  test('no queue: 3, and none is made', async () => {
    const folder = join(root, 'nowhere');
    const { status, stderr } = await queueProcess(['list'], folder);
    expect(status).toBe(3);
    expect(stderr).toContain('there is no queue');
    expect(existsSync(folder)).toBe(false);
  });
});
