/**
 * Starts the relay: opens the parts in order, joins them, and closes them in reverse. SIGTERM lets it finish and
 * stops it; SIGHUP, or `dane-relay reload`, makes it take over a new configuration.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { createAdmin } from '../admin/server.ts';
import type { Config, Endpoint } from '../config/config.ts';
import { WAITING_IN_ALL } from '../deliver/pool.ts';
import type { Logger } from '../model/events.ts';
import type { Batch, StoredBody } from '../model/message.ts';
import { verdictOf } from '../model/verdict.ts';
import { summarize } from '../policy/dane/summary.ts';
import { firstMatch } from '../policy/destinations.ts';
import { createExceptionBook } from '../policy/exceptions.ts';
import { createSchedule, type Schedule } from '../queue/schedule.ts';
import { openSqliteStore } from '../queue/sqlite.ts';
import { createStorageWatch, type StorageState } from '../queue/storage-watch.ts';
import { createWorker, type WorkerLimits } from '../queue/worker.ts';
import { loadOrMakeCertificate } from '../receive/own-certificate.ts';
import { createReceiver, type IntakeRules } from '../receive/server.ts';
import { attempt, type Stages } from '../relay.ts';
import { createLogger, type RelayLog } from '../report/log.ts';
import { createMetrics } from '../report/metrics.ts';
import { createNoticeMaker, type MakeNotice } from '../report/notice.ts';
import type { TrustState } from '../route/trust.ts';
import { systemClock as clock } from '../shared/clock.ts';
import { createClockDoubt } from '../shared/clock-doubt.ts';
import { messageOf } from '../shared/message-of.ts';
import { createParts, type Parts } from '../shared/parts.ts';
import { newQueueId } from '../shared/queue-id.ts';
import { certificatePlace } from './certificate.ts';
import { openControl } from './control.ts';
import { delivererLimits, openDeliverer } from './delivery.ts';
import { openDns, trustInWords } from './dns.ts';
import { createRechecker } from './exceptions.ts';
import { endOnMistakes } from './last-words.ts';
import { createReloader, type Reloader } from './reload.ts';
import { openSigning } from './signing.ts';
import { openSts, watchSts } from './sts.ts';
import { openTlsReports } from './tls-reports.ts';

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
  stopOnSignals(parts, log);
  endOnMistakes(parts, log);
  try {
    await startParts(config, notes, file, log, parts);
  } catch (error) {
    await parts.closeAll();
    process.stderr.write(`dane-relay: ${messageOf(error)}\n`);
    process.exitCode = 3;
  }
}

async function startParts(config: Config, notes: readonly string[], file: string | null, log: RelayLog, parts: Parts) {
  const { hostname, state } = config;
  const owner = hostname;
  const clockDoubt = createClockDoubt({
    now: clock.now,
    elapsed: () => performance.now(),
    lastSeen: lastSeenIn(state),
  });
  const store = parts.opened(await openSqliteStore({ folder: state, mode: 'relay' }), ({ close }) => close());
  const recovered = await store.recover(owner);
  if (recovered.leases + recovered.orphans > 0) log.info('picked up what was left by the last stop', { ...recovered });
  const storage = createStorageWatch({
    health: store.health,
    clock,
    onChange: (now, before) => {
      if (now.kind !== 'sound') log.error(storageInWords(now));
      else if (before.kind !== 'untested') log.info('the storage is sound again; mail is accepted');
    },
  });
  parts.opened(storage, ({ close }) => close());
  await storage.start();
  const certificate = await loadOrMakeCertificate(certificatePlace(config));

  const dns = await openDns(config, join(state, 'unbound'), log, parts);
  const { trust } = dns;
  // Before the deliverer, which ends first: nothing can leave when a fetch that mail waited for is cut off.
  const sts = openSts(state, 'kept', dns.resolve, log, parts);
  const metrics = createMetrics({
    resolverTrusted: trust.trusted,
    storageRoom: () => {
      const now = storage.state();
      return now.kind === 'sound' ? now.room : null;
    },
    queued: () => store.count(clock.now()),
  });
  const openBody = async (messageId: string): Promise<StoredBody> => {
    const bytes = worker.octetsOf(messageId);
    return bytes ? { kind: 'memory', bytes } : store.openBody(messageId);
  };
  const signing = await openSigning(config, openBody, log, parts);
  const { canSign } = signing;
  const reportParts = { accept: store.accept, resolve: dns.resolve, canSign, onEnd: metrics.tlsReport };
  const tlsReports = await openTlsReports(config, reportParts, log, parts);
  const counted: Logger = {
    ...log,
    mail: (event) => {
      metrics.count(event);
      tlsReports?.mailEnded(event);
      log.mail(event);
      const { overlooked, grant, queueId, domain, host } = event;
      if (overlooked && grant) {
        const who = grant.kind === 'report' ? 'failures are only reported' : `exception ${grant.id} of ${grant.owner}`;
        const facts = { queueId, domain, host, code: overlooked.code, grant };
        log.warn(`mail left although DANE failed (${who} until ${grant.until}): ${overlooked.explanation}`, facts);
      }
    },
  };
  const deliverer = openDeliverer(config, openBody, null, log, parts);
  const book = createExceptionBook(state, clock.now, (why) => log.error(`no exception holds: ${why}`));
  const passOver: Stages['passOver'] = (
    { messageId, domain },
    { code, detail, status, ...where },
    { policy, verdict, dnssec },
  ) => {
    const { explanation } = verdictOf(code, detail, status);
    const facts = { queueId: messageId, domain, code, ...where, policy, verdict, dnssec };
    log.info(`host passed over: ${explanation}`, facts);
  };
  /** What an attempt goes by. One that has begun keeps it, also when a new configuration comes meanwhile. */
  const stagesFor = (wishes: Config): Stages => {
    const watch = watchSts(wishes, log);
    return {
      ...dns.lookups(wishes, book),
      findSts: sts(wishes),
      deliver: deliverer.deliver,
      sign: signing.sign,
      passOver,
      sessionEnded: (end) => {
        const judged = watch(end);
        tlsReports?.sessionEnded(judged);
      },
    };
  };
  let stages = stagesFor(config);
  let grace = config.shutdownGrace;
  let current = config;
  let newest = createSchedule(config.queue);
  const schedule: Schedule = {
    expiresAt: (receivedAt) => newest.expiresAt(receivedAt),
    decide: (recipient, outcome, { batch, ...rest }) =>
      newest.decide(recipient, outcome, { ...rest, batch: younger(batch, clockDoubt()) }),
    backoff: (failures) => newest.backoff(failures),
  };
  const noticesIn = ({ notices: { language } }: Config): MakeNotice =>
    createNoticeMaker({ hostname, language, readHead: store.readHead, newId: newQueueId, clock });
  let makeNotice = noticesIn(config);
  const worker = createWorker({
    store,
    attempt: (batch) => attempt(batch, stages),
    makeNotice: (...about) => makeNotice(...about),
    schedule,
    clock,
    ...workerLimits(config),
    log: counted,
    owner,
  });
  const receiver = createReceiver({
    hostname,
    listen: config.listen,
    certificate,
    ...intakeRules(config),
    spoolDir: join(state, SPOOL),
    accept: async (message) => {
      try {
        await worker.accept(message);
      } catch (error) {
        storage.suspect();
        throw error;
      }
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
      ready: () => {
        const reasons = [
          ...(trust.trusted() ? [] : [trustInWords(trust.state())]),
          ...(storage.state().kind === 'sound' ? [] : [storageInWords(storage.state())]),
        ];
        return { ready: reasons.length === 0, reasons, notes: reportOnlyIn(current) };
      },
      metrics: metrics.print,
      onError: (error) => log.error('the admin server failed', { error: messageOf(error) }),
    }),
    ({ close }) => close(),
  );

  const reloader = createReloader(config, file, log, async (next) => {
    receiver.setCertificate(await loadOrMakeCertificate(certificatePlace(next)));
    receiver.setRules(intakeRules(next));
    deliverer.setLimits(delivererLimits(next, null));
    await signing.setConfig(next);
    worker.setLimits(workerLimits(next));
    log.setLevel(next.log.level);
    stages = stagesFor(next);
    newest = createSchedule(next.queue);
    makeNotice = noticesIn(next);
    grace = next.shutdownGrace;
    current = next;
    for (const note of reportOnlyIn(next)) log.warn(note);
  });
  const rechecker = parts.opened(
    createRechecker({
      folder: state,
      lookups: () => ({ ...dns.lookups(current, null), findSts: stages.findSts }),
      dial: async (target) => {
        const { chain, ...seen } = await deliverer.dial(target);
        return { ...seen, chain: chain.map(summarize) };
      },
      clock,
      log,
    }),
    ({ close }) => close(),
  );
  reloadOnHangup(reloader);
  await receiver.listen();
  parts.opened(null, async () => {
    // One span of time for both: what is taken in while the relay stops waits for the next start.
    const [, handedOver] = await Promise.all([receiver.close(grace), worker.drain(grace)]);
    if (!handedOver) log.warn('stopped while messages were being handed over; they are tried again');
  });
  parts.opened(await openControl(state, { reload: reloader.reload }), ({ close }) => close());
  // Mail may come in at once; it goes out when it is known whether the resolver can be believed.
  const first = await trust.start();
  worker.start();
  signing.tend(dns);
  tlsReports?.start();
  rechecker.start();
  greet({ config, file, pin: certificate.pin, madeNow: certificate.made, notes, admin, trust: first });
  for (const note of reportOnlyIn(config)) log.warn(note);
  log.info('started', { hostname, listen: receiver.addresses(), admin: admin.port, pin: certificate.pin });
}

