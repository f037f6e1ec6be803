/** Metrics of several workers as those of one relay. What a worker has counted goes on counting when it has ended. */
import type { MetricsOfOne } from '../report/metrics.ts';

export interface Tally<Worker> {
  /** What was read of a worker that lives. */
  readonly read: (worker: Worker, metrics: MetricsOfOne) => void;
  /** It has ended: its counters stay as they were last read. */
  readonly gone: (worker: Worker) => void;
  readonly print: () => Promise<string>;
}

export function createTally<Worker>(): Tally<Worker> {
  const last = new Map<Worker, MetricsOfOne>();
  let bygone: MetricsOfOne | null = null;
  /** One after the other: two may die at once, and none of their counts may be lost or missing for a moment. */
  let keeping: Promise<void> = Promise.resolve();
  return {
    read: (worker, metrics) => void last.set(worker, metrics),
    gone: (worker) => {
      keeping = keeping.then(async () => {
        const metrics = last.get(worker);
        if (!metrics) return;
        const { counters } = await merge([metrics], bygone);
        bygone = await counters();
        last.delete(worker);
      });
    },
    print: async () => {
      const { print } = await merge([...last.values()], bygone);
      return print();
    },
  };
}

/** Loaded when somebody first asks: the supervisor has little else that is large. */
async function merge(all: readonly MetricsOfOne[], bygone: MetricsOfOne | null) {
  const { mergeMetrics } = await import('../report/metrics.ts');
  return mergeMetrics(all, bygone);
}
