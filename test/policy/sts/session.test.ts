/** What a TLS report is told of a session under `sts`, also where MTA-STS decided nothing. */
import { beforeAll, describe, expect, test } from 'vitest';
import { chainOfThree, type Identity, leafUnder, publicAuthority, selfSigned } from '../../../lab/certificates.ts';
import type { SessionEnd } from '../../../src/model/delivery.ts';
import type { ReasonCode } from '../../../src/model/reasons.ts';
import type { StsFindings } from '../../../src/model/sts.ts';
import type { TlsPolicy } from '../../../src/model/tls-policy.ts';
import { judgeByAuthorities, stsSession } from '../../../src/policy/sts/session.ts';

const HOST = 'mx.example.nl';
const LINES = ['version: STSv1', 'mode: enforce', `mx: ${HOST}`, 'max_age: 86400'];

let authority: Identity;
const chains = new Map<string, readonly Buffer[]>();

beforeAll(async () => {
  authority = await publicAuthority();
  const expired = await chainOfThree([HOST], { expired: true });
  const within = await chainOfThree([HOST]);
  const made = {
    good: await leafUnder(authority, HOST, [HOST]),
    'another name': await leafUnder(authority, 'x.example.nl', ['x.example.nl']),
    'common name only': await leafUnder(authority, HOST, []),
    'signs itself': await selfSigned(HOST),
    'out of time': expired.leaf,
    'through an intermediate': within.leaf,
  };
  for (const [name, { chain }] of Object.entries(made)) chains.set(name, sent(chain));
  roots.push(...[authority, expired.root, within.root].map(({ certificate }) => certificate.toString('pem')));
});
const roots: string[] = ['no certificate'];

/** What a server sends, without the root. */
function sent(chain: string): readonly Buffer[] {
  const certificates = chain.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  const der = certificates.map((pem) => Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64'));
  return der.length > 1 ? der.slice(0, -1) : der;
}

function policyIn(mode: 'enforce' | 'testing' | 'none', mx = HOST): StsFindings {
  const policy = { mode, mx: [mx], maxAge: 86_400, lines: LINES };
  return { kind: 'policy', domain: 'example.nl', policy, id: '1', fetchedAt: 0, failure: null };
}

interface Day {
  readonly sts?: StsFindings | null;
  readonly certificate?: string | null;
  readonly code?: ReasonCode;
  readonly dialled?: boolean;
  readonly policy?: TlsPolicy;
  readonly grade?: 'good' | 'insufficient';
}

const free: TlsPolicy = { kind: 'may', code: 'tlsa-absent', sni: HOST };
const enforced: TlsPolicy = {
  kind: 'sts',
  code: 'sts-enforce',
  sni: HOST,
  names: [HOST],
  wholePath: true,
  dane: null,
};

function endOf({
  sts = policyIn('enforce'),
  certificate = 'good',
  code = 'dane-ee',
  dialled = true,
  policy = free,
  grade = 'good',
}: Day): SessionEnd {
  const tls = certificate === null ? null : { version: 'TLSv1.3', cipher: 'X', group: null, grade };
  const connection = {
    address: '192.0.2.1',
    verdict: 'authenticated',
    record: null,
    depth: null,
    tls,
    code,
    reason: '',
  } as const;
  const opened = { localAddress: null, greeting: null, chain: chains.get(certificate ?? '') ?? [] };
  return {
    destination: { tls: 'dane', pins: [], nextHop: { kind: 'domain', domain: 'example.nl', port: 25 } },
    mx: { kind: 'mx', dnssec: 'secure', expanded: null },
    plan: {
      host: { name: HOST, preference: 10, unusable: null },
      location: null,
      tlsa: null,
      sts,
      policy,
    },
    dialled: dialled ? { connection, opened } : null,
    trouble: dialled ? null : { code, detail: '' },
  };
}

function story(day: Day): string {
  const session = stsSession(
    endOf(day),
    judgeByAuthorities(() => roots, Date.now),
  );
  return session === null ? 'nothing' : `${session.mode ?? 'no policy'}: ${session.trouble?.code ?? 'success'}`;
}

const fetchFailed: StsFindings = {
  kind: 'none',
  domain: 'example.nl',
  why: '',
  failure: { type: 'sts-policy-fetch-error', detail: '404' },
};

describe('STS-02 STS-08 what is counted', () => {
  test.each<[string, Day, string]>([
    ['a valid certificate', {}, 'enforce: success'],
    ['a valid one through an intermediate', { certificate: 'through an intermediate' }, 'enforce: success'],
    ['DANE fits, the certificate signs itself', { certificate: 'signs itself' }, 'enforce: webpki-not-trusted'],
    ['DANE fits, the certificate is out of time', { certificate: 'out of time' }, 'enforce: webpki-expired'],
    ['enforced, and proven', { policy: enforced, code: 'webpki-matched' }, 'enforce: success'],
    [
      'enforced, and not proven',
      { policy: enforced, code: 'webpki-not-trusted', certificate: 'signs itself' },
      'enforce: webpki-not-trusted',
    ],
    ['another name', { certificate: 'another name' }, 'enforce: webpki-name-mismatch'],
    ['the name as common name only', { certificate: 'common name only' }, 'enforce: webpki-name-mismatch'],
    ['not listed', { sts: policyIn('enforce', 'mx.other.nl') }, 'enforce: sts-mx-not-listed'],
    ['testing, not listed', { sts: policyIn('testing', 'mx.other.nl') }, 'testing: sts-mx-not-listed'],
    ['testing, signs itself', { sts: policyIn('testing'), certificate: 'signs itself' }, 'testing: webpki-not-trusted'],
    ['in the clear', { certificate: null, code: 'clear-not-offered' }, 'enforce: clear-not-offered'],
    ['no handshake', { certificate: null, code: 'tls-handshake-failed' }, 'enforce: tls-handshake-failed'],
    [
      'enforced, over TLS that is insufficient',
      { policy: enforced, code: 'tls-too-weak', grade: 'insufficient' },
      'enforce: tls-too-weak',
    ],
    [
      'testing, over TLS that is insufficient',
      { sts: policyIn('testing'), code: 'encrypted-opportunistic', grade: 'insufficient' },
      'testing: tls-too-weak',
    ],
    [
      'signs itself, over TLS that is insufficient',
      { certificate: 'signs itself', grade: 'insufficient' },
      'enforce: webpki-not-trusted',
    ],
    ['a policy that could not be fetched', { sts: fetchFailed }, 'no policy: sts-policy-fetch-error'],
    ['mode none', { sts: policyIn('none') }, 'nothing'],
    ['no MTA-STS', { sts: null }, 'nothing'],
    ['kept back by DANE', { dialled: false, code: 'tlsa-lookup-failed' }, 'nothing'],
    [
      'kept back by MTA-STS',
      { dialled: false, code: 'sts-mx-not-listed', sts: policyIn('enforce', 'mx.other.nl') },
      'enforce: sts-mx-not-listed',
    ],
  ])('%s', (_, day, expected) => {
    expect(story(day)).toBe(expected);
  });

  test('with the text of the policy, as a report quotes it', () => {
    const session = stsSession(
      endOf({}),
      judgeByAuthorities(() => roots, Date.now),
    );
    expect(session).toMatchObject({ domain: 'example.nl', lines: LINES, mx: [HOST] });
  });
});
