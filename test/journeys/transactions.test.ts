/** Transactions through the whole relay: what hosts say, and what then becomes of each recipient. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Lab } from '../../lab/lab.ts';
import type { RunningRelay } from '../../lab/relay.ts';
import { goodHost } from '../../lab/world.ts';
import { signed } from '../support/route-lab.ts';
import type { HostOptions, Say } from '../support/smtp-host.ts';
import { ANYBODY_HERE, attemptFor, eventually, type Scripted, startScripted, storyOf, submit } from './scripted.ts';
import { arrived, type Journey, startJourney } from './support.ts';

const PHASES = ['greeting', 'ehlo', 'starttls', 'mail', 'rcpt', 'data', 'final'] as const;
const HANGING: Readonly<Record<string, HostOptions>> = Object.fromEntries(
  PHASES.map((phase): [string, HostOptions] => {
    // Its offer comes at once, its answer never.
    const ehlo = phase === 'starttls' ? { ehlo: '250-mx\r\n250-PIPELINING\r\n250 STARTTLS' } : {};
    return [`hangs-at-${phase}.test`, { ...ehlo, [phase]: 'hang' satisfies Say }];
  }),
);

const SCRIPTS: Readonly<Record<string, HostOptions>> = {
  ...HANGING,
  'hangs-at-block.test': { extensions: ['PIPELINING'] },
  'hangs-at-handshake.test': { ehlo: '250-mx\r\n250 STARTTLS', starttls: '220 go', handshake: 'hang' },
  'each.test': {
    rcpt: (address) =>
      ({ a: '250 2.1.5 ok', b: '451 4.7.1 greylisted', c: '550 5.1.1 no such user' })[address.charAt(0)] ?? '500 who',
  },
  'none.test': { rcpt: '550 5.1.1 nobody here' },
  'few.test': { rcpt: (_, count) => (count > 2 ? '452 4.5.3 too many recipients' : '250 2.1.5 ok') },
  'old-few.test': { rcpt: (_, count) => (count > 2 ? '552 too many recipients' : '250 ok') },
  'full.test': { rcpt: '452 4.5.3 too many recipients' },
  'many-lines.test': { rcpt: '250-2.1.5 fine\r\n250 2.1.5 really', final: '250-2.0.0 taken\r\n250 2.0.0 as 12345' },
  'web.test': { mail: 'HTTP/1.1 400 Bad Request' },
  'two-minds.test': { final: '250-2.0.0 taken\r\n550 5.7.1 or not' },
  'endless.test': { ehlo: `${'250-x\r\n'.repeat(20_000)}250 x` },
  'rude.test': { rcpt: '550 5.1.1 \u001b[2Jgone\u0007 \u202esdrawkcab\u0085 and more' },
  'small.test': { extensions: ['SIZE 100'] },
  'seven.test': { extensions: ['PIPELINING'] },
  'eight.test': { extensions: ['8BITMIME'] },
  'utf8.test': {},
  'quoted.test': { extensions: [] },
  'xn--bcher-kva.test': { extensions: [] },
};

let journey: Journey;
let lab: Lab;
let scripted: Scripted;
/** Comes back after a second. */
let relay: RunningRelay;
/** Comes back after an hour: what happens soon is no retry. */
let patient: RunningRelay;

beforeAll(async () => {
  scripted = await startScripted(SCRIPTS);
  journey = await startJourney(
    [
      goodHost('office.test'),
      goodHost('good.test'),
      goodHost('turns.test', { mood: 'turns-away', tlsa: [] }),
      goodHost('proud.test', { mood: 'turns-away' }),
      goodHost('down.test', { mood: 'down' }),
    ],
    () => ({
      'turned-first.test': signed('@ MX 10 mx.turns.test.', '@ MX 20 mx.good.test.'),
      'down-first.test': signed('@ MX 10 mx.down.test.', '@ MX 20 mx.good.test.'),
      'turned-or-down.test': signed('@ MX 10 mx.turns.test.', '@ MX 20 mx.down.test.'),
    }),
  );
  lab = journey.lab;
  const common = { clients: ANYBODY_HERE, destinations: scripted.rules };
  const soon = Object.fromEntries([...PHASES, 'handshake', 'block', 'quit'].map((phase) => [phase, '2s']));
  const quick = await journey.relay({
    ...common,
    queue: { retry: ['1s'] },
    delivery: { port: lab.port, timeouts: soon },
  });
  const slow = await journey.relay({ ...common, queue: { retry: ['1h'] } });
  relay = quick.running;
  patient = slow.running;
});
afterAll(async () => {
  await journey?.end();
  await scripted?.close();
});

