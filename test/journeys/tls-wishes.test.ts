/**
 * What senders ask of TLS (RFC 8689), and how good it has to be, through the whole relay: real DNS, real TLS, mail that
 * is handed in under TLS. Hosts that must not hear of any mail are asked at the end.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { send } from '../../lab/client.ts';
import type { Lab } from '../../lab/lab.ts';
import { goodHost, goodSts, type HostEntry, type PublishedTlsa } from '../../lab/world.ts';
import { signed } from '../support/route-lab.ts';
import { arrived, type Follower, type Host, type Journey, startJourney, told, wasToldOfMail } from './support.ts';

const STRANGER: PublishedTlsa = { numbers: [3, 1, 1], of: 'stranger' };
const PKIX: PublishedTlsa = { numbers: [1, 0, 1], of: 'host' };

/** A host that offers REQUIRETLS. */
const willing = (domain: string, changes: Partial<HostEntry> = {}): Host =>
  goodHost(domain, { mood: 'requiretls', ...changes });
const byName = { tlsa: [], certificate: 'public' } as const;

const HOSTS: readonly Host[] = [
  goodHost('office.test'),
  willing('careful.test'),
  willing('dane.test'),
  goodHost('silent.test'),
  willing('by-name.test', byName),
  willing('self-signed.test', { tlsa: [] }),
  willing('unusable.test', { tlsa: [PKIX] }),
  willing('wrong.test', { tlsa: [STRANGER] }),
  willing('forged.test', { tlsaForged: true }),
  goodHost('stripped.test', { mood: 'no-starttls' }),
  { ...willing('unsigned.test', byName), dnssec: 'unsigned' },
  { ...willing('listed.test', byName), dnssec: 'unsigned', sts: goodSts('listed.test') },
  goodHost('waived-wrong.test', { tlsa: [STRANGER] }),
  goodHost('waived-forged.test', { tlsaForged: true }),
  goodHost('waived-stripped.test', { mood: 'no-starttls' }),
  { ...goodHost('waived-sts.test', { tlsa: [] }), dnssec: 'unsigned', sts: goodSts('waived-sts.test') },
  goodHost('ruled.test', { tlsa: [] }),
  goodHost('both.test'),
  goodHost('weak.test', { mood: 'weak-cipher' }),
  goodHost('weak-may.test', { mood: 'weak-cipher', tlsa: [] }),
  goodHost('old.test', { mood: 'old-tls' }),
  goodHost('old-may.test', { mood: 'old-tls', tlsa: [] }),
];

/** Hosts that may be dialled and must never be told of mail. */
const UNPROVEN = ['silent', 'self-signed', 'unusable', 'wrong', 'stripped', 'both', 'weak', 'old'];
/** Hosts that must not even be dialled. */
const UNTOUCHABLE = ['forged', 'unsigned', 'ruled'];

let journey: Journey;
let lab: Lab;
let relay: Follower;

beforeAll(async () => {
  journey = await startJourney(HOSTS, () => ({
    'second.test': signed('@ MX 10 mx.silent.test.', '@ MX 20 mx.dane.test.'),
  }));
  lab = journey.lab;
  relay = await journey.relay({
    queue: { retry: ['1h'] },
    destinations: [{ domain: 'ruled.test', tls: 'dane-only' }],
  });
});
afterAll(() => journey?.end());

interface Wish {
  readonly sender?: string;
  readonly requireTls?: boolean;
  readonly waived?: boolean;
}

async function mail(domain: string, { sender = 'alice@office.test', requireTls = false, waived = false }: Wish) {
  const { running } = relay;
  const content = `Subject: to ${domain}\r\n${waived ? 'TLS-Required: No\r\n' : ''}\r\nThe very words.\r\n`;
  await send(running, running.client, { sender, recipients: [`bob@${domain}`], content, requireTls });
  return relay.attempt(domain);
}

const NOT_PROVEN = 'bounced 5.7.10 requiretls-not-proven';

