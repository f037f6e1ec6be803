/** Each row is a good day with one thing changed. The PKI: Root ← CA ← mx.example.nl, all of them sent. */
import { createHash, createPublicKey, X509Certificate } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { bad, HOST, judge, type Scene, verdictOn } from './judge.ts';
import {
  ANY_PURPOSE,
  alternativeNames,
  basicConstraints,
  type Certificate,
  CLIENT_AUTH,
  ca,
  DAY,
  extendedKeyUsage,
  extension,
  type KeyKind,
  keys,
  keyUsage,
  leaf,
  NOW,
  name,
  nameConstraints,
  oid,
  type Recipe,
  SERVER_AUTH,
  sequence,
  tlsa,
  tlv,
} from './pki.ts';

const root = ca('Root', null);
const inter = ca('CA', root);
const mx = leaf(HOST, inter);
const chain = [mx, inter, root];
const own = leaf(HOST, null);

const other = leaf('other.example.org', ca('Other root', null));
/** The good leaf with something changed, and its chain. */
const withLeaf = (change: Partial<Recipe>): Certificate[] => [leaf(HOST, inter, change), inter, root];
const withInter = (change: Partial<Recipe>): Certificate[] => {
  const changed = ca('CA', root, change);
  return [leaf(HOST, changed), changed, root];
};
const withRoot = (change: Partial<Recipe>): Certificate[] => {
  const changed = ca('Root', null, change);
  const below = ca('CA', changed);
  return [leaf(HOST, below), below, changed];
};
const at = (sent: readonly Certificate[], depth: number): Certificate => sent[depth] ?? mx;

type Row = readonly [title: string, scene: Scene, verdict: string];
const rows = (table: readonly Row[]): void =>
  test.each(table)('%s', (_, scene, verdict) => {
    expect(judge(scene)).toBe(verdict);
  });

