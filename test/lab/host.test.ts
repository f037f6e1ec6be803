/** The lab's mail hosts are the far end of many tests, so they themselves must be what they say. */
import { createConnection } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { selfSigned } from '../../lab/certificates.ts';
import { type MailHost, type Mood, startHost } from '../../lab/host.ts';

const hosts: MailHost[] = [];
afterEach(async () => {
  await Promise.all(hosts.splice(0).map((host) => host.stop()));
});

async function host(mood: Mood): Promise<MailHost> {
  const identity = await selfSigned('mx.example.test');
  const started = await startHost({ name: 'mx.example.test', address: '127.0.0.1', port: 0, mood, identity });
  hosts.push(started);
  return started;
}

/** Sends everything at once and resolves to all that was said until the host hung up. */
function talk({ address, port }: MailHost, said: string | Buffer): Promise<string> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: address, port }, () => socket.write(said));
    let heard = '';
    socket.on('data', (chunk: Buffer) => {
      heard += chunk.toString();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(heard));
  });
}

const ENVELOPE = 'EHLO c\r\nMAIL FROM:<a@b.test> SIZE=9\r\nRCPT TO:<c@d.test> NOTIFY=NEVER\r\n';

describe('a mail host of the lab', () => {
  test('keeps the octets of a message as they came, whatever they are, without dot stuffing', async () => {
    const mx = await host('well');
    const body = Buffer.from('..dot\r\nfour: é\r\n\u0000\r\nlone\rlone\nend\r\n', 'latin1');
    await talk(mx, Buffer.concat([Buffer.from(`${ENVELOPE}DATA\r\n`), body, Buffer.from('.\r\nQUIT\r\n')]));
    expect(mx.mailbox()).toHaveLength(1);
    expect(mx.mailbox()[0]).toMatchObject({
      sender: 'a@b.test',
      recipients: ['c@d.test'],
      parameters: ['SIZE=9', 'NOTIFY=NEVER'],
      tls: null,
    });
    expect(mx.mailbox()[0]?.content).toEqual(body.subarray(1));
  });

  test('takes an empty message, two messages on one connection, and one of 5 MB', async () => {
    const mx = await host('well');
    const large = `${'x'.repeat(76)}\r\n`.repeat(65_536);
    const first = `${ENVELOPE}DATA\r\n.\r\n`;
    await talk(mx, `${first}MAIL FROM:<>\r\nRCPT TO:<e@d.test>\r\nDATA\r\n${large}.\r\nQUIT\r\n`);
    expect(mx.mailbox().map(({ sender, content }) => [sender, content.length])).toEqual([
      ['a@b.test', 0],
      ['', large.length],
    ]);
  });

  test('writes down who dialled, what was said, and that nobody did', async () => {
    const mx = await host('well');
    expect(mx.contacts()).toEqual([]);
    await talk(mx, 'EHLO c\r\nQUIT\r\n');
    expect(mx.contacts()).toEqual([{ peer: '127.0.0.1', commands: ['EHLO c', 'QUIT'] }]);
  });

  test('does STARTTLS with its certificate, forgets what came before, and throws away what was put in between', async () => {
    const mx = await host('well');
    const plain = createConnection({ host: mx.address, port: mx.port });
    const until = (text: string): Promise<void> =>
      new Promise((resolve) => {
        let heard = '';
        plain.on('data', (chunk: Buffer) => {
          heard += chunk.toString();
          if (heard.includes(text)) resolve();
        });
      });
    const ready = until('Go ahead');
    plain.write('EHLO c\r\nMAIL FROM:<evil@b.test>\r\nSTARTTLS\r\nRCPT TO:<evil@d.test>\r\n');
    await ready;
    plain.removeAllListeners('data');
    const heard = await new Promise<string>((resolve) => {
      const secured = connectTls({ socket: plain, rejectUnauthorized: false, servername: 'mx.example.test' }, () =>
        secured.write(`${ENVELOPE}DATA\r\nhello\r\n.\r\nQUIT\r\n`),
      );
      let words = '';
      secured.on('data', (chunk: Buffer) => {
        words += chunk.toString();
      });
      secured.on('close', () => resolve(words));
    });
    expect(heard).not.toContain('STARTTLS');
    expect(mx.mailbox()[0]).toMatchObject({
      sender: 'a@b.test',
      recipients: ['c@d.test'],
      tls: { version: 'TLSv1.3', serverName: 'mx.example.test' },
    });
  });

  test.each<[Mood, string, string]>([
    ['no-starttls', 'EHLO c\r\nSTARTTLS\r\nQUIT\r\n', '502 '],
    ['starttls-refused', 'EHLO c\r\nSTARTTLS\r\nQUIT\r\n', '454 '],
    ['turns-away', '', '554 '],
    ['unknown-users', `${ENVELOPE}QUIT\r\n`, '550 5.1.1'],
    ['greylists', `${ENVELOPE}QUIT\r\n`, '451 4.7.1'],
    ['disk-full', `${ENVELOPE}DATA\r\nQUIT\r\n`, '452 4.3.1'],
  ])('in the mood "%s" says what that mood means', async (mood, said, heard) => {
    const mx = await host(mood);
    expect(await talk(mx, said)).toContain(heard);
    expect(mx.mailbox()).toEqual([]);
  });

  test('in the mood "handshake-fails" answers the handshake with something else', async () => {
    const { address, port } = await host('handshake-fails');
    const socket = createConnection({ host: address, port }, () => socket.write('EHLO c\r\nSTARTTLS\r\n'));
    let heard = '';
    for await (const chunk of socket) {
      heard += String(chunk);
      if (heard.endsWith('Go ahead\r\n')) socket.write('the handshake');
    }
    expect(heard).toMatch(/220 2\.0\.0 Go ahead\r\nThis is no TLS\.\r\n$/);
  });

  test('that greylists takes the same sender and recipient the second time', async () => {
    const mx = await host('greylists');
    await talk(mx, `${ENVELOPE}QUIT\r\n`);
    await talk(mx, `${ENVELOPE}DATA\r\nx\r\n.\r\nQUIT\r\n`);
    expect(mx.mailbox()).toHaveLength(1);
  });

  test('that takes 7 bits does not offer 8BITMIME, and one without STARTTLS does not offer that', async () => {
    expect(await talk(await host('seven-bit'), 'EHLO c\r\nQUIT\r\n')).not.toContain('8BITMIME');
    expect(await talk(await host('no-starttls'), 'EHLO c\r\nQUIT\r\n')).not.toContain('STARTTLS');
    expect(await talk(await host('well'), 'EHLO c\r\nQUIT\r\n')).toMatch(/8BITMIME.*STARTTLS/s);
  });

  test('that is down cannot be dialled, and comes up again on the same port', async () => {
    const mx = await host('down');
    expect(await talk(mx, 'QUIT\r\n')).toBe('');
    await mx.setMood('well');
    expect(await talk(mx, 'QUIT\r\n')).toContain('221 ');
  });
});
