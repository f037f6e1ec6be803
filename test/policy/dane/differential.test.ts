/** A sample of the comparison with OpenSSL; differential.ts is the full run. The seed is in the title of a failure. */
import { expect, test } from 'vitest';
import { compareRandom, ours } from './differential.ts';
import { withServer } from './openssl.ts';
import {
  alternativeNames,
  basicConstraints,
  type Certificate,
  CLIENT_AUTH,
  ca,
  DAY,
  extendedKeyUsage,
  leaf,
  NOW,
  name,
  tlsa,
} from './pki.ts';

test('a random sample of chains and TLSA sets is judged as OpenSSL judges it', async () => {
  const seed = Number(process.env['DIFFERENTIAL_SEED'] ?? 20_261_122);
  const { differences, passed } = await compareRandom(15, seed);
  expect(differences, `seed ${seed}`).toEqual([]);
  expect(passed, `seed ${seed}`).toBeGreaterThan(0);
});

const HOST = 'mx.example.com';
const root = ca('Root', null);
const inter = ca('CA', root);
const good = leaf(HOST, inter);
const own = leaf(HOST, null);
const foreign = leaf(HOST, ca('Evil', null));
const third = leaf('other.example.org', null);
const changed = (change: Parameters<typeof leaf>[2]): readonly [Certificate, Certificate, Certificate] => [
  leaf(HOST, inter, change),
  inter,
  root,
];
const expired = changed({ notAfter: NOW - DAY });
const clientOnly = changed({ extensions: [alternativeNames(`dns:${HOST}`), extendedKeyUsage(CLIENT_AUTH)] });
const oldInter = ca('CA', root, { notAfter: NOW - DAY });
const oldRoot = ca('Root', null, { notAfter: NOW - DAY });
const underOldRoot = ca('CA', oldRoot);
const noCa = ca('CA', root, { extensions: [basicConstraints(false)] });
const short = ca('Root', null, { extensions: [basicConstraints(true, 0)] });
const underShort = ca('CA', short);
const spoilt = (record: string): string => record.slice(0, -4) + (record.endsWith('0000') ? '1111' : '0000');

