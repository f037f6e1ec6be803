/**
 * A closed DNS world on loopback: zones that are really signed, from a root of our own, behind a real Unbound.
 *
 * Nothing outside this machine is ever asked: the root zone is ours too, and a name that is in no zone does not exist,
 * with proof. A zone may be `signed`, `unsigned` (its parent proves that it has no DS) or `bogus` (its parent publishes
 * the DS of a key that the zone does not have, so that every answer from it is SERVFAIL). Single forged records in a
 * healthy signed zone, and zones served by a name server of one's own, make the rest of the trouble.
 *
 * All TTLs are 0 unless a record says otherwise, so that a changed zone is seen at once.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { resolve as absolute, join } from 'node:path';
import { promisify } from 'node:util';
import { AUTHENTIC_DATA, decode, encode, RECURSION_DESIRED } from 'dns-packet';

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

export interface LabDns {
  /** The validating resolver. */
  readonly server: ServerAddress;
  /** The root's DNSKEY in zone file format, for another validator that is to trust this world. */
  readonly anchorFile: string;
  /** Lines for the `server:` section and below of an Unbound that is to live in this world too. */
  readonly worldConfig: () => string;
  /** Replaces or adds a zone, and forgets what was cached of it. */
  readonly setZone: (name: string, zone: LabZone) => Promise<void>;
  readonly close: () => Promise<void>;
}

export interface LabDnsOptions {
  /** Folder for keys, zones and configuration; made when absent. At most some 80 characters, for the control socket. */
  readonly dir: string;
  readonly zones: Readonly<Record<string, LabZone>>;
  /** Port of the resolver; a free one by default. */
  readonly resolverPort?: number;
}

/** Starts it, and resolves once the resolver gives validated answers. Rejects with Unbound's own words when it cannot. */
export async function startDns({ dir, zones, resolverPort }: LabDnsOptions): Promise<LabDns> {
  const world = createWorld(absolute(dir), zones);
  await mkdir(world.dir, { recursive: true });
  await world.signAll();

  const attempts = resolverPort === undefined ? 5 : 1;
  let unbound: Unbound | undefined;
  for (let attempt = 1; unbound === undefined; attempt++) {
    const port = resolverPort ?? (await freePort());
    try {
      unbound = await startUnbound(world, port);
    } catch (error) {
      if (attempt >= attempts) throw error;
    }
  }
  const { server, control, close } = unbound;

  let lastChange: Promise<unknown> = Promise.resolve();
  const setZone = async (name: string, zone: LabZone): Promise<void> => {
    const { changed, restructured } = await world.change(name, zone);
    if (restructured) {
      await writeFile(join(world.dir, 'unbound.conf'), configuration(world, server.port));
      await control('reload');
      await untilValidated(server, () => null);
      return;
    }
    for (const zoneName of changed) {
      if (!world.zones.get(zoneName)?.server) await control(`auth_zone_reload ${zoneName}`);
    }
    await control(`flush_zone ${changed.length > 1 ? '.' : name}`);
    await control('flush_infra all');
  };
  return {
    server,
    anchorFile: join(world.dir, 'root.key'),
    worldConfig: () => worldConfig(world),
    setZone: (name, zone) => {
      const change = lastChange.then(() => setZone(name, zone));
      lastChange = change.catch(() => undefined);
      return change;
    },
    close,
  };
}

// Zones