describe('DANE-EE (RFC 7672 §3.1.1)', () => {
  rows([
    ...['3 1 1', '3 1 2', '3 1 0', '3 0 1', '3 0 2', '3 0 0'].map(
      (numbers): Row => [`EE-01 ${numbers} of the certificate`, { chain, records: [tlsa(numbers, mx)] }, 'dane-ee 0'],
    ),
    ['CONN-02 another certificate', { chain, records: [tlsa('3 1 1', other)] }, 'tlsa-mismatch'],
    ['EE-02 another name', { chain, records: [tlsa('3 1 1', mx)], names: ['elsewhere.org'] }, 'dane-ee 0'],
    ['EE-02 no name at all', { chain, records: [tlsa('3 1 1', mx)], names: [] }, 'dane-ee 0'],
    ...(
      [
        ['EE-02 empty subject and no SAN', { subject: name(), extensions: [] }],
        ['EE-03 expired', { notAfter: NOW - DAY }],
        ['EE-03 not yet valid', { notBefore: NOW + DAY }],
        ['EE-03 ends before it begins', { notBefore: NOW + DAY, notAfter: NOW - DAY }],
        ['EE-04 extended key usage of a client', { extensions: [extendedKeyUsage(CLIENT_AUTH)] }],
        ['EE-04 a CA', { extensions: [basicConstraints(true), keyUsage(5)] }],
        ['EE-04 unknown critical extension', { extensions: [extension('1.2.3.4', tlv(5), true)] }],
        ['EE-04 extensions that cannot be read', { extensions: [sequence(oid('2.5.29.17'))] }],
        ['EE-04 SHA-1 signature', { keys: keys('r', 'rsa'), digest: 'sha1', signer: keys('r2', 'rsa') }],
        ['EE-04 MD5 signature', { keys: keys('r', 'rsa'), digest: 'md5', signer: keys('r2', 'rsa') }],
        ['EE-04 broken signature', { breakSignature: true }],
      ] satisfies [string, Partial<Recipe>][]
    ).map(([title, change]): Row => {
      const sent = withLeaf(change);
      return [title, { chain: sent, records: [tlsa('3 1 1', at(sent, 0))] }, 'dane-ee 0'];
    }),
    [
      'EE-09 EE-04 issuing certificates missing, nothing to ask about revocation',
      { chain: [mx], records: [tlsa('3 0 1', mx)] },
      'dane-ee 0',
    ],
    ['EE-05 only the intermediate matches', { chain, records: [tlsa('3 1 1', inter)] }, 'tlsa-mismatch'],
    ['EE-05 only the root matches', { chain, records: [tlsa('3 0 1', root)] }, 'tlsa-mismatch'],
    ['EE-06 the leaf is not the first', { chain: [inter, mx, root], records: [tlsa('3 1 1', mx)] }, 'tlsa-mismatch'],
    ['EE-10 the RSA one of two keys', { chain, records: [tlsa('3 1 1', other), tlsa('3 1 1', mx)] }, 'dane-ee 0'],
    [
      'USE-02 a PKIX record does not rescue',
      { chain, records: [tlsa('1 1 1', mx), tlsa('3 1 1', other)] },
      'tlsa-mismatch',
    ],
    [
      'USE-02 OPS-03 a PKIX record does not spoil',
      { chain, records: [tlsa('1 1 1', other), tlsa('3 1 1', mx)] },
      'dane-ee 0',
    ],
    ['USE-08 one malformed, one good', { chain, records: ['3 1 1 ab', tlsa('3 1 1', mx)] }, 'dane-ee 0'],
    ['USE-08 all malformed', { chain, records: ['3 1 1 ab', '3 1 1'] }, 'tlsa-no-usable-record'],
    ['USE-10 twice the same', { chain, records: [tlsa('3 1 1', mx), tlsa('3 1 1', mx)] }, 'dane-ee 0'],
    ['USE-11 in capitals', { chain, records: [tlsa('3 1 1', mx).toUpperCase()] }, 'dane-ee 0'],
    ['no certificate was sent (CONN-12)', { chain: [], records: [tlsa('3 1 1', mx)] }, 'tlsa-bad-chain'],
  ]);

  test('EE-07 the key is compared as it is encoded: RSA without NULL parameters', () => {
    const { spki } = keys('r', 'rsa');
    const bare = sequence(sequence(oid('1.2.840.113549.1.1.1')), tlv(0x03, spki.subarray(spki.length - 271)));
    expect(createPublicKey({ key: bare, format: 'der', type: 'spki' }).export({ type: 'spki', format: 'der' })).toEqual(
      spki,
    );
    const sent = leaf(HOST, inter, { spki: bare });
    expect(judge({ chain: [sent], records: [tlsa('3 1 1', sent, bare)] })).toBe('dane-ee 0');
    expect(judge({ chain: [sent], records: [tlsa('3 1 1', sent, spki)] })).toBe('tlsa-mismatch');
  });

  test('EE-08 a key of an algorithm that nobody here knows', () => {
    const strange = sequence(sequence(oid('1.3.6.1.4.1.55555.9')), tlv(0x03, Buffer.from([0, 1, 2, 3])));
    const sent = leaf(HOST, inter, { spki: strange });
    for (const numbers of ['3 1 1', '3 0 1']) {
      expect(judge({ chain: [sent, inter], records: [tlsa(numbers, sent, strange)] })).toBe('dane-ee 0');
    }
    expect(judge({ chain: [sent, inter, root], records: [tlsa('2 1 1', root)] })).toBe('tlsa-not-trusted');
  });
});

