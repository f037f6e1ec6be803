/**
 * One process of the relay with all stages in it: opens the parts in order, joins them, and closes them in reverse. Who
 * listens to signals and commands, and answers to monitoring, is run.ts.
 */
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import type { Config, Listener } from '../config/config.ts';
import type { Deliverer } from '../deliver/deliverer.ts';
import { WAITING_IN_ALL } from '../deliver/pool.ts';
import type { Outcome } from '../model/delivery.ts';
import type { Logger } from '../model/events.ts';
import type { Batch, LeavingBody, StoredBody } from '../model/message.ts';
import { verdictOf } from '../model/verdict.ts';
import { summarize } from '../policy/dane/summary.ts';
import { firstMatch } from '../policy/destinations.ts';
import { createExceptionBook } from '../policy/exceptions.ts';
import { createSchedule, type Schedule } from '../queue/schedule.ts';
import { createStorageWatch, type StorageState } from '../queue/storage-watch.ts';
import type { Store } from '../queue/store.ts';
import { createWorker, type WorkerLimits } from '../queue/worker.ts';
import { loadOrMakeCertificate, type OwnCertificate } from '../receive/own-certificate.ts';
import { createReceiver, type IntakeRules, type Receiver } from '../receive/server.ts';
import { attempt, forEveryone, type Stages } from '../relay.ts';
import type { RelayLog } from '../report/log.ts';
import { createMetrics, type Metrics } from '../report/metrics.ts';
import { createNoticeMaker, type MakeNotice } from '../report/notice.ts';
import type { TrustState } from '../route/trust.ts';
import { systemClock as clock } from '../shared/clock.ts';
import { createClockDoubt } from '../shared/clock-doubt.ts';
import type { Parts } from '../shared/parts.ts';
import { newQueueId } from '../shared/queue-id.ts';
import { certificatePlace } from './certificate.ts';
import { delivererLimits, openDeliverer } from './delivery.ts';
import { openDns } from './dns.ts';
import type { Colleagues, Post } from './post.ts';
import { createRechecker } from './recheck.ts';
import { openSigning } from './signing.ts';
import { openSts, watchSts } from './sts.ts';
import { openTlsReports } from './tls-reports.ts';
import { trustInWords } from './trust-in-words.ts';
import { workersIn } from './workers-in.ts';

/** Longest line of text that passes, in octets. */
const LINE_BYTES = 64 * 1024;
/** Of the connections, how many may be in the hands of mail that was tried before. */
const FOR_BACKLOG = 0.75;
/** RFC 5321 §4.5.3.2.7. */
const IDLE_MS = 5 * 60_000;
/** For the whole content of one message: a slow line may take its time, a stranger may not take for ever. */
const MESSAGE_MS = 60 * 60_000;

/** One relay process at work. */
export interface Node {
  readonly certificate: OwnCertificate;
  /** Takes mail. It goes out after `start`. */
  readonly listen: () => Promise<readonly Listener[]>;
  readonly take: Receiver['take'];
  /** Mail goes out from now on; resolves to what is known of the resolver. */
  readonly start: () => Promise<TrustState>;
  readonly health: () => Readonly<Record<string, unknown>>;
  /** Why mail cannot be taken or delivered now, one sentence each. */
  readonly reasons: () => readonly string[];
  readonly metrics: Metrics;
  /** Tries out a new configuration, and gives back what makes it hold. @throws when it cannot be used */
  readonly prepare: (next: Config) => Promise<() => Promise<void>>;
  readonly takeOver: Store['takeOver'];
  /** What the supervisor says of connections. */
  readonly granted: Deliverer['granted'];
  readonly recall: Deliverer['recall'];
}

