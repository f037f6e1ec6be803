/**
 * The demo: real mail through the real relay into the closed internet of the lab, told as a story and checked.
 *
 *   npm run demo             tells it, and ends with 0 only if everything happened as it must
 *   npm run demo -- --keep   leaves all of it running afterwards, to play with
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pinOf } from './certificates.ts';
import { send } from './client.ts';
import { dkimSettings, judgeDkim } from './dkim.ts';
import type { Mail } from './host.ts';
import { type Lab, startLab } from './lab.ts';
import { type LogEvent, type RunningRelay, startRelay } from './relay.ts';
import { type Destination, HOME, RULED, rulesFor, STORY } from './world.ts';

const SENDER = `alice@${HOME}`;

const HEADLINE: Readonly<Record<Destination['expect']['event'], string>> = {
  delivered: 'DELIVERED',
  deferred: 'WAITS',
  bounced: 'RETURNED',
};

const tty = process.stdout.isTTY === true && process.env['NO_COLOR'] === undefined;
const paint = (code: number, text: string): string => (tty ? `\u001b[${code}m${text}\u001b[0m` : text);
const bold = (text: string): string => paint(1, text);
const green = (text: string): string => paint(32, text);
const red = (text: string): string => paint(31, text);
const say = (text = ''): void => {
  process.stdout.write(`${text}\n`);
};

const keep = process.argv.slice(2).includes('--keep');
const began = Date.now();
/** How the story ended; null while it is being told. */
let outcome: number | null = null;
const folder = await mkdtemp(join(tmpdir(), 'dane-demo-'));
const status = await demo();
await rm(folder, { recursive: true, force: true });
// Not process.exitCode: whoever still waits for a line of input must not keep it alive.
process.exit(status);

async function demo(): Promise<number> {
  const running: (() => Promise<unknown>)[] = [];
  const interrupted = new Promise<number>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve(outcome ?? 130));
  });
  try {
    return await Promise.race([tell(running, interrupted), interrupted]);
  } catch (error) {
    say(red(`The demo could not be told to its end: ${error instanceof Error ? error.message : String(error)}`));
    return 1;
  } finally {
    for (const stop of running.toReversed()) await stop();
  }
}

/** @param running is given what has to be stopped in the end, in the order in which it was started */
async function tell(running: (() => Promise<unknown>)[], interrupted: Promise<unknown>): Promise<number> {
  say(bold('dane-relay, shown on a closed internet inside this machine'));
  say();
  const lab = await startLab();
  running.push(lab.stop);
  const { block, port, world, resolver } = lab;
  say(`  DNS         ${world.length} domains, really signed, behind a validating Unbound on ${resolver.address}`);
  say(`  mail hosts  on 127.${block}.0.x, port ${port}, each with its own certificate and its own mood`);
  const destinations = rulesFor((host) => pinOf(lab.identity(host)));
  const tlsReports = { organisation: 'The office', contact: `tls-reports@${HOME}` };
  const relay = await startRelay({
    lab,
    dir: folder,
    config: { destinations, dkim: dkimSettings(lab.dkim), tlsReports },
  });
  running.push(relay.stop);
  say(`  the relay   on ${relay.address}:${relay.port}; its key is pinned: ${relay.pin}`);
  say('  the client  a mail server that cannot do DANE; the relay has pinned its key, too');
  say();
  const mistakes = [
    ...(await tellStories(lab, relay)),
    ...(await tellBounces(lab)),
    ...(await tellRules(lab, relay)),
    ...(await tellException(relay)),
    ...(await tellReports(relay)),
    ...(await tellSignatures(lab)),
    ...sumUp(lab),
  ];
  say();
  const seconds = ((Date.now() - began) / 1000).toFixed(1);
  if (mistakes.length === 0) {
    say(green(bold(`All of it happened as it must (${STORY.length + RULED.length} destinations, ${seconds} s).`)));
  } else {
    say(red(bold(`${mistakes.length} thing(s) did not happen as they must:`)));
    for (const mistake of mistakes) say(red(`  - ${mistake}`));
  }
  outcome = mistakes.length === 0 ? 0 : 1;
  if (keep) await Promise.race([play(lab, relay), interrupted]);
  return outcome;
}

