/**
 * Several workers behind one set of ports. This process holds what there is only once: the listening sockets, the
 * resolver that the relay runs, and the limits that all workers have in common. It loads none of the stages that mail
 * passes through. A worker that dies is started again, after a pause that grows when it dies again and again; what it
 * was working on is taken over by another one at once. One that hangs is killed, and has died then.
 *
 *   begin     queue opened                        the first one before the others: it does what is to be done once
 *   listen    mail comes in                       when all have begun, so that all get their part of the clients
 *   start     mail goes out
 *   death     permits free, claims taken over     then begin and start again
 *   stop      asked to finish; killed in the end
 */
import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Config } from '../config/config.ts';
import type { RelayLog } from '../report/log.ts';
import type { MetricsOfOne } from '../report/metrics.ts';
import type { TrustState } from '../route/trust.ts';
import { startUnbound } from '../route/unbound.ts';
import { systemClock as clock } from '../shared/clock.ts';
import { createLink, type Link } from '../shared/link.ts';
import { messageOf } from '../shared/message-of.ts';
import type { Parts } from '../shared/parts.ts';
import { type ArbiterLimits, createArbiter, type TurnLimits } from './arbiter.ts';
import { abandon, confirm, createDoors, type Taker } from './doors.ts';
import type { Crew, Opened } from './run.ts';
import { PATIENCE, type Patience, untilSilent } from './sign-of-life.ts';
import { SIGNALS_TO_ALL } from './signals.ts';
import { createTally } from './tally.ts';

/** What a worker is told when it begins. */
export interface Order {
  readonly config: Config;
  readonly number: number;
  /** It finds nobody at work. */
  readonly isFirst: boolean;
  /** When the relay is known to have lived last before this start, by the clock. */
  readonly lastSeen: number | null;
}

const PAUSE_FIRST_MS = 100;
const PAUSE_MOST_MS = 30_000;
/** A life of this length counts as healthy: the next pause is a short one again. */
const HEALTHY_MS = 60_000;
/** For a worker to answer a question of monitoring. */
const PATIENCE_MS = 5_000;
/** For a worker to end, beyond the time that it has for its mail. */
const FAREWELL_MS = 10_000;

/** One process, from its start to its end. */
interface Life extends Taker {
  /** Never used twice. */
  readonly id: number;
  readonly link: Link;
  readonly process: ChildProcess;
  /** How it ended, in words; null for a good end. Never rejects. */
  readonly ended: Promise<string | null>;
  /** Has begun, and can be asked. */
  isOpen: boolean;
  /** Takes mail. */
  isListening: boolean;
  /** Delivers mail as soon as this resolves, to what it knows of the resolver then. */
  started: Promise<TrustState> | null;
}

