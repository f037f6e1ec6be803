/** A session that went well, with one thing changed; counts, and a ledger of its own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { ConnectionFacts, SessionEnd } from '../../../src/model/delivery.ts';
import type { ReasonCode } from '../../../src/model/reasons.ts';
import type { MxFacts } from '../../../src/model/route.ts';
import type {
  EnoughPolicy,
  HostPlan,
  StrictPolicy,
  TlsaFindings,
  TlsPolicy,
  TlsRule,
} from '../../../src/model/tls-policy.ts';
import { type Count, countsOf } from '../../../src/report/tls-report/count.ts';
import { LEDGER_FILE, Ledger, type LedgerLimits } from '../../../src/report/tls-report/ledger.ts';
import type { Tallied } from '../../../src/report/tls-report/tally.ts';

/** Monday, 2 November 2026. */
export const DAY = Date.UTC(2026, 10, 2) / 86_400_000;
export const MIDNIGHT = (DAY + 1) * 86_400_000;
export const HOUR = 3_600_000;

export const EE = `3 1 1 ${'ab'.repeat(32)}`;

export interface Session {
  readonly domain?: string;
  readonly rule?: TlsRule;
  readonly nextHop?: SessionEnd['destination']['nextHop'];
  readonly mx?: Partial<MxFacts>;
  readonly host?: string;
  readonly tlsa?: Partial<TlsaFindings> | null;
  readonly policy?: TlsPolicy;
  /** How the connection ended. */
  readonly code?: ReasonCode;
  readonly verdict?: ConnectionFacts['verdict'];
  /** What failed and was not acted upon. */
  readonly overlooked?: ReasonCode;
  /** Set where nothing was dialled. */
  readonly skipped?: ReasonCode;
  readonly deadEnd?: true;
  readonly greeting?: string | null;
  readonly address?: string;
  readonly sts?: NonNullable<SessionEnd['sts']>;
}

export const dane: StrictPolicy = {
  kind: 'dane',
  code: 'tlsa-usable',
  sni: 'mx.example.nl',
  referenceNames: ['mx.example.nl'],
  records: [],
  wholePath: true,
};
export const may: EnoughPolicy = { kind: 'may', code: 'tlsa-absent', sni: 'mx.example.nl' };

export const GRANT = { kind: 'report', until: MIDNIGHT } as const;

export function session(change: Session = {}): SessionEnd {
  const { domain = 'example.nl', rule = 'dane', host = 'mx.example.nl', address = '192.0.2.7' } = change;
  const tlsa: TlsaFindings = {
    name: `_25._tcp.${host}`,
    dnssec: 'secure',
    base: host,
    records: [{ text: EE, usable: true, considered: true, why: null }],
    considered: [{ usage: 3, selector: 1, matching: 1, data: Buffer.alloc(32, 0xab) }],
    failure: null,
  };
  const skip: TlsPolicy | null = change.skipped
    ? { kind: 'skip', trouble: { code: change.skipped, detail: '', host } }
    : null;
  const plan: HostPlan = {
    host: { name: host, preference: 10, unusable: null },
    location: { kind: 'found', addresses: [address], dnssec: 'secure', bases: [host] },
    tlsa: change.tlsa === null ? null : { ...tlsa, ...change.tlsa },
    policy: change.policy ?? skip ?? dane,
  };
  const connection: ConnectionFacts = {
    address,
    verdict: change.verdict ?? 'authenticated',
    record: null,
    depth: null,
    tls: null,
    code: change.code ?? 'dane-ee',
    reason: '',
    ...(change.overlooked && { overlooked: { code: change.overlooked, detail: '', grant: GRANT } }),
  };
  const greeting = change.greeting === undefined ? `220 ${host} ESMTP` : change.greeting;
  return {
    destination: { tls: rule, pins: [], nextHop: change.nextHop ?? { kind: 'domain', domain, port: 25 } },
    mx: { kind: 'mx', dnssec: 'secure', expanded: null, ...change.mx },
    plan: change.deadEnd ? null : plan,
    dialled: change.skipped ? null : { connection, opened: { localAddress: '192.0.2.1', greeting } },
    trouble: change.skipped ? { code: change.skipped, detail: '' } : null,
    sts: change.sts ?? null,
  };
}

export function counted(change: Session = {}): Count {
  const [count] = countsOf(session(change));
  if (!count) throw new Error('nothing was counted');
  return count;
}

export function tallied(change: Session & { readonly day?: number; readonly sessions?: number } = {}): Tallied {
  return { ...counted(change), day: change.day ?? DAY, sessions: change.sessions ?? 1 };
}

/** A folder that is gone when the test is. */
export function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'dane-tlsrpt-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export function ledgerIn(dir: string, limits: Partial<LedgerLimits> = {}): Ledger {
  const ledger = new Ledger({ file: join(dir, LEDGER_FILE), mode: 'relay', limits });
  onTestFinished(() => ledger.close());
  return ledger;
}
