/**
 * Reads the configuration in a process of its own. What that takes, some 15 MB of libraries and of the texts that they
 * looked at, goes with that process, and not on with one that lives for months.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { LoadRequest, LoadResult } from './load.ts';

/** As `loadConfig`. @throws when the process cannot be started, or ends without an answer */
export function loadConfigApart(request: LoadRequest): Promise<LoadResult> {
  return new Promise((resolve, reject) => {
    const reader = fork(fileURLToPath(new URL('./load-process.ts', import.meta.url)), { serialization: 'advanced' });
    reader.once('message', (loaded: LoadResult) => resolve(loaded));
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
}
