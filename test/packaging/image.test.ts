/**
 * What can be checked of the image without Docker: everything it copies is there, and what it starts does start, in a
 * clean folder, as a user without privileges, with production packages only.
 */
import { execFile, spawn } from 'node:child_process';
import { chmod, chown, copyFile, cp, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { freePort, PROJECT } from '../../lab/relay.ts';

const run = promisify(execFile);
const root = process.getuid?.() === 0;
/** `nobody` in Debian. */
const UNPRIVILEGED = 65_534;

interface Instruction {
  readonly verb: string;
  readonly rest: string;
}

async function dockerfile(): Promise<Instruction[]> {
  const text = await readFile(join(PROJECT, 'Dockerfile'), 'utf8');
  return text
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => ({ verb: line.slice(0, line.indexOf(' ')), rest: line.slice(line.indexOf(' ') + 1).trim() }));
}

function copies(instructions: readonly Instruction[]): { readonly sources: string[]; readonly target: string }[] {
  return instructions
    .filter(({ verb }) => verb === 'COPY')
    .map(({ rest }) => {
      const words = rest.split(/\s+/);
      return { sources: words.slice(0, -1), target: words.at(-1) ?? '' };
    });
}

function wordsOf(instructions: readonly Instruction[], verb: string): string[] {
  const found = instructions.find((instruction) => instruction.verb === verb);
  return found ? (JSON.parse(found.rest) as string[]) : [];
}

describe('Dockerfile', () => {
  test('every source that is copied is there and is not kept out by .dockerignore', async () => {
    const ignored = (await readFile(join(PROJECT, '.dockerignore'), 'utf8')).split('\n');
    for (const source of copies(await dockerfile()).flatMap(({ sources }) => sources)) {
      await expect(stat(join(PROJECT, source)), source).resolves.toBeDefined();
      expect(ignored, source).toContain(`!${source}`);
    }
  });

  test('runs as another user than root, keeps its state in its one volume, and has a health check', async () => {
    const instructions = await dockerfile();
    const of = (verb: string): string[] => instructions.filter((each) => each.verb === verb).map(({ rest }) => rest);
    expect(of('USER')).toEqual(['node']);
    expect(of('VOLUME')).toEqual(['/var/lib/dane-relay']);
    expect(of('ENV')).toEqual(['DANE_RELAY_STATE=/var/lib/dane-relay']);
    expect(of('HEALTHCHECK')).toHaveLength(1);
  });
});

test('compose.yaml parses, and gives the relay no more than it needs', async () => {
  const { services, volumes } = parse(await readFile(join(PROJECT, 'compose.yaml'), 'utf8'));
  const service = services['dane-relay'];
  expect(service).toMatchObject({ read_only: true, cap_drop: ['ALL'], tmpfs: ['/tmp'] });
  expect(service.volumes).toContain('state:/var/lib/dane-relay');
  expect(Object.keys(volumes)).toEqual(['state']);
  expect(parse(service.environment.DANE_RELAY_LISTEN)).toEqual([{ address: '0.0.0.0', port: 2525, tls: 'starttls' }]);
});

describe('what the image starts', () => {
  let folder = '';
  let app = '';
  let state = '';

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'dane-image-'));
    await chmod(folder, 0o755);
    app = join(folder, 'app');
    state = join(folder, 'state');
    await mkdir(join(folder, 'bin'));
    // The Node of the image, on the PATH and nowhere else.
    await copyFile(process.execPath, join(folder, 'bin', 'node'));
    await mkdir(state);
    if (root) await chown(state, UNPRIVILEGED, UNPRIVILEGED);
    for (const { sources, target } of copies(await dockerfile())) {
      for (const source of sources) {
        const name = target === './' ? source : target;
        await mkdir(dirname(join(app, name)), { recursive: true });
        await cp(join(PROJECT, source), join(app, name), { recursive: true });
      }
    }
    const install = (await dockerfile()).find(({ rest }) => rest.startsWith('npm ci'))?.rest.split(' && ')[0] ?? '';
    expect(install).toContain('--omit=dev');
    await run('npm', [...install.split(' ').slice(1), '--prefer-offline'], { cwd: app });
  });

  afterAll(() => rm(folder, { recursive: true, force: true }));

  test(`starts${root ? ' as nobody' : ''} with production packages, answers its health check, and stops with status 0`, async () => {
    const instructions = await dockerfile();
    const [entry = '', ...rest] = [...wordsOf(instructions, 'ENTRYPOINT'), ...wordsOf(instructions, 'CMD')];
    const [smtp, admin] = [await freePort(), await freePort()];
    const child = spawn(join(app, entry), rest, {
      cwd: app,
      ...(root ? { uid: UNPRIVILEGED, gid: UNPRIVILEGED } : {}),
      env: {
        PATH: `${join(folder, 'bin')}:/usr/bin:/bin`,
        DANE_RELAY_STATE: state,
        DANE_RELAY_LISTEN: `[{ address: 127.0.0.1, port: ${smtp}, tls: starttls }]`,
        DANE_RELAY_ADMIN_LISTEN: `127.0.0.1:${admin}`,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    try {
      const check = /"([^"]*fetch.*)"\]/.exec(instructions.find(({ verb }) => verb === 'HEALTHCHECK')?.rest ?? '')?.[1];
      const here = (check ?? '').replace('127.0.0.1:8025', `127.0.0.1:${admin}`);
      expect(here).not.toBe(check);
      await expect
        .poll(
          () =>
            run(process.execPath, ['-e', here]).then(
              () => 'healthy',
              () => output,
            ),
          { interval: 200 },
        )
        .toBe('healthy');
      await expect.poll(() => stat(join(state, 'relay.pem')).catch(() => null)).not.toBeNull();
    } finally {
      child.kill('SIGTERM');
    }
    expect(await ended, output).toBe(0);
  });

  test('without the lab, `lab` says in one sentence where it is, and ends with status 3', async () => {
    const launch = run(join(app, 'dane-relay'), ['lab'], { env: { PATH: `${join(folder, 'bin')}:/usr/bin:/bin` } });
    await expect(launch).rejects.toMatchObject({ code: 3, stderr: expect.stringContaining('npm ci') });
  });

  test('with no Node that is new enough, the launcher says what to do and ends with status 3', async () => {
    const old = join(folder, 'old');
    await mkdir(old);
    await writeFile(join(old, 'node'), '#!/bin/sh\necho 20\n', { mode: 0o755 });
    const launch = run(join(app, 'dane-relay'), ['run'], { env: { PATH: `${old}:/usr/bin:/bin` } });
    await expect(launch).rejects.toMatchObject({ code: 3, stderr: expect.stringContaining('Node.js 24') });
  });

  test.each([
    ['one pool of memory for all threads', {}, '1'],
    ['the number of pools that the operator has set', { MALLOC_ARENA_MAX: '4' }, '4'],
  ])('the relay gets %s', async (_, given, pools) => {
    const place = await mkdtemp(join(folder, 'seen-'));
    const script = `#!/bin/sh\nif [ "$1" = -p ]; then echo 24; else echo "$MALLOC_ARENA_MAX $*"; fi\n`;
    await writeFile(join(place, 'node'), script, { mode: 0o755 });
    const env = { PATH: `${place}:/usr/bin:/bin`, ...given };
    const { stdout } = await run(join(app, 'dane-relay'), ['run', '--config', 'a.yaml'], { env });
    expect(stdout).toBe(`${pools} --max-semi-space-size=4 ${join(app, 'src/main.ts')} run --config a.yaml\n`);
  });
});
