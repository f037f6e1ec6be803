/**
 * What journeys about signatures and TLS reports begin with: `office.test`, with a key of its own for its mail, and a
 * relay in front of it that reports on TLS.
 *
 * A day ends by going back in the relay's own file: what was counted today is moved to the day before yesterday.
 */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { expect } from 'vitest';
import type { Lab } from '../../lab/lab.ts';
import type { RelayOptions, RunningRelay } from '../../lab/relay.ts';
import { goodHost } from '../../lab/world.ts';
import { publicPart, recordText } from '../../src/sign/keys-record.ts';
import { parseReport } from '../report/tls-report/parsed.ts';
import { type Follower, type Host, type Journey, startJourney } from './support.ts';

export interface Office {
  readonly lab: Lab;
  readonly relay: Follower;
  /** What DNS says of its key. */
  readonly records: Readonly<Record<string, string>>;
  readonly end: () => Promise<void>;
}

/** The record of somebody else's key. */
export const STRANGER = { numbers: [3, 1, 1], of: 'stranger' } as const;

/** @param config keys of the relay's configuration beside those of the office */
export async function openOffice(
  hosts: readonly Host[],
  config: (lab: Lab) => NonNullable<RelayOptions['config']> = () => ({}),
): Promise<Office> {
  const dir = mkdtempSync(join(tmpdir(), 'dane-office-'));
  const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const path = join(dir, 'office.pem');
  writeFileSync(path, key.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  let journey: Journey | null = null;
  const end = async (): Promise<void> => {
    await journey?.end();
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    journey = await startJourney([goodHost('office.test'), ...hosts], () => ({}));
    const { lab } = journey;
    const relay = await journey.relay({
      tlsReports: { organisation: 'Gemeente Voorbeeld', contact: 'tls-reports@office.test' },
      dkim: [{ domain: 'office.test', selector: 's1', key: path }],
      ...config(lab),
    });
    const records = { 's1._domainkey.office.test': recordText('rsa-sha256', publicPart(key, 'rsa-sha256')) };
    return { lab, relay, records, end };
  } catch (error) {
    await end();
    throw error;
  }
}

/** Lets what was counted today have been counted the day before yesterday. The relay must not run. */
export function letDaysPass({ config }: RunningRelay): void {
  const db = new Database(join(dirname(config), 'state', 'tls-reports.db'));
  for (const table of ['report', 'policy', 'failure']) db.exec(`UPDATE ${table} SET day = day - 2`);
  db.close();
}

/** Reports that came by HTTPS, in which a reader of others' making finds no mistake. */
export function reportsTo(lab: Lab): Promise<Readonly<Record<string, unknown>>[]> {
  return Promise.all(
    lab.tlsReports().map(async (octets) => {
      const { report, mistakes } = await parseReport(octets);
      expect(mistakes).toEqual([]);
      return report;
    }),
  );
}