/** Sends one message to every destination of the story and tells what became of it. Returns what was not right. */
async function tellStories(lab: Lab, relay: RunningRelay): Promise<string[]> {
  for (const domain of STORY) await post(relay, `bob@${domain}`);
  say(`${STORY.length} messages went in over TLS with both keys checked. What became of each:`);
  const mistakes: string[] = [];
  for (const [index, domain] of STORY.entries()) {
    const destination = lab.world.find((each) => each.domain === domain);
    if (!destination) throw new Error(`the lab has no ${domain}`);
    const first = await relay.untilEvent((event) => isAbout(event, `bob@${domain}`));
    say();
    say(`${String(index + 1).padStart(2)}. ${bold(domain)}`);
    say(`    publishes ${destination.tells}`);
    tellEvent(first);
    const wrong = compare(lab, destination, first);
    if (domain === 'greylisting.test') {
      const second = await relay.untilEvent((event) => isAbout(event, `bob@${domain}`) && event.event === 'delivered');
      say('    and at the next attempt, two seconds later:');
      tellEvent(second);
      if (second.verdict !== 'authenticated') wrong.push('the second attempt was not authenticated');
    }
    if (wrong.length === 0) say(`    ${green('✓')} as it must be: ${destination.because}`);
    for (const each of wrong) say(`    ${red('✗')} not as it must be: ${each}`);
    mistakes.push(...wrong.map((each) => `${domain}: ${each}`));
  }
  return mistakes;
}

/** What the operator's own rules demand besides. Returns what was not right. */
async function tellRules(lab: Lab, relay: RunningRelay): Promise<string[]> {
  say(bold('What rules of the operator add'));
  for (const { domain } of RULED) await post(relay, `bob@${domain}`);
  const mistakes: string[] = [];
  for (const destination of RULED) {
    const { domain, rule, tells, because } = destination;
    const event = await relay.untilEvent((each) => isAbout(each, `bob@${domain}`));
    say();
    say(`    ${bold(domain)}, ${rule.via === undefined ? `tls: ${rule.tls}` : `via: ${rule.via}`}; ${tells}`);
    tellEvent(event);
    const wrong = compare(lab, destination, event);
    if (wrong.length === 0) say(`    ${green('✓')} as it must be: ${because}`);
    for (const each of wrong) say(`    ${red('✗')} not as it must be: ${each}`);
    mistakes.push(...wrong.map((each) => `${domain}: ${each}`));
  }
  return mistakes;
}

/** A mail that waits is let go, by somebody who answers for it and for a while. Returns what was not right. */
async function tellException(relay: RunningRelay): Promise<string[]> {
  const domain = 'wrong-certificate.test';
  const until = new Date(Date.now() + 7 * 86_400_000).toISOString().slice(0, 10);
  const words = [domain, '--owner', 'mail team', '--reason', 'they renewed, DNS follows', '--until', until];
  say();
  say(bold(`The mail for ${domain} still waits. Somebody answers for an exception:`));
  const before = relay.events().length;
  const added = await relay.command('exceptions', 'add', ...words);
  say(`    dane-relay exceptions add ${words.map((word) => (word.includes(' ') ? `"${word}"` : word)).join(' ')}`);
  say(`    ${(added.stdout || added.stderr).trim()}`);
  await relay.command('queue', 'retry', '--domain', domain);
  const isUse = (event: LogEvent): boolean => relay.events().indexOf(event) >= before && event.event === 'delivered';
  const event = await relay.untilEvent((each) => isAbout(each, `bob@${domain}`) && isUse(each), 30_000);
  tellEvent(event);
  say();
  if (event.code === 'exception-encrypted' && event.verdict === 'encrypted') return [];
  return [`${domain}: by the exception it was ${event.code}, not exception-encrypted`];
}

function tellEvent(event: LogEvent): void {
  const { code, status, verdict, host, tls, record, explanation } = event;
  const facts = [`code ${code}`, `status ${status}`];
  if (verdict) facts.push(verdict === 'clear' ? 'in the clear' : verdict);
  if (tls) facts.push(`${tls.version}${tls.group ? ` ${tls.group}` : ''}`);
  if (record) facts.push(`by ${record.slice(0, 22)}…`);
  if (host) facts.push(`host ${host}`);
  say(`    ${bold(headline(event))}: ${facts.join(', ')}`);
  say(`    in the relay’s words: ${explanation}`);
}

function headline({ event }: LogEvent): string {
  return event === 'delivered' || event === 'deferred' || event === 'bounced' ? HEADLINE[event] : event.toUpperCase();
}

