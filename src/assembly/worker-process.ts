/**
 * A process that is one of several workers. It does what its supervisor says, leaves the signals to it, and ends when
 * it is gone.
 */
import { flushCompileCache } from 'node:module';
import type { Socket } from 'node:net';
import type { Config } from '../config/config.ts';
import type { Refusal } from '../receive/refusal.ts';
import { createLogger } from '../report/log.ts';
import { createLink, type Link } from '../shared/link.ts';
import { messageOf } from '../shared/message-of.ts';
import { createParts } from '../shared/parts.ts';
import { endOnMistakes } from './last-words.ts';
import { type Colleagues, oneOfSeveral, workerName } from './post.ts';
import type { Opened } from './run.ts';
import { SIGNALS_TO_ALL } from './signals.ts';
import { type Node, openNode } from './start.ts';
import type { Order } from './supervisor.ts';

const parts = createParts();
let node: Node | null = null;
let hostname = '';
let log = createLogger('error', 1, 0);
let takeUp: (() => Promise<void>) | null = null;

function atWork(): Node {
  if (!node) throw new Error('the worker has not begun');
  return node;
}

async function begin({ config, number, isFirst, lastSeen }: Order): Promise<Omit<Opened, 'listening'>> {
  hostname = config.hostname;
  log = createLogger(config.log.level, 1, number);
  endOnMistakes(parts, log);
  const opened = await openNode(config, oneOfSeveral(config, number, isFirst, colleagues(link)), lastSeen, log, parts);
  node = opened;
  const { pin, made: madeNow } = opened.certificate;
  // The next worker then finds everything compiled.
  flushCompileCache();
  return { pin, madeNow };
}

async function stop(): Promise<void> {
  const errors = await parts.closeAll();
  for (const error of errors) log.error('not everything stopped cleanly', { error: messageOf(error) });
  process.exit(errors.length === 0 ? 0 : 1);
}

const link: Link = createLink((packet) => process.send?.(packet, undefined, undefined, () => undefined), {
  begin,
  // Whatever the answer is: it shows that this process is at work.
  alive: () => null,
  listen: () => atWork().listen(),
  start: () => atWork().start(),
  stop: () => void stop(),
  health: () => atWork().health(),
  reasons: () => atWork().reasons(),
  metrics: () => atWork().metrics.collect(),
  prepare: async (next: Config) => {
    takeUp = await atWork().prepare(next);
  },
  take: () => takeUp?.(),
  takeOver: (number: number) => atWork().takeOver(workerName(hostname, number)),
  granted: (host: string) => node?.granted(host),
  recall: (host: string | null, howSoon: 'idle' | 'soon') => node?.recall(host, howSoon),
});

/** A client may have left while its connection was on the way. */
function take(socket: Socket | undefined, door: number): void {
  link.tell('taken');
  if (socket) node?.take(socket, door);
}

function colleagues({ ask, tell }: Link): Colleagues {
  return {
    permits: { want: (host) => tell('want', host), giveBack: (host) => tell('giveBack', host) },
    supervised: {
      gate: {
        setLimits: () => undefined,
        enter: (peer) => ask<Refusal | null>('enter', peer),
        leave: (peer) => tell('leave', peer),
      },
      rates: { take: (client, rate) => ask<boolean>('rate', client, rate) },
    },
    begin: (domain, { connections, rate }) => ask<boolean>('begin', domain, { connections, rate }),
    end: (domain) => tell('end', domain),
  };
}

// The supervisor is gone: another one would take back what is under way here.
process.on('disconnect', () => process.exit(1));
// A service manager and a terminal send them to all processes of a group.
for (const signal of SIGNALS_TO_ALL) process.on(signal, () => undefined);
process.on('message', (message: { readonly door?: number }, socket?: Socket) => {
  if (message.door === undefined) link.hear(message);
  else take(socket, message.door);
});
