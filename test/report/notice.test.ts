import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Outcome } from '../../src/model/delivery.ts';
import type { Batch, NewMessage, NoticeKind, QueuedRecipient } from '../../src/model/message.ts';
import { REASONS, type ReasonCode } from '../../src/model/reasons.ts';
import { REMEDY_NL, SAYS_NL } from '../../src/model/reasons-nl.ts';
import { createNoticeMaker, type NoticeEntry } from '../../src/report/notice.ts';
import { quotedPrintable } from '../../src/report/quoted-printable.ts';
import type { Language } from '../../src/report/words.ts';
import { type ParsedReport, parseReport } from '../support/parsed-report.ts';

const receivedAt = Date.UTC(2026, 10, 22, 6, 0, 0);
const anna: QueuedRecipient = {
  id: 1,
  address: 'anna@example.nl',
  notify: null,
  orcpt: null,
  attempts: 1,
  delayNoticeSent: false,
  lastCode: null,
};
const mismatch: Outcome = {
  recipientId: 1,
  result: 'bounced',
  code: 'remote-refused',
  status: '5.1.1',
  detail: 'mx.example.nl [192.0.2.1]',
  host: 'mx.example.nl',
  address: '192.0.2.1',
  reply: '550 5.1.1 no such user',
  dsnPassedOn: false,
};
const original = Buffer.from(
  'Received: by relay\r\nFrom: piet@office.nl\r\nSubject: t\u00e9st\r\n\r\nSecret body line\r\n',
);

interface Change {
  readonly kind?: NoticeKind;
  readonly envelope?: Partial<Batch['envelope']>;
  readonly recipient?: Partial<QueuedRecipient>;
  readonly outcome?: Partial<Outcome>;
  readonly content?: Partial<Batch['content']>;
  readonly language?: Language;
  /** Recipients besides the first. */
  readonly more?: readonly NoticeEntry[];
  readonly text?: Buffer;
  readonly attempts?: number;
}

function notice({
  kind = 'failed',
  envelope,
  recipient,
  outcome,
  content,
  language = 'en',
  more = [],
  text = original,
  attempts = 1,
}: Change): Promise<NewMessage | null> {
  const make = createNoticeMaker({
    hostname: 'relay.example.nl',
    language,
    readHead: async (_, maxBytes) => text.subarray(0, maxBytes),
    newId: () => 'N1',
    clock: { now: () => receivedAt + 60_000, sleep: async () => {} },
  });
  const batch: Batch = {
    messageId: 'M1',
    receivedAt,
    expiresAt: receivedAt + 432_000_000,
    client: 'exchange',
    envelope: {
      sender: 'piet@office.nl',
      smtputf8: false,
      body: '7bit',
      ret: null,
      envid: null,
      tls: 'default',
      ...envelope,
    },
    content: { size: text.length, eightBit: true, utf8Header: true, ...content },
    domain: 'example.nl',
    recipients: [anna],
  };
  const first = { recipient: { ...anna, ...recipient }, outcome: { ...mismatch, ...outcome }, attempts };
  return make(kind, batch, [first, ...more]);
}

async function parsed(change: Change): Promise<ParsedReport> {
  const message = await notice(change);
  if (!message) throw new Error('a notice was expected');
  if (message.body.kind !== 'memory') throw new Error('a notice is small');
  return parseReport(message.body.bytes);
}

