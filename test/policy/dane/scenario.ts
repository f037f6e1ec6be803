/**
 * Random chains and TLSA sets for the comparison with OpenSSL: a good PKI in which a few things are changed. All
 * randomness comes from fast-check, so a seed brings a scenario back.
 */
import fc from 'fast-check';
import {
  ANY_PURPOSE,
  alternativeNames,
  authorityKeyId,
  basicConstraints,
  type Certificate,
  CLIENT_AUTH,
  DAY,
  type Digest,
  extendedKeyUsage,
  extension,
  type KeyKind,
  keys,
  keyUsage,
  make,
  NOW,
  name,
  nameConstraints,
  SERVER_AUTH,
  subjectKeyId,
  tlsa,
  tlv,
} from './pki.ts';

const KINDS: readonly KeyKind[] = ['p256', 'p256', 'rsa', 'p384', 'p521', 'ed25519', 'ed448', 'pss'];
/** What is wrong with one certificate; `none` is the good day. */
const FAULTS = [
  'expired',
  'early',
  'no-ca',
  'ca-false',
  'no-cert-sign',
  'no-extensions',
  'version-1',
  'client-only',
  'any-purpose',
  'server-purpose',
  'unknown-critical',
  'unknown-extension',
  'path-0',
  'path-1',
  'sha1',
  'md5',
  'sha224',
  'sha512',
  'foreign-signature',
  'broken-signature',
  'wrong-key-id',
  'permits-example',
  'permits-other',
  'excludes-example',
  'excludes-other',
  'permits-directory',
  'critical-key-id',
  'two-basic-constraints',
] as const;
export type Fault = 'none' | (typeof FAULTS)[number];

export interface Level {
  readonly kind: KeyKind;
  readonly pss: boolean;
  readonly authorityKey: 'none' | 'keyid' | 'issuer' | 'both';
  readonly subjectKey: boolean;
  readonly fault: Fault;
}

const NAMINGS = [
  'san',
  'san',
  'san',
  'san-other',
  'cn-only',
  'cn-behind-san',
  'cn-behind-email',
  'wildcard',
  'wildcard-cn',
  'wildcard-top',
  'upper',
  'wildcard-inside',
  'nul',
  'ip',
] as const;

const SHUFFLES = [
  'none',
  'none',
  'no-root',
  'no-first-issuer',
  'reverse',
  'duplicates',
  'stranger',
  'leaf-only',
  'leaf-twice',
] as const;

export interface ChainPlan {
  /** Leaf first. */
  readonly levels: readonly Level[];
  readonly naming: (typeof NAMINGS)[number];
  readonly shuffle: (typeof SHUFFLES)[number];
  readonly selfSignedLeaf: boolean;
}

export interface SetPlan {
  readonly records: readonly { readonly target: number; readonly numbers: string; readonly wrong: boolean }[];
  readonly name: string;
  readonly at: number;
}

const mostly = <Value>(usual: Value, others: readonly Value[], weight = 8): fc.Arbitrary<Value> =>
  fc.oneof({ weight, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: fc.constantFrom(...others) });

const level: fc.Arbitrary<Level> = fc.record({
  kind: fc.constantFrom(...KINDS),
  pss: mostly(false, [true], 4),
  authorityKey: fc.constantFrom(
    'none' as const,
    'keyid' as const,
    'keyid' as const,
    'issuer' as const,
    'both' as const,
  ),
  subjectKey: mostly(true, [false], 4),
  fault: mostly<Fault>('none', FAULTS, 4),
});

export const chainPlan: fc.Arbitrary<ChainPlan> = fc.record({
  levels: fc.array(level, { minLength: 2, maxLength: 5 }),
  naming: fc.constantFrom(...NAMINGS),
  shuffle: fc.constantFrom(...SHUFFLES),
  selfSignedLeaf: mostly(false, [true], 9),
});

const NUMBERS = [
  '3 1 1',
  '3 1 2',
  '3 1 0',
  '3 0 1',
  '3 0 2',
  '3 0 0',
  '2 0 1',
  '2 0 2',
  '2 0 0',
  '2 1 1',
  '2 1 2',
  '2 1 0',
];

