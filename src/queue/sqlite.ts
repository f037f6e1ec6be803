/**
 * The embedded store: one SQLite database in a folder, worked on by a thread of its own. This is the side that the
 * relay talks to; a thread that dies is started again with the next request. What it was asked to write fails, because
 * nobody knows whether it was written; what it was asked to read is asked once more.
 */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { pipeline, Transform } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Body, NewMessage } from '../model/message.ts';
import type { Moved, QueueFilter, QueueState } from '../model/queue.ts';
import { claimsOf } from './rows.ts';
import type { Failure, Reply, Request, Requests } from './sqlite-engine.ts';
import type { Action, MovedSlice, Slice } from './sqlite-operations.ts';
import type { FromThread, ThreadData, ToThread } from './sqlite-thread.ts';
import { type Admission, type Claim, type Store, StoreError, StoreFull, StoreMissing } from './store.ts';

export interface SqliteOptions {
  /** Made by a relay when it is not there, with mode 0700. */
  readonly folder: string;
  /** A `relay` makes the database and brings its schema up to date; a `visitor` takes it as it is or not at all. */
  readonly mode: 'relay' | 'visitor';
  /** Octets that intake leaves free on the file system, for delivery to go on; by default as `roomOn` says. */
  readonly reserveBytes?: number;
}

/** Between two slices, for others who want to write. */
const BREATH_MS = 10;

/** Leases in one request: a millisecond or two in which nobody else can write. */
const LEASES_AT_ONCE = 20;

/**
 * @throws StoreMissing when a visitor finds no queue
 * @throws StoreError when the schema belongs to another release, or the database cannot be opened
 */
export async function openSqliteStore(options: SqliteOptions): Promise<Store> {
  const thread = createThread({ reserveBytes: null, ...options });
  await thread.open();
  const { ask } = thread;
  const move = (action: Action) => async (filter: QueueFilter, now: number) => moveAll(ask, action, filter, now);
  return {
    async accept(message, { expiresAt, take = null }) {
      return claimsOf(message, expiresAt, await ask('accept', sendable(message), expiresAt, take));
    },
    claim: (request) => ask('claim', request),
    settle: (lease, settlements, notices) => ask('settle', lease, settlements, notices.map(sendableNotice)),
    async giveBack(leases, notBefore) {
      await Promise.all(inParts(leases).map((part) => ask('giveBack', part, notBefore)));
    },
    async extendLeases(leases, until) {
      await Promise.all(inParts(leases).map((part) => ask('extendLeases', part, until)));
    },
    outlook: (now, most) => ask('outlook', now, most),
    count: (now) => countAll(ask, now),
    list: (filter, now) => ask('list', filter, now),
    show: (queueId, now) => ask('show', queueId, now),
    retry: move('retry'),
    hold: move('hold'),
    release: move('release'),
    drop: move('drop'),
    health: () => ask('health'),
    async recover(owner) {
      const recovered = await ask('recover', owner, 0);
      thread.keepOwner(owner);
      return recovered;
    },
    async join(owner) {
      const recovered = await ask('join', owner);
      thread.keepOwner(owner);
      return recovered;
    },
    takeOver: (owner) => ask('takeOver', owner),
    async openBody(messageId) {
      const place = await ask('body', messageId, null);
      if (place.kind === 'database') return { kind: 'memory', bytes: viewOf(place.octets) };
      const file = await openWhole(place.path, place.octets);
      const stored = createReadStream('', { fd: file });
      if (place.sha256 === null) return { kind: 'stream', stream: stored };
      return { kind: 'stream', stream: pipeline(stored, unchanged(place.path, place.sha256), () => undefined) };
    },
    async readHead(messageId, maxBytes) {
      const place = await ask('body', messageId, maxBytes);
      if (place.kind === 'database') return viewOf(place.octets);
      await using file = await openWhole(place.path, place.octets);
      const head = Buffer.alloc(Math.min(maxBytes, place.octets));
      const { bytesRead } = await file.read(head, 0, head.length, 0);
      return head.subarray(0, bytesRead);
    },
    close: thread.close,
  };
}

