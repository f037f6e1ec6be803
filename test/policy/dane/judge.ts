/** `judge`: a chain against records, in the words of `verify`: `dane-ta 2`, `no-match`, `no-usable-record`. */
import { judgeChain } from '../../../src/policy/dane/match.ts';
import { type Digest, judgeRecords, parseTlsa, STRONGEST_FIRST } from '../../../src/policy/dane/tlsa.ts';
import type { Work } from '../../../src/policy/dane/trust-anchor.ts';
import { type Certificate, NOW } from './pki.ts';

export interface Scene {
  readonly chain: readonly Certificate[];
  readonly records: readonly string[];
  readonly names?: readonly string[];
  readonly at?: number;
  readonly digests?: readonly Digest[];
  readonly work?: Work;
}

export const HOST = 'mx.example.nl';

export function verdictOn({ chain, records, names = [HOST], at = NOW, digests = STRONGEST_FIRST, work }: Scene) {
  const { considered } = judgeRecords(records.map(rdata), digests);
  return judgeChain({
    chain: chain.map(({ der }) => der),
    records: considered,
    names,
    at,
    ...(work ? { work } : {}),
  });
}

export function judge(scene: Scene): string {
  const { code, depth, verdict } = verdictOn(scene);
  return verdict === 'authenticated' ? `${code} ${depth}` : code;
}

export function rdata(text: string): Buffer {
  const parsed = parseTlsa(text);
  if ('mistake' in parsed) throw new Error(parsed.mistake);
  return parsed.rdata;
}

/** The same record with other data of the same length. */
export function bad(record: string): string {
  return record.slice(0, -4) + (record.endsWith('beef') ? 'feed' : 'beef');
}
