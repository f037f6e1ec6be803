/** What is signed holds for two verifiers that know nothing of us, and covers what it has to cover. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/shared/clock.ts';
import { createSigner } from '../../src/sign/dkim.ts';
import { byDkimpy, byMailauth } from '../support/dkim-verifiers.ts';
import { BOTH_PASS, type Change, expectBothPass, KEYS, RECORDS, sign, signed } from './scene.ts';

const FROM = 'From: Piet <piet@example.nl>\r\n';
const HEAD = `${FROM}To: someone@example.org\r\nSubject: hello\r\nDate: Mon, 1 Jan 2029 10:00:00 +0000\r\nMessage-ID: <1@example.nl>\r\n`;
const utf8 = (text: string): Buffer => Buffer.from(text);

/** Each is a plain message with one thing changed. */
const CORPUS: Readonly<Record<string, Buffer>> = {
  'a plain one': utf8(`${HEAD}\r\nHello.\r\n`),
  'folded fields': utf8(
    `From: "Piet\r\n\tde Tester" \r\n <piet@example.nl>\r\nSubject: a\r\n  long\r\n\t  one\r\n \r\nTo:\r\n a@b.nl\r\n\r\nHello.\r\n`,
  ),
  'tabs and runs of spaces': utf8(
    `FROM:\t piet@example.nl \t\r\nsubject:a \t b\t\r\nTo:  x@y.nl\r\n\r\nHello \t there\t\r\n\t indented  \r\n`,
  ),
  'fields without a value': utf8(`${FROM}Subject:\r\nTo: \r\nCc:\t\r\n\r\nHello.\r\n`),
  'empty lines at its end': utf8(`${HEAD}\r\nHello.\r\n\r\n \r\n\t\r\n\r\n`),
  'empty lines only': utf8(`${HEAD}\r\n\r\n\r\n\r\n`),
  'lines of spaces only': utf8(`${HEAD}\r\n  \r\n\t\r\n`),
  'an empty body': utf8(`${HEAD}\r\n`),
  'no final newline': utf8(`${HEAD}\r\nHello`),
  'no final newline after a space': utf8(`${HEAD}\r\nHello \t`),
  'empty lines in the middle': utf8(`${HEAD}\r\n\r\n\r\none\r\n${'\r\n'.repeat(40)}two\r\n`),
  'thousands of empty lines in the middle': utf8(`${HEAD}\r\none\r\n${'\r\n'.repeat(20_000)}two\r\n`),
  '8-bit content': Buffer.concat([utf8(`${HEAD}\r\n`), Buffer.from([0xe9, 0xff, 0x80, 0x0d, 0x0a])]),
  'UTF-8 in its header': utf8(`From: Zoë <zoë@example.nl>\r\nSubject: één ☃\r\nTo: ☃@example.org\r\n\r\nGrüße.\r\n`),
  'lines of 10,000 octets': utf8(`${HEAD}X-Long: ${'y'.repeat(10_000)}\r\n\r\n${'z '.repeat(5_000)}\r\n`),
  'a thousand fields': utf8(
    `${'X-Trace: one more\r\n'.repeat(1_000)}${HEAD}${'Received: by x\r\n'.repeat(100)}\r\nHi.\r\n`,
  ),
  'a hundred recipients in fields of their own': utf8(
    `${FROM}${'To: a@example.org\r\nCc: b@example.org\r\n'.repeat(100)}\r\nHi.\r\n`,
  ),
  'lines that begin with dots': utf8(`${HEAD}\r\n.\r\n..\r\n.hidden\r\n`),
  'a signature of another domain': utf8(
    `DKIM-Signature: v=1; a=rsa-sha256; d=other.example; s=x; h=from;\r\n bh=AAAA; b=AAAA\r\n${HEAD}\r\nHello.\r\n`,
  ),
  'a list and a report': utf8(
    `${HEAD}List-Unsubscribe: <https://example.nl/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n` +
      `TLS-Report-Domain: example.org\r\nTLS-Report-Submitter: example.nl\r\n\r\nHello.\r\n`,
  ),
};

