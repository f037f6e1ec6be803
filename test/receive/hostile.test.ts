import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { createReceiver } from '../../src/receive/server.ts';
import { SmtpClient } from '../support/smtp-client.ts';
import { ANYBODY, type Changes, type Fixture, start, until } from './fixture.ts';

let fixture: Fixture;
afterEach(async () => fixture.stop());

const open = async (changes: Changes = {}): Promise<void> => {
  fixture = await start(changes);
};

describe('at the door', () => {
  test('a client that is not named is told so at once, with a reason', async () => {
    await open({ clients: [] });
    const client = await fixture.connect();
    expect(await client.reply()).toMatchObject({ code: 554, status: '5.7.1' });
    await client.closed();
    expect(fixture.events).toMatchObject([{ event: 'refused', code: 'client-unknown', peer: '127.0.0.1' }]);
  });

  test('trap 13 connections are limited for each client and in total: 421 4.7.0', async () => {
    await open({ limits: { connections: 3, connectionsPerClient: 2 } });
    const first = await fixture.greeted('127.0.0.2');
    await fixture.greeted('127.0.0.2');
    const third = await fixture.connect('127.0.0.2');
    expect(await third.reply()).toMatchObject({
      code: 421,
      status: '4.7.0',
      text: expect.stringContaining('127.0.0.2'),
    });
    await fixture.greeted('127.0.0.3');
    const fifth = await fixture.connect('127.0.0.4');
    expect(await fifth.reply()).toMatchObject({
      code: 421,
      status: '4.7.0',
      text: expect.stringContaining('in total'),
    });
    first.destroy();
    await until(async () => (await (await fixture.connect('127.0.0.2')).reply()).code === 220);
  });

  test('a crowd that is refused does not pile up', async () => {
    await open({ clients: [] });
    // They stay when they are told to go.
    const crowd = Array.from({ length: 280 }, () => connect({ port: fixture.port, allowHalfOpen: true }));
    const heard = await Promise.all(crowd.map((socket) => firstWords(socket)));
    for (const socket of crowd) socket.destroy();
    expect(heard.filter((words) => words.startsWith('554 5.7.1 ')).length).toBe(200);
    expect(heard.filter((words) => words === '').length).toBe(80);
  });

  test('strangers that never end a handshake do not take the places of clients', async () => {
    await open({ clients: [{ ...ANYBODY, networks: ['127.0.0.1'] }], limits: { connections: 20 } });
    const crowd = Array.from({ length: 240 }, () => connect({ port: fixture.tlsPort, localAddress: '127.0.0.9' }));
    const gone = new Set<Socket>();
    for (const socket of crowd) {
      socket.on('error', () => undefined).on('close', () => gone.add(socket));
      socket.write(Buffer.from('16', 'hex'));
    }
    await until(async () => gone.size >= 40);
    expect((await fixture.secure()).socket.destroyed).toBe(false);
    // The others are not waited for as long as clients are.
    await until(async () => gone.size === crowd.length);
  });

  test('a client that never ends a handshake is counted as others are', async () => {
    await open({ limits: { connectionsPerClient: 2 } });
    const silent = await Promise.all([1, 2].map(() => SmtpClient.connect({ port: fixture.tlsPort })));
    const third = await SmtpClient.connect({ port: fixture.tlsPort, tls: {} });
    expect(await third.reply()).toMatchObject({ code: 421, status: '4.7.0' });
    expect(fixture.events).toMatchObject([{ event: 'refused', code: 'too-many-connections' }]);
    for (const client of silent) client.destroy();
    await until(async () => {
      const next = await SmtpClient.connect({ port: fixture.tlsPort, tls: {} });
      const { code } = await next.reply();
      next.destroy();
      return code === 220;
    });
    third.destroy();
  });
});

/** What a socket hears before its other side ends or goes away. */
function firstWords(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let words = '';
    socket.on('data', (chunk) => {
      words += chunk.toString();
    });
    socket.on('error', () => resolve(words));
    socket.on('end', () => resolve(words));
    socket.on('close', () => resolve(words));
  });
}

