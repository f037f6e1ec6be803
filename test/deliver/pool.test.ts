import { expect, test } from 'vitest';
import { pinOf } from '../../lab/certificates.ts';
import { keyOf } from '../../src/deliver/deliverer.ts';
import type { PoolLimits } from '../../src/deliver/pool.ts';
import type { HostOptions, Say } from '../support/smtp-host.ts';
import { dane, encrypt, may, other, own, type Policy, recordFor, type Scene, scene, soon, told } from './scene.ts';

const delivered = 'delivered 2.0.0 remote-accepted';
const kept = (host: HostOptions = {}, pool: Partial<PoolLimits> = {}): Promise<Scene> =>
  scene({ host, deliverer: { pool: { idleMs: 60_000, ...pool } } });

test('CONN-13 a second message under the same policy goes over the same connection, after RSET', async () => {
  const { deliver, host } = await kept();
  const visits = [await deliver(), await deliver(), await deliver()];
  expect(visits.map(told)).toEqual([delivered, delivered, delivered]);
  expect(new Set(visits.map(({ connection }) => connection.verdict))).toEqual(new Set(['authenticated']));
  expect(host.conversations).toHaveLength(1);
  expect(host.story.match(/RSET/g)).toHaveLength(2);
});

const pinned: Extract<Policy, { kind: 'pin' }> = {
  kind: 'pin',
  code: 'rule-pin',
  sni: 'mx.example.test',
  pins: [pinOf(own)],
  dane: null,
};

test('CONN-13 CONN-14 a connection is never used for another proof than it was made for', async () => {
  const { deliver, host, request } = await kept();
  const sameKeyOtherName = { ...request.host, name: 'other.example.test' };
  const changes = [
    {},
    { policy: encrypt },
    { policy: may },
    { policy: { ...may, code: 'mx-insecure' as const } },
    { policy: { ...dane, wholePath: false } },
    { policy: { ...dane, sni: 'other.example.test' } },
    { policy: { ...dane, referenceNames: ['mx.example.test', 'second.example'] } },
    { policy: { ...dane, records: [...dane.records, recordFor(other)] } },
    { host: sameKeyOtherName },
    { policy: pinned },
    { policy: { ...pinned, pins: [...pinned.pins, 'sha256/another'] } },
    { policy: { ...pinned, dane } },
  ];
  for (const change of changes) expect(told(await deliver(change))).toBe(delivered);
  expect(host.conversations).toHaveLength(changes.length);
  expect(new Set(changes.map((change) => keyOf({ ...request, ...change }, ''))).size).toBe(changes.length);
  for (const change of changes) await deliver(change);
  expect(host.conversations).toHaveLength(changes.length);
});

test('CONN-13 records are told apart by where they end', () => {
  const target = {
    nextHop: { kind: 'host', host: 'a', port: 25 },
    host: { name: 'a', preference: 0, unusable: null },
    address: '::1',
    port: 25,
  } as const;
  const record = (data: number[]) => ({ usage: 3, selector: 1, matching: 0, data: Buffer.from(data) });
  const one = keyOf({ ...target, policy: { ...dane, records: [record([1, 3, 1, 0, 0, 0, 1, 9])] } }, '');
  const two = keyOf({ ...target, policy: { ...dane, records: [record([1]), record([9])] } }, '');
  expect(one).not.toBe(two);
});

test('CONN-13 a proof that has failed since is not inherited: other records, other verdict', async () => {
  const { deliver, host } = await kept();
  expect(told(await deliver())).toBe(delivered);
  expect(told(await deliver({ policy: { ...dane, records: [recordFor(other)] } }))).toBe('useless tlsa-mismatch');
  expect(host.messages).toHaveLength(1);
});

/** Says something while the connection is idle, and waits until it is gone. */
const interject =
  (say: Say) =>
  async ({ host }: Scene): Promise<void> => {
    host.interject(say);
    await expect.poll(() => host.conversations[0]?.ended).toBe(true);
  };