describe('two verifiers agree', () => {
  test('DKIM-01 RSA and Ed25519 signatures hold for mailauth and for dkimpy, whatever the message looks like', async () => {
    await expectBothPass(await Promise.all(Object.values(CORPUS).map((message) => signed(message))));
  });

  test('DKIM-02 in whatever pieces a message is read, the signature is the same', async () => {
    const messages: Buffer[] = [];
    for (const message of Object.values(CORPUS)) {
      if (message.length > 4_000) continue;
      for (const pieces of [1, 2, 3, 7]) messages.push(await signed(message, { pieces }));
    }
    await expectBothPass(messages);
  });

  test('DKIM-01 a hundred and fifty messages made of nothing but awkward octets', async () => {
    const line = fc.array(fc.constantFrom(' ', '\t', 'a', 'b', '.', ';', '=', '\u00e9', ':', '\r\n\r\n', '\r\n'), {
      maxLength: 30,
    });
    const value = fc.array(fc.constantFrom(' ', '\t', 'x', ';', '=', '\u00e9', '\r\n ', '\r\n\t', ':'), {
      maxLength: 12,
    });
    const name = fc.constantFrom('Subject', 'To', 'cc', 'X-Y', 'Reply-To', 'MIME-Version', 'Content-Type', 'List-Id');
    const sample = fc.sample(fc.tuple(fc.array(fc.tuple(name, value), { maxLength: 12 }), line), {
      numRuns: 150,
      seed: 7,
    });
    const messages = sample.map(([fields, body]) => {
      // A fold of nothing but white space would end the header for some.
      const header = fields.map(
        ([field, parts]) => `${field}: v${parts.join('').replace(/\r\n[ \t]+(?=\r\n|$)/g, '')}.\r\n`,
      );
      return utf8(`${header.join('')}${FROM}\r\n${body.join('')}`);
    });
    await expectBothPass(await Promise.all(messages.map((message) => signed(message))));
  });

  test('DKIM-03 what is changed on the way breaks both signatures, for both verifiers', async () => {
    const whole = (await signed(utf8(`${HEAD}\r\nHello.\r\n`))).toString('latin1');
    const changed = [
      whole.replace('Hello.', 'Hallo.'),
      `${whole}more\r\n`,
      whole.replace('Subject: hello', 'Subject: urgent'),
      // One more of what is there, at the top and at the bottom, and one of what is not there.
      whole.replace('From:', 'From: <evil@example.org>\r\nFrom:'),
      whole.replace('\r\n\r\nHello', '\r\nFrom: <evil@example.org>\r\n\r\nHello'),
      whole.replace('Subject:', 'Subject: urgent\r\nSubject:'),
      whole.replace('From:', 'Reply-To: <evil@example.org>\r\nFrom:'),
      whole.replace('From:', 'Sender: <evil@example.org>\r\nFrom:'),
      whole.replace('From:', 'Content-Type: text/html\r\nFrom:'),
    ].map((text) => ({ message: Buffer.from(text, 'latin1'), records: RECORDS, signatures: 2 }));
    const [python, ...node] = await Promise.all([byDkimpy(changed), ...changed.map(byMailauth)]);
    for (const at of changed.keys()) {
      expect([at, node[at]?.length, python?.[at]?.length]).toEqual([at, 2, 2]);
      expect(
        [at, ...(node[at] ?? []), ...(python?.[at] ?? [])].filter((word) => String(word).endsWith('pass')),
      ).toEqual([]);
    }
  });

  test('DKIM-03 what mail hosts do to a message leaves both signatures whole', async () => {
    const text = (await signed(utf8(`${HEAD}\r\nHello  there. \r\n\r\n`))).toString('latin1');
    const changed = [
      `Received: from a by b; Mon, 1 Jan 2029 10:00:00 +0000\r\n${text}`,
      text.replace('Hello  there. \r\n\r\n', 'Hello there.\r\n'),
      text.replace('Subject: hello', 'Subject:\r\n\thello'),
      text.replace(/DKIM-Signature:.*?\r\n(?=\S)/gs, (field) => field.replace(/\r\n\t/g, '\r\n   ')),
    ];
    await expectBothPass(changed.map((message) => Buffer.from(message, 'latin1')));
  });
});

