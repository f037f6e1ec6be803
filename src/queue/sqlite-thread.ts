/**
 * The storage thread: takes all requests that wait, has them committed together, and answers. It holds the only
 * connection of this process to the database, so that a flush to disk never stops the SMTP side.
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { type Backlog, createBacklog } from './groups.ts';
import { type EngineOptions, type Failure, failureOf, openEngine, type Reply, type Request } from './sqlite-engine.ts';
import { StoreError } from './store.ts';

export interface ThreadData extends EngineOptions {
  /** Set for a thread that was started again: it takes over the lock of the one before, and puts right what that left. */
  readonly successor: {
    readonly owner: string;
    /** The last claim whose answer has arrived: nobody works on those after it, and nobody ever would. */
    readonly lastLease: number;
  } | null;
}

export type ToThread = readonly Request[] | 'close';

export type FromThread =
  | { readonly kind: 'open' }
  | { readonly kind: 'cannot-open'; readonly failure: Failure }
  | { readonly kind: 'replies'; readonly replies: readonly Reply[] };

if (parentPort) serve(parentPort, workerData as ThreadData);

function serve(port: MessagePort, data: ThreadData): void {
  const say = (message: FromThread): void => port.postMessage(message);
  try {
    const engine = openEngine(data);
    if (data.successor !== null) {
      const { owner, lastLease } = data.successor;
      const [reply] = engine.run([{ id: 0, name: 'recover', args: [owner, lastLease] }]);
      if (reply?.ok !== true) throw new StoreError(`the last thread could not be succeeded: ${reply?.failure.message}`);
    }
    const backlog = createBacklog();
    port.on('message', (first: ToThread) => {
      let last = first === 'close';
      if (first !== 'close') backlog.add(first);
      for (;;) {
        if (!last) last = addWaiting(port, backlog) === 'close';
        const group = backlog.nextGroup();
        if (group.length === 0) break;
        say({ kind: 'replies', replies: engine.run(group) });
      }
      if (!last) return;
      engine.close();
      port.close();
    });
    say({ kind: 'open' });
  } catch (error) {
    say({ kind: 'cannot-open', failure: failureOf(error) });
    port.close();
  }
}

/** Adds what has come meanwhile. */
function addWaiting(port: MessagePort, backlog: Backlog): 'close' | 'more' {
  while (!backlog.isFull()) {
    const next = receiveMessageOnPort(port) as { message: ToThread } | undefined;
    if (!next) break;
    if (next.message === 'close') return 'close';
    backlog.add(next.message);
  }
  return 'more';
}