async function outcome(from: RunningRelay, recipient: string, number = 1): Promise<string> {
  const { event, status, code } = await attemptFor(from, recipient, number);
  return `${event} ${status} ${code}`;
}

async function untilDelivered(recipient: string): Promise<void> {
  await eventually(() => storyOf(relay, recipient).at(-1) === 'delivered 2.0.0 clear-not-offered', recipient);
}

/** All RCPT commands of each message that was taken. */
function taken(domain: string): readonly (readonly string[])[] {
  return scripted.host(domain).messages.map(({ rcpt }) => rcpt.map((line) => /<(.*)>/.exec(line)?.[1] ?? ''));
}

describe('recipients', () => {
  test.concurrent('TXN-01 250, 451 and 550 in one message: one delivered, one returned, and only the third tried again', async () => {
    await submit(relay, { to: ['<a@each.test>', '<b@each.test>', '<c@each.test>'] });
    expect(await outcome(relay, 'b@each.test')).toBe('deferred 4.7.1 remote-later');
    scripted.host('each.test').change({ rcpt: '250 2.1.5 ok' });
    await untilDelivered('b@each.test');
    expect(storyOf(relay, 'a@each.test')).toEqual(['delivered 2.0.0 clear-not-offered']);
    expect(storyOf(relay, 'c@each.test')).toEqual(['bounced 5.1.1 remote-refused']);
    expect(taken('each.test')).toEqual([['a@each.test'], ['b@each.test']]);
  });

  test.concurrent('TXN-03 all refused: no message is sent, and one notice tells of all of them', async () => {
    await submit(relay, { from: '<none@office.test>', to: ['<a@none.test>', '<b@none.test>', '<c@none.test>'] });
    expect(await outcome(relay, 'c@none.test')).toBe('bounced 5.1.1 remote-refused');
    const mine = () => arrived(lab, 'office.test').filter(({ recipients }) => recipients.includes('none@office.test'));
    await eventually(() => mine().length > 0, 'a notice');
    expect(mine()).toHaveLength(1);
    expect(
      mine()[0]
        ?.content.toString()
        .match(/^Final-Recipient: .*$/gm),
    ).toHaveLength(3);
    expect(scripted.host('none.test').conversations.map(({ contentOctets }) => contentOctets)).toEqual([0]);
  });

  test.concurrent.each(['few.test', 'old-few.test'])(
    'TXN-05 %s takes two at a time: the others follow at once, nobody is returned',
    async (domain) => {
      const all = Array.from({ length: 7 }, (_, at) => `r${at}@${domain}`);
      await submit(patient, { to: all.map((address) => `<${address}>`) });
      await eventually(() => taken(domain).flat().length === 7, 'seven recipients');
      expect(taken(domain).map((each) => each.length)).toEqual([2, 2, 2, 1]);
      expect(taken(domain).flat().toSorted()).toEqual(all);
      const ends = all.flatMap((address) => storyOf(patient, address)).filter((end) => !end.startsWith('deferred'));
      expect(new Set(ends)).toEqual(new Set(['delivered 2.0.0 clear-not-offered']));
    },
  );

  test.concurrent('TXN-05 a host that takes nobody at all is not asked again and again', async () => {
    await submit(patient, { to: ['<a@full.test>', '<b@full.test>'] });
    expect(await outcome(patient, 'b@full.test')).toBe('deferred 4.5.3 remote-too-many-recipients');
    // Whatever is mailed later has been through the same queue.
    await submit(patient, { to: ['<marker@utf8.test>'] });
    await outcome(patient, 'marker@utf8.test');
    expect(storyOf(patient, 'b@full.test')).toHaveLength(1);
  });
});

