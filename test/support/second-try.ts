/**
 * What ran out of time is tried once more: on a machine that others use as well this need not be a fault of the relay.
 * A wrong answer is wrong at once.
 */
import { beforeEach } from 'vitest';

/** What the errors of Vitest, and those of our own waiting, say of something that did not happen soon enough. */
const OUT_OF_TIME = /timed out in \d+ms|did(?:n't| not) (?:resolve|succeed) in time|within \d+ m?s|waited in vain/;

interface Failure {
  readonly message: string;
  readonly cause?: unknown;
}

function isOutOfTime({ message, cause }: Failure): boolean {
  return OUT_OF_TIME.test(message) || (typeof cause === 'object' && cause !== null && isOutOfTime(cause as Failure));
}

beforeEach(({ task }) => {
  Object.assign(task, { retry: { count: 1, condition: isOutOfTime } });
});