/** @param patience with a worker that is silent */
export async function openWorkers(
  config: Config,
  count: number,
  lastSeen: number | null,
  log: RelayLog,
  parts: Parts,
  patience: Patience = PATIENCE,
): Promise<Crew> {
  let current = config;
  let stopping = false;
  let hasStarted = false;
  const lives = new Map<number, Life>();
  const tally = createTally<Life>();

  const byId = (id: number): Life | undefined => [...lives.values()].find((life) => life.id === id);
  const arbiter = createArbiter({
    limits: arbiterLimits(config),
    now: clock.now,
    grant: (id, host) => byId(id)?.link.tell('granted', host),
    recall: (id, host, howSoon) => byId(id)?.link.tell('recall', host, howSoon),
  });

  const doors = createDoors(config.listen, () => [...lives.values()].filter(({ isListening }) => isListening));
  const program = fileURLToPath(new URL('./worker-process.ts', import.meta.url));
  let lastId = 0;

  const bear = (number: number): Life => {
    const id = ++lastId;
    // With the options that Node was started with here.
    const worker = fork(program);
    const link = createLink((packet) => worker.connected && worker.send([...packet], () => undefined), {
      taken: () => confirm(life),
      want: (host: string) => arbiter.want(id, host),
      giveBack: (host: string) => arbiter.giveBack(id, host),
      enter: (peer: string) => arbiter.enter(id, peer),
      leave: (peer: string) => arbiter.leave(id, peer),
      begin: (domain: string, limits: TurnLimits) => arbiter.begin(id, domain, limits),
      end: (domain: string) => arbiter.end(id, domain),
      rate: (client: string, rate: NonNullable<TurnLimits['rate']>) => arbiter.takeRate(client, rate),
    });
    worker.on('message', (packet) => {
      try {
        link.hear(packet);
      } catch (error) {
        log.error('a worker says what cannot be understood, and is ended', { worker: number, error: messageOf(error) });
        worker.kill('SIGKILL');
      }
    });
    const ended = new Promise<string | null>((resolve) => {
      worker.once('exit', (status, signal) =>
        resolve(signal ?? (status === 0 ? null : `exit status ${String(status)}`)),
      );
      worker.on('error', (error) => {
        log.error('a worker cannot be reached', { worker: number, error: messageOf(error) });
        // The system made no process, for want of files or memory: none will ever exit.
        if (worker.pid === undefined) resolve(messageOf(error));
      });
    });
    const life: Life = {
      id,
      link,
      process: worker,
      ended,
      given: [],
      isOpen: false,
      isListening: false,
      started: null,
    };
    lives.set(number, life);
    void ended.then((how) => {
      link.cut(`worker ${String(number)} has ended (${how ?? 'by itself'})`);
      abandon(life);
      lives.delete(number);
      arbiter.gone(id);
    });
    return life;
  };

  /** Resolves to how it ended, which may have been before. */
  const finish = (life: Life): Promise<string | null> => {
    life.process.kill('SIGKILL');
    return life.ended;
  };

  /** Ends a worker that hangs: the clients that it has and the mail that it holds would wait for it for ever. */
  const mind = async (number: number, life: Life): Promise<void> => {
    const over = new AbortController();
    void life.ended.then(() => over.abort());
    if (!(await untilSilent(() => life.link.ask('alive'), patience, clock, over.signal))) return;
    const { pid } = life.process;
    const silentMs = patience.everyMs * patience.questions;
    log.error('a worker hangs, and is killed: it gave no sign of life for too long', { worker: number, pid, silentMs });
    life.process.kill('SIGKILL');
  };

  type Begun = { readonly life: Life; readonly opened: Omit<Opened, 'listening'> };

  /** @throws what the worker could not do, or how it ended meanwhile */
  const begin = async (number: number, isFirst: boolean): Promise<Begun> => {
    for (let pause = PAUSE_FIRST_MS; ; pause = longer(pause)) {
      if (stopping) throw new Error('the relay stops');
      const life = bear(number);
      try {
        return await beginWith(life, number, isFirst);
      } catch (error) {
        // It gives up because it is told to stop, and has the time for it that any other has.
        if (stopping) throw error;
        const how = await finish(life);
        if (stopping || !isToAll(how)) throw error;
        const facts = { worker: number, signal: how, inMs: pause };
        log.warn('a worker was told to end before it could leave that to the relay, and is started again', facts);
      }
      await clock.sleep(pause, stop.signal);
    }
  };

  const beginWith = async (life: Life, number: number, isFirst: boolean): Promise<Begun> => {
    const given = current;
    const order: Order = { config: given, number, isFirst, lastSeen };
    const opened = await life.link.ask<Begun['opened']>('begin', order);
    // A new configuration may have come meanwhile.
    for (let has = given; has !== current; ) {
      const next = current;
      await life.link.ask('prepare', next);
      await life.link.ask('take');
      has = next;
    }
    life.isOpen = true;
    void mind(number, life);
    return { life, opened };
  };

  /** What was found good: a worker that cannot take it is born again with it. Never rejects. */
  const take = async ({ link, process: worker }: Life, untried: Config | null): Promise<void> => {
    try {
      if (untried) await link.ask('prepare', untried);
      await link.ask('take');
    } catch (error) {
      log.error('a worker could not take the new configuration, and is ended', {
        pid: worker.pid,
        error: messageOf(error),
      });
      worker.kill('SIGKILL');
    }
  };

  const listenWith = async (life: Life): Promise<void> => {
    await life.link.ask('listen');
    life.isListening = true;
    doors.goOn();
  };

  const startOne = (life: Life): Promise<TrustState> => {
    life.started ??= life.link.ask<TrustState>('start');
    return life.started;
  };

  const up = (): readonly (readonly [number, Life])[] => [...lives].filter(([, { isListening }]) => isListening);

  /** What a dead worker was delivering is due at once, if anybody is left who can see to it. */
  const takeOver = async (number: number): Promise<void> => {
    for (const [other, { link }] of up()) {
      try {
        const { leases } = await within(link.ask<{ readonly leases: number }>('takeOver', number));
        if (leases > 0) log.info('took over what a worker had left', { worker: other, from: number, leases });
        return;
      } catch (error) {
        log.warn('what a worker had left could not be taken over', {
          worker: other,
          from: number,
          error: messageOf(error),
        });
      }
    }
  };

  /** Starts it again for ever, until the relay stops. Never rejects. */
  const watch = async (number: number, first: Life): Promise<void> => {
    let pause = PAUSE_FIRST_MS;
    for (let life: Life | null = first; !stopping; ) {
      const born = performance.now();
      if (life) {
        const how = await life.ended;
        if (stopping) return;
        tally.gone(life);
        if (performance.now() - born > HEALTHY_MS) pause = PAUSE_FIRST_MS;
        log.error('a worker died and is started again', {
          worker: number,
          how: how ?? 'it left by itself',
          inMs: pause,
        });
        await takeOver(number);
      }
      await clock.sleep(pause, stop.signal);
      pause = longer(pause);
      if (stopping) return;
      let begun: Life | null = null;
      try {
        begun = (await begin(number, false)).life;
        await listenWith(begun);
        if (hasStarted) await startOne(begun);
        log.info('a worker was started again', { worker: number });
      } catch (error) {
        if (stopping) return;
        log.error('a worker could not be started', { worker: number, error: messageOf(error), inMs: pause });
        // It may live and do half of its work: the next one would find its place taken.
        if (begun) await finish(begun);
        begun = null;
      }
      life = begun;
    }
  };
  const stop = new AbortController();

  const end = async (number: number, life: Life): Promise<void> => {
    const limit = new AbortController();
    void clock.sleep(current.shutdownGrace + FAREWELL_MS, limit.signal).then(() => {
      if (!limit.signal.aborted) life.process.kill('SIGKILL');
    });
    life.link.tell('stop');
    const how = await life.ended;
    limit.abort();
    // One that has just been born does not know yet to leave such a signal to us.
    if (isToAll(how) && !life.isOpen) return;
    if (how !== null) throw new Error(`worker ${String(number)} ended with ${how}`);
  };

  const askAll = <Answer>(name: string): Promise<readonly (Answer | null)[]> =>
    Promise.all(up().map(([, { link }]) => within(link.ask<Answer>(name)).catch(() => null)));

  return {
    listen: async () => {
      parts.opened(null, async () => {
        stopping = true;
        stop.abort();
        doors.close();
        const ends = await Promise.allSettled([...lives].map(([number, life]) => end(number, life)));
        const failed = ends.flatMap((one) => (one.status === 'rejected' ? [messageOf(one.reason)] : []));
        if (failed.length > 0) throw new Error(failed.join(', '));
      });
      current = await withResolver(config, log, parts);
      const first = await begin(1, true);
      const others = await Promise.all(Array.from({ length: count - 1 }, (_, index) => begin(index + 2, false)));
      await Promise.all([first, ...others].map(({ life }) => listenWith(life)));
      if (stopping) throw new Error('the relay stops');
      const listening = await doors.open();
      for (const [index, { life }] of [first, ...others].entries()) void watch(index + 1, life);
      return { ...first.opened, listening };
    },
    start: async () => {
      hasStarted = true;
      // One that dies meanwhile is started again, and then starts at once.
      const starts = await Promise.allSettled(up().map(([, life]) => startOne(life)));
      const states = starts.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
      const [trust] = states.toSorted((a, b) => Number(a.kind === 'proven') - Number(b.kind === 'proven'));
      return trust ?? { kind: 'untested' };
    },
    health: async () => {
      const answers = await askAll<{ readonly idle: boolean }>('health');
      return { idle: answers.every((answer) => answer?.idle === true), workers: up().length };
    },
    reasons: async () => {
      const answers = await askAll<readonly string[]>('reasons');
      if (answers.length === 0) return ['no worker is running'];
      return [...new Set(answers.flatMap((answer) => answer ?? ['a worker does not answer']))];
    },
    metrics: async () => {
      await Promise.all(
        up().map(async ([, life]) => {
          const metrics = await within(life.link.ask<MetricsOfOne>('metrics')).catch(() => null);
          if (metrics) tally.read(life, metrics);
        }),
      );
      return tally.print();
    },
    take: async (next) => {
      const given = { ...next, resolver: current.resolver };
      const all = [...lives.values()].filter(({ isOpen }) => isOpen);
      if (all.length === 0) throw new Error('no worker is running that could try it');
      // One after the other: the first one may have to make a certificate.
      for (const { link } of all) await link.ask('prepare', given);
      current = given;
      // They came back with the old one while the others tried this one.
      const late = [...lives.values()].filter((life) => life.isOpen && !all.includes(life));
      arbiter.setLimits(arbiterLimits(next));
      log.setLevel(next.log.level);
      // All have found it good. One that dies now begins with it.
      await Promise.all([...all.map((life) => take(life, null)), ...late.map((life) => take(life, given))]);
    },
  };
}

