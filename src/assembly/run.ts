/**
 * The relay as its operator sees it, in one process or in several: SIGTERM lets it finish and stops it; SIGHUP, or
 * `dane-relay reload`, makes it take over a new configuration; monitoring asks it how it is. The work is done by a crew:
 * the one node in this process, or workers in processes of their own. Only the one that is wanted is loaded.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { createAdmin } from '../admin/server.ts';
import type { Config, Endpoint, Listener } from '../config/config.ts';
import type { Logger } from '../model/events.ts';
import { createLogger, type RelayLog } from '../report/log.ts';
import type { TrustState } from '../route/trust.ts';
import { messageOf } from '../shared/message-of.ts';
import { createParts, type Parts } from '../shared/parts.ts';
import { openControl, refuseSecond } from './control.ts';
import { endOnMistakes } from './last-words.ts';
import { createReloader, type Reloader } from './reload.ts';
import { reportOnlyIn } from './report-only.ts';
import type { Patience } from './sign-of-life.ts';
import { trustInWords } from './trust-in-words.ts';
import { workersIn } from './workers-in.ts';

/** Who does the work, and what is to be known of it. */
export interface Crew {
  /** Takes mail. It goes out after `start`. */
  readonly listen: () => Promise<Opened>;
  /** Mail goes out from now on; resolves to what is known of the resolver. */
  readonly start: () => Promise<TrustState>;
  readonly health: () => Promise<Readonly<Record<string, unknown>>>;
  /** Why mail cannot be taken or delivered now, one sentence each. */
  readonly reasons: () => Promise<readonly string[]>;
  readonly metrics: () => Promise<string>;
  /** Everybody has the new configuration afterwards, or nobody. @throws when it cannot be used */
  readonly take: (next: Config) => Promise<void>;
}

export interface Opened {
  readonly listening: readonly Listener[];
  readonly pin: string;
  /** The certificate was made just now. */
  readonly madeNow: boolean;
}

/**
 * @param notes what the operator should know of the configuration, one sentence each
 * @param patience with a worker that is silent; the usual one by default
 */
export async function start(
  config: Config,
  notes: readonly string[],
  file: string | null,
  patience?: Patience,
): Promise<void> {
  const log = createLogger(config.log.level, 1);
  const parts = createParts();
  const isStopping = stopOnSignals(parts, log);
  endOnMistakes(parts, log);
  try {
    await startParts(config, notes, file, log, parts, patience);
  } catch (error) {
    // What was being opened was closed meanwhile, by whoever ends the process when all is closed.
    if (isStopping()) return;
    await parts.closeAll();
    process.stderr.write(`dane-relay: ${messageOf(error)}\n`);
    process.exitCode = 3;
  }
}

async function startParts(
  config: Config,
  notes: readonly string[],
  file: string | null,
  log: RelayLog,
  parts: Parts,
  patience: Patience | undefined,
): Promise<void> {
  const { hostname, state } = config;
  const count = workersIn(config);
  let current = config;
  const lastSeen = lastSeenIn(state);
  const crew =
    count === 1
      ? await openAlone(config, lastSeen, log, parts)
      : await openSeveral(config, count, lastSeen, log, parts, patience);
  const admin = parts.opened(
    await createAdmin({
      listen: config.admin.listen,
      hostname,
      health: crew.health,
      ready: async () => {
        const reasons = await crew.reasons();
        return { ready: reasons.length === 0, reasons, notes: reportOnlyIn(current) };
      },
      metrics: crew.metrics,
      onError: (error) => log.error('the admin server failed', { error: messageOf(error) }),
    }),
    ({ close }) => close(),
  );
  const reloader = createReloader(config, file, log, async (next) => {
    await crew.take(next);
    current = next;
    for (const note of reportOnlyIn(next)) log.warn(note);
  });
  reloadOnHangup(reloader);
  const { listening, pin, madeNow } = await crew.listen();
  parts.opened(await openControl(state, { reload: reloader.reload }), ({ close }) => close());
  const trust = await crew.start();
  greet({ config, file, count, pin, madeNow, notes, admin, trust });
  for (const note of reportOnlyIn(config)) log.warn(note);
  log.info('started', { hostname, listen: listening, admin: admin.port, pin, ...(count > 1 && { workers: count }) });
}

