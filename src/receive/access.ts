/**
 * Who may connect, and who may send for which domain. Pure: rules and facts in, a decision out; nothing is open
 * that a rule does not open.
 */
import { hash, timingSafeEqual } from 'node:crypto';
import { BlockList, isIP } from 'node:net';
import { domainOf, fitsPattern, literalAddress } from '../shared/domain-name.ts';
import type { Rate } from '../shared/rate.ts';
import { type Refusal, refuse } from './refusal.ts';

/** One client of the relay, as the operator names it. */
export interface ClientRule {
  readonly name: string;
  /** Networks in CIDR notation (`10.1.0.0/16`, `2001:db8::/32`) or single addresses. */
  readonly networks: readonly string[];
  /** SPKI pins of its client certificate, `sha256/…=`. With a pin, TLS is needed whatever `tls` says. */
  readonly pins: readonly string[];
  readonly tls: 'required' | 'optional';
  /**
   * Sender domains: `example.nl`, `*.example.nl` (any depth below, not the domain itself) or `*`. An empty list allows
   * no domain. The null sender is allowed to every client, because bounces and automatic replies have no other.
   */
  readonly senders: readonly string[];
  /** Messages that it may begin; null for any number. */
  readonly rate: Rate | null;
}

/** What the connection has shown of its client so far. */
export interface Credentials {
  readonly secure: boolean;
  /** Pin of the client certificate; null when there was none, or none that can be read. */
  readonly pin: string | null;
}

export interface Access {
  /** The rules that an address may still turn out to be; empty for a stranger. */
  readonly candidates: (address: string) => readonly ClientRule[];
  /**
   * The client whose mail this is.
   *
   * @param sender reverse-path in canonical form, empty for the null sender
   */
  readonly mayMail: (
    candidates: readonly ClientRule[],
    credentials: Credentials,
    sender: string,
  ) => { readonly client: ClientRule } | { readonly refusal: Refusal };
}

/** @throws TypeError when a network of a rule is not CIDR notation, which the configuration should have said */
export function createAccess(clients: readonly ClientRule[]): Access {
  const rules = clients.map((client) => ({ client, networks: networksOf(client) }));
  const digests = new Map(clients.map((client) => [client, client.pins.map(digestOf)]));
  return {
    candidates: (address) => {
      const [bare, family] = normalised(address);
      if (family === null) return [];
      return rules.filter(({ client, networks }) => isCandidate(client, networks, bare, family)).map((r) => r.client);
    },
    mayMail: (candidates, credentials, sender) => {
      const pin = credentials.pin === null ? null : digestOf(credentials.pin);
      const proven = candidates.filter((client) =>
        isProven(client, credentials.secure, pin, digests.get(client) ?? []),
      );
      if (proven.length === 0) return { refusal: whyNotProven(candidates, credentials) };
      const client = proven.find(({ senders }) => sender === '' || senders.some((pattern) => fits(pattern, sender)));
      if (client) return { client };
      const names = proven.map(({ name }) => name).join(', ');
      return { refusal: refuse('sender-not-allowed', `${domainOf(sender)} is not a sender domain of ${names}`) };
    },
  };
}

/** An address without the clothes of IPv4-mapped IPv6 (RFC 4291 §2.5.5.2), as peers of a dual-stack socket have. */
export function plainAddress(address: string): string {
  return /^::ffff:([0-9.]+)$/i.exec(address)?.[1] ?? address;
}

type Family = 'ipv4' | 'ipv6';

function normalised(address: string): readonly [string, Family | null] {
  const bare = plainAddress(address).replace(/%.*$/, '');
  const version = isIP(bare);
  return [bare, version === 0 ? null : version === 4 ? 'ipv4' : 'ipv6'];
}

function networksOf(client: ClientRule): BlockList {
  const list = new BlockList();
  for (const network of client.networks) {
    const [address = '', bits] = network.split('/');
    const [bare, family] = normalised(address);
    const longest = family === 'ipv4' ? 32 : 128;
    const prefix = bits === undefined ? longest : /^\d{1,3}$/.test(bits) ? Number(bits) : Number.NaN;
    if (family === null || !(prefix <= longest)) throw new TypeError(`client ${client.name}: no network: ${network}`);
    list.addSubnet(bare, prefix, family);
  }
  return list;
}

/** A rule without networks is for any address, but only when a pin then proves who it is. */
function isCandidate(client: ClientRule, networks: BlockList, address: string, family: Family): boolean {
  if (client.networks.length === 0) return client.pins.length > 0;
  return networks.check(address, family);
}

/** @param known digests of the pins of `client` */
function isProven(client: ClientRule, secure: boolean, pin: Buffer | null, known: readonly Buffer[]): boolean {
  if (client.pins.length === 0) return secure || client.tls === 'optional';
  // Every pin is compared: how long this takes must not tell which one came close.
  return secure && pin !== null && known.map((digest) => timingSafeEqual(digest, pin)).includes(true);
}

/** Pins are compared by their digests: these have the same length, whatever was shown. */
function digestOf(pin: string): Buffer {
  return hash('sha256', pin, 'buffer');
}

function whyNotProven(candidates: readonly ClientRule[], { secure, pin }: Credentials): Refusal {
  if (candidates.length === 0) return refuse('client-unknown', '');
  if (!secure) return refuse('client-needs-tls', 'Must issue a STARTTLS command first');
  const names = candidates.map(({ name }) => name).join(', ');
  if (pin === null) return refuse('client-certificate-missing', `no certificate was presented as ${names}`);
  return refuse('client-certificate-unknown', `${pin} is not a pin of ${names}`);
}

function fits(pattern: string, sender: string): boolean {
  const domain = domainOf(sender);
  if (pattern !== '*' && literalAddress(domain) !== null) return false;
  return fitsPattern(pattern, domain);
}
