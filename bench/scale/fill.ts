/** A queue with as many waiting messages as wanted, made by the storage engine itself, many to a commit. */
import { openEngine, type Request } from '../../src/queue/sqlite-engine.ts';

export interface Pile {
  /** State folder of a relay that does not run. */
  readonly folder: string;
  readonly messages: number;
  /** Distinct recipient domains: `d0.pile.test`, `d1.pile.test` … */
  readonly domains: number;
  /** Name before `.test`, so that several piles can stand in one queue. */
  readonly name: string;
  /** When all of them are next tried, and when they are given up, in milliseconds since the epoch. */
  readonly nextAttempt: number;
  readonly expiresAt: number;
}

const GROUP = 250;
const CONTENT = Buffer.from(`Subject: waits\r\n\r\n${'An ordinary line of an ordinary letter.\r\n'.repeat(24)}`);

/** @throws StoreError when the queue cannot be written */
export function fill({ folder, messages, domains, name, nextAttempt, expiresAt }: Pile): void {
  const engine = openEngine({ folder, mode: 'relay', reserveBytes: null });
  const receivedAt = Date.now();
  try {
    for (let from = 0; from < messages; from += GROUP) {
      const group = Array.from({ length: Math.min(GROUP, messages - from) }, (_, at): Request => {
        const number = from + at;
        const address = `someone@d${number % domains}.${name}.test`;
        const recipients = [{ address, notify: null, orcpt: null }];
        const envelope = {
          sender: '',
          recipients,
          smtputf8: false,
          body: '7bit',
          ret: null,
          envid: null,
          tls: 'default',
        } as const;
        const message = {
          id: `${name}${number}`,
          receivedAt,
          client: 'loader',
          envelope,
          content: { size: CONTENT.length, eightBit: false, utf8Header: false },
          body: { kind: 'memory', bytes: CONTENT },
        } as const;
        return { id: number, name: 'accept', args: [message, expiresAt, null] };
      });
      const failed = engine.run(group).find((reply) => !reply.ok);
      if (failed?.ok === false) throw new Error(failed.failure.message);
    }
    engine.db.prepare('UPDATE recipient SET next_attempt = ? WHERE domain LIKE ?').run(nextAttempt, `%.${name}.test`);
    engine.db.prepare('UPDATE lane SET due = ? WHERE domain LIKE ?').run(nextAttempt, `%.${name}.test`);
  } finally {
    engine.close();
  }
}
