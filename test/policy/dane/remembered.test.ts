/** What is remembered of a proof is never more than what would be found anew. */
import { expect, test } from 'vitest';
import { type Evidence, judgeChain } from '../../../src/policy/dane/match.ts';
import { createJudge } from '../../../src/policy/dane/remembered.ts';
import { judgeRecords, STRONGEST_FIRST } from '../../../src/policy/dane/tlsa.ts';
import { bad, HOST, rdata } from './judge.ts';
import { type Certificate, ca, DAY, leaf, NOW, tlsa } from './pki.ts';

const root = ca('Root', null);
const mx = leaf(HOST, root);
const another = leaf(HOST, root);

function evidence(sent: readonly Certificate[], records: readonly string[], at = NOW): Evidence {
  const { considered } = judgeRecords(records.map(rdata), STRONGEST_FIRST);
  return { chain: sent.map(({ der }) => der), records: considered, names: [HOST], at };
}

const ee = tlsa('3 1 1', mx);
const ta = tlsa('2 0 1', root);
const scenes: readonly Evidence[] = [
  evidence([mx, root], [ee]),
  evidence([mx], [ee]),
  evidence([another, root], [ee]),
  evidence([root, mx], [ee]),
  evidence([], [ee]),
  evidence([mx, root], [bad(ee)]),
  evidence([mx, root], [bad(ee), ee]),
  evidence([mx, root], [ta]),
  evidence([mx, root], [ta], NOW + 100 * 365 * DAY),
  evidence([mx, root], [ee], NOW + 100 * 365 * DAY),
  evidence([mx, root], []),
  { ...evidence([mx], [ee]), chain: [mx.der, Buffer.from('no certificate')] },
  { ...evidence([mx], [ee]), chain: [mx.der.subarray(1)] },
];

test('EE-01 TA-01 any order of scenes, twice and thrice, is judged as if nothing was remembered', () => {
  const judge = createJudge();
  for (const order of [scenes, scenes.toReversed(), scenes]) {
    for (const scene of order) expect(judge(scene)).toEqual(judgeChain(scene));
  }
});

test('EE-01 what was proven by DANE-EE is not worked out again, whatever the time; anything else is', () => {
  const judge = createJudge();
  const first = judge(evidence([mx, root], [ee]));
  expect(judge(evidence([mx, root], [ee], NOW + 100 * 365 * DAY))).toBe(first);
  expect(judge(evidence([mx, root], [ta])).verdict).toBe('authenticated');
  expect(judge(evidence([mx, root], [ta], NOW + 100 * 365 * DAY)).verdict).toBe('not-authenticated');
});

test('a thousand hosts are remembered, and no more', () => {
  const judge = createJudge();
  const first = evidence([mx, root], [ee]);
  const verdict = judge(first);
  for (let host = 0; host < 1000; host++)
    judge({
      ...first,
      records: [...first.records, { usage: 3, selector: 1, matching: 1, data: Buffer.from(String(host).padStart(32)) }],
    });
  const again = judge(first);
  expect(again).toEqual(verdict);
  expect(again).not.toBe(verdict);
});