describe('hosts', () => {
  test.concurrent.each([
    ['TXN-02 a 554 greeting: the next MX takes it', 'turned-first.test', 'delivered 2.0.0 dane-ee'],
    [
      'TXN-02 a 554 greeting of the only host, where TLS is not demanded',
      'turns.test',
      'bounced 5.3.2 greeting-refused',
    ],
    ['TXN-02 ST-02 the same under DANE waits', 'proud.test', 'deferred 4.7.5 greeting-refused-before-tls'],
    [
      'TXN-02 a 554 greeting, and another host that may be there later',
      'turned-or-down.test',
      'deferred 4.4.1 connect-failed',
    ],
    ['no connection: the next MX takes it', 'down-first.test', 'delivered 2.0.0 dane-ee'],
    ['no connection to the only host', 'down.test', 'deferred 4.4.1 connect-failed'],
  ])('%s', async (_, domain, story) => {
    await submit(patient, { to: [`<a@${domain}>`] });
    expect(await outcome(patient, `a@${domain}`)).toBe(story);
  });

  test.concurrent('MX-15 an address literal', async () => {
    const literal = `[${lab.address('mx.good.test')}]`;
    await submit(patient, { to: [`<a@${literal}>`] });
    expect(await outcome(patient, `a@${literal}`)).toBe('delivered 2.0.0 encrypted-opportunistic');
  });

  test.concurrent('TXN-06 replies of many lines are one reply', async () => {
    await submit(patient, { to: ['<a@many-lines.test>'] });
    const event = await attemptFor(patient, 'a@many-lines.test');
    expect(event).toMatchObject({ event: 'delivered', reply: '250 2.0.0 taken 2.0.0 as 12345' });
  });

  test.concurrent.each(['web.test', 'two-minds.test', 'endless.test'])(
    'TXN-06 what is no reply makes mail wait: %s',
    async (domain) => {
      await submit(relay, { to: [`<a@${domain}>`] });
      expect(await outcome(relay, `a@${domain}`)).toBe('deferred 4.5.0 remote-garbage');
      const good = { mail: '250 ok', final: '250 ok', ehlo: '250 mx.test' } as const;
      scripted.host(domain).change(good);
      await untilDelivered(`a@${domain}`);
    },
  );

  test.concurrent('DSN-04 words of a host steer nothing where they are shown: log, queue, notice', async () => {
    const rude = (text: string | undefined): boolean =>
      /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e]/.test((text ?? '').replaceAll('\r', ''));
    await submit(patient, { from: '<rude@office.test>', to: ['<a@rude.test>'] });
    const event = await attemptFor(patient, 'a@rude.test');
    expect(event.reply).toBe('550 5.1.1 [2Jgone sdrawkcab and more');
    expect(rude(event.explanation)).toBe(false);
    const mine = () => arrived(lab, 'office.test').find(({ recipients }) => recipients.includes('rude@office.test'));
    await eventually(() => mine() !== undefined, 'a notice');
    expect(rude(mine()?.content.toString())).toBe(false);
    scripted.host('rude.test').change({ rcpt: '451 4.7.1 \u001b[2Jlater\u0007 \u202esdrawkcab' });
    await submit(patient, { to: ['<b@rude.test>'] });
    await attemptFor(patient, 'b@rude.test');
    const { stdout } = await patient.command('queue', 'list');
    expect(stdout).toContain('rude.test');
    expect(rude(stdout)).toBe(false);
  });
});

describe('TXN-04 RFC 5321 §4.5.3.2: a host that hangs is left when the time of the phase is over', () => {
  test.concurrent.each([
    ['greeting', 'no greeting in 2 s'],
    ['ehlo', 'no answer to EHLO in 2 s'],
    ['starttls', 'no answer to STARTTLS in 2 s'],
    ['mail', 'no answer to MAIL FROM in 2 s'],
    ['rcpt', 'no answer to RCPT TO in 2 s'],
    ['data', 'no answer to DATA in 2 s'],
    ['final', 'no answer to the end of the message in 2 s; the whole message had been sent'],
    ['block', 'the host did not take the message in 2 s'],
  ])('TXN-04 at %s', async (phase, detail) => {
    const domain = `hangs-at-${phase}.test`;
    const big = phase === 'block';
    if (big) scripted.host(domain).deafen();
    const content = big ? `Subject: big\r\n\r\n${`${'x'.repeat(998)}\r\n`.repeat(20_000)}` : 'Subject: small\r\n\r\n';
    await submit(relay, { to: [`<a@${domain}>`], content });
    const { event, status, code, explanation } = await attemptFor(relay, `a@${domain}`);
    expect(`${event} ${status} ${code}`).toBe('deferred 4.4.2 remote-timeout');
    expect(explanation).toContain(detail);
  });

  test.concurrent('TXN-04 at the handshake: another connection, in the clear, where nothing demands TLS', async () => {
    const host = scripted.host('hangs-at-handshake.test');
    await submit(relay, { to: ['<a@hangs-at-handshake.test>'] });
    const { event, code, explanation } = await attemptFor(relay, 'a@hangs-at-handshake.test');
    expect(`${event} ${code}`).toBe('delivered clear-handshake-failed');
    expect(explanation).toContain('the TLS handshake did not end in 2 s');
    expect(host.conversations).toHaveLength(2);
  });
});

