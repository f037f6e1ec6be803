/** A worker that hangs is ended as if it had died; one that is only busy is not. Real processes, with less patience. */
import { describe, expect, onTestFinished, test } from 'vitest';
import { SmtpClient } from '../support/smtp-client.ts';
import { births, codes, configure, isAlive, parts, port, said, setMood, started, untilSaid } from './crew.ts';

const PATIENCE = { everyMs: 250, questions: 16 };
const LIMIT_MS = PATIENCE.everyMs * PATIENCE.questions;

describe('a worker that hangs', () => {
  test('in an endless loop is killed, told, and started again; what its clients had is free', async () => {
    configure({ intake: { connectionsPerClient: 2 } });
    const crew = await started(2, PATIENCE);
    const [, second] = births();
    const inside = [await SmtpClient.connect({ port }), await SmtpClient.connect({ port })];
    onTestFinished(() => {
      for (const client of inside) client.destroy();
    });
    for (const client of inside) expect(await client.reply()).toMatchObject({ code: 220 });
    setMood({ worker: 2, at: 'health', does: 'hang' });
    void crew.health();
    await untilSaid('a worker hangs, and is killed');
    expect(said('a worker hangs, and is killed')).toMatchObject([
      { level: 'error', worker: 2, pid: second?.pid, silentMs: LIMIT_MS },
    ]);
    setMood(null);
    await untilSaid('a worker was started again');
    expect(said('a worker died')).toMatchObject([{ level: 'error', worker: 2, how: 'SIGKILL' }]);
    expect(isAlive(second?.pid ?? 0)).toBe(false);
    expect(await crew.health()).toMatchObject({ workers: 2 });
    // One of the two conversations has ended with the worker; the other is where it was.
    expect(await codes(1)).toEqual([250]);
    expect(await parts.closeAll()).toEqual([]);
  });

  test('while it is to listen, or to start, keeps nobody waiting for ever: the next one takes its place', async () => {
    const crew = await started(2, PATIENCE);
    for (const at of ['listen', 'start']) {
      const killed = said('a worker hangs, and is killed').length;
      const again = said('a worker was started again').length;
      const [last] = births()
        .filter(({ pid }) => isAlive(pid))
        .slice(-1);
      setMood({ worker: null, at, does: 'hang' });
      process.kill(last?.pid ?? 0, 'SIGKILL');
      await untilSaid('a worker hangs, and is killed', killed + 1);
      setMood(null);
      await untilSaid('a worker was started again', again + 1);
    }
    expect(await crew.health()).toMatchObject({ workers: 2 });
    expect(births().filter(({ pid }) => isAlive(pid))).toHaveLength(2);
  });

  test('when the relay stops does not keep it: it is killed, and that is told', async () => {
    await started(2, PATIENCE);
    setMood({ worker: 2, at: 'stop', does: 'hang' });
    expect(await parts.closeAll()).toMatchObject([{ message: 'worker 2 ended with SIGKILL' }]);
    expect(said('a worker hangs, and is killed')).toHaveLength(1);
  });
});

test('a worker that does nothing else for a while, and for less than the limit, is left alone, again and again', async () => {
  const crew = await started(2, PATIENCE);
  const before = births();
  setMood({ worker: null, at: 'health', does: 'hang', forMs: LIMIT_MS / 3 });
  // Together longer than the limit.
  for (let each = 0; each < 5; each++) await crew.health();
  setMood(null);
  expect(await codes(4)).toEqual([250, 250, 250, 250]);
  expect(births()).toEqual(before);
  expect(said('hangs')).toEqual([]);
});