interface World {
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

function createWorld(dir: string, given: Readonly<Record<string, LabZone>>): World {
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

function apex(name: string, { records }: LabZone): string[] {
  const has = (type: string): boolean =>
    records.some((line) => new RegExp(`^(@|${fqdn(name)})?\\s.*\\b${type}\\b`).test(line));
  const lines: string[] = [];
  if (!has('SOA')) lines.push('@ 0 SOA ns.lab.invalid. hostmaster.lab.invalid. 1 3600 600 86400 0');
  if (!has('NS')) lines.push('@ 3600 NS ns.lab.invalid.');
  return lines;
}

/** Changes the signatures over the given records, and over nothing else. */
function spoil(signedZone: string, zone: string, forged: readonly string[]): string {
  const targets = forged.map((line) => {
    const [, owner = '', type = ''] = /^(\S+)\s+(?:\d+\s+)?(?:IN\s+)?(\S+)/.exec(line) ?? [];
    const name = owner === '@' ? fqdn(zone) : owner.endsWith('.') ? owner : `${owner}.${fqdn(zone)}`;
    return `${name.toLowerCase()} ${type}`;
  });
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

function zoneFile(dir: string, name: string): string {
  return join(dir, `${name === '.' ? 'root' : name}.zone`);
}

// Unbound

interface Unbound {
  readonly server: ServerAddress;
  readonly control: (command: string) => Promise<string>;
  readonly close: () => Promise<void>;
}

function worldConfig({ dir, zones }: World): string {
  const tops = [...zones.keys()].filter((name) => name !== '.' && !name.includes('.'));
  const lines = ['server:', '  do-not-query-localhost: no'];
  // Unbound answers for some top-level names by itself unless told not to (RFC 6761), and may keep back addresses of loopback.
  for (const top of tops) lines.push(`  local-zone: "${top}." nodefault`, `  private-domain: "${top}."`);
  for (const [name, { server }] of zones) {
    if (server) {
      lines.push('stub-zone:', `  name: "${name}"`, `  stub-addr: ${server.address}@${String(server.port)}`);
    } else {
      lines.push('auth-zone:', `  name: "${name}"`, `  zonefile: "${zoneFile(dir, name)}"`);
      lines.push('  for-upstream: yes', '  for-downstream: no', '  fallback-enabled: no');
    }
  }
  return `${lines.join('\n')}\n`;
}

function configuration(world: World, port: number): string {
  return `server:
  username: ""
  chroot: ""
  directory: "${world.dir}"
  pidfile: ""
  use-syslog: no
  logfile: ""
  verbosity: 0
  num-threads: 1
  interface: 127.0.0.1@${String(port)}
  so-reuseport: no
  do-ip6: no
  ede: yes
  minimal-responses: yes
  module-config: "validator iterator"
  trust-anchor-file: "${join(world.dir, 'root.key')}"
  trust-anchor-signaling: no
  # Servers that misbehave on purpose must be asked again by the next test.
  infra-host-ttl: 1
  infra-keep-probing: yes
remote-control:
  control-enable: yes
  control-interface: "${join(world.dir, 'control.sock')}"
  control-use-cert: no
${worldConfig(world)}`;
}

async function startUnbound(world: World, port: number): Promise<Unbound> {
  const config = join(world.dir, 'unbound.conf');
  await writeFile(config, configuration(world, port));
  const binary = ['/usr/sbin/unbound', '/usr/local/sbin/unbound'].find(existsSync) ?? 'unbound';
  // setpriv turns into Unbound itself, which then dies with us, however we die.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', binary, '-d', '-c', config], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let words = '';
  child.stderr.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(-4000);
  });
  let gone: string | null = null;
  child.once('error', (error) => {
    gone = error.message;
  });
  child.once('exit', (code) => {
    gone ??= `unbound ended with status ${String(code)}: ${words.trim()}`;
  });
  const server: ServerAddress = { address: '127.0.0.1', port };
  try {
    await untilValidated(server, () => gone);
  } catch (error) {
    await stop(child);
    throw error;
  }
  return { server, control: (command) => control(join(world.dir, 'control.sock'), command), close: () => stop(child) };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const hard = setTimeout(() => child.kill('SIGKILL'), 3000);
  child.kill('SIGTERM');
  await ended;
  clearTimeout(hard);
}

/** One command of unbound-control, over its socket. */
function control(socketPath: string, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(socketPath);
    let answer = '';
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      answer += text;
    });
    socket.on('error', reject);
    socket.on('close', () => {
      if (answer.startsWith('error')) reject(new Error(`unbound-control ${command}: ${answer.trim()}`));
      else resolve(answer);
    });
    socket.write(`UBCT1 ${command}\n`);
  });
}

async function untilValidated(server: ServerAddress, gone: () => string | null): Promise<void> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const words = gone();
    if (words !== null) throw new Error(words);
    if (await answersWithAd(server)) return;
    if (Date.now() > deadline) throw new Error('the resolver of the lab gives no validated answers');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function answersWithAd({ address, port }: ServerAddress): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const done = (answer: boolean): void => {
      clearTimeout(timer);
      socket.close();
      resolve(answer);
    };
    const timer = setTimeout(done, 1000, false);
    socket.once('error', () => done(false));
    socket.once('message', (message) => done(decode(message).flag_ad));
    socket.connect(port, address, () => {
      const query = encode({
        type: 'query',
        id: randomInt(0x10000),
        flags: RECURSION_DESIRED | AUTHENTIC_DATA,
        questions: [{ type: 'NS', name: '.' }],
      });
      socket.send(query);
    });
  });
}

/** A port that is free for both TCP and, very likely, UDP. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      const port = typeof address === 'object' && address ? address.port : 0;
      probe.close(() => resolve(port));
    });
  });
}
