/** From the configuration and the machine to the number of processes. */
import { availableParallelism } from 'node:os';
import type { Config } from '../config/config.ts';

/** They share one disk and one queue, where only one writes at a time: more cores than this help little. */
const AUTO_AT_MOST = 8;

/** How many processes share the work. */
export function workersIn({ workers }: Pick<Config, 'workers'>): number {
  return workers === 'auto' ? Math.min(availableParallelism(), AUTO_AT_MOST) : workers;
}
