/**
 * The closed internet as a table: who takes mail, what they publish, how they behave, and what must become of a message.
 *
 * Each destination is a good one with one thing changed. Read it as the list of cases that DANE is about; the demo, the
 * tests and `dane-relay lab` are all made from it.
 */
import type { ReasonCode } from '../src/model/reasons.ts';
import type { Mood } from './host.ts';
import type { Serving } from './policy-host.ts';

/** What certificate a host presents. */
export type CertificateKind =
  /** One that signs itself, for the host's own name. */
  | 'self-signed'
  /** Leaf and intermediate under a root of the lab; the root is sent too. */
  | 'chain'
  /** The same, but the time of the leaf is over. */
  | 'chain-expired'
  /** The same, but the leaf is for other names. */
  | 'chain-other-names'
  /** One for the host's own name under the authority that everybody in the lab believes. */
  | 'public'
  /** The same for other names. */
  | 'public-other-names';

/** One TLSA record: its three numbers, and which certificate it is made from. */
export interface PublishedTlsa {
  readonly numbers: readonly [usage: 0 | 1 | 2 | 3, selector: 0 | 1, matching: 0 | 1 | 2];
  /** The host's own certificate, the root above it, or the one of somebody else. */
  readonly of: 'host' | 'root' | 'stranger';
}

export interface HostEntry {
  readonly name: string;
  readonly preference: number;
  readonly mood: Mood;
  readonly certificate: CertificateKind;
  readonly tlsa: readonly PublishedTlsa[];
  /** True when the signatures of the TLSA records do not hold: looking them up fails. */
  readonly tlsaForged?: boolean;
  /** The name in the MX record is an alias of this one, where the TLSA records are. */
  readonly canonical?: string;
  /** True when the lab only gives it a name, an address and a certificate: some other program listens there. */
  readonly elsewhere?: boolean;
}

/** The MTA-STS policy of a domain. */
export interface PublishedSts {
  /** Version, as the TXT record has it. */
  readonly id: string;
  readonly mode: 'enforce' | 'testing' | 'none';
  readonly mx: readonly string[];
  /** Seconds. */
  readonly maxAge: number;
  readonly serving: Serving;
}

/** What must become of one plain message to this destination. */
export interface Expectation {
  readonly event: 'delivered' | 'deferred' | 'bounced';
  readonly code: ReasonCode;
  /** As `verdict` in the log; absent when no connection was made or none came to an end. */
  readonly verdict?: 'authenticated' | 'host-authenticated' | 'encrypted' | 'clear';
  /** Hosts that must take it, and no other. */
  readonly arrivesAt: readonly string[];
  /** Hosts that must not even be dialled. */
  readonly notDialled: readonly string[];
}

export interface Destination {
  readonly domain: string;
  /** What is published and what is wrong, in one sentence for people. */
  readonly tells: string;
  /** Why the expected end is the right one, in one sentence for people. */
  readonly because: string;
  readonly dnssec: 'signed' | 'unsigned' | 'bogus';
  /** Empty for a null MX (RFC 7505). */
  readonly hosts: readonly HostEntry[];
  readonly sts?: PublishedSts;
  /** True when it publishes keys of DKIM, for its mail to be signed with. */
  readonly signs?: true;
  /** Where it wants its TLS reports: the web server of the lab, or a `mailto:`; absent for nowhere. */
  readonly reports?: 'https' | `mailto:${string}`;
  readonly expect: Expectation;
}

const OWN_KEY: PublishedTlsa = { numbers: [3, 1, 1], of: 'host' };
const STRANGER_KEY: PublishedTlsa = { numbers: [3, 1, 1], of: 'stranger' };
const ROOT: PublishedTlsa = { numbers: [2, 0, 1], of: 'root' };

/** A good host: `mx.DOMAIN`, STARTTLS, a certificate that signs itself, and its 3 1 1 in DNS. */
export function goodHost(domain: string, changes: Partial<HostEntry> = {}): HostEntry {
  return {
    name: `mx.${domain}`,
    preference: 10,
    mood: 'well',
    certificate: 'self-signed',
    tlsa: [OWN_KEY],
    ...changes,
  };
}

