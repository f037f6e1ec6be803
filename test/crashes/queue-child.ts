/**
 * A process that works on a queue as hard as it can, tells each promise on stdout after it was made, and waits to be
 * killed. Arguments: folder of the queue, folder for body files, name of the round; `warm-up` ends by itself.
 */
import { writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { openSqliteStore } from '../../src/queue/sqlite.ts';
import { bodyOf, crashMessage, noticeFor } from './queue-promises.ts';

const [folder = '', incoming = '', round = ''] = process.argv.slice(2);
const store = await openSqliteStore({ folder, mode: 'relay', reserveBytes: 0 });
await store.recover('node-1');
if (round === 'warm-up') {
  await store.close();
  process.exit();
}

/** Written by a system call of its own: what is said was said, however soon the end comes. */
function say(what: string, id: string): void {
  for (;;) {
    try {
      writeSync(1, `${what} ${id}\n`);
      return;
    } catch (error) {
      // Whoever listens is busy.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

let last = 0;

async function receive(): Promise<never> {
  for (;;) {
    const id = `${round}x${String(++last)}`;
    const path = join(incoming, `${id}.eml`);
    const large = last % 5 === 0;
    if (large) writeFileSync(path, bodyOf(id, true), { flush: true });
    const message = crashMessage(id, large ? { kind: 'file', path } : { kind: 'memory', bytes: bodyOf(id, false) });
    await store.accept(message, { expiresAt: 1e15 });
    say('accepted', id);
  }
}

async function deliver(): Promise<never> {
  for (;;) {
    const request = {
      owner: 'node-1',
      now: 1_000,
      leaseMs: 60_000,
      limit: 3,
      limitAgain: 3,
      perDomain: 9,
      taken: new Map(),
    };
    for (const { batch, lease } of await store.claim(request)) {
      const end = batch.recipients.map(({ id }) => ({ kind: 'leaves', recipientId: id }) as const);
      await store.settle(lease, end, [{ message: noticeFor(batch.messageId), expiresAt: 1e15 }]);
      say('settled', batch.messageId);
    }
  }
}

say('open', round);
await Promise.all([receive(), receive(), receive(), receive(), deliver()]);
