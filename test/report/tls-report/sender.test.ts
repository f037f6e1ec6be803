/** Through midnight with a clock of our own: counted, sent once, tried again, given up. */
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import Database from 'better-sqlite3';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { DnsAnswer, RecordData, RecordType, Resolve } from '../../../src/model/dns.ts';
import type { Logger } from '../../../src/model/events.ts';
import { type NewMessage, TLS_REPORTER } from '../../../src/model/message.ts';
import { LEDGER_FILE } from '../../../src/report/tls-report/ledger.ts';
import { openLedger } from '../../../src/report/tls-report/ledger-thread.ts';
import { createTlsReporter, type TlsReporter } from '../../../src/report/tls-report/reporter.ts';
import { type VirtualClock, virtualClock } from '../../queue/good-day.ts';
import { DAY, folder, HOUR, ledgerIn, MIDNIGHT, session } from './good-day.ts';
import { parseMail } from './parsed.ts';

const MINUTE = 60_000;

/** A good day: the domain asks for reports by mail, there is a key, and everybody takes what he gets. */
interface Day {
  readonly records: string[] | 'fails' | null;
  readonly key: boolean;
  readonly posting: string | null | (() => string | null | Promise<string | null>);
  readonly processes: number;
  /** Whether all of them send, or the first only. */
  readonly allSend: boolean;
}

interface Scene {
  readonly clock: VirtualClock;
  readonly reporters: readonly TlsReporter[];
  readonly dir: string;
  readonly mails: { readonly message: NewMessage; readonly expiresAt: number; readonly at: number }[];
  readonly posts: { readonly url: string; readonly at: number; readonly body: unknown }[];
  readonly told: string[];
  /** Lets time pass in steps, with everything done in between that can be. */
  readonly pass: (ms: number) => Promise<void>;
  readonly day: { -readonly [Key in keyof Day]: Day[Key] };
}

async function scene(change: Partial<Day> = {}): Promise<Scene> {
  const day: Scene['day'] = {
    records: ['v=TLSRPTv1; rua=mailto:tls@example.nl'],
    key: true,
    posting: null,
    processes: 1,
    allSend: true,
    ...change,
  };
  const dir = folder();
  const clock = virtualClock(MIDNIGHT - HOUR);
  const told: string[] = [];
  const say = (level: string) => (message: string) => void told.push(`${level} ${message}`);
  const log: Logger = { mail() {}, debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error') };
  const resolve: Resolve = async <Type extends RecordType>(name: string): Promise<DnsAnswer<RecordData[Type]>> => {
    if (day.records === 'fails') return { kind: 'failed', reason: 'SERVFAIL', extended: null };
    if (day.records === null) return { kind: 'absent', secure: true, name, nxdomain: true };
    const records = day.records as unknown as [RecordData[Type]];
    return { kind: 'found', secure: true, name, records, ttl: 1 };
  };
  const mails: Scene['mails'] = [];
  const posts: Scene['posts'] = [];
  let busy = 0;
  const reporters = await Promise.all(
    Array.from({ length: day.processes }, async (_, at) => {
      const ledger = await openLedger({ file: `${dir}/tls-reports.db`, mode: 'relay' });
      // What is under way is counted, so that a test can wait until nothing is: calls, and reports that were claimed.
      const watched = Object.fromEntries(
        Object.entries(ledger).map(([name, call]) => [
          name,
          async (...args: unknown[]) => {
            busy++;
            try {
              const result = await (call as (...args: unknown[]) => Promise<unknown>)(...args);
              if (name === 'claim' && Array.isArray(result)) busy += result.length;
              return result;
            } finally {
              busy -= name === 'settle' ? 2 : 1;
            }
          },
        ]),
      ) as unknown as typeof ledger;
      const reporter = createTlsReporter({
        organisation: 'Voorbeeld',
        contact: 'tls@sender.nl',
        from: 'tls@sender.nl',
        ledger: watched,
        resolve,
        post: async (url, gzip) => {
          posts.push({ url: url.href, at: clock.now(), body: JSON.parse(gunzipSync(gzip).toString()) });
          // Who waits for an answer keeps no time from passing.
          busy--;
          try {
            return typeof day.posting === 'function' ? await day.posting() : day.posting;
          } finally {
            busy++;
          }
        },
        accept: async (message, { expiresAt }) => void mails.push({ message, expiresAt, at: clock.now() }),
        newId: () => `Q${mails.length}`,
        canSign: (domain) => day.key && domain === 'sender.nl',
        clock,
        log,
        onEnd: (kind) => told.push(`end ${kind}`),
      });
      if (day.allSend || at === 0) reporter.start();
      onTestFinished(() => reporter.close());
      return reporter;
    }),
  );
  const settled = async (): Promise<void> => {
    for (let quiet = 0; quiet < 3; quiet = busy === 0 ? quiet + 1 : 0) await new Promise((done) => setImmediate(done));
  };
  const pass = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 5 * MINUTE) {
      await settled();
      clock.pass(Math.min(left, 5 * MINUTE));
    }
    await settled();
  };
  await settled();
  return { clock, reporters, dir, mails, posts, told, pass, day };
}

