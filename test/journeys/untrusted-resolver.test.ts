/** A relay whose resolver cannot carry DANE: told when it starts, not mail by mail, and nothing leaves unproven. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { freePort, runCommand } from '../../lab/relay.ts';
import { goodHost } from '../../lab/world.ts';
import { type FakeDns, startFakeDns } from '../support/fake-dns.ts';
import { temporaryFolder } from '../support/route-lab.ts';
import { arrived, type Journey, startJourney, told } from './support.ts';

let journey: Journey;
/** The lab's resolver as one sees it that does not validate: all answers, none of them with AD. */
let forgetful: FakeDns;
let validates = false;
beforeAll(async () => {
  journey = await startJourney(
    [goodHost('office.test'), goodHost('good.test'), goodHost('exempt.test'), goodHost('later.test')],
    () => ({}),
  );
  const { address, port } = journey.lab.dns.server;
  forgetful = await startFakeDns(async ({ octets }) => {
    const socket = createSocket('udp4');
    socket.send(octets, port, address);
    const [answer]: Buffer[] = await once(socket, 'message');
    socket.close();
    if (!answer) return null;
    if (!validates) answer.writeUInt16BE(answer.readUInt16BE(2) & ~0x20, 2);
    return answer;
  });
});
afterAll(async () => {
  await journey?.end();
  await forgetful?.close();
});

test('POL-07 POL-04 DNS-17 DNS-15 a resolver that does not validate: said at start, mail waits, and only what needs no DANE leaves', async () => {
  const { lab } = journey;
  const relay = await journey.relay({
    resolver: { ...lab.resolver, address: `127.0.0.1:${forgetful.server.port}` },
    destinations: [{ domain: 'exempt.test', tls: 'may' }],
    queue: { retry: ['1h'] },
  });
  await expect.poll(() => relay.running.output()).toMatch(/mail waits: .*does not .*validate/i);
  await relay.mail('good.test');
  expect(told(await relay.attempt('good.test'))).toBe('deferred 4.4.3 resolver-untrusted');
  expect(lab.contacts('mx.good.test')).toEqual([]);
  await relay.mail('exempt.test');
  expect(told(await relay.attempt('exempt.test'))).toMatch(/^delivered encrypted-opportunistic/);
  expect(arrived(lab, 'exempt.test')).toHaveLength(1);

  // What cannot be seen of a recipient is no reason to let it off, and nothing that can be told of it.
  const until = new Date(Date.now() + 10 * 86_400_000).toISOString().slice(0, 10);
  const words = ['--owner', 'Jan of ICT', '--reason', 'key renewed', '--until', until];
  expect((await relay.running.command('exceptions', 'add', 'good.test', ...words)).status).toBe(0);
  await relay.running.command('queue', 'retry', '--domain', 'good.test');
  expect(told(await relay.attempt('good.test', 2))).toBe('deferred 4.4.3 resolver-untrusted');
  expect(lab.contacts('mx.good.test')).toEqual([]);
  expect(await relay.running.command('exceptions', 'check')).toMatchObject({
    status: 3,
    stdout: '',
    stderr: expect.stringMatching(/^dane-relay: .*does not validate/),
  });
  expect((await relay.running.command('exceptions', 'list')).stdout).toContain('not checked yet');
});

test('DNS-17 a resolver that stops validating under way: the next message waits already, is told, and leaves when it does again', async () => {
  const { lab } = journey;
  const admin = `127.0.0.1:${await freePort()}`;
  const readiness = async (): Promise<number> => (await fetch(`http://${admin}/readyz`)).status;
  validates = true;
  const relay = await journey.relay({
    resolver: { ...lab.resolver, address: `127.0.0.1:${forgetful.server.port}` },
    queue: { retry: ['1h'] },
    admin: { listen: admin },
  });
  await relay.mail('good.test');
  expect(told(await relay.attempt('good.test'))).toMatch(/^delivered dane-ee authenticated/);
  expect(await readiness()).toBe(200);

  validates = false;
  // A proof covers the second after it.
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  await relay.mail('later.test');
  expect(told(await relay.attempt('later.test'))).toMatch(/^deferred 4\.4\.3 (?:resolver-untrusted|mx-lookup-failed)$/);
  expect(lab.contacts('mx.later.test')).toEqual([]);
  await expect.poll(readiness).toBe(503);

  validates = true;
  await expect.poll(readiness).toBe(200);
  expect((await relay.running.command('queue', 'retry', '--domain', 'later.test')).status).toBe(0);
  expect(told(await relay.attempt('later.test', 2))).toMatch(/^delivered dane-ee authenticated/);
});

test('POL-07 DNS-15 a resolver on another machine: the relay does not start, and says where the mistake is', async () => {
  const { path, remove } = await temporaryFolder();
  try {
    const file = join(path, 'relay.yaml');
    await writeFile(
      file,
      'hostname: relay.office.test\nresolver:\n  address: 192.0.2.53:53\nclients:\n  - { name: a, networks: [127.0.0.1] }\n',
    );
    const { status, stderr } = await runCommand('run', '--config', file);
    expect(status).toBe(2);
    expect(stderr).toMatch(/relay\.yaml:3:\d+: .*192\.0\.2\.53/);
  } finally {
    await remove();
  }
});
