/**
 * TLS reports (RFC 8460), from the sessions that end to the reports that leave. The door of this folder.
 *
 *   count.ts     what a session adds          tally.ts    counts in memory, written now and then
 *   ledger.ts    counts and reports on disk   sender.ts   sends what is due, by mail (mail.ts) or HTTPS (post.ts)
 *
 * The mail's own way only ever adds to a map. Whatever goes wrong here is logged, and mail goes on as if nothing were.
 */
import type { SessionEnd } from '../../model/delivery.ts';
import type { Logger, MailEvent } from '../../model/events.ts';
import { TLS_REPORTER } from '../../model/message.ts';
import type { Clock } from '../../shared/clock.ts';
import { messageOf } from '../../shared/message-of.ts';
import { countsOf } from './count.ts';
import type { LedgerThread } from './ledger-thread.ts';
import { createSender, type SenderOptions } from './sender.ts';
import { dayOf, Tally } from './tally.ts';

export interface TlsReporter {
  /** Takes no time and never throws. */
  readonly sessionEnded: (end: SessionEnd) => void;
  /** What became of mail in the queue: reports are among it. Takes no time and never throws. */
  readonly mailEnded: (event: MailEvent) => void;
  /** Begins to send: one process of a relay is enough. What is counted is written by all, from the beginning. */
  readonly start: () => void;
  /** Writes what was counted. Never rejects. */
  readonly close: () => Promise<void>;
}

export interface TlsReporterOptions extends SenderOptions {
  readonly ledger: LedgerThread;
  readonly clock: Clock;
  readonly log: Logger;
}

const WRITE_EVERY_MS = 2_000;
const LOOK_EVERY_MS = 60_000;
/** Reports that are on their way at the same time: a receiver that never answers keeps one of these places. */
const PLACES = 8;

export function createTlsReporter(options: TlsReporterOptions): TlsReporter {
  const { ledger, clock, log } = options;
  const tally = new Tally();
  const sender = createSender(options, ledger);
  const stopped = new AbortController();
  const loops: Promise<void>[] = [];

  const write = async (): Promise<void> => {
    const tallied = tally.take();
    if (tallied.length === 0) return;
    try {
      const lost = (await ledger.add(tallied)) + tally.takeLost();
      if (lost > 0) log.warn('TLS sessions were left out of the reports: there are too many to tell apart', { lost });
    } catch (error) {
      for (const { day, sessions, ...count } of tallied) tally.add(day, count, sessions);
      throw error;
    }
  };

  const wrong = new Set<string>();
  /** Goes on for ever, whatever happens; says once that something is wrong, until it is well again. */
  const every = async (ms: number, what: string, work: () => Promise<void>): Promise<void> => {
    while (!stopped.signal.aborted) {
      try {
        await work();
        wrong.delete(what);
      } catch (error) {
        if (!wrong.has(what) && !stopped.signal.aborted)
          log.error(`${what}; this is tried again and again`, { error: messageOf(error) });
        wrong.add(what);
      }
      await clock.sleep(ms, stopped.signal);
    }
  };

  loops.push(every(WRITE_EVERY_MS, 'counts for TLS reports cannot be written', write));
  return {
    sessionEnded: (end) => {
      try {
        for (const count of countsOf(end)) tally.add(dayOf(clock.now()), count);
      } catch (error) {
        log.error('a TLS session could not be counted', { error: messageOf(error) });
      }
    },
    mailEnded: ({ client, queueId, event, explanation }) => {
      if (client !== TLS_REPORTER || queueId === undefined || event === 'deferred' || event === 'accepted') return;
      ledger.mailEnded(queueId, event === 'delivered', explanation).catch((error: unknown) => {
        log.error('what became of a TLS report could not be written', { queueId, error: messageOf(error) });
      });
    },
    start: () => {
      for (let place = 0; place < PLACES; place++)
        loops.push(every(LOOK_EVERY_MS, 'TLS reports cannot be sent', sender.sendDue));
    },
    close: async () => {
      stopped.abort();
      await Promise.race([Promise.all(loops), new Promise((resolve) => setTimeout(resolve, CLOSE_MS).unref())]);
      await write().catch((error: unknown) =>
        log.error('counts for TLS reports are lost', { error: messageOf(error) }),
      );
      await ledger.close();
    },
  };
}

/** A report that is under way at the end is sent again later, unless its receiver has answered by then. */
const CLOSE_MS = 2_000;
