/** The harness itself, in a few seconds: the sink misses nothing, and a small run through the relay counts each message. */
import { spawnSync } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CASES, type Case } from '../../bench/cases.ts';
import { gate } from '../../bench/gate.ts';
import { sendLoad } from '../../bench/load.ts';
import { faultsOf, measureStarted, type Started, startFresh } from '../../bench/measure.ts';
import { compile, type Programs } from '../../bench/native.ts';
import { missingFor } from '../../bench/requirements.ts';
import { type Sink, type SinkStats, startSink } from '../../bench/sink.ts';
import { type Surroundings, startSurroundings } from '../../bench/surroundings.ts';
import { pinOf, selfSigned } from '../../lab/certificates.ts';
import { type Letter, send, submit } from '../../lab/client.ts';
import { startHost } from '../../lab/host.ts';
import { freePort, PROJECT } from '../../lab/relay.ts';

let folder = '';
const missing = missingFor({ peers: false, folder: '/var/tmp' });
const excuse = missing.length === 0 ? '' : ` (skipped: missing ${missing.join('; ')})`;
let programs: Programs;

beforeAll(async () => {
  if (excuse) return;
  folder = await mkdtemp('/var/tmp/dane-bench-test-');
  await chmod(folder, 0o755);
  programs = await compile();
});
afterAll(() => (excuse ? undefined : rm(folder, { recursive: true, force: true })));

describe('the sink', () => {
  let sink: Sink;
  let port = 0;
  let letter: Letter;
  const relay = { address: '127.0.0.1', port: 0, pin: '' };
  let own: Awaited<ReturnType<typeof selfSigned>>;

  beforeAll(async () => {
    if (excuse) return;
    own = await selfSigned('sink');
    const files = { cert: join(folder, 'cert'), key: join(folder, 'key') };
    await writeFile(files.cert, own.chain);
    await writeFile(files.key, own.key);
    port = await freePort();
    sink = startSink(programs.sink, port, files);
    expect(await sink.listen('127.0.0.1', true)).toBe('ok');
    Object.assign(relay, { port, pin: pinOf(own) });

    // A message as the load generator makes it, caught by a mail host of the lab.
    const host = await startHost({ name: 'sink', address: '127.0.0.1', port: 0, mood: 'well', identity: own });
    await sendLoad(programs.load, { ...ONE, run: 'tampered', port: host.port, messages: 1 });
    const [mail] = host.mailbox();
    if (!mail) throw new Error('nothing was caught');
    letter = { sender: mail.sender, recipients: mail.recipients, content: mail.content };
    await host.stop();
  });
  afterAll(() => (excuse ? undefined : sink.close()));

  const ONE = { to: 'dane.test', size: 4096, sessions: 1, perConnection: 1, seconds: 20 };

  test.skipIf(excuse)(`counts every message of the load once, of any size${excuse}`, async () => {
    for (const [at, size] of [1024, 4096, 4173, 100_000].entries()) {
      await sink.reset(`size-${at}`, 40);
      const load = { run: `size-${at}`, port, to: 7, messages: 40, size, sessions: 4, perConnection: 3 };
      const stats = await sendLoad(programs.load, load);
      expect(faultsOf({ messages: 40 }, stats, await sink.stats())).toEqual([]);
    }
  });

  test.skipIf(excuse)(`waits with every reply as long as it is told${excuse}`, async () => {
    await sink.reset('late', 2);
    await sink.delay(30);
    const stats = await sendLoad(programs.load, { ...ONE, run: 'late', port, messages: 2, perConnection: 2 });
    await sink.delay(0);
    expect(faultsOf({ messages: 2 }, stats, await sink.stats())).toEqual([]);
    expect(stats.p50Ms).toBeGreaterThanOrEqual(30);
  });

  const altered = (from: string, to: string): Letter => {
    const content = Buffer.from(letter.content).toString('latin1');
    expect(content).toContain(from);
    return { ...letter, content: content.replace(from, to) };
  };
  const GOOD = { unique: 1, duplicates: 0, damaged: 0, misaddressed: 0, inClear: 0, strays: 0 };

  test.skipIf(excuse).each<[string, () => Letter, Partial<SinkStats>]>([
    ['as it was sent', () => letter, GOOD],
    ['with a line on top', () => altered('From:', 'Received: from here\r\nFrom:'), GOOD],
    ['with an octet of its body changed', () => altered('Number 0 of', 'Number O of'), { unique: 0, damaged: 1 }],
    ['with a dot less', () => altered('\r\n.', '\r\n'), { unique: 0, damaged: 1 }],
    ['with a header field changed', () => altered('Subject: m', 'Subject: M'), { unique: 0, damaged: 1 }],
    ['with a line below its header', () => altered('\r\n\r\n', '\r\nX-More: 1\r\n\r\n'), { unique: 0, damaged: 1 }],
    [
      'cut short',
      () => ({ ...letter, content: Buffer.from(letter.content).subarray(0, 2000) }),
      { unique: 0, damaged: 1 },
    ],
    ['for somebody else', () => ({ ...letter, recipients: ['m1@dane.test'] }), { unique: 0, misaddressed: 1 }],
    ['for two', () => ({ ...letter, recipients: ['m0@dane.test', 'a@dane.test'] }), { unique: 0, misaddressed: 1 }],
    ['from another run', () => altered('X-Bench: tampered', 'X-Bench: strange!'), { unique: 0, strays: 1 }],
  ])(`a message %s is counted as such${excuse}`, async (_, made, expected) => {
    await sink.reset('tampered', 1);
    await send(relay, { cert: own.chain, key: own.key }, made());
    expect(await sink.stats()).toMatchObject(expected);
  });

  test.skipIf(excuse)(`a message that comes again is a duplicate, one without TLS is told${excuse}`, async () => {
    await sink.reset('tampered', 1);
    await submit(relay, letter);
    for (let times = 0; times < 3; times++) await send(relay, { cert: own.chain, key: own.key }, letter);
    expect(await sink.stats()).toMatchObject({ ...GOOD, duplicates: 2, inClear: 1 });
  });
});

