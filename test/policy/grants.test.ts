/** What the operator can grant where DANE fails, and that nothing else weakens anything. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Location, MxFacts, NextHop } from '../../src/model/route.ts';
import type { StsPolicy } from '../../src/model/sts.ts';
import type {
  Grant,
  HostFacts,
  InsecureMx,
  StrictPolicy,
  TlsaFindings,
  TlsPolicy,
  TlsRule,
} from '../../src/model/tls-policy.ts';
import { asksForTlsa, decide } from '../../src/policy/decide.ts';
import { withGrant } from '../../src/policy/grants.ts';

const HOST = 'mx.example.nl';
const record = { usage: 3, selector: 1, matching: 1, data: Buffer.alloc(32, 7) };
const RULES = ['dane', 'dane-only', 'encrypt', 'verify', 'pin', 'may'] as const satisfies readonly TlsRule[];

const found: TlsaFindings = {
  name: `_25._tcp.${HOST}`,
  dnssec: 'secure',
  base: HOST,
  records: [],
  considered: [record],
  failure: null,
};
const TLSA = {
  usable: found,
  unusable: { ...found, considered: [] },
  none: { ...found, base: null, considered: [] },
  failed: { ...found, base: null, considered: [], dnssec: 'error', failure: 'SERVFAIL' },
} as const satisfies Record<string, TlsaFindings>;

const facts = (tls: TlsRule, tlsa: TlsaFindings | null = found, change: Partial<HostFacts> = {}): HostFacts => ({
  destination: { tls, pins: ['sha256/rule='], nextHop: { kind: 'domain', domain: 'example.nl', port: 25 } },
  mx: { kind: 'mx', dnssec: 'secure', expanded: null },
  host: { name: HOST, preference: 10, unusable: null },
  location: { kind: 'found', addresses: ['192.0.2.1'], dnssec: 'secure', bases: [HOST] },
  tlsa,
  sts: null,
  ...change,
});

const exception: Grant = { kind: 'exception', id: 'x1', owner: 'Jan', reason: 'renewal', until: 9, pins: [] };
const pinned: Grant = { ...exception, pins: ['sha256/seen='] };
const report: Grant = { kind: 'report', until: 9 };

/** `except: dane, else encrypt`: what is tried first and what is enough. */
function story(tls: TlsRule, tlsa: TlsaFindings, grant: Grant): string {
  const given = facts(tls, tlsa);
  const asks = asksForTlsa('dane')(given);
  const policy = withGrant(decide('dane')(asks ? given : { ...given, tlsa: null }), given, grant);
  if (policy.kind !== 'except' && policy.kind !== 'report') return nameOf(policy);
  return `${policy.kind}: ${nameOf(policy.strict)}, else ${policy.enough.map(nameOf).join(' and ')}`;
}

const nameOf = (policy: TlsPolicy): string => {
  if (policy.kind === 'skip') return policy.trouble.code;
  return 'dane' in policy && policy.dane ? `${policy.kind} with dane` : policy.kind;
};

