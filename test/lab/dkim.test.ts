/** The lab's own verifier of DKIM is what the demo trusts, so it must say what others say, and the keys must be in DNS. */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { send } from '../../lab/client.ts';
import { dkimSettings, findingInWords, judgeDkim } from '../../lab/dkim.ts';
import { type Lab, startLab } from '../../lab/lab.ts';
import { startRelay } from '../../lab/relay.ts';
import { HOME, RULED, STORY, WORLD } from '../../lab/world.ts';
import { byDkimpy, byMailauth } from '../support/dkim-verifiers.ts';

const dir = mkdtempSync(join(tmpdir(), 'dane-lab-dkim-'));
let lab: Lab;
/** Two letters for two domains, of which the relay signed both. */
let letters: readonly Buffer[];

beforeAll(async () => {
  lab = await startLab({ port: 0, world: WORLD.slice(0, 3) });
  const relay = await startRelay({ lab, dir, config: { dkim: dkimSettings(lab.dkim) } });
  try {
    const recipients = ['bob@dane-ee.test', 'bob@dane-ta.test'];
    const content = `From: <alice@${HOME}>\r\nSubject: gr\u00fc\u00dfe \u00a0\r\n\r\nDear  Bob, \r\n.\r\n\r\n\r\n`;
    await send(relay, relay.client, { sender: `alice@${HOME}`, recipients, content });
    for (const recipient of recipients) {
      await relay.untilEvent((event) => event.event === 'delivered' && event.recipient === recipient);
    }
  } finally {
    await relay.stop();
  }
  letters = lab.mailboxes().map(({ content }) => content);
});
afterAll(async () => {
  await lab?.stop();
  rmSync(dir, { recursive: true, force: true });
});

const judge = async (content: Buffer): Promise<readonly string[]> =>
  (await judgeDkim(content, lab.resolver.address)).map(findingInWords);
const BOTH = [`rsa-sha256 of ${HOME} (s=rsa) holds`, `ed25519-sha256 of ${HOME} (s=ed) holds`];

describe('the domain of the sender', () => {
  test('publishes two keys, in strings that a TXT record can hold, and keeps their other halves to itself', () => {
    expect(lab.dkim.map(({ domain, selector }) => `${domain}/${selector}`)).toEqual([`${HOME}/rsa`, `${HOME}/ed`]);
    for (const { key } of lab.dkim) expect(statSync(key).mode & 0o777).toBe(0o600);
  });

  test('DKIM-18 both copies of a letter carry its signatures, for the lab, for mailauth and for dkimpy', async () => {
    expect(letters).toHaveLength(2);
    const records = Object.fromEntries(lab.dkim.map((key) => [`${key.selector}._domainkey.${key.domain}`, key.record]));
    const both = [`rsa-sha256 ${HOME}/rsa pass`, `ed25519-sha256 ${HOME}/ed pass`];
    for (const message of letters) {
      expect(await judge(message)).toEqual(BOTH);
      expect(await byMailauth({ message, records })).toEqual(both);
      expect(await byDkimpy([{ message, records, signatures: 2 }])).toEqual([both]);
    }
  });
});

describe('the verifier of the lab', () => {
  const text = (): string => letters[0]?.toString('latin1') ?? '';
  const findings = (changed: string): Promise<readonly string[]> => judge(Buffer.from(changed, 'latin1'));

  test('leaves a signature whole for what mail hosts may do', async () => {
    expect(await findings(`Received: by x\r\n${text().replace('Dear  Bob, \r\n', 'Dear Bob,\r\n')}\r\n`)).toEqual(BOTH);
  });

  test.each<[string, (text: string) => string, string]>([
    ['another body', (whole) => whole.replace('Dear', 'Deer'), 'the body was changed'],
    ['another subject', (whole) => whole.replace('Subject: ', 'Subject: Re: '), 'the header was changed'],
    ['one more From', (whole) => whole.replace('From: ', 'From: <eve@evil.test>\r\nFrom: '), 'the header was changed'],
    ['a field that was not there', (whole) => whole.replace('From: ', 'Cc: <eve@evil.test>\r\nFrom: '), 'the header'],
    ['another name for the key', (whole) => whole.replace(/ s=(rsa|ed);/g, ' s=none;'), 'DNS has no key for it'],
    ['a part of the body only', (whole) => whole.replace(/ v=1;/g, ' v=1; l=0;'), 'it is of another kind'],
    ['no From among what is covered', (whole) => whole.replace(/h=from:from:/g, 'h='), 'it does not cover From'],
  ])('tells of %s', async (_, change, why) => {
    const changed = change(text());
    expect(changed).not.toBe(text());
    const told = await findings(changed);
    expect(told).toHaveLength(2);
    for (const each of told) expect(each).toContain(`does not hold: ${why}`);
  });

  test('tells of a key that another domain would have: the record decides', async () => {
    const swapped = text().replace(/ s=rsa;/, ' s=ed;');
    expect(await findings(swapped)).toEqual([expect.stringContaining('does not hold'), BOTH[1]]);
    expect(await findings('From: <a@b.test>\r\n\r\nHello.\r\n')).toEqual([]);
  });
});

test('the README tells of as many destinations as the demo has', () => {
  const readme = readFileSync('README.md', 'utf8');
  expect(readme).toContain(`(${STORY.length + RULED.length} destinations, `);
  expect(readme).toContain(`${STORY.length} messages went in over TLS`);
  const known = WORLD.map(({ domain }) => domain);
  expect(STORY.filter((domain) => !known.includes(domain))).toEqual([]);
});
