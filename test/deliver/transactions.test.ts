import { PassThrough, Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import type { Outcome, Visit } from '../../src/model/delivery.ts';
import type { StoredBody } from '../../src/model/message.ts';
import type { HostOptions } from '../support/smtp-host.ts';
import { type Changes, dane, encrypt, MESSAGE, may, scene, soon, told } from './scene.ts';

const three = ['a@example.test', 'b@example.test', 'c@example.test'];
const PLAIN = { tls: null, extensions: ['8BITMIME', 'SIZE'] };
const PIPELINED = { tls: null };

/** Both ways of talking must come to the same end. */
const ways: [string, HostOptions][] = [
  ['one by one', PLAIN],
  ['pipelined', PIPELINED],
];

function outcomes(visit: Visit): readonly Outcome[] {
  return visit.kind === 'settled' ? visit.outcomes : expect.unreachable(`useless: ${visit.trouble.code}`);
}

async function run(changes: Changes): Promise<{ story: string; said: string; messages: number; visit: Visit }> {
  const { deliver, host } = await scene({ policy: may, ...changes });
  const visit = await deliver();
  return { story: told(visit), said: host.story, messages: host.messages.length, visit };
}

describe.each(ways)('%s', (_, way) => {
  test('TXN-01 each recipient has its own word', async () => {
    const replies: Record<string, string> = {
      'a@example.test': '250 2.1.5 ok',
      'b@example.test': '451 4.7.1 greylisted',
      'c@example.test': '550 5.1.1 no such user',
    };
    const { deliver, host } = await scene({
      host: { ...way, rcpt: (address) => replies[address] ?? '500 who' },
      recipients: three,
      policy: may,
    });
    const visit = await deliver();
    expect(outcomes(visit)).toMatchObject([
      { recipientId: 2, result: 'deferred', code: 'remote-later', status: '4.7.1', reply: '451 4.7.1 greylisted' },
      { recipientId: 3, result: 'bounced', code: 'remote-refused', status: '5.1.1', reply: '550 5.1.1 no such user' },
      { recipientId: 1, result: 'delivered', code: 'remote-accepted', status: '2.0.0', reply: '250 2.0.0 taken' },
    ]);
    expect(outcomes(visit)[0]).toMatchObject({ host: 'mx.example.test', address: '127.0.0.1' });
    expect(host.messages).toMatchObject([{ rcpt: ['RCPT TO:<a@example.test>'] }]);
  });

  test.each([
    ['mail', '452 4.3.1 no room', 'deferred 4.3.1 remote-later'],
    ['mail', '550 5.7.1 not you', 'bounced 5.7.1 remote-refused'],
    ['data', '451 later', 'deferred 4.0.0 remote-later'],
    ['data', '554 5.6.0 no', 'bounced 5.6.0 remote-refused'],
    ['final', '450 4.2.0 full', 'deferred 4.2.0 remote-later'],
    ['final', '554 5.7.1 spam', 'bounced 5.7.1 remote-refused'],
    ['final', '421 4.3.2 closing', 'deferred 4.3.2 remote-later'],
    ['data', '421 4.3.2 closing', 'deferred 4.3.2 remote-later'],
  ])('TXN-02 a refusal of %s (%s) holds for everybody', async (command, reply, each) => {
    const { story } = await run({ host: { ...way, [command]: reply }, recipients: three });
    expect(story).toBe(`${each}, ${each}, ${each}`);
  });

  test('TXN-02 a refusal of the data leaves recipients their own', async () => {
    const rcpt = (address: string): string => (address.startsWith('b') ? '550 5.1.1 no' : '250 ok');
    const { story } = await run({ host: { ...way, rcpt, final: '451 4.3.0 x' }, recipients: three });
    expect(story).toBe('bounced 5.1.1 remote-refused, deferred 4.3.0 remote-later, deferred 4.3.0 remote-later');
  });

  test('TXN-03 PREF-06 nobody accepted: no message, the words stand, and the connection goes on', async () => {
    const { deliver, host } = await scene({ host: { ...way, rcpt: '550 5.1.1 no' }, recipients: three, policy: may });
    expect(told(await deliver())).toBe(new Array(3).fill('bounced 5.1.1 remote-refused').join(', '));
    expect(host.messages).toEqual([]);
    expect(host.conversations[0]?.contentOctets).toBe(0);
    host.change({ rcpt: '250 ok' });
    expect(told(await deliver())).toContain('delivered');
    expect(host.conversations).toHaveLength(1);
    expect(host.story).toContain('| RSET | MAIL');
  });

  test('TXN-05 too many recipients at a time: the others wait for the next transaction', async () => {
    for (const reply of ['452 4.5.3 too many', '452 too many', '552 5.5.3 too many', '552 too many recipients']) {
      const rcpt = (_: string, count: number): string => (count > 1 ? reply : '250 ok');
      const { story } = await run({ host: { ...way, rcpt }, recipients: three });
      const late = 'deferred 4.5.3 remote-too-many-recipients';
      expect(story).toBe(`${late}, ${late}, delivered 2.0.0 remote-accepted`);
    }
  });

  test('TXN-05 452 and 552 for another reason wait under their own status', async () => {
    for (const [reply, story] of [
      ['452 4.2.2 mailbox full', 'deferred 4.2.2 remote-later'],
      ['552 5.2.2 mailbox full', 'deferred 4.2.2 remote-later'],
      ['452 no', 'deferred 4.0.0 remote-later'],
    ] as const) {
      expect((await run({ host: { ...way, rcpt: reply } })).story).toBe(story);
    }
  });

  test('TXN-02 421 to a recipient: the host is left, who was refused for good stays so, the others wait', async () => {
    const rcpt = (_: string, count: number): string => ['550 5.1.1 no', '421 4.3.2 bye', '250 ok'][count - 1] ?? '';
    const { story, messages } = await run({ host: { ...way, rcpt }, recipients: three });
    expect(story).toBe('bounced 5.1.1 remote-refused, deferred 4.3.2 remote-later, deferred 4.3.2 remote-later');
    expect(messages).toBe(0);
  });

  test('TXN-02 421 to MAIL: another address may be asked', async () => {
    expect((await run({ host: { ...way, mail: '421 4.3.2 bye' } })).story).toBe('useless 4.3.2 remote-later');
  });

  test.each(['greeting', 'ehlo', 'mail', 'rcpt', 'data'])('dropped at %s: nobody has heard a word', async (at) => {
    for (const say of ['reset', { close: '' }, { close: '25' }] as const) {
      const { story, messages } = await run({ host: { ...way, [at]: say }, recipients: three });
      // A RST may overtake the connection itself.
      const early = at === 'greeting' && say === 'reset';
      expect(story).toMatch(early ? /^useless connect/ : /^useless connection-lost$/);
      expect(messages).toBe(0);
    }
  });

  test('TXN-04 lost after the final dot: everybody waits, no other address is asked, and people are warned', async () => {
    for (const final of ['reset', { close: '' }, { close: '250 2.0.0 ta' }] as const) {
      const { visit, story } = await run({ host: { ...way, final } });
      expect(story).toBe('deferred 4.4.2 connection-lost');
      expect(outcomes(visit)[0]?.detail).toContain('may now arrive twice');
    }
  });

  test('TXN-04 silence after the final dot likewise', async () => {
    const { visit, story } = await run({ host: { ...way, final: 'hang' }, deliverer: { timeouts: { final: soon } } });
    expect(story).toBe('deferred 4.4.2 remote-timeout');
    expect(outcomes(visit)[0]?.detail).toContain('may now arrive twice');
  });

  test.each(['greeting', 'ehlo', 'mail', 'rcpt', 'data'])(
    'TXN-04 TXN-06 a host that hangs or drips at %s',
    async (at) => {
      const timeouts = { [at]: soon };
      for (const say of ['hang', { drip: '250-'.repeat(1000), everyMs: 20 }] as const) {
        const { story, messages } = await run({ host: { ...way, [at]: say }, deliverer: { timeouts } });
        expect(story).toBe('useless remote-timeout');
        expect(messages).toBe(0);
      }
    },
  );

  test.each([
    ['differing codes', '250-ok\r\n251 ok'],
    ['five digits', '25000 ok'],
    ['no code', 'ok then'],
    ['a code of class 1', '150 ok'],
    ['a code of class 6', '650 ok'],
    ['an empty line', '\r\n'],
    ['a tab after the code', '250\tok'],
    ['a reply of 1 MB', `250-${'x'.repeat(1000)}\r\n`.repeat(1000)],
    ['a line of 1 MB', `250 ${'x'.repeat(1_000_000)}`],
    ['two replies to one command', '250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok'],
    ['HTTP', 'HTTP/1.1 400 Bad Request'],
  ])('TXN-06 garbage is never guessed at: %s', async (_what, garbage) => {
    for (const at of ['mail', 'rcpt', 'data', 'final'] as const) {
      const { story } = await run({ host: { ...way, [at]: garbage } });
      // To a whole message already taken a good first reply counts, whatever follows it.
      const taken = at === 'final' && garbage.startsWith('250 ok\r\n');
      if (taken) expect(story).toBe('delivered 2.0.0 remote-accepted');
      else expect(story).toMatch(/^(useless|deferred 4\.5\.0) remote-garbage$/);
    }
  });

  test('EXT-05 only 354 lets the message go', async () => {
    for (const data of ['250 ok', '300 ok', '355 ok']) {
      const { story, messages } = await run({ host: { ...way, data } });
      expect(story).toBe('useless remote-garbage');
      expect(messages).toBe(0);
    }
  });

  test('a reply to the final dot that is neither yes nor no: everybody waits', async () => {
    expect((await run({ host: { ...way, final: '354 more' } })).story).toBe('deferred 4.5.0 remote-garbage');
  });

  test.each([
    ['450 5.1.1 x', 'deferred 4.0.0 remote-later'],
    ['550 4.1.1 x', 'bounced 5.0.0 remote-refused'],
    ['550 2.1.1 x', 'bounced 5.0.0 remote-refused'],
    ['550 no such user', 'bounced 5.0.0 remote-refused'],
    ['550', 'bounced 5.0.0 remote-refused'],
    ['550 5.1.1', 'bounced 5.1.1 remote-refused'],
    ['550 5.1.1234 x', 'bounced 5.0.0 remote-refused'],
    ['550 5.01.1 x', 'bounced 5.0.0 remote-refused'],
    ['550-5.7.1 read\r\n550 5.7.1 this', 'bounced 5.7.1 remote-refused'],
  ])('ST-01 %s', async (rcpt, story) => {
    expect((await run({ host: { ...way, rcpt } })).story).toBe(story);
  });
});

test('TXN-03 a host that takes DATA without a recipient is left, and gets no empty message', async () => {
  const { story, messages, said } = await run({ host: { ...PIPELINED, rcpt: '550 5.1.1 no', data: '354 go' } });
  expect(story).toBe('bounced 5.1.1 remote-refused');
  expect(messages).toBe(0);
  expect(said).not.toMatch(/\| \.$/);
});

test('TXN-02 a refused sender ends a pipelined transaction without DATA’s content', async () => {
  const { deliver, host } = await scene({
    host: { ...PIPELINED, mail: '550 5.7.1 no' },
    policy: may,
    recipients: three,
  });
  expect(told(await deliver())).toBe(new Array(3).fill('bounced 5.7.1 remote-refused').join(', '));
  expect(host.conversations[0]?.contentOctets).toBe(0);
});

test('replies are made harmless and short', async () => {
  const rcpt = `550 5.1.1 \u001b[31mred\u0007\u202e ${'very '.repeat(300)}long`;
  const { visit } = await run({ host: { ...PLAIN, rcpt } });
  const reply = outcomes(visit)[0]?.reply ?? '';
  expect(reply).toMatch(/^550 5\.1\.1 \[31mred very very/);
  expect(reply).toHaveLength(500);
  expect(reply).not.toMatch(/[\u0000-\u001f\u007f\u202e]/);
});

describe('in the middle of the data', () => {
  const part = Buffer.alloc(72_000, 'x'.repeat(70).concat('\r\n'));
  const big = { content: { size: 100 * part.length } };
  const parts = async (): Promise<StoredBody> => ({ kind: 'stream', stream: Readable.from(new Array(100).fill(part)) });

  test('a refusal counts, and the connection is left', async () => {
    const host = { ...PLAIN, early: '552 5.3.4 too big', earlyAfter: 1000 };
    const { deliver, host: at } = await scene({ host, policy: may, ...big, deliverer: { openBody: parts } });
    expect(told(await deliver())).toBe('bounced 5.3.4 remote-refused');
    await expect.poll(() => at.conversations[0]?.ended).toBe(true);
    await deliver();
    expect(at.conversations).toHaveLength(2);
  });

  test('a yes before the end is no yes', async () => {
    const host = { ...PLAIN, early: '250 2.0.0 taken', earlyAfter: 1000 };
    const { story } = await run({ host, ...big, deliverer: { openBody: parts } });
    expect(story).toBe('useless remote-garbage');
  });

  const inMemory = async (): Promise<StoredBody> => ({ kind: 'memory', bytes: Buffer.alloc(big.content.size, part) });

  test.each([
    ['from a stream', parts],
    ['from memory', inMemory],
  ])('TXN-04 a host that stops taking octets is left: %s', async (_, openBody) => {
    const at = await scene({ host: PLAIN, policy: may, ...big, deliverer: { openBody, timeouts: { block: soon } } });
    at.host.deafen();
    const visit = await at.deliver();
    expect(visit).toMatchObject({ kind: 'useless', trouble: { code: 'remote-timeout' } });
  });
});

describe('a message that cannot be read is never finished', () => {
  const failing = (why: (body: PassThrough) => void) => async (): Promise<StoredBody> => {
    const body = new PassThrough();
    body.write(MESSAGE);
    setImmediate(() => why(body));
    return { kind: 'stream', stream: body };
  };

  test.each<[string, () => Promise<StoredBody>]>([
    ['it cannot be opened', async () => Promise.reject(new Error('disk on fire'))],
    ['it fails on the way', failing((body) => body.destroy(new Error('disk on fire')))],
    ['it is closed on the way', failing((body) => body.destroy())],
    ['it is shorter than it was', failing((body) => body.end('cut'))],
    ['it is shorter than it was, in memory', async () => ({ kind: 'memory', bytes: MESSAGE })],
    ['it is shorter than it was, in memory and large', async () => ({ kind: 'memory', bytes: Buffer.alloc(200_000) })],
    [
      'it fails before it is read',
      async () => ({ kind: 'stream', stream: new Readable({ read() {} }).destroy(new Error('disk on fire')) }),
    ],
  ])('%s', async (_, openBody) => {
    for (const host of [PLAIN, PIPELINED]) {
      const { story, messages } = await run({ host, content: { size: 200_001 }, deliverer: { openBody } });
      expect(story).toBe('deferred 4.3.0 stored-message-unreadable');
      expect(messages).toBe(0);
    }
  });
});

describe('SMUG-02 SMUG-03 SMUG-05 what arrives is what was stored', () => {
  test.each([
    ['dots', '.\r\n..\r\n.foo\r\n\r\n.\r\n\r\n...\r\n'],
    ['a dot first', '.'],
    ['no newline at the end', 'Subject: x\r\n\r\nend'],
    ['empty', ''],
    ['8-bit', 'Subject: x\r\n\r\nd\u00efs \u20ac\r\n'],
    ['long lines', `${'x'.repeat(5000)}\r\n`.repeat(20)],
    ['a look-alike of the end', 'a\r\n.\r\nMAIL FROM:<x@y>\r\n'],
  ])('%s, cut at every place', async (_, text) => {
    const message = Buffer.from(text);
    const cuts = message.length > 100 ? [1, 99, message.length - 1] : [...message.keys(), message.length];
    const openings = cuts.map(
      (cut) => () => [message.subarray(0, cut), message.subarray(cut)].filter((b) => b.length > 0),
    );
    let next = 0;
    const openBody = async (): Promise<StoredBody> => ({
      kind: 'stream',
      stream: Readable.from(openings[next++ % openings.length]?.() ?? [message], { objectMode: false }),
    });
    const { deliver, host } = await scene({ host: PIPELINED, policy: may, message, deliverer: { openBody } });
    for (const _cut of cuts) expect(told(await deliver())).toBe('delivered 2.0.0 remote-accepted');
    const inMemory = await run({ host: PIPELINED, message });
    expect(inMemory.messages).toBe(1);
    const expected = text.endsWith('\r\n') || text === '' ? text : `${text}\r\n`;
    for (const { content, wire } of host.messages) {
      expect(content.toString()).toBe(expected === '' ? '\r\n' : expected);
      expect(wire.toString('latin1')).not.toMatch(/[^\r]\n|\r[^\n]|(^|\r\n)\.\r\n/);
    }
    expect(host.messages).toHaveLength(cuts.length);
  });

  test('a large message in memory arrives as one from a file does', async () => {
    // No block of any size ends where a line does.
    const message = Buffer.from(
      '.a line with a dot first and a number of octets that divides nothing\r\n'.repeat(4_001),
    );
    const asStream = async (): Promise<StoredBody> => ({ kind: 'stream', stream: Readable.from([message]) });
    for (const deliverer of [{}, { openBody: asStream }]) {
      const { host, deliver } = await scene({ message, deliverer });
      expect(told(await deliver())).toBe('delivered 2.0.0 remote-accepted');
      expect(host.messages[0]?.content.equals(message)).toBe(true);
    }
  });

  test('SMUG-02 a bare newline that got this far leaves as CRLF', async () => {
    const { host, deliver } = await scene({ host: PIPELINED, policy: may, message: Buffer.from('a\n.\nb\r.\rc\r\n') });
    await deliver();
    expect(host.messages[0]?.wire.toString()).toBe('a\r\n..\r\nb\r\n..\r\nc\r\n');
  });
});

describe('DSN passed on (RFC 3461)', () => {
  const envelope = { ret: 'hdrs', envid: 'id+1=x y' } as const;
  const recipients = [
    { address: 'a@example.test', notify: ['success', 'failure'] as const, orcpt: 'rfc822;a+b@example.test' },
    { address: 'b@example.test', notify: ['never'] as const },
    { address: 'c@example.test', orcpt: 'utf-8;j\u00f6rg@example.test' },
  ];

  test('DSN-03 to a host that offers it', async () => {
    const { visit, said } = await run({ host: PIPELINED, envelope, recipients });
    expect(said).toContain(' RET=HDRS ENVID=id+2B1+3Dx+20y |');
    expect(said).toContain('RCPT TO:<a@example.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@example.test |');
    expect(said).toContain('RCPT TO:<b@example.test> NOTIFY=NEVER |');
    expect(said).toContain('RCPT TO:<c@example.test> ORCPT=utf-8;j\\x{F6}rg@example.test |');
    expect(outcomes(visit).map(({ dsnPassedOn }) => dsnPassedOn)).toEqual([true, true, true]);
  });

  test('DSN-03 not to a host that does not', async () => {
    const { visit, said } = await run({ host: PLAIN, envelope, recipients });
    expect(said).not.toMatch(/RET=|ENVID=|NOTIFY=|ORCPT=/);
    expect(outcomes(visit).map(({ dsnPassedOn }) => dsnPassedOn)).toEqual([false, false, false]);
  });

  test('DSN-03 who was refused is ours to report', async () => {
    const { visit } = await run({ host: { ...PIPELINED, rcpt: '550 no' } });
    expect(outcomes(visit)[0]?.dsnPassedOn).toBe(false);
  });
});

describe('EXT what the host can take', () => {
  const bare = { tls: null, extensions: [] };

  test('EXT-01 a host whose name looks like extensions offers none', async () => {
    const ehlo = '250 mx-dsn.size-8bitmime.pipelining.example DSN SIZE 8BITMIME PIPELINING';
    const message = Buffer.from('d\u00efs\r\n');
    const { story, said } = await run({ host: { tls: null, ehlo }, message });
    expect(story).toBe('bounced 5.6.3 eight-bit-unsupported');
    expect(said).not.toContain('MAIL');
  });

  test('EXT-02 8-bit content only where it is offered, and declared only where it is so', async () => {
    const eightBit = Buffer.from('d\u00efs\r\n');
    expect((await run({ host: bare, message: eightBit })).story).toBe('bounced 5.6.3 eight-bit-unsupported');
    expect((await run({ host: PIPELINED, message: eightBit })).said).toContain('BODY=8BITMIME');
    expect((await run({ host: PIPELINED })).said).not.toContain('BODY');
    expect((await run({ host: PIPELINED, envelope: { body: '8bitmime' } })).said).toContain('BODY=8BITMIME');
    const declared = await run({ host: bare, envelope: { body: '8bitmime' } });
    expect(declared.story).toBe('delivered 2.0.0 remote-accepted');
    expect(declared.said).not.toContain('BODY');
  });

  test('EXT-03 SMTPUTF8 only where it is needed and offered', async () => {
    const without = { tls: null, extensions: ['8BITMIME'] };
    const sender = { sender: 'j\u00f6rg@example.nl' };
    const recipients = ['j\u00f6rg@example.test', 'user@example.test'];
    const header = { content: { utf8Header: true, eightBit: true }, envelope: { smtputf8: true } };
    expect((await run({ host: without, envelope: sender })).story).toBe('bounced 5.6.7 utf8-address-unsupported');
    expect((await run({ host: without, ...header })).story).toBe('bounced 5.6.9 utf8-header-unsupported');
    const mixed = await run({ host: without, recipients });
    expect(mixed.story).toBe('bounced 5.6.7 utf8-address-unsupported, delivered 2.0.0 remote-accepted');
    expect(mixed.said).not.toMatch(/[^\u0000-\u007f]/);
    for (const change of [{ envelope: sender }, header, { recipients }]) {
      const { story, said } = await run({ host: PIPELINED, ...change });
      expect(story).toMatch(/^delivered[^b]*$/);
      expect(said).toMatch(/MAIL FROM:<[^>]*>[^|]* SMTPUTF8/);
    }
    const undeclared = await run({ host: PIPELINED, envelope: { smtputf8: true } });
    expect(undeclared.said).not.toContain('SMTPUTF8');
  });

  test('EXT-03 EXT-02 8-bit header fields of a client that declared nothing are 8-bit content', async () => {
    const content = { utf8Header: true, eightBit: true };
    const taken = await run({ host: { tls: null, extensions: ['8BITMIME'] }, content });
    expect(taken.story).toBe('delivered 2.0.0 remote-accepted');
    expect(taken.said).toContain('MAIL FROM:<sender@example.nl> BODY=8BITMIME |');
    const modern = await run({ host: PIPELINED, content });
    expect(modern.story).toBe('delivered 2.0.0 remote-accepted');
    expect(modern.said).not.toContain('SMTPUTF8');
    expect((await run({ host: bare, content })).story).toBe('bounced 5.6.3 eight-bit-unsupported');
  });

  test('EXT-03 IDN-01 a domain beyond ASCII becomes A-labels and asks for nothing', async () => {
    const { said } = await run({ host: PLAIN, envelope: { sender: 'user@b\u00fccher.example' } });
    expect(said).toContain('MAIL FROM:<user@xn--bcher-kva.example> SIZE');
    expect(said).not.toContain('SMTPUTF8');
  });

  test.each([
    '"a b"@example.test',
    '"a>b"@example.test',
    '"a@b"@example.test',
    '"a\\"b\\\\"@example.test',
    '""@example.test',
    'a..b@example.test',
    "o'hara+x=y/z@example.test",
    'user@[192.0.2.1]',
    'user@[IPv6:2001:db8::1]',
  ])('EXT-04 %s is sent as it is', async (address) => {
    const { said, story } = await run({ host: PLAIN, recipients: [address] });
    expect(said).toContain(`RCPT TO:<${address}> |`);
    expect(story).toBe('delivered 2.0.0 remote-accepted');
  });

  test.each([
    'a>b@example.test',
    'a b@example.test',
    'a\r\nRSET@example.test',
    'a\u0000b@example.test',
    '"a\r\nDATA"@example.test',
    '"a"b"@example.test',
    'user@exa mple.test',
    'user@example.test> NOTIFY=NEVER',
    'user@[1.2.3.4]>',
    'user@',
    '@example.test',
    'user',
    '',
    `${'x'.repeat(600)}@example.test`,
    `${'x'.repeat(200)}(@example.test`,
  ])('EXT-04 INJ-02 %j cannot be said and is returned, the others go', async (address) => {
    const { said, story } = await run({ host: PLAIN, recipients: [address, 'user@example.test'] });
    expect(story).toBe('bounced 5.1.3 address-unsendable, delivered 2.0.0 remote-accepted');
    expect(said.match(/RCPT|RSET|NOTIFY/g)).toEqual(['RCPT']);
    if (address === '') return;
    const sender = await run({ host: PLAIN, envelope: { sender: address } });
    expect(sender.story).toBe('bounced 5.1.3 address-unsendable');
    expect(sender.said).not.toContain('MAIL');
  });

  test('EXT-05 SIZE: over the limit is returned before MAIL, 0 is no limit', async () => {
    const size = MESSAGE.length;
    for (const [parameter, story] of [
      [size - 1, 'bounced 5.3.4 size-over-remote-limit'],
      [size, 'delivered 2.0.0 remote-accepted'],
      [0, 'delivered 2.0.0 remote-accepted'],
      ['', 'delivered 2.0.0 remote-accepted'],
      ['many', 'delivered 2.0.0 remote-accepted'],
    ] as const) {
      const { story: told, said } = await run({ host: { tls: null, extensions: [`SIZE ${parameter}`] } });
      expect(told).toBe(story);
      expect(said.includes('MAIL')).toBe(story.startsWith('delivered'));
      if (said.includes('MAIL')) expect(said).toContain(` SIZE=${size}`);
    }
  });

  test('REQ-03 REQUIRETLS is passed on; REQ-02 to no host that does not offer it, and another may be asked', async () => {
    const envelope = { tls: 'required' } as const;
    const offers = { underTls: { extensions: ['PIPELINING', 'REQUIRETLS', 'DSN'] } };
    const passed = await run({ host: offers, policy: dane, envelope: { ...envelope, ret: 'hdrs' } });
    expect(passed.said).toContain('MAIL FROM:<sender@example.nl> REQUIRETLS RET=HDRS |');
    // What was offered before TLS counts for nothing.
    const before = { extensions: ['REQUIRETLS'], underTls: { extensions: ['PIPELINING'] } };
    for (const host of [before, {}]) {
      const kept = await run({ host, policy: dane, envelope });
      expect(kept.story).toBe('useless requiretls-not-offered');
      expect(kept.said).not.toContain('MAIL');
    }
    expect((await run({ host: offers, policy: dane })).said).not.toContain('REQUIRETLS');
  });

  test('REQ-05 a notice goes to a host that does not offer it, without the word', async () => {
    const { said, story } = await run({ policy: dane, envelope: { tls: 'required', sender: '' } });
    expect(story).toBe('delivered 2.0.0 remote-accepted');
    expect(said).toMatch(/MAIL FROM:<>(?!.*REQUIRETLS)/);
  });

  test('REQ-02 a kept connection carries a message that demands TLS only where it proved as much', async () => {
    const { deliver, host, request } = await scene({ host: { underTls: { extensions: ['REQUIRETLS'] } } });
    const { batch } = request;
    const tagged = { ...batch, envelope: { ...batch.envelope, tls: 'required' as const } };
    await deliver({ policy: encrypt });
    expect(told(await deliver({ batch: tagged }))).toBe('delivered 2.0.0 remote-accepted');
    expect(host.conversations).toHaveLength(2);
    await deliver();
    expect(told(await deliver({ batch: tagged }))).toBe('delivered 2.0.0 remote-accepted');
    expect(host.conversations).toHaveLength(2);
    expect(host.messages.map(({ mail }) => mail.includes('REQUIRETLS'))).toEqual([false, true, false, true]);
  });

  test('REQ-02 a kept connection of a host that does not offer it is left for other mail', async () => {
    const { deliver, host, request } = await scene();
    const { batch } = request;
    await deliver();
    const tagged = { ...batch, envelope: { ...batch.envelope, tls: 'required' as const } };
    expect(told(await deliver({ batch: tagged }))).toBe('useless requiretls-not-offered');
    expect(told(await deliver())).toBe('delivered 2.0.0 remote-accepted');
    expect(host.conversations).toHaveLength(1);
    expect(host.messages).toHaveLength(2);
  });

  test('the null sender is said as it is', async () => {
    expect((await run({ host: bare, envelope: { sender: '' } })).said).toContain('MAIL FROM:<> |');
  });
});

describe('TXN-02 a recipient was refused for good, and then the conversation ends before the message', () => {
  const rcpt = (address: string): string => (address.includes('a@') ? '550 5.1.1 no' : '250 ok');

  test.each(ways)('what came last answers nothing: the refusal may have been meant for another, %s', async (_, way) => {
    const { visit } = await run({ host: { ...way, rcpt, data: '250 what' }, policy: may, recipients: three });
    expect(told(visit)).toBe('useless remote-garbage');
  });

  test.each(ways)('the connection is lost: the refusal stands, the others wait, %s', async (_, way) => {
    const { visit } = await run({ host: { ...way, rcpt, data: { close: '' } }, policy: may, recipients: three });
    expect(outcomes(visit).map(({ result }) => result)).toEqual(['bounced', 'deferred', 'deferred']);
  });
});

test('one thousand recipients in one pipeline', async () => {
  const recipients = Array.from({ length: 1000 }, (_, at) => `user${at}@example.test`);
  const rcpt = (address: string): string => (address.includes('7') ? '550 5.1.1 no' : '250 ok');
  const { visit } = await run({ host: { rcpt }, policy: dane, recipients });
  const bounced = recipients.filter((address) => address.includes('7')).length;
  const results = outcomes(visit).map(({ result }) => result);
  expect(results.filter((result) => result === 'bounced')).toHaveLength(bounced);
  expect(results.filter((result) => result === 'delivered')).toHaveLength(1000 - bounced);
  expect(new Set(outcomes(visit).map(({ recipientId }) => recipientId)).size).toBe(1000);
});