test.each<[string, (at: Scene) => void | Promise<void>]>([
  ['was closed by the host', interject({ close: '' })],
  ['was closed with 421', interject('421 4.4.2 idle for too long')],
  ['was told something unasked', interject('250 hello?')],
  ['refuses RSET', ({ host }) => host.change({ rset: '500 what' })],
  ['answers RSET with 421', ({ host }) => host.change({ rset: '421 bye' })],
  ['is cut at RSET', ({ host }) => host.change({ rset: 'reset' })],
])('a kept connection that %s is replaced without a word', async (_, spoil) => {
  for (const extensions of [['PIPELINING'], []]) {
    const at = await kept({ extensions });
    expect(told(await at.deliver())).toBe(delivered);
    await spoil(at);
    expect(told(await at.deliver())).toBe(delivered);
    expect(at.host.conversations).toHaveLength(2);
    expect(at.host.messages).toHaveLength(2);
  }
});

test('replies that cannot be matched to commands bind nobody: one reply too many, early', async () => {
  const rcpt = (address: string): string => (address.startsWith('a') ? '550 5.1.1 no' : '250 ok');
  const recipients = ['a@example.test', 'b@example.test', 'c@example.test'];
  for (const extensions of [['PIPELINING'], []]) {
    const { deliver, host } = await scene({ host: { extensions, rcpt }, recipients });
    expect(told(await deliver())).toContain('bounced 5.1.1 remote-refused, delivered');
    host.change({ rset: '250 ok\r\n250 ok' });
    expect(told(await deliver())).toMatch(/^(useless remote-garbage|bounced 5.1.1 remote-refused, delivered [^b]*)$/);
    expect(host.messages.every(({ rcpt: taken }) => !taken.join().includes('<a@'))).toBe(true);
  }
});

test('a kept connection that dies at MAIL is replaced once, then the host has failed', async () => {
  const { deliver, host } = await kept();
  await deliver();
  host.change({ mail: { close: '' } });
  expect(told(await deliver())).toBe('useless connection-lost');
  expect(host.conversations).toHaveLength(2);
});

test('a kept connection that dies at its greeting-like silence is replaced after its time', async () => {
  const at = await scene({ deliverer: { timeouts: { rset: soon } } });
  await at.deliver();
  at.host.change({ rset: 'hang' });
  expect(told(await at.deliver())).toBe(delivered);
  expect(at.host.conversations).toHaveLength(2);
});

test('TXN-04 a kept connection that dies after the final dot is not replaced: the message may have arrived', async () => {
  const { deliver, host } = await kept();
  await deliver();
  host.change({ final: { close: '' } });
  expect(told(await deliver())).toBe('deferred 4.4.2 connection-lost');
  expect(host.conversations).toHaveLength(1);
});

test('a connection ends after its number of messages, with QUIT', async () => {
  const { deliver, host } = await kept({}, { messagesPerConnection: 2 });
  for (let message = 0; message < 5; message++) expect(told(await deliver())).toBe(delivered);
  expect(host.conversations.map(({ messages }) => messages.length)).toEqual([2, 2, 1]);
  await expect.poll(() => host.conversations[0]?.commands.at(-1)).toBe('QUIT');
});

test('a connection without work is ended with QUIT', async () => {
  const { deliver, host } = await kept({}, { idleMs: 20 });
  await deliver();
  await expect.poll(() => host.conversations[0]).toMatchObject({ ended: true });
  expect(host.story).toMatch(/QUIT$/);
});

test('no more connections to one host than allowed, and everybody gets through', async () => {
  const { deliver, host } = await kept({}, { perHost: 3 });
  const visits = await Promise.all(Array.from({ length: 18 }, () => deliver()));
  expect(visits.map(told)).toEqual(new Array(18).fill(delivered));
  expect(host.conversations.length).toBeLessThanOrEqual(3);
});