/** A policy that enforces, lists `mx.DOMAIN` and is served as it should be. */
export function goodSts(domain: string, changes: Partial<PublishedSts> = {}): PublishedSts {
  return { id: '1', mode: 'enforce', mx: [`mx.${domain}`], maxAge: 604_800, serving: 'well', ...changes };
}

type Story = Pick<Destination, 'tells' | 'because'>;

function delivered(
  domain: string,
  story: Story,
  code: ReasonCode,
  verdict: NonNullable<Expectation['verdict']>,
  changes: Partial<HostEntry> & { readonly dnssec?: Destination['dnssec']; readonly sts?: PublishedSts } = {},
): Destination {
  const { dnssec = 'signed', sts, ...host } = changes;
  const entry = goodHost(domain, host);
  const expect: Expectation = { event: 'delivered', code, verdict, arrivesAt: [entry.name], notDialled: [] };
  return { domain, ...story, dnssec, hosts: [entry], ...(sts && { sts }), expect };
}

function waits(
  domain: string,
  story: Story,
  code: ReasonCode,
  changes: Partial<HostEntry> & {
    readonly dnssec?: Destination['dnssec'];
    readonly dialled?: boolean;
    readonly sts?: PublishedSts;
  } = {},
): Destination {
  const { dnssec = 'signed', dialled = true, sts, ...host } = changes;
  const entry = goodHost(domain, host);
  const expect: Expectation = { event: 'deferred', code, arrivesAt: [], notDialled: dialled ? [] : [entry.name] };
  return { domain, ...story, dnssec, hosts: [entry], ...(sts && { sts }), expect };
}

/** The sender's own domain: the legacy mail server's users live here, and bounces come back to it. */
export const HOME = 'office.test';

