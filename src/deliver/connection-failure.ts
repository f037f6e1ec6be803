/** How this stage says that a connection has ended: thrown by whoever talks, caught where an outcome is made of it. */
import type { Trouble } from '../model/route.ts';

/** Why a connection is of no use any more. */
export class ConnectionFailure extends Error {
  readonly trouble: Trouble;

  constructor(trouble: Trouble) {
    super(`${trouble.code}: ${trouble.detail}`);
    this.trouble = trouble;
  }
}