describe('DANE-TA (RFC 7672 §3.1.2, RFC 7671 §5.2)', () => {
  const ta = (numbers: string, depth: number, sent: readonly Certificate[], rest: Partial<Scene> = {}): Scene => ({
    chain: sent,
    records: [tlsa(numbers, at(sent, depth))],
    ...rest,
  });
  const attacker = leaf(HOST, ca('Evil', null));
  const rollover = { second: ca('CA', root, { keys: keys('other CA key') }) };
  const bareInter = ca('CA', root, { extensions: [basicConstraints(true), keyUsage(5)] });
  const noKeyIds = leaf(HOST, bareInter, { extensions: [alternativeNames(`dns:${HOST}`)] });
  const fake = ca('CA', null, { keys: keys('fake'), extensions: [basicConstraints(true), keyUsage(5)] });
  const cross = ca('Root', ca('Elsewhere', null), { keys: keys('Root') });
  const deep: Certificate[] = [];
  for (let index = 0; index < 5; index++) deep.unshift(ca(`Deep ${index}`, deep[0] ?? root));

  rows([
    ...['2 0 1', '2 0 2', '2 1 1', '2 1 2', '2 0 0', '2 1 0'].flatMap((numbers): Row[] => [
      [`TA-01 ${numbers} of the root`, ta(numbers, 2, chain), 'dane-ta 2'],
      [`TA-05 ${numbers} of the intermediate, root omitted`, ta(numbers, 1, [mx, inter]), 'dane-ta 1'],
    ]),
    ...['2 0 1', '2 1 1', '2 1 2'].map(
      (numbers): Row => [
        `TA-02 ${numbers}, the anchor not sent`,
        { chain: [mx, inter], records: [tlsa(numbers, root)] },
        'tlsa-mismatch',
      ],
    ),
    ['TA-03 2 0 0 only in DNS', { chain: [mx, inter], records: [tlsa('2 0 0', root)] }, 'dane-ta 2'],
    ['TA-03 2 0 0 of the intermediate only in DNS', { chain: [mx], records: [tlsa('2 0 0', inter)] }, 'dane-ta 1'],
    ['TA-03 two of them in DNS', { chain: [mx], records: [tlsa('2 0 0', root), tlsa('2 0 0', inter)] }, 'dane-ta 1'],
    ['TA-03 2 0 0 of a stranger', { chain: [mx, inter], records: [tlsa('2 0 0', other)] }, 'tlsa-mismatch'],
    ['TA-04 2 1 0 only in DNS', { chain: [mx, inter], records: [tlsa('2 1 0', root)] }, 'dane-ta 2'],
    ['TA-04 2 1 0 only in DNS, leaf alone', { chain: [mx], records: [tlsa('2 1 0', inter)] }, 'dane-ta 1'],
    ['TA-04 2 1 0 that signed nothing', { chain: [mx, inter], records: [tlsa('2 1 0', other)] }, 'tlsa-mismatch'],
    [
      'TA-05 expired root above the anchor',
      (() => {
        const sent = withRoot({ notAfter: NOW - DAY });
        return ta('2 1 1', 1, sent);
      })(),
      'dane-ta 1',
    ],
    [
      'TA-06 the anchor is not the immediate issuer',
      ta('2 0 1', 4, [leaf(HOST, deep[0] ?? root), ...deep]),
      'dane-ta 4',
    ],
    [
      'TA-07 the genuine anchor behind a foreign chain',
      { chain: [attacker, root], records: [tlsa('2 0 1', root)] },
      'tlsa-not-trusted',
    ],
    [
      'TA-07 the same with a self-signed leaf',
      { chain: [own, inter, root], records: [tlsa('2 1 1', root)] },
      'tlsa-not-trusted',
    ],
    [
      'TA-07 a foreign leaf that claims the issuer',
      {
        chain: [leaf(HOST, inter, { signer: keys('Evil') }), inter, root],
        records: [tlsa('2 1 1', root)],
      },
      'tlsa-not-trusted',
    ],
    ['TA-08 wrong order', ta('2 0 1', 1, [mx, root, inter]), 'dane-ta 2'],
    [
      'TA-08 strangers in between',
      { chain: [mx, other, inter, attacker, root], records: [tlsa('2 0 1', root)] },
      'dane-ta 2',
    ],
    [
      'TA-08 everything twice',
      { chain: [mx, mx, inter, inter, root, root], records: [tlsa('2 1 1', root)] },
      'dane-ta 2',
    ],
    [
      'TA-09 cross-signed, the wrong one first',
      { chain: [mx, inter, cross, root], records: [tlsa('2 0 1', root)] },
      'dane-ta 2',
    ],
    [
      'TA-09 the anchor in DNS, only a cross-signed one sent',
      { chain: [mx, inter, cross], records: [tlsa('2 0 0', root)] },
      'dane-ta 2',
    ],
    ['TA-09 the key is what counts', { chain: [mx, inter, cross], records: [tlsa('2 1 1', root)] }, 'dane-ta 2'],
    ...['2 0 1', '2 0 2', '2 0 0', '2 1 1', '2 1 2', '2 1 0'].map(
      (numbers): Row => [`TA-10 ${numbers} of the leaf itself`, ta(numbers, 0, chain), 'tlsa-mismatch'],
    ),
    ...['2 0 1', '2 0 0', '2 1 1', '2 1 2'].flatMap((numbers): Row[] => [
      [`TA-11 ${numbers} of a self-signed leaf`, ta(numbers, 0, [own]), 'tlsa-mismatch'],
      [`TA-11 ${numbers} of a self-signed leaf that is sent twice`, ta(numbers, 0, [own, own]), 'tlsa-mismatch'],
    ]),
    ['TA-11 2 1 0 of a self-signed leaf', ta('2 1 0', 0, [own]), 'dane-ta 1'],
    ['TA-12 expired leaf', ta('2 0 1', 2, withLeaf({ notAfter: NOW - DAY })), 'tlsa-expired'],
    ['TA-12 leaf that is not yet valid', ta('2 0 1', 2, withLeaf({ notBefore: NOW + DAY })), 'tlsa-expired'],
    ['TA-12 expired intermediate', ta('2 0 1', 2, withInter({ notAfter: NOW - DAY })), 'tlsa-expired'],
    ['TA-12 expired anchor 2 0 1', ta('2 0 1', 2, withRoot({ notAfter: NOW - DAY })), 'tlsa-expired'],
    ['TA-12 expired anchor 2 1 1', ta('2 1 1', 2, withRoot({ notAfter: NOW - DAY })), 'tlsa-expired'],
    ['TA-12 expired anchor 2 1 0 that is sent', ta('2 1 0', 2, withRoot({ notAfter: NOW - DAY })), 'tlsa-expired'],
    [
      'TA-12 expired anchor 2 0 0 in DNS',
      (() => {
        const sent = withRoot({ notAfter: NOW - DAY });
        return { chain: sent.slice(0, 2), records: [tlsa('2 0 0', at(sent, 2))] };
      })(),
      'tlsa-expired',
    ],
    [
      'TA-12 bare key of an expired anchor that is not sent',
      (() => {
        const sent = withRoot({ notAfter: NOW - DAY });
        return { chain: sent.slice(0, 2), records: [tlsa('2 1 0', at(sent, 2))] };
      })(),
      'dane-ta 2',
    ],
    [
      'TA-12 the last second of validity',
      { chain, records: [tlsa('2 0 1', root)], at: NOW + 60 * DAY + 999 },
      'dane-ta 2',
    ],
    ['TA-12 one second later', { chain, records: [tlsa('2 0 1', root)], at: NOW + 60 * DAY + 1000 }, 'tlsa-expired'],
    ['TA-12 an end in the year 3015', ta('2 0 1', 2, withLeaf({ notAfter: Date.UTC(3015, 0, 1) })), 'dane-ta 2'],
    [
      'TA-13 intermediate without basicConstraints',
      ta('2 0 1', 2, withInter({ extensions: [keyUsage(5)] })),
      'tlsa-not-trusted',
    ],
    [
      'TA-13 intermediate with CA:FALSE',
      ta('2 0 1', 2, withInter({ extensions: [basicConstraints(false)] })),
      'tlsa-not-trusted',
    ],
    [
      'TA-13 that intermediate as the anchor',
      ta('2 1 1', 1, withInter({ extensions: [basicConstraints(false)] })),
      'tlsa-not-trusted',
    ],
    ['TA-13 an anchor that says nothing of itself', ta('2 1 1', 1, withInter({ extensions: [] })), 'tlsa-not-trusted'],
    [
      'TA-13 an end-entity certificate as issuer',
      { chain: [leaf(HOST, mx), mx, inter, root], records: [tlsa('2 0 1', root)] },
      'tlsa-not-trusted',
    ],
    ['TA-13 root of version 1 as the anchor', ta('2 0 1', 2, withRoot({ version: 1 })), 'dane-ta 2'],
    ['TA-13 intermediate of version 1', ta('2 0 1', 2, withInter({ version: 1 })), 'tlsa-not-trusted'],
    [
      'TA-14 keyUsage of the intermediate without keyCertSign',
      ta('2 0 1', 2, withInter({ extensions: [basicConstraints(true), keyUsage(6)] })),
      'tlsa-not-trusted',
    ],
    [
      'TA-14 keyUsage of the anchor without keyCertSign',
      ta('2 0 1', 2, withRoot({ extensions: [basicConstraints(true), keyUsage(0)] })),
      'tlsa-not-trusted',
    ],
    ...['2 0 1', '2 1 1'].flatMap((numbers): Row[] => [
      [
        `TA-14 path length 0 exceeded, ${numbers}`,
        ta(numbers, 2, withRoot({ extensions: [basicConstraints(true, 0)] })),
        'tlsa-not-trusted',
      ],
      [
        `TA-14 path length 1 kept, ${numbers}`,
        ta(numbers, 2, withRoot({ extensions: [basicConstraints(true, 1)] })),
        'dane-ta 2',
      ],
    ]),
    [
      'TA-14 a self-issued certificate does not count for the path length',
      (() => {
        const top = ca('Root', null, { keys: keys('old root'), extensions: [basicConstraints(true, 0), keyUsage(5)] });
        const self = ca('Root', top, { keys: keys('new root') });
        return ta('2 0 1', 2, [leaf(HOST, self), self, top]);
      })(),
      'dane-ta 2',
    ],
    [
      'TA-15 extended key usage of a client',
      ta('2 0 1', 2, withLeaf({ extensions: [alternativeNames(`dns:${HOST}`), extendedKeyUsage(CLIENT_AUTH)] })),
      'tlsa-not-trusted',
    ],
    [
      'TA-15 extended key usage of any kind',
      ta('2 0 1', 2, withLeaf({ extensions: [alternativeNames(`dns:${HOST}`), extendedKeyUsage(ANY_PURPOSE)] })),
      'dane-ta 2',
    ],
    [
      'TA-15 no extended key usage',
      ta('2 0 1', 2, withLeaf({ extensions: [alternativeNames(`dns:${HOST}`)] })),
      'dane-ta 2',
    ],
    [
      'TA-15 intermediate for clients only',
      ta('2 0 1', 2, withInter({ extensions: [basicConstraints(true), extendedKeyUsage(CLIENT_AUTH)] })),
      'tlsa-not-trusted',
    ],
    [
      'TA-15 intermediate for servers',
      ta('2 0 1', 2, withInter({ extensions: [basicConstraints(true), extendedKeyUsage(CLIENT_AUTH, SERVER_AUTH)] })),
      'dane-ta 2',
    ],
    [
      'TA-15 keyUsage of the leaf that does not allow TLS',
      ta('2 0 1', 2, withLeaf({ extensions: [alternativeNames(`dns:${HOST}`), keyUsage(5)] })),
      'tlsa-not-trusted',
    ],
    [
      'TA-15 unknown critical extension in the leaf',
      ta('2 0 1', 2, withLeaf({ extensions: [alternativeNames(`dns:${HOST}`), extension('1.2.3.4', tlv(5), true)] })),
      'tlsa-not-trusted',
    ],
    [
      'TA-15 unknown critical extension in the intermediate',
      ta('2 0 1', 2, withInter({ extensions: [basicConstraints(true), extension('1.2.3.4', tlv(5), true)] })),
      'tlsa-not-trusted',
    ],
    [
      'TA-15 unknown extension that is not critical',
      ta('2 0 1', 2, withInter({ extensions: [basicConstraints(true), extension('1.2.3.4', tlv(5))] })),
      'dane-ta 2',
    ],
    [
      'TA-15 two basicConstraints',
      ta('2 0 1', 2, withInter({ extensions: [basicConstraints(true), basicConstraints(true)] })),
      'tlsa-not-trusted',
    ],
    ...(
      [
        ['within', nameConstraints(['dns:example.nl']), 'dane-ta 2'],
        ['within, with a dot', nameConstraints(['dns:.example.nl']), 'dane-ta 2'],
        ['outside', nameConstraints(['dns:example.org']), 'tlsa-not-trusted'],
        ['a name that only ends alike', nameConstraints(['dns:xample.nl']), 'tlsa-not-trusted'],
        ['excluded', nameConstraints([], ['dns:mx.example.nl']), 'tlsa-not-trusted'],
        ['excluded elsewhere', nameConstraints([], ['dns:example.org']), 'dane-ta 2'],
        ['for addresses only', nameConstraints(['ip:0a000000ff000000']), 'dane-ta 2'],
        ['for a directory that the names are not in', nameConstraints(['dir:Somewhere']), 'tlsa-not-trusted'],
        ['that cannot be read', extension('2.5.29.30', Buffer.from([1, 2, 3]), true), 'tlsa-not-trusted'],
      ] as const
    ).flatMap(([title, constraint, verdict]): Row[] => [
      [
        `TA-15 name constraints of the anchor: ${title}`,
        ta('2 0 1', 2, withRoot({ extensions: [basicConstraints(true), constraint] })),
        verdict,
      ],
      [
        `TA-15 name constraints of the intermediate: ${title}`,
        ta('2 0 1', 2, withInter({ extensions: [basicConstraints(true), constraint] })),
        verdict,
      ],
    ]),
    [
      'TA-15 an excluded name behind a wildcard',
      ta(
        '2 0 1',
        2,
        (() => {
          const top = ca('Root', null, {
            extensions: [basicConstraints(true), nameConstraints([], ['dns:mx.example.nl'])],
          });
          return [leaf(HOST, top, { extensions: [alternativeNames('dns:*.example.nl')] }), ca('CA', top), top];
        })(),
      ),
      'tlsa-not-trusted',
    ],
    [
      'TA-15 a common name is constrained where it counts as a host name',
      ta(
        '2 0 1',
        1,
        (() => {
          const top = ca('Root', null, { extensions: [basicConstraints(true), nameConstraints(['dns:example.org'])] });
          return [leaf(HOST, top, { extensions: [] }), top];
        })(),
      ),
      'tlsa-not-trusted',
    ],
    ['TA-16 MD5 in the leaf', ta('2 0 1', 2, withLeaf({ digest: 'md5', signer: keys('CA') })), 'tlsa-not-trusted'],
    ['TA-16 SHA-1 in the leaf', ta('2 0 1', 2, withLeaf({ digest: 'sha1' })), 'tlsa-not-trusted'],
    ['TA-16 SHA-1 in the intermediate', ta('2 0 1', 2, withInter({ digest: 'sha1' })), 'tlsa-not-trusted'],
    [
      'TA-16 SHA-1 in the intermediate below a bare key',
      (() => {
        const sent = withInter({ digest: 'sha1' });
        return { chain: sent.slice(0, 2), records: [tlsa('2 1 0', root)] };
      })(),
      'tlsa-not-trusted',
    ],
    ['TA-16 SHA-1 in the anchor itself', ta('2 0 1', 2, withRoot({ digest: 'sha1' })), 'dane-ta 2'],
    ['TA-16 SHA-1 in the intermediate as the anchor', ta('2 0 1', 1, withInter({ digest: 'sha1' })), 'dane-ta 1'],
    ['TA-17 a broken signature on the leaf', ta('2 0 1', 2, withLeaf({ breakSignature: true })), 'tlsa-not-trusted'],
    [
      'TA-17 a broken signature on the intermediate',
      ta('2 0 1', 2, withInter({ breakSignature: true })),
      'tlsa-not-trusted',
    ],
    [
      'TA-17 a signature by a key of another family',
      ta('2 0 1', 2, withLeaf({ signer: keys('r', 'rsa') })),
      'tlsa-not-trusted',
    ],
    ...(
      [
        ['rsa', false, 'sha256'],
        ['rsa', false, 'sha512'],
        ['rsa', true, 'sha256'],
        ['rsa', true, 'sha384'],
        ['pss', true, 'sha512'],
        ['p256', false, 'sha256'],
        ['p384', false, 'sha384'],
        ['p521', false, 'sha512'],
        ['ed25519', false, 'sha256'],
        ['ed448', false, 'sha256'],
      ] satisfies [KeyKind, boolean, Recipe['digest']][]
    ).flatMap(([kind, pss, digest]): Row[] => {
      const signed = (change: Partial<Recipe>): Certificate[] => {
        const top = ca('Root', null, { keys: keys('algorithms', kind), pss, digest });
        return [leaf(HOST, top, { pss, digest, ...change }), top];
      };
      return [
        [`TA-17 ${kind}${pss ? ' PSS' : ''} ${digest}`, ta('2 1 1', 1, signed({})), 'dane-ta 1'],
        [
          `TA-17 ${kind}${pss ? ' PSS' : ''} ${digest}, broken`,
          ta('2 1 1', 1, signed({ breakSignature: true })),
          'tlsa-not-trusted',
        ],
      ];
    }),
    [
      'TA-17 RSA of 1024 bits in an issuer',
      ta('2 1 1', 2, withInter({ keys: keys('small', 'rsa1024') })),
      'tlsa-not-trusted',
    ],
    [
      'TA-17 RSA-PSS over SHA-1',
      ta(
        '2 1 1',
        1,
        (() => {
          const top = ca('Root', null, { keys: keys('r', 'rsa') });
          return [leaf(HOST, top, { pss: true, digest: 'sha1' }), top];
        })(),
      ),
      'tlsa-not-trusted',
    ],
    [
      'TA-19 an issuer of the same name and another key first',
      { chain: [noKeyIds, fake, bareInter, root], records: [tlsa('2 0 1', root)] },
      'dane-ta 2',
    ],
    ['TA-19 only the other key', { chain: [noKeyIds, fake, root], records: [tlsa('2 0 1', fake)] }, 'tlsa-not-trusted'],
    [
      'TA-19 key identifiers tell them apart',
      { chain: [mx, rollover.second, inter, root], records: [tlsa('2 0 1', root)] },
      'dane-ta 2',
    ],
    ['TA-20 EE bad, TA good', { chain, records: [tlsa('3 1 1', other), tlsa('2 0 1', root)] }, 'dane-ta 2'],
    [
      'TA-20 TA bad, EE good, without names',
      { chain, records: [tlsa('2 0 1', other), tlsa('3 1 1', mx)], names: [] },
      'dane-ee 0',
    ],
    [
      'TA-20 TA matches with another name, EE bad',
      { chain, records: [tlsa('2 0 1', root), tlsa('3 1 1', other)], names: ['other.example.nl'] },
      'tlsa-name-mismatch',
    ],
    [
      'ROLL-01 old and new, the server on the old key',
      { chain, records: [tlsa('3 1 1', mx), tlsa('3 1 1', other)] },
      'dane-ee 0',
    ],
    [
      'ROLL-01 old and new, the server on the new key',
      { chain, records: [tlsa('3 1 1', other), tlsa('3 1 1', mx)] },
      'dane-ee 0',
    ],
    [
      'ROLL-02 both keys with both digests',
      { chain, records: ['3 1 1', '3 1 2'].flatMap((n) => [tlsa(n, other), tlsa(n, mx)]) },
      'dane-ee 0',
    ],
    [
      'ROLL-03 current and issuer: renewed by the same issuer',
      { chain: withLeaf({ keys: keys('renewed') }), records: [tlsa('3 1 1', mx), tlsa('2 1 1', inter)] },
      'dane-ta 1',
    ],
    [
      'ROLL-03 current and issuer: the issuer changed, the key stayed',
      { chain: [leaf(HOST, null, { keys: keys(HOST) })], records: [tlsa('3 1 1', mx), tlsa('2 1 1', inter)] },
      'dane-ee 0',
    ],
    ['ROLL-05 only the future key is published', { chain, records: [tlsa('3 1 1', other)] }, 'tlsa-mismatch'],
  ]);

  rows([
    [
      'TA-11 a self-signed leaf beside another certificate of its key',
      (() => {
        const twin = ca(HOST, null, { keys: own.keys, extensions: [basicConstraints(true)] });
        return { chain: [own, twin], records: [tlsa('2 1 1', own), tlsa('2 0 1', twin)] };
      })(),
      'tlsa-not-trusted',
    ],
    [
      'TA-09 ten expired certificates of the same CA before the valid one',
      (() => {
        const above = ca('Above', root);
        const expired = Array.from({ length: 10 }, () => ca('Shared', above, { notAfter: NOW - DAY }));
        const valid = ca('Shared', above);
        return { chain: [leaf(HOST, valid), ...expired, valid, above, root], records: [tlsa('2 0 1', root)] };
      })(),
      'dane-ta 3',
    ],
    [
      'TA-18 two CAs that issued each other',
      (() => {
        const first = ca('First', { ...root, subjectName: name('Second'), keys: keys('Second') });
        return { chain: [leaf(HOST, first), first, ca('Second', first)], records: [tlsa('2 0 1', root)] };
      })(),
      'tlsa-mismatch',
    ],
  ]);

  test('of two records that match the first one is named', () => {
    const records = [tlsa('2 1 1', root), tlsa('2 0 1', root)];
    expect(verdictOn({ chain, records }).record).toBe(records[0]);
    expect(verdictOn({ chain, records: records.toReversed() }).record).toBe(records[1]);
  });

  test('OpenSSL and Node agree that the certificates made here are certificates', () => {
    for (const { der } of [...chain, own, ...deep]) expect(new X509Certificate(der).raw.equals(der)).toBe(true);
  });
});

