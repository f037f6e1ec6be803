/**
 * What becomes of a relay in which something has gone wrong that nobody had thought of: it says so, stops taking mail
 * and ends, so that whoever watches over it starts it anew. Mail that was accepted is on the disk. A process that went
 * on with half of its parts would look alive and keep mail waiting for ever.
 */
import type { Logger } from '../model/events.ts';
import { stackOf } from '../shared/message-of.ts';
import type { Parts } from '../shared/parts.ts';

/** For the parts to close, in milliseconds. */
const FAREWELL_MS = 5_000;

/** Ends the process with status 1 on the first exception or rejection that nobody has caught. */
export function endOnMistakes(parts: Parts, log: Logger): void {
  let ending = false;
  const end = (error: unknown): void => {
    log.error('a mistake in the relay: it ends, to be started anew; mail that was accepted is safe', {
      error: stackOf(error),
    });
    if (ending) return;
    ending = true;
    setTimeout(() => process.exit(1), FAREWELL_MS).unref();
    void parts.closeAll().finally(() => process.exit(1));
  };
  process.on('uncaughtException', end);
  process.on('unhandledRejection', end);
  // A terminal or a pipe that was closed is no reason to stop relaying mail.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
}
