/** The zones of the lab: their files, their keys, their signatures, and their delegations from a root of our own. */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface ServerAddress {
  readonly address: string;
  readonly port: number;
}

export interface LabZone {
  /** Lines of a zone file, one a record, names relative to the zone. SOA and NS at the apex are added when absent. */
  readonly records: readonly string[];
  readonly dnssec: 'signed' | 'unsigned' | 'bogus';
  /** More lines, whose signatures are spoilt after signing, so that in a signed zone exactly these records are bogus. */
  readonly forged?: readonly string[];
  /** A name server on loopback that answers for this zone in place of the records. */
  readonly server?: ServerAddress;
}

/** A set of zones, with all their parents up to a root of our own, and the files that they are in. */
export interface World {
  readonly dir: string;
  /** Every zone with its parents up to the root, which has the name `.`. */
  readonly zones: Map<string, LabZone>;
  readonly signAll: () => Promise<void>;
  /** `restructured` when Unbound must read its configuration again. */
  readonly change: (name: string, zone: LabZone) => Promise<{ changed: readonly string[]; restructured: boolean }>;
}

interface Key {
  /** Path of the key files without their endings. */
  readonly base: string;
  /** `DS` RDATA as text. */
  readonly ds: string;
  readonly dnskey: string;
}

/** Nothing is written before `signAll`. */
export function createWorld(dir: string, given: Readonly<Record<string, LabZone>>): World {
  const zones = new Map<string, LabZone>();
  const keys = new Map<string, Promise<Key>>();
  const add = (name: string, zone: LabZone): void => {
    zones.set(name, zone);
    const top = name.slice(name.lastIndexOf('.') + 1);
    for (const parent of ['.', ...(top === '' ? [] : [top])]) {
      if (!zones.has(parent)) zones.set(parent, { records: [], dnssec: 'signed' });
    }
  };
  add('test', given['test'] ?? { records: [], dnssec: 'signed' });
  for (const [name, zone] of Object.entries(given)) add(name, zone);

  const keyOf = (name: string): Promise<Key> => {
    const known = keys.get(name) ?? makeKey(dir, name);
    keys.set(name, known);
    return known;
  };

  const sign = async (name: string): Promise<void> => {
    const zone = zones.get(name);
    if (!zone) throw new Error(`no zone ${name}`);
    const lines = [...apex(name, zone), ...zone.records];
    for (const [child, { dnssec }] of zones) {
      if (parentOf(child, zones) !== name) continue;
      lines.push(`${fqdn(child)} 3600 NS ns.lab.invalid.`);
      if (dnssec === 'unsigned') continue;
      const { ds } = await keyOf(child);
      lines.push(`${fqdn(child)} 3600 DS ${dnssec === 'bogus' ? otherDigest(ds) : ds}`);
    }
    const file = zoneFile(dir, name);
    const forged = zone.forged ?? [];
    const text = `$ORIGIN ${fqdn(name)}\n${[...lines, ...forged].map(withTtl).join('\n')}\n`;
    if (zone.dnssec === 'unsigned') return writeFile(file, text);

    const { base } = await keyOf(name);
    await writeFile(`${file}.plain`, text);
    // Signed from an hour ago, for clocks that are a little off; four weeks is what ldns gives them.
    const since = String(Math.floor(Date.now() / 1000) - 3600);
    await run('ldns-signzone', ['-i', since, '-o', fqdn(name), '-f', file, `${file}.plain`, base]);
    if (forged.length > 0) await writeFile(file, spoil(await readFile(file, 'utf8'), name, forged));
  };

  return {
    dir,
    zones,
    signAll: async () => {
      await Promise.all([...zones].map(([name]) => sign(name)));
      const { dnskey } = await keyOf('.');
      await writeFile(join(dir, 'root.key'), dnskey);
    },
    change: async (name, zone) => {
      const before = zones.get(name);
      const known = new Set(zones.keys());
      add(name, zone);
      const restructured = !before || JSON.stringify(before.server) !== JSON.stringify(zone.server);
      const changed = new Set([...zones.keys()].filter((each) => each === name || !known.has(each)));
      if (before?.dnssec !== zone.dnssec) {
        for (const each of [...changed]) {
          const parent = parentOf(each, zones);
          if (parent !== null) changed.add(parent);
        }
      }
      await Promise.all([...changed].map(sign));
      return { changed: [...changed], restructured };
    },
  };
}

function apex(zone: string, { records }: LabZone): string[] {
  const has = (type: string): boolean => records.some((line) => keyOfLine(line, zone) === `${fqdn(zone)} ${type}`);
  const lines: string[] = [];
  if (!has('SOA')) lines.push('@ 0 SOA ns.lab.invalid. hostmaster.lab.invalid. 1 3600 600 86400 0');
  if (!has('NS')) lines.push('@ 3600 NS ns.lab.invalid.');
  return lines;
}

/** `owner. TYPE` of a line that we were given. */
function keyOfLine(line: string, zone: string): string {
  const [, owner = '', type = ''] = /^(\S+)\s+(?:\d+\s+)?(?:IN\s+)?(\S+)/.exec(line) ?? [];
  const name = owner === '@' ? fqdn(zone) : owner.endsWith('.') ? owner : `${owner}.${fqdn(zone).replace(/^\.$/, '')}`;
  return `${name.toLowerCase()} ${type}`;
}

/** Changes the signatures over the given records, and over nothing else. */
function spoil(signedZone: string, zone: string, forged: readonly string[]): string {
  const targets = forged.map((line) => keyOfLine(line, zone));
  const spoilt = (line: string): string => {
    const [, owner = '', type = ''] = /^(\S+)\s+\d+\s+IN\s+RRSIG\s+(\S+)/.exec(line) ?? [];
    if (!targets.includes(`${owner} ${type}`)) return line;
    return line.replace(/(\S)(\S{40}==)/, (_, first: string, rest: string) => (first === 'A' ? 'B' : 'A') + rest);
  };
  return signedZone.split('\n').map(spoilt).join('\n');
}

/** ldns takes a TTL of 0 in `$TTL` for none at all, and then makes it an hour. */
function withTtl(line: string): string {
  return line.replace(/^([^\s;$]*)\s+(?!(IN\s+)?\d+\s)/, '$1 0 ');
}

async function makeKey(dir: string, name: string): Promise<Key> {
  const { stdout } = await run('ldns-keygen', ['-k', '-a', 'ECDSAP256SHA256', fqdn(name)], { cwd: dir });
  const base = join(dir, stdout.trim());
  const ds = await readFile(`${base}.ds`, 'utf8');
  return {
    base,
    ds: ds.replace(/;.*/g, '').trim().split(/\s+/).slice(-4).join(' '),
    dnskey: await readFile(`${base}.key`, 'utf8'),
  };
}

function otherDigest(ds: string): string {
  return ds.replace(/[0-9a-f](?=[0-9a-f]*$)/i, (last) => (last === '0' ? '1' : '0'));
}

function parentOf(name: string, zones: ReadonlyMap<string, LabZone>): string | null {
  if (name === '.') return null;
  for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
    if (zones.has(name.slice(dot + 1))) return name.slice(dot + 1);
  }
  return '.';
}

function fqdn(name: string): string {
  return name === '.' ? '.' : `${name}.`;
}

/** Where the zone is, as Unbound is to read it. */
export function zoneFile(dir: string, name: string): string {
  return join(dir, `${name === '.' ? 'root' : name}.zone`);
}