describe('a small run', () => {
  const [A] = CASES;
  const small = { ...A, messages: 20, sessions: 4 } as Case;
  let surroundings: Surroundings;
  let started: Started;
  const { signal } = new AbortController();

  beforeAll(async () => {
    if (excuse) return;
    surroundings = await startSurroundings(folder, programs, 1);
    started = await startFresh('relay', {}, surroundings);
  });
  afterAll(async () => {
    if (excuse) return;
    await started.stop();
    await surroundings.close();
  });

  test.skipIf(excuse)(`the relay passes the gate${excuse}`, async () => {
    expect(await gate(started.candidate, surroundings, signal), await started.candidate.log()).toEqual([]);
  });

  test.skipIf(excuse)(`a relay that hands over what must wait does not pass it${excuse}`, async () => {
    const careless = await startFresh('relay', { destinations: [{ domain: '*', tls: 'may' }] }, surroundings);
    try {
      expect(await gate(careless.candidate, surroundings, signal)).toContain('mail to wrong-tlsa.test was handed over');
    } finally {
      await careless.stop();
    }
  });

  test.skipIf(excuse)(`20 messages arrive, and every figure is one${excuse}`, async () => {
    const result = await measureStarted(small, 'relay', 1, started, surroundings, signal);
    expect(result.faults).toEqual([]);
    const { drain, accept, cpuMs, pssMb, p50Ms, p99Ms } = result;
    for (const figure of [drain, accept, cpuMs, pssMb, p50Ms, p99Ms]) expect(figure).toBeGreaterThan(0);
    expect(result).toMatchObject({ case: 'A', candidate: 'relay', messages: 20 });
    expect(accept).toBeGreaterThanOrEqual(drain * 0.9);
  });

  test.skipIf(excuse)(`nothing is left of a candidate that was stopped${excuse}`, async () => {
    const other = await startFresh('relay', {}, surroundings);
    const pids = other.group.pids();
    expect(pids.length).toBeGreaterThan(0);
    await other.stop();
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    expect(other.group.pids()).toEqual([]);
  });
});

describe('the command line', () => {
  const run = (...words: string[]): { readonly status: number | null; readonly said: string } => {
    const { status, stdout, stderr } = spawnSync(process.execPath, words, { cwd: PROJECT, encoding: 'utf8' });
    return { status, said: stdout + stderr };
  };

  test.each([
    [['--case', 'Z'], 'no case Z'],
    [['--fast'], 'usage:'],
  ])('%s is wrong usage: status 2', (words, told) => {
    expect(run('bench/main.ts', ...words)).toMatchObject({ status: 2, said: expect.stringContaining(told) });
  });

  test('what is missing is named, with status 3', () => {
    // A folder in memory flushes nothing: what is fast there is fast nowhere else.
    const told = expect.stringContaining('/dev/shm is in memory');
    expect(run('bench/profile.ts', '--folder', '/dev/shm')).toMatchObject({ status: 3, said: told });
  });
});
