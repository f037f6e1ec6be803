/** One message, attempt after attempt, while the far end changes: what was demanded at first is demanded to the end. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { selfSigned, tlsaFor } from '../../lab/certificates.ts';
import type { Mood } from '../../lab/host.ts';
import type { Lab } from '../../lab/lab.ts';
import { goodHost } from '../../lab/world.ts';
import { signed } from '../support/route-lab.ts';
import { type SmtpHost, startSmtpHost } from '../support/smtp-host.ts';
import { arrived, type Follower, type Journey, startJourney, told, wasToldOfMail } from './support.ts';

const identity = await selfSigned('mx.cut.test');
let journey: Journey;
let lab: Lab;
let relay: Follower;
let host: SmtpHost;

beforeAll(async () => {
  host = await startSmtpHost({ tls: { key: identity.key, cert: identity.chain } });
  journey = await startJourney(
    [
      goodHost('office.test'),
      goodHost('moody.test', { mood: 'handshake-fails' }),
      goodHost('renews.test'),
      goodHost('forged.test', { tlsaForged: true }),
      goodHost('no-tlsa.test', { tlsa: [] }),
    ],
    () => ({
      'cut.test': signed(
        `mx A ${host.address}`,
        `_${host.port}._tcp.mx TLSA ${tlsaFor(3, 1, 1, identity)}`,
        // What the lab's port would lead to is not what counts.
        `_25._tcp.mx TLSA 3 1 1 ${'0'.repeat(64)}`,
      ),
    }),
  );
  lab = journey.lab;
  relay = await journey.relay({
    queue: { retry: ['1s'] },
    destinations: [{ domain: 'cut.test', via: `[mx.cut.test]:${host.port}` }],
  });
});
afterAll(async () => {
  await journey?.end();
  await host?.close();
});

/** Resolves to the number of the first attempt that is told so. */
async function until(domain: string, fits: RegExp): Promise<number> {
  let number = 1;
  while (!fits.test(told(await relay.attempt(domain, number)))) number++;
  return number;
}

test.concurrent('CONN-03 CONN-04 CONN-06 CONN-16 TLS that fails under DANE, on every attempt: no mail in the clear, and none before the proof', async () => {
  await relay.mail('moody.test');
  const stories: string[] = [];
  for (const number of [1, 2, 3]) stories.push(told(await relay.attempt('moody.test', number)));
  expect(new Set(stories)).toEqual(new Set(['deferred 4.7.5 tls-handshake-failed']));
  const moods: readonly [Mood, RegExp][] = [
    ['no-starttls', /^deferred 4\.7\.4 starttls-not-offered$/],
    ['starttls-refused', /^deferred 4\.7\.4 starttls-refused$/],
  ];
  for (const [mood, story] of moods) {
    await lab.setMood('mx.moody.test', mood);
    await until('moody.test', story);
  }
  expect(lab.contacts('mx.moody.test').length).toBeGreaterThanOrEqual(5);
  expect(wasToldOfMail(lab, 'mx.moody.test')).toBe(false);

  await lab.setMood('mx.moody.test', 'well');
  await until('moody.test', /^delivered dane-ee authenticated at mx\.moody\.test$/);
  expect(arrived(lab, 'moody.test').map(({ tls }) => tls?.version)).toEqual(['TLSv1.3']);
});

test.concurrent('CONN-11 MX-16 TLSA-01 lost in the middle of the data: the next attempt demands the same proof again', async () => {
  host.change({ underTls: { early: 'reset' } });
  await relay.mail('cut.test');
  expect(told(await relay.attempt('cut.test'))).toBe('deferred 4.4.2 connection-lost');
  expect(host.messages).toEqual([]);

  host.change({ tls: null });
  const stripped = await until('cut.test', /starttls-not-offered$/);
  expect(told(await relay.attempt('cut.test', stripped))).toBe('deferred 4.7.4 starttls-not-offered');
  expect(host.conversations.at(-1)?.commands).toEqual(['EHLO relay.office.test', 'QUIT']);

  host.change({ tls: { key: identity.key, cert: identity.chain }, underTls: {} });
  await until('cut.test', /^delivered dane-ee authenticated at mx\.cut\.test$/);
  expect(host.messages.map(({ underTls }) => underTls)).toEqual([true]);
});

test.concurrent('ROLL-01 ROLL-04 ROLL-05 a key that was changed too early: mail waits, and leaves once the record is there', async () => {
  const old = tlsaFor(3, 1, 1, lab.identity('mx.renews.test'));
  const renewed = tlsaFor(3, 1, 1, await lab.replaceCertificate('mx.renews.test'));
  await relay.mail('renews.test');
  expect(told(await relay.attempt('renews.test', 1))).toBe('deferred 4.7.5 tlsa-mismatch');
  expect(told(await relay.attempt('renews.test', 2))).toBe('deferred 4.7.5 tlsa-mismatch');
  expect(wasToldOfMail(lab, 'mx.renews.test')).toBe(false);
  await lab.publishTlsa('mx.renews.test', [old, renewed]);
  await until('renews.test', /^delivered dane-ee authenticated/);
});

test.concurrent('TLSA-10 records that cannot be looked up: not dialled on any attempt', async () => {
  await relay.mail('forged.test');
  for (const number of [1, 2, 3]) {
    expect(told(await relay.attempt('forged.test', number))).toBe('deferred 4.7.5 tlsa-lookup-failed');
  }
  expect(lab.contacts('mx.forged.test')).toEqual([]);
});

test.concurrent('POL-01 ST-02 dane-only that is never met: mail waits for its lifetime, is not dialled, and only then returned', async () => {
  const strict = await journey.relay({
    queue: { retry: ['1s'], lifetime: '3s' },
    destinations: [{ domain: 'no-tlsa.test', tls: 'dane-only' }],
  });
  await strict.mail('no-tlsa.test');
  expect(told(await strict.attempt('no-tlsa.test', 1))).toBe('deferred 4.7.5 dane-only-no-tlsa');
  expect(told(await strict.attempt('no-tlsa.test', 2))).toBe('deferred 4.7.5 dane-only-no-tlsa');
  const last = await strict.running.untilEvent(({ domain, event }) => domain === 'no-tlsa.test' && event === 'expired');
  expect(last.explanation).toMatch(/lifetime/);
  expect(lab.contacts('mx.no-tlsa.test')).toEqual([]);
  await strict.running.untilEvent(({ domain, event }) => domain === 'office.test' && event === 'delivered');
  expect(arrived(lab, 'office.test').map(({ content }) => content.toString())).toEqual([
    expect.stringContaining('The configuration demands DANE'),
  ]);
});