export const setPlan: fc.Arbitrary<SetPlan> = fc.record({
  records: fc.array(
    fc.record({
      target: fc.nat({ max: 5 }),
      numbers: fc.oneof(
        { weight: 8, arbitrary: fc.constantFrom(...NUMBERS) },
        { weight: 1, arbitrary: fc.constantFrom('3 2 1', '3 1 3', '4 1 1', '2 1 255') },
      ),
      wrong: mostly(false, [true], 3),
    }),
    { minLength: 1, maxLength: 4 },
  ),
  name: fc.oneof(
    { weight: 5, arbitrary: fc.constant('mx.example.nl') },
    { weight: 1, arbitrary: fc.constantFrom('other.example.nl', 'example.nl', 'a.mx.example.nl', 'foo.nl') },
  ),
  at: mostly(NOW, [NOW + 100 * DAY, NOW - 100 * DAY, NOW + 2000 * DAY], 10),
});

export interface BuiltChain {
  readonly sent: readonly [Certificate, ...Certificate[]];
  /** Leaf first, root last, whatever is sent. */
  readonly path: readonly [Certificate, ...Certificate[]];
}

export function buildChain(plan: ChainPlan): BuiltChain {
  const levels = plan.selfSignedLeaf ? plan.levels.slice(0, 1) : plan.levels;
  let issuer: Certificate | null = null;
  const path: Certificate[] = [];
  for (const [index, one] of [...levels.entries()].reverse()) {
    issuer = certificate(one, index, issuer, plan.naming);
    path.unshift(issuer);
  }
  const [leaf, ...others] = path;
  if (leaf === undefined) throw new Error('a chain has a leaf');
  return { sent: [leaf, ...shuffled(others, leaf, plan.shuffle)], path: [leaf, ...others] };
}

function certificate(
  level: Level,
  depth: number,
  issuer: Certificate | null,
  naming: ChainPlan['naming'],
): Certificate {
  const own = keys(`${depth}`, level.kind);
  const isLeaf = depth === 0;
  const { fault } = level;
  const basic = isLeaf
    ? basicConstraints(false)
    : basicConstraints(true, fault === 'path-0' ? 0 : fault === 'path-1' ? 1 : undefined);
  const extensions: Buffer[] = [];
  if (fault === 'ca-false') extensions.push(basicConstraints(false));
  else if (fault !== 'no-ca') extensions.push(basic);
  if (fault === 'two-basic-constraints') extensions.push(basic);
  if (fault === 'no-cert-sign') extensions.push(keyUsage(6));
  else extensions.push(isLeaf ? keyUsage(0, 2) : keyUsage(5, 6));
  if (level.subjectKey) extensions.push(subjectKeyId(own.spki));
  if (issuer) extensions.push(...authorityKeyId(fault === 'wrong-key-id' ? 'wrong' : level.authorityKey, issuer));
  const extra = EXTRA[fault];
  if (extra) extensions.push(extra());
  const { subject, names } = namesFor(naming, depth);
  if (isLeaf) extensions.push(...names);
  const version = fault === 'version-1' ? 1 : 3;
  return make({
    subject,
    keys: own,
    issuer,
    version,
    notBefore: fault === 'early' ? NOW + DAY : NOW - 30 * DAY,
    notAfter: fault === 'expired' ? NOW - DAY : NOW + (isLeaf ? 60 : 900) * DAY,
    extensions: fault === 'no-extensions' ? names.filter(() => isLeaf) : extensions,
    digest: (DIGESTS as readonly string[]).includes(fault) ? (fault as Digest) : 'sha256',
    pss: level.pss,
    breakSignature: fault === 'broken-signature',
    ...(fault === 'foreign-signature' ? { signer: keys('stranger', 'p256') } : {}),
  });
}

const DIGESTS: readonly Digest[] = ['sha1', 'md5', 'sha224', 'sha512'];