describe('clients that are slow', () => {
  test('trap 13 silence ends a conversation', async () => {
    await open({ limits: { idleMs: 1_500 } });
    const client = await fixture.greeted();
    expect(await client.reply()).toMatchObject({ code: 421, status: '4.4.2' });
    await client.closed();
  });

  test('trap 13 a command that drips in octet by octet does too', async () => {
    await open({ limits: { idleMs: 1_500 } });
    const client = await fixture.greeted();
    const drip = setInterval(() => client.raw('x'), 20);
    const reply = await client.reply();
    clearInterval(drip);
    expect(reply).toMatchObject({ code: 421, status: '4.4.2' });
  });

  test('trap 13 content has a time of its own, whatever still trickles in', async () => {
    await open({ limits: { idleMs: 1_500, messageMs: 4_000 } });
    const client = await fixture.greeted();
    await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'DATA');
    const began = performance.now();
    const drip = setInterval(() => client.raw('x\r\n'), 20);
    const reply = await client.reply();
    clearInterval(drip);
    expect(reply).toMatchObject({ code: 421, status: '4.4.2' });
    expect(performance.now() - began).toBeGreaterThan(3_000);
    expect(fixture.accepted).toEqual([]);
    expect(fixture.events).toMatchObject([{ event: 'refused', code: 'client-timeout', sender: 'a@a.test' }]);
  });

  test('silence in the content ends it, and nothing is accepted', async () => {
    await open({ limits: { idleMs: 1_500 } });
    const client = await fixture.greeted();
    await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'DATA');
    client.raw('x\r\n.');
    expect(await client.reply()).toMatchObject({ code: 421, status: '4.4.2' });
    expect(fixture.accepted).toEqual([]);
  });

  test('a client that waits for the store is not silent', async () => {
    let done: () => void = () => undefined;
    const stored = new Promise<void>((resolve) => {
      done = resolve;
    });
    await open({ limits: { idleMs: 1_500 }, accept: () => stored });
    const client = await fixture.greeted();
    const reply = client.send('a@a.test', ['b@b.test'], 'x\r\n');
    setTimeout(done, 3_000);
    expect(await reply).toMatchObject({ code: 250 });
  });

  test('a handshake that never ends is ended', async () => {
    await open({ limits: { idleMs: 1_500 } });
    const client = await fixture.greeted();
    client.raw('STARTTLS\r\n');
    await client.reply();
    const drip = setInterval(() => client.raw('\x16'), 30);
    await client.closed();
    clearInterval(drip);
    expect((await fixture.greeted()).socket.destroyed).toBe(false);
  });

  test('a client that floods commands and reads no reply is made to wait', async () => {
    await open();
    const client = await fixture.greeted();
    client.socket.pause();
    const mails = 'MAIL FROM:<a@a.test>\r\nRSET\r\n'.repeat(40);
    client.raw(mails);
    client.socket.resume();
    for (let i = 0; i < 80; i++) expect(await client.reply()).toMatchObject({ code: 250 });
  });
});

describe('clients that end what they say', () => {
  const store = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 300));

  test.each(['', 'QUIT\r\n', 'NOOP\r\n'.repeat(50)])(
    'and wait hear that their message is stored: else it would come twice (%j behind it)',
    async (behind) => {
      await open({ accept: store });
      for (const client of [await fixture.greeted(), await fixture.secure()]) {
        client.socket.allowHalfOpen = true;
        await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'DATA');
        client.socket.end(`x\r\n.\r\n${behind}`);
        expect(await client.reply()).toMatchObject({ code: 250, text: expect.stringContaining('queued as') });
        if (behind !== '') expect((await client.reply()).code).toBe(behind.startsWith('QUIT') ? 221 : 250);
        await client.closed();
      }
    },
  );

  test('in the middle of something are gone, and nothing of them is accepted', async () => {
    const parts = ['', 'EHLO', 'MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nx\r\n.', 'STARTTLS\r\n'];
    await open({ limits: { connectionsPerClient: parts.length } });
    for (const said of parts) {
      const client = await fixture.greeted();
      client.socket.allowHalfOpen = true;
      client.socket.end(said);
      await client.closed();
    }
    await until(async () => (await (await fixture.connect()).reply()).code === 220);
    for (const said of ['', '1603010200']) {
      const client = await SmtpClient.connect({ port: fixture.tlsPort });
      client.socket.end(Buffer.from(said, 'hex'));
      await client.closed();
    }
    expect(fixture.accepted).toEqual([]);
  });
});