/** What of the first thing that happened is not as the table of the world says. */
function compare(lab: Lab, { domain, expect, hosts }: Destination, event: LogEvent): string[] {
  const wrong: string[] = [];
  if (event.event !== expect.event) wrong.push(`it was ${event.event}, not ${expect.event}`);
  if (event.code !== expect.code) wrong.push(`the code is ${event.code}, not ${expect.code}`);
  if (expect.verdict && event.verdict !== expect.verdict) {
    wrong.push(`the connection was ${event.verdict ?? 'not judged'}, not ${expect.verdict}`);
  }
  const arrived = mailFor(lab, `bob@${domain}`);
  for (const { name } of hosts) {
    const here = arrived.filter((mail) => mail.host === name).length;
    const must = expect.arrivesAt.includes(name) ? 1 : 0;
    if (expect.event !== 'deferred' && here !== must) wrong.push(`${name} has ${here} message(s), not ${must}`);
    const dialled = lab.contacts(name).length;
    if (expect.notDialled.includes(name) && dialled > 0) wrong.push(`${name} was dialled ${dialled} time(s)`);
  }
  return wrong;
}

/** Shows the bounces that came home. Returns what was not right. */
async function tellBounces(lab: Lab): Promise<string[]> {
  const returned = STORY.filter((domain) => lab.world.some((each) => each.domain === domain && isBounced(each)));
  const deadline = Date.now() + 60_000;
  const bounces = (): readonly Mail[] => mailFor(lab, SENDER).filter((mail) => mail.sender === '');
  while (bounces().length < returned.length && Date.now() < deadline) await pause(50);

  say();
  say(bold(`What came back to ${SENDER}`));
  const mistakes: string[] = [];
  for (const domain of returned) {
    const bounce = bounces().find((mail) => mail.content.includes(`bob@${domain}`));
    if (!bounce) {
      mistakes.push(`no bounce for ${domain} arrived`);
      continue;
    }
    const text = bounce.content.toString('utf8');
    for (const field of ['Subject', 'Final-Recipient', 'Action', 'Status', 'Diagnostic-Code']) {
      const line = new RegExp(`^${field}: .*(?:\r\n[ \t].*)*`, 'mi').exec(text)?.[0];
      if (line) say(`    ${line.replace(/\r\n\s+/g, ' ')}`);
    }
    say(
      `    ${green('✓')} it came over ${bounce.tls ? `${bounce.tls.version}, authenticated like any other mail` : 'clear text'}`,
    );
    say();
    if (!bounce.tls) mistakes.push(`the bounce for ${domain} came in the clear`);
  }
  return mistakes;
}

/** What was counted of the sessions with two of them, for the reports that domains can ask for. Returns what was not right. */
async function tellReports(relay: RunningRelay): Promise<string[]> {
  const must: readonly (readonly [domain: string, line: RegExp, because: string])[] = [
    ['sts-enforced.test', /^sts for \S+: [1-9]\d* sessions? .*, 0 failed$/m, 'its MTA-STS policy was met'],
    ['stripped.test', /^ +[1-9]\d* +starttls-not-supported /m, 'it asks for reports, and learns of it tomorrow'],
  ];
  say(bold('Domains can ask how TLS with them goes. What today’s reports would say:'));
  const mistakes: string[] = [];
  for (const [domain, line, because] of must) {
    const deadline = Date.now() + 60_000;
    // The relay writes every few seconds what it has counted.
    let shown = await relay.command('tlsrpt', 'show', domain);
    while (!line.test(shown.stdout) && Date.now() < deadline) {
      await pause(200);
      shown = await relay.command('tlsrpt', 'show', domain);
    }
    const [, ...counts] = shown.stdout.trimEnd().split('\n');
    say();
    say(`    dane-relay tlsrpt show ${domain}`);
    for (const each of counts) say(`    ${each}`);
    if (line.test(shown.stdout)) say(`    ${green('✓')} as it must be: ${because}`);
    else mistakes.push(`${domain}: its TLS report says ${shown.stdout || shown.stderr || 'nothing'}`);
  }
  say();
  return mistakes;
}

