/** The operator's rules, exceptions and report-only through the real relay: what is handed over, and what is not. */
import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pinOf } from '../../lab/certificates.ts';
import { goodHost } from '../../lab/world.ts';
import { arrived, type Follower, type Journey, startJourney, told, wasToldOfMail } from './support.ts';

const stranger = [{ numbers: [3, 1, 1], of: 'stranger' }] as const;
const HOSTS = [
  goodHost('home.test'),
  goodHost('public.test', { tlsa: [], certificate: 'public' }),
  goodHost('other-names.test', { tlsa: [], certificate: 'public-other-names' }),
  goodHost('private.test', { tlsa: [] }),
  goodHost('both.test', { certificate: 'public' }),
  goodHost('broken-dane.test', { certificate: 'public', tlsa: stranger }),
  goodHost('pinned.test', { tlsa: [] }),
  goodHost('new-key.test', { tlsa: [] }),
  goodHost('no-tls.test', { tlsa: [], mood: 'no-starttls' }),
  goodHost('wrong.test', { tlsa: stranger }),
  goodHost('wrong-too.test', { tlsa: stranger }),
  goodHost('forged.test', { tlsaForged: true }),
  goodHost('stripped.test', { mood: 'no-starttls' }),
  goodHost('late.test', { tlsa: stranger }),
  goodHost('enforced.test', { tlsa: stranger }),
  goodHost('nobody-there.test', { tlsa: stranger, mood: 'unknown-users' }),
];

let journey: Journey;
let relay: Follower;
const delivery = () => ({ port: journey.lab.port, ca: journey.lab.web.ca, mtaStsPort: journey.lab.web.port });
const inDays = (days: number): string => new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10);

beforeAll(async () => {
  journey = await startJourney(HOSTS, () => ({}));
  relay = await journey.relay({
    delivery: { ...delivery(), minimum: 'encrypt' },
    // What waits is tried again when it is asked for, and not before.
    queue: { retry: ['1h'] },
    destinations: [
      ...['public', 'other-names', 'private', 'both', 'broken-dane'].map((name) => ({
        domain: `${name}.test`,
        tls: 'verify',
      })),
      { domain: 'pinned.test', tls: 'pin', pins: [pinOf(journey.lab.identity('mx.pinned.test'))] },
      { domain: 'new-key.test', tls: 'pin', pins: [pinOf(journey.lab.identity('mx.pinned.test'))] },
      { domain: 'no-tls.test', tls: 'may' },
    ],
  });
});
afterAll(() => journey?.end());

test('each rule hands mail over to those who prove what it asks, and to nobody else', async () => {
  const stories = {
    'public.test': 'delivered webpki-matched authenticated at mx.public.test',
    'other-names.test': 'deferred 4.7.5 webpki-name-mismatch',
    'private.test': 'deferred 4.7.5 webpki-not-trusted',
    'both.test': 'delivered webpki-matched authenticated at mx.both.test',
    'broken-dane.test': 'deferred 4.7.5 tlsa-mismatch',
    'pinned.test': 'delivered pin-matched authenticated at mx.pinned.test',
    'new-key.test': 'deferred 4.7.5 pin-mismatch',
    'no-tls.test': 'deferred 4.7.4 starttls-not-offered',
  };
  await relay.mail(...Object.keys(stories));
  for (const [domain, story] of Object.entries(stories)) {
    expect(told(await relay.attempt(domain)), domain).toBe(story);
    if (story.startsWith('delivered')) expect(arrived(journey.lab, domain), domain).toHaveLength(1);
    else expect(wasToldOfMail(journey.lab, `mx.${domain}`), domain).toBe(false);
  }
});

test('explain names the line of the configuration that ruled', async () => {
  const { stdout, status } = await relay.running.command('explain', 'pinned.test', '--json');
  const text = await readFile(relay.running.config, 'utf8');
  const line = text.split('\n').findIndex((row) => row.includes('"pinned.test"'));
  const { rule, hosts } = JSON.parse(stdout);
  expect(status).toBe(0);
  expect(rule).toMatchObject({
    file: relay.running.config,
    text: expect.stringContaining('domain: pinned.test, tls: pin'),
  });
  // The rule begins with the bracket in the line before its first key.
  expect(rule.line).toBe(line);
  expect(hosts[0].policy).toBe('pin');
  const words = await relay.running.command('explain', 'pinned.test');
  expect(words.stdout).toContain(`${relay.running.config}:${line}`);
});

