/**
 * Messages that follow each other on one connection: the commands of the next one go out with the final dot of the one
 * before (RFC 2920 §3.1). What the host says to one message counts for that message alone, wherever it ends.
 */
import { describe, expect, test } from 'vitest';
import type { Visit } from '../../src/model/delivery.ts';
import type { StoredBody } from '../../src/model/message.ts';
import type { HostOptions } from '../support/smtp-host.ts';
import { cutterBefore } from './cutter.ts';
import { type Changes, dane, may, type Policy, type Scene, scene, soon, told } from './scene.ts';

const delivered = 'delivered 2.0.0 remote-accepted';
const PLAIN: HostOptions = { tls: null };

/** The message of which this is the MAIL command. */
const idIn = (mail: string): string => /<(\w+)@/.exec(mail)?.[1] ?? '';
const contentOf = (id: string): Buffer => Buffer.from(`Subject: ${id}\r\n\r\nNOOP\r\nRSET\r\nThe message ${id}.\r\n`);
const openBody = async (id: string): Promise<StoredBody> => ({ kind: 'memory', bytes: contentOf(id) });

interface Following extends Scene {
  /** Messages M1, M2 … for the same host at once, over one connection at a time. */
  readonly deliverAll: (count: number, change?: (id: string) => Partial<Scene['request']>) => Promise<readonly Visit[]>;
}

async function following(changes: Changes = {}): Promise<Following> {
  const at = await scene({
    policy: may,
    ...changes,
    content: { size: contentOf('M1').length },
    deliverer: { openBody, ...changes.deliverer, pool: { perHost: 1, idleMs: 60_000, ...changes.deliverer?.pool } },
  });
  const { batch } = at.request;
  const deliverAll: Following['deliverAll'] = (count, change = () => ({})) =>
    Promise.all(
      Array.from({ length: count }, (_, index) => {
        const id = `M${index + 1}`;
        const own = { ...batch, messageId: id, envelope: { ...batch.envelope, sender: `${id}@example.nl` } };
        return at.deliver({ batch: own, ...change(id) });
      }),
    );
  return { ...at, deliverAll };
}

/** Which messages the host has, in the order in which they came. */
function kept({ host }: Scene): string {
  for (const { mail, content } of host.messages) expect(content.equals(contentOf(idIn(mail)))).toBe(true);
  return host.messages.map(({ mail }) => idIn(mail)).join(' ');
}

describe.each<[string, HostOptions, Policy]>([
  ['in the clear', PLAIN, may],
  ['under TLS, proven', {}, dane],
])('%s', (_, host, policy) => {
  test('five messages over one connection, each once, in their order', async () => {
    const at = await following({ host, policy });
    expect((await at.deliverAll(5)).map(told)).toEqual(new Array(5).fill(delivered));
    expect(kept(at)).toBe('M1 M2 M3 M4 M5');
    expect(at.host.conversations).toHaveLength(1);
    expect(at.host.story).not.toContain('RSET');
  });

  test('the commands of the second are there before the first is answered', async () => {
    const at = await following({ host: { ...host, final: 'hang' }, policy, deliverer: { timeouts: { final: soon } } });
    const visits = at.deliverAll(2);
    await expect.poll(() => at.host.story).toMatch(/DATA \| MAIL FROM:<M2@\S+ [^|]*\| RCPT [^|]*\| DATA$/);
    const [first] = (await visits).map(told);
    expect(first).toBe('deferred 4.4.2 remote-timeout');
  });

  test.each([
    [1, ['M1', 'M2', 'M3', 'M4', 'M5']],
    [2, ['M1 M2', 'M3 M4', 'M5']],
  ])('messagesPerConnection: %i is kept', async (messagesPerConnection, expected) => {
    const at = await following({ host, policy, deliverer: { pool: { messagesPerConnection } } });
    expect((await at.deliverAll(5)).map(told)).toEqual(new Array(5).fill(delivered));
    const seen = at.host.conversations.map(({ messages }) => messages.map(({ mail }) => idIn(mail)).join(' '));
    expect(seen).toEqual(expected);
    for (const { commands } of at.host.conversations.slice(0, -1)) expect(commands.at(-1)).toBe('QUIT');
  });
});

test('a host that does not offer PIPELINING is told of the second when the first is answered', async () => {
  const at = await following({
    host: { ...PLAIN, extensions: ['SIZE'], final: 'hang' },
    deliverer: { timeouts: { final: soon } },
  });
  const visits = at.deliverAll(2);
  await expect.poll(() => at.host.messages.length).toBe(1);
  expect(at.host.story).not.toContain('M2');
  await visits;
});