/**
 * In slices, each with a commit of its own and a breath after it: a queue of fifty thousand can be dropped while mail
 * comes in. What is accepted meanwhile is not reached.
 */
async function moveAll(ask: Ask, action: Action, filter: QueueFilter, now: number): Promise<Moved> {
  let sum: Moved = { changed: 0, delivering: 0, held: 0 };
  for (let slice: Slice | null = { after: 0, upTo: null }; slice; ) {
    const { moved, rest }: MovedSlice = await ask('move', action, filter, now, slice);
    sum = {
      changed: sum.changed + moved.changed,
      delivering: sum.delivering + moved.delivering,
      held: sum.held + moved.held,
    };
    slice = rest;
    if (slice) await sleep(BREATH_MS);
  }
  return sum;
}

/** In several goes, between which others are served. What changes meanwhile may be counted twice or not at all. */
async function countAll(ask: Ask, now: number): Promise<Readonly<Record<QueueState, number>>> {
  let { waiting, held, delivering } = await ask('countLeased', now);
  for (let after: number | null = 0; after !== null; ) {
    const part: ReturnType<Requests['countUnleased']> = await ask('countUnleased', after);
    waiting += part.waiting;
    held += part.held;
    after = part.last;
  }
  return { waiting, held, delivering };
}

function inParts(leases: readonly string[]): readonly (readonly string[])[] {
  const parts = Math.ceil(leases.length / LEASES_AT_ONCE);
  return Array.from({ length: parts }, (_, at) => leases.slice(at * LEASES_AT_ONCE, (at + 1) * LEASES_AT_ONCE));
}

/** What the thread sent is ours alone: no copy. */
function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** Half a message is never handed out: the size is compared with what was accepted. */
async function openWhole(path: string, octets: number): Promise<FileHandle> {
  const file = await open(path, 'r');
  const { size } = await file.stat();
  if (size === octets) return file;
  await file.close();
  throw new StoreError(`${path} has ${String(size)} octets instead of ${String(octets)}`);
}

/** Lets octets through, and breaks off instead of ending when they are not those that were accepted. */
function unchanged(path: string, sha256: Uint8Array): Transform {
  const hash = createHash('sha256');
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      done(null, chunk);
    },
    flush(done) {
      done(hash.digest().equals(sha256) ? null : new StoreError(`${path} has changed on the disk`));
    },
  });
}

function sendable(message: NewMessage): NewMessage {
  return { ...message, body: exactBody(message.body) };
}

function sendableNotice({ message, expiresAt }: Admission): Admission {
  return { message: sendable(message), expiresAt };
}

/** A Buffer is often a view of something larger, all of which would be copied into the thread. */
function exactBody(body: Body): Body {
  if (body.kind === 'file') return { kind: 'file', path: body.path, ...(body.sha256 && { sha256: body.sha256 }) };
  if (body.bytes.buffer.byteLength === body.bytes.length) return body;
  return { kind: 'memory', bytes: Buffer.from(new Uint8Array(body.bytes).buffer) };
}

type Ask = <Name extends keyof Requests>(
  name: Name,
  ...args: Parameters<Requests[Name]>
) => Promise<ReturnType<Requests[Name]>>;

