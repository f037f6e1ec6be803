/** Joins what finds things out before anything is dialled: resolver, proof, routes, TLSA, policy. */
import { networkInterfaces } from 'node:os';
import type { Config } from '../config/config.ts';
import type { Resolve } from '../model/dns.ts';
import type { Logger } from '../model/events.ts';
import { createTlsaFinder } from '../policy/dane/tlsa.ts';
import { asksForTlsa } from '../policy/decide.ts';
import { createDestinations } from '../policy/destinations.ts';
import type { ExceptionBook } from '../policy/exceptions.ts';
import { createJudge } from '../policy/judge.ts';
import type { Lookups } from '../relay.ts';
import { createLocator } from '../route/addresses.ts';
import { createRouter, type Self } from '../route/mail-hosts.ts';
import { createResolver, type ResolverOptions } from '../route/resolver.ts';
import { createTrust, type Trust, type TrustState } from '../route/trust.ts';
import { startUnbound } from '../route/unbound.ts';
import { systemClock } from '../shared/clock.ts';
import type { Parts } from '../shared/parts.ts';
import { trustInWords } from './trust-in-words.ts';

type Heard = NonNullable<ResolverOptions['onAnswer']>;

export interface Dns {
  readonly trust: Trust;
  /** Answers that are believed only while the resolver proves that it validates. */
  readonly resolve: Resolve;
  /** What has to be known of a domain, as this configuration wants it. Its resolver is the one that is open. */
  /** @param book the operator's exceptions; null to leave them out of account */
  readonly lookups: (config: Config, book: ExceptionBook | null) => Omit<Lookups, 'findSts'>;
}

/**
 * @param dir      folder for the files of a managed resolver
 * @param onAnswer hears every answer that counts, the proofs of the resolver not among them
 * @throws UnboundUnavailable when a managed resolver cannot run here
 */
export async function openDns(config: Config, dir: string, log: Logger, parts: Parts, onAnswer?: Heard): Promise<Dns> {
  const { resolver: wanted } = config;
  const server = wanted.kind === 'managed' ? (await openUnbound(wanted, dir, log, parts)).server : wanted.endpoint;
  const resolver = parts.opened(createResolver({ server, ...(onAnswer && { onAnswer }) }), ({ close }) => close());
  const { signed, bogus } = wanted.probe;
  const onChange = (state: TrustState): void => {
    resolver.forget();
    if (state.kind === 'proven') log.info('the resolver proves that it validates DNSSEC', { resolver: server });
    else log.error(`mail waits: ${trustInWords(state)}`, { resolver: server });
  };
  const probe = { resolve: resolver.resolveAfresh, signed, bogus, clock: systemClock, onChange };
  const trust = parts.opened(createTrust(probe), ({ close }) => close());
  const resolve = vouchedFor(resolver.resolve, trust);
  return { trust, resolve, lookups: (wishes, book) => lookupsFor(wishes, resolve, trust, book) };
}

/**
 * A resolver may stop validating between two proofs, and then says of everything that it is not signed. So an answer
 * that is not signed counts only when the resolver proves itself again right after it; and one that does not come at
 * all makes it prove that it is there.
 */
function vouchedFor(resolve: Resolve, trust: Trust): Resolve {
  return async (name, type) => {
    const wasTrusted = trust.trusted();
    const answer = await resolve(name, type);
    if (answer.kind === 'failed') void trust.confirm();
    // While there is no proof only destinations are looked up for which none is needed.
    if (answer.kind === 'failed' || answer.secure || !wasTrusted || (await trust.confirm())) return answer;
    return { kind: 'failed', reason: 'the resolver does not prove any more that it validates', extended: null };
  };
}

type Managed = Extract<Config['resolver'], { kind: 'managed' }>;

async function openUnbound({ anchor, include }: Managed, dir: string, log: Logger, parts: Parts) {
  const files = { ...(anchor !== null && { anchor }), ...(include !== null && { include }) };
  return parts.opened(await startUnbound({ dir, log, ...files }), (unbound) => unbound.close());
}

function lookupsFor(
  config: Config,
  resolve: Resolve,
  trust: Trust,
  book: ExceptionBook | null,
): Omit<Lookups, 'findSts'> {
  const { delivery } = config;
  const locate = createLocator({ resolve });
  const destinationOf = createDestinations({
    rules: config.destinations,
    minimum: delivery.minimum,
    reportUntil: delivery.reportUntil,
    port: delivery.port,
    now: systemClock.now,
  });
  const resolverDoubt = (): string | null => (trust.trusted() ? null : trustInWords(trust.state()));
  return {
    destination: (domain) => ({ ...destinationOf(domain), exception: book?.forDomain(domain) ?? null }),
    resolverDoubt,
    route: createRouter({ resolve, locate, self: selfOf(config) }),
    locate,
    asksForTlsa: asksForTlsa(delivery.insecureMx),
    findTlsa: createTlsaFinder({ resolve }),
    decide: createJudge({
      insecureMx: delivery.insecureMx,
      resolverDoubt,
      forHost: (host) => book?.forHost(host) ?? null,
    }),
  };
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
