import { describe, expect, test } from 'vitest';
import { type ClientRule, type Credentials, createAccess } from '../../src/receive/access.ts';

const PIN = 'sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=';
const NEXT = 'sha256/BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB=';
const OTHER = 'sha256/CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC=';

/** A client on a good day: in its network, with one of its pins. */
const EXCHANGE: ClientRule = {
  name: 'exchange',
  networks: ['10.1.0.0/16', '2001:db8::/32'],
  pins: [PIN, NEXT],
  tls: 'required',
  senders: ['example.nl', '*.example.nl'],
  rate: null,
};

const CLEAR: Credentials = { secure: false, pin: null };
const TLS: Credentials = { secure: true, pin: null };
const pinned = (pin: string): Credentials => ({ secure: true, pin });

function story(rules: readonly ClientRule[], address: string, credentials: Credentials, sender: string): string {
  const access = createAccess(rules);
  const candidates = access.candidates(address);
  const answer = access.mayMail(candidates, credentials, sender);
  return 'client' in answer ? answer.client.name : answer.refusal.code;
}

describe('who may send', () => {
  test.each<[string, Partial<ClientRule>, string, Credentials, string, string]>([
    ['in its network with its pin', {}, '10.1.2.3', pinned(PIN), 'a@example.nl', 'exchange'],
    ['with the next pin, in a rollover', {}, '10.1.2.3', pinned(NEXT), 'a@example.nl', 'exchange'],
    ['IPv6', {}, '2001:db8:1::1', pinned(PIN), 'a@example.nl', 'exchange'],
    ['IPv4 on a dual-stack socket', {}, '::ffff:10.1.2.3', pinned(PIN), 'a@example.nl', 'exchange'],
    ['the right pin from elsewhere', {}, '10.2.0.1', pinned(PIN), 'a@example.nl', 'client-unknown'],
    ['another pin', {}, '10.1.2.3', pinned(OTHER), 'a@example.nl', 'client-certificate-unknown'],
    ['no certificate', {}, '10.1.2.3', TLS, 'a@example.nl', 'client-certificate-missing'],
    ['no TLS', {}, '10.1.2.3', CLEAR, 'a@example.nl', 'client-needs-tls'],
    ['a pin means TLS, whatever tls says', { tls: 'optional' }, '10.1.2.3', CLEAR, 'a@example.nl', 'client-needs-tls'],
    ['no pins: TLS is enough', { pins: [] }, '10.1.2.3', TLS, 'a@example.nl', 'exchange'],
    ['no pins, TLS required', { pins: [] }, '10.1.2.3', CLEAR, 'a@example.nl', 'client-needs-tls'],
    ['no pins, TLS optional', { pins: [], tls: 'optional' }, '10.1.2.3', CLEAR, 'a@example.nl', 'exchange'],
    ['no networks: by pin from anywhere', { networks: [] }, '192.0.2.1', pinned(PIN), 'a@example.nl', 'exchange'],
    [
      'no networks, wrong pin',
      { networks: [] },
      '192.0.2.1',
      pinned(OTHER),
      'a@example.nl',
      'client-certificate-unknown',
    ],
    [
      'neither network nor pin opens nothing',
      { networks: [], pins: [] },
      '10.1.2.3',
      TLS,
      'a@example.nl',
      'client-unknown',
    ],
    ['a subdomain', {}, '10.1.2.3', pinned(PIN), 'a@x.y.example.nl', 'exchange'],
    ['another domain', {}, '10.1.2.3', pinned(PIN), 'a@example.org', 'sender-not-allowed'],
    ['a domain that only ends alike', {}, '10.1.2.3', pinned(PIN), 'a@notexample.nl', 'sender-not-allowed'],
    [
      'a wildcard is not the domain itself',
      { senders: ['*.example.nl'] },
      '10.1.2.3',
      pinned(PIN),
      'a@example.nl',
      'sender-not-allowed',
    ],
    ['the null sender', {}, '10.1.2.3', pinned(PIN), '', 'exchange'],
    ['the null sender without proof', {}, '10.1.2.3', TLS, '', 'client-certificate-missing'],
    ['an address literal', {}, '10.1.2.3', pinned(PIN), 'a@[10.1.2.3]', 'sender-not-allowed'],
    ['any domain', { senders: ['*'] }, '10.1.2.3', pinned(PIN), 'a@[10.1.2.3]', 'exchange'],
    ['no domain', { senders: [] }, '10.1.2.3', pinned(PIN), 'a@example.nl', 'sender-not-allowed'],
    [
      'a single address as network',
      { networks: ['10.1.2.3'] },
      '10.1.2.4',
      pinned(PIN),
      'a@example.nl',
      'client-unknown',
    ],
    ['no address at all', {}, '', pinned(PIN), 'a@example.nl', 'client-unknown'],
  ])('%s', (_, change, address, credentials, sender, expected) => {
    expect(story([{ ...EXCHANGE, ...change }], address, credentials, sender)).toBe(expected);
  });

  test('of several clients in one network the one that is proven and has the domain is taken', () => {
    const app: ClientRule = { ...EXCHANGE, name: 'app', pins: [], tls: 'optional', senders: ['app.test'] };
    expect(story([EXCHANGE, app], '10.1.2.3', pinned(PIN), 'a@example.nl')).toBe('exchange');
    expect(story([EXCHANGE, app], '10.1.2.3', pinned(PIN), 'a@app.test')).toBe('app');
    expect(story([EXCHANGE, app], '10.1.2.3', CLEAR, 'a@app.test')).toBe('app');
    expect(story([EXCHANGE, app], '10.1.2.3', CLEAR, 'a@example.nl')).toBe('sender-not-allowed');
  });

  test('a refusal names the pin that was seen, so that it can be compared', () => {
    const access = createAccess([EXCHANGE]);
    const answer = access.mayMail(access.candidates('10.1.2.3'), pinned(OTHER), 'a@example.nl');
    expect(answer).toMatchObject({ refusal: { reply: 530, status: '5.7.0', detail: expect.stringContaining(OTHER) } });
  });

  test.each(['10.1.0.0/33', '10.1.0.0/x', '10.1.0.0/', 'example.nl', '2001:db8::/129', ''])(
    '%s is no network',
    (network) => {
      expect(() => createAccess([{ ...EXCHANGE, networks: [network] }])).toThrow(TypeError);
    },
  );
});