describe('a message with REQUIRETLS', () => {
  test.each([
    ['REQ-03 DANE', 'dane.test', 'delivered dane-ee authenticated at mx.dane.test'],
    [
      'REQ-02 a signed MX and a trusted name',
      'by-name.test',
      'delivered webpki-matched authenticated at mx.by-name.test',
    ],
    ['REQ-02 MTA-STS', 'listed.test', 'delivered webpki-matched authenticated at mx.listed.test'],
    ['REQ-02 the second host offers it', 'second.test', 'delivered dane-ee authenticated at mx.dane.test'],
    ['REQ-02 nobody offers it', 'silent.test', 'bounced 5.7.30 requiretls-not-offered'],
    ['REQ-02 nobody vouches for the host', 'self-signed.test', NOT_PROVEN],
    ['REQ-04 TLSA of which none is usable', 'unusable.test', NOT_PROVEN],
    ['REQ-02 DANE fails', 'wrong.test', NOT_PROVEN],
    ['REQ-02 no STARTTLS', 'stripped.test', NOT_PROVEN],
    ['REQ-02 nothing ties the host to the domain', 'unsigned.test', NOT_PROVEN],
    ['REQ-02 a lookup fails', 'forged.test', 'deferred 4.7.5 tlsa-lookup-failed'],
  ])('%s', async (_, domain, end) => {
    const event = await mail(domain, { requireTls: true });
    expect(told(event)).toBe(end);
    expect(event.tlsWish).toBe('required');
    for (const { parameters } of arrived(lab, domain)) expect(parameters[0]).toContain('REQUIRETLS');
  });

  test('REQ-07 the header beside it counts for nothing', async () => {
    expect(told(await mail('both.test', { requireTls: true, waived: true }))).toBe(
      'bounced 5.7.30 requiretls-not-offered',
    );
  });

  test('REQ-05 what comes back demands TLS as well, to who offers it and to who does not, and is no more than the header', async () => {
    const bounces = async (domain: string): Promise<readonly string[]> => {
      const find = () => arrived(lab, domain).filter(({ sender }) => sender === '');
      await expect.poll(() => find().length).toBeGreaterThan(0);
      for (const { content, tls } of find()) {
        expect(String(content)).toContain('5.7.');
        expect(String(content)).not.toContain('The very words.');
        expect(tls).not.toBeNull();
      }
      return find().map(({ parameters }) => parameters[0] ?? '');
    };
    await relay.running.untilEvent(({ event, domain }) => event === 'bounced' && domain === 'silent.test');
    for (const parameters of await bounces('office.test')) expect(parameters).not.toContain('REQUIRETLS');
    const { running } = relay;
    const letter = {
      sender: 'carol@careful.test',
      recipients: ['bob@silent.test'],
      content: 'A: b\r\n\r\nThe very words.\r\n',
    };
    await send(running, running.client, { ...letter, requireTls: true });
    for (const parameters of await bounces('careful.test')) expect(parameters).toContain('REQUIRETLS');
  });
});

describe('a message that says TLS-Required: No', () => {
  test.each([
    ['REQ-06 DANE would fail', 'waived-wrong.test', 'delivered encrypted-opportunistic encrypted'],
    ['REQ-06 TLSA could not be looked up', 'waived-forged.test', 'delivered encrypted-opportunistic encrypted'],
    ['REQ-06 no STARTTLS', 'waived-stripped.test', 'delivered clear-not-offered clear'],
    ['REQ-06 MTA-STS would fail', 'waived-sts.test', 'delivered encrypted-opportunistic encrypted'],
  ])('%s', async (_, domain, end) => {
    const event = await mail(domain, { waived: true });
    expect(told(event)).toBe(`${end} at mx.${domain}`);
    expect(event).toMatchObject({ tlsWish: 'optional', policy: 'may' });
  });

  test('REQ-08 a rule that demands DANE wins, and says so', async () => {
    const event = await mail('ruled.test', { waived: true });
    expect(told(event)).toBe('deferred 4.7.5 dane-only-no-tlsa');
    expect(event.tlsWish).toBe('overruled');
    expect(event.explanation).toMatch(/the message says TLS-Required: No, and the rule ".*ruled\.test.*" demands TLS/);
  });
});

describe('how good TLS is', () => {
  test('TLS-09 insufficient where DANE demands it: kept back', async () => {
    const event = await mail('weak.test', {});
    expect(told(event)).toBe('deferred 4.7.5 tls-too-weak');
    expect(event.explanation).toContain('the hash SHA1');
    expect(event.tls).toMatchObject({ grade: 'insufficient' });
  });

  test('TLS-09 insufficient where nothing demands it: handed over, and told', async () => {
    const event = await mail('weak-may.test', {});
    expect(told(event)).toBe('delivered encrypted-opportunistic encrypted at mx.weak-may.test');
    expect(event.tls).toMatchObject({ version: 'TLSv1.2', grade: 'insufficient' });
  });

  test('TLS-04 TLS 1.1: kept back under DANE, in the clear where nothing demands TLS', async () => {
    expect(told(await mail('old.test', {}))).toBe('deferred 4.7.5 tls-handshake-failed');
    expect(told(await mail('old-may.test', {}))).toBe('delivered clear-handshake-failed clear at mx.old-may.test');
  });

  test('TLS-10 the grade and the group stand in the log of what was handed over', async () => {
    const [delivered] = relay.running
      .events()
      .filter(({ host, event }) => host === 'mx.dane.test' && event === 'delivered');
    expect(delivered?.tls).toMatchObject({ version: 'TLSv1.3', group: 'X25519MLKEM768', grade: 'sufficient' });
  });
});

test('REQ-02 explain --require-tls says the same', async () => {
  const explained = async (domain: string) => {
    const words = ['explain', domain, '--require-tls', '--connect', '--json'];
    const { stdout, status } = await relay.running.command(...words);
    const { code, hosts } = JSON.parse(stdout);
    return { code, status, grade: hosts[0]?.connection?.tls?.grade };
  };
  expect(await explained('dane.test')).toEqual({ code: 'dane-ee', status: 0, grade: 'sufficient' });
  expect(await explained('silent.test')).toMatchObject({ code: 'requiretls-not-offered', status: 1 });
  expect(await explained('wrong.test')).toMatchObject({ code: 'requiretls-not-proven', status: 1 });
});

test('REQ-02 TLS-09 hosts that did not prove themselves were told of no mail, and others not even dialled', () => {
  for (const domain of UNPROVEN) {
    expect(wasToldOfMail(lab, `mx.${domain}.test`), domain).toBe(false);
    expect(lab.contacts(`mx.${domain}.test`).length, domain).toBeGreaterThan(0);
  }
  for (const domain of UNTOUCHABLE) expect(lab.contacts(`mx.${domain}.test`), domain).toEqual([]);
});
