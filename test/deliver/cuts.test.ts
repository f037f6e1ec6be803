/**
 * The connection is cut after every single octet of the conversation, in either direction. Wherever it happens, no
 * recipient is delivered without the host's word, none is returned for it, and the host never keeps half a message.
 */
import { describe, expect, test } from 'vitest';
import type { Visit } from '../../src/model/delivery.ts';
import type { HostOptions } from '../support/smtp-host.ts';
import { cutterBefore } from './cutter.ts';
import { dane, MESSAGE, may, scene, told } from './scene.ts';

const ways: readonly (readonly [string, HostOptions, typeof may | typeof dane, number])[] = [
  // how they talk            host                                          policy  cut every so many octets
  ['one by one, in the clear', { tls: null, extensions: ['8BITMIME', 'SIZE'] }, may, 1],
  ['pipelined, in the clear', { tls: null }, may, 1],
  ['under TLS, proven', {}, dane, 37],
];

describe.each(ways)('%s', (_, options, policy, step) => {
  test.each(['toRelay', 'toHost'] as const)('TXN-04 CONN-11 cut after every octet %s', async (direction) => {
    const { host, deliver } = await scene({ host: options, policy, recipients: ['a@example.test', 'b@example.test'] });
    const cutter = await cutterBefore(host);
    // A deliverer keeps good connections; a message each, so that each is cut where it is meant to be.
    const visit = async (): Promise<Visit> => deliver({ port: cutter.port });

    const whole = await visit();
    expect(told(whole)).toMatch(/^delivered .*, delivered /);
    host.interject({ close: '' });
    const octets = cutter.passed[direction];
    expect(octets).toBeGreaterThan(100);

    for (let after = 0; after < octets; after += step) {
      cutter.cut = { direction, after };
      const before = host.messages.length;
      const end = told(await visit());
      const kept = host.messages.slice(before);
      const where = `cut after ${after} of ${octets}: ${end}`;
      // Nobody is returned, and nobody is delivered whose message the host does not have.
      expect(end, where).not.toMatch(/bounced/);
      if (/delivered/.test(end)) expect(kept.length, where).toBe(1);
      expect(kept.length, where).toBeLessThanOrEqual(1);
      for (const { content } of kept) expect(content.equals(MESSAGE), where).toBe(true);
      // Kept without our knowing means that the final dot was out: then no other host may be asked.
      if (kept.length > 0) expect(end, where).not.toMatch(/useless/);
      host.interject({ close: '' });
    }
  });
});

describe('every refusal at every step', () => {
  const steps = ['greeting', 'ehlo', 'mail', 'rcpt', 'data', 'final'] as const;
  const replies = ['421 4.3.2 closing', '452 4.3.1 no room', '552 5.3.4 too much'] as const;
  const rows = steps.flatMap((step) => replies.map((reply) => [step, reply] as const));
  test.each(rows)('ST-01 TXN-02 TXN-05 %s answered with %s: nobody is lost', async (step, reply) => {
    const { host, deliver } = await scene({
      host: { tls: null, [step]: reply },
      policy: may,
      recipients: ['a@example.test', 'b@example.test'],
    });
    const visit = await deliver();
    const end = told(visit);
    // 552 to RCPT is 452 by another name (RFC 5321 §4.5.3.1.10), and a host that refuses EHLO may know HELO.
    const forGood = reply.startsWith('552') && step !== 'rcpt';
    if (forGood && step === 'ehlo') expect(end).toMatch(/^delivered .*delivered /);
    else if (forGood && step === 'greeting') expect(end).toMatch(/^useless 5\.3\.4 /);
    else if (forGood) expect(end).toMatch(/^bounced 5\.3\.4 .*bounced 5\.3\.4 /);
    else expect(end).toMatch(/^(?:useless(?: 4\.\S+)? \S+|deferred 4\.\S+ \S+, deferred 4\.\S+ \S+)$/);
    const took = step === 'final' || /^delivered/.test(end);
    expect(host.messages).toHaveLength(took ? 1 : 0);
  });
});