describe('a bounce', () => {
  test('DSN-01 goes to the reverse-path with the null sender', async () => {
    const message = await notice({});
    expect(message?.envelope).toMatchObject({ sender: '', recipients: [{ address: 'piet@office.nl' }] });
  });

  test('REQ-05 of a message that demands TLS demands it as well, and returns no more than the header', async () => {
    const envelope = { tls: 'required', ret: 'full' } as const;
    expect((await notice({ envelope }))?.envelope).toMatchObject({ sender: '', tls: 'required' });
    expect((await parsed({ envelope })).parts.at(-1)?.type).toBe('text/rfc822-headers');
    expect((await parsed({ envelope: { ret: 'full' } })).parts.at(-1)?.type).toBe('message/rfc822');
    for (const kind of ['delayed', 'relayed'] as const) {
      expect((await notice({ kind, envelope }))?.envelope.tls).toBe('required');
    }
    expect((await notice({ envelope: { tls: 'optional' } }))?.envelope.tls).toBe('default');
  });

  test('DSN-01 there is none for a null reverse-path', async () => {
    expect(await notice({ envelope: { sender: '' } })).toBeNull();
  });

  test('DSN-02 is a multipart/report that an independent parser understands', async () => {
    const { headers, defects, parts } = await parsed({
      envelope: { envid: 'QQ314159' },
      recipient: { orcpt: 'rfc822;anna+x@example.nl' },
    });
    expect(defects).toEqual([]);
    expect(headers['content-type']).toMatch(/^multipart\/report; report-type="?delivery-status"?;/);
    expect(parts.map(({ type }) => type)).toEqual(['text/plain', 'message/delivery-status', 'text/rfc822-headers']);
    const fields = parts[1]?.text ?? '';
    for (const field of [
      'Reporting-MTA: dns; relay.example.nl',
      'Original-Envelope-Id: QQ314159',
      'Arrival-Date: Sun, 22 Nov 2026 06:00:00 +0000',
      'Original-Recipient: rfc822; anna+x@example.nl',
      'Final-Recipient: rfc822; anna@example.nl',
      'Action: failed',
      'Status: 5.1.1',
      'Remote-MTA: dns; mx.example.nl',
      'Diagnostic-Code: smtp; 550 5.1.1 no such user',
      'Last-Attempt-Date: Sun, 22 Nov 2026 06:01:00 +0000',
      'Final-Log-ID: M1',
    ]) {
      expect(fields).toContain(field);
    }
  });

  test('DSN-02 tells in words what the verdict says', async () => {
    const { parts } = await parsed({});
    const text = (parts[0]?.text ?? '').replace(/\s+/g, ' ');
    expect(text).toContain('The mail host refused the message: mx.example.nl [192.0.2.1].');
    expect(text).toContain('The mail server said: 550 5.1.1 no such user');
    expect(text).toContain('The administrator of the recipient can put this right.');
    expect(text).toContain('(remote-refused, status 5.1.1, RFC 5321 section 4.2.1)');
  });

  test('DSN-02 returns the header only, unless RET=FULL asked for all of it', async () => {
    const headers = await parsed({});
    expect(headers.parts[2]?.text).toContain('Subject: tést');
    expect(headers.parts[2]?.text).not.toContain('Secret body line');
    const full = await parsed({ envelope: { ret: 'full' } });
    expect(full.parts[2]?.type).toBe('message/rfc822');
    expect(full.parts[2]?.text).toContain('Secret body line');
  });

  test('DSN-04 says that it is automatic', async () => {
    expect((await parsed({})).headers['auto-submitted']).toBe('auto-replied');
  });

  test('DSN-04 cannot be told from other mail by a word of the host: its reply stays on one line', async () => {
    const reply = '550 5.1.1 \u001b[31mno\u202e\u0085 such user';
    const { parts, defects } = await parsed({ outcome: { reply } });
    expect(defects).toEqual([]);
    const [text, fields] = parts.map((part) => part.text.replace(/ +/g, ' '));
    expect(fields).toContain('Diagnostic-Code: smtp; 550 5.1.1 [31mno such user\n');
    expect(text).toContain('The mail server said: 550 5.1.1 [31mno such user\n');
  });

  test('DSN-02 tells of each recipient on its own', async () => {
    const more = [
      {
        recipient: { ...anna, id: 2, address: 'bert@example.nl' },
        outcome: { ...mismatch, recipientId: 2, status: '5.2.2', reply: '552 5.2.2 mailbox full' },
        attempts: 1,
      },
    ];
    const { parts, defects } = await parsed({ more });
    expect(defects).toEqual([]);
    const blocks = (parts[1]?.text ?? '')
      .trim()
      .split(/\n{2,}/)
      .slice(1);
    expect(blocks.map((block) => /Final-Recipient: (.*)/.exec(block)?.[1])).toEqual([
      'rfc822; anna@example.nl',
      'rfc822; bert@example.nl',
    ]);
    expect(blocks.map((block) => /Status: (.*)/.exec(block)?.[1])).toEqual(['5.1.1', '5.2.2']);
    expect(parts[0]?.text).toMatch(/<anna@example\.nl>[^<]*no such user[^<]*<bert@example\.nl>[^<]*mailbox full/s);
  });

  test('DSN-02 of mail whose time is over says since when and how often it was tried, and what was wrong at last', async () => {
    const last = { code: 'tlsa-mismatch', status: '4.7.5', detail: 'the key has changed' } as const;
    const outcome: Partial<Outcome> = {
      code: 'lifetime-over',
      status: '4.4.7',
      detail: 'the last attempt said: the key has changed',
      reply: null,
      last,
    };
    const { parts } = await parsed({ outcome, attempts: 17 });
    const text = (parts[0]?.text ?? '').replace(/\s+/g, ' ');
    expect(text).toContain('The message could not be delivered within its lifetime.');
    expect(text).toContain('It was accepted on 22 November 2026 at 06:00 UTC and has been tried 17 times since.');
    expect(text).toContain(
      'At last: The certificate of the server matches none of the TLSA records: the key has changed.',
    );
    expect(text).toContain('The administrator of the recipient can put this right. What you can do:');
    expect(text).toContain('(tlsa-mismatch, status 4.7.5, RFC 7672 section 2.2)');
    expect(parts[1]?.text).toContain('Action: failed\nStatus: 4.4.7\n');

    const dutch = await parsed({ outcome, attempts: 1, language: 'nl' });
    const tekst = (dutch.parts[0]?.text ?? '').replace(/\s+/g, ' ');
    expect(tekst).toContain(
      'Het bericht is aangenomen op 22 november 2026 om 06:00 UTC en sindsdien één keer geprobeerd.',
    );
    expect(tekst).toContain('Bij de laatste poging: Het certificaat van de server hoort bij geen van de TLSA-records.');
    expect(tekst).toContain('Details (Engels): the key has changed.');
  });
});

