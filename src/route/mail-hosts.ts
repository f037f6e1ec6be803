/**
 * Which hosts take mail for a next hop, in the order in which they are to be tried (RFC 5321 §5.1, RFC 7505).
 *
 * A failed MX lookup is a dead end for now: the addresses of the domain are never tried in its place. Hosts that must
 * not be used, because of their name or because they are ourselves, stay in the list with their reason. TLSA and the
 * security of the addresses are not looked at here.
 */
import { type DnsAnswer, dnssecOf, type MxRecord, type Resolve } from '../model/dns.ts';
import type { Location, MailHost, MxFacts, NextHop, Route, Trouble } from '../model/route.ts';
import { isDomain, isHostName } from '../shared/domain-name.ts';

export interface Self {
  /** Host names of this relay. */
  readonly names: readonly string[];
  /**
   * Whether a connection to this address and port would reach this relay. Leave it out when the relay listens where no
   * mail host can be (loopback only, or not on the delivery port): then no addresses are asked for here.
   */
  readonly isOwnAddress?: (address: string, port: number) => boolean;
}

export interface RouterOptions {
  readonly resolve: Resolve;
  readonly locate: (hostName: string) => Promise<Location>;
  readonly self: Self;
  /** From 0 up to but not including 1; hosts of equal preference are put in a random order (RFC 5321 §5.1). */
  readonly random?: () => number;
}

/** Never rejects. */
export type FindRoute = (nextHop: NextHop) => Promise<Route>;

/** More hosts than this are not looked at, however many the answer has. */
const HOSTS_AT_MOST = 100;

export function createRouter({ resolve, locate, self, random = Math.random }: RouterOptions): FindRoute {
  const isOwnByAddress = async (name: string, port: number): Promise<boolean> => {
    const { isOwnAddress } = self;
    if (!isOwnAddress) return false;
    const location = await locate(name);
    return location.kind === 'found' && location.addresses.some((address) => isOwnAddress(address, port));
  };
  const isOwn = async (name: string, port: number): Promise<boolean> =>
    self.names.includes(name) || /(^|\.)localhost$/.test(name) || isOwnByAddress(name, port);

  /** Marks ourselves and whoever is not preferred to us: a message must only ever come nearer (RFC 5321 §5.1). */
  const withoutLoops = async (hosts: Hosts, port: number): Promise<Hosts> => {
    const own = await Promise.all(hosts.map((host) => host.unusable === null && isOwn(host.name, port)));
    const [ours] = hosts.filter((_, i) => own[i]);
    if (!ours) return hosts;
    const code = hosts.some(({ preference }) => preference < ours.preference) ? 'own-host' : 'loop-to-self';
    const unusable = ownHost(code, ours.name);
    return mapHosts(hosts, (host) =>
      host.unusable !== null || host.preference < ours.preference ? host : { ...host, unusable },
    );
  };

  return async (nextHop) => {
    const { port } = nextHop;
    switch (nextHop.kind) {
      case 'literal': {
        const { address } = nextHop;
        const loop = self.isOwnAddress?.(address, port) === true;
        const unusable = loop ? ownHost('loop-to-self', address) : null;
        const mx: MxFacts = { kind: 'literal', dnssec: null, expanded: null };
        return { kind: 'hosts', mx, hosts: [{ name: address, preference: 0, unusable }] };
      }
      case 'host': {
        // The operator named this very host and port: only an address that leads back here is a loop, not a name.
        const { host } = nextHop;
        const loop = await isOwnByAddress(host, port);
        const unusable = loop ? ownHost('loop-to-self', host) : illegalName(host);
        const mx: MxFacts = { kind: 'route', dnssec: null, expanded: null };
        return { kind: 'hosts', mx, hosts: [{ name: host, preference: 0, unusable }] };
      }
      case 'domain': {
        const { domain } = nextHop;
        if (!isDomain(domain)) {
          const mx: MxFacts = { kind: 'none', dnssec: null, expanded: null };
          return { kind: 'dead-end', mx, trouble: { code: 'invalid-domain', detail: domain.slice(0, 300) } };
        }
        const found = judgeMx(domain, await resolve(domain, 'MX'), random);
        if (found.kind === 'dead-end') return found;
        if (found.kind === 'hosts') return { ...found, hosts: await withoutLoops(found.hosts, port) };
        const { mx } = found;
        const location = await locate(domain);
        if (location.kind !== 'absent') {
          const host: MailHost = { name: domain, preference: 0, unusable: illegalName(domain) };
          return { kind: 'hosts', mx, hosts: await withoutLoops([host], port) };
        }
        return { kind: 'dead-end', mx: { ...mx, kind: 'none' }, trouble: { code: 'no-mail-host', detail: domain } };
      }
    }
  };
}

type Hosts = readonly [MailHost, ...MailHost[]];

/** What an MX answer says; `implicit` when the domain itself is to be taken for its mail host (RFC 5321 §5.1). */
export function judgeMx(
  domain: string,
  answer: DnsAnswer<MxRecord>,
  random: () => number,
): Route | { readonly kind: 'implicit'; readonly mx: MxFacts } {
  const dnssec = dnssecOf(answer);
  if (answer.kind === 'failed') {
    const mx: MxFacts = { kind: 'failed', dnssec, expanded: null };
    return { kind: 'dead-end', mx, trouble: { code: 'mx-lookup-failed', detail: `${domain}: ${answer.reason}` } };
  }

  const expanded = answer.name === domain ? null : answer.name;
  if (answer.kind === 'absent') {
    if (!answer.nxdomain) return { kind: 'implicit', mx: { kind: 'implicit', dnssec, expanded } };
    const detail = expanded === null ? domain : `${domain} is an alias of ${expanded}`;
    return { kind: 'dead-end', mx: { kind: 'none', dnssec, expanded }, trouble: { code: 'no-such-domain', detail } };
  }

  // `.` beside other hosts breaks RFC 7505 §3; the domain evidently takes mail, so the others are used.
  const [first, ...rest] = inOrder(
    answer.records.filter(({ exchange }) => exchange !== '.'),
    random,
  );
  if (!first) {
    return { kind: 'dead-end', mx: { kind: 'null', dnssec, expanded }, trouble: { code: 'null-mx', detail: domain } };
  }
  const hosts = mapHosts([first, ...rest], ({ exchange: name, preference }) => ({
    name,
    preference,
    unusable: illegalName(name),
  }));
  return { kind: 'hosts', mx: { kind: 'mx', dnssec, expanded }, hosts };
}

/** By preference, equals shuffled, each name once at its best preference. */
function inOrder(records: readonly MxRecord[], random: () => number): MxRecord[] {
  const shuffled = records
    .map((record) => ({ record, lot: random() }))
    .toSorted((a, b) => a.record.preference - b.record.preference || a.lot - b.lot)
    .map(({ record }) => record);
  const names = new Set<string>();
  return shuffled.filter(({ exchange }) => !names.has(exchange) && names.add(exchange)).slice(0, HOSTS_AT_MOST);
}

function ownHost(code: 'own-host' | 'loop-to-self', name: string): Trouble {
  return { code, detail: `${name} is this relay` };
}

function illegalName(name: string): Trouble | null {
  return isHostName(name) ? null : { code: 'host-name-illegal', detail: name };
}

function mapHosts<Item>([first, ...rest]: readonly [Item, ...Item[]], change: (item: Item) => MailHost): Hosts {
  return [change(first), ...rest.map(change)];
}