describe('POL-03 POL-04 what is tried first, and what is enough where that fails', () => {
  test.each<[TlsRule, keyof typeof TLSA, string, string, string]>([
    ['dane', 'usable', 'except: dane, else encrypt', 'except: dane, else pin', 'report: dane, else may'],
    ['dane', 'unusable', 'encrypt', 'encrypt', 'report: encrypt, else may'],
    ['dane', 'none', 'may', 'may', 'may'],
    [
      'dane',
      'failed',
      'except: tlsa-lookup-failed, else encrypt',
      'except: tlsa-lookup-failed, else pin',
      'report: tlsa-lookup-failed, else may',
    ],
    [
      'dane-only',
      'none',
      'except: dane-only-no-tlsa, else encrypt',
      'except: dane-only-no-tlsa, else pin',
      'report: dane-only-no-tlsa, else may',
    ],
    ['encrypt', 'usable', 'except: dane, else encrypt', 'except: dane, else pin', 'report: dane, else encrypt'],
    ['encrypt', 'none', 'encrypt', 'encrypt', 'encrypt'],
    [
      'verify',
      'usable',
      'except: verify with dane, else verify',
      'except: verify with dane, else verify and pin',
      'report: verify with dane, else verify',
    ],
    ['verify', 'none', 'verify', 'verify', 'verify'],
    [
      'pin',
      'usable',
      'except: pin with dane, else pin',
      'except: pin with dane, else pin and pin',
      'report: pin with dane, else pin',
    ],
    ['may', 'usable', 'may', 'may', 'may'],
  ])('rule %s, TLSA %s', (tls, tlsa, byException, byPin, byReport) => {
    expect(story(tls, TLSA[tlsa], exception)).toBe(byException);
    expect(story(tls, TLSA[tlsa], pinned)).toBe(byPin);
    expect(story(tls, TLSA[tlsa], report)).toBe(byReport);
  });

  test('MTA-STS is not let off with DANE', () => {
    const policy: StsPolicy = { mode: 'enforce', mx: [HOST], maxAge: 86_400, lines: [] };
    const sts = { kind: 'policy', domain: 'example.nl', id: '1', fetchedAt: 0, policy, failure: null } as const;
    for (const [mx, kind] of [
      [[HOST], 'sts'],
      [['other.example'], null],
    ] as const) {
      const given = facts('dane', found, { sts: { ...sts, policy: { ...policy, mx } } });
      const strict = decide('dane')(given);
      expect(strict.kind).toBe('dane');
      for (const grant of [exception, report]) {
        const granted = withGrant(strict, given, grant);
        // STS-02: what DANE proves needs no listing, with a grant as without.
        if (kind === null) expect(granted).toBe(strict);
        else expect(granted).toMatchObject({ strict: { kind: 'dane' }, enough: [{ kind }] });
      }
    }
  });

  test('POL-03 TLS that insecureMx: encrypt demands because of records is not demanded while failures are only reported', () => {
    const given = facts('dane', found, { mx: { kind: 'mx', dnssec: 'insecure', expanded: null } });
    const strict = decide('encrypt')(given);
    expect(strict).toMatchObject({ kind: 'encrypt', code: 'mx-insecure' });
    expect(withGrant(strict, given, report)).toMatchObject({ kind: 'report', strict, enough: [{ kind: 'may' }] });
    expect(withGrant(strict, given, exception)).toBe(strict);
  });

  test('what has nothing to do with DANE stops mail as ever', () => {
    const skips = ['mx-lookup-failed', 'address-lookup-failed', 'host-without-address', 'host-name-illegal'] as const;
    for (const code of [...skips, 'verify-literal', 'loop-to-self'] as const) {
      const policy: StrictPolicy = { kind: 'skip', trouble: { code, detail: '' } };
      for (const grant of [exception, pinned, report]) expect(withGrant(policy, facts('dane'), grant)).toBe(policy);
    }
  });

  test('an address has no DANE that could be broken: no exception covers it, report-only does', () => {
    const policy: StrictPolicy = { kind: 'skip', trouble: { code: 'dane-only-literal', detail: '' } };
    const given = facts('dane-only', null);
    const at: HostFacts = { ...given, destination: { ...given.destination, nextHop: literal } };
    expect(withGrant(policy, at, exception)).toBe(policy);
    expect(withGrant(policy, at, report)).toMatchObject({
      kind: 'report',
      sni: null,
      enough: [{ kind: 'may', sni: null }],
    });
  });

  test('a resolver that does not validate is our own fault: no exception covers it, report-only does', () => {
    const policy: StrictPolicy = { kind: 'skip', trouble: { code: 'resolver-untrusted', detail: '' } };
    expect(withGrant(policy, facts('dane'), exception)).toBe(policy);
    expect(withGrant(policy, facts('dane'), report)).toMatchObject({ kind: 'report', enough: [{ kind: 'may' }] });
  });
});