describe('DSN-05 RFC 6533: addresses beyond ASCII', () => {
  const sender = 'j\u00f6rg@office.nl';

  test('DSN-05 a recipient, to a sender who may have no SMTPUTF8: encoded in a report that any host takes', async () => {
    const change: Change = {
      recipient: { address: '\u00e4nna+\\x@example.nl', orcpt: 'utf-8;\u00e4nna@example.nl' },
      envelope: { smtputf8: true },
    };
    const { parts, defects } = await parsed(change);
    expect(defects).toEqual([]);
    expect(parts[1]?.type).toBe('message/delivery-status');
    expect(parts[1]?.text).toContain('Final-Recipient: utf-8; \\x{E4}nna\\x{2B}\\x{5C}x@example.nl\n');
    expect(parts[1]?.text).toContain('Original-Recipient: utf-8; \\x{E4}nna@example.nl\n');
    expect(parts[0]?.text).toContain('<\u00e4nna+\\x@example.nl>');
    const message = await notice(change);
    expect(message?.envelope).toMatchObject({ smtputf8: false, body: '7bit' });
    expect(message?.content).toMatchObject({ eightBit: false, utf8Header: false });
  });

  test('DSN-05 a sender: a global report, sent with SMTPUTF8', async () => {
    const change: Change = { envelope: { sender, smtputf8: true }, recipient: { address: '\u00e4nna@example.nl' } };
    const { headers, parts, defects } = await parsed(change);
    expect(defects).toEqual([]);
    expect(headers['content-type']).toMatch(/report-type="?global-delivery-status"?;/);
    expect(headers['to']).toBe(sender);
    expect(parts.map(({ type }) => type)).toEqual([
      'text/plain',
      'message/global-delivery-status',
      'message/global-headers',
    ]);
    expect((await notice(change))?.envelope).toMatchObject({ sender: '', smtputf8: true, body: '8bitmime' });
    expect((await notice(change))?.content).toMatchObject({ eightBit: true, utf8Header: true });
    const whole = await parsed({ ...change, envelope: { sender, smtputf8: true, ret: 'full' } });
    expect(whole.parts[2]?.type).toBe('message/global');
  });
});