type Chain = readonly [Certificate, ...Certificate[]];
/** Appendix A of the checklist, row by row: what is sent, what is published, and what OpenSSL 3.0 said. */
const TABLE: readonly (readonly [
  title: string,
  chain: Chain,
  records: readonly string[],
  passes: boolean,
  name?: string,
])[] = [
  ['TA-01 2 0 1 root, full chain', [good, inter, root], [tlsa('2 0 1', root)], true],
  ['TA-02 root not sent', [good, inter], [tlsa('2 0 1', root)], false],
  ['TA-03 2 0 0 root not sent', [good, inter], [tlsa('2 0 0', root)], true],
  ['TA-04 2 1 0 root key, not sent', [good, inter], [tlsa('2 1 0', root)], true],
  ['TA-04 2 1 0 intermediate key, not sent', [good], [tlsa('2 1 0', inter)], true],
  ['TA-08 leaf, root, intermediate', [good, root, inter], [tlsa('2 0 1', root)], true],
  ['TA-08 extras interleaved', [good, third, inter, foreign, root], [tlsa('2 0 1', root)], true],
  ['TA-07 unrelated CA appended and its record', [good, inter, root, third], [tlsa('2 0 1', third)], false],
  ['TA-07 real anchor appended to a foreign self-signed leaf', [own, root], [tlsa('2 0 1', root)], false],
  ['TA-05 2 0 1 intermediate, root omitted', [good, inter], [tlsa('2 0 1', inter)], true],
  ['TA-10 2 0 1 of a CA-issued leaf', [good, inter, root], [tlsa('2 0 1', good)], false],
  ['TA-11 2 0 1 of a self-signed leaf', [own], [tlsa('2 0 1', own)], false],
  ['TA-11 2 1 1 of a self-signed leaf sent twice', [own, own], [tlsa('2 1 1', own)], false],
  ['TA-11 2 1 0 of a self-signed leaf', [own], [tlsa('2 1 0', own)], true],
  ['TA-12 expired leaf, TA', expired, [tlsa('2 0 1', root)], false],
  ['EE-03 expired leaf, EE', expired, [tlsa('3 1 1', expired[0])], true],
  ['TA-12 expired intermediate', [leaf(HOST, oldInter), oldInter, root], [tlsa('2 0 1', root)], false],
  ['TA-12 expired anchor 2 0 1', [leaf(HOST, underOldRoot), underOldRoot, oldRoot], [tlsa('2 0 1', oldRoot)], false],
  ['TA-12 expired anchor 2 1 1', [leaf(HOST, underOldRoot), underOldRoot, oldRoot], [tlsa('2 1 1', oldRoot)], false],
  [
    'TA-12 2 1 0 of an expired anchor, not sent',
    [leaf(HOST, underOldRoot), underOldRoot],
    [tlsa('2 1 0', oldRoot)],
    true,
  ],
  ['TA-13 non-CA intermediate', [leaf(HOST, noCa), noCa, root], [tlsa('2 0 1', root)], false],
  ['TA-13 non-CA intermediate as the anchor', [leaf(HOST, noCa), noCa, root], [tlsa('2 1 1', noCa)], false],
  ['TA-15 client only, TA', clientOnly, [tlsa('2 0 1', root)], false],
  ['EE-04 client only, EE', clientOnly, [tlsa('3 1 1', clientOnly[0])], true],
  ['TA-14 path length exceeded 2 0 1', [leaf(HOST, underShort), underShort, short], [tlsa('2 0 1', short)], false],
  ['TA-14 path length exceeded 2 1 1', [leaf(HOST, underShort), underShort, short], [tlsa('2 1 1', short)], false],
  ['NAME-01 wrong name, TA', [good, inter, root], [tlsa('2 0 1', root)], false, 'other.example.com'],
  ['EE-02 wrong name, EE', [good, inter, root], [tlsa('3 1 1', good)], true, 'other.example.com'],
  ['EE-05 3 1 1 of the intermediate', [good, inter, root], [tlsa('3 1 1', inter)], false],
  ['AGI-01 3 1 1 good, 3 1 2 bad', [good, inter], [tlsa('3 1 1', good), spoilt(tlsa('3 1 2', good))], false],
  ['AGI-02 3 1 1 good, 3 0 2 bad', [good, inter], [tlsa('3 1 1', good), spoilt(tlsa('3 0 2', good))], true],
  ['AGI-04 3 1 1 good, 3 1 2 malformed', [good, inter], [tlsa('3 1 1', good), '3 1 2 abcd'], true],
  ['AGI-06 3 1 0 good, 3 1 2 bad', [good, inter], [tlsa('3 1 0', good), spoilt(tlsa('3 1 2', good))], true],
  ['AGI-07 3 1 1 good, 2 1 2 bad', [good, inter], [tlsa('3 1 1', good), spoilt(tlsa('2 1 2', good))], true],
  ['TA-20 3 1 1 bad, 2 0 1 good', [good, inter, root], [spoilt(tlsa('3 1 1', good)), tlsa('2 0 1', root)], true],
  ['ROLL-01 3 1 1 bad, 3 1 1 good', [good, inter], [spoilt(tlsa('3 1 1', good)), tlsa('3 1 1', good)], true],
  [
    'AGI-05 3 1 3 unknown, 3 1 1 good',
    [good, inter],
    [tlsa('3 1 1', good).replace('3 1 1', '3 1 3'), tlsa('3 1 1', good)],
    true,
  ],
  [
    'NAME-08 common name behind an email address',
    changed({ extensions: [alternativeNames('email:a@example.com')] }),
    [tlsa('2 0 1', root)],
    true,
  ],
  [
    'NAME-09 *.example.com',
    changed({ subject: name(), extensions: [alternativeNames('dns:*.example.com')] }),
    [tlsa('2 0 1', root)],
    true,
  ],
];

const ROWS = TABLE.map(([title, chain, records, passes, host = HOST]) => ({ title, chain, records, passes, host }));

test.each(ROWS)('as in the table of OpenSSL 3.0: $title', async ({ chain, records, passes, host }) => {
  expect(ours(chain, records, host).kind).toBe(passes ? 'pass' : 'fail');
  const opinion = await withServer(chain, (ask) => ask(records, host));
  expect(opinion.kind).toBe(passes ? 'pass' : 'fail');
});

test('NAME-10 a partial wildcard passes with OpenSSL and not here', async () => {
  const chain = changed({ subject: name(), extensions: [alternativeNames('dns:m*.example.com')] });
  const records = [tlsa('2 0 1', root)];
  expect(ours(chain, records, HOST)).toMatchObject({ kind: 'fail', why: 'tlsa-name-mismatch' });
  expect((await withServer(chain, (ask) => ask(records, HOST))).kind).toBe('pass');
});
