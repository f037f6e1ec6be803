/** What a session adds to a report, and what every reason code is called in one. */
import { describe, expect, test } from 'vitest';
import { REASONS, type ReasonCode } from '../../../src/model/reasons.ts';
import type { LenientPolicy, TlsPolicy } from '../../../src/model/tls-policy.ts';
import { countsOf } from '../../../src/report/tls-report/count.ts';
import { RESULTS } from '../../../src/report/tls-report/result-types.ts';
import { counted, dane, EE, GRANT, may, type Session, session } from './good-day.ts';

/** Codes that say nothing of TLS with a host, and why. */
const NOT_REPORTED: Readonly<Record<string, readonly ReasonCode[]>> = {
  'what a host must prove: how it went is told by another code': [
    'tlsa-usable',
    'tlsa-all-unusable',
    'tlsa-absent',
    'tlsa-insecure',
    'host-insecure',
    'mx-insecure',
    'literal-address',
    'rule-may',
    'rule-encrypt',
    'rule-verify',
    'rule-pin',
    'rule-requiretls',
    'rule-tls-optional',
    'sts-enforce',
  ],
  'what was overlooked counts by its own code': [
    'rule-exception',
    'rule-report',
    'exception-authenticated',
    'exception-encrypted',
    'report-authenticated',
    'report-encrypted',
    'report-clear',
  ],
  'there is no host, or none that we may use': [
    'null-mx',
    'no-such-domain',
    'no-mail-host',
    'invalid-domain',
    'host-without-address',
    'host-name-illegal',
    'loop-to-self',
    'own-host',
    'dane-only-literal',
    'verify-literal',
  ],
  'RFC 8460 §4.3.4: it did not come to TLS': [
    'connect-failed',
    'connection-lost',
    'remote-timeout',
    'greeting-refused',
    'greeting-refused-before-tls',
    'ehlo-refused',
    'remote-garbage',
  ],
  'our own affair': [
    'resolver-untrusted',
    'requiretls-not-proven',
    'dkim-key-unusable',
    'dkim-key-unpublished',
    'pin-mismatch',
    'host-busy',
    'not-tried-yet',
    'lifetime-over',
    'tls-lifetime-over',
    'internal-error',
    'stored-message-unreadable',
    'tls-setup-failed',
    'shutting-down',
  ],
  'about one message': [
    'remote-accepted',
    'remote-later',
    'remote-refused',
    'remote-too-many-recipients',
    'size-over-remote-limit',
    'eight-bit-unsupported',
    'utf8-address-unsupported',
    'utf8-header-unsupported',
    'address-unsendable',
    'requiretls-not-offered',
  ],
  'at our own door': [
    'intake-accepted',
    'client-unknown',
    'client-needs-tls',
    'requiretls-without-tls',
    'client-certificate-missing',
    'client-certificate-unknown',
    'sender-not-allowed',
    'too-many-connections',
    'too-many-messages',
    'too-many-recipients',
    'message-too-big',
    'message-has-nul',
    'message-has-bare-newline',
    'message-line-too-long',
    'too-many-hops',
    'command-unknown',
    'command-unsupported',
    'command-malformed',
    'no-valid-recipients',
    'too-many-errors',
    'wrong-protocol',
    'command-syntax',
    'command-order',
    'parameter-unknown',
    'sender-address-bad',
    'recipient-address-bad',
    'smtputf8-undeclared',
    'storage-failed',
    'storage-full',
    'client-timeout',
  ],
};

const allUnusable: TlsPolicy = { kind: 'encrypt', code: 'tlsa-all-unusable', sni: null };
const byMx: TlsPolicy = { kind: 'encrypt', code: 'mx-insecure', sni: null };
const byRule: TlsPolicy = { kind: 'encrypt', code: 'rule-encrypt', sni: null };
const except: TlsPolicy = {
  kind: 'except',
  code: 'rule-exception',
  sni: null,
  strict: dane,
  enough: [{ kind: 'encrypt', code: 'rule-encrypt', sni: null }],
  grant: { kind: 'exception', id: 'x1', owner: 'Jan', reason: 'known', until: 0, pins: [] },
};
const noTlsa = { base: null, records: [] };

/** `tlsa mx.example.nl [3 1 1 …] starttls-refused…` in short. */
function told(change: Session): string {
  return countsOf(session(change))
    .map(({ policy: { type, domain, strings }, failure }) =>
      [type, domain, strings.length, failure === null ? 'success' : failure.type].join(' '),
    )
    .join(', ');
}

