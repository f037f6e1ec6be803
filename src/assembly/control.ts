/**
 * How the command line speaks to a relay that runs: over a Unix socket in its state folder, which only its owner can
 * open. One word goes in and one JSON document comes out. Nobody looks for a process and nobody signals one, so that
 * no stranger can be meant by mistake.
 */
import { chmodSync, closeSync, openSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { messageOf } from '../shared/message-of.ts';

/** What can be asked, and what gives the answer. An answer is what JSON can say. */
export type Answers = Readonly<Record<string, () => Promise<unknown>>>;

export interface Control {
  /** Takes no more questions; the socket is gone afterwards. Never rejects. */
  readonly close: () => Promise<void>;
}

const SOCKET = 'control.sock';
const WORD_OCTETS = 64;
const CONNECTIONS = 16;
/** For the word to come in, and for the answer to be taken. */
const PATIENCE_MS = 5_000;
/** For the answer to come: a certificate may have to be made. */
const ANSWER_MS = 60_000;
const ANSWER_OCTETS = 1024 * 1024;

/** @throws when another relay answers there, or the socket cannot be made */
export async function openControl(folder: string, answers: Answers): Promise<Control> {
  // The path of a socket has 107 octets at most; by way of the handle, that of the folder does not count.
  const handle = openSync(folder, 'r');
  const path = `/proc/self/fd/${handle}/${SOCKET}`;
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    answer(socket, answers);
  });
  server.maxConnections = CONNECTIONS;
  try {
    if (await isAnswered(path)) throw new Error(`another relay works in ${folder}`);
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    chmodSync(path, 0o600);
  } catch (error) {
    server.close();
    closeSync(handle);
    throw error;
  }
  return {
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of open) socket.destroy();
      await closed;
      closeSync(handle);
    },
  };
}

/** @throws when a relay works in `folder`, which need not be there */
export async function refuseSecond(folder: string): Promise<void> {
  const handle = openFolder(folder);
  if (handle === null) return;
  try {
    if (await isAnswered(`/proc/self/fd/${handle}/${SOCKET}`)) throw new Error(`another relay works in ${folder}`);
  } finally {
    closeSync(handle);
  }
}

/**
 * Asks the relay that works in `folder`; null when none does.
 *
 * @throws when it gives no answer that can be read
 */
export async function askRelay<Answer>(folder: string, word: string): Promise<Answer | null> {
  const handle = openFolder(folder);
  if (handle === null) return null;
  try {
    const socket = await dial(`/proc/self/fd/${handle}/${SOCKET}`);
    if (!socket) return null;
    socket.setTimeout(ANSWER_MS, () => socket.destroy(new Error('the relay does not answer')));
    socket.write(`${word}\n`);
    const text = await allOf(socket, ANSWER_OCTETS);
    if (text === '') throw new Error('the relay ended before it answered');
    return JSON.parse(text) as Answer;
  } finally {
    closeSync(handle);
  }
}

function answer(socket: Socket, answers: Answers): void {
  let heard = '';
  socket.on('error', () => socket.destroy());
  socket.setTimeout(PATIENCE_MS, () => socket.destroy());
  socket.on('data', (chunk) => {
    heard += chunk.toString('latin1');
    const end = heard.indexOf('\n');
    if (end < 0 && heard.length < WORD_OCTETS) return;
    socket.removeAllListeners('data').resume();
    socket.setTimeout(0);
    const word = heard.slice(0, end);
    void say(socket, Object.hasOwn(answers, word) ? answers[word] : undefined);
  });
}

async function say(socket: Socket, find: Answers[string] | undefined): Promise<void> {
  const found = await (find?.() ?? Promise.reject(new Error('there is no such question'))).catch((error: unknown) => ({
    error: messageOf(error),
  }));
  socket.setTimeout(PATIENCE_MS);
  socket.end(JSON.stringify(found));
}

function openFolder(folder: string): number | null {
  try {
    return openSync(folder, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

async function isAnswered(path: string): Promise<boolean> {
  const socket = await dial(path);
  socket?.destroy();
  return socket !== null;
}

/** Null when nobody listens: the file is not there, or was left by a relay that has ended. */
function dial(path: string): Promise<Socket | null> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(socket));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(null);
      else reject(error);
    });
  });
}

async function allOf(socket: Socket, octetsAtMost: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > octetsAtMost) throw new Error('the answer of the relay has no end');
  }
  return Buffer.concat(chunks).toString();
}
