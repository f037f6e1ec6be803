/** The file of a large message, open for as long as somebody has to do with it, wherever it is moved meanwhile. */
import type { FileHandle } from 'node:fs/promises';

export class HeldFile {
  readonly #file: FileHandle;
  #holders = 1;

  /** Who makes it holds it. */
  constructor(file: FileHandle) {
    this.#file = file;
  }

  hold(): void {
    this.#holders++;
  }

  /** The last one closes it. */
  release(): void {
    if (--this.#holders === 0) this.#file.close().catch(() => undefined);
  }

  /**
   * @param at  first octet in the file
   * @returns octets that were read, 0 at the end
   * @throws an error of the file system; also when nobody holds the file any more (rejects)
   */
  async read(into: Buffer, at: number): Promise<number> {
    const { bytesRead } = await this.#file.read(into, 0, into.length, at);
    return bytesRead;
  }
}