describe('the signature itself', () => {
  test('DKIM-04 relaxed/relaxed, never l=, From and the other identity fields named once more than they are there', async () => {
    const result = await sign(utf8(`${HEAD}\r\nHello.\r\n`));
    const text = result.kind === 'signed' ? result.header.toString('ascii') : '';
    expect(result).toMatchObject({ kind: 'signed', by: ['example.nl/s1', 'example.nl/s2'] });
    const fields = text.split(/\r\n(?=\S)/).filter((field) => field !== '');
    expect(fields).toHaveLength(2);
    for (const field of fields) {
      const tags = new Map(
        field
          .replace(/\s/g, '')
          .replace('DKIM-Signature:', '')
          .split(';')
          .map((tag) => [tag.split('=')[0], tag]),
      );
      expect([...tags.keys()]).toEqual(['v', 'a', 'c', 'd', 's', 't', 'h', 'bh', 'b']);
      expect(tags.get('c')).toBe('c=relaxed/relaxed');
      const names = tags.get('h')?.slice(2).split(':') ?? [];
      const times = (name: string): number => names.filter((each) => each === name).length;
      expect(['from', 'to', 'subject', 'date', 'message-id'].map(times)).toEqual([2, 2, 2, 2, 2]);
      expect(['sender', 'reply-to', 'cc', 'content-type', 'mime-version'].map(times)).toEqual([1, 1, 1, 1, 1]);
    }
    expect(Math.max(...text.split('\r\n').map((line) => line.length))).toBeLessThanOrEqual(78);
  });

  test('DKIM-04 exactly these fields are covered: identity once more than they are there, others where they are there', async () => {
    const identity =
      'From Sender Reply-To To Cc Subject Date Message-ID In-Reply-To References MIME-Version Content-Type Content-Transfer-Encoding';
    const besides =
      'Resent-Date Resent-From Resent-Sender Resent-To Resent-Cc Resent-Message-ID List-Id List-Help List-Unsubscribe ' +
      'List-Unsubscribe-Post List-Subscribe List-Post List-Owner List-Archive Content-ID Content-Description ' +
      'Content-Language Content-Disposition Auto-Submitted TLS-Report-Domain TLS-Report-Submitter TLS-Required';
    const covered = async (names: string): Promise<readonly string[]> => {
      const fields = names.split(' ').map((name) => `${name}: ${name === 'From' ? 'a@example.nl' : 'x'}\r\n`);
      const result = await sign(utf8(`${fields.join('')}\r\nHello.\r\n`));
      const text = result.kind === 'signed' ? result.header.toString('ascii').replace(/\s/g, '') : '';
      return (/;h=([^;]*)/.exec(text)?.[1] ?? '').split(':').sort();
    };
    const lower = (names: string): readonly string[] => names.toLowerCase().split(' ');
    const passedOver = 'Received Return-Path DKIM-Signature Authentication-Results ARC-Seal X-Spam';
    expect(await covered(`From ${passedOver}`)).toEqual([...lower(identity), 'from'].sort());
    const all = [...lower(identity), ...lower(identity), ...lower(besides)];
    expect(await covered(`${identity} ${besides} ${passedOver}`)).toEqual(all.sort());
  });

  test('DKIM-04 a long domain and a long selector still make lines that everybody takes', async () => {
    const domain = `${'a'.repeat(60)}.${'b'.repeat(60)}.${'c'.repeat(60)}.nl`;
    const [key] = KEYS;
    const keys = { kind: 'keys', keys: [{ ...key, domain, selector: 'x'.repeat(60) }] } as const;
    const rule = { domain, senders: [domain] };
    const message = await signed(utf8(`From: <p@${domain}>\r\n\r\nHi.\r\n`), { rule, keys });
    const name = `${'x'.repeat(60)}._domainkey.${domain}`;
    const records = { [name]: RECORDS['s1._domainkey.example.nl'] ?? '' };
    expect(await byMailauth({ message, records })).toEqual([`rsa-sha256 ${domain}/${'x'.repeat(60)} pass`]);
    expect(
      Math.max(
        ...message
          .toString('latin1')
          .split('\r\n')
          .map((line) => line.length),
      ),
    ).toBeLessThan(998);
  });
});

