/** What servers for SMTP are known to let through, each shown to be closed on a real connection. */
import { afterEach, describe, expect, test } from 'vitest';
import type { SmtpClient } from '../support/smtp-client.ts';
import { type Changes, contentOf, type Fixture, start } from './fixture.ts';

let fixture: Fixture;
afterEach(async () => fixture.stop());

async function greeted(changes: Changes = {}): Promise<SmtpClient> {
  fixture = await start(changes);
  return fixture.greeted();
}

const codes = (replies: readonly { readonly code: number; readonly status: string }[]): string[] =>
  replies.map(({ code, status }) => `${code} ${status}`.trim());

describe('what others let through', () => {
  test('trap 1 bare CR, bare LF and NUL do not reach the store; a long line is bounded', async () => {
    const client = await greeted();
    expect(await client.send('a@a.test', ['b@b.test'], 'Subject: x\r\n\r\na\rb\nc\r\n')).toMatchObject({ code: 250 });
    expect(contentOf(fixture.accepted[0]).toString()).toBe('Subject: x\r\n\r\na\r\nb\r\nc\r\n');
    expect(await client.send('a@a.test', ['b@b.test'], 'a\0b\r\n')).toMatchObject({ code: 550, status: '5.6.0' });
    expect(await client.send('a@a.test', ['b@b.test'], `${'x'.repeat(65_537)}\r\n`)).toMatchObject({ status: '5.6.0' });
    expect(fixture.accepted).toHaveLength(1);
  });

  test('trap 2 parameters of a refused MAIL do not leak into the next one', async () => {
    const client = await greeted({ limits: { messageBytes: 1000 } });
    const refused = await client.one('MAIL FROM:<a@a.test> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=one SIZE=1001');
    expect(refused).toMatchObject({ code: 552, status: '5.3.4' });
    await client.send('a@a.test', ['b@b.test'], 'x\r\n');
    expect(fixture.accepted[0]?.envelope).toMatchObject({ body: '7bit', smtputf8: false, ret: null, envid: null });
  });

  test('trap 3 trouble of our own is 4xx and never 5xx: the message must not bounce', async () => {
    const client = await greeted({
      accept: () => Promise.reject(new Error('the database is gone')),
    });
    expect(await client.send('a@a.test', ['b@b.test'], 'x\r\n')).toMatchObject({ code: 451, status: '4.3.0' });
    expect(fixture.errors.join()).toContain('the database is gone');
  });

  test('trap 3 no room is 452 4.3.1', async () => {
    const full = Object.assign(new Error('full'), { name: 'StoreFull' });
    const client = await greeted({ accept: () => Promise.reject(full) });
    expect(await client.send('a@a.test', ['b@b.test'], 'x\r\n')).toMatchObject({ code: 452, status: '4.3.1' });
    expect(fixture.events.at(-1)).toMatchObject({ event: 'refused', code: 'storage-full', status: '4.3.1' });
  });

  test('trap 3 an exception in a handler is 451, and the conversation goes on', async () => {
    const broken = (): string => {
      throw new Error('no more ids');
    };
    const client = await greeted({ newId: broken });
    const replies = await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'DATA', 'NOOP');
    expect(codes(replies)).toEqual(['250 2.1.0', '250 2.1.5', '451 4.3.0', '250 2.0.0']);
  });

  test('trap 4 INJ-03 unknown parameters are 555 5.5.4', async () => {
    const client = await greeted();
    const lines = ['FOO=1', 'AUTH=<>', 'BY=100;R', 'HOLDFOR=60'].map((p) => `MAIL FROM:<a@a.test> ${p}`);
    expect(codes(await client.say(...lines))).toEqual(lines.map(() => '555 5.5.4'));
    const replies = await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test> FOO', 'RCPT TO:<b@b.test> SIZE=1');
    expect(codes(replies)).toEqual(['250 2.1.0', '555 5.5.4', '555 5.5.4']);
  });

  test('trap 5 IDN-01 domains stay A-labels, and U-labels become them', async () => {
    const client = await greeted();
    await client.say('MAIL FROM:<a@BÜCHER.test> SMTPUTF8', 'RCPT TO:<b@xn--bcher-kva.test>', 'RCPT TO:<b@Bücher.test>');
    await client.say('DATA', 'x\r\n.');
    const [message] = fixture.accepted;
    expect(message?.envelope.sender).toBe('a@xn--bcher-kva.test');
    expect(message?.envelope.recipients.map(({ address }) => address)).toEqual(['b@xn--bcher-kva.test']);
  });

  test('trap 6 ENVID and ORCPT are kept decoded, and control characters in them are refused', async () => {
    const client = await greeted();
    const replies = await client.say(
      'MAIL FROM:<a@a.test> ENVID=ab+0D+0Acd',
      'MAIL FROM:<a@a.test> ENVID=QQ+2B+3D1 RET=HDRS',
      'RCPT TO:<b@b.test> ORCPT=rfc822;c+2Bd@c.test NOTIFY=SUCCESS,FAILURE',
    );
    expect(codes(replies)).toEqual(['501 5.5.4', '250 2.1.0', '250 2.1.5']);
    await client.say('DATA', 'x\r\n.');
    expect(fixture.accepted[0]?.envelope).toMatchObject({
      envid: 'QQ+=1',
      ret: 'hdrs',
      recipients: [{ address: 'b@b.test', orcpt: 'rfc822;c+d@c.test', notify: ['success', 'failure'] }],
    });
  });

  test('trap 7 EXT-04 quoted local parts pass; recipients that differ by case are two', async () => {
    const client = await greeted();
    const to = ['"a b"@b.test', '"a@b>c\\""@b.test', 'Jan@b.test', 'jan@b.test', 'Jan@B.TEST'];
    expect(await client.send('"x y"@a.test', to, 'x\r\n')).toMatchObject({ code: 250 });
    const envelope = fixture.accepted[0]?.envelope;
    expect(envelope?.sender).toBe('"x y"@a.test');
    expect(envelope?.recipients.map(({ address }) => address)).toEqual(to.slice(0, 4));
  });

  test('trap 8 an oversized message is 552, and one that never ends is cut off', async () => {
    const client = await greeted({ limits: { messageBytes: 100_000 } });
    const line = `${'x'.repeat(98)}\r\n`;
    expect(await client.send('a@a.test', ['b@b.test'], line.repeat(1000))).toMatchObject({ code: 250 });
    expect(await client.send('a@a.test', ['b@b.test'], line.repeat(1001))).toMatchObject({
      code: 552,
      status: '5.3.4',
    });
    await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'DATA');
    client.raw(line.repeat(3000));
    expect(await client.reply()).toMatchObject({ code: 552, status: '5.3.4' });
    await client.closed();
    expect(fixture.accepted).toHaveLength(1);
    expect(await fixture.spooled()).toEqual([]);
  });

  test('trap 9 NODE-28 the greeting does not wait, and commands sent before it are answered', async () => {
    fixture = await start();
    const client = await fixture.connect();
    client.raw('EHLO eager.test\r\nNOOP\r\n');
    expect(await client.reply()).toMatchObject({ code: 220 });
    expect(await client.reply()).toMatchObject({ code: 250 });
    expect(await client.reply()).toMatchObject({ code: 250, status: '2.0.0' });
  });

  test('trap 10 nobody asks DNS for the name of the client', async () => {
    const dns = await import('node:dns');
    const original = dns.default.reverse;
    let asked = 0;
    dns.default.reverse = ((...args: Parameters<typeof original>) => {
      asked++;
      return original(...args);
    }) as typeof original;
    try {
      const client = await greeted();
      await client.send('a@a.test', ['b@b.test'], 'x\r\n');
    } finally {
      dns.default.reverse = original;
    }
    expect(asked).toBe(0);
    expect(fixture.accepted[0]?.octets.toString()).toMatch(/^Received: from client\.test \(\[127\.0\.0\.1\]\)\r\n/);
  });

  test('trap 12 AUTH is neither offered nor wanted; WIZ, SHELL, KILL, XCLIENT and XFORWARD do not exist', async () => {
    fixture = await start();
    const client = await fixture.connect();
    await client.reply();
    expect((await client.hello()).text).not.toMatch(/AUTH|XCLIENT|XFORWARD/);
    const replies = await client.say(
      'AUTH PLAIN AGEAYg==',
      'WIZ x',
      'SHELL',
      'KILL',
      'XCLIENT ADDR=10.0.0.1',
      'XFORWARD X=Y',
    );
    expect(codes(replies)).toEqual(['502 5.5.1', ...Array(5).fill('500 5.5.2')]);
    expect(await client.send('a@a.test', ['b@b.test'], 'x\r\n')).toMatchObject({ code: 250 });
  });

  test('trap 14 every reply has its own enhanced code, except those that have none', async () => {
    fixture = await start({ limits: { recipients: 1 } });
    const client = await fixture.connect();
    expect((await client.reply()).status).toBe('');
    const replies = await client.say(
      'MAIL FROM:<a@a.test>',
      'EHLO a.test',
      'RCPT TO:<b@b.test>',
      'DATA',
      'MAIL FROM:<a@a.test',
      'MAIL FROM:<a@-.test>',
      'MAIL FROM:<a@a.test> SIZE=99999999',
      'MAIL FROM:<>',
      'MAIL FROM:<>',
      'RCPT TO:<>',
      'RCPT TO:<postmaster>',
      'DATA',
      'RCPT TO:<ü@b.test>',
      'RCPT TO:<b@b.test>',
      'RCPT TO:<c@b.test>',
      'RSET',
      'NOOP',
      'VRFY b',
      'HELP',
      'FOO',
      'EXPN x',
      'QUIT',
    );
    expect(codes(replies)).toEqual([
      '503 5.5.1',
      '250',
      '503 5.5.1',
      '503 5.5.1',
      '501 5.5.4',
      '501 5.1.7',
      '552 5.3.4',
      '250 2.1.0',
      '503 5.5.1',
      '501 5.1.3',
      '501 5.1.3',
      '554 5.5.1',
      '553 5.6.7',
      '250 2.1.5',
      '452 4.5.3',
      '250 2.0.0',
      '250 2.0.0',
      '252 2.0.0',
      '214 2.0.0',
      '500 5.5.2',
      '502 5.5.1',
      '221 2.0.0',
    ]);
  });

  test('trap 14 an accepted message is named in its reply', async () => {
    const client = await greeted();
    expect((await client.send('a@a.test', ['b@b.test'], 'x\r\n')).text).toBe('250 2.0.0 Ok: queued as ID1');
  });

  test('REQ-01 trap 15 EHLO offers what is kept and nothing else', async () => {
    fixture = await start({ limits: { messageBytes: 12_345 } });
    const client = await fixture.connect();
    await client.reply();
    const offered = (reply: { readonly text: string }): string[] => reply.text.split('\n').map((line) => line.slice(4));
    const kept = ['relay.test', 'PIPELINING', '8BITMIME', 'SMTPUTF8', 'ENHANCEDSTATUSCODES', 'DSN', 'SIZE 12345'];
    expect(offered(await client.hello())).toEqual([...kept, 'STARTTLS']);
    // REQ-01 RFC 8689 §2: only under TLS.
    const last = kept.at(-1) ?? '';
    expect(offered(await client.startTls())).toEqual([...kept.slice(0, -1), 'REQUIRETLS', last]);
  });
});
