/** One message in is one message out: nothing that a client or a mail host says makes a second one, or another. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openRelayScene, type RelayScene, until } from '../support/relay-scene.ts';
import type { ReceivedMessage, SmtpHost } from '../support/smtp-host.ts';

const ENDINGS = ['\n.\n', '\n.\r\n', '\r.\r', '\r\n.\n', '\r\n.\r', '\r.\r\n', '\0\n.\0\n'];
const SECOND = 'MAIL FROM:<evil@in.test>\r\nRCPT TO:<victim@out.test>\r\nDATA\r\nSubject: evil\r\n\r\nsecond\r\n';

let scene: RelayScene;
let strict: RelayScene;

beforeAll(async () => {
  [scene, strict] = await Promise.all([
    openRelayScene({ queue: { retry: ['100ms', '1h'] } }),
    openRelayScene({ intake: { bareNewlines: 'reject' } }),
  ]);
});
afterAll(async () => {
  await scene?.end();
  await strict?.end();
});

/** In alphabetical order. */
const envelopes = (messages: readonly ReceivedMessage[]) =>
  messages
    .map(({ mail, rcpt }) => [mail.split(' SIZE')[0], ...rcpt])
    .toSorted((a, b) => (a.join() < b.join() ? -1 : 1));
const GOOD = ['MAIL FROM:<a@in.test>', 'RCPT TO:<b@out.test>'];

/** Gives the messages that have come since it was called, in no order: they come over several connections. */
function arrivals(host: SmtpHost): () => readonly ReceivedMessage[] {
  const before = new Set(host.messages);
  return () => host.messages.filter((message) => !before.has(message));
}

/** Hands in one more message and waits until it and all before it have arrived; messages may overtake each other. */
async function finish({ relay, greeted }: RelayScene): Promise<void> {
  const client = await greeted();
  const reply = await client.send('a@in.test', ['b@out.test'], 'Subject: the last\r\n\r\n');
  const last = /queued as (\S+)/.exec(reply.text)?.[1] ?? 'nothing was queued';
  const ids = (...kinds: readonly string[]) =>
    new Set(relay.events().flatMap(({ event, queueId }) => (queueId && kinds.includes(event) ? [queueId] : [])));
  // Its acceptance is told after that of all before it; once that was read, everything accepted is known.
  await until(() => ids('accepted').has(last));
  await until(() => [...ids('accepted')].every((id) => ids('delivered', 'bounced').has(id)));
}

/** Octets of content as they were on the wire hold no newline that is not CRLF (RFC 5321 §2.3.8). */
function expectOnlyCrlf({ messages }: SmtpHost): void {
  for (const { wire } of messages) expect(wire.toString('latin1').replaceAll('\r\n', '')).not.toMatch(/[\r\n\0]/);
}

test('SMUG-01 SMUG-02 what looks like an end to others is content; a NUL is refused', async () => {
  const { host, greeted } = scene;
  const arrived = arrivals(host);
  for (const ending of ENDINGS) {
    const client = await greeted();
    const reply = await client.send('a@in.test', ['b@out.test'], `Subject: x\r\n\r\nfirst${ending}${SECOND}`);
    expect(reply.code).toBe(ending.includes('\0') ? 550 : 250);
    expect(await client.one('NOOP')).toMatchObject({ code: 250, text: '250 2.0.0 Ok' });
    client.destroy();
  }
  await finish(scene);
  expect(envelopes(arrived())).toEqual(Array<string[]>(7).fill(GOOD));
  expectOnlyCrlf(host);
  for (const { wire } of arrived().filter(({ content }) => !content.includes('the last')))
    expect(wire.toString()).toContain('\r\nMAIL FROM:<evil@in.test>');
});

test('SMUG-01 in the strict setting they are refused, and nothing of them leaves', async () => {
  for (const ending of ENDINGS) {
    const client = await strict.greeted();
    const reply = await client.send('a@in.test', ['b@out.test'], `Subject: x\r\n\r\nfirst${ending}${SECOND}`);
    expect(reply).toMatchObject({ code: 550, status: '5.6.0' });
    client.destroy();
  }
  await finish(strict);
  expect(envelopes(strict.host.messages)).toEqual([GOOD]);
});

test('SMUG-03 SMUG-05 a message whose lines are SMTP commands and dots stays one message', async () => {
  const { host, greeted } = scene;
  const arrived = arrivals(host);
  const lines = ['.', 'QUIT', '.', SECOND.trimEnd(), '.', 'RSET', 'DATA', '..', '.MAIL FROM:<evil@in.test>'];
  const content = `Subject: x\r\n\r\n${lines.join('\r\n')}\r\n`;
  const client = await greeted();
  await client.send('a@in.test', ['b@out.test'], content.replaceAll('\r\n.', '\r\n..'));
  await finish(scene);
  expect(envelopes(arrived())).toEqual([GOOD, GOOD]);
  const texts = arrived().map((message) => message.content.toString());
  const text = texts.find((each) => !each.includes('the last')) ?? '';
  expect(text.slice(text.indexOf('Subject: x'))).toBe(content);
});