export const WORLD: readonly Destination[] = [
  {
    ...delivered(
      HOME,
      {
        tells: 'the domain of the sender, with two keys of DKIM; bounces come back to it',
        because: 'its host is in order',
      },
      'dane-ee',
      'authenticated',
    ),
    signs: true,
  },
  delivered(
    'dane-ee.test',
    {
      tells: 'TLSA 3 1 1: the fingerprint of the key of its mail host',
      because: 'the host presents exactly that key',
    },
    'dane-ee',
    'authenticated',
  ),
  delivered(
    'dane-ta.test',
    {
      tells: 'TLSA 2 0 1: the fingerprint of the authority that issues its certificates',
      because: 'the chain that the host sends ends at that authority, is in time, and is for its name',
    },
    'dane-ta',
    'authenticated',
    { certificate: 'chain', tlsa: [ROOT] },
  ),
  {
    ...waits(
      'wrong-certificate.test',
      {
        tells: 'TLSA 3 1 1, but its host presents another key, as somebody in between would have to',
        because: 'whoever answers has not proven to be the host that the domain named',
      },
      'tlsa-mismatch',
      { tlsa: [STRANGER_KEY] },
    ),
    reports: `mailto:tls-reports@${HOME}`,
  },
  {
    ...waits(
      'stripped.test',
      {
        tells: 'TLSA 3 1 1, but on the way STARTTLS was taken out of what the host offers',
        because: 'TLSA is a promise of TLS; without TLS somebody is in between',
      },
      'starttls-not-offered',
      { mood: 'no-starttls' },
    ),
    reports: 'https',
  },
  waits(
    'lookup-fails.test',
    {
      tells: 'TLSA whose DNSSEC signature does not hold, as when somebody in between rewrites it',
      because: 'nobody knows what the domain demands, so its host is not even dialled',
    },
    'tlsa-lookup-failed',
    { tlsaForged: true, dialled: false },
  ),
  delivered(
    'requiretls.test',
    {
      tells: 'TLSA 3 1 1, and its host offers REQUIRETLS',
      because: 'the host presents exactly that key; a message that demands TLS all the way may go there too',
    },
    'dane-ee',
    'authenticated',
    { mood: 'requiretls' },
  ),
  waits(
    'weak-tls.test',
    {
      tells: 'TLSA 3 1 1, and its host can do no better than TLS 1.2 with CBC and SHA-1',
      because: 'TLSA is a promise of TLS, and this is insufficient after the guidelines of the NCSC',
    },
    'tls-too-weak',
    { mood: 'weak-cipher' },
  ),
  delivered(
    'no-tlsa.test',
    {
      tells: 'no TLSA; its host offers STARTTLS',
      because: 'nothing was promised, so TLS is used because it is offered, with any certificate',
    },
    'encrypted-opportunistic',
    'encrypted',
    { tlsa: [] },
  ),
  delivered(
    'unusable.test',
    {
      tells: 'only TLSA 1 0 1, a usage that mail cannot use',
      because: 'TLS was promised and is demanded; there is nothing to check the certificate against',
    },
    'encrypted-unauthenticated',
    'encrypted',
    { tlsa: [{ numbers: [1, 0, 1], of: 'host' }] },
  ),
  {
    domain: 'null-mx.test',
    tells: 'a null MX: it takes no mail at all',
    because: 'no later attempt can change that, so the sender is told at once',
    dnssec: 'signed',
    hosts: [],
    expect: { event: 'bounced', code: 'null-mx', arrivesAt: [], notDialled: [] },
  },
  delivered(
    'unsigned.test',
    {
      tells: 'no DNSSEC; a TLSA record that anybody could have put there',
      because: 'records that are not signed prove nothing, so this is as if none were there',
    },
    'encrypted-opportunistic',
    'encrypted',
    { dnssec: 'unsigned', tlsa: [STRANGER_KEY] },
  ),
  delivered(
    'clear.test',
    { tells: 'no TLSA, and a host without STARTTLS', because: 'nothing was promised and nothing better is offered' },
    'clear-not-offered',
    'clear',
    { tlsa: [], mood: 'no-starttls' },
  ),
  waits(
    'bogus.test',
    {
      tells: 'a zone whose signatures do not hold',
      because: 'nobody knows who takes its mail',
    },
    'mx-lookup-failed',
    { dnssec: 'bogus', dialled: false },
  ),
  waits(
    'expired.test',
    {
      tells: 'TLSA 2 0 1, but the certificate of its host is out of time',
      because: 'with an authority the dates count (with 3 1 1 they would not)',
    },
    'tlsa-expired',
    { certificate: 'chain-expired', tlsa: [ROOT] },
  ),
  waits(
    'other-names.test',
    {
      tells: 'TLSA 2 0 1, but the certificate of its host is for other names',
      because: 'the authority vouches for many hosts; this certificate is not the one of this host',
    },
    'tlsa-name-mismatch',
    { certificate: 'chain-other-names', tlsa: [ROOT] },
  ),
  {
    domain: 'two-hosts.test',
    tells: 'two MX hosts with TLSA 3 1 1, the first of which presents another key',
    because: 'the first is passed over; the second proves itself',
    dnssec: 'signed',
    hosts: [
      goodHost('two-hosts.test', { name: 'mx1.two-hosts.test', tlsa: [STRANGER_KEY] }),
      goodHost('two-hosts.test', { name: 'mx2.two-hosts.test', preference: 20 }),
    ],
    expect: {
      event: 'delivered',
      code: 'dane-ee',
      verdict: 'authenticated',
      arrivesAt: ['mx2.two-hosts.test'],
      notDialled: [],
    },
  },
  delivered(
    'alias.test',
    {
      tells: 'an MX that is a signed alias of another name, where the TLSA is',
      because: 'the alias is signed, so the records at its end count',
    },
    'dane-ee',
    'authenticated',
    { canonical: 'real.alias.test' },
  ),
  delivered(
    'rollover.test',
    {
      tells: 'two TLSA 3 1 1: the key before and the key after a rollover',
      because: 'one match is enough',
    },
    'dane-ee',
    'authenticated',
    { tlsa: [STRANGER_KEY, OWN_KEY] },
  ),
  {
    ...waits(
      'greylisting.test',
      { tells: 'TLSA 3 1 1; asks everybody to come back once', because: 'it is tried again, and then taken' },
      'remote-later',
      { mood: 'greylists' },
    ),
  },
  {
    domain: 'unknown-user.test',
    tells: 'TLSA 3 1 1; does not know the recipient',
    because: 'the host that refuses has proven who it is, so its word counts',
    dnssec: 'signed',
    hosts: [goodHost('unknown-user.test', { mood: 'unknown-users' })],
    expect: { event: 'bounced', code: 'remote-refused', arrivesAt: [], notDialled: [] },
  },
  delivered(
    'sts-enforced.test',
    {
      tells: 'no TLSA, but an MTA-STS policy that enforces and lists its host',
      because: 'the host has a certificate that is valid for its name, as the policy demands',
    },
    'webpki-matched',
    'authenticated',
    { tlsa: [], certificate: 'public', sts: goodSts('sts-enforced.test') },
  ),
  waits(
    'sts-other-host.test',
    {
      tells:
        'an MTA-STS policy that enforces, and an MX that it does not list, as somebody who forges DNS would have to',
      because: 'the policy came over HTTPS from the domain itself; its MX records came from anybody',
    },
    'sts-mx-not-listed',
    {
      dnssec: 'unsigned',
      tlsa: [],
      certificate: 'public',
      dialled: false,
      sts: goodSts('sts-other-host.test', { mx: ['*.mail.sts-other-host.test'] }),
    },
  ),
  waits(
    'sts-self-signed.test',
    {
      tells: 'an MTA-STS policy that enforces, but its host has a certificate that signs itself',
      because: 'nobody vouches for that certificate, and no TLSA does either',
    },
    'webpki-not-trusted',
    { tlsa: [], sts: goodSts('sts-self-signed.test') },
  ),
  delivered(
    'sts-testing.test',
    {
      tells: 'an MTA-STS policy that only tests, and a certificate that signs itself',
      because: 'what does not hold is noted, and the mail goes',
    },
    'encrypted-opportunistic',
    'encrypted',
    { tlsa: [], sts: goodSts('sts-testing.test', { mode: 'testing' }) },
  ),
  delivered(
    'sts-none.test',
    { tells: 'an MTA-STS policy that takes the earlier one back: mode none', because: 'nothing is demanded any more' },
    'encrypted-opportunistic',
    'encrypted',
    { tlsa: [], sts: goodSts('sts-none.test', { mode: 'none' }) },
  ),
  delivered(
    'sts-missing.test',
    {
      tells: 'a record that announces an MTA-STS policy, which is not where it should be',
      because: 'nothing was known of it before, so this is as if it had none',
    },
    'encrypted-opportunistic',
    'encrypted',
    { tlsa: [], sts: goodSts('sts-missing.test', { serving: 'missing' }) },
  ),
  delivered(
    'sts-and-dane.test',
    {
      tells: 'TLSA 3 1 1, and an MTA-STS policy that lists other hosts',
      because: 'DANE has tied the host to the domain; the policy of MTA-STS has no say then',
    },
    'dane-ee',
    'authenticated',
    { sts: goodSts('sts-and-dane.test', { mx: ['mx.elsewhere.test'] }) },
  ),
  delivered(
    'seven-bit.test',
    {
      tells: 'TLSA 3 1 1; a host that takes 7-bit text only',
      because: 'plain text fits; a message with 8-bit content would be returned',
    },
    'dane-ee',
    'authenticated',
    { mood: 'seven-bit' },
  ),
];