/** What is known of the storage, in a clause for log and people. */
function storageInWords(state: StorageState): string {
  switch (state.kind) {
    case 'sound':
      return 'the storage takes mail';
    case 'untested':
      return 'the storage has not been tested yet';
    case 'full':
      return 'the disk is nearly full: new mail is refused with 452, what was accepted is delivered';
    case 'faulty':
      return `mail cannot be stored and is refused with 451: ${state.reason}`;
  }
}

/** One sentence for each part of the configuration that only reports at this moment. */
function reportOnlyIn({ delivery, destinations }: Config): readonly string[] {
  const now = clock.now();
  const ends = new Map<string, number>();
  if (delivery.reportUntil !== null) ends.set('all destinations', delivery.reportUntil);
  for (const { reportUntil, origin, domain } of destinations) {
    if (reportUntil !== null) ends.set(origin.line === null ? domain : `the rule "${origin.text}"`, reportUntil);
  }
  return [...ends]
    .filter(([, until]) => until > now)
    .map(
      ([whose, until]) =>
        `REPORT ONLY for ${whose} until ${new Date(until).toISOString()}: mail goes on where DANE fails`,
    );
}

/** A batch as old as it is when so many milliseconds do not count. */
function younger(batch: Batch, ms: number): Batch {
  return ms === 0 ? batch : { ...batch, receivedAt: batch.receivedAt + ms, expiresAt: batch.expiresAt + ms };
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

function reloadOnHangup({ reload }: Reloader): void {
  process.on('SIGHUP', () => void reload());
}

/** How much may be on its way: on all connections, and what waits for a place on one. */
function workerLimits({ delivery, destinations }: Config): WorkerLimits {
  const ruleFor = firstMatch(destinations);
  return {
    concurrency: delivery.connections * (1 + WAITING_IN_ALL),
    // On each connection one message is on its way, and one may follow it without a pause.
    perDomain: delivery.connectionsPerHost * 2,
    limitsOf: (domain) => ruleFor(domain) ?? { connections: null, rate: null },
  };
}

/** What a configuration grants to clients. */
function intakeRules({ clients, intake }: Config): IntakeRules {
  const { messageSize, bareNewlines, longLines, ...limits } = intake;
  const limitsBesides = { messageBytes: messageSize, lineBytes: LINE_BYTES, idleMs: IDLE_MS, messageMs: MESSAGE_MS };
  return { clients, bareNewlines, longLines, limits: { ...limits, ...limitsBesides } };
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
  const ready = trust.kind === 'proven' && config.clients.length > 0;
  const lines = [
    `dane-relay ${config.hostname}`,
    `  configuration  ${file ?? 'none: safe defaults'}`,
    `  listens on     ${listeners}`,
    `  certificate    ${config.certificate.cert}${madeNow ? ' (made just now)' : ''}`,
    `  its pin        ${pin}`,
    `  state          ${config.state}`,
    `  admin          http://${admin.address}:${admin.port}/readyz`,
    ...notes.map((note) => `  note           ${note}`),
    ...(trust.kind === 'proven' ? [] : [`  missing        ${trustInWords(trust)}`]),
    ...(ready ? ['  ready: it can take and deliver mail'] : []),
  ];
  process.stderr.write(`${lines.join('\n')}\n`);
}