describe('digest agility (RFC 7671 §9)', () => {
  const good = (numbers: string): string => tlsa(numbers, mx);
  const wrong = (numbers: string): string => bad(tlsa(numbers, mx));
  const badFull = tlsa('3 1 0', other);
  rows([
    ['AGI-01 3 1 1 good, 3 1 2 bad', { chain, records: [good('3 1 1'), wrong('3 1 2')] }, 'tlsa-mismatch'],
    ['AGI-02 3 1 1 good, 3 0 2 bad', { chain, records: [good('3 1 1'), wrong('3 0 2')] }, 'dane-ee 0'],
    [
      'AGI-03 3 0 1 good, 3 0 2 bad, 3 1 1 stale',
      { chain, records: [good('3 0 1'), wrong('3 0 2'), wrong('3 1 1')] },
      'tlsa-mismatch',
    ],
    [
      'AGI-04 3 1 2 of the wrong length is discarded first',
      { chain, records: [good('3 1 1'), '3 1 2 abcd'] },
      'dane-ee 0',
    ],
    [
      'AGI-05 an unknown matching type is discarded first',
      { chain, records: [good('3 1 1'), good('3 1 1').replace('3 1 1', '3 1 3')] },
      'dane-ee 0',
    ],
    ['AGI-06 Full good, 3 1 2 bad', { chain, records: [good('3 1 0'), wrong('3 1 2')] }, 'dane-ee 0'],
    ['AGI-06 Full bad, 3 1 2 good', { chain, records: [badFull, good('3 1 2')] }, 'dane-ee 0'],
    ['AGI-07 3 1 1 good, 2 1 2 bad', { chain, records: [good('3 1 1'), wrong('2 1 2')] }, 'dane-ee 0'],
    [
      'AGI-08 two 3 1 2, one of them good',
      { chain, records: [wrong('3 1 2'), good('3 1 2'), wrong('3 1 1')] },
      'dane-ee 0',
    ],
    [
      'AGI-09 SHA-256 preferred',
      { chain, records: [good('3 1 1'), wrong('3 1 2')], digests: ['sha256', 'sha512'] },
      'dane-ee 0',
    ],
    [
      'AGI-09 SHA-256 preferred and bad',
      { chain, records: [wrong('3 1 1'), good('3 1 2')], digests: ['sha256', 'sha512'] },
      'tlsa-mismatch',
    ],
    [
      'AGI-09 USE-09 SHA-512 not accepted',
      { chain, records: [good('3 1 1'), wrong('3 1 2')], digests: ['sha256'] },
      'dane-ee 0',
    ],
    [
      'AGI-09 USE-09 SHA-512 not accepted and nothing else there',
      { chain, records: [good('3 1 2')], digests: ['sha256'] },
      'tlsa-no-usable-record',
    ],
    [
      'agility works for trust anchors as well',
      { chain, records: [tlsa('2 0 1', root), bad(tlsa('2 0 2', root))] },
      'tlsa-mismatch',
    ],
  ]);

  // The shape of the example in RFC 7671 §9: Full and SHA2-512 of the key count, a lone match by SHA2-256 does not.
  rows([
    [
      'AGI-10 Full and SHA-512 of the key',
      { chain, records: [good('3 1 0'), good('3 1 2'), wrong('3 1 1')] },
      'dane-ee 0',
    ],
    [
      'AGI-10 only SHA-256 is that of the key',
      { chain, records: [badFull, good('3 1 1'), wrong('3 1 2')] },
      'tlsa-mismatch',
    ],
  ]);
});