async function openAlone(config: Config, lastSeen: number | null, log: RelayLog, parts: Parts): Promise<Crew> {
  const [{ openNode }, { alone }] = await Promise.all([import('./start.ts'), import('./post.ts')]);
  const node = await openNode(config, alone(config), lastSeen, log, parts);
  const { pin, made: madeNow } = node.certificate;
  return {
    listen: async () => ({ listening: await node.listen(), pin, madeNow }),
    start: node.start,
    health: async () => node.health(),
    reasons: async () => node.reasons(),
    metrics: node.metrics.print,
    take: async (next) => {
      const takeUp = await node.prepare(next);
      await takeUp();
    },
  };
}

async function openSeveral(
  config: Config,
  count: number,
  lastSeen: number | null,
  log: RelayLog,
  parts: Parts,
  patience: Patience | undefined,
): Promise<Crew> {
  await refuseSecond(config.state);
  const { openWorkers } = await import('./supervisor.ts');
  return openWorkers(config, count, lastSeen, log, parts, patience);
}

/** When a relay last wrote to the queue in this folder; null when there is none. */
function lastSeenIn(folder: string): number | null {
  try {
    const times = ['queue.db', 'queue.db-wal'].flatMap((name) => {
      return statSync(join(folder, name), { throwIfNoEntry: false })?.mtimeMs ?? [];
    });
    return times.length === 0 ? null : Math.max(...times);
  } catch {
    // Opening it says what is wrong with it.
    return null;
  }
}

/** SIGTERM and SIGINT finish what is under way and stop; a second one stops at once. Tells whether one has come. */
function stopOnSignals(parts: Parts, log: Logger): () => boolean {
  let stopping = false;
  const stop = async (signal: string): Promise<void> => {
    if (stopping) process.exit(1);
    stopping = true;
    log.info('stopping', { signal });
    const errors = await parts.closeAll();
    for (const error of errors) log.error('not everything stopped cleanly', { error: messageOf(error) });
    process.exit(errors.length === 0 ? 0 : 1);
  };
  process.on('SIGTERM', () => void stop('SIGTERM'));
  process.on('SIGINT', () => void stop('SIGINT'));
  return () => stopping;
}

function reloadOnHangup({ reload }: Reloader): void {
  process.on('SIGHUP', () => void reload());
}

interface Greeting {
  readonly config: Config;
  readonly file: string | null;
  /** Workers. */
  readonly count: number;
  readonly pin: string;
  readonly madeNow: boolean;
  readonly notes: readonly string[];
  readonly admin: Endpoint;
  readonly trust: TrustState;
}

/** A few lines for whoever started it by hand; the log on stdout stays JSON. */
function greet({ config, file, count, pin, madeNow, notes, admin, trust }: Greeting): void {
  const listeners = config.listen.map(({ address, port, tls }) => `${address}:${port} (${tls})`).join(', ');
  const ready = trust.kind === 'proven' && config.clients.length > 0;
  const lines = [
    `dane-relay ${config.hostname}`,
    `  configuration  ${file ?? 'none: safe defaults'}`,
    `  listens on     ${listeners}`,
    `  certificate    ${config.certificate.cert}${madeNow ? ' (made just now)' : ''}`,
    `  its pin        ${pin}`,
    `  state          ${config.state}`,
    ...(count > 1 ? [`  workers        ${count}`] : []),
    `  admin          http://${admin.address}:${admin.port}/readyz`,
    ...notes.map((note) => `  note           ${note}`),
    ...(trust.kind === 'proven' ? [] : [`  missing        ${trustInWords(trust)}`]),
    ...(ready ? ['  ready: it can take and deliver mail'] : []),
  ];
  process.stderr.write(`${lines.join('\n')}\n`);
}
