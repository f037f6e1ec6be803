/** Clients of every bad kind at once, for a whole relay to live through. */
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

export interface Crowd {
  readonly size: number;
  readonly leave: () => void;
}

const DATA = 'EHLO x\r\nMAIL FROM:<evil@in.test>\r\nRCPT TO:<victim@out.test>\r\nDATA\r\n';
const MEBIBYTE = Buffer.alloc(1024 * 1024, 'x');
const HEADERS = Buffer.from('X-More: and more and more\r\n'.repeat(40_000));
const NOOPS = Buffer.from('NOOP\r\n'.repeat(20_000));

/** What one of them does with its connection. */
type Manner = (socket: Socket) => void;

/** Writes the same again and again, as fast as it is taken, and reads nothing. */
function flood(octets: Buffer, first = ''): Manner {
  return (socket) => {
    socket.pause();
    socket.write(first);
    const more = (): void => {
      while (!socket.destroyed && socket.writable && socket.write(octets));
    };
    socket.on('drain', more);
    more();
  };
}

function drip(text: string, first = ''): Manner {
  return (socket) => {
    let at = 0;
    socket.write(first);
    const timer = setInterval(() => socket.write(text.charAt(at++ % text.length)), 20);
    socket.on('close', () => clearInterval(timer));
  };
}

const says =
  (octets: string | Buffer): Manner =>
  (socket) =>
    void socket.write(octets);

const MANNERS: readonly Manner[] = [
  () => undefined,
  (socket) => socket.end(),
  (socket) => socket.resetAndDestroy(),
  drip('EHLO evil.example '),
  drip('\x16\x03\x01', 'EHLO x\r\nSTARTTLS\r\n'),
  drip('x\r\n', DATA),
  flood(MEBIBYTE),
  flood(NOOPS),
  flood(MEBIBYTE, DATA),
  flood(HEADERS, DATA),
  flood(Buffer.from('Received: x\r\n'.repeat(50_000)), DATA),
  flood(Buffer.from('..\r\n\r\n...\r\n'.repeat(50_000)), DATA),
  says('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
  says(Buffer.from('160301020001000001fc0303', 'hex')),
  says('STARTTLS\r\nEHLO x\r\nMAIL FROM:<evil@in.test>\r\n'),
  says(`${DATA}half a message\r\n.\r`),
  (socket) => {
    socket.write('EHLO x\r\nSTARTTLS\r\n');
    socket.once('data', () => {
      const secure = connectTls({ socket, rejectUnauthorized: false, maxVersion: 'TLSv1.2' }, () => {
        secure.renegotiate({}, () => undefined);
      });
      secure.on('error', () => socket.destroy());
    });
  },
];

/** @param from loopback address that they come from */
export function hostileCrowd(port: number, from: string, size: number): Crowd {
  const sockets = Array.from({ length: size }, (_, at) => {
    const socket = connect({ port, localAddress: from, allowHalfOpen: true });
    socket.on('error', () => socket.destroy());
    socket.once('connect', () => MANNERS[at % MANNERS.length]?.(socket));
    return socket;
  });
  return {
    size,
    leave: () => {
      for (const socket of sockets) socket.destroy();
    },
  };
}
