/** The small C programs of native/, compiled when they are first needed and again when their sources have changed. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const SOURCES = join(import.meta.dirname, 'native');
const BUILD = join(SOURCES, 'build');
const FLAGS = ['-std=gnu17', '-O2', '-Wall', '-Wextra', '-Wshadow', '-Wconversion', '-Werror'];
const PROGRAMS = {
  load: ['load.c'],
  sink: ['sink.c', 'dialogue.c', 'ledger.c'],
} as const;

export interface Programs {
  /** Paths. */
  readonly load: string;
  readonly sink: string;
}

/** Rejects with the compiler's words. */
export async function compile(): Promise<Programs> {
  const mark = await fingerprint();
  await mkdir(BUILD, { recursive: true });
  const [load, sink] = await Promise.all([program('load', mark), program('sink', mark)]);
  return { load, sink };
}

async function program(name: keyof typeof PROGRAMS, mark: string): Promise<string> {
  const path = join(BUILD, `${name}-${mark}`);
  if (existsSync(path)) return path;
  // Made beside its place and then moved there, so that two who need it at once do no harm to each other.
  const unfinished = `${path}.${process.pid}`;
  const sources = PROGRAMS[name].map((file) => join(SOURCES, file));
  await run('gcc', [...FLAGS, ...sources, '-o', unfinished, '-lssl', '-lcrypto', '-pthread']);
  await rename(unfinished, path);
  return path;
}

async function fingerprint(): Promise<string> {
  const hash = createHash('sha256').update(FLAGS.join(' '));
  for (const file of (await readdir(SOURCES)).filter((name) => /\.[ch]$/.test(name)).sort()) {
    hash.update(await readFile(join(SOURCES, file)));
  }
  return hash.digest('hex').slice(0, 12);
}
