/**
 * Starts the world of world.ts on loopback: signed zones, a validating resolver, and a mail host for every entry.
 *
 * Every host has an address of its own in 127.B.0.0/24, and all have the same port, because a name in DNS has no port.
 * That port is 25 where this process may use it. B is the first block from 25 on in which all addresses are free, so
 * that several labs can run at once.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chainOfThree, type Identity, leafUnder, publicAuthority, selfSigned, tlsaFor } from './certificates.ts';
import { type DkimKey, dkimKeysFor } from './dkim.ts';
import { type LabDns, type LabZone, startDns } from './dns.ts';
import { type Contact, type Mail, type MailHost, type Moment, type Mood, startHost } from './host.ts';
import { type PolicyHost, startPolicyHost } from './policy-host.ts';
import { type ReportHost, startReportHost } from './report-host.ts';
import { type Destination, type HostEntry, type PublishedSts, RULED, WORLD } from './world.ts';

export interface Lab {
  readonly dns: LabDns;
  /** The port that all mail hosts share. */
  readonly port: number;
  /** As `resolver` in the relay's configuration: the address, and what proves that it validates in this world. */
  readonly resolver: {
    readonly address: string;
    readonly probe: { readonly signed: string; readonly bogus: readonly string[] };
  };
  /** What a relay must be told to find and believe the policies of MTA-STS here. */
  readonly web: {
    /** Port of `https://mta-sts.DOMAIN/`. */
    readonly port: number;
    /** File with the authority that everybody here believes, as PEM. */
    readonly ca: string;
  };
  /** Keys that are published, and with which a relay here can sign. */
  readonly dkim: readonly DkimKey[];
  readonly world: readonly Destination[];
  /** The second octet of all addresses of this lab: `127.B.0.0/24`. */
  readonly block: number;
  /** All mail that arrived anywhere. */
  readonly mailboxes: () => readonly Mail[];
  /** Who dialled a host, whether or not mail came of it. */
  readonly contacts: (host: string) => readonly Contact[];
  readonly address: (host: string) => string;
  readonly identity: (host: string) => Identity;
  readonly setMood: (host: string, mood: Mood) => Promise<void>;
  /** Gives the host a new certificate that signs itself, and leaves what is published as it is. */
  readonly replaceCertificate: (host: string) => Promise<Identity>;
  /** Replaces the TLSA records of the host: lines such as `3 1 1 ab…`; by default the 3 1 1 of its present key. */
  readonly publishTlsa: (host: string, records?: readonly string[]) => Promise<void>;
  /** Where `mta-sts.DOMAIN` is, for all domains. */
  readonly webAddress: string;
  /** Publishes another MTA-STS policy for a domain of the world; null takes its TXT record away. */
  readonly publishSts: (domain: string, sts: PublishedSts | null) => Promise<void>;
  /** TLS reports that came by HTTPS, compressed as they were sent. */
  readonly tlsReports: () => readonly Buffer[];
  /** How often the MTA-STS policy of a domain was fetched. */
  readonly stsFetches: (domain: string) => number;
  readonly stop: () => Promise<void>;
}

export interface LabOptions {
  /** Folder for keys and zones, kept afterwards; a temporary one by default. */
  readonly dir?: string;
  readonly port?: number;
  readonly world?: readonly Destination[];
  /** Told what happens at the mail hosts, as it happens. */
  readonly onMoment?: (moment: Moment, host: string) => void;
  /** Zones beside those of the world, once it is known where its hosts are and what they present. */
  readonly zones?: (
    hosts: Pick<Lab, 'port' | 'address' | 'identity' | 'webAddress'>,
  ) => Readonly<Record<string, LabZone>>;
}

/** Names of the programs that the lab needs and does not find. */
export function missingTools(): readonly string[] {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/local/sbin', '/usr/sbin'];
  return ['unbound', 'ldns-signzone', 'ldns-keygen', 'setpriv'].filter(
    (tool) => !folders.some((folder) => existsSync(join(folder, tool))),
  );
}

const FIRST_BLOCK = 25;
const LAST_BLOCK = 120;

