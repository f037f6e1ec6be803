/**
 * Counters for Prometheus. Labels are bounded: codes, results and verdicts from our own tables, never a domain or
 * an address.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { MailEvent } from '../model/events.ts';

export interface Gauges {
  readonly resolverTrusted: () => boolean;
  /** Recipients in the queue by state. */
  readonly queued: () => Promise<Readonly<Record<'waiting' | 'held' | 'delivering', number>>>;
}

export interface Metrics {
  /** Counts one mail event. */
  readonly count: (event: MailEvent) => void;
  /** All figures in the Prometheus text format. */
  readonly print: () => Promise<string>;
}

export function createMetrics({ resolverTrusted, queued }: Gauges): Metrics {
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
  const delay = new Histogram({
    name: 'dane_relay_delivery_delay_seconds',
    help: 'Time from acceptance to delivery',
    buckets: [0.05, 0.1, 0.5, 1, 5, 30, 300, 3600, 14_400, 86_400],
    registers,
  });
  new Gauge({
    name: 'dane_relay_resolver_trusted',
    help: '1 while the resolver proves that it validates DNSSEC',
    registers,
    collect() {
      this.set(resolverTrusted() ? 1 : 0);
    },
  });
  new Gauge({
    name: 'dane_relay_queue_recipients',
    help: 'Recipients in the queue',
    labelNames: ['state'],
    registers,
    async collect() {
      for (const [state, count] of Object.entries(await queued())) this.set({ state }, count);
    },
  });
  return {
    count: (event) => {
      events.inc({ event: event.event, code: event.code });
      if (event.event !== 'delivered') return;
      delivered.inc({ verdict: event.verdict ?? 'unknown' });
      if (event.delayMs !== undefined) delay.observe(event.delayMs / 1000);
    },
    print: () => registry.metrics(),
  };
}
