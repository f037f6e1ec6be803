/**
 * Loaded into the workers of a supervisor by NODE_OPTIONS=--import: lets one of them do what none should, at the word of
 * the supervisor that WORKER_MOOD says. The worker knows nothing of it; what it hears is looked at from outside.
 *
 * Each worker that is born writes a line into the diary, and each word that its mood is about into `diary.heard`. What it
 * prints goes nowhere.
 */
import { appendFileSync, closeSync, openSync, readFileSync } from 'node:fs';

/** What is in the file that WORKER_MOOD names. */
export interface Mood {
  readonly diary: string;
  /** Of the worker with this number, or of all. */
  readonly worker: number | null;
  /** Said by the supervisor: `begin`, `listen`, `start`, `prepare` …; or `birth`: before it can hear anything. */
  readonly at: string;
  readonly does: 'die' | 'refuse' | 'keep silent' | 'talk nonsense' | 'be late' | 'hang' | 'give up late';
  /** In milliseconds, for one that hangs: it does nothing else so long, and goes on then. Else for ever. */
  readonly forMs?: number;
}

interface Word {
  readonly kind: string;
  readonly id?: number;
  readonly name?: string;
  readonly args?: readonly [{ readonly number?: number }?];
}

type Listener = (packet: unknown, socket?: unknown) => void;

const file = process.env['WORKER_MOOD'];
if (file && process.argv[1]?.endsWith('worker-process.ts')) watch(file);

function watch(path: string): void {
  const moodNow = (): Mood => JSON.parse(readFileSync(path, 'utf8')) as Mood;
  appendFileSync(moodNow().diary, `${process.pid} ${Date.now()}\n`);
  closeSync(1);
  // The lowest that is free: the one that was just closed.
  openSync('/dev/null', 'w');
  while (moodNow().at === 'birth') pauseAll(10);
  let own = 0;
  /** False when the worker is not to hear it. */
  const heed = (word: Word): boolean => {
    const { kind, name, args } = word;
    if (name === 'begin') own = args?.[0]?.number ?? 0;
    const { worker, at, does, forMs = Number.POSITIVE_INFINITY } = moodNow();
    if (name !== at || (worker !== null && worker !== own)) return true;
    appendFileSync(`${moodNow().diary}.heard`, `${name}\n`);
    if (does === 'die') process.kill(process.pid, 'SIGKILL');
    if (does === 'talk nonsense') process.send?.({ nonsense: kind });
    if (does === 'refuse') refuse(word);
    if (does !== 'hang') return false;
    for (const end = performance.now() + forMs; performance.now() < end; );
    return true;
  };
  let unanswered: Word | null = null;
  const hear = async (word: Word, listen: () => void): Promise<void> => {
    if (word.name === 'stop' && unanswered) {
      refuse(unanswered);
      // It would end so much later.
      await new Promise((resolve) => setTimeout(resolve, 300));
      return listen();
    }
    if (heed(word)) return listen();
    if (moodNow().does === 'give up late') unanswered = word;
    if (moodNow().does !== 'be late') return;
    while (moodNow().does === 'be late') await new Promise((resolve) => setTimeout(resolve, 10));
    listen();
  };
  const on = process.on.bind(process) as (event: string, listener: Listener) => NodeJS.Process;
  process.on = ((event: string, listener: Listener) => {
    if (event !== 'message') return on(event, listener);
    return on(event, (packet, socket) => {
      if (!Array.isArray(packet)) return listener(packet, socket);
      for (const word of packet as Word[]) void hear(word, () => listener([word], socket));
    });
  }) as typeof process.on;
}

function refuse({ id, name }: Word): void {
  process.send?.([{ kind: 'refusal', id, message: `${String(name)} is not to my taste` }]);
}

/** Nothing of this process goes on meanwhile, but signals that nobody has asked for end it. */
function pauseAll(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
