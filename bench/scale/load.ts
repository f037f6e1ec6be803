/** Mail that comes in at a steady pace, and how long each message takes to be taken. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '../../test/support/memory-load.ts';

/** Milliseconds from MAIL to the 250 after the content. */
export type Latencies = readonly number[];

const CLIENTS = 3;
const EVERY_MS = 30;

/** Sends until `work` has ended, for `leastMs` at least. Rejects when a message is not taken. */
export async function loadDuring(port: number, leastMs: number, work: Promise<unknown>): Promise<Latencies> {
  const latencies: number[] = [];
  const until = performance.now() + leastMs;
  let working = true;
  const end = work.finally(() => {
    working = false;
  });
  const send = async (name: number): Promise<void> => {
    const client = new Client(port);
    await client.greet();
    for (let at = 0; working || performance.now() < until; at++) {
      const begun = performance.now();
      await client.send(`someone@fresh${(at + name) % 20}.test`, ['Subject: now\r\n']);
      const taken = performance.now() - begun;
      latencies.push(taken);
      await sleep(Math.max(1, EVERY_MS - taken));
    }
    client.end();
  };
  await Promise.all([end, ...Array.from({ length: CLIENTS }, (_, name) => send(name))]);
  return latencies;
}

/** The value below which that part of all lies. */
export function quantile(values: Latencies, part: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * part)] ?? 0;
}