describe('what a host can take', () => {
  test.concurrent('EXT-05 SIZE: too large is returned before a word of the message is said', async () => {
    await submit(patient, { to: ['<a@small.test>'] });
    expect(await outcome(patient, 'a@small.test')).toBe('bounced 5.3.4 size-over-remote-limit');
    expect(scripted.host('small.test').story).toMatch(/^EHLO relay\.office\.test(?: \| QUIT)?$/);
  });

  test.concurrent('EXT-02 8-bit content goes where 8BITMIME is offered, and is returned elsewhere', async () => {
    const content = Buffer.from('Subject: eight\r\n\r\nd\u00efs \u20ac\r\n');
    await submit(patient, {
      to: ['<a@seven.test>', '<a@eight.test>'],
      from: '<alice@office.test> BODY=8BITMIME',
      content,
    });
    expect(await outcome(patient, 'a@seven.test')).toBe('bounced 5.6.3 eight-bit-unsupported');
    expect(await outcome(patient, 'a@eight.test')).toBe('delivered 2.0.0 clear-not-offered');
    expect(scripted.host('seven.test').story).not.toContain('MAIL');
  });

  test.concurrent('EXT-03 EXT-02 raw 8-bit header fields of an old client arrive as they were, asking for 8BITMIME only', async () => {
    const content = Buffer.from('Subject: caf\u00e9 latin\r\n\r\nHello.\r\n', 'latin1');
    await submit(patient, { to: ['<old@eight.test>', '<old@utf8.test>'], content });
    for (const domain of ['eight.test', 'utf8.test']) {
      expect(await outcome(patient, `old@${domain}`)).toBe('delivered 2.0.0 clear-not-offered');
      const mail = scripted.host(domain).messages.find(({ rcpt }) => rcpt.some((line) => line.includes('old@')));
      expect(mail?.mail).toMatch(/ BODY=8BITMIME$/);
      expect(mail?.content.subarray(-content.length).equals(content)).toBe(true);
    }
  });

  test.concurrent('EXT-03 what was declared as SMTPUTF8 goes only where it is offered', async () => {
    const from = '<alice@office.test> BODY=8BITMIME SMTPUTF8';
    const content = 'Subject: caf\u00e9\r\n\r\nHello.\r\n';
    await submit(patient, { from, to: ['<header@eight.test>', '<header@utf8.test>'], content });
    await submit(patient, { from, to: ['<j\u00f6rg@eight.test>', '<j\u00f6rg@utf8.test>'] });
    expect(await outcome(patient, 'header@eight.test')).toBe('bounced 5.6.9 utf8-header-unsupported');
    expect(await outcome(patient, 'j\u00f6rg@eight.test')).toBe('bounced 5.6.7 utf8-address-unsupported');
    expect(await outcome(patient, 'header@utf8.test')).toBe('delivered 2.0.0 clear-not-offered');
    expect(await outcome(patient, 'j\u00f6rg@utf8.test')).toBe('delivered 2.0.0 clear-not-offered');
    expect(scripted.host('utf8.test').story).toMatch(
      /MAIL FROM:<alice@office\.test>[^|]* SMTPUTF8 \| RCPT TO:<j\u00f6rg@/,
    );
    expect(scripted.host('eight.test').story).not.toContain('SMTPUTF8');
  });

  test.concurrent('EXT-04 quoted local parts leave as they came', async () => {
    const locals = ['"a b"', '"a>b"', '"a@b"', '"a\\"b"', 'a..b', "o'hara+x=y/z"];
    await submit(patient, { to: locals.map((local) => `<${local}@quoted.test>`) });
    await eventually(() => taken('quoted.test').length === 1, 'a message');
    const lines = scripted.host('quoted.test').messages[0]?.rcpt.toSorted();
    expect(lines).toEqual(locals.map((local) => `RCPT TO:<${local}@quoted.test>`).toSorted());
  });

  test.concurrent('IDN-01 EXT-03 a domain in U-labels leaves in A-labels, also to a host without SMTPUTF8', async () => {
    await submit(patient, { from: '<alice@office.test> SMTPUTF8', to: ['<user@B\u00fccher.test>'] });
    expect(await outcome(patient, 'user@xn--bcher-kva.test')).toBe('delivered 2.0.0 clear-not-offered');
    expect(scripted.host('xn--bcher-kva.test').story).toContain(
      'MAIL FROM:<alice@office.test> | RCPT TO:<user@xn--bcher-kva.test> | DATA',
    );
  });
});
