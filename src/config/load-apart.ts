/**
 * Reads the configuration in a process of its own. What that takes, some 15 MB of libraries and of the texts that they
 * looked at, goes with that process, and not on with one that lives for months.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { LoadRequest, LoadResult } from './load.ts';

/** Longer than any file takes that has a configuration in it, in milliseconds. */
const PATIENCE_MS = 5 * 60_000;

/**
 * As `loadConfig`.
 *
 * @param patienceMs for a pipe that nobody writes to, and for a text that is made to be hard to read
 * @throws when the process cannot be started, ends without an answer, or does not end
 */
export function loadConfigApart(request: LoadRequest, patienceMs: number = PATIENCE_MS): Promise<LoadResult> {
  let late: NodeJS.Timeout | undefined;
  const loaded = new Promise<LoadResult>((resolve, reject) => {
    const reader = fork(fileURLToPath(new URL('./load-process.ts', import.meta.url)), { serialization: 'advanced' });
    late = setTimeout(() => {
      reader.kill('SIGKILL');
      reject(
        new Error(
          `the configuration was not read in ${patienceMs / 1_000} s: is it a pipe, or does it name one, that nobody ` +
            'writes to?',
        ),
      );
    }, patienceMs);
    reader.once('message', (answer: LoadResult) => resolve(answer));
    reader.once('error', (error) => reject(new Error(`the configuration was not read: ${error.message}`)));
    // After an answer this changes nothing.
    reader.once('close', (status, signal) => {
      reject(
        new Error(
          `the configuration was not read: its reader ended with ${signal ?? `status ${String(status)}`}. That is no ` +
            'mistake in the file: look for memory that ran out, limits on processes, or NODE_OPTIONS',
        ),
      );
    });
    // The environment of a process is no plain object, and would not pass.
    reader.send({ ...request, env: { ...request.env } }, () => undefined);
  });
  return loaded.finally(() => clearTimeout(late));
}