test('CONN-13 who waits for another proof does not follow', async () => {
  const at = await following({ host: {}, policy: dane });
  const visits = await at.deliverAll(3, (id) => (id === 'M2' ? { policy: { ...dane, wholePath: false } } : {}));
  expect(visits.map(told)).toEqual(new Array(3).fill(delivered));
  expect(visits.map(({ connection }) => connection.verdict)).toEqual([
    'authenticated',
    'host-authenticated',
    'authenticated',
  ]);
  expect(at.host.conversations).toHaveLength(3);
});

describe('TXN-02 a word on the first is no word on the second', () => {
  test.each([
    ['451 4.3.0 later', 'deferred 4.3.0 remote-later'],
    ['554 5.7.1 spam', 'bounced 5.7.1 remote-refused'],
    ['421 4.3.2 closing', 'deferred 4.3.2 remote-later'],
    ['250 2.0.0 ok\r\n421 4.3.2 closing', delivered],
    ['reset', 'deferred 4.4.2 connection-lost'],
    ['354 more', 'deferred 4.5.0 remote-garbage'],
    ['what?', 'deferred 4.5.0 remote-garbage'],
  ])('the first is answered with %s', async (say, expected) => {
    const at = await following({
      host: { ...PLAIN, final: (mail) => (idIn(mail) === 'M1' ? (say as 'reset') : '250 ok') },
    });
    expect((await at.deliverAll(3)).map(told)).toEqual([expected, delivered, delivered]);
    expect(kept(at)).toBe('M1 M2 M3');
    expect(at.host.conversations).toHaveLength(2);
  });

  test('the first is refused early by a host that takes what follows for commands', async () => {
    const at = await following({ host: { ...PLAIN, early: '554 5.3.4 too big', earlyAfter: 20, paceMs: 10 } });
    const refused = 'bounced 5.3.4 remote-refused';
    expect((await at.deliverAll(3)).map(told)).toEqual([refused, refused, refused]);
    expect(at.host.conversations).toHaveLength(3);
  });
});

describe('TXN-01 TXN-02 a word on the second is no word on the first', () => {
  const second =
    <Known extends string>(reply: string, otherwise: Known) =>
    (mail: string): string =>
      idIn(mail) === 'M2' ? reply : otherwise;

  test.each<[string, HostOptions, string]>([
    ['MAIL is refused for good', { mail: second('550 5.7.1 no', '250 ok') }, 'bounced 5.7.1 remote-refused'],
    ['MAIL is put off', { mail: second('450 4.7.1 no', '250 ok') }, 'deferred 4.7.1 remote-later'],
    ['DATA is refused', { data: second('554 5.6.0 no', '354 go') }, 'bounced 5.6.0 remote-refused'],
    ['the end is refused', { final: second('554 5.7.1 spam', '250 2.0.0 ok') }, 'bounced 5.7.1 remote-refused'],
  ])('%s', async (_, script, expected) => {
    const at = await following({ host: { ...PLAIN, ...script } });
    expect((await at.deliverAll(3)).map(told)).toEqual([delivered, expected, delivered]);
    expect(kept(at)).toBe(script.final ? 'M1 M2 M3' : 'M1 M3');
  });

  test.each(['one by one', 'all at once'])('its recipients are refused: %s', async (way) => {
    const replies: Record<string, string> = { 'a@example.test': '550 5.1.1 no', 'b@example.test': '451 4.2.0 later' };
    const data = way === 'one by one' ? {} : { data: '354 go on' };
    const at = await following({
      host: { ...PLAIN, ...data, rcpt: (address) => replies[address] ?? '250 ok' },
      recipients: ['c@example.test'],
    });
    const refused = await scene({ policy: may, recipients: ['a@example.test', 'b@example.test'] });
    const visits = await at.deliverAll(3, (id) => {
      if (id !== 'M2') return {};
      const { envelope } = at.request.batch;
      return { batch: { ...refused.request.batch, messageId: id, envelope: { ...envelope, sender: 'M2@example.nl' } } };
    });
    const expected = 'bounced 5.1.1 remote-refused, deferred 4.2.0 remote-later';
    expect(visits.map(told)).toEqual([delivered, expected, delivered]);
    expect(kept(at)).toBe('M1 M3');
  });
});

test('a host that says one word too much to every message: nobody hears what was meant for another', async () => {
  const replies: Record<string, string> = { 'a@example.test': '550 5.1.1 no', 'b@example.test': '451 4.2.0 later' };
  const at = await following({
    host: { ...PLAIN, final: '250 2.0.0 taken\r\n250 and well', rcpt: (address) => replies[address] ?? '250 ok' },
    recipients: ['a@example.test', 'b@example.test', 'c@example.test'],
  });
  const expected = `bounced 5.1.1 remote-refused, deferred 4.2.0 remote-later, ${delivered}`;
  expect((await at.deliverAll(4)).map(told)).toEqual(new Array(4).fill(expected));
  expect(kept(at)).toBe('M1 M2 M3 M4');
});

