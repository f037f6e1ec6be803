/**
 * What senders are told, through the whole relay: notices arrive in the mailbox of the sender's own mail host, and a
 * parser that is not ours reads them.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Mail } from '../../lab/host.ts';
import type { RunningRelay } from '../../lab/relay.ts';
import { goodHost } from '../../lab/world.ts';
import { type ParsedReport, parseReport } from '../support/parsed-report.ts';
import type { HostOptions } from '../support/smtp-host.ts';
import { ANYBODY_HERE, attemptFor, eventually, type Scripted, startScripted, storyOf, submit } from './scripted.ts';
import { arrived, type Journey, startJourney } from './support.ts';

const WITHOUT_DSN = ['PIPELINING', '8BITMIME', 'SMTPUTF8'];

const SCRIPTS: Readonly<Record<string, HostOptions>> = {
  'takes.test': { extensions: WITHOUT_DSN },
  'dsn.test': { extensions: [...WITHOUT_DSN, 'DSN'] },
  'refuses.test': {
    extensions: WITHOUT_DSN,
    rcpt: (address) => `550 5.1.1 <${address}> is not known here`,
  },
  'dsn-refuses.test': { rcpt: '550 5.1.1 no such user' },
  'later.test': { rcpt: '451 4.7.1 greylisted' },
  'ascii.test': { extensions: ['8BITMIME'] },
  // The mail host of a sender who cannot be reached either.
  'dead-end.test': { rcpt: '550 5.1.1 no such sender' },
};

let journey: Journey;
let scripted: Scripted;
let relay: RunningRelay;
/** Writes Dutch, tells of a delay after a second and gives up after four. */
let dutch: RunningRelay;

beforeAll(async () => {
  scripted = await startScripted(SCRIPTS);
  journey = await startJourney([goodHost('office.test')], () => ({}));
  const common = { clients: ANYBODY_HERE, destinations: scripted.rules };
  relay = (await journey.relay({ ...common, queue: { retry: ['1h'] } })).running;
  const queue = { retry: ['1s'], delayNotice: '1s', lifetime: '4s' };
  dutch = (await journey.relay({ ...common, queue, notices: { language: 'nl' } })).running;
});
afterAll(async () => {
  await journey?.end();
  await scripted?.close();
});

/** Mail that came to this sender at office.test. */
function mailTo(local: string): readonly Mail[] {
  return arrived(journey.lab, 'office.test').filter(({ recipients }) => recipients.includes(`${local}@office.test`));
}

async function noticeTo(local: string, number = 1): Promise<ParsedReport> {
  await eventually(() => mailTo(local).length >= number, `notice ${number} to ${local}`);
  const mail = mailTo(local)[number - 1];
  if (!mail) throw new Error('no such notice');
  expect(mail.sender).toBe('');
  const report = await parseReport(mail.content);
  expect(report.defects).toEqual([]);
  return report;
}

/** Resolves when everything that this relay had to write before must have been written and delivered. */
async function afterEverything(from: RunningRelay, marker: string): Promise<void> {
  await submit(from, { from: `<${marker}@office.test>`, to: [`<${marker}@refuses.test>`] });
  await noticeTo(marker);
}

const flat = (text: string | undefined): string => (text ?? '').replace(/\s+/g, ' ');

