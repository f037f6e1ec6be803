/** Opens the counts of TLS reports for the command line, whether the relay runs or not. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { exitCodeFor, mistakeLine } from '../cli/mistakes.ts';
import type { ReportDesk } from '../cli/tlsrpt.ts';
import { loadConfig } from '../config/load.ts';
import type { Failure } from '../report/tls-report/count.ts';
import { LEDGER_FILE, Ledger } from '../report/tls-report/ledger.ts';
import { reportOf } from '../report/tls-report/report.ts';
import { dayOf, startOf } from '../report/tls-report/tally.ts';
import { systemClock } from '../shared/clock.ts';
import { domainOf } from '../shared/domain-name.ts';

/** @throws Error with an `exitCode` when the configuration cannot be used; Error when there are no counts */
export async function openReportDesk(configFile?: string): Promise<ReportDesk> {
  const loaded = loadConfig({ path: configFile ?? null, env: process.env });
  if (!loaded.ok) {
    throw Object.assign(new Error(loaded.mistakes.map(mistakeLine).join('\n')), { exitCode: exitCodeFor(loaded) });
  }
  const { tlsReports, state } = loaded.config;
  if (tlsReports === null) {
    throw new Error('TLS reports are off: give organisation and contact under "tlsReports" in the configuration');
  }
  const file = join(state, LEDGER_FILE);
  if (!existsSync(file)) throw new Error(`nothing was counted yet: there is no ${file}`);
  const ledger = new Ledger({ file, mode: 'visitor' });
  return {
    preview: (domain) => {
      const day = dayOf(systemClock.now());
      const counts = ledger.counts(day, domain);
      if (counts.length === 0) return null;
      return {
        report: reportOf(tlsReports, day, `preview@${domainOf(tlsReports.contact)}`, counts),
        policies: counts.map(({ policy, successes, failures, details }) => ({
          type: policy.type,
          domain: policy.domain,
          successes,
          failures,
          details: details.map(({ failure, sessions }) => ({ what: inWords(failure), sessions })),
        })),
      };
    },
    list: () =>
      ledger.list().map(({ day, due, ...entry }) => ({
        ...entry,
        day: new Date(startOf(day)).toISOString().slice(0, 10),
        due: due === null ? null : new Date(due).toISOString(),
      })),
    close: () => ledger.close(),
  };
}

function inWords({ type, code, mxHost, receivingAddress }: Failure): string {
  const where = [mxHost, receivingAddress].filter((place) => place !== null);
  return `${type} (${code})${where.length === 0 ? '' : ` at ${where.join(' ')}`}`;
}