test('RPT-06 RPT-07 every reason code has a result type or is named here as not reported, and never both', () => {
  const unreported: readonly string[] = Object.values(NOT_REPORTED).flat();
  const mapped = Object.keys(RESULTS);
  expect(Object.keys(REASONS).filter((code) => !mapped.includes(code) && !unreported.includes(code))).toEqual([]);
  expect(unreported.filter((code) => mapped.includes(code))).toEqual([]);
});

describe('RPT-06 what is called how', () => {
  test.each<[string, Session, string]>([
    // what happened                       the session                                             counted as
    ['a DANE-EE match', {}, 'tlsa mx.example.nl 1 success'],
    ['RPT-08 a DANE-EE match, an exception at hand', { policy: except }, 'tlsa mx.example.nl 1 success'],
    [
      'RPT-08 another key, and mail went by an exception',
      { policy: except, code: 'exception-encrypted', verdict: 'encrypted', overlooked: 'tlsa-mismatch' },
      'tlsa mx.example.nl 1 validation-failure',
    ],
    [
      'RPT-08 no STARTTLS, which was only reported',
      { policy: except, code: 'report-clear', verdict: 'clear', overlooked: 'starttls-not-offered' },
      'tlsa mx.example.nl 1 starttls-not-supported',
    ],
    [
      'RPT-08 records that could not be looked up, overlooked',
      { policy: except, code: 'report-encrypted', tlsa: noTlsa, overlooked: 'tlsa-lookup-failed' },
      'tlsa mx.example.nl 0 dnssec-invalid',
    ],
    ['a DANE-TA match', { code: 'dane-ta' }, 'tlsa mx.example.nl 1 success'],
    ['no STARTTLS', { code: 'starttls-not-offered' }, 'tlsa mx.example.nl 1 starttls-not-supported'],
    ['STARTTLS refused', { code: 'starttls-refused' }, 'tlsa mx.example.nl 1 starttls-not-supported'],
    ['another key', { code: 'tlsa-mismatch' }, 'tlsa mx.example.nl 1 validation-failure'],
    ['no handshake', { code: 'tls-handshake-failed' }, 'tlsa mx.example.nl 1 validation-failure'],
    ['TLS that is insufficient', { code: 'tls-too-weak' }, 'tlsa mx.example.nl 1 validation-failure'],
    [
      'TLS that is insufficient, with records of no use',
      { policy: allUnusable, tlsa: { considered: [] }, code: 'tls-too-weak' },
      'tlsa mx.example.nl 1 validation-failure',
    ],
    [
      'RPT-08 TLS that is insufficient, which was only reported',
      { policy: except, code: 'report-encrypted', overlooked: 'tls-too-weak' },
      'tlsa mx.example.nl 1 validation-failure',
    ],
    ['other names', { code: 'tlsa-name-mismatch' }, 'tlsa mx.example.nl 1 certificate-host-mismatch'],
    ['out of time', { code: 'tlsa-expired' }, 'tlsa mx.example.nl 1 certificate-expired'],
    ['another issuer', { code: 'tlsa-not-trusted' }, 'tlsa mx.example.nl 1 certificate-not-trusted'],
    [
      'TLSA cannot be looked up',
      { skipped: 'tlsa-lookup-failed', tlsa: noTlsa },
      'tlsa mx.example.nl 0 dnssec-invalid',
    ],
    [
      'addresses cannot',
      { skipped: 'address-lookup-failed', tlsa: null },
      'no-policy-found example.nl 0 dnssec-invalid',
    ],
    ['MX cannot', { skipped: 'mx-lookup-failed', deadEnd: true }, 'no-policy-found example.nl 0 dnssec-invalid'],
    [
      'DANE is demanded and not there',
      { rule: 'dane-only', skipped: 'dane-only-no-tlsa', tlsa: noTlsa },
      'tlsa mx.example.nl 0 dane-required',
    ],
    [
      'or of no use',
      { rule: 'dane-only', skipped: 'dane-only-unusable', tlsa: { considered: [] } },
      'tlsa mx.example.nl 1 tlsa-invalid',
    ],
    [
      'nothing is published, and there is TLS',
      { policy: may, tlsa: noTlsa, code: 'encrypted-opportunistic' },
      'no-policy-found example.nl 0 success',
    ],
    [
      'or none',
      { policy: may, tlsa: noTlsa, code: 'clear-not-offered' },
      'no-policy-found example.nl 0 starttls-not-supported',
    ],
    [
      'TLS by our own rule',
      { rule: 'encrypt', policy: byRule, tlsa: noTlsa, code: 'encrypted-unauthenticated' },
      'no-policy-found example.nl 0 success',
    ],
  ])('%s', (_, change, expected) => expect(told(change)).toBe(expected));

  test('RPT-08 a failure that the operator only has reported, or has made an exception for, is what is counted', () => {
    const enough = [may] as const;
    const report: LenientPolicy = {
      kind: 'report',
      code: 'rule-report',
      sni: null,
      strict: dane,
      enough,
      grant: GRANT,
    };
    expect(told({ policy: report, code: 'report-encrypted', overlooked: 'tlsa-mismatch' })).toBe(
      'tlsa mx.example.nl 1 validation-failure',
    );
    expect(told({ policy: report, code: 'report-clear', overlooked: 'starttls-not-offered' })).toBe(
      'tlsa mx.example.nl 1 starttls-not-supported',
    );
    expect(told({ policy: report, code: 'dane-ee' })).toBe('tlsa mx.example.nl 1 success');
    const failedLookup = { kind: 'skip', trouble: { code: 'tlsa-lookup-failed', detail: '' } } as const;
    expect(
      told({
        policy: { ...report, strict: failedLookup },
        tlsa: noTlsa,
        code: 'report-clear',
        overlooked: 'tlsa-lookup-failed',
      }),
    ).toBe('tlsa mx.example.nl 0 dnssec-invalid');
  });

  const verify: TlsPolicy = {
    kind: 'verify',
    code: 'rule-verify',
    sni: 'mx.example.nl',
    names: ['mx.example.nl'],
    wholePath: true,
    dane: null,
  };
  const both: TlsPolicy = { ...verify, dane: { referenceNames: [], records: [], wholePath: true } };

  test.each<[string, Session, string]>([
    ['DANE held', { policy: both, code: 'webpki-matched' }, 'tlsa mx.example.nl 1 success'],
    ['DANE failed', { policy: both, code: 'tlsa-mismatch' }, 'tlsa mx.example.nl 1 validation-failure'],
    ['DANE held, and we wanted more', { policy: both, code: 'webpki-not-trusted' }, ''],
    [
      'DANE held, over TLS that is insufficient',
      { policy: both, code: 'tls-too-weak' },
      'tlsa mx.example.nl 1 validation-failure',
    ],
    ['nothing is published, and TLS was too weak for us', { policy: verify, tlsa: noTlsa, code: 'tls-too-weak' }, ''],
    [
      'nothing is published',
      { policy: verify, tlsa: noTlsa, code: 'webpki-matched' },
      'no-policy-found example.nl 0 success',
    ],
    [
      'nothing of use is',
      { policy: verify, tlsa: { considered: [] }, code: 'webpki-matched' },
      'tlsa mx.example.nl 1 tlsa-invalid',
    ],
    [
      'records behind an insecure MX that were set aside',
      { policy: byMx, code: 'encrypted-unauthenticated' },
      'no-policy-found example.nl 0 success',
    ],
  ])('under a demand of our own: %s', (_, change, expected) =>
    expect(told({ rule: 'verify', ...change })).toBe(expected),
  );

  test('RPT-08 mail that was delivered all the same counts as a failure: all records unusable, or sent in the clear', () => {
    expect(
      told({ tlsa: { considered: [] }, policy: allUnusable, code: 'encrypted-unauthenticated', verdict: 'encrypted' }),
    ).toBe('tlsa mx.example.nl 1 tlsa-invalid');
    expect(told({ policy: may, tlsa: noTlsa, code: 'clear-handshake-failed', verdict: 'clear' })).toBe(
      'no-policy-found example.nl 0 validation-failure',
    );
  });

  test.each<[string, Session]>([
    ['RPT-07 no connection', { code: 'connect-failed' }],
    ['RPT-07 silence', { code: 'remote-timeout' }],
    ['RPT-07 a connection that was lost', { code: 'connection-lost' }],
    ['a resolver that proves nothing is our own affair', { skipped: 'resolver-untrusted', deadEnd: true }],
    ['a host that the operator names', { nextHop: { kind: 'host', host: 'mx.example.nl', port: 25 } }],
    ['an address', { nextHop: { kind: 'literal', address: '192.0.2.1', port: 25 } }],
    ['a rule that looks at nothing', { rule: 'may', policy: may, code: 'encrypted-opportunistic' }],
  ])('not counted: %s', (_, change) => expect(told(change)).toBe(''));
});