describe('a bounce', () => {
  test('DSN-01 DSN-02 DSN-04 arrives with all that was given, for several recipients', async () => {
    await submit(relay, {
      from: '<bounce@office.test> RET=HDRS ENVID=QQ+2B314',
      to: ['<a@refuses.test> ORCPT=rfc822;first+2Ba@office.test NOTIFY=FAILURE', '<b@refuses.test>'],
      content: 'Subject: the subject\r\nX-Kept: yes\r\n\r\nThe body.\r\n',
    });
    const { headers, parts } = await noticeTo('bounce');
    expect(headers).toMatchObject({ 'auto-submitted': 'auto-replied', subject: 'Undelivered mail returned to sender' });
    expect(parts.map(({ type }) => type)).toEqual(['text/plain', 'message/delivery-status', 'text/rfc822-headers']);
    const [text, fields, header] = parts.map((part) => part.text);
    expect(flat(text)).toContain('<a@refuses.test> The mail host refused the message: to RCPT TO it said 550 5.1.1');
    expect(flat(text)).toContain('The administrator of the recipient can put this right. What you can do:');
    expect(flat(text)).toContain('(remote-refused, status 5.1.1, RFC 5321 section 4.2.1)');
    expect(fields).toContain('Reporting-MTA: dns; relay.office.test\n');
    expect(fields).toContain('Original-Envelope-Id: QQ+314\n');
    expect(fields).toContain('Original-Recipient: rfc822; first+a@office.test\n');
    expect(fields?.match(/^Final-Recipient: .*$/gm)).toEqual([
      'Final-Recipient: rfc822; a@refuses.test',
      'Final-Recipient: rfc822; b@refuses.test',
    ]);
    expect(fields?.match(/^Action: failed\nStatus: 5\.1\.1$/gm)).toHaveLength(2);
    expect(flat(fields)).toContain('Diagnostic-Code: smtp; 550 5.1.1 <a@refuses.test> is not known here');
    expect(header).toContain('X-Kept: yes');
    expect(header).not.toContain('The body.');
  });

  test('DSN-02 RET=FULL brings the whole message back', async () => {
    const content = 'Subject: whole\r\n\r\n.dots\r\n..and\r\nthe rest\r\n';
    await submit(relay, { from: '<full@office.test> RET=FULL', to: ['<a@refuses.test>'], content });
    const { parts } = await noticeTo('full');
    expect(parts[2]?.type).toBe('message/rfc822');
    expect(parts[2]?.text).toContain('Subject: whole\n\n.dots\n..and\nthe rest\n');
  });

  test('DSN-01 there is none for the null sender, and none for a bounce that cannot be delivered', async () => {
    await submit(relay, { from: '<>', to: ['<null@refuses.test>'] });
    await submit(relay, { from: '<gone@dead-end.test>', to: ['<chain@refuses.test>'] });
    await relay.untilOutput(/dropped without a notice, because it has the null sender/);
    await eventually(() => storyOf(relay, 'gone@dead-end.test').length > 0, 'the bounce to dead-end.test');
    expect(storyOf(relay, 'gone@dead-end.test')).toEqual(['bounced 5.1.1 remote-refused']);
    await afterEverything(relay, 'after-null');
    const dropped = relay.output().match(/dropped without a notice/g);
    expect(dropped).toHaveLength(2);
    const toDeadEnd = scripted.host('dead-end.test').story.match(/MAIL FROM:<[^>]*>/g);
    expect(toDeadEnd).toEqual(['MAIL FROM:<>']);
  });

  test('DSN-05 EXT-03 of a recipient beyond ASCII, for a host without SMTPUTF8', async () => {
    await submit(relay, { from: '<ascii@office.test> SMTPUTF8', to: ['<j\u00f6rg@ascii.test>'] });
    const { parts } = await noticeTo('ascii');
    expect(parts[1]?.text).toContain('Final-Recipient: utf-8; j\\x{F6}rg@ascii.test\nAction: failed\nStatus: 5.6.7\n');
    expect(parts[0]?.text).toContain('<j\u00f6rg@ascii.test>');
    expect(mailTo('ascii')[0]?.parameters[0]).not.toMatch(/SMTPUTF8|8BITMIME/);
  });
});