/** What a mail host finds when it checks the signatures on each letter. Returns what was not right. */
async function tellSignatures(lab: Lab): Promise<string[]> {
  const letters = lab.mailboxes().filter(({ sender }) => sender === SENDER);
  const wanted = lab.dkim.map(({ domain, selector }) => `${domain}/${selector}`).join(' ');
  const mistakes: string[] = [];
  for (const { content, recipients } of letters) {
    const findings = await judgeDkim(content, lab.resolver.address);
    const held = findings.filter(({ trouble }) => trouble === null);
    if (held.map(({ domain, selector }) => `${domain}/${selector}`).join(' ') === wanted) continue;
    mistakes.push(
      `the letter to ${recipients.join(', ')} does not have the two signatures of ${HOME}, or they do not hold`,
    );
  }
  const all = `${letters.length - mistakes.length} of ${letters.length}`;
  say(`With two signatures of ${HOME}, RSA and Ed25519, that hold by its keys in DNS: ${all} letters that arrived.`);
  return mistakes;
}

/** The promise of the whole thing, counted over all hosts. Returns what was not right. */
function sumUp(lab: Lab): string[] {
  const promised = lab.world.filter(
    ({ dnssec, hosts }) => dnssec === 'signed' && hosts.some((host) => host.tlsa.length > 0),
  );
  const names = new Set(promised.flatMap(({ hosts }) => hosts.map((host) => host.name)));
  const clear = lab.mailboxes().filter((mail) => mail.tls === null && names.has(mail.host));
  const undialled = promised
    .flatMap(({ expect }) => expect.notDialled)
    .filter((name) => lab.contacts(name).length === 0);
  say(`In the clear to hosts that promise TLS: ${clear.length} messages. Never dialled: ${undialled.join(', ')}.`);
  return clear.map((mail) => `a message to ${mail.recipients.join(', ')} went in the clear`);
}

/** Leaves everything running, and sends a message to every address that is typed. */
async function play(lab: Lab, relay: RunningRelay): Promise<void> {
  say();
  say(bold('Everything is still running. In another terminal, in this folder:'));
  say(`  ./dane-relay queue list --config ${relay.config}`);
  say(`  ./dane-relay explain wrong-certificate.test --connect --config ${relay.config}`);
  say(`  ./dane-relay tlsrpt show wrong-certificate.test --config ${relay.config}`);
  say(`  ./dane-relay queue retry --domain wrong-certificate.test --config ${relay.config}`);
  const { certFile, keyFile } = relay.client;
  const tls = `--tls --tls-cert ${certFile} --tls-key ${keyFile}`;
  say(`  swaks --server ${relay.address}:${relay.port} ${tls} --from ${SENDER} --to bob@dane-ee.test`);
  say();
  say(`Domains: ${lab.world.map(({ domain }) => domain).join(' ')}`);
  say('Type an address here to send it a message; an empty line or Ctrl-C ends it all.');
  const lines = createInterface({ input: process.stdin });
  try {
    for await (const line of lines) {
      const recipient = line.trim();
      if (recipient === '') return;
      await sendAndTell(relay, recipient);
    }
  } finally {
    lines.close();
  }
  // In the background there never was any input: then only a signal ends it, which the caller waits for.
  if (!process.stdin.isTTY) await new Promise(() => setInterval(() => undefined, 1 << 30));
}

async function sendAndTell(relay: RunningRelay, recipient: string): Promise<void> {
  const before = relay.events().length;
  const isNew = (event: LogEvent): boolean => relay.events().indexOf(event) >= before;
  try {
    await post(relay, recipient);
    tellEvent(await relay.untilEvent((event) => isNew(event) && isAbout(event, recipient)));
  } catch (error) {
    say(`    ${error instanceof Error ? error.message : String(error)}`);
  }
}

function post(relay: RunningRelay, recipient: string): Promise<unknown> {
  const content = [
    `From: Alice <${SENDER}>`,
    `To: <${recipient}>`,
    'Subject: A letter from the office',
    `Date: ${new Date().toUTCString().replace('GMT', '+0000')}`,
    `Message-ID: <${crypto.randomUUID()}@${HOME}>`,
    '',
    'Dear Bob,',
    '',
    'nobody but your mail host may read this.',
    '',
    'Alice',
    '',
  ].join('\r\n');
  return send(relay, relay.client, { sender: SENDER, recipients: [recipient], content });
}

/** True for the end of an attempt for this recipient: being accepted is only the beginning. */
function isAbout({ event, recipient }: LogEvent, address: string): boolean {
  return recipient === address && (event === 'delivered' || event === 'deferred' || event === 'bounced');
}

function isBounced({ expect }: Destination): boolean {
  return expect.event === 'bounced';
}

function mailFor(lab: Lab, recipient: string): readonly Mail[] {
  return lab.mailboxes().filter((mail) => mail.recipients.includes(recipient));
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
