/** From the configuration and the machine to the number of processes. */
import { availableParallelism } from 'node:os';
import type { Config } from '../config/config.ts';

/** They share one disk and one queue, where only one writes at a time: more cores than this help little. */
const AUTO_AT_MOST = 8;

/**
 * How many processes share the work. Left to us it is one less than the cores: a process keeps one of them busy with TLS
 * and SMTP, and its threads for storage, compilation and garbage the better part of another (docs/decisions/0007).
 */
export function workersIn({ workers }: Pick<Config, 'workers'>, cores = availableParallelism()): number {
  return workers === 'auto' ? Math.max(1, Math.min(cores - 1, AUTO_AT_MOST)) : workers;
}
