/** What one run of one candidate in one case gave. One line of the results file each. */
import type { CandidateName } from './cases.ts';

export interface RunResult {
  readonly case: string;
  readonly candidate: CandidateName;
  /** From 1 on. */
  readonly run: number;
  /** ISO 8601. */
  readonly when: string;
  readonly messages: number;
  /** Messages a second, from the first connection of a client to the last octet at its far end. */
  readonly drain: number;
  /** Messages a second, from the first connection of a client to its last 250. */
  readonly accept: number;
  /** Milliseconds of CPU a message, of all processes of the candidate. */
  readonly cpuMs: number;
  /** Proportional set size of all processes at its highest, in MB of a million octets. */
  readonly pssMb: number;
  readonly processes: number;
  /** From the client's first octet of content to the last octet at the far end, in milliseconds. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** From the client's first octet of content to its 250, in milliseconds. */
  readonly acceptP50Ms: number;
  readonly acceptP99Ms: number;
  /** Flushes of the disk a message, of the whole machine; null where the kernel does not count them. */
  readonly flushes: number | null;
  /** Connections to mail hosts. */
  readonly connections: number;
  /** Milliseconds of CPU a message of client and far end. */
  readonly loadCpuMs: number;
  readonly sinkCpuMs: number;
  /** Share of the processors' time that the machine below took, from 0 to 1. */
  readonly steal: number;
  /** The same of what all other programs here took, the resolver and the harness among them. */
  readonly others: number;
  /** What was not as it must be; empty when every message arrived once, intact, under TLS, with its envelope. */
  readonly faults: readonly string[];
}

/** The middle value; of an even number of values the mean of the two. NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length / 2;
  const [low, high] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  return low === undefined || high === undefined ? Number.NaN : (low + high) / 2;
}

/** The results of one candidate in one case. */
export function resultsOf(
  results: readonly RunResult[],
  caseName: string,
  candidate: CandidateName,
): readonly RunResult[] {
  return results.filter((each) => each.case === caseName && each.candidate === candidate);
}