describe('in Dutch', () => {
  test('every code has a sentence of its own, in the form of the English one', () => {
    expect(Object.keys(SAYS_NL).toSorted()).toEqual(Object.keys(REASONS).toSorted());
    for (const [code, says] of Object.entries(SAYS_NL)) {
      expect(says, code).toMatch(/^[^A-Z ].*[^.]$|^(?:TLS|TLSA) .*[^.]$/);
      expect(says, code).not.toBe(REASONS[code as ReasonCode].says);
    }
    expect(new Set(Object.values(SAYS_NL)).size).toBe(Object.keys(SAYS_NL).length);
    expect(new Set(Object.values(REASONS).map(({ whose }) => REMEDY_NL[whose])).size).toBe(5);
  });

  test.each(['failed', 'delayed', 'relayed'] as const)('a notice of kind %s is valid', async (kind) => {
    for (const code of Object.keys(REASONS) as ReasonCode[]) {
      const change: Change = { kind, language: 'nl', outcome: { code, status: REASONS[code].status, reply: null } };
      const message = await notice(change);
      const bytes = message?.body.kind === 'memory' ? message.body.bytes : Buffer.alloc(0);
      expect(bytes.every((octet) => octet < 128)).toBe(true);
      expect(message?.envelope.body).toBe('7bit');
      expect(
        bytes
          .toString('latin1')
          .split('\r\n')
          .every((each) => each.length <= 78),
      ).toBe(true);
    }
    const { headers, parts, defects } = await parsed({
      kind,
      language: 'nl',
      outcome: { code: 'too-many-recipients' },
    });
    expect(defects).toEqual([]);
    expect(headers['subject']).toMatch(
      { failed: /^Onbestelbare/, delayed: /vertraagd/, relayed: /overgedragen/ }[kind],
    );
    expect(parts[0]?.text).toContain('Te veel ontvangers voor \u00e9\u00e9n bericht.');
    expect(parts[0]?.text).toContain('De mailserver antwoordde: 550 5.1.1 no such user');
    expect(parts[1]?.text).toContain(`Action: ${kind}\n`);
    expect(parts[1]?.text).toContain('Diagnostic-Code: smtp; 550 5.1.1 no such user');
  });

  test('what machines read stays English, and details are called English', async () => {
    const outcome = { code: 'tlsa-mismatch', status: '4.7.5', reply: null, detail: 'the key has changed' } as const;
    const { parts } = await parsed({ language: 'nl', outcome });
    expect(parts[1]?.text.replace(/\s+/g, ' ')).toContain(
      'X-DANE-Relay; The certificate of the server matches none of the TLSA records: the key has changed. (tlsa-mismatch)',
    );
    const text = (parts[0]?.text ?? '').replace(/\s+/g, ' ');
    expect(text).toContain('hoort bij geen van de TLSA-records. Details (Engels): the key has changed.');
    expect(text).toContain('De beheerder van de ontvanger kan dit oplossen. Wat u kunt doen:');
    expect(text).toContain('(tlsa-mismatch, status 4.7.5, RFC 7672 paragraaf 2.2)');
  });
});

test('quoted-printable comes back from an independent reader, in lines of 76 octets', async () => {
  const texts = fc.sample(fc.string({ unit: 'grapheme-composite', maxLength: 200 }), { numRuns: 50, seed: 4 });
  const lines = [
    ...texts,
    'ends with a space ',
    'tab\t',
    '=3D',
    'x'.repeat(75),
    'x'.repeat(76),
    '\u00e9'.repeat(40),
  ].map((text) => text.replace(/[\r\n\u2028\u2029\u0085]/g, ''));
  const child = promisify(execFile)('python3', [
    '-c',
    'import sys, quopri; sys.stdout.buffer.write(quopri.decodestring(sys.stdin.buffer.read()))',
  ]);
  child.child.stdin?.end(lines.map(quotedPrintable).join('\r\n'));
  expect((await child).stdout.split('\r\n')).toEqual(lines);
  for (const each of lines.map(quotedPrintable).join('\r\n').split('\r\n')) expect(each.length).toBeLessThanOrEqual(76);
});

test('DSN-03 a delay notice says until when it is tried', async () => {
  const { parts } = await parsed({
    kind: 'delayed',
    outcome: { result: 'deferred', code: 'tlsa-mismatch', status: '4.7.5' },
  });
  expect(parts[1]?.text).toContain('Action: delayed');
  expect(parts[1]?.text).toContain('Will-Retry-Until: Fri, 27 Nov 2026 06:00:00 +0000');
  expect(parts[0]?.text.replace(/\s+/g, ' ')).toContain('It is tried until 27 November 2026 at 06:00 UTC.');
});

test('INJ-02 DSN-04 nothing that came from outside can add a line to a report', async () => {
  const nasty = fc.string({
    unit: fc.constantFrom('a', ' ', '\r', '\n', '\0', ':', 'é', '"', '<', '>', '\u2028'),
    maxLength: 80,
  });
  const clean = await notice({});
  const fieldNames = (message: NewMessage | null): string[] => {
    const bytes = message?.body.kind === 'memory' ? message.body.bytes.toString('latin1') : '';
    const status = bytes.slice(
      bytes.indexOf('Reporting-MTA'),
      bytes.lastIndexOf('\r\n--', bytes.indexOf('rfc822-headers')),
    );
    return status.split('\r\n').flatMap((line) => (/^\s|^$/.test(line) ? [] : [line.split(':')[0] ?? '']));
  };
  await fc.assert(
    fc.asyncProperty(nasty, nasty, async (reply, detail) => {
      const message = await notice({ outcome: { reply, detail } });
      expect(fieldNames(message)).toEqual(fieldNames(clean));
      const lines = message?.body.kind === 'memory' ? message.body.bytes.toString('latin1').split('\r\n') : [];
      expect(lines.filter((line) => /[\r\n\0]/.test(line) || line.length > 998)).toEqual([]);
    }),
    { numRuns: 200 },
  );
});
