/** Joins the TLS reports with the resolver that answers, the queue that takes them and the key that signs them. */
import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import type { Resolve } from '../model/dns.ts';
import type { Logger } from '../model/events.ts';
import { LEDGER_FILE } from '../report/tls-report/ledger.ts';
import { openLedger } from '../report/tls-report/ledger-thread.ts';
import { createPost } from '../report/tls-report/post.ts';
import { createTlsReporter, type TlsReporter } from '../report/tls-report/reporter.ts';
import type { SenderOptions } from '../report/tls-report/sender.ts';
import { systemClock } from '../shared/clock.ts';
import { messageOf } from '../shared/message-of.ts';
import type { Parts } from '../shared/parts.ts';
import { newQueueId } from '../shared/queue-id.ts';

export type TlsReportParts = Pick<SenderOptions, 'accept' | 'canSign' | 'onEnd'> & { readonly resolve: Resolve };

/** Null where none are wanted, and where they cannot be kept: mail must not wait for that. */
export async function openTlsReports(
  { tlsReports, state, delivery: { authorities } }: Config,
  { resolve, ...rest }: TlsReportParts,
  log: Logger,
  parts: Parts,
): Promise<TlsReporter | null> {
  if (tlsReports === null) return null;
  const file = join(state, LEDGER_FILE);
  try {
    const ledger = await openLedger({ file, mode: 'relay' });
    const post = createPost({ resolve, authorities });
    const reporter = createTlsReporter({
      ...tlsReports,
      ...rest,
      ledger,
      resolve,
      post,
      newId: newQueueId,
      clock: systemClock,
      log,
    });
    return parts.opened(reporter, ({ close }) => close());
  } catch (error) {
    log.error(`there are no TLS reports: ${file} cannot be used; move it away and restart`, {
      error: messageOf(error),
    });
    return null;
  }
}