const literal: NextHop = { kind: 'literal', address: '192.0.2.1', port: 25 };
const anyFacts = fc.record({
  insecureMx: fc.constantFrom<InsecureMx>('dane', 'encrypt', 'may'),
  mx: fc.record({
    kind: fc.constantFrom<MxFacts['kind']>('mx', 'implicit', 'route', 'literal', 'failed'),
    dnssec: fc.constantFrom('secure' as const, 'insecure' as const, 'error' as const, null),
    expanded: fc.constantFrom(null, 'other.example'),
  }),
  nextHop: fc.constantFrom<NextHop>({ kind: 'domain', domain: 'example.nl', port: 25 }, literal),
  location: fc.constantFrom<Location | null>(
    null,
    { kind: 'failed', reason: 'SERVFAIL' },
    { kind: 'absent', dnssec: 'secure' },
    { kind: 'found', addresses: ['192.0.2.1'], dnssec: 'secure', bases: [HOST] },
    { kind: 'found', addresses: ['192.0.2.1'], dnssec: 'secure', bases: ['base.example', HOST] },
    { kind: 'found', addresses: ['192.0.2.1'], dnssec: 'insecure', bases: [] },
  ),
  tlsa: fc.constantFrom<TlsaFindings | null>(null, ...Object.values(TLSA)),
  unusable: fc.constantFrom(null, { code: 'own-host' as const, detail: '' }),
});
type Any = typeof anyFacts extends fc.Arbitrary<infer Value> ? Value : never;

const factsFor = (tls: TlsRule, { mx, nextHop, location, tlsa, unusable }: Any): HostFacts => ({
  ...facts(tls, tlsa),
  destination: { tls, pins: ['sha256/rule='], nextHop },
  mx,
  host: { name: HOST, preference: 10, unusable },
  location,
});

/** All that a policy demands of a host before it gets mail; null where it gets none at all. */
function demands(policy: StrictPolicy): ReadonlySet<string> | null {
  switch (policy.kind) {
    case 'skip':
      return null;
    case 'may':
      return new Set();
    case 'encrypt':
      return new Set(['tls']);
    case 'dane':
      return new Set(['tls', 'dane']);
    case 'verify':
    case 'sts':
    case 'pin':
      return new Set(['tls', policy.kind, ...(policy.dane ? ['dane'] : [])]);
  }
}

test('without an exception or report-only no rule but may is ever weaker than dane', () => {
  fc.assert(
    fc.property(fc.constantFrom(...RULES), anyFacts, (tls, any) => {
      if (tls === 'may') return;
      const judge = decide(any.insecureMx);
      const policy = withGrant(judge(factsFor(tls, any)), factsFor(tls, any), null);
      if ('strict' in policy) throw new Error('weakened without a grant');
      const [ours, dane] = [demands(policy), demands(judge(factsFor('dane', any)))];
      if (dane === null) expect(ours).toBeNull();
      else if (ours !== null) expect([...dane].filter((demand) => !ours.has(demand))).toEqual([]);
    }),
    { numRuns: 2_000 },
  );
});

test('POL-04 under an exception nothing leaves in the clear where DANE or the rule demands TLS, and DANE is tried first', () => {
  fc.assert(
    fc.property(fc.constantFrom(...RULES), anyFacts, fc.constantFrom(exception, pinned, report), (tls, any, grant) => {
      const given = factsFor(tls, any);
      const strict = decide(any.insecureMx)(given);
      const policy = withGrant(strict, given, grant);
      if (policy === strict) return;
      if (policy.kind !== 'except' && policy.kind !== 'report') throw new Error('another policy altogether');
      expect(policy.strict).toBe(strict);
      const enough = new Set(policy.enough.map(({ kind }) => kind));
      if (grant.kind === 'exception') expect(enough.has('may')).toBe(false);
      if (grant === pinned) expect(enough.has('pin')).toBe(true);
      // The rule itself is not weakened.
      if (tls === 'verify' || tls === 'pin') expect(enough.has(tls)).toBe(true);
      if (tls === 'encrypt') expect(enough.has('may')).toBe(false);
    }),
    { numRuns: 2_000 },
  );
});
