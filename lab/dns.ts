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
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { resolve as absolute, join } from 'node:path';
import { AUTHENTIC_DATA, decode, encode, RECURSION_DESIRED } from 'dns-packet';
import { createWorld, type LabZone, type ServerAddress, type World, zoneFile } from './zones.ts';

export type { LabZone, ServerAddress } from './zones.ts';

export interface LabDns {
  /** The validating resolver. */
  readonly server: ServerAddress;
  /** The root's DNSKEY in zone file format, for another validator that is to trust this world. */
  readonly anchorFile: string;
  /** Lines for the `server:` section and below of an Unbound that is to live in this world too. */
  readonly worldConfig: () => string;
  /** Replaces or adds a zone, and forgets what was cached of it. */
  readonly setZone: (name: string, zone: LabZone) => Promise<void>;
  /** Makes the resolver forget all that it has looked up. */
  readonly forget: () => Promise<void>;
  readonly close: () => Promise<void>;
}

export interface LabDnsOptions {
  /** Folder for keys, zones and configuration; made when absent. At most some 80 characters, for the control socket. */
  readonly dir: string;
  readonly zones: Readonly<Record<string, LabZone>>;
  /** Port of the resolver; a free one by default. */
  readonly resolverPort?: number;
  /** Address of the resolver, on loopback; 127.0.0.1 by default. */
  readonly resolverAddress?: string;
}

/** Starts it, and resolves once the resolver gives validated answers. Rejects with Unbound's own words when it cannot. */
export async function startDns({
  dir,
  zones,
  resolverPort,
  resolverAddress: address = '127.0.0.1',
}: LabDnsOptions): Promise<LabDns> {
  const world = createWorld(absolute(dir), zones);
  await mkdir(world.dir, { recursive: true });
  await world.signAll();

  const attempts = resolverPort === undefined ? 5 : 1;
  let unbound: Unbound | undefined;
  for (let attempt = 1; unbound === undefined; attempt++) {
    const port = resolverPort ?? (await freePort());
    try {
      unbound = await startUnbound(world, { address, port });
    } catch (error) {
      if (attempt >= attempts) throw error;
    }
  }
  const { server, control, close } = unbound;

  let lastChange: Promise<unknown> = Promise.resolve();
  const setZone = async (name: string, zone: LabZone): Promise<void> => {
    const { changed, restructured } = await world.change(name, zone);
    if (restructured) {
      await writeFile(join(world.dir, 'unbound.conf'), configuration(world, server));
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
    forget: async () => {
      await control('flush_zone .');
    },
    close,
  };
}

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

function configuration(world: World, { address, port }: ServerAddress): string {
  return `server:
  username: ""
  chroot: ""
  directory: "${world.dir}"
  pidfile: ""
  use-syslog: no
  logfile: ""
  verbosity: 0
  num-threads: 1
  interface: ${address}@${String(port)}
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

async function startUnbound(world: World, server: ServerAddress): Promise<Unbound> {
  const config = join(world.dir, 'unbound.conf');
  await writeFile(config, configuration(world, server));
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
  const deadline = Date.now() + 120_000;
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
