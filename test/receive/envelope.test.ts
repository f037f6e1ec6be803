import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeXtext, readMail, readRcpt } from '../../src/receive/envelope.ts';

const mail = (rest: string): string => {
  const read = readMail(`MAIL FROM:${rest}`, 1000, true, false);
  return 'refusal' in read ? `${read.refusal.reply} ${read.refusal.status}` : read.value.sender;
};
const rcpt = (rest: string, smtputf8 = false): string => {
  const read = readRcpt(`RCPT TO:${rest}`, smtputf8, true);
  return 'refusal' in read ? `${read.refusal.reply} ${read.refusal.status}` : read.value.address;
};

describe('addresses', () => {
  test.each([
    ['<a@b.test>', 'a@b.test'],
    [' <a@b.test>', 'a@b.test'],
    ['<A.b+c@B.Test.>', 'A.b+c@b.test'],
    ['<@relay.test,@other.test:a@b.test>', 'a@b.test'],
    ['<"a b"@b.test>', '"a b"@b.test'],
    ['<"a@b"@b.test>', '"a@b"@b.test'],
    ['<"a>b"@b.test>', '"a>b"@b.test'],
    ['<"a\\"b\\\\"@b.test>', '"a\\"b\\\\"@b.test'],
    ['<""@b.test>', '""@b.test'],
    ['<first..last.@b.test>', 'first..last.@b.test'],
    ['<a@[192.0.2.1]>', 'a@[192.0.2.1]'],
    ['<a@[IPv6:2001:DB8::1]>', 'a@[IPv6:2001:db8::1]'],
    ["<!#$%&'*+/=?^_`{|}~-@b.test>", "!#$%&'*+/=?^_`{|}~-@b.test"],
    [`<${'x'.repeat(100)}@b.test>`, `${'x'.repeat(100)}@b.test`],
  ])('%s is kept', (path, address) => {
    expect(rcpt(path)).toBe(address);
  });

  test.each([
    'a@b.test',
    '<a@b.test',
    'a@b.test>',
    '<<a@b.test>>',
    '<a@b.test>x',
    '<a@b.test>,<c@d.test>',
    '< a@b.test>',
    '<"a@b.test>',
  ])('INJ-02 %s is a wrong command', (path) => {
    expect(rcpt(path)).toMatch(/^501 5\.(5\.4|1\.3)$/);
  });

  test.each([
    '<>',
    '<a>',
    '<@b.test>',
    '<a@>',
    '<a b@b.test>',
    '<a@b@c.test>',
    '<a(comment)@b.test>',
    '<"a"b@b.test>',
    '<a@b..test>',
    '<a@.test>',
    '<a@-b.test>',
    '<a@1.2.3.4>',
    '<a@[1.2.3]>',
    '<a@[2001:db8::1]>',
    '<a@[IPv6:fe80::1%eth0]>',
    '<a@b_c/d.test>',
    `<a@${'x'.repeat(64)}.test>`,
    `<${'x'.repeat(250)}@b.test>`,
  ])('IDN-02 INJ-02 %s is no recipient: 5.1.3', (path) => {
    expect(rcpt(path)).toBe('501 5.1.3');
  });

  test('a recipient without a domain is told why', () => {
    const read = readRcpt('RCPT TO:<postmaster>', false, true);
    expect(read).toMatchObject({ refusal: { detail: expect.stringContaining('no mailboxes of its own') } });
  });

  test('EXT-03 characters beyond ASCII need SMTPUTF8', () => {
    expect(rcpt('<jörg@b.test>')).toBe('553 5.6.7');
    expect(rcpt('<a@bücher.test>')).toBe('553 5.6.7');
    expect(rcpt('<jörg@bücher.test>', true)).toBe('jörg@xn--bcher-kva.test');
    expect(mail('<jörg@b.test>')).toBe('553 5.6.7');
    expect(mail('<jörg@b.test> SMTPUTF8')).toBe('jörg@b.test');
    expect(rcpt('<a\u200bb@b.test>', true)).toBe('501 5.1.3');
    expect(rcpt('<a\u202eb@b.test>', true)).toBe('501 5.1.3');
  });

  test('the null sender is the empty one', () => {
    expect(mail('<>')).toBe('');
    expect(mail('<> BODY=8BITMIME')).toBe('');
  });
});

