/** Clients that hand in one letter after the other and come again when they are cut off, and what became of the letters. */
import { expect, onTestFinished } from 'vitest';
import type { RelayScene } from './relay-scene.ts';

export interface SteadyLetters {
  /** Names of those that got a 250. */
  readonly accepted: ReadonlySet<string>;
  readonly stop: () => Promise<void>;
  /**
   * Names of what has arrived, in order, once everything that was accepted has and the queue is empty. Sees to it that
   * nothing was sent again once the log had told its delivery.
   */
  readonly arrivals: () => Promise<readonly string[]>;
}

/** So many clients write until `stop`, or until the test ends. */
export function writeLetters(scene: RelayScene, clients: number): SteadyLetters {
  const accepted = new Set<string>();
  let stop = false;
  let number = 0;
  const write = async (): Promise<void> => {
    while (!stop) {
      try {
        const client = await scene.greeted();
        while (!stop) {
          const name = `letter-${++number}`;
          const content = `Subject: ${name}\r\n\r\n${'x'.repeat(300)}\r\n`;
          const { code } = await client.send('a@in.test', ['b@out.test'], content);
          if (code === 250) accepted.add(name);
        }
      } catch {
        // Whoever served it is gone; it knows of no 250 and comes again.
      }
    }
  };
  const writers = Array.from({ length: clients }, write);
  onTestFinished(() => {
    stop = true;
  });
  const arrived = (): string[] =>
    scene.host.messages.map(({ content }) => /letter-\d+/.exec(content.toString())?.[0] ?? '');
  return {
    accepted,
    stop: async () => {
      stop = true;
      await Promise.all(writers);
    },
    arrivals: async () => {
      // Far sooner than a lease would run out.
      await expect
        .poll(() => {
          const there = new Set(arrived());
          return [...accepted].filter((name) => !there.has(name));
        })
        .toEqual([]);
      await expect
        .poll(async () => JSON.parse((await scene.relay.command('queue', 'list', '--json')).stdout))
        .toEqual([]);
      const told = scene.relay.events().flatMap(({ event, queueId }) => (event === 'delivered' ? [queueId] : []));
      expect(told).toHaveLength(new Set(told).size);
      return arrived();
    },
  };
}