describe('clients that pipeline', () => {
  test('commands of one packet are answered in one packet, in their order', async () => {
    await open();
    const client = await fixture.greeted();
    const packets: string[] = [];
    client.socket.on('data', (octets) => packets.push(octets.toString('latin1')));
    await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'RCPT TO:<bad>', 'DATA');
    expect(packets).toEqual([
      expect.stringMatching(/^250 2\.1\.0 .*\r\n250 2\.1\.5 .*\r\n501 5\.1\.3 .*\r\n354 .*\r\n$/),
    ]);
  });

  test('what comes behind a message, before it is answered, is done after it', async () => {
    await open();
    const client = await fixture.greeted();
    const message = 'MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nx\r\n.\r\n';
    client.raw(`${message.repeat(3)}QUIT\r\n`);
    for (let i = 0; i < 3; i++) {
      for (const code of [250, 250, 354, 250]) expect(await client.reply()).toMatchObject({ code });
    }
    expect(await client.reply()).toMatchObject({ code: 221 });
    await client.closed();
    expect(fixture.accepted).toHaveLength(3);
  });

  test('a client that never reads is not listened to for ever', async () => {
    await open({ limits: { idleMs: 1_500 } });
    const client = await fixture.greeted();
    const { socket } = client;
    socket.pause();
    // Each message has its reply, so that nothing but the replies themselves stops it.
    const message = `MAIL FROM:<a@a.test>\r\n${'RCPT TO:<bad>\r\n'.repeat(200)}RCPT TO:<b@b.test>\r\nDATA\r\n.\r\n`;
    let taken = 0;
    socket.on('error', () => undefined);
    for (; taken < 2000 && !socket.writableNeedDrain; taken++) {
      client.raw(message);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(taken).toBeLessThan(2000);
    // The server gives it up in the end, with all that it had not read.
    socket.resume();
    await until(() => socket.closed);
  });
});