describe('hints for administrators', () => {
  const digestOf = (octets: Buffer): string => createHash('sha256').update(octets).digest('hex');
  test.each<[string, Scene, RegExp]>([
    [
      'the whole certificate under the numbers of the key',
      { chain, records: [`3 1 1 ${digestOf(mx.der)}`] },
      /numbers should be 3 0 1/,
    ],
    [
      'the key under the numbers of the certificate',
      { chain, records: [`3 0 1 ${digestOf(mx.keys.spki)}`] },
      /numbers should be 3 1 1/,
    ],
    ['the intermediate as DANE-EE', { chain, records: [tlsa('3 1 1', inter)] }, /would have to be published as 2 1 1/],
    ['a self-signed leaf as its own anchor', { chain: [own], records: [tlsa('2 0 1', own)] }, /publish 3 1 1/],
    ['the bare key', { chain, records: [`3 1 1 ${digestOf(mx.keys.spki.subarray(26))}`] }, /bare key/],
    [
      'an older certificate in full',
      { chain: withLeaf({ keys: keys('renewed') }), records: [tlsa('3 0 0', mx)] },
      /renewed with another key/,
    ],
    ['an anchor that is not sent', { chain: [mx], records: [tlsa('2 1 1', root)] }, /must be sent by the server/],
    [
      'a recent certificate and old records',
      { chain: withLeaf({ notBefore: NOW - DAY }), records: [tlsa('3 1 1', other)] },
      /probably renewed/,
    ],
    [
      'a retired issuer',
      { chain, records: ['2 1 1 8d02536c887482bc34ff54e41d2ba659bf85b341a0a20afadb5813dcfbcf286d'] },
      /R3, retired/,
    ],
    [
      'names that differ',
      { chain, records: [tlsa('2 1 1', root)], names: ['mail.example.org'] },
      /is for mx\.example\.nl, and must be for mail\.example\.org/,
    ],
    [
      'when it expired',
      { chain: withLeaf({ notAfter: NOW - DAY }), records: [tlsa('2 1 1', root)] },
      /depth 0 expired 2026-11-21T12:00:00Z/,
    ],
  ])('%s', (_, scene, hint) => {
    expect(verdictOn(scene).detail).toMatch(hint);
  });

  test('names out of certificates are made harmless', () => {
    const evil = leaf(HOST, root, {
      subject: name('\u001b[2J\r\nX'),
      extensions: [alternativeNames(`dns:${'\u0007'.repeat(3)}`, `dns:${'x'.repeat(9000)}`)],
    });
    const { detail } = verdictOn({ chain: [evil, root], records: [tlsa('2 1 1', root)] });
    expect(detail).toMatch(/^[ -~…]*$/);
    expect(detail.length).toBeLessThan(700);
  });
});