describe('RPT-04 a session of a domain with MTA-STS', () => {
  const sts = {
    domain: 'example.nl',
    mode: 'enforce',
    lines: ['version: STSv1', 'mode: enforce', 'mx: mx.example.nl', 'max_age: 86400'],
    mx: ['mx.example.nl'],
    trouble: null,
  } as const;
  const seen = (code: ReasonCode) => ({ sts: { ...sts, trouble: { code, detail: '' } } });
  const enforced: TlsPolicy = {
    kind: 'sts',
    code: 'sts-enforce',
    sni: 'mx.example.nl',
    names: ['mx.example.nl'],
    wholePath: true,
    dane: null,
  };
  const lost = { ...sts, mode: null, lines: [], mx: [] };

  test.each<[string, Session, string]>([
    ['and DANE', { sts }, 'tlsa mx.example.nl 1 success, sts example.nl 4 success'],
    [
      'that DANE let through and MTA-STS would not',
      seen('webpki-not-trusted'),
      'tlsa mx.example.nl 1 success, sts example.nl 4 certificate-not-trusted',
    ],
    [
      'that DANE kept back',
      { sts, code: 'tlsa-mismatch' },
      'tlsa mx.example.nl 1 validation-failure, sts example.nl 4 success',
    ],
    ['without TLSA', { sts, policy: enforced, tlsa: noTlsa, code: 'webpki-matched' }, 'sts example.nl 4 success'],
    [
      'for other names',
      { ...seen('webpki-name-mismatch'), policy: enforced, tlsa: noTlsa, code: 'webpki-name-mismatch' },
      'sts example.nl 4 certificate-host-mismatch',
    ],
    [
      'whose host is not listed',
      { ...seen('sts-mx-not-listed'), tlsa: noTlsa, skipped: 'sts-mx-not-listed' },
      'sts example.nl 4 validation-failure',
    ],
    [
      'without STARTTLS',
      { ...seen('starttls-not-offered'), policy: enforced, tlsa: noTlsa, code: 'starttls-not-offered' },
      'sts example.nl 4 starttls-not-supported',
    ],
    [
      'over TLS that is insufficient',
      { ...seen('tls-too-weak'), policy: enforced, tlsa: noTlsa, code: 'tls-too-weak' },
      'sts example.nl 4 validation-failure',
    ],
    [
      'that could not be had',
      {
        sts: { ...lost, trouble: { code: 'sts-policy-fetch-error', detail: '' } },
        policy: may,
        tlsa: noTlsa,
        code: 'encrypted-opportunistic',
      },
      'sts example.nl 0 sts-policy-fetch-error',
    ],
    [
      'where no connection was had',
      { ...seen('connect-failed'), policy: enforced, tlsa: noTlsa, code: 'connect-failed' },
      '',
    ],
  ])('%s', (_, change, expected) => expect(told(change)).toBe(expected));

  test('RPT-02 the lines of the policy and its patterns', () => {
    const [, count] = countsOf(session({ sts }));
    expect(count?.policy).toEqual({
      type: 'sts',
      domain: 'example.nl',
      strings: sts.lines,
      mxHosts: ['mx.example.nl'],
    });
  });
});

