/** Loads a configuration from text, in a folder of its own, on a machine that is always the same. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { type LoadResult, loadConfig } from '../../src/config/load.ts';
import type { Mistake } from '../../src/model/mistake.ts';

/** A folder that is gone after the tests of the file. */
export const folder = mkdtempSync(join(tmpdir(), 'dane-relay-config-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

export function load(text: string, env: Record<string, string> = {}): LoadResult {
  writeFileSync(join(folder, 'relay.yaml'), text);
  return loadConfig({ path: 'relay.yaml', env, cwd: folder, machine: 'relay.example.nl' });
}

/** The configuration, which must be right. */
export function configOf(result: LoadResult): Config {
  if (!result.ok) throw new Error(`mistakes: ${result.mistakes.map(line).join('\n')}`);
  return result.config;
}

/** The mistakes, of which there must be some. */
export function mistakesOf(result: LoadResult): readonly Mistake[] {
  if (result.ok) throw new Error('no mistake was found');
  return result.mistakes;
}

/** `3:10 queue.lifetime: message | expected | nearest` */
export function line({ file, line: row, column, path, message, expected, nearest }: Mistake): string {
  const place = row === null ? file : `${row}:${column}`;
  return [`${place} ${path}: ${message}`, expected, ...(nearest === undefined ? [] : [nearest])].join(' | ');
}
