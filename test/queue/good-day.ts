/** A good day in the queue: a small message to one recipient. Tests change one thing of it. */
import { setImmediate } from 'node:timers/promises';
import type { Outcome } from '../../src/model/delivery.ts';
import type { Body, EnvelopeRecipient, NewMessage } from '../../src/model/message.ts';
import type { Settlement, Store } from '../../src/queue/store.ts';
import type { Clock } from '../../src/shared/clock.ts';

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
/** Monday, 2 November 2026, 08:00 UTC. */
export const MONDAY = Date.UTC(2026, 10, 2, 8);

let lastId = 0;

export interface MessageChange {
  readonly id?: string;
  readonly to?: readonly (string | EnvelopeRecipient)[];
  readonly sender?: string;
  readonly body?: Body;
  readonly size?: number;
  readonly receivedAt?: number;
}

export function message(change: MessageChange = {}): NewMessage {
  const body = change.body ?? { kind: 'memory', bytes: Buffer.from('Subject: hello\r\n\r\nGood day.\r\n') };
  return {
    id: change.id ?? `T${(++lastId).toString(36)}`,
    receivedAt: change.receivedAt ?? MONDAY,
    client: 'exchange',
    envelope: {
      sender: change.sender ?? 'jan@rijk.example',
      recipients: (change.to ?? ['piet@gemeente.example']).map((to) =>
        typeof to === 'string' ? { address: to, notify: null, orcpt: null } : to,
      ),
      smtputf8: false,
      body: '7bit',
      ret: null,
      envid: null,
      tls: 'default',
    },
    content: {
      size: change.size ?? (body.kind === 'memory' ? body.bytes.length : 0),
      eightBit: false,
      utf8Header: false,
    },
    body,
  };
}

export const terms = { expiresAt: MONDAY + 5 * DAY };

/** A claim request for everything that is due. */
export const everything = {
  owner: 'node-1',
  now: MONDAY,
  leaseMs: MINUTE,
  limit: 100,
  limitAgain: 100,
  perDomain: 100,
  taken: new Map(),
};

export const leaves = (recipientId: number): Settlement => ({ kind: 'leaves', recipientId });

export const waits = (recipientId: number, nextAttempt: number): Settlement & { kind: 'waits' } => ({
  kind: 'waits',
  recipientId,
  tried: true,
  nextAttempt,
  code: 'connect-failed',
  status: '4.4.1',
  explanation: 'No connection to the mail host: 192.0.2.1 port 25 refused it.',
  host: 'mx1.gemeente.example',
  delayNoticeSent: false,
});

export async function octetsOf(store: Store, queueId: string): Promise<Buffer> {
  const body = await store.openBody(queueId);
  if (body.kind === 'memory') return body.bytes;
  const chunks: Buffer[] = [];
  for await (const chunk of body.stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

export const outcome = (recipientId: number, change: Partial<Outcome> = {}): Outcome => ({
  recipientId,
  result: 'delivered',
  code: 'dane-ee',
  status: '2.0.0',
  detail: '',
  host: 'mx1.gemeente.example',
  address: '192.0.2.1',
  reply: '250 2.0.0 ok',
  dsnPassedOn: false,
  ...change,
});

export const unreachable: Partial<Outcome> = {
  result: 'deferred',
  code: 'connect-failed',
  status: '4.4.1',
  detail: '192.0.2.1 port 25 refused it',
  reply: null,
};

/** Resolves when `condition` holds. The test's own time limit ends a wait that is in vain. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await setImmediate();
}

export interface VirtualClock extends Clock {
  /** Lets time pass: everybody who sleeps until then is woken, in order. */
  readonly pass: (ms: number) => void;
  /** Somebody sets it wrong, or right. Who sleeps is not touched: sleep is as long as it is. */
  readonly putBack: (ms: number) => void;
  /** How many sleep now. */
  readonly sleepers: () => number;
}

export function virtualClock(start: number): VirtualClock {
  let now = start;
  const sleepers = new Set<{ at: number; readonly wake: () => void }>();
  return {
    now: () => now,
    sleepers: () => sleepers.size,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted || ms <= 0) return resolve();
        const sleeper = {
          at: now + ms,
          wake: () => {
            sleepers.delete(sleeper);
            resolve();
          },
        };
        sleepers.add(sleeper);
        signal?.addEventListener('abort', sleeper.wake, { once: true });
      }),
    putBack(ms) {
      now -= ms;
      for (const sleeper of sleepers) sleeper.at -= ms;
    },
    pass(ms) {
      now += ms;
      for (const sleeper of [...sleepers].sort((a, b) => a.at - b.at)) if (sleeper.at <= now) sleeper.wake();
    },
  };
}
