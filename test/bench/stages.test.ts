/** Where the samples of a profile are counted: one made by hand in Node's format, and a real one for its clock. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { profileTable } from '../../bench/profile-table.ts';
import { COLLECTOR, type CpuProfile, NATIVE, NO_STAGE, NODE, scaled, timesIn } from '../../bench/stages.ts';

const HOME = 'file:///srv/dane-relay';

/** Function and script of each, and the number of the one that calls it. */
const STACKS: readonly (readonly [string, string, number | null])[] = [
  ['(root)', '', null],
  ['(idle)', '', 0],
  ['(program)', '', 0],
  ['(garbage collector)', '', 0],
  ['onread', 'node:internal/stream_base_commons', 0],
  ['obey', `${HOME}/src/receive/session.ts`, 4],
  ['parse', `${HOME}/node_modules/smtp-server/lib/x.js`, 5],
  ['writeUtf8String', '', 6],
  ['newQueueId', `${HOME}/src/shared/queue-id.ts`, 5],
  ['match', `${HOME}/src/policy/dane/match.ts`, 5],
  ['hash', 'node:internal/crypto/hash', 9],
  ['update', '', 10],
  ['attempt', `${HOME}/src/relay.ts`, 4],
];

function profileOf(samples: readonly number[]): CpuProfile {
  return {
    nodes: STACKS.map(([functionName, url], id) => ({
      id,
      callFrame: { functionName, url, lineNumber: 0 },
      children: STACKS.flatMap(([, , caller], child) => (caller === id ? [child] : [])),
    })),
    startTime: 1_000_000,
    samples,
    timeDeltas: samples.map(() => 1000),
  };
}
const ALWAYS = { fromUs: 0, toUs: Number.MAX_SAFE_INTEGER };
// One sample each, and one more, as the last lasts for no known time.
const EACH = timesIn(profileOf([...STACKS.keys(), 1]), ALWAYS);

test('a sample is counted where it was taken; native code for the script that calls it', () => {
  expect(Object.fromEntries(EACH.self)).toEqual({
    [NATIVE]: 1,
    [COLLECTOR]: 1,
    [NODE]: 2,
    receive: 1,
    'library smtp-server': 1,
    'native code for library smtp-server': 1,
    shared: 1,
    policy: 1,
    [`native code for ${NODE}`]: 1,
    assembly: 1,
  });
});

test('a stage bears what it calls, and what is shared works for its caller', () => {
  expect(Object.fromEntries(EACH.owner)).toEqual({
    [NATIVE]: 1,
    [COLLECTOR]: 1,
    [NO_STAGE]: 1,
    receive: 4,
    policy: 3,
    assembly: 1,
  });
});

test('time in which nothing was to do is not counted, and nothing outside the window', () => {
  expect(EACH.busy).toBe(11);
  expect(timesIn(profileOf([5, 1, 5, 5]), { fromUs: 1_003_000, toUs: 1_004_000 }).busy).toBe(1);
});

test('the table has a column for each thread and adds up', () => {
  const table = profileTable(
    [
      { name: '7 main', times: EACH },
      { name: '7 thread 1', times: scaled(EACH, 22) },
    ],
    10,
  );
  expect(table).toMatch(/^ +7 main +7 thread 1 +all$/m);
  expect(table).toMatch(/^receive +0\.100 +0\.200 +0\.300$/m);
  expect(table).toMatch(/^together +1\.100 +2\.200 +3\.300$/m);
  expect(table).toMatch(/^ +0\.300 {2}obey src\/receive\/session\.ts:1$/m);
});

test('the clock of a real profile is the one that the window is given in', () => {
  const folder = mkdtempSync(join(tmpdir(), 'dane-profile-'));
  const now = (): number => Number(process.hrtime.bigint() / 1000n);
  try {
    const fromUs = now();
    const busy = 'const end = performance.now() + 150; while (performance.now() < end) JSON.parse("[1]")';
    spawnSync(process.execPath, ['--cpu-prof', '--cpu-prof-dir', folder, '-e', busy]);
    const toUs = now();
    const [file = ''] = readdirSync(folder);
    const profile = JSON.parse(readFileSync(join(folder, file), 'utf8')) as CpuProfile;
    expect(timesIn(profile, { fromUs, toUs }).busy).toBeGreaterThan(100);
    expect(timesIn(profile, { fromUs: toUs, toUs: toUs + 1_000_000 }).busy).toBe(0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
