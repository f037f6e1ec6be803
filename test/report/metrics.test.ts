import { expect, test } from 'vitest';
import type { MailEvent } from '../../src/model/events.ts';
import { createMetrics } from '../../src/report/metrics.ts';

const delivered: MailEvent = {
  event: 'delivered',
  code: 'remote-accepted',
  status: '2.0.0',
  explanation: '',
  verdict: 'authenticated',
  domain: 'secret-partner.nl',
  recipient: 'anna@secret-partner.nl',
  delayMs: 40,
};

test('counts what happened, by code and by how it was protected', async () => {
  const metrics = createMetrics({
    storageRoom: () => 1000,
    resolverTrusted: () => false,
    queued: async () => ({ waiting: 3, held: 1, delivering: 0 }),
  });
  metrics.count(delivered);
  metrics.count({ ...delivered, event: 'deferred', code: 'tlsa-mismatch' });
  const text = await metrics.print();
  expect(text).toContain('dane_relay_mail_events_total{event="delivered",code="remote-accepted"} 1');
  expect(text).toContain('dane_relay_mail_events_total{event="deferred",code="tlsa-mismatch"} 1');
  expect(text).toContain('dane_relay_delivered_total{verdict="authenticated"} 1');
  expect(text).toContain('dane_relay_delivery_delay_seconds_bucket{le="0.05"} 1');
  expect(text).toContain('dane_relay_resolver_trusted 0');
  expect(text).toContain('dane_relay_queue_recipients{state="waiting"} 3');
});

test('no label carries a domain or an address: anybody may read the figures', async () => {
  const metrics = createMetrics({
    storageRoom: () => 1000,
    resolverTrusted: () => true,
    queued: async () => ({ waiting: 0, held: 0, delivering: 0 }),
  });
  metrics.count(delivered);
  expect(await metrics.print()).not.toContain('secret-partner');
});
