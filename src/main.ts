/**
 * The one place that builds the stages and joins them. Every command of the command line is put together here from
 * the same parts that the relay itself is made of: what `explain` says is what delivery does.
 */
import './shared/node-version.ts';
import { mkdtemp, rm } from 'node:fs/promises';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { createAdmin } from './admin/server.ts';
import { checkCommand } from './cli/check.ts';
import { type ExplainOptions, explainCommand, type OpenExplainer } from './cli/explain.ts';
import { labCommand } from './cli/lab.ts';
import { exitCodeFor, mistakeLine } from './cli/mistakes.ts';
import { pinCommand } from './cli/pin.ts';
import { generalProbes } from './cli/probes.ts';
import { createProgram, runProgram } from './cli/program.ts';
import { queueCommand } from './cli/queue.ts';
import { runCommand } from './cli/run.ts';
import { tlsaCommand } from './cli/tlsa.ts';
import { verifyCommand } from './cli/verify.ts';
import type { Client, Config, Endpoint } from './config/config.ts';
import { loadConfig } from './config/load.ts';
import { loopbackEndpoint } from './config/notation.ts';
import { createDeliverer, type Deliverer } from './deliver/deliverer.ts';
import type { Logger } from './model/events.ts';
import type { Mistake } from './model/mistake.ts';
import { verdictOf } from './model/verdict.ts';
import { judgeChain } from './policy/dane/match.ts';
import { createTlsaFinder, judgeRecords, parseTlsa } from './policy/dane/tlsa.ts';
import { asksForTlsa, decide } from './policy/decide.ts';
import { createDestinations } from './policy/destinations.ts';
import { createSchedule } from './queue/schedule.ts';
import { openSqliteStore } from './queue/sqlite.ts';
import type { Store } from './queue/store.ts';
import { createWorker } from './queue/worker.ts';
import type { ClientRule } from './receive/access.ts';
import { loadOrMakeCertificate } from './receive/own-certificate.ts';
import { createReceiver } from './receive/server.ts';
import { attempt, type Lookups, type Stages } from './relay.ts';
import { createLogger } from './report/log.ts';
import { createMetrics } from './report/metrics.ts';
import { createNoticeMaker } from './report/notice.ts';
import { createLocator } from './route/addresses.ts';
import { createRouter, type Self } from './route/mail-hosts.ts';
import { createResolver } from './route/resolver.ts';
import { createTrust, type Trust, type TrustState } from './route/trust.ts';
import { startUnbound, UnboundUnavailable } from './route/unbound.ts';
import { systemClock } from './shared/clock.ts';
import { createParts, type Parts } from './shared/parts.ts';
import { newQueueId } from './shared/queue-id.ts';

const clock = systemClock;

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

// The parts that commands share

interface Dns {
  readonly trust: Trust;
  readonly lookups: Lookups;
}

/** @param dir folder for the managed resolver's files */
async function openDns(config: Config, dir: string, log: Logger, parts: Parts): Promise<Dns> {
  const { resolver: wanted } = config;
  const server = wanted.kind === 'managed' ? (await openUnbound(wanted, dir, log, parts)).server : wanted.endpoint;
  const resolver = parts.opened(createResolver({ server }), ({ close }) => close());
  const { signed, bogus } = wanted.probe;
  const onChange = (state: TrustState): void => {
    resolver.forget();
    if (state.kind === 'proven') log.info('the resolver proves that it validates DNSSEC', { resolver: server });
    else log.error(`mail waits: ${trustInWords(state)}`, { resolver: server });
  };
  const probe = { resolve: resolver.resolveAfresh, signed, bogus, clock, onChange };
  const trust = parts.opened(createTrust(probe), ({ close }) => close());
  return { trust, lookups: lookupsFor(config, resolver.resolve, trust) };
}

type Managed = Extract<Config['resolver'], { kind: 'managed' }>;

async function openUnbound({ anchor, include }: Managed, dir: string, log: Logger, parts: Parts) {
  const files = { ...(anchor !== null && { anchor }), ...(include !== null && { include }) };
  return parts.opened(await startUnbound({ dir, log, ...files }), (unbound) => unbound.close());
}