const EXTRA: Readonly<Partial<Record<Fault, () => Buffer>>> = {
  'client-only': () => extendedKeyUsage(CLIENT_AUTH),
  'any-purpose': () => extendedKeyUsage(ANY_PURPOSE),
  'server-purpose': () => extendedKeyUsage(CLIENT_AUTH, SERVER_AUTH),
  'unknown-critical': () => extension('1.3.6.1.4.1.55555.1', tlv(0x05), true),
  'unknown-extension': () => extension('1.3.6.1.4.1.55555.1', tlv(0x05)),
  'permits-example': () => nameConstraints(['dns:example.nl']),
  'permits-other': () => nameConstraints(['dns:example.org']),
  'excludes-example': () => nameConstraints([], ['dns:example.nl']),
  'excludes-other': () => nameConstraints([], ['dns:example.org', 'email:example.nl']),
  'permits-directory': () => nameConstraints(['dir:CA 1']),
  'critical-key-id': () => extension('2.5.29.14', tlv(0x04, Buffer.alloc(20)), true),
};

function namesFor(
  naming: ChainPlan['naming'],
  depth: number,
): { readonly subject: Buffer; readonly names: readonly Buffer[] } {
  if (depth > 0) return { subject: name(['2.5.4.6', 'NL', 0x13], `CA ${depth}`), names: [] };
  const host = 'mx.example.nl';
  switch (naming) {
    case 'san':
      return { subject: name(), names: [alternativeNames(`dns:${host}`)] };
    case 'san-other':
      return { subject: name(), names: [alternativeNames('dns:www.example.nl', 'dns:other.example.nl')] };
    case 'cn-only':
      return { subject: name(host), names: [] };
    case 'cn-behind-san':
      return { subject: name(host), names: [alternativeNames('dns:www.example.nl')] };
    case 'cn-behind-email':
      return { subject: name('something else', host), names: [alternativeNames('email:postmaster@example.nl')] };
    case 'wildcard':
      return { subject: name(), names: [alternativeNames('dns:*.example.nl')] };
    case 'wildcard-cn':
      return { subject: name('*.example.nl'), names: [] };
    case 'wildcard-top':
      return { subject: name(), names: [alternativeNames('dns:*.nl', 'dns:*')] };
    case 'upper':
      return { subject: name(), names: [alternativeNames('dns:MX.Example.NL')] };
    case 'wildcard-inside':
      return { subject: name(), names: [alternativeNames('dns:mx.*.nl', 'dns:m*x.example.nl', 'dns:*.*.nl')] };
    case 'nul':
      return { subject: name(host), names: [alternativeNames('dns:mx.example.nl\0.evil.org')] };
    case 'ip':
      return { subject: name(host), names: [alternativeNames('ip:c0000201')] };
  }
}

function shuffled(
  others: readonly Certificate[],
  leaf: Certificate,
  shuffle: ChainPlan['shuffle'],
): readonly Certificate[] {
  switch (shuffle) {
    case 'none':
      return others;
    case 'no-root':
      return others.slice(0, -1);
    case 'no-first-issuer':
      return others.slice(1);
    case 'reverse':
      return others.toReversed();
    case 'duplicates':
      return others.flatMap((one) => [one, one]);
    case 'stranger':
      return others.flatMap((one) => [stranger(), one]);
    case 'leaf-only':
      return [];
    case 'leaf-twice':
      return [leaf, ...others];
  }
}

let unrelated: Certificate | null = null;

export function stranger(): Certificate {
  unrelated ??= make({
    subject: name('Stranger'),
    keys: keys('stranger'),
    issuer: null,
    extensions: [basicConstraints(true), subjectKeyId(keys('stranger').spki)],
  });
  return unrelated;
}

export function recordsOf({ records }: SetPlan, { path }: BuiltChain): readonly string[] {
  return records.map(({ target, numbers, wrong }) => {
    const text = tlsa(numbers, path[target] ?? stranger());
    // The last digit is in the digest, or at the end of the signature or key.
    return wrong ? text.slice(0, -1) + (text.endsWith('0') ? '1' : '0') : text;
  });
}
