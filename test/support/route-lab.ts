/** The lab's DNS in a folder of its own, with a resolver client that remembers nothing between questions and counts them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LabDns, type LabZone, startDns } from '../../lab/dns.ts';
import type { Resolve } from '../../src/model/dns.ts';
import { createResolver } from '../../src/route/resolver.ts';

export interface RouteLab {
  readonly dns: LabDns;
  readonly resolve: Resolve;
  /** `TYPE name` of every question since the last call. */
  readonly asked: () => string[];
  readonly close: () => Promise<void>;
}

export async function startRouteLab(zones: Readonly<Record<string, LabZone>>): Promise<RouteLab> {
  const { path, remove } = await temporaryFolder();
  const dns = await startDns({ dir: path, zones });
  const questions: string[] = [];
  const { resolveAfresh, close } = createResolver({
    server: dns.server,
    onAnswer: ({ name, type }) => questions.push(`${type} ${name}`),
  });
  return {
    dns,
    resolve: resolveAfresh,
    asked: () => questions.splice(0),
    close: async () => {
      close();
      await dns.close();
      await remove();
    },
  };
}

export async function temporaryFolder(): Promise<{ readonly path: string; readonly remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'dane-relay-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

export const signed = (...records: string[]): LabZone => ({ dnssec: 'signed', records });
export const unsigned = (...records: string[]): LabZone => ({ dnssec: 'unsigned', records });
export const bogus = (...records: string[]): LabZone => ({ dnssec: 'bogus', records });