describe('parameters', () => {
  test.each([
    ['<a@b.test> SIZE=1000', 'a@b.test'],
    ['<a@b.test>  size=0   body=7bit', 'a@b.test'],
    ['<a@b.test> SIZE=1001', '552 5.3.4'],
    ['<a@b.test> SIZE=99999999999999999999', '552 5.3.4'],
    ['<a@b.test> SIZE=999999999999999999999', '501 5.5.4'],
    ['<a@b.test> SIZE', '501 5.5.4'],
    ['<a@b.test> SIZE=', '501 5.5.4'],
    ['<a@b.test> SIZE=1x', '501 5.5.4'],
    ['<a@b.test> BODY=BINARYMIME', '501 5.5.4'],
    ['<a@b.test> BODY', '501 5.5.4'],
    ['<a@b.test> SMTPUTF8=1', '501 5.5.4'],
    ['<a@b.test> RET=ALL', '501 5.5.4'],
    ['<a@b.test> RET=FULL RET=FULL', '501 5.5.4'],
    ['<a@b.test> ENVID=', '501 5.5.4'],
    ['<a@b.test> ENVID=a+2', '501 5.5.4'],
    ['<a@b.test> ENVID=a+2b', '501 5.5.4'],
    [`<a@b.test> ENVID=${'x'.repeat(101)}`, '501 5.5.4'],
    ['<a@b.test> =x', '501 5.5.4'],
    ['<a@b.test> -x', '501 5.5.4'],
    ['<a@b.test> NOTIFY=NEVER', '555 5.5.4'],
    ['<a@b.test> constructor', '555 5.5.4'],
  ])('MAIL FROM:%s', (rest, expected) => {
    expect(mail(rest)).toBe(expected);
  });

  test.each([
    ['<a@b.test> NOTIFY=NEVER', 'a@b.test'],
    ['<a@b.test> NOTIFY=delay,Failure,SUCCESS', 'a@b.test'],
    ['<a@b.test> NOTIFY=NEVER,SUCCESS', '501 5.5.4'],
    ['<a@b.test> NOTIFY=', '501 5.5.4'],
    ['<a@b.test> NOTIFY', '501 5.5.4'],
    ['<a@b.test> NOTIFY=SUCCESS,', '501 5.5.4'],
    ['<a@b.test> ORCPT=a@b.test', '501 5.5.4'],
    ['<a@b.test> ORCPT=;a@b.test', '501 5.5.4'],
    ['<a@b.test> ORCPT=rfc822;', '501 5.5.4'],
    ['<a@b.test> ORCPT=rfc822;a+0Ab', '501 5.5.4'],
    [`<a@b.test> ORCPT=rfc822;${'x'.repeat(500)}`, '501 5.5.4'],
    ['<a@b.test> BODY=7BIT', '555 5.5.4'],
  ])('RCPT TO:%s', (rest, expected) => {
    expect(rcpt(rest)).toBe(expected);
  });

  test('ORCPT of a UTF-8 address is taken as it is where SMTPUTF8 was declared', () => {
    const read = readRcpt('RCPT TO:<a@b.test> ORCPT=utf-8;jörg@b.test', true, true);
    expect(read).toMatchObject({ value: { orcpt: 'utf-8;jörg@b.test' } });
    expect(rcpt('<a@b.test> ORCPT=utf-8;jörg@b.test', false)).toBe('501 5.5.4');
  });

  test('REQ-01, REQ-05 REQUIRETLS under TLS only, without a value; RET=FULL counts for nothing beside it', () => {
    const read = (rest: string, secure = true) => readMail(`MAIL FROM:<a@b.test>${rest}`, 1000, true, secure);
    expect(read(' REQUIRETLS')).toMatchObject({ value: { tls: 'required', ret: 'hdrs' } });
    expect(read(' RET=FULL requiretls')).toMatchObject({ value: { tls: 'required', ret: 'hdrs' } });
    expect(read('')).toMatchObject({ value: { tls: 'default', ret: null } });
    expect(read(' REQUIRETLS', false)).toMatchObject({ refusal: { reply: 530, status: '5.7.0' } });
    expect(read(' REQUIRETLS=yes')).toMatchObject({ refusal: { reply: 501 } });
    expect(read(' REQUIRETLS REQUIRETLS')).toMatchObject({ refusal: { reply: 501 } });
  });

  test('after HELO there are none', () => {
    expect(readMail('MAIL FROM:<a@b.test> SIZE=1', 1000, false, false)).toMatchObject({ refusal: { reply: 555 } });
    expect(readMail('MAIL FROM:<a@b.test>', 1000, false, false)).toMatchObject({ value: { sender: 'a@b.test' } });
  });

  test('xtext decodes to what was encoded', () => {
    const encode = (text: string): string =>
      text.replace(/[^!-~]|[+=]/g, (c) => `+${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
    const printable = fc.string({ unit: fc.constantFrom(...' !"+=~aZ0<>;@'), minLength: 1 });
    fc.assert(fc.property(printable, (text) => decodeXtext(encode(text)) === text));
  });

  test('INJ-02 whatever is read back as an address has no control character, no line end and one path', () => {
    const noise = fc.string({ unit: fc.constantFrom(...'<>@"\\ ab.,:[]()=+é\u200b'), maxLength: 30 });
    fc.assert(
      fc.property(noise, fc.boolean(), (text, utf8) => {
        const read = readRcpt(`RCPT TO:<${text}>`, utf8, true);
        if ('refusal' in read) return;
        // Said again, it is the same address: nothing is left that would be read in another way.
        const again = readRcpt(`RCPT TO:<${read.value.address}>`, utf8, true);
        expect(again).toMatchObject({ value: { address: read.value.address } });
      }),
      { numRuns: 3000 },
    );
  });
});