/** Rejects with a sentence when a tool is missing or no addresses are free; nothing is left running then. */
export async function startLab({
  dir,
  port,
  world = [...WORLD, ...RULED],
  onMoment,
  zones,
}: LabOptions = {}): Promise<Lab> {
  const folder = dir ?? (await mkdtemp(join(tmpdir(), 'dane-lab-')));
  const entries = world.flatMap((destination) => destination.hosts.map((entry) => ({ destination, entry })));
  const identities = new Map<string, Identities>();
  const authority = await publicAuthority();
  const ca = join(folder, 'public-authority.pem');
  await writeFile(ca, authority.chain);
  await Promise.all(
    entries.map(async ({ entry }) => identities.set(entry.name, await identitiesFor(entry, authority))),
  );
  const names = entries.map(({ entry }) => entry.name);
  const signing = world.filter(({ signs }) => signs).map(({ domain }) => dkimKeysFor(domain, folder));
  const dkim = (await Promise.all(signing)).flat();

  const hosts: MailHost[] = [];
  let web: PolicyHost | null = null;
  let reports: ReportHost | null = null;
  const stop = async (dns: LabDns | null): Promise<void> => {
    await Promise.all([...hosts, ...(web ? [web] : []), ...(reports ? [reports] : [])].map((host) => host.stop()));
    await dns?.close();
    if (dir === undefined) await rm(folder, { recursive: true, force: true });
  };
  try {
    const place = await findPlace(port, entries, identities, hosts, onMoment);
    const published = new Map<string, readonly string[]>();
    for (const { entry } of entries) published.set(entry.name, recordsFor(entry, get(identities, entry.name)));
    const addressOf = (host: string): string => `127.${place.block}.0.${names.indexOf(host) + 1}`;
    const policyHost = await startPolicyHost(authority, `127.${place.block}.0.${POLICY_HOST}`);
    web = policyHost;
    const reportHost = await startReportHost(authority, `127.${place.block}.0.${REPORT_HOST}`);
    reports = reportHost;
    const policies = new Map<string, PublishedSts>();
    const serve = async (domain: string, sts: PublishedSts): Promise<void> => {
      policies.set(domain, sts);
      await policyHost.serve(domain, policyText(sts), sts.serving);
    };
    for (const { domain, sts } of world) if (sts) await serve(domain, sts);
    const zoneOf = (destination: Destination): LabZone =>
      zoneFor(destination, {
        port: place.port,
        addressOf,
        published: (host) => get(published, host),
        web: policyHost.address,
        reportUri: reportHost.uri,
        sts: policies.get(destination.domain) ?? null,
        dkim: dkim.filter(({ domain }) => domain === destination.domain),
      });

    const ownZones = Object.fromEntries(world.map((destination) => [destination.domain, zoneOf(destination)]));
    const identity = (name: string): Identity => get(identities, name).host;
    const otherZones =
      zones?.({ port: place.port, address: addressOf, identity, webAddress: policyHost.address }) ?? {};
    const zoneOfReportHost: LabZone = { records: [`@ 0 A ${reportHost.address}`], dnssec: 'signed' };
    const dns = await startDns({
      dir: folder,
      zones: { ...ownZones, ...otherZones, [reportHost.name]: zoneOfReportHost, 'probe-bogus.test': BOGUS_PROBE },
    });
    const hostNamed = (name: string): MailHost => {
      const host = hosts.find((each) => each.name === name);
      if (!host) throw new Error(`the lab has no mail host ${name} of its own`);
      return host;
    };
    const publishTlsa = async (name: string, records?: readonly string[]): Promise<void> => {
      const found = entries.find(({ entry }) => entry.name === name);
      if (!found) throw new Error(`the lab has no mail host ${name}`);
      published.set(name, records ?? [tlsaFor(3, 1, 1, get(identities, name).host)]);
      await dns.setZone(found.destination.domain, zoneOf(found.destination));
    };
    return {
      dns,
      ...place,
      web: { port: policyHost.port, ca },
      dkim,
      world,
      resolver: {
        address: `${dns.server.address}:${dns.server.port}`,
        probe: { signed: '.', bogus: ['probe-bogus.test'] },
      },
      mailboxes: () => hosts.flatMap((host) => host.mailbox()),
      contacts: (name) => hostNamed(name).contacts(),
      address: addressOf,
      identity,
      setMood: (name, mood) => hostNamed(name).setMood(mood),
      replaceCertificate: async (name) => {
        const host = await selfSigned(name);
        identities.set(name, { ...get(identities, name), host });
        hosts.find((each) => each.name === name)?.setIdentity(host);
        return host;
      },
      publishTlsa,
      publishSts: async (domain, sts) => {
        if (sts) await serve(domain, sts);
        else policies.delete(domain);
        const destination = world.find((each) => each.domain === domain);
        // Another zone has the records that its lines say.
        if (destination) await dns.setZone(domain, zoneOf(destination));
      },
      webAddress: policyHost.address,
      tlsReports: reportHost.received,
      stsFetches: policyHost.asked,
      stop: () => stop(dns),
    };
  } catch (error) {
    await stop(null);
    throw error;
  }
}

const BOGUS_PROBE: LabZone = { records: ['@ A 127.0.0.1', '@ TXT "never to be seen"'], dnssec: 'bogus' };

interface Identities {
  readonly host: Identity;
  readonly root: Identity | null;
  readonly stranger: Identity;
}