/** The configuration with the address of a resolver that runs, for workers that are not to run one each. */
async function withResolver(config: Config, log: RelayLog, parts: Parts): Promise<Config> {
  if (config.resolver.kind !== 'managed') return config;
  const { anchor, include, probe } = config.resolver;
  const files = { ...(anchor !== null && { anchor }), ...(include !== null && { include }) };
  const unbound = await startUnbound({ dir: join(config.state, 'unbound'), log, ...files });
  parts.opened(unbound, ({ close }) => close());
  return { ...config, resolver: { kind: 'external', endpoint: unbound.server, probe } };
}

function longer(pause: number): number {
  return Math.min(pause * 2, PAUSE_MOST_MS);
}

function isToAll(how: string | null): boolean {
  return SIGNALS_TO_ALL.some((signal) => signal === how);
}

function arbiterLimits({ delivery, intake }: Config): ArbiterLimits {
  return { perHost: delivery.connectionsPerHost, total: delivery.connections, gate: intake };
}

async function within<Answer>(answer: Promise<Answer>): Promise<Answer> {
  const done = new AbortController();
  try {
    return await Promise.race([
      answer,
      clock.sleep(PATIENCE_MS, done.signal).then(() => Promise.reject(new Error('it does not answer'))),
    ]);
  } finally {
    done.abort();
  }
}