describe('whose mail it is', () => {
  const wildcard: Change = { rule: { senders: ['example.nl', '*.example.nl'] } };
  test.each<[string, string, Change, string | null]>([
    // the header                                                           signed, or why not
    ['an address alone', 'From: piet@example.nl', {}, 'signed'],
    ['in upper case', 'FROM: PIET@EXAMPLE.NL', {}, 'signed'],
    [
      'a comment and a quoted name',
      'From: "Piet, <x@evil.example>" (a (nested) @ one) <piet@example.nl>',
      {},
      'signed',
    ],
    ['a quoted local part', 'From: "piet @ home"@example.nl', {}, 'signed'],
    ['several authors of one domain', 'From: a@example.nl, B <b@example.nl>', {}, 'signed'],
    ['a name with a comma and no quotes', 'From: Jansen, P., Piet <piet@example.nl>', {}, 'signed'],
    ['several of them', 'From: Jansen, Piet <piet@example.nl>, Vries, "A." de <a@example.nl>', {}, 'signed'],
    [
      'an address and such a name',
      'From: a@example.nl, Jansen, Piet <b@example.org>',
      {},
      'its From has several domains',
    ],
    ['a name and a comma, then no name', 'From: Jansen, piet@example.nl', {}, 'its From cannot be understood'],
    ['an address, then words', 'From: <a@example.nl>, Piet', {}, 'its From cannot be understood'],
    ['an address, then words and a comma', 'From: <a@example.nl>, Piet,', {}, 'its From cannot be understood'],
    ['words at the end of a group', 'From: x: Jansen; Piet <a@example.nl>', {}, 'its From cannot be understood'],
    ['words before a group', 'From: Jansen, x: a@example.nl;', {}, 'its From cannot be understood'],
    ['a group', 'From: team: a@example.nl, b@example.nl;', {}, 'signed'],
    ['a domain below, by configuration', 'From: a@sub.example.nl', wildcard, 'signed'],
    ['a domain below', 'From: a@sub.example.nl', {}, null],
    ['a domain that ends alike', 'From: a@notexample.nl', wildcard, null],
    ['another domain', 'From: a@example.org', {}, null],
    ['no From', 'To: a@example.nl', {}, 'it has no From'],
    ['two From fields', 'From: a@example.nl\r\nFrom: b@example.nl', {}, 'it has several From fields'],
    ['authors of two domains', 'From: a@example.nl, b@example.org', {}, 'its From has several domains'],
    ['no address', 'From: Piet', {}, 'its From cannot be understood'],
    ['an address that is two', 'From: a@evil.example@example.nl', {}, 'its From cannot be understood'],
    ['two addresses in a row', 'From: <a@evil.example> <a@example.nl>', {}, 'its From cannot be understood'],
    ['an open bracket', 'From: <a@example.nl', {}, 'its From cannot be understood'],
    ['an open quote', 'From: "a@example.nl', {}, 'its From cannot be understood'],
    ['a literal', 'From: a@[192.0.2.1]', {}, 'its From has no domain name'],
    ['a route', 'From: <@evil.example,@x.example:a@example.nl>', {}, 'signed'],
    ['a route through us', 'From: <@example.nl:a@evil.example>', {}, null],
    ['a route without an end', `From: <${'@a,'.repeat(10_000)}a@example.nl>`, {}, 'its From cannot be understood'],
    ['an address as the name of another', 'From: "a@example.nl" <b@evil.example>', {}, null],
    ['an address as the name of another, bare', 'From: a@example.nl <b@evil.example>', {}, null],
    ['an address in a comment', 'From: b@evil.example (a@example.nl)', {}, null],
    ['an address as the name of a group', 'From: a@example.nl: b@evil.example;', {}, null],
    ['a group of nobody', 'From: a@example.nl:;', {}, 'its From cannot be understood'],
    ['From with a space before its colon', 'From : a@example.nl', {}, 'signed'],
    ['two of them, one with a space', 'From : a@evil.example\r\nFrom: a@example.nl', {}, 'it has several From fields'],
    ['a folded address', 'From:\r\n "Piet"\r\n\t<a@example.nl>', {}, 'signed'],
    [
      'a domain that its client may not use',
      'From: a@example.nl',
      { maySend: (domain) => domain !== 'example.nl' },
      'its client may not send for example.nl, the domain in From',
    ],
    [
      'a domain below that its client may not use, though it may use the one that signs',
      'From: a@sub.example.nl',
      { ...wildcard, maySend: (domain) => domain === 'example.nl' },
      'its client may not send for sub.example.nl, the domain in From',
    ],
  ])('DKIM-05 %s', async (_, header, change, end) => {
    const result = await sign(utf8(`${header}\r\nSubject: x\r\n\r\nHello.\r\n`), change);
    if (end === 'signed') expect(result.kind).toBe('signed');
    else expect(result).toEqual({ kind: 'unsigned', why: end });
  });

  test('DKIM-05 the longest signing domain that fits signs', async () => {
    const rules = ['nl.example', 'a.nl.example', 'b.a.nl.example'].map((domain) => ({
      domain,
      senders: [domain, `*.${domain}`],
      existing: 'add' as const,
      required: null,
    }));
    const keysOf = (domain: string) => ({ kind: 'not-yet', why: domain }) as const;
    const { ruleFor } = createSigner({ rules, keysOf, clock: systemClock });
    expect(ruleFor('x.a.nl.example')?.domain).toBe('a.nl.example');
    expect(ruleFor('nl.example')?.domain).toBe('nl.example');
    expect(ruleFor('example')).toBe(null);
  });

  test('DKIM-06 mail that its domain has signed already is signed besides, or left alone', async () => {
    const once = await signed(utf8(`${HEAD}\r\nHello.\r\n`));
    const left = await sign(once, { rule: { existing: 'leave' } });
    expect(left).toEqual({ kind: 'unsigned', why: 'example.nl has signed it already' });
    const twice = await signed(once);
    const all = [...BOTH_PASS, ...BOTH_PASS];
    expect(await byMailauth({ message: twice, records: RECORDS })).toEqual(all);
    expect(await byDkimpy([{ message: twice, records: RECORDS, signatures: 4 }])).toEqual([all]);
    const others = utf8(`DKIM-Signature: v=1; d=other.example; b=\r\n${HEAD}\r\nHello.\r\n`);
    expect((await sign(others, { rule: { existing: 'leave' } })).kind).toBe('signed');
  });
});