describe('commands by way of', () => {
  test('INJ-02 INJ-03 line ends, second paths or unknown parameters in an address is none', async () => {
    const lines = [
      'MAIL FROM:<a@in.test>\rRCPT TO:<victim@out.test>',
      'MAIL FROM:<a@in.test>\nRCPT TO:<victim@out.test>',
      'MAIL FROM:<a@in.test\0>',
      'MAIL FROM:<"a\r\nRCPT TO:<victim@out.test>"@in.test>',
      'MAIL FROM:<a@in.test> RCPT TO:<victim@out.test>',
      'MAIL FROM:<a@in.test',
      'MAIL FROM:<<evil@in.test>a@in.test>',
      'MAIL FROM:<a@in.test> FOO=1',
      'MAIL FROM:<a@in.test> ENVID=x+0D+0ARCPT',
      'MAIL FROM:<a@in.test> AUTH=<>',
    ];
    const { host, greeted } = scene;
    const arrived = arrivals(host);
    for (const line of lines) {
      const client = await greeted();
      client.raw(`${line}\r\nRSET\r\nQUIT\r\n`);
      const codes: number[] = [];
      for (let reply = await client.replyOrEnd(); reply; reply = await client.replyOrEnd()) codes.push(reply.code);
      expect(codes.slice(-2)).toEqual([250, 221]);
      expect(codes.slice(0, -2).filter((code) => code < 500)).toEqual([]);
    }
    await finish(scene);
    expect(envelopes(arrived())).toEqual([GOOD]);
  });

  test('INJ-01 what stands in the clear behind STARTTLS is no command under TLS', async () => {
    const { host, greeted } = scene;
    const arrived = arrivals(host);
    const client = await greeted();
    await client.startTls({}, `MAIL FROM:<evil@in.test>\r\nRCPT TO:<victim@out.test>\r\n`);
    expect(await client.one('RCPT TO:<victim@out.test>')).toMatchObject({ code: 503 });
    expect(await client.one('DATA')).toMatchObject({ code: 503 });
    await finish(scene);
    expect(envelopes(arrived())).toEqual([GOOD]);
  });
});

describe('a mail host that', () => {
  beforeEach(() => scene.host.change({ starttls: undefined, rcpt: undefined, final: undefined, ehlo: undefined }));

  test('INJ-01 goes on talking in the clear behind its 220 to STARTTLS gets nothing', async () => {
    const { host, relay, greeted } = scene;
    const arrived = arrivals(host);
    // The connection that is kept would be used again.
    host.interject('reset');
    host.change({ starttls: Buffer.from('220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n') });
    const client = await greeted();
    await client.send('a@in.test', ['c@injected.test'], 'Subject: x\r\n\r\n');
    const event = await relay.untilEvent(({ domain }) => domain === 'injected.test');
    expect(event.event).toBe('deferred');
    expect(arrived()).toHaveLength(0);
    host.change({ starttls: undefined });
    await until(() => arrived().length > 0);
    await finish(scene);
    expect(envelopes(arrived())).toEqual([GOOD, ['MAIL FROM:<a@in.test>', 'RCPT TO:<c@injected.test>']]);
  });

  test('INJ-02 hides a header or a recipient in its reply writes none into the notice or the log', async () => {
    const { host, relay, greeted } = scene;
    const arrived = arrivals(host);
    const words = '550-5.1.1 no\rBcc: victim@out.test\r\n550-5.1.1 \x1b[2J{"event":"delivered"}\r\n550 5.1.1 .\r\n';
    host.change({ rcpt: (address) => (address === 'gone@out.test' ? Buffer.from(words) : '250 ok') });
    const client = await greeted();
    await client.send('a@in.test', ['gone@out.test'], 'Subject: x\r\n\r\n');
    await until(() => arrived().length > 0);
    host.change({ rcpt: undefined });
    await finish(scene);
    expect(envelopes(arrived())).toEqual([['MAIL FROM:<>', 'RCPT TO:<a@in.test>'], GOOD]);
    const notice =
      arrived()
        .find(({ mail }) => mail.startsWith('MAIL FROM:<>'))
        ?.wire.toString('latin1') ?? '';
    expect(notice).toContain('gone@out.test');
    expect(notice).not.toMatch(/^Bcc:/m);
    expect(notice).not.toContain('\x1b');
    expectOnlyCrlf(host);
    const told = relay.events().filter(({ recipient }) => recipient === 'gone@out.test');
    expect(told.map(({ event }) => event)).toEqual(['bounced']);
  });

  test('answers the end of a message with two replies gets it once', async () => {
    const { host, greeted } = scene;
    const arrived = arrivals(host);
    host.change({ final: Buffer.from('250 2.0.0 taken\r\n250 2.0.0 and again\r\n451 no\r\n') });
    const client = await greeted();
    await client.send('a@in.test', ['b@out.test'], 'Subject: x\r\n\r\n');
    await until(() => arrived().length > 0);
    host.change({ final: undefined });
    await finish(scene);
    expect(envelopes(arrived())).toEqual([GOOD, GOOD]);
  });
});