const bytesOf = ({ body }: NewMessage): Buffer => (body.kind === 'memory' ? body.bytes : Buffer.alloc(0));

describe('through midnight', () => {
  test('RPT-12 RPT-13 RPT-15 the sessions of a day become one signed mail, up to four hours after it, and those after midnight the next', async () => {
    const { reporters, mails, pass, told } = await scene();
    const [reporter] = reporters;
    reporter?.sessionEnded(session());
    reporter?.sessionEnded(session({ code: 'tlsa-mismatch' }));
    await pass(HOUR - 5 * MINUTE);
    expect(mails).toEqual([]);
    await pass(5 * MINUTE);
    reporter?.sessionEnded(session());
    await pass(5 * HOUR);
    expect(mails).toHaveLength(1);
    const [mail] = mails;
    if (!mail) throw new Error('no mail');
    expect(mail.at).toBeGreaterThanOrEqual(MIDNIGHT + 10 * MINUTE);
    expect(mail.at).toBeLessThanOrEqual(MIDNIGHT + 4 * HOUR + 5 * MINUTE);
    expect(mail.message).toMatchObject({
      client: TLS_REPORTER,
      envelope: { sender: '', recipients: [{ address: 'tls@example.nl', notify: ['never'] }], tls: 'optional' },
    });
    expect(mail.expiresAt - mail.at).toBe(24 * HOUR);
    const parsed = await parseMail(bytesOf(mail.message));
    expect(parsed.headers['from']).toBe('tls@sender.nl');
    expect(parsed.mistakes).toEqual([]);
    expect(parsed.report['policies']).toMatchObject([
      { summary: { 'total-successful-session-count': 1, 'total-failure-session-count': 1 } },
    ]);
    expect(told).toContain('end sent');
    await pass(24 * HOUR);
    expect(mails).toHaveLength(2);
  });

  test.each([
    ['all of which may send', true],
    ['one of which may send', false],
  ])('RPT-05 RPT-15 three processes count, %s, and the sum is sent once', async (_, allSend) => {
    const { reporters, mails, pass } = await scene({ processes: 3, allSend });
    for (const reporter of reporters) for (let at = 0; at < 7; at++) reporter.sessionEnded(session());
    await pass(12 * HOUR);
    expect(mails).toHaveLength(1);
    const [mail] = mails;
    const { report } = await parseMail(mail ? bytesOf(mail.message) : Buffer.alloc(0));
    expect(report['policies']).toMatchObject([{ summary: { 'total-successful-session-count': 21 } }]);
  });

  test('what was counted before a stop is there after it', async () => {
    const first = await scene();
    first.reporters[0]?.sessionEnded(session());
    await first.reporters[0]?.close();
    expect(ledgerIn(first.dir).counts(DAY, 'example.nl')[0]?.successes).toBe(1);
  });
});

test('RPT-05 counts that cannot be written are kept until they can, which is said once', async () => {
  const { reporters, pass, told, dir } = await scene();
  const damage = new Database(join(dir, LEDGER_FILE));
  damage.exec('DROP TABLE policy');
  damage.close();
  for (let at = 0; at < 3; at++) {
    reporters[0]?.sessionEnded(session());
    await pass(5 * MINUTE);
  }
  expect(told.filter((line) => line.startsWith('error')).sort()).toEqual([
    'error TLS reports cannot be sent; this is tried again and again',
    'error counts for TLS reports cannot be written; this is tried again and again',
  ]);
  const ledger = ledgerIn(dir);
  await pass(5 * MINUTE);
  expect(ledger.counts(DAY, 'example.nl')[0]?.successes).toBe(3);
});

