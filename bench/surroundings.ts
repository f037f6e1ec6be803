/**
 * The closed internet that everybody is measured in: signed zones, one validating resolver on port 53 of an address of
 * its own, and one sink that is all mail hosts, each with an address of its own on port 25.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Identity, selfSigned, tlsaFor } from '../lab/certificates.ts';
import { type LabDns, type LabZone, startDns } from '../lab/dns.ts';
import type { Programs } from './native.ts';
import { type Sink, startSink } from './sink.ts';

/** Destinations that the gate asks for, beside those of the cases: a good day with one thing changed. */
export const GATE_ZONES = {
  'no-tlsa.test': { dnssec: 'signed', tlsa: 'none', starttls: true },
  'unsigned.test': { dnssec: 'unsigned', tlsa: 'none', starttls: true },
  'bogus.test': { dnssec: 'bogus', tlsa: 'own', starttls: true },
  'wrong-tlsa.test': { dnssec: 'signed', tlsa: 'stranger', starttls: true },
  'no-starttls.test': { dnssec: 'signed', tlsa: 'own', starttls: false },
} as const satisfies Record<string, Host>;

interface Host {
  readonly dnssec: LabZone['dnssec'];
  readonly tlsa: 'own' | 'stranger' | 'none';
  readonly starttls: boolean;
}

export interface Surroundings {
  /** Folder for everything that is written, which everybody may look into. */
  readonly dir: string;
  readonly dns: LabDns;
  readonly sink: Sink;
  /** A resolv.conf that names the resolver. */
  readonly resolvConf: string;
  /** Certificate and key that every candidate presents to its clients. */
  readonly identity: Identity;
  readonly programs: Programs;
  readonly close: () => Promise<void>;
}

const FIRST_BLOCK = 1;
/** The lab of the tests takes those from 25 on. */
const LAST_BLOCK = 24;

/** @param many how many zones d001.test, d002.test … there shall be */
export async function startSurroundings(dir: string, programs: Programs, many: number): Promise<Surroundings> {
  const [host, stranger, identity] = await Promise.all([
    selfSigned('sink'),
    selfSigned('sink'),
    selfSigned('relay.office.test'),
  ]);
  const files = { cert: join(dir, 'sink.pem'), key: join(dir, 'sink.key') };
  await writeFile(files.cert, host.chain);
  await writeFile(files.key, host.key, { mode: 0o600 });
  const hosts = hostsOf(many);
  const { sink, block } = await startHosts(programs.sink, files, hosts);
  try {
    const tlsa = { own: [tlsaFor(3, 1, 1, host)], stranger: [tlsaFor(3, 1, 1, stranger)], none: [] };
    const zones = Object.fromEntries(
      hosts.map(([domain, wishes], at) => [domain, zoneOf(addressOf(block, at), wishes.dnssec, tlsa[wishes.tlsa])]),
    );
    const resolverAddress = `127.${block}.255.53`;
    const folder = join(dir, 'dns');
    await mkdir(folder);
    const dns = await startDns({ dir: folder, zones, resolverPort: 53, resolverAddress });
    const resolvConf = join(dir, 'resolv.conf');
    // Postfix believes the resolver's AD bit only where trust-ad is set.
    await writeFile(resolvConf, `nameserver ${resolverAddress}\noptions trust-ad\n`);
    const close = async (): Promise<void> => {
      await Promise.all([sink.close(), dns.close()]);
    };
    return { dir, dns, sink, resolvConf, identity, programs, close };
  } catch (error) {
    await sink.close();
    throw error;
  }
}

const GOOD: Host = { dnssec: 'signed', tlsa: 'own', starttls: true };

function hostsOf(many: number): readonly (readonly [string, Host])[] {
  const numbered = Array.from({ length: many }, (_, at) => `d${String(at + 1).padStart(3, '0')}.test`);
  return [...['dane.test', ...numbered].map((domain) => [domain, GOOD] as const), ...Object.entries(GATE_ZONES)];
}

function addressOf(block: number, at: number): string {
  return `127.${block}.${Math.floor(at / 200)}.${(at % 200) + 1}`;
}

/** Records live for an hour, as they do outside: what is asked again is answered from a cache. */
function zoneOf(address: string, dnssec: LabZone['dnssec'], tlsa: readonly string[]): LabZone {
  const records = ['@ 3600 MX 10 mx', `mx 3600 A ${address}`, ...tlsa.map((data) => `_25._tcp.mx 3600 TLSA ${data}`)];
  return { records, dnssec };
}

/** Takes the first block of addresses where all are free, so that what else runs here is not disturbed. */
async function startHosts(
  program: string,
  files: { readonly cert: string; readonly key: string },
  hosts: readonly (readonly [string, Host])[],
): Promise<{ readonly sink: Sink; readonly block: number }> {
  for (let block = FIRST_BLOCK; block <= LAST_BLOCK; block++) {
    const sink = startSink(program, 25, files);
    const answers = await Promise.all(hosts.map(([, { starttls }], at) => sink.listen(addressOf(block, at), starttls)));
    const trouble = answers.find((answer) => answer !== 'ok');
    if (trouble === undefined) return { sink, block };
    await sink.close();
    if (trouble !== 'EADDRINUSE')
      throw new Error(`the sink cannot listen on port 25 of 127.${block}.0.0/16: ${trouble}`);
  }
  throw new Error(`port 25 is taken in every block from 127.${FIRST_BLOCK} to 127.${LAST_BLOCK}`);
}