/** @param lastSeen when the relay is known to have lived last, by the clock; null when it never did */
export async function openNode(
  config: Config,
  post: Post,
  lastSeen: number | null,
  log: RelayLog,
  parts: Parts,
): Promise<Node> {
  const { hostname, state } = config;
  const { owner, colleagues } = post;
  const clockDoubt = createClockDoubt({ now: clock.now, elapsed: () => performance.now(), lastSeen });
  const store = parts.opened(await post.openStore(), ({ close }) => close());
  const recovered = await post.recover(store);
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
  const openBody = async (messageId: string): Promise<LeavingBody> => {
    const atHand = worker.octetsOf(messageId);
    if (!atHand) return store.openBody(messageId);
    return Buffer.isBuffer(atHand)
      ? { kind: 'fresh', bytes: atHand, file: null }
      : { kind: 'fresh', bytes: Buffer.alloc(0), file: atHand };
  };
  const openToSign = async (messageId: string): Promise<StoredBody> => {
    const atHand = worker.octetsOf(messageId);
    return Buffer.isBuffer(atHand) ? { kind: 'memory', bytes: atHand } : store.openBody(messageId);
  };
  const signing = await openSigning(config, openToSign, log, parts);
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
      if (overlooked && grant && event.event === 'delivered') {
        const who = grant.kind === 'report' ? 'failures are only reported' : `exception ${grant.id} of ${grant.owner}`;
        const facts = { queueId, domain, host, code: overlooked.code, grant };
        log.warn(`mail left although DANE failed (${who} until ${grant.until}): ${overlooked.explanation}`, facts);
      }
    },
  };
  const deliverer = openDeliverer(config, openBody, null, log, parts, colleagues?.permits);
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
  let limitsOf = limitsIn(config);
  const worker = createWorker({
    store,
    attempt: inTurn(
      colleagues,
      () => limitsOf,
      (batch) => attempt(batch, stages),
    ),
    makeNotice: (...about) => makeNotice(...about),
    schedule,
    clock,
    ...workerLimits(config, colleagues !== null),
    log: counted,
    owner,
  });
  const receiver = createReceiver({
    hostname,
    listen: config.listen,
    certificate,
    ...intakeRules(config),
    spoolDir: post.spoolDir,
    ...(colleagues && { supervised: colleagues.supervised }),
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
  return {
    certificate,
    listen: async () => {
      await receiver.listen();
      parts.opened(null, async () => {
        // One span of time for both: what is taken in while the relay stops waits for the next start.
        const [, handedOver] = await Promise.all([receiver.close(grace), worker.drain(grace)]);
        if (!handedOver) log.warn('stopped while messages were being handed over; they are tried again');
      });
      return receiver.addresses();
    },
    take: receiver.take,
    start: async () => {
      // Mail may come in at once; it goes out when it is known whether the resolver can be believed.
      const first = await trust.start();
      worker.start();
      if (post.doesChores) {
        signing.tend(dns);
        tlsReports?.start();
        rechecker.start();
      }
      return first;
    },
    health: () => ({ idle: worker.idle() }),
    reasons: () => [
      ...(trust.trusted() ? [] : [trustInWords(trust.state())]),
      ...(storage.state().kind === 'sound' ? [] : [storageInWords(storage.state())]),
    ],
    metrics,
    prepare: async (next) => {
      const shown = await loadOrMakeCertificate(certificatePlace(next));
      const rules = intakeRules(next);
      const wording = noticesIn(next);
      createSecureContext({ cert: shown.cert, key: shown.key });
      return async () => {
        receiver.setCertificate(shown);
        receiver.setRules(rules);
        deliverer.setLimits(delivererLimits(next, null));
        await signing.setConfig(next);
        limitsOf = limitsIn(next);
        worker.setLimits(workerLimits(next, colleagues !== null));
        log.setLevel(next.log.level);
        stages = stagesFor(next);
        newest = createSchedule(next.queue);
        makeNotice = wording;
        grace = next.shutdownGrace;
        current = next;
      };
    },
    takeOver: store.takeOver,
    granted: deliverer.granted,
    recall: deliverer.recall,
  };
}

type Attempt = (batch: Batch) => Promise<readonly Outcome[]>;

/** Destinations that are limited have their limits for all workers together: each attempt waits for its turn. */
function inTurn(colleagues: Colleagues | null, limitsOf: () => LimitsOf, attempt: Attempt): Attempt {
  if (colleagues === null) return attempt;
  return async (batch) => {
    const limits = limitsOf()(batch.domain);
    if (limits.connections === null && limits.rate === null) return attempt(batch);
    if (!(await colleagues.begin(batch.domain, limits)))
      return forEveryone(batch, { code: 'host-busy', detail: '' }, {});
    try {
      return await attempt(batch);
    } finally {
      colleagues.end(batch.domain);
    }
  };
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

/** A batch as old as it is when so many milliseconds do not count. */
function younger(batch: Batch, ms: number): Batch {
  return ms === 0 ? batch : { ...batch, receivedAt: batch.receivedAt + ms, expiresAt: batch.expiresAt + ms };
}

/** How much may be on its way: on all connections, and what waits for a place on one. */
function workerLimits(config: Config, amongOthers: boolean): WorkerLimits {
  const { delivery } = config;
  const limitsOf = limitsIn(config);
  return {
    concurrency: delivery.connections * (1 + WAITING_IN_ALL),
    // A backlog leaves connections free, and does not fill the places where others wait for one.
    again: Math.ceil((delivery.connections * FOR_BACKLOG) / (amongOthers ? workersIn(config) : 1)),
    // On each connection one message is on its way, and one may follow it without a pause.
    perDomain: delivery.connectionsPerHost * 2,
    // A rate counts for all workers: none of them may count by itself.
    limitsOf: amongOthers ? (domain) => ({ ...limitsOf(domain), rate: null }) : limitsOf,
  };
}

type LimitsOf = WorkerLimits['limitsOf'];

function limitsIn({ destinations }: Config): LimitsOf {
  const ruleFor = firstMatch(destinations);
  return (domain) => ruleFor(domain) ?? { connections: null, rate: null };
}

/** What a configuration grants to clients. */
function intakeRules({ clients, intake }: Config): IntakeRules {
  const { messageSize, bareNewlines, longLines, ...limits } = intake;
  const limitsBesides = { messageBytes: messageSize, lineBytes: LINE_BYTES, idleMs: IDLE_MS, messageMs: MESSAGE_MS };
  return { clients, bareNewlines, longLines, limits: { ...limits, ...limitsBesides } };
}
