/**
 * Starts the relay: opens the parts in order, joins them, and closes them in reverse. SIGTERM lets it finish and
 * stops it, SIGHUP makes it read its configuration again.
 */
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { createAdmin } from '../admin/server.ts';
import { mistakeLine } from '../cli/mistakes.ts';
import type { Config, Endpoint } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import type { Logger } from '../model/events.ts';
import { verdictOf } from '../model/verdict.ts';
import { createSchedule } from '../queue/schedule.ts';
import { openSqliteStore } from '../queue/sqlite.ts';
import { createWorker } from '../queue/worker.ts';
import { loadOrMakeCertificate } from '../receive/own-certificate.ts';
import { createReceiver } from '../receive/server.ts';
import { attempt, type Stages } from '../relay.ts';
import { createLogger } from '../report/log.ts';
import { createMetrics } from '../report/metrics.ts';
import { createNoticeMaker } from '../report/notice.ts';
import type { TrustState } from '../route/trust.ts';
import { systemClock as clock } from '../shared/clock.ts';
import { messageOf } from '../shared/message-of.ts';
import { createParts, type Parts } from '../shared/parts.ts';
import { newQueueId } from '../shared/queue-id.ts';
import { certificatePlace } from './certificate.ts';
import { openDeliverer } from './delivery.ts';
import { destinationsOf, openDns, trustInWords } from './dns.ts';

/** How long a stop waits for messages that are being handed over. */
const DRAIN_MS = 30_000;
/** Below the state folder: messages that are being received and are too large for memory. */
const SPOOL = 'incoming';
/** Longest line of text that passes, in octets. */
const LINE_BYTES = 64 * 1024;
/** RFC 5321 §4.5.3.2.7. */
const IDLE_MS = 5 * 60_000;
/** For the whole content of one message: a slow line may take its time, a stranger may not take for ever. */
const MESSAGE_MS = 60 * 60_000;

/** @param notes what the operator should know of the configuration, one sentence each */
export async function start(config: Config, notes: readonly string[], file: string | null): Promise<void> {
  const log = createLogger(config.log.level, 1);
  const parts = createParts();
  try {
    await startParts(config, notes, file, log, parts);
  } catch (error) {
    await parts.closeAll();
    process.stderr.write(`dane-relay: ${messageOf(error)}\n`);
    process.exitCode = 3;
  }
}

async function startParts(config: Config, notes: readonly string[], file: string | null, log: Logger, parts: Parts) {
  const { hostname, state, queue, intake } = config;
  const owner = hostname;
  const store = parts.opened(await openSqliteStore({ folder: state, mode: 'relay' }), ({ close }) => close());
  const recovered = await store.recover(owner);
  if (recovered.leases + recovered.orphans > 0) log.info('picked up what was left by the last stop', { ...recovered });
  const certificate = await loadOrMakeCertificate(certificatePlace(config));

  const { trust, lookups } = await openDns(config, join(state, 'unbound'), log, parts);
  const metrics = createMetrics({ resolverTrusted: trust.trusted, queued: () => store.count(clock.now()) });
  const counted: Logger = {
    ...log,
    mail: (event) => {
      metrics.count(event);
      log.mail(event);
    },
  };
  const deliverer = openDeliverer(config, store.openBody, null, log, parts);
  let { destination } = lookups;
  const stages: Stages = {
    ...lookups,
    destination: (domain) => destination(domain),
    deliver: deliverer.deliver,
    passOver: ({ messageId, domain }, { code, detail, status, ...where }, { policy, verdict, dnssec }) => {
      const { explanation } = verdictOf(code, detail, status);
      log.info(`host passed over: ${explanation}`, {
        queueId: messageId,
        domain,
        code,
        ...where,
        policy,
        verdict,
        dnssec,
      });
    },
  };
  const schedule = createSchedule(queue);
  const worker = createWorker({
    store,
    attempt: (batch) => attempt(batch, stages),
    makeNotice: createNoticeMaker({ hostname, readHead: store.readHead, newId: newQueueId, clock }),
    schedule,
    clock,
    concurrency: config.delivery.connections,
    perDomain: config.delivery.connectionsPerHost,
    log: counted,
    owner,
  });
  parts.opened(worker, async ({ drain }) => {
    if (!(await drain(DRAIN_MS))) log.warn('stopped while messages were being handed over; they are tried again');
  });

  const receiver = createReceiver({
    hostname,
    listen: config.listen,
    certificate,
    clients: config.clients,
    limits: {
      messageBytes: intake.messageSize,
      recipients: intake.recipients,
      connections: intake.connections,
      connectionsPerClient: intake.connectionsPerClient,
      hops: intake.hops,
      lineBytes: LINE_BYTES,
      idleMs: IDLE_MS,
      messageMs: MESSAGE_MS,
    },
    bareNewlines: intake.bareNewlines,
    longLines: intake.longLines,
    spoolDir: join(state, SPOOL),
    accept: async (message) => {
      await store.accept(message, { expiresAt: schedule.expiresAt(message.receivedAt) });
      worker.wake();
    },
    clock,
    newId: newQueueId,
    log: counted,
  });
  const admin = parts.opened(
    await createAdmin({
      listen: config.admin.listen,
      hostname,
      health: () => ({ idle: worker.idle() }),
      ready: () => ({ ready: trust.trusted(), reasons: trust.trusted() ? [] : [trustInWords(trust.state())] }),
      metrics: metrics.print,
      onError: (error) => log.error('the admin server failed', { error: messageOf(error) }),
    }),
    ({ close }) => close(),
  );

  stopOnSignals(parts, log);
  reloadOnHangup(config, file, log, async (next) => {
    const renewed = await loadOrMakeCertificate(certificatePlace(next));
    receiver.setCertificate(renewed);
    receiver.setClients(next.clients);
    destination = destinationsOf(next);
  });
  await receiver.listen();
  parts.opened(receiver, ({ close }) => close(DRAIN_MS));
  // Mail may come in at once; it goes out when it is known whether the resolver can be believed.
  const first = await trust.start();
  worker.start();
  greet({ config, file, pin: certificate.pin, madeNow: certificate.made, notes, admin, trust: first });
  log.info('started', { hostname, listen: receiver.addresses(), admin: admin.port, pin: certificate.pin });
}

