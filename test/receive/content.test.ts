/** Content over real sockets: nothing smuggled, nothing changed, nothing left behind. */
import { rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import type { SmtpClient } from '../support/smtp-client.ts';
import { type Changes, contentOf, type Fixture, start, until } from './fixture.ts';

let fixture: Fixture;
afterEach(async () => fixture.stop());

async function greeted(changes: Changes = {}): Promise<SmtpClient> {
  fixture = await start(changes);
  return fixture.greeted();
}

/** Dots at the start of a line doubled (RFC 5321 §4.5.2). */
const stuffed = (text: string): string => text.replace(/^\./, '..').replaceAll('\r\n.', '\r\n..');

/** Sends the pieces one by one, each as a segment of its own as far as the network lets us. */
async function sendPieces(client: SmtpClient, pieces: readonly Buffer[]): Promise<void> {
  client.socket.setNoDelay(true);
  for (const piece of pieces) {
    await new Promise<void>((resolve) => client.socket.write(piece, () => resolve()));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('the end of a message', () => {
  test.each(['\n.\n', '\n.\r\n', '\r.\r', '\r\n.\n', '\r\n.\r', '\r.\r\n', '\0\n.\0\n'])(
    'SMUG-01 %j is not one: no second message comes out of the first',
    async (ending) => {
      const client = await greeted();
      const second = 'MAIL FROM:<evil@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nsecond\r\n';
      const reply = await client.send('a@a.test', ['b@b.test'], `first${ending}${second}`);
      const hasNul = ending.includes('\0');
      expect(reply).toMatchObject(hasNul ? { code: 550, status: '5.6.0' } : { code: 250 });
      expect(await client.one('NOOP')).toMatchObject({ code: 250, text: '250 2.0.0 Ok' });
      expect(fixture.accepted.map(({ envelope }) => envelope.sender)).toEqual(hasNul ? [] : ['a@a.test']);
    },
  );

  test('SMUG-01 in the strict setting all of them are refused', async () => {
    const client = await greeted({ bareNewlines: 'reject' });
    for (const ending of ['\n.\n', '\n.\r\n', '\r.\r', '\r\n.\n', '\r\n.\r', '\r.\r\n', '\0\n.\0\n']) {
      const reply = await client.send('a@a.test', ['b@b.test'], `first${ending}x\r\n`);
      expect(reply).toMatchObject({ code: 550, status: '5.6.0' });
    }
    expect(fixture.accepted).toEqual([]);
  });

  test('SMUG-02 is found wherever the network cuts it, and what was pipelined behind it is answered', async () => {
    const client = await greeted();
    const tail = 'x\r\n..\r\n.\r\nNOOP\r\n';
    for (let at = 1; at < tail.length; at++) {
      await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'DATA');
      await sendPieces(client, [Buffer.from(tail.slice(0, at)), Buffer.from(tail.slice(at))]);
      expect(await client.reply()).toMatchObject({ code: 250, text: expect.stringContaining('queued as') });
      expect((await client.reply()).text).toBe('250 2.0.0 Ok');
    }
    expect(new Set(fixture.accepted.map((message) => contentOf(message).toString()))).toEqual(new Set(['x\r\n.\r\n']));
  });

  test('an empty message is one', async () => {
    const client = await greeted();
    expect(await client.send('a@a.test', ['b@b.test'], '')).toMatchObject({ code: 250 });
    expect(contentOf(fixture.accepted[0]).toString()).toBe('');
  });

  test('messages pipelined behind each other all come in', async () => {
    const client = await greeted();
    const one = 'MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n';
    // DATA ends a pipelined group (RFC 2920 §3.1); clients that do not care are served nevertheless.
    client.raw(`${one}first\r\n.\r\n${one}second\r\n.\r\nQUIT\r\n`);
    const codes: number[] = [];
    for (let reply = await client.replyOrEnd(); reply; reply = await client.replyOrEnd()) codes.push(reply.code);
    expect(codes).toEqual([250, 250, 354, 250, 250, 250, 354, 250, 221]);
    expect(fixture.accepted.map((message) => contentOf(message).toString())).toEqual(['first\r\n', 'second\r\n']);
  });
});

describe('content', () => {
  test('SMUG-02 SMUG-03 comes out as it went in, behind our header, whatever the chunks', async () => {
    const client = await greeted();
    const line = fc.string({ unit: fc.constantFrom('.', '..', 'a', '\xff', '\t', ' ', '\x7f'), maxLength: 12 });
    const content = fc.array(line, { maxLength: 12 }).map((lines) => ['S: x', '', ...lines, ''].join('\r\n'));
    await fc.assert(
      fc.asyncProperty(content, fc.array(fc.nat(), { maxLength: 6 }), async (text, places) => {
        await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'DATA');
        const wire = Buffer.from(`${stuffed(text)}.\r\n`, 'latin1');
        const ends = [...new Set(places.map((place) => place % wire.length))].sort((a, b) => a - b);
        await sendPieces(
          client,
          [0, ...ends].map((from, i) => wire.subarray(from, ends[i] ?? wire.length)),
        );
        expect((await client.reply()).code).toBe(250);
        const message = fixture.accepted.at(-1);
        expect(contentOf(message).toString('latin1')).toBe(text);
        expect(message?.content.size).toBe(message?.octets.length);
      }),
      { numRuns: 60 },
    );
  });

  test('SMUG-03 a dot that nobody doubled is taken away (RFC 5321 §4.5.2)', async () => {
    const client = await greeted();
    await client.send('a@a.test', ['b@b.test'], '.foo\r\n..bar\r\n.\rx\r\n');
    expect(contentOf(fixture.accepted[0]).toString()).toBe('foo\r\n.bar\r\n\r\nx\r\n');
  });

  test('LOOP-01 a message that went round is refused: 554 5.4.6', async () => {
    const client = await greeted({ limits: { hops: 3 } });
    expect(await client.send('a@a.test', ['b@b.test'], `${'Received: x\r\n'.repeat(4)}\r\n`)).toMatchObject({
      code: 554,
      status: '5.4.6',
    });
    expect(await client.send('a@a.test', ['b@b.test'], `${'Received: x\r\n'.repeat(3)}\r\n`)).toMatchObject({
      code: 250,
    });
  });

  test('EXT-02 EXT-03 what was declared and what is there are told apart', async () => {
    const client = await greeted();
    await client.say('MAIL FROM:<a@a.test> BODY=8BITMIME SMTPUTF8 RET=FULL', 'RCPT TO:<b@b.test> NOTIFY=NEVER', 'DATA');
    client.raw('S: x\r\n\r\n\xe9\r\n.\r\n');
    await client.reply();
    expect(fixture.accepted[0]).toMatchObject({
      envelope: { body: '8bitmime', smtputf8: true, ret: 'full', recipients: [{ notify: ['never'] }] },
      content: { eightBit: true, utf8Header: false },
      body: { kind: 'memory' },
    });
  });
});

describe('the header that is added', () => {
  test('LOOP-02 is one, says how the message came, and names a single recipient only', async () => {
    fixture = await start();
    const plain = await fixture.greeted();
    await plain.send('a@a.test', ['b@b.test'], 'x\r\n');
    await plain.send('a@a.test', ['b@b.test', 'c@c.test'], 'x\r\n');
    const secure = await fixture.secure();
    await secure.say('MAIL FROM:<a@a.test> SMTPUTF8', 'RCPT TO:<ü@b.test>', 'DATA');
    secure.raw('x\r\n.\r\n');
    await secure.reply();
    const date = /;\r\n\t(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000\r\nx\r\n$/;
    const headers = fixture.accepted.map(({ octets }) => octets.toString().replace(date, ''));
    expect(headers).toEqual([
      'Received: from client.test ([127.0.0.1])\r\n\tby relay.test with ESMTP id ID1\r\n\tfor <b@b.test>',
      'Received: from client.test ([127.0.0.1])\r\n\tby relay.test with ESMTP id ID2',
      'Received: from client.test ([127.0.0.1])\r\n\tby relay.test with UTF8SMTPS id ID3\r\n\t(TLSv1.3 cipher TLS_AES_256_GCM_SHA384)',
    ]);
  });

  test('INJ-02 cannot be written by the client', async () => {
    fixture = await start();
    for (const name of ['x);(y', 'a;b', '<script>', 'ünicode.test', '[1.2.3.4]', 'a:b"c\\']) {
      const client = await fixture.connect();
      await client.reply();
      await client.hello(name);
      await client.send('a@a.test', ['b@b.test', 'c@c.test'], 'x\r\n');
    }
    const names = fixture.accepted.map(({ octets }) => /^Received: from (\S+) \(\[127/.exec(octets.toString())?.[1]);
    expect(names).toEqual(['x???y', 'a?b', '?script?', 'xn--nicode-2ya.test', '[1.2.3.4]', 'a:b?c?']);
  });
});

describe('large messages', () => {
  const large = `S: x\r\n\r\n${`${'0123456789'.repeat(7)}\r\n`.repeat(40_000)}`;

  test('go to a file of mode 0600 that the store may take away', async () => {
    let mode = 0;
    const client = await greeted({
      accept: async ({ body }) => {
        if (body.kind !== 'file') throw new Error('expected a file');
        mode = (await stat(body.path)).mode & 0o777;
        await rename(body.path, join(fixture.spoolDir, 'taken'));
      },
    });
    expect(await client.send('a@a.test', ['b@b.test'], large)).toMatchObject({ code: 250 });
    expect(mode).toBe(0o600);
    expect(await fixture.spooled()).toEqual(['taken']);
    expect((await stat(join(fixture.spoolDir, 'taken'))).size).toBeGreaterThan(large.length);
  });

  test('come out as they went in', async () => {
    const client = await greeted();
    await client.send('a@a.test', ['b@b.test'], large);
    expect(contentOf(fixture.accepted[0]).toString()).toBe(large);
    expect(fixture.accepted[0]?.body.kind).toBe('file');
    expect(await fixture.spooled()).toEqual([]);
  });

  test('leave nothing behind when the store refuses, when they are refused, and when the client goes away', async () => {
    const client = await greeted({
      accept: () => Promise.reject(new Error('no')),
      limits: { messageBytes: 4_000_000 },
    });
    expect(await client.send('a@a.test', ['b@b.test'], large)).toMatchObject({ code: 451 });
    expect(await fixture.spooled()).toEqual([]);
    expect(await client.send('a@a.test', ['b@b.test'], `${large}\0\r\n`)).toMatchObject({ code: 550 });
    expect(await fixture.spooled()).toEqual([]);
    await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'DATA');
    client.raw(large);
    await until(async () => (await fixture.spooled()).length === 1);
    client.destroy();
    await until(async () => (await fixture.spooled()).length === 0);
    expect(fixture.events.filter(({ event }) => event === 'accepted')).toEqual([]);
  });

  test('are 451 when they cannot be written, and the conversation goes on', async () => {
    const client = await greeted({ newId: () => 'no/such/folder' });
    expect(await client.send('a@a.test', ['b@b.test'], large)).toMatchObject({ code: 451, status: '4.3.0' });
    expect(await client.one('NOOP')).toMatchObject({ code: 250 });
    expect(fixture.accepted).toEqual([]);
  });

  test('that a crash left half are deleted at the next start; what the store has is not', async () => {
    fixture = await start();
    await writeFile(join(fixture.spoolDir, 'OLD.incoming'), 'half');
    await writeFile(join(fixture.spoolDir, 'kept.eml'), 'whole');
    const { createReceiver } = await import('../../src/receive/server.ts');
    const again = createReceiver({ ...fixture.options, listen: [] });
    await again.listen();
    expect(await fixture.spooled()).toEqual(['kept.eml']);
    await again.close(0);
  });

  test('do not fill memory: the client has to wait for the disk', async () => {
    const client = await greeted({ limits: { messageBytes: 200_000_000 } });
    await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'DATA');
    const block = Buffer.from(`${'x'.repeat(998)}\r\n`.repeat(1000));
    let most = 0;
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 60; i++) {
      await new Promise<void>((resolve) => client.socket.write(block, () => resolve()));
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
    }
    client.raw('.\r\n');
    expect(await client.reply()).toMatchObject({ code: 250 });
    expect(fixture.accepted[0]?.content.size).toBeGreaterThan(60_000_000);
    expect(most).toBeLessThan(40_000_000);
  });
});

test('a client that goes away before the end of its content leaves no message', async () => {
  const client = await greeted();
  await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'DATA');
  client.raw('whole\r\n.\r');
  client.socket.end();
  await client.closed();
  expect(await (await fixture.greeted()).one('NOOP')).toMatchObject({ code: 250 });
  expect(fixture.accepted).toEqual([]);
});

test('a 250 is said after the message is stored, not before', async () => {
  const order: string[] = [];
  let stored: (() => void) | undefined;
  const client = await greeted({
    accept: () =>
      new Promise((resolve) => {
        stored = () => {
          order.push('stored');
          resolve();
        };
      }),
  });
  const reply = client.send('a@a.test', ['b@b.test'], 'x\r\n').then(({ code }) => order.push(String(code)));
  // A second conversation runs in the meantime: nothing else stands between the message and its reply.
  await (await fixture.greeted()).say('NOOP', 'NOOP');
  await until(() => stored !== undefined);
  expect(order).toEqual([]);
  stored?.();
  await reply;
  expect(order).toEqual(['stored', '250']);
});