async function identitiesFor({ name, canonical, certificate }: HostEntry, authority: Identity): Promise<Identities> {
  const stranger = await selfSigned(name);
  if (certificate === 'public' || certificate === 'public-other-names') {
    const subject = certificate === 'public' ? name : 'somebody-else.test';
    return { host: await leafUnder(authority, subject, [subject]), root: authority, stranger };
  }
  if (certificate === 'self-signed') return { host: await selfSigned(canonical ?? name), root: null, stranger };
  const subject = certificate === 'chain-other-names' ? 'somebody-else.test' : (canonical ?? name);
  const { leaf, root } = await chainOfThree([subject], { expired: certificate === 'chain-expired' });
  return { host: leaf, root, stranger };
}

function recordsFor({ name, tlsa }: HostEntry, { host, root, stranger }: Identities): readonly string[] {
  return tlsa.map(({ numbers: [usage, selector, matching], of }) => {
    const identity = { host, root, stranger }[of];
    if (!identity) throw new Error(`${name} has no root to publish`);
    return tlsaFor(usage, selector, matching, identity);
  });
}

/** Last octet of the address of the web server, beyond those of the mail hosts. */
const POLICY_HOST = 250;
const REPORT_HOST = 251;

function policyText({ mode, mx, maxAge }: PublishedSts): string {
  const lines = ['version: STSv1', `mode: ${mode}`, ...mx.map((pattern) => `mx: ${pattern}`), `max_age: ${maxAge}`];
  return lines.map((line) => `${line}\r\n`).join('');
}

interface ZoneFacts {
  readonly port: number;
  readonly addressOf: (host: string) => string;
  readonly published: (host: string) => readonly string[];
  /** Address of the web server. */
  readonly web: string;
  readonly sts: PublishedSts | null;
  readonly dkim: readonly DkimKey[];
  /** Where reports go by HTTPS. */
  readonly reportUri: string;
}

function zoneFor(
  { dnssec, hosts, reports }: Destination,
  { port, addressOf, published, web, sts, dkim, reportUri }: ZoneFacts,
): LabZone {
  // TTL 0: what is put right in DNS is seen by the next question.
  const records = hosts.length === 0 ? ['@ 0 MX 0 .'] : [];
  if (reports) records.push(`_smtp._tls 0 TXT "v=TLSRPTv1; rua=${reports === 'https' ? reportUri : reports}"`);
  if (sts) records.push(`_mta-sts 0 TXT "v=STSv1; id=${sts.id};"`, `mta-sts 0 A ${web}`);
  for (const { selector, record } of dkim) {
    // A string of a TXT record has 255 octets at most.
    const strings = record.match(/.{1,255}/g)?.map((string) => `"${string}"`) ?? [];
    records.push(`${selector}._domainkey 0 TXT ${strings.join(' ')}`);
  }
  const forged: string[] = [];
  for (const { name, preference, canonical, tlsaForged } of hosts) {
    const end = canonical ?? name;
    records.push(`@ 0 MX ${preference} ${name}.`);
    if (canonical) records.push(`${name}. 0 CNAME ${canonical}.`);
    records.push(`${end}. 0 A ${addressOf(name)}`);
    for (const tlsa of published(name)) (tlsaForged ? forged : records).push(`_${port}._tcp.${end}. 0 TLSA ${tlsa}`);
  }
  return { records, dnssec, ...(forged.length > 0 ? { forged } : {}) };
}

interface Place {
  readonly block: number;
  readonly port: number;
}

/** Starts every host of the lab's own in the first block of addresses where that works, and puts them in `hosts`. */
async function findPlace(
  wish: number | undefined,
  entries: readonly { readonly entry: HostEntry }[],
  identities: ReadonlyMap<string, Identities>,
  hosts: MailHost[],
  onMoment: LabOptions['onMoment'],
): Promise<Place> {
  let port = wish ?? 25;
  for (let block = FIRST_BLOCK; block <= LAST_BLOCK; block++) {
    try {
      for (const [index, { entry }] of entries.entries()) {
        const { name, mood, elsewhere } = entry;
        const address = `127.${block}.0.${index + 1}`;
        const { host: identity } = get(identities, name);
        const host = await startHost({
          name,
          address,
          port,
          mood,
          identity,
          onMoment: onMoment && ((moment) => onMoment(moment, name)),
        });
        port = host.port;
        // One that lives elsewhere was started all the same, to see that its address and port are free.
        if (elsewhere) await host.stop();
        else hosts.push(host);
      }
      return { block, port };
    } catch (error) {
      await Promise.all(hosts.splice(0).map((host) => host.stop()));
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EACCES' && wish === undefined && port === 25) {
        port = 0;
        block--;
      } else if (code !== 'EADDRINUSE') throw error;
      else if (wish === undefined && port !== 25) port = 0;
    }
  }
  throw new Error(`no block of addresses from 127.${FIRST_BLOCK} to 127.${LAST_BLOCK} is free for the lab`);
}

function get<Key, Value>(map: ReadonlyMap<Key, Value>, key: Key): Value {
  const value = map.get(key);
  if (value === undefined) throw new Error(`the lab knows no ${String(key)}`);
  return value;
}