function lookupsFor(config: Config, resolve: Parameters<typeof createLocator>[0]['resolve'], trust: Trust): Lookups {
  const { delivery } = config;
  const locate = createLocator({ resolve });
  return {
    destination: destinationsOf(config),
    resolverTrusted: trust.trusted,
    route: createRouter({ resolve, locate, self: selfOf(config) }),
    locate,
    asksForTlsa: asksForTlsa(delivery.insecureMx),
    findTlsa: createTlsaFinder({ resolve }),
    decide: decide(delivery.insecureMx),
  };
}

function destinationsOf({ destinations, delivery }: Config): Lookups['destination'] {
  return createDestinations({ rules: destinations, port: delivery.port });
}

/** What would lead mail back to us: our name, and an address that we listen on at the port that we deliver to. */
function selfOf({ hostname, listen, delivery }: Config): Self {
  const own = listen.filter(({ port }) => port === delivery.port).map(({ address }) => address);
  if (own.length === 0) return { names: [hostname] };
  const all = own.some((address) => address === '0.0.0.0' || address === '::');
  const interfaces = Object.values(networkInterfaces()).flatMap((each) => each?.map(({ address }) => address) ?? []);
  const addresses = new Set([...own, ...(all ? interfaces : [])]);
  const isOwnAddress = (address: string, port: number): boolean => port === delivery.port && addresses.has(address);
  return { names: [hostname], isOwnAddress };
}

function openDeliverer({ hostname, delivery }: Config, store: Store | null, log: Logger, parts: Parts): Deliverer {
  const deliverer = createDeliverer({
    hostname,
    openBody: (messageId) => (store ? store.openBody(messageId) : Promise.reject(new Error('no message is sent here'))),
    judge: (chain, { records, referenceNames }) =>
      judgeChain({ chain, records, names: referenceNames, at: clock.now() }),
    timeouts: { connect: delivery.connectTimeout },
    pool: {
      perHost: delivery.connectionsPerHost,
      total: delivery.connections,
      messagesPerConnection: delivery.messagesPerConnection,
      idleMs: delivery.idleTimeout,
    },
    log,
  });
  return parts.opened(deliverer, ({ close }) => close());
}

function trustInWords(state: TrustState): string {
  switch (state.kind) {
    case 'proven':
      return 'the resolver proves that it validates DNSSEC';
    case 'untested':
      return 'the resolver has not been tested yet';
    case 'unreachable':
      return `the resolver cannot be reached or has lost its trust anchor: ${state.reason}`;
    case 'not-validating':
      return `the resolver does not validate DNSSEC: ${state.reason}`;
  }
}

// run

async function start(config: Config, notes: readonly string[], file: string | null): Promise<void> {
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
  const certificate = await loadOrMakeCertificate({ ...pathsOf(config), dir: state, hostname });

  const { trust, lookups } = await openDns(config, join(state, 'unbound'), log, parts);
  const metrics = createMetrics({ resolverTrusted: trust.trusted, queued: () => store.count(clock.now()) });
  const counted: Logger = {
    ...log,
    mail: (event) => {
      metrics.count(event);
      log.mail(event);
    },
  };
  const deliverer = openDeliverer(config, store, log, parts);
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
    clients: config.clients.map(clientRule),
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
    const renewed = await loadOrMakeCertificate({ ...pathsOf(next), dir: state, hostname });
    receiver.setCertificate(renewed);
    receiver.setClients(next.clients.map(clientRule));
    destination = destinationsOf(next);
  });
  const first = await trust.start();
  worker.start();
  await receiver.listen();
  parts.opened(receiver, ({ close }) => close(DRAIN_MS));
  greet({ config, file, pin: certificate.pin, madeNow: certificate.made, notes, admin, trust: first });
  log.info('started', { hostname, listen: receiver.addresses(), admin: admin.port, pin: certificate.pin });
}

function pathsOf({ certificate }: Config): { readonly certPath: string; readonly keyPath: string } {
  return { certPath: certificate.cert, keyPath: certificate.key };
}

