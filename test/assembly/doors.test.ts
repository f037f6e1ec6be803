/** The ports of a relay with several workers, and processes that connections are given to. */
import { type ChildProcess, fork } from 'node:child_process';
import { connect, createServer, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { abandon, confirm, createDoors, type Doors, type Taker } from '../../src/assembly/doors.ts';

const PROGRAM = fileURLToPath(new URL('./doors-child.ts', import.meta.url));
const ANY = { address: '127.0.0.1', port: 0, tls: 'starttls' } as const;

let doors: Doors | undefined;
const children: ChildProcess[] = [];
const sockets: Socket[] = [];
afterEach(() => {
  doors?.close();
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const socket of sockets.splice(0)) socket.destroy();
});

async function taker(): Promise<Taker> {
  const child = fork(PROGRAM, { execArgv: [] });
  children.push(child);
  const self: Taker = { process: child, given: [] };
  child.on('message', () => confirm(self));
  await new Promise((resolve) => child.once('spawn', resolve));
  return self;
}

/** Resolves to what it hears until its end; to `reset` when that is all. */
function call(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    sockets.push(socket);
    let heard = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      heard += text;
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(heard.trim() === '' ? 'nothing' : heard.trim()));
  });
}

async function opened(all: readonly Taker[] | (() => readonly Taker[]), count = 1): Promise<readonly number[]> {
  doors = createDoors(Array<typeof ANY>(count).fill(ANY), typeof all === 'function' ? all : () => all);
  return (await doors.open()).map(({ port }) => port);
}

test('connections are given by turns, and each with the door that it came through', async () => {
  const both = [await taker(), await taker()];
  const [first = 0, second = 0] = await opened(both, 2);
  const heard: string[] = [];
  for (let each = 0; each < 10; each++) heard.push(await call(each < 6 ? first : second));
  const counts = both.map(({ process: { pid } }) => heard.filter((words) => words.startsWith(`${pid} `)).length);
  expect(counts).toEqual([5, 5]);
  expect(heard.map((words) => words.at(-1))).toEqual([...'0000001111']);
  await expect.poll(() => both.map(({ given }) => given.length)).toEqual([0, 0]);
});

test('while nobody is there to take them they wait, as many as are allowed; who is more is sent away', async () => {
  const all: Taker[] = [];
  const [port = 0] = await opened(() => all);
  const early = Array.from({ length: 500 }, () => call(port));
  await expect.poll(() => connectedOf(sockets)).toBe(500);
  // The server has to have seen them: those that come now are more than may wait.
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(await Promise.all([call(port), call(port)])).toEqual(['nothing', 'nothing']);
  const only = await taker();
  all.push(only);
  doors?.goOn();
  const heard = await Promise.all(early);
  expect(new Set(heard)).toEqual(new Set([`${only.process.pid} at 0`]));
});

test('what was given to a process that dies before it takes it is ended, so that its client comes again', async () => {
  const first = await taker();
  const second = await taker();
  const [port = 0] = await opened([first, second]);
  first.process.kill('SIGSTOP');
  const calls = [call(port), call(port), call(port), call(port)];
  await expect.poll(() => first.given.length).toBe(2);
  const ended = new Promise((resolve) => first.process.once('exit', resolve)).then(() => abandon(first));
  first.process.kill('SIGKILL');
  await ended;
  expect((await Promise.all(calls)).sort()).toEqual([
    `${second.process.pid} at 0`,
    `${second.process.pid} at 0`,
    'nothing',
    'nothing',
  ]);
});

test('a client that has left meanwhile is nobody’s trouble', async () => {
  const all: Taker[] = [];
  const [port = 0] = await opened(() => all);
  const left = call(port);
  await expect.poll(() => connectedOf(sockets)).toBe(1);
  sockets[0]?.resetAndDestroy();
  await left;
  const stays = call(port);
  await expect.poll(() => connectedOf(sockets)).toBe(2);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const only = await taker();
  all.push(only);
  doors?.goOn();
  expect(await stays).toBe(`${only.process.pid} at 0`);
  await expect.poll(() => only.given.length).toBe(0);
});

test('all ports are opened, or none', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  const taken = (other.address() as { port: number }).port;
  const probe = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => probe.once('listening', resolve));
  const free = (probe.address() as { port: number }).port;
  await new Promise((resolve) => probe.close(resolve));
  const both = createDoors(
    [
      { ...ANY, port: free },
      { ...ANY, port: taken },
    ],
    () => [],
  );
  await expect(both.open()).rejects.toThrow('EADDRINUSE');
  expect(await call(free)).toBe('nothing');
  expect(connectedOf(sockets)).toBe(0);
  await new Promise((resolve) => other.close(resolve));
});

test('closed: nobody comes in any more, who waits is sent away, and who was given stays', async () => {
  const all = [await taker()];
  const takers: Taker[] = [];
  const [port = 0] = await opened(() => takers);
  const waits = call(port);
  await expect.poll(() => connectedOf(sockets)).toBe(1);
  await new Promise((resolve) => setTimeout(resolve, 100));
  takers.push(...all);
  const [given] = all;
  given?.process.kill('SIGSTOP');
  const inside = call(port);
  await expect.poll(() => given?.given.length).toBe(1);
  doors?.close();
  expect(await waits).toBe('nothing');
  expect(await call(port)).toBe('nothing');
  given?.process.kill('SIGCONT');
  expect(await inside).toBe(`${given?.process.pid} at 0`);
});

/** How many have got as far as the other side’s kernel. */
function connectedOf(all: readonly Socket[]): number {
  return all.filter(
    ({ connecting, remotePort, bytesRead }) => !connecting && (remotePort !== undefined || bytesRead > 0),
  ).length;
}
