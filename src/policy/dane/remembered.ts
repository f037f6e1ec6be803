/**
 * Proofs that hold whatever the time is, remembered: a match by DANE-EE depends on the octets of certificates and
 * records alone (RFC 7672 §3.1.1: neither names nor dates count), and the same host shows the same ones at every
 * connection. Whatever else was found is found anew each time: with DANE-TA a certificate may run out meanwhile.
 */
import { createHash } from 'node:crypto';
import type { CertificateVerdict } from '../../model/delivery.ts';
import { type Evidence, judgeChain } from './match.ts';

/** Hosts whose proof is remembered, at most. */
const REMEMBERED = 1000;

/** `judgeChain` with a memory of its own. */
export function createJudge(): (evidence: Evidence) => CertificateVerdict {
  const proofs = new Map<string, CertificateVerdict>();
  return (evidence) => {
    const key = keyOf(evidence);
    const known = proofs.get(key);
    if (known) return known;
    const verdict = judgeChain(evidence);
    if (verdict.verdict === 'authenticated' && verdict.code === 'dane-ee') {
      const [oldest] = proofs.keys();
      if (proofs.size >= REMEMBERED && oldest !== undefined) proofs.delete(oldest);
      proofs.set(key, verdict);
    }
    return verdict;
  };
}

/** Of the exact octets, each with its length, so that none can stand for others. */
function keyOf({ chain, records }: Evidence): string {
  const hash = createHash('sha256');
  const add = (octets: Buffer): void => void hash.update(`${octets.length}:`).update(octets);
  for (const certificate of chain) add(certificate);
  hash.update('records:');
  for (const { usage, selector, matching, data } of records) {
    hash.update(`${usage} ${selector} ${matching} `);
    add(data);
  }
  return hash.digest('base64');
}