/** The destinations of the demo's story, in its order. */
export const STORY: readonly string[] = [
  'dane-ee.test',
  'dane-ta.test',
  'wrong-certificate.test',
  'stripped.test',
  'lookup-fails.test',
  'no-tlsa.test',
  'unusable.test',
  'sts-enforced.test',
  'sts-other-host.test',
  'null-mx.test',
  'two-hosts.test',
  'greylisting.test',
  'unknown-user.test',
];

/** A destination for which a rule of the operator stands, as in the relay's configuration. */
export interface RuledDestination extends Destination {
  readonly rule: {
    readonly tls: 'verify' | 'pin' | 'encrypt' | 'dane-only' | 'may' | 'dane';
    /** For `pin`: whose key is named. */
    readonly pinOf?: string;
    /** Another domain, whose mail hosts are to have it. */
    readonly via?: string;
  };
}

/** One for each rule, and for those that demand a proof one that does not meet it. */
export const RULED: readonly RuledDestination[] = [
  {
    ...delivered(
      'rule-verify.test',
      {
        tells: 'no TLSA; its host has a certificate of a public authority',
        because: 'the rule asks for such a certificate, for the name of the host',
      },
      'webpki-matched',
      'authenticated',
      { tlsa: [], certificate: 'public' },
    ),
    rule: { tls: 'verify' },
  },
  {
    ...waits(
      'rule-verify-private.test',
      {
        tells: 'no TLSA; its host has a certificate that signs itself',
        because: 'the rule asks for one of a public authority',
      },
      'webpki-not-trusted',
      { tlsa: [] },
    ),
    rule: { tls: 'verify' },
  },
  {
    ...delivered(
      'rule-pin.test',
      { tells: 'no TLSA; its host has the key that was agreed upon', because: 'the rule names that key' },
      'pin-matched',
      'authenticated',
      { tlsa: [] },
    ),
    rule: { tls: 'pin', pinOf: 'mx.rule-pin.test' },
  },
  {
    ...waits(
      'rule-pin-other.test',
      {
        tells: 'no TLSA; its host has another key than was agreed upon',
        because: 'the rule names the key that it must have',
      },
      'pin-mismatch',
      { tlsa: [] },
    ),
    rule: { tls: 'pin', pinOf: 'mx.rule-pin.test' },
  },
  {
    ...waits(
      'rule-encrypt.test',
      { tells: 'no TLSA, and a host without STARTTLS', because: 'the rule asks for TLS although nothing was promised' },
      'starttls-not-offered',
      { tlsa: [], mood: 'no-starttls' },
    ),
    rule: { tls: 'encrypt' },
  },
  {
    ...waits(
      'rule-dane-only.test',
      { tells: 'no TLSA; its host offers STARTTLS', because: 'the rule asks for DANE, and nothing else will do' },
      'dane-only-no-tlsa',
      { tlsa: [], dialled: false },
    ),
    rule: { tls: 'dane-only' },
  },
  {
    ...delivered(
      'rule-may.test',
      {
        tells: 'TLSA 3 1 1, but its host presents another key',
        because: 'the rule asks for TLS if offered and no more, so nobody looks at TLSA',
      },
      'encrypted-opportunistic',
      'encrypted',
      { tlsa: [STRANGER_KEY] },
    ),
    rule: { tls: 'may' },
  },
  {
    domain: 'rule-route.test',
    tells: 'a host of its own, which is not the one that is agreed upon',
    because: 'the rule sends its mail to the hosts of dane-ee.test, which prove themselves by DANE',
    dnssec: 'signed',
    hosts: [goodHost('rule-route.test')],
    expect: {
      event: 'delivered',
      code: 'dane-ee',
      verdict: 'authenticated',
      arrivesAt: [],
      notDialled: ['mx.rule-route.test'],
    },
    rule: { tls: 'dane', via: 'dane-ee.test' },
  },
];

/** The rules for `destinations` in a relay's configuration. @param pinOf `sha256/…=` of the key that a host has */
export function rulesFor(pinOf: (host: string) => string): readonly object[] {
  return RULED.map(({ domain, rule }) => ({
    domain,
    tls: rule.tls,
    ...(rule.pinOf !== undefined && { pins: [pinOf(rule.pinOf)] }),
    ...(rule.via !== undefined && { via: rule.via }),
  }));
}