describe('after a crash, or a stop in the middle', () => {
  const records = ['v=TLSRPTv1; rua=https://a.nl/,https://b.nl/'];

  test('RPT-15 who has accepted a report does not get it again', async () => {
    const { reporters, posts, pass, told, dir } = await scene({ records });
    reporters[0]?.sessionEnded(session());
    await pass(HOUR + 5 * MINUTE);
    const gone = ledgerIn(dir);
    const [claim] = gone.claim(MIDNIGHT + 4 * HOUR, HOUR, 1);
    if (!claim) throw new Error('nothing is due');
    gone.heard(claim, { uri: 'https://a.nl/', state: 'accepted', explanation: 'accepted it' }, null);
    await pass(6 * HOUR);
    expect(posts).toEqual([]);
    expect(told).toContain('info TLS report sent: https://a.nl/ has it');
  });

  test('RPT-15 who has lost his claim over a silent receiver asks nobody else', async () => {
    const silent = Promise.withResolvers<string | null>();
    onTestFinished(() => silent.resolve(null));
    let asked = 0;
    const { reporters, posts, pass, told } = await scene({
      records,
      posting: () => (asked++ === 0 ? silent.promise : null),
    });
    reporters[0]?.sessionEnded(session());
    await pass(6 * HOUR);
    const urls = ['https://a.nl/', 'https://a.nl/', 'https://b.nl/'];
    expect(posts.map(({ url }) => url)).toEqual(urls);
    silent.resolve(null);
    await pass(HOUR);
    expect(posts.map(({ url }) => url)).toEqual(urls);
    expect(told.filter((line) => line.startsWith('end'))).toEqual(['end sent']);
  });

  test('what became of reports is forgotten after a week', async () => {
    const { reporters, pass, dir, clock } = await scene({ records });
    reporters[0]?.sessionEnded(session());
    await pass(6 * HOUR);
    const ledger = ledgerIn(dir);
    expect(ledger.list()).toHaveLength(1);
    clock.pass(9 * 24 * HOUR);
    await pass(5 * MINUTE);
    expect(ledger.list()).toEqual([]);
  });
});