test('POL-04 an exception for a domain: from the next attempt on, with owner and end in log and verdict, until it is taken away', async () => {
  const { running } = relay;
  await relay.mail('wrong.test');
  expect(told(await relay.attempt('wrong.test'))).toBe('deferred 4.7.5 tlsa-mismatch');
  const words = ['--owner', 'Jan of ICT', '--reason', 'key renewed, DNS follows', '--until', inDays(30)];
  const added = await running.command('exceptions', 'add', 'wrong.test', ...words, '--json');
  expect([added.status, added.stderr]).toEqual([0, '']);
  const { id, until } = JSON.parse(added.stdout);

  await running.command('queue', 'retry', '--domain', 'wrong.test');
  const event = await relay.attempt('wrong.test', 2);
  expect(told(event)).toBe('delivered exception-encrypted encrypted at mx.wrong.test');
  expect(event).toMatchObject({
    policy: 'except',
    overlooked: { code: 'tlsa-mismatch' },
    grant: { kind: 'exception', id, owner: 'Jan of ICT', until },
  });
  expect(event.explanation).toContain(`exception ${id} of Jan of ICT`);
  expect(arrived(journey.lab, 'wrong.test')[0]?.tls).not.toBeNull();
  await running.untilOutput(/"level":"warn".*mail left although DANE failed \(exception/);

  const needed = await running.command('exceptions', 'check', id, '--json');
  expect([needed.status, JSON.parse(needed.stdout)[0]]).toMatchObject([1, { needed: 'yes' }]);
  await journey.lab.publishTlsa('mx.wrong.test');
  const repaired = await running.command('exceptions', 'check', id);
  expect([repaired.status, repaired.stdout]).toEqual([0, expect.stringContaining('NO LONGER NEEDED')]);
  expect((await running.command('exceptions', 'list')).stdout).toContain('NO LONGER NEEDED');
  // What is repaired is authenticated again, although the exception is still there.
  await relay.mail('other@wrong.test');
  expect(told(await relay.attempt('wrong.test', 3))).toBe('delivered dane-ee authenticated at mx.wrong.test');

  await journey.lab.replaceCertificate('mx.wrong.test');
  expect((await running.command('exceptions', 'remove', id)).status).toBe(0);
  expect((await running.command('exceptions', 'remove', id)).status).toBe(1);
  await relay.mail('third@wrong.test');
  expect(told(await relay.attempt('wrong.test', 4))).toBe('deferred 4.7.5 tlsa-mismatch');
});

test('POL-04 an exception for a mail host, and one that holds for the key that was seen only', async () => {
  const { running } = relay;
  const words = ['--owner', 'Jan', '--reason', 'known', '--until', inDays(90)];
  expect((await running.command('exceptions', 'add', '--host', 'mx.forged.test', ...words)).status).toBe(0);
  expect((await running.command('exceptions', 'add', '--host', 'mx.stripped.test', ...words)).status).toBe(0);
  const pinned = await running.command('exceptions', 'add', 'wrong-too.test', '--pin-seen', ...words, '--json');
  expect(JSON.parse(pinned.stdout).pins).toEqual([pinOf(journey.lab.identity('mx.wrong-too.test'))]);

  await relay.mail('forged.test', 'stripped.test', 'wrong-too.test');
  const forged = await relay.attempt('forged.test');
  expect(told(forged)).toBe('delivered exception-encrypted encrypted at mx.forged.test');
  expect(forged.overlooked?.code).toBe('tlsa-lookup-failed');
  expect(told(await relay.attempt('stripped.test'))).toBe('deferred 4.7.4 starttls-not-offered');
  expect(wasToldOfMail(journey.lab, 'mx.stripped.test')).toBe(false);
  expect(told(await relay.attempt('wrong-too.test'))).toBe(
    'delivered exception-authenticated authenticated at mx.wrong-too.test',
  );
  await journey.lab.replaceCertificate('mx.wrong-too.test');
  await relay.mail('other@wrong-too.test');
  expect(told(await relay.attempt('wrong-too.test', 2))).toBe('deferred 4.7.5 pin-mismatch');
});

test.each([
  ['without an end', ['a.test', '--owner', 'x', '--reason', 'y'], /required option '--until/],
  ['without an owner', ['a.test', '--reason', 'y', '--until', inDays(3)], /required option '--owner/],
  ['with an empty reason', ['a.test', '--owner', 'x', '--reason', ' ', '--until', inDays(3)], /it is empty/],
  ['too far ahead', ['a.test', '--owner', 'x', '--reason', 'y', '--until', inDays(92)], /more than 90 days ahead/],
  ['in the past', ['a.test', '--owner', 'x', '--reason', 'y', '--until', '2020-01-01'], /in the past/],
  ['with an end that is none', ['a.test', '--owner', 'x', '--reason', 'y', '--until', 'soon'], /"soon" is no date/],
  [
    'with a pin that is none',
    ['a.test', '--owner', 'x', '--reason', 'y', '--until', inDays(3), '--pin', 'a'],
    /is not a pin/,
  ],
  ['for no domain', ['a b', '--owner', 'x', '--reason', 'y', '--until', inDays(3)], /this is no domain name/],
  [
    'from something else',
    ['a.test', '--except', 'tls', '--owner', 'x', '--reason', 'y', '--until', inDays(3)],
    /only dane/,
  ],
])('POL-04 an exception %s is refused', async (_, words, message) => {
  const { status, stderr } = await relay.running.command('exceptions', 'add', ...words);
  expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
});

test('POL-03 report-only: mail goes on and everything is told; at the very end it is enforced without a restart', async () => {
  const inSeconds = (seconds: number): Date => new Date(Math.ceil(Date.now() / 1000 + seconds) * 1000);
  const reporting = (until: Date) => ({
    ...delivery(),
    mode: 'report',
    until: until.toISOString().replace('.000Z', 'Z'),
  });
  const tomorrow = inSeconds(86_400);
  const report = await journey.relay({
    delivery: reporting(tomorrow),
    destinations: [{ domain: 'enforced.test', tls: 'encrypt' }],
  });
  await report.mail('late.test', 'enforced.test', 'no-tls.test', 'nobody-there.test');
  const event = await report.attempt('late.test');
  expect(told(event)).toBe('delivered report-encrypted encrypted at mx.late.test');
  expect(event).toMatchObject({ policy: 'report', overlooked: { code: 'tlsa-mismatch' }, grant: { kind: 'report' } });
  expect(told(await report.attempt('enforced.test'))).toBe('delivered report-encrypted encrypted at mx.enforced.test');
  await report.running.untilOutput(/"level":"warn".*REPORT ONLY for all destinations/);
  await report.running.untilOutput(/"level":"warn".*mail left although DANE failed \(failures are only reported/);
  // What the host refused did not leave, whatever was overlooked on the way to it.
  expect(told(await report.attempt('nobody-there.test'))).toBe('bounced 5.1.1 remote-refused');
  expect(report.running.output()).not.toMatch(/mail left although DANE failed.*nobody-there/);
  const { admin } = JSON.parse(await readFile(report.running.config, 'utf8'));
  const readiness = async () => (await fetch(`http://${admin.listen}/readyz`)).text();
  expect(await readiness()).toMatch(
    /^ready\nREPORT ONLY for all destinations until .*mail goes on where DANE fails\n$/,
  );
  expect((await report.running.command('check')).stdout).toContain(
    `REPORT ONLY for all destinations until ${tomorrow.toISOString()}`,
  );

  const soon = inSeconds(10);
  const settings = JSON.parse(await readFile(report.running.config, 'utf8'));
  await writeFile(
    report.running.config,
    JSON.stringify({ ...settings, delivery: { ...settings.delivery, ...reporting(soon) } }),
  );
  expect((await report.running.command('reload')).status).toBe(0);
  await expect.poll(() => Date.now() >= soon.getTime(), { interval: 100 }).toBe(true);
  await report.mail('other@late.test');
  expect(told(await report.attempt('late.test', 2))).toBe('deferred 4.7.5 tlsa-mismatch');
  expect(await readiness()).toBe('ready\n');
  expect((await report.running.command('check')).stdout).toContain('DANE is enforced');
});

test('POL-04 exceptions outlive the relay, and the daily look tells of one that is no longer needed', async () => {
  const before = (await relay.running.command('exceptions', 'list', '--json')).stdout;
  expect(JSON.parse(before)).toHaveLength(3);
  await relay.running.stop();
  expect((await relay.running.command('exceptions', 'list', '--json')).stdout).toBe(before);

  await journey.lab.publishTlsa('mx.wrong-too.test');
  const again = await relay.running.again();
  await again.untilOutput(/"level":"warn".*an exception is no longer needed.*wrong-too/);
  await again.untilOutput(/an exception is still needed.*mx\.forged\.test/);
  await again.untilOutput(/"level":"warn".*an exception does not help.*mx\.stripped\.test/);
  expect((await again.command('exceptions', 'list')).stdout).toContain('DOES NOT HELP');
  const entries = JSON.parse((await again.command('exceptions', 'list', '--json')).stdout);
  expect(
    Object.fromEntries(
      entries.map((each: { domain: string; host: string; needed: string }) => [each.domain ?? each.host, each.needed]),
    ),
  ).toEqual({
    'mx.forged.test': 'yes',
    // Without STARTTLS mail waits with the exception as well.
    'mx.stripped.test': 'unknown',
    'wrong-too.test': 'no',
  });
  await again.stop();
});
