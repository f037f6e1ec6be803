/**
 * Counters for Prometheus. Labels are bounded: codes, results and verdicts from our own tables, never a domain or
 * an address.
 */
import { AggregatorRegistry, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { MailEvent } from '../model/events.ts';

export interface Gauges {
  readonly resolverTrusted: () => boolean;
  /** Octets for new mail; null when none can be stored. */
  readonly storageRoom: () => number | null;
  /** Recipients in the queue by state. */
  readonly queued: () => Promise<Readonly<Record<'waiting' | 'held' | 'delivering', number>>>;
}

export interface Metrics {
  /** Counts one mail event. */
  readonly count: (event: MailEvent) => void;
  /** Counts how an attempt to send a TLS report ended. */
  readonly tlsReport: (result: 'sent' | 'failed' | 'retry' | 'unwanted') => void;
  /** All figures in the Prometheus text format. */
  readonly print: () => Promise<string>;
  /** The same for `mergeMetrics`, in a form that JSON can say. */
  readonly collect: () => Promise<MetricsOfOne>;
}

/** What one of several workers has counted. */
export type MetricsOfOne = readonly { readonly type: unknown }[];

/**
 * The figures of all workers together: counters are added up, of gauges the one holds that worries most.
 *
 * @param gone what workers had counted that have ended: their counters still count, so that no sum ever falls
 */
export function mergeMetrics(
  workers: readonly MetricsOfOne[],
  gone: MetricsOfOne | null,
): { readonly print: () => Promise<string>; readonly counters: () => Promise<MetricsOfOne> } {
  const all = [...workers, ...(gone ? [gone] : [])].map((each) => [...each]);
  const merged = AggregatorRegistry.aggregate(all);
  return {
    print: () => merged.metrics(),
    counters: async () =>
      ((await merged.getMetricsAsJSON()) as MetricsOfOne).filter(
        ({ type }) => type === 'counter' || type === 'histogram',
      ),
  };
}

export function createMetrics({ resolverTrusted, storageRoom, queued }: Gauges): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const events = new Counter({
    name: 'dane_relay_mail_events_total',
    help: 'What happened to mail, one count a message at intake and one a recipient at delivery',
    labelNames: ['event', 'code'],
    registers,
  });
  const delivered = new Counter({
    name: 'dane_relay_delivered_total',
    help: 'Recipients whose mail left, by how the connection was protected',
    labelNames: ['verdict'],
    registers,
  });
  const tlsReports = new Counter({
    name: 'dane_relay_tls_reports_total',
    help: 'Attempts to send a TLS report to a domain, by how they ended; retry is one that is tried again',
    labelNames: ['result'],
    registers,
  });
  const delay = new Histogram({
    name: 'dane_relay_delivery_delay_seconds',
    help: 'Time from acceptance to delivery',
    buckets: [0.05, 0.1, 0.5, 1, 5, 30, 300, 3600, 14_400, 86_400],
    registers,
  });
  new Gauge({
    name: 'dane_relay_resolver_trusted',
    help: '1 while the resolver proves that it validates DNSSEC',
    aggregator: 'min',
    registers,
    collect() {
      this.set(resolverTrusted() ? 1 : 0);
    },
  });
  new Gauge({
    name: 'dane_relay_storage_usable',
    help: '1 while mail can be stored; 0 when the disk is full or failing',
    aggregator: 'min',
    registers,
    collect() {
      this.set(storageRoom() === null ? 0 : 1);
    },
  });
  new Gauge({
    name: 'dane_relay_storage_room_bytes',
    help: 'Room on the disk for new mail, without what is kept for mail that leaves',
    aggregator: 'min',
    registers,
    collect() {
      this.set(storageRoom() ?? 0);
    },
  });
  new Gauge({
    name: 'dane_relay_queue_recipients',
    help: 'Recipients in the queue',
    // All workers look at the same queue.
    aggregator: 'first',
    labelNames: ['state'],
    registers,
    async collect() {
      // A queue that cannot be read is told by dane_relay_storage_usable; the other figures are still wanted.
      const counts = await queued().catch(() => null);
      this.reset();
      for (const [state, count] of Object.entries(counts ?? {})) this.set({ state }, count);
    },
  });
  return {
    count: (event) => {
      events.inc({ event: event.event, code: event.code });
      if (event.event !== 'delivered') return;
      delivered.inc({ verdict: event.verdict ?? 'unknown' });
      if (event.delayMs !== undefined) delay.observe(event.delayMs / 1000);
    },
    tlsReport: (result) => tlsReports.inc({ result }),
    print: () => registry.metrics(),
    collect: () => registry.getMetricsAsJSON(),
  };
}