describe('who takes it', () => {
  test('RPT-15 one of several is enough; the others are not tried again', async () => {
    const { reporters, mails, posts, pass, told } = await scene({
      records: ['v=TLSRPTv1; rua=https://a.nl/,mailto:tls@example.nl'],
      posting: 'it answered 500',
    });
    reporters[0]?.sessionEnded(session());
    await pass(30 * HOUR);
    expect([mails.length, posts.length]).toEqual([1, 1]);
    expect(told.filter((line) => line.startsWith('end'))).toEqual(['end sent']);
  });

  test('RPT-14 RPT-15 where nobody does it is tried again with growing pauses, the same report, for a day and no longer', async () => {
    const { reporters, posts, pass, told } = await scene({
      records: ['v=TLSRPTv1; rua=https://a.nl/'],
      posting: 'it answered 500',
    });
    reporters[0]?.sessionEnded(session());
    await pass(40 * HOUR);
    const gaps = posts.slice(1).map(({ at }, index) => at - (posts[index]?.at ?? 0));
    expect(posts.length).toBeGreaterThan(6);
    expect(posts.length).toBeLessThan(16);
    expect(gaps.slice(0, 4)).toEqual([...gaps.slice(0, 4)].sort((a, b) => a - b));
    const [first, last] = [posts[0], posts.at(-1)];
    expect((last?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(24 * HOUR);
    expect((last?.at ?? 0) - (first?.at ?? 0)).toBeLessThan(24 * HOUR + 10 * MINUTE);
    expect(new Set(posts.map(({ body }) => JSON.stringify(body))).size).toBe(1);
    expect(told.filter((line) => line === 'end failed')).toHaveLength(1);
    expect(told.some((line) => line.includes('given up after a day: https://a.nl/ it answered 500'))).toBe(true);
  });

  test('RPT-14 RPT-15 where all its mail comes back, HTTPS is tried for the rest of the day, and that mail is not sent again', async () => {
    const { reporters, mails, posts, pass, told, day, dir } = await scene({
      records: ['v=TLSRPTv1; rua=mailto:tls@example.nl,https://a.nl/,mailto:other@example.nl'],
      posting: 'it answered 503',
    });
    const returned = (queueId: string): void =>
      reporters[0]?.mailEnded({
        event: 'bounced',
        code: 'remote-refused',
        status: '5.1.1',
        explanation: 'No such user.',
        queueId,
        client: TLS_REPORTER,
      });
    reporters[0]?.sessionEnded(session());
    await pass(6 * HOUR);
    expect([mails.length, posts.length]).toEqual([2, 1]);
    returned('Q0');
    await pass(HOUR);
    expect(posts).toHaveLength(1);
    returned('Q1');
    await pass(HOUR);
    expect(posts.length).toBeGreaterThan(2);
    day.posting = null;
    await pass(5 * HOUR);
    expect(new Set(posts.map(({ body }) => JSON.stringify(body))).size).toBe(1);
    expect(mails).toHaveLength(2);
    expect(told.at(-1)).toMatch(/^info TLS report sent: https:\/\/a\.nl\/ accepted it/);
    expect(
      ledgerIn(dir)
        .list()[0]
        ?.receivers.map(({ uri, state }) => `${uri} ${state}`),
    ).toEqual(['https://a.nl/ accepted', 'mailto:other@example.nl returned', 'mailto:tls@example.nl returned']);
  });

  test('RPT-14 a host that never answers keeps the reports of others waiting for no longer than its place', async () => {
    const silent = Promise.withResolvers<string | null>();
    onTestFinished(() => silent.resolve('no answer within 60 s'));
    let asked = 0;
    const { reporters, posts, pass } = await scene({
      records: ['v=TLSRPTv1; rua=https://a.nl/'],
      posting: () => (asked++ === 0 ? silent.promise : null),
    });
    for (let at = 0; at < 40; at++) reporters[0]?.sessionEnded(session({ domain: `d${at}.nl` }));
    await pass(6 * HOUR);
    expect(new Set(posts.map(({ body }) => Object(body)['report-id'])).size).toBe(40);
  });

  test('RPT-14 a receiver that comes back gets it', async () => {
    let down = 3;
    const { reporters, posts, pass, told } = await scene({
      records: ['v=TLSRPTv1; rua=https://a.nl/'],
      posting: () => (down-- > 0 ? 'it answered 503' : null),
    });
    reporters[0]?.sessionEnded(session());
    await pass(12 * HOUR);
    expect(posts).toHaveLength(4);
    expect(told.filter((line) => line.startsWith('end'))).toEqual(['end retry', 'end retry', 'end retry', 'end sent']);
  });

  test('RPT-01 a domain that asks for no reports gets none, and one whose record cannot be looked up later', async () => {
    const without = await scene({ records: null });
    without.reporters[0]?.sessionEnded(session());
    await without.pass(12 * HOUR);
    expect(without.told.filter((line) => line.startsWith('end'))).toEqual(['end unwanted']);

    const failing = await scene({ records: 'fails' });
    failing.reporters[0]?.sessionEnded(session());
    await failing.pass(6 * HOUR);
    expect(failing.mails).toEqual([]);
    failing.day.records = ['v=TLSRPTv1; rua=mailto:tls@example.nl'];
    await failing.pass(6 * HOUR);
    expect(failing.mails).toHaveLength(1);
    // A day from the first attempt, however late this one comes.
    const [mail] = failing.mails;
    expect(mail?.expiresAt).toBeLessThanOrEqual(MIDNIGHT + 28 * HOUR + 5 * MINUTE);
    expect((mail?.expiresAt ?? 0) - (mail?.at ?? 0)).toBeLessThan(24 * HOUR);
  });

  test('RPT-12 without a DKIM key nothing goes by mail: said once, and HTTPS goes on', async () => {
    const { reporters, mails, posts, pass, told } = await scene({ key: false });
    reporters[0]?.sessionEnded(session());
    reporters[0]?.sessionEnded(session({ domain: 'second.nl' }));
    await pass(30 * HOUR);
    expect([mails.length, posts.length]).toEqual([0, 0]);
    expect(told.filter((line) => line.startsWith('end'))).toEqual(['end failed', 'end failed']);
    expect(told.filter((line) => line.includes('there is no DKIM key for sender.nl'))).toHaveLength(1);

    const both = await scene({ key: false, records: ['v=TLSRPTv1; rua=mailto:tls@example.nl,https://a.nl/'] });
    both.reporters[0]?.sessionEnded(session());
    await both.pass(12 * HOUR);
    expect([both.mails.length, both.posts.length]).toEqual([0, 1]);
    expect(both.told).toContain('end sent');
  });

  test('a record with nothing but odd addresses ends it, with each of them explained', async () => {
    const { reporters, pass, told } = await scene({ records: ['v=TLSRPTv1; rua=http://a.nl/,ftp://b.nl/'] });
    reporters[0]?.sessionEnded(session());
    await pass(12 * HOUR);
    expect(told).toContain(
      'warn TLS report not sent: "http://a.nl/" is not https, and reports do not go in the clear; "ftp://b.nl/" is neither mailto nor https',
    );
  });
});

test('RPT-13 what became of report mail in the queue is known; other mail changes nothing', async () => {
  const { reporters, pass, dir } = await scene();
  const [reporter] = reporters;
  reporter?.sessionEnded(session());
  await pass(12 * HOUR);
  const ledger = ledgerIn(dir);
  const event = { code: 'remote-refused', status: '5.1.1', explanation: 'No such user.', queueId: 'Q0' } as const;
  reporter?.mailEnded({ ...event, event: 'bounced', client: 'exchange' });
  reporter?.mailEnded({ ...event, event: 'deferred', client: TLS_REPORTER });
  await pass(5 * MINUTE);
  expect(ledger.list()[0]?.state).toBe('sent');
  reporter?.mailEnded({ ...event, event: 'bounced', client: TLS_REPORTER });
  await pass(5 * MINUTE);
  expect(ledger.list()[0]).toMatchObject({ state: 'failed', explanation: 'No such user.' });
});
