import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Outcome } from '../../src/model/delivery.ts';
import type { Batch, NewMessage, NoticeKind, QueuedRecipient } from '../../src/model/message.ts';
import { createNoticeMaker } from '../../src/report/notice.ts';

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
}

function notice({ kind = 'failed', envelope, recipient, outcome }: Change): Promise<NewMessage | null> {
  const make = createNoticeMaker({
    hostname: 'relay.example.nl',
    readHead: async (_, maxBytes) => original.subarray(0, maxBytes),
    newId: () => 'N1',
    clock: { now: () => receivedAt + 60_000, sleep: async () => {} },
  });
  const batch: Batch = {
    messageId: 'M1',
    receivedAt,
    expiresAt: receivedAt + 432_000_000,
    client: 'exchange',
    envelope: { sender: 'piet@office.nl', smtputf8: false, body: '7bit', ret: null, envid: null, ...envelope },
    content: { size: original.length, eightBit: true, utf8Header: true },
    domain: 'example.nl',
    recipients: [anna],
  };
  return make(kind, batch, [{ recipient: { ...anna, ...recipient }, outcome: { ...mismatch, ...outcome } }]);
}

interface Parsed {
  readonly headers: Readonly<Record<string, string>>;
  readonly defects: readonly string[];
  readonly parts: readonly { readonly type: string; readonly text: string }[];
}

/** Python's own parser, so that we do not judge our reports by our own idea of them. */
async function parse(message: NewMessage): Promise<Parsed> {
  if (message.body.kind !== 'memory') throw new Error('a notice is small');
  const script = `
import sys, json, email, email.policy
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTPUTF8)
def text(p):
  if p.get_content_maintype() == 'message': return '\\n'.join(str(x) for x in p.get_payload())
  return p.get_payload(decode=True).decode('utf-8')
parts = list(m.iter_parts())
print(json.dumps({'headers': {k.lower(): str(v) for k, v in m.items()}, 'defects': [str(d) for p in [m, *parts] for d in p.defects],
  'parts': [{'type': p.get_content_type(), 'text': text(p)} for p in parts]}))`;
  const child = promisify(execFile)('python3', ['-c', script]);
  child.child.stdin?.end(message.body.bytes);
  return JSON.parse((await child).stdout);
}

async function parsed(change: Change): Promise<Parsed> {
  const message = await notice(change);
  if (!message) throw new Error('a notice was expected');
  return parse(message);
}

describe('a bounce', () => {
  test('DSN-01 goes to the reverse-path with the null sender', async () => {
    const message = await notice({});
    expect(message?.envelope).toMatchObject({ sender: '', recipients: [{ address: 'piet@office.nl' }] });
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

  test('DSN-05 names a non-ASCII address only in a report that may carry it', async () => {
    const { parts, defects } = await parsed({ recipient: { address: 'änna@example.nl' } });
    expect(defects).toEqual([]);
    expect(parts[1]?.type).toBe('message/global-delivery-status');
    expect((await notice({ recipient: { address: 'änna@example.nl' } }))?.envelope.smtputf8).toBe(true);
  });
});

test('DSN-03 a delay notice says until when it is tried', async () => {
  const { parts } = await parsed({
    kind: 'delayed',
    outcome: { result: 'deferred', code: 'tlsa-mismatch', status: '4.7.5' },
  });
  expect(parts[1]?.text).toContain('Action: delayed');
  expect(parts[1]?.text).toContain('Will-Retry-Until: Fri, 27 Nov 2026 06:00:00 +0000');
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