describe('clients that talk nonsense', () => {
  test('HTTP is refused, and nothing of its body is a command', async () => {
    await open();
    const client = await fixture.connect();
    await client.reply();
    client.raw('POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\nMAIL FROM:<a@a.test>\r\n');
    expect(await client.reply()).toMatchObject({ code: 421, status: '4.7.0' });
    expect(await client.replyOrEnd()).toBeNull();
  });

  test('a TLS hello on the plain port is refused', async () => {
    await open();
    const client = await fixture.connect();
    await client.reply();
    client.raw(Buffer.from('160301020001000001fc0303', 'hex'));
    expect(await client.reply()).toMatchObject({ code: 421, status: '4.7.0' });
    await client.closed();
  });

  test('SMUG-04 commands that end in a bare LF are refused', async () => {
    await open();
    const client = await fixture.greeted();
    client.raw('MAIL FROM:<a@a.test>\nRCPT TO:<b@b.test>\r\nDATA\n');
    expect(await client.reply()).toMatchObject({ code: 500, status: '5.5.2' });
    expect(await client.reply()).toMatchObject({ code: 503, status: '5.5.1' });
    expect(await client.reply()).toMatchObject({ code: 500, status: '5.5.2' });
  });

  test.each([
    ['a NUL', 'NOOP\0\r\n'],
    ['a bare CR', 'NOOP\rRSET\r\n'],
    ['a control character', 'NOOP \x01\r\n'],
    ['no UTF-8', Buffer.from([0x4e, 0x4f, 0x4f, 0x50, 0x20, 0xff, 0x0d, 0x0a])],
  ])('INJ-02 a command with %s is refused', async (_, octets) => {
    await open();
    const client = await fixture.greeted();
    client.raw(octets);
    expect(await client.reply()).toMatchObject({ code: 500, status: '5.5.2' });
    expect(await client.one('NOOP')).toMatchObject({ code: 250 });
  });

  test.each(['x'.repeat(100_000), `${'x'.repeat(3000)}\r\n`])(
    'a command line without end is refused',
    async (octets) => {
      await open();
      const client = await fixture.greeted();
      client.raw(octets);
      expect(await client.reply()).toMatchObject({ code: 500, status: '5.5.2' });
      await client.closed();
    },
  );

  test('after 20 errors the conversation ends', async () => {
    await open();
    const client = await fixture.greeted();
    client.raw('FOO\r\n'.repeat(30));
    for (let i = 0; i < 20; i++) expect(await client.reply()).toMatchObject({ code: 500 });
    expect(await client.reply()).toMatchObject({ code: 421, status: '4.7.0' });
    expect(await client.replyOrEnd()).toBeNull();
  });

  test('after 100 commands without a message the conversation ends', async () => {
    await open();
    const client = await fixture.greeted();
    client.raw('NOOP\r\n'.repeat(200));
    for (let i = 0; i < 99; i++) expect(await client.reply()).toMatchObject({ code: 250 });
    expect(await client.reply()).toMatchObject({ code: 421, status: '4.7.0' });
    expect(await client.replyOrEnd()).toBeNull();
  });

  test('many wrong recipients do not end the conversation: the message still goes to the others', async () => {
    await open();
    const client = await fixture.greeted();
    await client.one('MAIL FROM:<a@a.test>');
    for (const reply of await client.say(...Array<string>(60).fill('RCPT TO:<bad>'))) expect(reply.code).toBe(501);
    await client.say('RCPT TO:<b@b.test>', 'DATA');
    client.raw('x\r\n.\r\n');
    expect(await client.reply()).toMatchObject({ code: 250 });
  });

  test.each(['EHLO', 'HELO', 'EHLO a b', `EHLO ${'x'.repeat(256)}`])('%s is 501', async (line) => {
    await open();
    const client = await fixture.connect();
    await client.reply();
    expect(await client.one(line)).toMatchObject({ code: 501, status: '5.5.4' });
  });

  test('random octets never crash it', async () => {
    await open({ limits: { connections: 500, connectionsPerClient: 500 } });
    let seed = 20261122;
    const random = (): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return seed / 2 ** 32;
    };
    const words = [
      'EHLO x',
      'MAIL FROM:<a@a.test>',
      'RCPT TO:<b@b.test>',
      'DATA',
      '.',
      'RSET',
      '\r\n',
      '\n',
      '\r',
      '\0',
      'x',
      'STARTTLS',
    ];
    for (let round = 0; round < 60; round++) {
      const client = await fixture.connect();
      for (let i = 0; i < 30; i++) {
        const word = words[Math.floor(random() * words.length)] ?? '';
        client.raw(
          random() < 0.2 ? Buffer.from([Math.floor(random() * 256)]) : `${word}${random() < 0.8 ? '\r\n' : ''}`,
        );
      }
      client.socket.end();
    }
    const client = await fixture.greeted();
    expect(await client.one('NOOP')).toMatchObject({ code: 250 });
    expect(fixture.errors).toEqual([]);
  });
});

test('a port that is taken is an error, and no other port stays open', async () => {
  await open();
  const port = fixture.port;
  const listen = [
    { address: '127.0.0.1', port: 0, tls: 'starttls' as const },
    { address: '127.0.0.1', port, tls: 'starttls' as const },
  ];
  const second = createReceiver({ ...fixture.options, listen });
  await expect(second.listen()).rejects.toThrow('EADDRINUSE');
  expect(second.addresses().map((address) => address.port)).toEqual([0, port]);
});

describe('stopping', () => {
  test('an idle client hears 421 4.3.2', async () => {
    await open();
    const client = await fixture.greeted();
    const stopped = fixture.receiver.close(5000);
    expect(await client.reply()).toMatchObject({ code: 421, status: '4.3.2' });
    await client.closed();
    client.destroy();
    await stopped;
  });

  test('a message under way is finished first', async () => {
    await open();
    const client = await fixture.greeted();
    await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'DATA');
    const stopped = fixture.receiver.close(10_000);
    client.raw('x\r\n.\r\n');
    expect(await client.reply()).toMatchObject({ code: 250 });
    expect(await client.reply()).toMatchObject({ code: 421, status: '4.3.2' });
    client.destroy();
    await stopped;
    expect(fixture.accepted).toHaveLength(1);
  });

  test('one that takes too long is ended, and not accepted', async () => {
    await open();
    const client = await fixture.greeted();
    await client.say('MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'DATA');
    const stopped = fixture.receiver.close(50);
    expect(await client.reply()).toMatchObject({ code: 421, status: '4.3.2' });
    await stopped;
    expect(fixture.accepted).toEqual([]);
  });
});