describe('what cannot be signed', () => {
  const message = utf8(`${HEAD}\r\nHello.\r\n`);
  const lost = { kind: 'unusable', code: 'dkim-key-unusable', why: 'the key is gone' } as const;
  const none = { kind: 'not-yet', why: 'no key was made' } as const;
  test.each<[string, Change, object]>([
    [
      'a key that cannot be used: waits',
      { keys: lost },
      { kind: 'impossible', code: 'dkim-key-unusable', why: 'the key is gone' },
    ],
    [
      'the same, where signing is not required: leaves',
      { keys: lost, rule: { required: false } },
      { kind: 'unsigned', why: 'the key is gone' },
    ],
    ['no key yet: leaves', { keys: none }, { kind: 'unsigned', why: 'no key was made' }],
    [
      'the same, where signing is required: waits',
      { keys: none, rule: { required: true } },
      { kind: 'impossible', code: 'dkim-key-unpublished', why: 'no key was made' },
    ],
  ])('DKIM-07 %s', async (_, change, end) => {
    expect(await sign(message, change)).toEqual(end);
  });

  test('DKIM-07 a message that cannot be read, or breaks off, is not signed and not sent', async () => {
    const signer = createSigner({
      rules: [{ domain: 'example.nl', senders: ['example.nl'], existing: 'add', required: null }],
      keysOf: () => ({ kind: 'keys', keys: KEYS }),
      clock: systemClock,
    });
    const broken = { kind: 'impossible', code: 'stored-message-unreadable', why: 'it has changed on the disk' };
    const gone = () => Promise.reject(new Error('it has changed on the disk'));
    expect(await signer.sign('1', gone, () => true)).toEqual(broken);
    const stream = Readable.from(
      (async function* () {
        yield message;
        throw new Error('it has changed on the disk');
      })(),
      { objectMode: false },
    );
    expect(
      await signer.sign(
        '2',
        async () => ({ kind: 'stream', stream }),
        () => true,
      ),
    ).toEqual(broken);
    expect(stream.destroyed).toBe(true);
  });

  test('DKIM-08 a header without end is left unsigned, and no more of it is kept or read', async () => {
    let given = 0;
    const stream = Readable.from(
      (async function* () {
        yield Buffer.from(FROM);
        for (; given < 1_000; given++) yield Buffer.from(`X-More: ${'x'.repeat(64 * 1024)}\r\n`);
      })(),
      { objectMode: false },
    );
    const signer = createSigner({
      rules: [{ domain: 'example.nl', senders: ['example.nl'], existing: 'add', required: true }],
      keysOf: () => ({ kind: 'keys', keys: KEYS }),
      clock: systemClock,
    });
    const end = await signer.sign(
      '2',
      async () => ({ kind: 'stream', stream }),
      () => true,
    );
    expect(end).toEqual({ kind: 'unsigned', why: 'its header is too long' });
    expect(given).toBeLessThan(30);
  });

  test('DKIM-08 more fields than a signature should name: left unsigned', async () => {
    const many = utf8(`${FROM}${'To: a@example.org\r\n'.repeat(600)}\r\nHi.\r\n`);
    expect(await sign(many)).toEqual({ kind: 'unsigned', why: 'it has more header fields than a signature can cover' });
  });

  test('DKIM-08 the signature over 50 MB holds, and memory does not grow with them', async () => {
    const line = Buffer.from(`${'0123456789 '.repeat(6)}\t \r\n`);
    const block = Buffer.concat(Array.from({ length: 1_000 }, () => line));
    const blocks = Math.ceil(50e6 / block.length);
    const head = utf8(`${HEAD}\r\n`);
    const before = process.memoryUsage().rss;
    let most = before;
    const stream = Readable.from(
      (async function* () {
        yield head;
        for (let i = 0; i < blocks; i++) {
          most = Math.max(most, process.memoryUsage().rss);
          yield block;
        }
      })(),
      { objectMode: false },
    );
    const signer = createSigner({
      rules: [{ domain: 'example.nl', senders: ['example.nl'], existing: 'add', required: null }],
      keysOf: () => ({ kind: 'keys', keys: KEYS }),
      clock: systemClock,
    });
    const result = await signer.sign(
      '2',
      async () => ({ kind: 'stream', stream }),
      () => true,
    );
    expect(most - before).toBeLessThan(40e6);
    const relaxed = block.toString('latin1').replace(/[ \t]+\r\n/g, '\r\n');
    const hash = createHash('sha256');
    for (let i = 0; i < blocks; i++) hash.update(relaxed, 'latin1');
    const header = result.kind === 'signed' ? result.header.toString('ascii') : '';
    expect(/bh=(\S+);/.exec(header)?.[1]).toBe(hash.digest('base64'));
  });
});