describe('what is told of a session', () => {
  test('RPT-02 a TLSA policy: its base domain and one string for each record as it was published', () => {
    const records = [EE, `1 0 1 ${'cd'.repeat(32)}`].map((text) => ({
      text,
      usable: true,
      considered: true,
      why: null,
    }));
    expect(counted({ tlsa: { base: 'real.example.net', records } }).policy).toEqual({
      type: 'tlsa',
      domain: 'real.example.net',
      strings: [EE, `1 0 1 ${'cd'.repeat(32)}`],
      mxHosts: [],
    });
  });

  test('RPT-03 it is for the domain that the mail goes to, whatever its hosts are called', () => {
    expect(counted({ domain: 'a.test', host: 'mx.b.test' }).domain).toBe('a.test');
    expect(counted({ nextHop: { kind: 'domain', domain: 'c.test', port: 25 } }).domain).toBe('c.test');
  });

  test('a failure: who, with whom, and why', () => {
    expect(counted({ code: 'tlsa-mismatch' }).failure).toEqual({
      type: 'validation-failure',
      sendingAddress: '192.0.2.1',
      mxHost: 'mx.example.nl',
      greeting: 'mx.example.nl',
      receivingAddress: '192.0.2.7',
      code: 'tlsa-mismatch',
    });
  });

  test.each([
    ['220 MX.Example.NL. ready', 'mx.example.nl'],
    ['mx.example.nl', 'mx.example.nl'],
    ['220 <script>.evil.test hello', null],
    ['220 localhost', null],
    [`220 ${'a'.repeat(300)}.test`, null],
    ['220 ', null],
    [null, null],
  ])('a greeting of a stranger is a name or nothing: %j', (greeting, expected) => {
    expect(counted({ code: 'tlsa-mismatch', greeting }).failure?.greeting).toBe(expected);
  });

  test('of a heap of records only as many are kept as a report can bear', () => {
    const records = Array.from({ length: 500 }, () => ({ text: EE, usable: true, considered: true, why: null }));
    const { strings } = counted({ tlsa: { records } }).policy;
    expect(strings.join('').length).toBeLessThanOrEqual(8 * 1024);
    expect(strings.length).toBeGreaterThan(100);
  });
});
