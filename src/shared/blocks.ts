/**
 * Memory through which the octets of large messages pass, used again and again: a new block for each would make the
 * garbage collector run for every few megabytes of mail.
 *
 * Who takes a block is alone with it, until it gives it back. It must be sure by then that nobody will read it any
 * more, neither a file nor a socket; in doubt it does not give it back, and the block is garbage as any other.
 */

/** Octets in a block. */
export const BLOCK_OCTETS = 256 * 1024;
/** Blocks that wait here: the memory that a relay keeps after many large messages at once. */
const WAITING_AT_MOST = 32;

const waiting: Buffer[] = [];

/** A block with anything in it. */
export function takeBlock(): Buffer {
  return waiting.pop() ?? Buffer.allocUnsafeSlow(BLOCK_OCTETS);
}

export function giveBlock(block: Buffer): void {
  if (waiting.length < WAITING_AT_MOST) waiting.push(block);
}