describe('DSN-03 NOTIFY', () => {
  test('DSN-03 decides who is told of what', async () => {
    await submit(relay, {
      from: '<notify@office.test> ENVID=id1',
      to: [
        '<never@refuses.test> NOTIFY=NEVER',
        '<success@refuses.test> NOTIFY=SUCCESS',
        '<delay@refuses.test> NOTIFY=DELAY',
        '<both@refuses.test> NOTIFY=SUCCESS,FAILURE',
        '<never@takes.test> NOTIFY=NEVER',
        '<failure@takes.test> NOTIFY=FAILURE,DELAY',
        '<none@takes.test>',
      ],
    });
    const { parts } = await noticeTo('notify');
    expect(parts[1]?.text.match(/^Final-Recipient: .*$/gm)).toEqual(['Final-Recipient: rfc822; both@refuses.test']);
    await afterEverything(relay, 'after-notify');
    expect(mailTo('notify')).toHaveLength(1);
  });

  test('DSN-03 NOTIFY=SUCCESS and a host without DSN: relayed', async () => {
    await submit(relay, {
      from: '<relayed@office.test>',
      to: ['<a@takes.test> NOTIFY=SUCCESS ORCPT=rfc822;x@office.test'],
    });
    const { headers, parts } = await noticeTo('relayed');
    expect(headers['subject']).toBe('Mail was handed over to the mail server of the recipient');
    expect(parts[1]?.text).toContain('Original-Recipient: rfc822; x@office.test\n');
    expect(parts[1]?.text).toContain('Action: relayed\nStatus: 2.0.0\n');
  });

  test('DSN-03 a host with DSN gets all parameters, and the duty; what it refuses is ours to tell', async () => {
    const parameters = 'NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@office.test';
    const from = '<passed@office.test> RET=FULL ENVID=a+2Bb+3Dc';
    await submit(relay, { from, to: [`<a@dsn.test> ${parameters}`, `<a@dsn-refuses.test> ${parameters}`] });
    const { parts } = await noticeTo('passed');
    expect(parts[1]?.text).toContain('Final-Recipient: rfc822; a@dsn-refuses.test\n');
    await attemptFor(relay, 'a@dsn.test');
    const [mail] = scripted.host('dsn.test').messages;
    expect(mail?.mail).toBe('MAIL FROM:<passed@office.test> RET=FULL ENVID=a+2Bb+3Dc');
    expect(mail?.rcpt).toEqual([`RCPT TO:<a@dsn.test> ${parameters}`]);
    await afterEverything(relay, 'after-passed');
    expect(mailTo('passed')).toHaveLength(1);
  });
});

test('DSN-03 TXN-07 mail that is late and then given up: one delay notice, then the bounce, in Dutch', async () => {
  await submit(dutch, {
    from: '<laat@office.test>',
    to: ['<a@later.test>', '<b@later.test> NOTIFY=FAILURE', '<c@later.test> NOTIFY=NEVER'],
  });
  const delayed = await noticeTo('laat', 1);
  expect(delayed.headers['subject']).toBe('Mail is vertraagd, de aflevering wordt nog geprobeerd');
  expect(delayed.parts[1]?.text.match(/^Final-Recipient: .*$/gm)).toEqual(['Final-Recipient: rfc822; a@later.test']);
  expect(delayed.parts[1]?.text).toMatch(/Action: delayed\nStatus: 4\.7\.1\n/);
  expect(delayed.parts[1]?.text).toMatch(/^Will-Retry-Until: /m);
  expect(flat(delayed.parts[0]?.text)).toContain('De mailserver vraagt om het later opnieuw te proberen.');
  expect(flat(delayed.parts[0]?.text)).toContain('De mailserver antwoordde: 451 4.7.1 greylisted');

  const failed = await noticeTo('laat', 2);
  expect(failed.headers['subject']).toBe('Onbestelbare mail terug naar afzender');
  expect(failed.parts[1]?.text.match(/^Final-Recipient: .*$/gm)).toEqual([
    'Final-Recipient: rfc822; a@later.test',
    'Final-Recipient: rfc822; b@later.test',
  ]);
  expect(failed.parts[1]?.text).toMatch(/Action: failed\nStatus: 4\.4\.7\n/);
  const text = flat(failed.parts[0]?.text);
  expect(text).toContain('Het bericht kon niet worden afgeleverd binnen de tijd die daarvoor staat.');
  const tried = Number(/sindsdien (\d+) keer geprobeerd/.exec(text)?.[1]);
  expect(tried).toBe(storyOf(dutch, 'a@later.test').length);
  expect(text).toContain('Bij de laatste poging: De mailserver vraagt om het later opnieuw te proberen.');
  expect(storyOf(dutch, 'c@later.test').at(-1)).toBe('expired 4.4.7 lifetime-over');
  await afterEverything(dutch, 'na-laat');
  expect(mailTo('laat')).toHaveLength(2);
  // The log stays English.
  expect((await attemptFor(dutch, 'a@later.test')).explanation).toMatch(/^The mail host asks to try again later/);
});
