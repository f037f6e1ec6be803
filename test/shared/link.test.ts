/** Two sides of a link: in one process for what is said, in two where what matters is the pipe between them. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { type Answers, createLink, type Link } from '../../src/shared/link.ts';

/** As JSON takes it from one process to the other, later. */
function pair(left: Answers, right: Answers): { near: Link; far: Link; packets: unknown[] } {
  const packets: unknown[] = [];
  const carry = (to: () => Link) => (packet: readonly object[]) => {
    packets.push(packet);
    const text = JSON.stringify(packet);
    setImmediate(() => to().hear(JSON.parse(text)));
  };
  const near: Link = createLink(
    carry(() => far),
    left,
  );
  const far: Link = createLink(
    carry(() => near),
    right,
  );
  return { near, far, packets };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const gone = 'worker 2 has ended (SIGKILL)';

describe('what is said', () => {
  test('a question gets the answer to it, whatever the order in which answers come', async () => {
    const { near } = pair(
      {},
      { later: (ms: number) => new Promise((resolve) => setTimeout(resolve, ms, `after ${ms}`)) },
    );
    const all = await Promise.all([near.ask('later', 20), near.ask('later', 0), near.ask('later', 10)]);
    expect(all).toEqual(['after 20', 'after 0', 'after 10']);
  });

  test('both sides ask', async () => {
    const { near, far } = pair({ name: () => 'near' }, { name: () => 'far' });
    expect(await Promise.all([near.ask('name'), far.ask('name')])).toEqual(['far', 'near']);
  });

  test('what the other side throws comes back in its words, thrown or rejected', async () => {
    const { near } = pair(
      {},
      {
        throws: () => {
          throw new Error('no more room');
        },
        rejects: () => Promise.reject(new Error('no such key')),
      },
    );
    await expect(near.ask('throws')).rejects.toThrow(/^no more room$/);
    await expect(near.ask('rejects')).rejects.toThrow(/^no such key$/);
  });

  test.each(['nothing', 'constructor', '__proto__', 'toString'])('what nobody answers is refused: %s', async (name) => {
    const { near } = pair({}, {});
    await expect(near.ask(name)).rejects.toThrow(`there is no such question: ${name}`);
  });

  test('what is said in one turn travels together, in the order in which it was said', async () => {
    const heard: number[] = [];
    const { near, packets } = pair({}, { note: (number: number) => heard.push(number) });
    for (let number = 0; number < 1_000; number++) near.tell('note', number);
    await near.ask('note', 1_000);
    expect(heard).toEqual(Array.from({ length: 1_001 }, (_, number) => number));
    // One there, one back.
    expect(packets).toHaveLength(2);
  });

  test('what is told before the other side has gone is nobody’s loss', async () => {
    const { near, packets } = pair({}, {});
    near.tell('note');
    near.cut(gone);
    await turn();
    expect(packets).toEqual([]);
  });
});

describe('the other side is gone', () => {
  test('who waits for an answer hears of it, and who asks later too', async () => {
    const { near } = pair({}, { never: () => new Promise(() => undefined) });
    const waiting = Promise.allSettled([near.ask('never'), near.ask('never')]);
    await turn();
    near.cut(gone);
    expect(await waiting).toMatchObject([{ reason: { message: gone } }, { reason: { message: gone } }]);
    await expect(near.ask('never')).rejects.toThrow(gone);
  });

  test('nothing is answered or done any more, also not what was being worked on', async () => {
    const done: string[] = [];
    const sent: unknown[] = [];
    let finish: (value: string) => void = () => undefined;
    const link = createLink((packet) => sent.push(packet), {
      slow: () =>
        new Promise((resolve) => {
          finish = resolve;
        }),
      note: () => done.push('note'),
    });
    link.hear([{ kind: 'ask', id: 1, name: 'slow', args: [] }]);
    link.cut(gone);
    finish('too late');
    link.hear([{ kind: 'tell', name: 'note', args: [] }]);
    await turn();
    await turn();
    expect({ done, sent }).toEqual({ done: [], sent: [] });
  });
});

describe('garbage', () => {
  const NONSENSE = [
    null,
    undefined,
    5,
    'tell',
    {},
    { length: 1, 0: { kind: 'tell', name: 'note', args: [] } },
    [null],
    [[]],
    [{}],
    [{ kind: 'shout', id: 1, name: 'note', args: [] }],
    [{ kind: 'tell', name: 'note' }],
    [{ kind: 'tell', name: 'note', args: 'x' }],
    [{ kind: 'tell', args: [] }],
    [{ kind: 'ask', name: 'note', args: [] }],
    [{ kind: 'answer', value: 1 }],
    [{ kind: 'refusal', id: 1 }],
  ];
  test.each(NONSENSE)('%j is an error, and nothing is done', (packet) => {
    const done: unknown[] = [];
    const link = createLink(() => undefined, { note: () => done.push(1) });
    expect(() => link.hear(packet)).toThrow('cannot be understood');
    expect(done).toEqual([]);
  });

  test('an answer that nobody waits for, or that comes twice, changes nothing', async () => {
    const link = createLink(() => undefined, {});
    const asked = link.ask('who');
    link.hear([{ kind: 'answer', id: 7, value: 'nobody' }]);
    link.hear([
      { kind: 'answer', id: 1, value: 'first' },
      { kind: 'answer', id: 1, value: 'second' },
      { kind: 'refusal', id: 1, message: 'third' },
    ]);
    expect(await asked).toBe('first');
  });
});

describe('through a pipe', () => {
  let child: ChildProcess | undefined;
  afterEach(() => void child?.kill('SIGKILL'));

  function grow(): { link: Link; ended: Promise<unknown> } {
    const program = fileURLToPath(new URL('./link-child.ts', import.meta.url));
    const peer = fork(program, { stdio: 'ignore', execArgv: [] });
    child = peer;
    const link = createLink((packet) => peer.connected && peer.send([...packet], () => undefined), {});
    peer.on('message', link.hear);
    const ended = new Promise((resolve) => peer.once('exit', resolve)).then(() => link.cut(gone));
    return { link, ended };
  }

  test('what is many times larger than a pipe arrives whole, both ways, and what is said meanwhile too', async () => {
    const { link } = grow();
    const large = 'ü'.repeat(4_000_000);
    const [echo, small] = await Promise.all([link.ask('echo', large), link.ask('echo', 'small')]);
    expect(small).toBe('small');
    expect(echo === large).toBe(true);
  });

  test('a peer that dies in the middle of a word: no half of it is heard, and who waits is told', async () => {
    const { link, ended } = grow();
    expect(await link.ask('echo', 1)).toBe(1);
    const waiting = Promise.allSettled([link.ask('never'), link.ask('dieSaying', 20_000_000)]);
    expect(await waiting).toMatchObject([{ reason: { message: gone } }, { reason: { message: gone } }]);
    await ended;
    await expect(link.ask('echo', 2)).rejects.toThrow(gone);
  });

  test('a peer that was killed while much was on its way to it: who waits is told', async () => {
    const { link } = grow();
    expect(await link.ask('echo', 1)).toBe(1);
    child?.kill('SIGSTOP');
    const waiting = Promise.allSettled(Array.from({ length: 20 }, () => link.ask('echo', 'x'.repeat(1_000_000))));
    await turn();
    child?.kill('SIGKILL');
    expect((await waiting).filter(({ status }) => status === 'rejected')).toHaveLength(20);
  });
});
