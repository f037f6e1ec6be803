/**
 * The world of the lab, seen with other people's eyes: OpenSSL must come to the end that the table promises for every
 * host, and the resolver must say of every domain what the table says of it.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Lab, startLab } from '../../lab/lab.ts';
import { type Destination, WORLD } from '../../lab/world.ts';

const run = promisify(execFile);
let lab: Lab;
beforeAll(async () => {
  lab = await startLab({ port: 0 });
});
afterAll(() => lab.stop());

interface Looked {
  readonly secure: boolean;
  readonly status: string;
  readonly answers: readonly string[];
}

/** What the lab's resolver says, as NLnet Labs' drill reads it. */
async function look(name: string, type: string): Promise<Looked> {
  const { address, port } = lab.dns.server;
  const { stdout } = await run('drill', ['-D', '-p', String(port), `@${address}`, type, name]);
  return {
    secure: /^;; flags:.* ad\b/m.test(stdout),
    status: /rcode: (\w+)/.exec(stdout)?.[1] ?? '',
    answers: [...stdout.matchAll(new RegExp(`^\\S+\\s+\\d+\\s+IN\\s+${type}\\s+(.*)$`, 'gm'))].map(
      (found) => found[1] ?? '',
    ),
  };
}

/** OpenSSL's own judgement of a host against the records that the resolver gives. */
async function judge(host: string, base: string): Promise<string> {
  const { answers } = await look(`_${lab.port}._tcp.${base}`, 'TLSA');
  const records = answers.flatMap((record) => ['-dane_tlsa_rrdata', record]);
  const target = ['-connect', `${lab.address(host)}:${lab.port}`, '-starttls', 'smtp', '-brief'];
  const dane = ['-dane_tlsa_domain', base, '-dane_ee_no_namechecks', ...records];
  const client = run('openssl', ['s_client', ...target, ...dane]);
  client.child.stdin?.end();
  return client.then(
    ({ stderr }) => stderr,
    (error: { stderr: string }) => error.stderr,
  );
}

const PROVEN: readonly string[] = ['dane-ee', 'dane-ta'];
const entries = WORLD.flatMap((destination) => destination.hosts.map((host) => ({ ...destination, host })));
const signed = entries.filter(({ dnssec, host }) => dnssec === 'signed' && host.tlsa.length > 0 && !host.tlsaForged);

describe('the world of the lab', () => {
  test.each(signed.filter(({ host }) => host.tlsa.some(({ numbers: [usage] }) => usage >= 2)))(
    'OpenSSL judges $host.name as the table says of $domain',
    async ({ host, expect: expected }) => {
      const words = await judge(host.name, host.canonical ?? host.name);
      const matches = PROVEN.includes(expected.code) && expected.arrivesAt.includes(host.name);
      const behindRefusal = ['greylists', 'unknown-users', 'weak-cipher'].includes(host.mood);
      if (host.mood === 'no-starttls') expect(words).toMatch(/didn't found starttls|STARTTLS/i);
      else if (matches || behindRefusal) expect(words).toContain('Verification: OK');
      else expect(words).toContain('Verification error');
    },
  );

  test.each<Destination>([...WORLD])('$domain is as signed as the table says', async ({ domain, dnssec, hosts }) => {
    const mx = await look(domain, 'MX');
    if (dnssec === 'bogus') {
      expect(mx.status).toBe('SERVFAIL');
      return;
    }
    expect(mx.secure).toBe(dnssec === 'signed');
    expect(mx.answers).toHaveLength(Math.max(1, hosts.length));
    for (const { tlsaForged, canonical, name, tlsa } of hosts) {
      const found = await look(`_${lab.port}._tcp.${canonical ?? name}`, 'TLSA');
      expect(found.status).toBe(tlsaForged ? 'SERVFAIL' : tlsa.length > 0 ? 'NOERROR' : 'NXDOMAIN');
      if (!tlsaForged) expect(found.answers).toHaveLength(tlsa.length);
    }
  });

  test('another certificate no longer fits what is published, until its record is published too', async () => {
    const host = 'mx.rollover.test';
    expect(await judge(host, host)).toContain('Verification: OK');
    await lab.replaceCertificate(host);
    expect(await judge(host, host)).toContain('Verification error');
    await lab.publishTlsa(host);
    expect(await judge(host, host)).toContain('Verification: OK');
  });

  test('proves nothing to a resolver that does not validate: the bogus probe has no answer', async () => {
    expect((await look(lab.resolver.probe.signed, 'SOA')).secure).toBe(true);
    for (const name of lab.resolver.probe.bogus) expect((await look(name, 'A')).status).toBe('SERVFAIL');
  });

  test('two labs live side by side, on the same port and on addresses of their own', async () => {
    const other = await startLab({ port: lab.port, world: WORLD.slice(0, 2) });
    try {
      expect(other.port).toBe(lab.port);
      expect(other.block).not.toBe(lab.block);
    } finally {
      await other.stop();
    }
  });
});
