/**
 * Processes of a relay with two workers that are stopped by a signal, which is how a process hangs that nothing in it can
 * help: a worker is replaced, and nobody is blamed for time that did not pass for the supervisor.
 */
import { fileURLToPath } from 'node:url';
import { afterEach, expect, onTestFinished, test } from 'vitest';
import { childrenOf, monitoring, openRelayScene, type RelayScene, until } from '../support/relay-scene.ts';
import { writeLetters } from '../support/steady-letters.ts';

const IMPATIENT = [process.execPath, fileURLToPath(new URL('../support/impatient-relay.ts', import.meta.url))];
/** Its patience, in milliseconds. */
const LIMIT_MS = 4_000;

let scene: RelayScene;
afterEach(async () => scene?.end());

async function open(): Promise<readonly number[]> {
  scene = await openRelayScene({ workers: 2, delivery: { messagesPerConnection: 5 } }, {}, IMPATIENT);
  await scene.relay.untilOutput(/"msg":"started"/);
  return childrenOf(scene.relay.pid);
}

const pass = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function workers(): Promise<number> {
  return (JSON.parse((await monitoring(scene, '/healthz')).text) as { workers: number }).workers;
}

/** Stops these processes for a time in which a silent worker would be given up twice. */
async function freeze(pids: readonly number[]): Promise<void> {
  for (const pid of pids) process.kill(pid, 'SIGSTOP');
  onTestFinished(() => pids.forEach(wake));
  await pass(2 * LIMIT_MS);
  for (const pid of pids) {
    wake(pid);
    // The first one looks around alone.
    await pass(200);
  }
  // Time for who is impatient.
  await pass(1_000);
}

function wake(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT');
  } catch {
    // It has ended.
  }
}

test('TXN-08 a worker that is stopped under load: the other goes on, it is killed and replaced, and all that was accepted arrives', async () => {
  const [doomed = 0] = await open();
  const letters = writeLetters(scene, 8);
  await until(() => letters.accepted.size > 30);
  process.kill(doomed, 'SIGSTOP');
  const before = letters.accepted.size;
  await until(() => letters.accepted.size > before + 20);
  await scene.relay.untilOutput(/"worker":1,.*"a worker hangs, and is killed/);
  await scene.relay.untilOutput(/"worker":1,"how":"SIGKILL".*"a worker died and is started again"/);
  await scene.relay.untilOutput(/"worker":1,.*"a worker was started again"/);
  expect(await workers()).toBe(2);
  expect(await childrenOf(scene.relay.pid)).not.toContain(doomed);
  const after = letters.accepted.size;
  await until(() => letters.accepted.size > after + 30);
  await letters.stop();
  const arrivals = await letters.arrivals();
  expect(arrivals.length - new Set(arrivals).size).toBeLessThanOrEqual(20);
  expect(await scene.relay.stop()).toBe(0);
});

test('a supervisor that was stopped, and a whole relay that was, as in a machine that sleeps: nobody is killed, and mail goes on', async () => {
  const children = await open();
  const [client, other] = [await scene.greeted(), await scene.greeted()];
  const mail = async (): Promise<void> => {
    for (const each of [client, other]) {
      expect(await each.send('a@in.test', ['b@out.test'], 'Subject: x\r\n\r\nx\r\n')).toMatchObject({ code: 250 });
    }
  };
  await freeze([scene.relay.pid]);
  await mail();
  await freeze([scene.relay.pid, ...children]);
  await mail();
  await until(() => scene.host.messages.length === 4);
  expect(await childrenOf(scene.relay.pid)).toEqual(children);
  expect(await workers()).toBe(2);
  expect(scene.relay.output()).not.toContain('a worker');
  expect(await scene.relay.stop()).toBe(0);
});
