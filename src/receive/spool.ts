/**
 * Where the octets of a message wait until it is accepted: small ones in memory, large ones in a file, so that memory
 * does not grow with the size of messages nor without bound with their number.
 *
 *   state     on disk             after a failure, a refusal or a lost client
 *   memory    nothing             forgotten
 *   file      ID.incoming, 0600   deleted
 *   kept      the same, synced    deleted, unless the store has taken it over
 *
 * A file that is not too large stays in memory as well until then, within bounds.
 *
 * What a crash leaves is deleted by `clear` at the next start: nobody was told that it was accepted.
 */
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Body } from '../model/message.ts';
import { roomOn } from '../shared/room.ts';

/** Octets of one message that stay in memory. */
const SMALL = 256 * 1024;
/** Octets of one message that are written to its file in one go, and leave in one go from memory. */
const BLOCK = 256 * 1024;
/** Octets of all messages together that stay in memory; above that also small ones go to files. */
const IN_MEMORY = 32 * 1024 * 1024;
/** Octets of one message, and of all together, that stay in memory beside their file, for who delivers them at once. */
const KEPT = 4 * 1024 * 1024;
const KEPT_IN_ALL = 16 * 1024 * 1024;
/** Octets of one message between two looks at how full the disk is. */
const LOOK_EVERY = 256 * 1024;
const SUFFIX = '.incoming';

export class Spool {
  readonly #dir: string;
  #inMemory = 0;
  #kept = 0;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Makes the folder, and deletes what a crash left in it, also in the folders of workers that there were. */
  async clear(): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const names = await readdir(this.#dir, { recursive: true });
    await Promise.all(
      names.filter((name) => name.endsWith(SUFFIX)).map((name) => rm(join(this.#dir, name), { force: true })),
    );
  }

  /** Begins a message. Its draft must be ended with `discard`, whatever happens. */
  draft(id: string): Draft {
    const count = (octets: number): boolean => {
      this.#inMemory += octets;
      return this.#inMemory <= IN_MEMORY;
    };
    const keep = (octets: number): boolean => {
      this.#kept += octets;
      return this.#kept <= KEPT_IN_ALL;
    };
    return new Draft(join(this.#dir, `${id}${SUFFIX}`), count, keep);
  }
}

export class Draft {
  readonly #path: string;
  /** Counts octets in and out of memory; false when there are too many. */
  readonly #count: (octets: number) => boolean;
  /** The same for what is in the file already. */
  readonly #keep: (octets: number) => boolean;
  /** What of a large message is in its file and in memory; null when that became too much. */
  #kept: Buffer[] | null = [];
  #keptOctets = 0;
  /** All of a small message; nothing of a large one. */
  #chunks: Buffer[] = [];
  /** What of a large message is not written yet: the beginning of a block. */
  #block: Buffer | null = null;
  /** Octets in memory that are in no file. */
  #held = 0;
  #file: FileHandle | null = null;
  #hash: Hash | null = null;
  /** Octets that may be written before the disk is looked at again. */
  #unlooked = 0;
  #hasFile = false;

  constructor(path: string, count: (octets: number) => boolean, keep: (octets: number) => boolean) {
    this.#path = path;
    this.#count = count;
    this.#keep = keep;
  }

  /**
   * Keeps the octets. A promise when they have to be written first: nothing more may come until it has resolved. It
   * rejects with the error of the file system, after which only `discard` makes sense.
   */
  write(octets: Buffer): Promise<void> | null {
    if (this.#hasFile) return this.#append(octets);
    this.#chunks.push(octets);
    this.#held += octets.length;
    const hasRoom = this.#count(octets.length);
    return hasRoom && this.#held <= SMALL ? null : this.#toFile(this.#taken());
  }

  /** The finished body; a file is on the disk when this resolves. */
  async finish(): Promise<Body> {
    const [first, ...others] = this.#chunks;
    if (!this.#hasFile)
      return { kind: 'memory', bytes: first && others.length === 0 ? first : Buffer.concat(this.#chunks) };
    await this.#toFile(this.#taken());
    await this.#file?.sync();
    await this.#close();
    const sha256 = (this.#hash ?? createHash('sha256')).digest();
    return { kind: 'file', path: this.#path, sha256, ...(this.#kept && { blocks: this.#kept }) };
  }

  /** Chunks are put together in blocks: the octets then cost one object in a hundred, and can leave in one go. */
  #append(octets: Buffer): Promise<void> | null {
    if (this.#block === null && !this.#startBlock(octets.length)) {
      this.#letGo();
      return this.#toFile(octets);
    }
    const block = this.#block;
    if (!block || this.#held + octets.length > block.length) return this.#toFile(this.#taken(), octets);
    octets.copy(block, this.#held);
    this.#held += octets.length;
    return null;
  }

  /** False when there is no room for a block. */
  #startBlock(octets: number): boolean {
    const size = Math.max(BLOCK, octets);
    const hasRoom = this.#count(size);
    if (hasRoom) this.#block = Buffer.allocUnsafeSlow(size);
    else this.#count(-size);
    return hasRoom;
  }

  /** What is in memory, which is not counted any more. */
  #taken(): Buffer {
    const block = this.#block;
    const taken = block ? filled(block, this.#held) : Buffer.concat(this.#chunks, this.#held);
    this.#count(-(block ?? taken).length);
    this.#held = 0;
    this.#chunks = [];
    this.#block = null;
    return taken;
  }

  /** Many large messages at once must not take the room that is kept for those that leave. @param next is for the block after it */
  async #toFile(block: Buffer, next: Buffer | null = null): Promise<void> {
    if (block.length > 0) await this.#writeBlock(block);
    if (next) await this.#append(next);
  }

  async #writeBlock(block: Buffer): Promise<void> {
    if (!this.#file) {
      this.#file = await open(this.#path, 'wx', 0o600);
      this.#hasFile = true;
      this.#hash = createHash('sha256');
    }
    this.#unlooked -= block.length;
    if (this.#unlooked < 0) {
      if (roomOn(this.#path) < block.length)
        throw Object.assign(new Error('the disk is nearly full'), { code: 'ENOSPC' });
      this.#unlooked = LOOK_EVERY;
    }
    this.#hash?.update(block);
    const { bytesWritten } = await this.#file.write(block);
    if (bytesWritten < block.length) await this.#file.appendFile(block.subarray(bytesWritten));
    this.#alsoKeep(block);
  }

  #alsoKeep(block: Buffer): void {
    if (!this.#kept) return;
    this.#kept.push(block);
    this.#keptOctets += block.length;
    const hasRoom = this.#keep(block.length);
    if (!hasRoom || this.#keptOctets > KEPT) this.#letGo();
  }

  #letGo(): void {
    this.#keep(-this.#keptOctets);
    this.#keptOctets = 0;
    this.#kept = null;
  }

  /** Forgets the message. A file that the store has taken to another place stays there. Never rejects. */
  async discard(): Promise<void> {
    this.#taken();
    this.#letGo();
    if (!this.#hasFile) return;
    await this.#close().catch(() => undefined);
    await unlink(this.#path).catch(() => undefined);
  }

  async #close(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    await file?.close();
  }
}

/** The octets at the beginning of a block; the little that a last one has does not keep all of it. */
function filled(block: Buffer, octets: number): Buffer {
  const part = block.subarray(0, octets);
  return octets > block.length / 2 ? part : Buffer.from(part);
}
