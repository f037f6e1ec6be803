/**
 * The ledger in a thread of its own, so that a disk never keeps mail waiting: this file is both sides of it. A thread
 * that dies is started again with the next request; what it was asked is rejected.
 */
import { isMainThread, type MessagePort, parentPort, Worker, workerData } from 'node:worker_threads';
import { messageOf } from '../../shared/message-of.ts';
import { Ledger, type LedgerOptions } from './ledger.ts';

type Calls = Pick<Ledger, 'add' | 'closeDays' | 'claim' | 'heard' | 'settle' | 'mailEnded' | 'forget'>;

/** The calls of the ledger, each as a promise. */
export type LedgerThread = {
  readonly [Name in keyof Calls]: (...args: Parameters<Calls[Name]>) => Promise<ReturnType<Calls[Name]>>;
} & {
  /** After everything that was asked before. Never rejects. */
  readonly close: () => Promise<void>;
};

interface Request {
  readonly id: number;
  readonly name: keyof Calls;
  readonly args: readonly unknown[];
}

type Reply =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly id: number; readonly ok: false; readonly reason: string };

const THREAD_NAME = 'tls-reports';

if (!isMainThread && parentPort && isOurs(workerData)) serve(parentPort, workerData.ledger);

function isOurs(data: unknown): data is { readonly ledger: LedgerOptions } {
  return typeof data === 'object' && data !== null && 'ledger' in data;
}

function serve(port: MessagePort, options: LedgerOptions): void {
  const ledger = new Ledger(options);
  port.on('message', (request: Request | 'close') => {
    if (request === 'close') {
      ledger.close();
      port.close();
      return;
    }
    const { id, name, args } = request;
    try {
      const call = ledger[name] as (...args: readonly unknown[]) => unknown;
      port.postMessage({ id, ok: true, value: call.apply(ledger, [...args]) } satisfies Reply);
    } catch (error) {
      port.postMessage({ id, ok: false, reason: messageOf(error) } satisfies Reply);
    }
  });
}

interface Running {
  readonly worker: Worker;
  readonly waiting: Map<number, PromiseWithResolvers<unknown>>;
  readonly ended: Promise<void>;
}

/** @throws (rejects) when the ledger cannot be opened */
export async function openLedger(options: LedgerOptions): Promise<LedgerThread> {
  let running: Running | null = null;
  let closed = false;
  let lastId = 0;

  const start = (): Running => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { ledger: options }, name: THREAD_NAME });
    const waiting: Running['waiting'] = new Map();
    let death = 'the thread of the TLS reports has ended';
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    worker.on('message', (reply: Reply) => {
      const request = waiting.get(reply.id);
      waiting.delete(reply.id);
      if (reply.ok) request?.resolve(reply.value);
      else request?.reject(new Error(reply.reason));
    });
    worker.on('error', (error) => {
      death = messageOf(error);
    });
    worker.on('exit', () => {
      if (running?.worker === worker) running = null;
      for (const { reject } of waiting.values()) reject(new Error(death));
      resolve();
    });
    return { worker, waiting, ended };
  };

  const ask = (name: keyof Calls, args: readonly unknown[]): Promise<unknown> => {
    if (closed) return Promise.reject(new Error('the TLS reports are closed'));
    running ??= start();
    const id = ++lastId;
    const request = Promise.withResolvers<unknown>();
    running.waiting.set(id, request);
    running.worker.postMessage({ id, name, args } satisfies Request);
    return request.promise;
  };

  const call = <Name extends keyof Calls>(name: Name): LedgerThread[Name] =>
    ((...args: readonly unknown[]) => ask(name, args)) as LedgerThread[Name];

  // Opens it, and says now when it cannot be opened.
  await ask('add', [[]]);
  return {
    add: call('add'),
    closeDays: call('closeDays'),
    claim: call('claim'),
    heard: call('heard'),
    settle: call('settle'),
    mailEnded: call('mailEnded'),
    forget: call('forget'),
    close: async () => {
      if (closed) return;
      closed = true;
      running?.worker.postMessage('close');
      await running?.ended;
    },
  };
}