/** SIGTERM and SIGINT finish what is under way and stop; a second one stops at once. */
function stopOnSignals(parts: Parts, log: Logger): void {
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
}

/** Keys of the configuration that SIGHUP takes over; the others want a restart. */
const RELOADED: readonly (keyof Config)[] = ['clients', 'destinations', 'certificate'];

/**
 * SIGHUP reads the configuration again. What is wrong in it is told, and then all of the old one stays; connections
 * and queue are not touched.
 */
function reloadOnHangup(old: Config, file: string | null, log: Logger, take: (next: Config) => Promise<void>): void {
  const reload = async (): Promise<void> => {
    const loaded = loadConfig({ path: file, env: process.env });
    if (!loaded.ok) {
      for (const mistake of loaded.mistakes) log.error(mistakeLine(mistake));
      log.error('the new configuration was not taken; the old one stays');
      return;
    }
    const { config: next } = loaded;
    try {
      await take(next);
    } catch (error) {
      log.error(`the new configuration was not taken; the old one stays: ${messageOf(error)}`);
      return;
    }
    const keys = Object.keys(next) as (keyof Config)[];
    const changed = keys.filter((key) => !RELOADED.includes(key) && !isDeepStrictEqual(next[key], old[key]));
    log.info('took over the new configuration', {
      clients: next.clients.length,
      destinations: next.destinations.length,
    });
    if (changed.length > 0) log.warn(`a restart is needed for what has changed in: ${changed.join(', ')}`);
  };
  let last = Promise.resolve();
  process.on('SIGHUP', () => {
    last = last.then(reload);
  });
}

interface Greeting {
  readonly config: Config;
  readonly file: string | null;
  readonly pin: string;
  readonly madeNow: boolean;
  readonly notes: readonly string[];
  readonly admin: Endpoint;
  readonly trust: TrustState;
}

/** A few lines for whoever started it by hand; the log on stdout stays JSON. */
function greet({ config, file, pin, madeNow, notes, admin, trust }: Greeting): void {
  const listeners = config.listen.map(({ address, port, tls }) => `${address}:${port} (${tls})`).join(', ');
  const missing = [
    ...(config.clients.length === 0 ? ['no client is named in the configuration, so nobody may send yet'] : []),
    ...(trust.kind === 'proven' ? [] : [trustInWords(trust)]),
  ];
  const lines = [
    `dane-relay ${config.hostname}`,
    `  configuration  ${file ?? 'none: safe defaults'}`,
    `  listens on     ${listeners}`,
    `  certificate    ${config.certificate.cert}${madeNow ? ' (made just now)' : ''}`,
    `  its pin        ${pin}`,
    `  state          ${config.state}`,
    `  admin          http://${admin.address}:${admin.port}/readyz`,
    ...notes.map((note) => `  note           ${note}`),
    ...(missing.length === 0 ? ['  ready: it can take and deliver mail'] : []),
    ...missing.map((each) => `  missing        ${each}`),
  ];
  process.stderr.write(`${lines.join('\n')}\n`);
}