function clientRule({ name, networks, pins, tls, senders }: Client): ClientRule {
  return {
    name,
    networks: networks ?? [],
    pins: pins ?? [],
    tls,
    senders: senders ?? ['*'],
  };
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

// explain

function openExplainer(): OpenExplainer {
  return async (options) => {
    const loaded = loadConfig({ path: options.config ?? null, env: process.env });
    if (!loaded.ok) {
      return { kind: 'refused', exitCode: exitCodeFor(loaded), why: inLines(loaded.mistakes) };
    }
    const config = withOptions(loaded.config, options);
    if (typeof config === 'string') return { kind: 'refused', exitCode: 2, why: config };
    const log = createLogger('error', 2);
    const parts = createParts();
    const dir = parts.opened(await mkdtemp(join(tmpdir(), 'dane-relay-')), (folder) =>
      rm(folder, { recursive: true, force: true }),
    );
    try {
      const { trust, lookups } = await openDns(config, dir, log, parts);
      await trust.check();
      const deliverer = openDeliverer(config, null, log, parts);
      return { kind: 'open', lookups, dial: deliverer.dial, close: async () => void (await parts.closeAll()) };
    } catch (error) {
      await parts.closeAll();
      if (!(error instanceof UnboundUnavailable)) throw error;
      return { kind: 'refused', exitCode: 3, why: error.message };
    }
  };
}

/** The configuration with what the command line says in its place, or what is wrong with that. */
function withOptions(config: Config, { resolver, port }: ExplainOptions): Config | string {
  const endpoint = resolver === undefined ? null : loopbackEndpoint.read(resolver);
  if (endpoint && !endpoint.ok) return `--resolver ${resolver}: ${endpoint.message}`;
  const number = port === undefined ? config.delivery.port : Number(port);
  if (!(Number.isInteger(number) && number >= 1 && number <= 65_535)) return `--port ${port}: expected 1 to 65535`;
  return {
    ...config,
    delivery: { ...config.delivery, port: number },
    resolver: endpoint ? { kind: 'external', endpoint: endpoint.value, probe: config.resolver.probe } : config.resolver,
  };
}

// queue and check

async function openQueue(configFile?: string): Promise<Store> {
  const loaded = loadConfig({ path: configFile ?? null, env: process.env });
  if (!loaded.ok) throw Object.assign(new Error(inLines(loaded.mistakes)), { exitCode: exitCodeFor(loaded) });
  return openSqliteStore({ folder: loaded.config.state, mode: 'visitor' });
}

function certificateProbe() {
  return {
    name: 'certificate',
    run: async (config: Config) => {
      try {
        const { pin } = await loadOrMakeCertificate({
          ...pathsOf(config),
          dir: config.state,
          hostname: config.hostname,
        });
        return { ok: true, text: `the relay shows ${pin}` };
      } catch (error) {
        return { ok: false, text: messageOf(error) };
      }
    },
  };
}

function resolverProbe() {
  return {
    name: 'resolver',
    run: async (config: Config) => {
      const parts = createParts();
      const log = createLogger('error', 2);
      try {
        const dir = parts.opened(await mkdtemp(join(tmpdir(), 'dane-relay-')), (folder) =>
          rm(folder, { recursive: true, force: true }),
        );
        const { trust } = await openDns(config, dir, { ...log, error: () => {} }, parts);
        const state = await trust.check();
        return { ok: state.kind === 'proven', text: trustInWords(state), missing: state.kind === 'unreachable' };
      } catch (error) {
        return { ok: false, text: messageOf(error), missing: error instanceof UnboundUnavailable };
      } finally {
        await parts.closeAll();
      }
    },
  };
}

function inLines(mistakes: readonly Mistake[]): string {
  return mistakes.map(mistakeLine).join('\n');
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

await runProgram(
  createProgram([
    runCommand({ loadConfig, start }),
    checkCommand({ loadConfig, probes: [...generalProbes, certificateProbe(), resolverProbe()] }),
    explainCommand(openExplainer()),
    verifyCommand({ parseTlsa, judgeRecords, judgeChain }),
    tlsaCommand(),
    pinCommand(),
    queueCommand({ openStore: openQueue }),
    labCommand(),
  ]),
  process.argv,
);