test('a host that says one word too much, and refuses everybody of the second', async () => {
  const rcpt = (address: string): string =>
    ({ c: '250 ok', a: '550 5.1.1 no', b: '451 4.2.0 later' })[address.charAt(0)] ?? '';
  const at = await following({
    host: { ...PLAIN, final: '250 2.0.0 taken\r\n250 and well', rcpt, paceMs: 10 },
    recipients: ['c@example.test'],
  });
  const refused = await scene({ policy: may, recipients: ['a@example.test', 'b@example.test'] });
  const visits = await at.deliverAll(2, (id) => (id === 'M2' ? { batch: refused.request.batch } : {}));
  expect(visits.map(told)).toEqual([delivered, 'bounced 5.1.1 remote-refused, deferred 4.2.0 remote-later']);
  const outcomes = visits[1]?.kind === 'settled' ? visits[1].outcomes : [];
  expect(outcomes).toMatchObject([
    { recipientId: 1, result: 'bounced' },
    { recipientId: 2, result: 'deferred' },
  ]);
});

test('a host that throws away what follows a dot loses nothing, and is not given it again', async () => {
  const at = await following({ host: { ...PLAIN, forgetful: true }, deliverer: { timeouts: { mail: soon } } });
  expect((await at.deliverAll(4)).map(told)).toEqual(new Array(4).fill(delivered));
  expect(kept(at)).toBe('M1 M2 M3 M4');
  expect(at.host.conversations.map(({ messages }) => messages.length)).toEqual([1, 3]);
});

test('the second cannot be read: the first and the third go', async () => {
  const broken = async (id: string): Promise<StoredBody> =>
    id === 'M2' ? Promise.reject(new Error('disk on fire')) : openBody(id);
  const at = await following({ host: PLAIN, deliverer: { openBody: broken } });
  const unreadable = 'deferred 4.3.0 stored-message-unreadable';
  expect((await at.deliverAll(3)).map(told)).toEqual([delivered, unreadable, delivered]);
  expect(kept(at)).toBe('M1 M3');
});

test('close while the second follows the first: the first may have arrived, the second has not', async () => {
  const at = await following({ host: { ...PLAIN, final: 'hang' } });
  const visits = at.deliverAll(3);
  await expect.poll(() => at.host.story).toMatch(/M2@.*DATA$/);
  await at.deliverer.close();
  const [first, second, third] = (await visits).map(told);
  expect(first).toBe('deferred 4.3.2 shutting-down');
  expect([second, third]).toEqual(['useless shutting-down', 'useless shutting-down']);
});

describe.each<[string, HostOptions, Policy, number]>([
  // where they talk      host  policy  cut every so many octets
  ['in the clear', PLAIN, may, 1],
  ['under TLS, proven', {}, dane, 29],
])('%s: the connection is cut after every octet of two messages', (_, host, policy, step) => {
  test.each(['toRelay', 'toHost'] as const)('TXN-04 CONN-11 %s', async (direction) => {
    const at = await following({ host, policy });
    const cutter = await cutterBefore(at.host);
    const both = (): Promise<readonly Visit[]> => at.deliverAll(2, () => ({ port: cutter.port }));
    expect((await both()).map(told)).toEqual([delivered, delivered]);
    at.host.interject({ close: '' });
    const octets = cutter.passed[direction];

    for (let after = 0; after < octets; after += step) {
      // The first connection alone; whoever may begin again finds the next one whole.
      cutter.cut = { direction, after, once: true };
      const before = at.host.messages.length;
      const [first, second] = await both();
      const taken = at.host.messages.slice(before);
      const where = `cut after ${after} of ${octets}: ${first && told(first)}; ${second && told(second)}`;
      for (const { mail, content } of taken) expect(content.equals(contentOf(idIn(mail))), where).toBe(true);
      for (const [id, visit] of [
        ['M1', first],
        ['M2', second],
      ] as const) {
        const end = visit ? told(visit) : '';
        const arrived = taken.filter(({ mail }) => idIn(mail) === id).length;
        // Nobody is returned, nobody gets it twice, nobody is delivered whose message the host does not have.
        expect(end, where).toMatch(/^(?:delivered|deferred|useless)/);
        expect(arrived, where).toBeLessThanOrEqual(1);
        if (end === delivered) expect(arrived, where).toBe(1);
        if (arrived > 0) expect(end, where).not.toMatch(/useless/);
      }
      // The second either began anew and arrived, or was on its way itself: then the first had been taken.
      if (second && told(second) !== delivered) {
        expect(told(second), where).toMatch(/^deferred/);
        expect(first && told(first), where).toBe(delivered);
      }
      at.host.interject({ close: '' });
    }
  });
});
