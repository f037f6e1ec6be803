/**
 * Where the octets of a message wait until it is accepted: small ones in memory, large ones in a file, so that memory
 * does not grow with the size of messages nor without bound with their number.
 *
 *   state     on disk             after a failure, a refusal or a lost client
 *   memory    nothing             forgotten
 *   file      ID.incoming, 0600   deleted
 *   kept      the same, synced    deleted, unless the store has taken it over
 *
 * What a crash leaves is deleted by `clear` at the next start: nobody was told that it was accepted.
 */
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Body } from '../model/message.ts';
import { BLOCK_OCTETS, giveBlock, takeBlock } from '../shared/blocks.ts';
import { HeldFile } from '../shared/held-file.ts';
import { roomOn } from '../shared/room.ts';

/** Octets of one message that stay in memory. */
const SMALL = 256 * 1024;
/** Octets of all messages together that stay in memory; above that also small ones go to files. */
const IN_MEMORY = 32 * 1024 * 1024;
/** Pieces of this size are kept as they are. */
const PIECE = 8 * 1024;
/** Octets of one message between two looks at how full the disk is. */
const LOOK_EVERY = 256 * 1024;
const SUFFIX = '.incoming';

export class Spool {
  readonly #dir: string;
  #inMemory = 0;

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
    return new Draft(join(this.#dir, `${id}${SUFFIX}`), count);
  }
}

export class Draft {
  readonly #path: string;
  /** Counts octets in and out of memory; false when there are too many. */
  readonly #count: (octets: number) => boolean;
  /** A small message. */
  #chunks: Buffer[] = [];
  /** What of a large one is not written yet: the beginning of a block. */
  #block: Buffer | null = null;
  /** Octets in either. */
  #held = 0;
  #file: FileHandle | null = null;
  /** What the store is given to hold. */
  #finished: HeldFile | null = null;
  #hash: Hash | null = null;
  /** Octets that may be written before the disk is looked at again. */
  #unlooked = 0;

  constructor(path: string, count: (octets: number) => boolean) {
    this.#path = path;
    this.#count = count;
  }

  /**
   * Keeps the octets. A promise when they have to be written first: nothing more may come until it has resolved. It
   * rejects with the error of the file system, after which only `discard` makes sense.
   */
  write(octets: Buffer): Promise<void> | null {
    if (this.#file) return this.#append(octets);
    this.#gather(octets);
    this.#held += octets.length;
    const hasRoom = this.#count(octets.length);
    return hasRoom && this.#held <= SMALL ? null : this.#startFile();
  }

  /** The finished body; a file is on the disk when this resolves. */
  async finish(): Promise<Body> {
    const [first, ...others] = this.#chunks;
    const [file, hash] = [this.#file, this.#hash];
    if (!file || !hash)
      return { kind: 'memory', bytes: first && others.length === 0 ? first : Buffer.concat(this.#chunks) };
    await this.#writeBlock();
    this.#giveBlock();
    await file.sync();
    this.#finished = new HeldFile(file);
    return { kind: 'file', path: this.#path, sha256: hash.digest(), file: this.#finished };
  }

  /**
   * Small pieces are joined with their like, so that few are kept, however many came: a TLS record of one octet would
   * else take hundreds of octets of memory. Each octet is copied as often as its piece doubles.
   */
  #gather(octets: Buffer): void {
    let last = octets;
    while (last.length < PIECE) {
      const before = this.#chunks.at(-1);
      if (!before || before.length > last.length) break;
      this.#chunks.pop();
      last = Buffer.concat([before, last]);
    }
    this.#chunks.push(last);
  }

  async #startFile(): Promise<void> {
    this.#file = await open(this.#path, 'wx+', 0o600);
    this.#hash = createHash('sha256');
    const chunks = this.#chunks;
    this.#forget();
    for (const chunk of chunks) await this.#append(chunk);
  }

  /** What does not fit into the block any more is written through it. */
  #append(octets: Buffer): Promise<void> | null {
    return this.#fit(octets) ? null : this.#writeThrough(octets);
  }

  async #writeThrough(octets: Buffer): Promise<void> {
    await this.#writeBlock();
    if (!this.#fit(octets)) await this.#writeOctets(octets);
  }

  /** False also where many large messages would take the memory that small ones need: then each chunk is written as it comes. */
  #fit(octets: Buffer): boolean {
    const block = this.#block ?? this.#takeBlock();
    if (!block || this.#held + octets.length > block.length) return false;
    octets.copy(block, this.#held);
    this.#held += octets.length;
    return true;
  }

  async #writeBlock(): Promise<void> {
    if (!this.#block || this.#held === 0) return;
    await this.#writeOctets(this.#block.subarray(0, this.#held));
    this.#held = 0;
  }

  async #writeOctets(octets: Buffer): Promise<void> {
    const file = this.#file;
    if (!file) throw new Error('a message that was given up is still being written');
    this.#unlooked -= octets.length;
    if (this.#unlooked < 0) {
      if (roomOn(this.#path) < octets.length)
        throw Object.assign(new Error('the disk is nearly full'), { code: 'ENOSPC' });
      this.#unlooked = LOOK_EVERY;
    }
    this.#hash?.update(octets);
    const { bytesWritten } = await file.write(octets);
    if (bytesWritten < octets.length) await file.appendFile(octets.subarray(bytesWritten));
  }

  /** Null when there is no room for one. */
  #takeBlock(): Buffer | null {
    const hasRoom = this.#count(BLOCK_OCTETS);
    if (hasRoom) this.#block = takeBlock();
    else this.#count(-BLOCK_OCTETS);
    return this.#block;
  }

  /** After its last write has ended well. */
  #giveBlock(): void {
    if (!this.#block) return;
    giveBlock(this.#block);
    this.#block = null;
    this.#count(-BLOCK_OCTETS);
  }

  #forget(): void {
    this.#count(this.#block ? -BLOCK_OCTETS : -this.#held);
    this.#chunks = [];
    this.#block = null;
    this.#held = 0;
  }

  /** Forgets the message. A file that the store has taken to another place stays there. Never rejects. */
  async discard(): Promise<void> {
    if (this.#chunks.length > 0 || this.#block) this.#forget();
    const file = this.#file;
    if (!file) return;
    this.#file = null;
    if (this.#finished) this.#finished.release();
    else await file.close().catch(() => undefined);
    await unlink(this.#path).catch(() => undefined);
  }
}
