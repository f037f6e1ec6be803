/**
 * Who goes into the next commit. Whoever hands in a message sits and waits for the 250, so that goes first, as much as
 * there is; of all else (claims, ends of attempts with their notices, reads) a little at a time, in the order in which it
 * came. A hundred thousand messages may end at once: one that comes in waits behind a few of them only.
 */
import type { Request } from './sqlite-engine.ts';

/** Enough to spread the cost of a flush over many; bounded, so that the first of them is not kept waiting for long. */
const ACCEPTED_AT_ONCE = 256;
/** Of all else, in recipients or thereabouts: some milliseconds, and most of what a shared flush can save. */
const OTHERS_AT_ONCE = 64;
/** The same where somebody waits for a 250. */
const BESIDE_ACCEPTED = 16;

export interface Backlog {
  readonly add: (requests: readonly Request[]) => void;
  /** Takes the next group; empty when nothing waits. What is not an accept keeps its order, and some of it is in each. */
  readonly nextGroup: () => readonly Request[];
  /** Whether as many messages wait to be taken in as one commit may have. */
  readonly isFull: () => boolean;
}

export function createBacklog(): Backlog {
  const accepts: Request[] = [];
  let others: Request[] = [];
  /** Those before it have been taken. */
  let next = 0;
  return {
    add(requests) {
      for (const request of requests) (request.name === 'accept' ? accepts : others).push(request);
    },
    nextGroup() {
      const group = accepts.splice(0, ACCEPTED_AT_ONCE);
      let room = group.length > 0 ? BESIDE_ACCEPTED : OTHERS_AT_ONCE;
      for (let first = others[next]; first && room > 0; first = others[next]) {
        room -= weightOf(first);
        group.push(first);
        next++;
      }
      if (next >= others.length) {
        others = [];
        next = 0;
      }
      return group;
    },
    isFull: () => accepts.length >= ACCEPTED_AT_ONCE,
  };
}

/** How many recipients it may touch, roughly. */
function weightOf(request: Request): number {
  switch (request.name) {
    case 'claim':
      return request.args[0].limit;
    case 'giveBack':
    case 'extendLeases':
      return request.args[0].length;
    case 'countUnleased':
    case 'move':
      return OTHERS_AT_ONCE;
    default:
      return 1;
  }
}
