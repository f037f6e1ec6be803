/** A body on its way to a socket, piece by piece: the memory of one piece is used again for the next. */
import type { Socket } from 'node:net';
import type { LeavingBody } from '../model/message.ts';
import { giveBlock, takeBlock } from '../shared/blocks.ts';
import type { HeldFile } from '../shared/held-file.ts';

/** Octets that are written without asking whether the host takes them: what sockets hold anyway. */
const ONE_WRITE = 64 * 1024;

/** All of a body that is in memory and that a socket holds whole; else null. */
export function inOneWrite(body: LeavingBody): Buffer | null {
  return body.kind !== 'stream' && fileOf(body) === null && body.bytes.length <= ONE_WRITE ? body.bytes : null;
}

/** Parts that a socket holds whole. Each is asked for when the one before is done with, since its memory is used again. */
export function partsOf(body: LeavingBody): Iterable<Buffer> | AsyncIterable<Buffer> {
  if (body.kind === 'stream') return body.stream;
  const file = fileOf(body);
  return file === null ? inParts(body.bytes) : partsOfBoth(body.bytes, file);
}

async function* partsOfBoth(bytes: Buffer, file: HeldFile): AsyncIterable<Buffer> {
  yield* inParts(bytes);
  const block = takeBlock();
  for (let at = 0; ; ) {
    const octets = await file.read(block, at);
    if (octets === 0) break;
    yield* inParts(block.subarray(0, octets));
    at += octets;
  }
  // Not where it was left in the middle: a socket may still be at it.
  giveBlock(block);
}

function* inParts(bytes: Buffer): Iterable<Buffer> {
  for (let at = 0; at < bytes.length; at += ONE_WRITE) yield bytes.subarray(at, at + ONE_WRITE);
}

function fileOf(body: LeavingBody): HeldFile | null {
  return body.kind === 'fresh' ? body.file : null;
}

/**
 * True when the socket has no more use for the memory of these octets; false when it has failed, which it tells itself.
 * What is in one piece is not copied; many pieces are put together, since each write costs more than its octets.
 */
export function written(socket: Socket, [first, ...others]: readonly Buffer[]): Promise<boolean> {
  if (!first) return Promise.resolve(true);
  const octets = others.length === 0 ? first : Buffer.concat([first, ...others]);
  return new Promise((resolve) => {
    socket.write(octets, (error) => resolve(!error));
  });
}