test('a busy host does not hold up another', async () => {
  const slow = await kept({ greeting: 'hang' }, { perHost: 1 });
  const fast = await scene();
  const waiting = [slow.deliver(), slow.deliver(), slow.deliver()];
  const { address, port } = fast.request;
  expect(told(await slow.deliver({ address, port }))).toBe(delivered);
  await slow.deliverer.close();
  expect((await Promise.all(waiting)).map(told)).toEqual(new Array(3).fill('useless shutting-down'));
});

test('a host for which too many wait is called busy at once, and others are not: a slow host does not fill all hands', async () => {
  const slow = await kept({ greeting: 'hang' }, { perHost: 1 });
  const fast = await scene();
  const waiting = Array.from({ length: 6 }, () => slow.deliver());
  const more = await Promise.all([slow.deliver(), slow.deliver()]);
  expect(more.map(told)).toEqual(new Array(2).fill('useless host-busy'));
  const { address, port } = fast.request;
  expect(told(await slow.deliver({ address, port }))).toBe(delivered);
  await slow.deliverer.close();
  expect((await Promise.all(waiting)).map(told)).toEqual(new Array(6).fill('useless shutting-down'));
});

test('no more connections in total than allowed: what is idle gives way', async () => {
  const one = await kept({}, { total: 1 });
  const two = await scene();
  const { address, port } = two.request;
  for (let round = 0; round < 3; round++) {
    expect(told(await one.deliver())).toBe(delivered);
    expect(told(await one.deliver({ address, port }))).toBe(delivered);
  }
  await expect.poll(() => one.host.conversations.map(({ ended }) => ended)).toEqual([true, true, true]);
});

test('all places taken: messages go on over the connection that is there, and nobody waits long for that', async () => {
  const plain = { host: { tls: null }, policy: may };
  const one = await scene({ ...plain, deliverer: { pool: { total: 1, idleMs: 60_000 } } });
  const two = await scene(plain);
  const { address, port } = two.request;
  const ends: string[] = [];
  const start = (name: string, visit: ReturnType<Scene['deliver']>): Promise<unknown> =>
    visit.then((end) => ends.push(`${name} ${told(end)}`));
  const quick = [
    start('one', one.deliver()),
    start('two', one.deliver({ address, port })),
    start('one', one.deliver()),
  ];
  await Promise.all(quick);
  expect(ends).toEqual([`one ${delivered}`, `one ${delivered}`, `two ${delivered}`]);
  expect(one.host.conversations).toHaveLength(1);

  one.host.change({ paceMs: 60 });
  ends.length = 0;
  const many = async (): Promise<void> => {
    for (let message = 0; message < 8; message++) await start('one', one.deliver());
  };
  await Promise.all([many(), start('two', one.deliver({ address, port })), many()]);
  const turn = ends.indexOf(`two ${delivered}`);
  expect(turn).toBeGreaterThan(0);
  expect(turn).toBeLessThan(ends.length - 1);
  expect(ends.filter((end) => end === `one ${delivered}`)).toHaveLength(16);
});

test('close ends what is idle, cuts what is busy, and that message waits', async () => {
  const idle = await kept();
  await idle.deliver();
  const busy = await scene({ host: { data: 'hang' } });
  const { address, port } = busy.request;
  const visit = idle.deliver({ address, port });
  await expect.poll(() => busy.host.story).toContain('DATA');
  await idle.deliverer.close();
  expect(told(await visit)).toBe('useless shutting-down');
  await expect
    .poll(() => [...idle.host.conversations, ...busy.host.conversations].every(({ ended }) => ended))
    .toBe(true);
  expect(told(await idle.deliver())).toBe('useless shutting-down');
  expect(idle.host.conversations).toHaveLength(1);
});

test('close in the middle of the last reply: the message waits, and may have arrived', async () => {
  const { deliver, deliverer, host } = await scene({ host: { final: 'hang' } });
  const visit = deliver();
  await expect.poll(() => host.messages.length).toBe(1);
  await deliverer.close();
  expect(told(await visit)).toBe('deferred 4.3.2 shutting-down');
});