interface Thread {
  readonly open: () => Promise<void>;
  readonly ask: Ask;
  readonly keepOwner: (owner: string) => void;
  readonly close: () => Promise<void>;
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

interface Running {
  /** Sends with the others of this turn of the event loop: one message to the thread, and one commit there. */
  readonly send: (request: Request, waiting: Waiting) => void;
  readonly close: () => void;
  /** Resolves when the thread is gone. */
  readonly ended: Promise<void>;
}

/** Whether what it was asked was done is not known. */
class ThreadGone extends StoreError {}

const CLAIMING: ReadonlySet<string> = new Set<keyof Requests>(['accept', 'claim']);

const READS: ReadonlySet<string> = new Set<keyof Requests>([
  'body',
  'outlook',
  'countUnleased',
  'countLeased',
  'list',
  'show',
]);

function createThread(options: Omit<ThreadData, 'successor'>): Thread {
  let owner: string | null = null;
  let lastLease = 0;
  let closed = false;
  let lastId = 0;
  let running: Promise<Running> | null = null;

  const start = (): Promise<Running> => {
    const successor = owner === null ? null : { owner, lastLease };
    const workerData: ThreadData = { ...options, successor };
    const worker = new Worker(new URL('./sqlite-thread.ts', import.meta.url), { workerData, name: 'queue' });
    const waiting = new Map<number, Waiting>();
    let death = new ThreadGone('the storage thread has ended');
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    const opened = Promise.withResolvers<void>();
    worker.on('message', (message: FromThread) => {
      if (message.kind === 'open') opened.resolve();
      else if (message.kind === 'cannot-open') opened.reject(errorFrom(message.failure));
      else for (const reply of message.replies) deliver(reply, waiting);
    });
    worker.on('error', (error) => {
      death = new ThreadGone(`the storage thread has died: ${error instanceof Error ? error.message : String(error)}`);
    });
    worker.on('exit', () => {
      if (running === mine) running = null;
      opened.reject(death);
      for (const { reject } of waiting.values()) reject(death);
      end();
    });
    const outbox: Request[] = [];
    const flush = (): void => worker.postMessage(outbox.splice(0) satisfies ToThread);
    const mine = opened.promise.then(
      (): Running => ({
        send(request, whoWaits) {
          waiting.set(request.id, whoWaits);
          if (outbox.push(request) === 1) setImmediate(flush);
        },
        close: () => {
          flush();
          worker.postMessage('close' satisfies ToThread);
        },
        ended,
      }),
    );
    return mine;
  };

  const current = (): Promise<Running> => {
    if (closed) return Promise.reject(new StoreError('the store is closed'));
    running ??= start();
    return running;
  };

  const ask = async (name: string, ...args: readonly unknown[]): Promise<unknown> => {
    try {
      return await askThread(name, args);
    } catch (error) {
      if (error instanceof ThreadGone && READS.has(name)) return askThread(name, args);
      throw error;
    }
  };

  const askThread = async (name: string, args: readonly unknown[]): Promise<unknown> => {
    const { send } = await current();
    return new Promise((resolve, reject) => {
      const heard = (value: unknown): void => {
        // At once: when this was the last word of the thread, the next one may be started before the promise is looked at.
        for (const lease of leasesIn(name, value)) lastLease = Math.max(lastLease, Number(lease));
        resolve(value);
      };
      send({ id: ++lastId, name, args } as unknown as Request, { resolve: heard, reject });
    });
  };

  return {
    open: async () => void (await current()),
    ask: ask as Ask,
    keepOwner: (name) => {
      owner = name;
    },
    async close() {
      if (closed) return;
      const last = running;
      closed = true;
      const open = await last?.catch(() => null);
      open?.close();
      await open?.ended;
    },
  };
}

/** Claims that an answer hands over. */
function leasesIn(name: string, value: unknown): readonly string[] {
  return CLAIMING.has(name) ? (value as readonly Pick<Claim, 'lease'>[]).map(({ lease }) => lease) : [];
}

function deliver(reply: Reply, waiting: Map<number, Waiting>): void {
  const request = waiting.get(reply.id);
  waiting.delete(reply.id);
  if (reply.ok) request?.resolve(reply.value);
  else request?.reject(errorFrom(reply.failure));
}

function errorFrom({ kind, message }: Failure): StoreError {
  switch (kind) {
    case 'full':
      return new StoreFull(message);
    case 'missing':
      return new StoreMissing(message);
    case 'other':
      return new StoreError(message);
  }
}
