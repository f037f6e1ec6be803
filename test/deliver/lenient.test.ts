/** What is handed over under an exception and under report-only, and what is told of it: real connections to one host. */
import { describe, expect, test } from 'vitest';
import { pinOf } from '../../lab/certificates.ts';
import type { Grant, LenientPolicy } from '../../src/model/tls-policy.ts';
import type { HostOptions } from '../support/smtp-host.ts';
import { dane, encrypt, may, other, own, recordFor, scene, told } from './scene.ts';

const exception: Grant = {
  kind: 'exception',
  id: 'x1',
  owner: 'Jan of ICT',
  reason: 'key renewed, DNS late',
  until: Date.UTC(2027, 0, 31),
  pins: [],
};
const report: Grant = { kind: 'report', until: Date.UTC(2027, 0, 31) };
const sni = 'mx.example.test';
const wrong = { ...dane, records: [recordFor(other)] };
const unknown = { kind: 'skip', trouble: { code: 'tlsa-lookup-failed', detail: 'SERVFAIL' } } as const;
const pin = (identity: typeof own) =>
  ({ kind: 'pin', code: 'rule-exception', sni, pins: [pinOf(identity)], dane: null }) as const;

const except = (change: Partial<LenientPolicy> = {}): LenientPolicy => ({
  kind: 'except',
  code: 'rule-exception',
  sni,
  strict: wrong,
  enough: [encrypt],
  grant: exception,
  ...change,
});
const reporting = (change: Partial<LenientPolicy> = {}): LenientPolicy => ({
  ...except({ enough: [may] }),
  kind: 'report',
  code: 'rule-report',
  grant: report,
  ...change,
});
const noTls: HostOptions = { tls: null };
const broken: HostOptions = { handshake: 'close' };

describe('POL-03 POL-04 the grant is used only where DANE fails, and the verdict says so', () => {
  test.each<[string, LenientPolicy, HostOptions, string, string | null]>([
    ['exception, DANE holds', except({ strict: dane }), {}, 'authenticated dane-ee', null],
    ['exception, another key', except(), {}, 'encrypted exception-encrypted', 'tlsa-mismatch'],
    [
      'exception, records unknown',
      except({ strict: unknown }),
      {},
      'encrypted exception-encrypted',
      'tlsa-lookup-failed',
    ],
    ['exception, no STARTTLS', except(), noTls, 'failed starttls-not-offered', null],
    ['exception, STARTTLS refused', except(), { starttls: '454 no' }, 'failed starttls-refused', null],
    ['exception, handshake fails', except(), broken, 'failed tls-handshake-failed', null],
    [
      'exception, the pinned key',
      except({ enough: [pin(own)] }),
      {},
      'authenticated exception-authenticated',
      'tlsa-mismatch',
    ],
    ['exception, not the pinned key', except({ enough: [pin(other)] }), {}, 'failed pin-mismatch', null],
    [
      'exception, one of two demands fails',
      except({ enough: [pin(other), pin(own)] }),
      {},
      'failed pin-mismatch',
      null,
    ],
    ['report, DANE holds', reporting({ strict: dane }), {}, 'authenticated dane-ee', null],
    ['report, another key', reporting(), {}, 'encrypted report-encrypted', 'tlsa-mismatch'],
    ['report, records unknown', reporting({ strict: unknown }), {}, 'encrypted report-encrypted', 'tlsa-lookup-failed'],
    ['report, no STARTTLS', reporting(), noTls, 'clear report-clear', 'starttls-not-offered'],
    ['report, STARTTLS refused', reporting(), { starttls: '454 no' }, 'clear report-clear', 'starttls-refused'],
    ['report, handshake fails', reporting(), broken, 'clear report-clear', 'tls-handshake-failed'],
    [
      'report, records unknown, no STARTTLS',
      reporting({ strict: unknown }),
      noTls,
      'clear report-clear',
      'tlsa-lookup-failed',
    ],
    ['report, the rule demands TLS', reporting({ enough: [encrypt] }), noTls, 'failed starttls-not-offered', null],
    ['report, the rule demands a key', reporting({ enough: [pin(other)] }), {}, 'failed pin-mismatch', null],
  ])('%s', async (_, policy, host, verdict, overlooked) => {
    const at = await scene({ host, policy });
    const { connection } = await at.deliver();
    expect(`${connection.verdict} ${connection.code}`).toBe(verdict);
    expect(connection.overlooked?.code ?? null).toBe(overlooked);
    expect(at.host.messages).toHaveLength(connection.verdict === 'failed' ? 0 : 1);
    expect(at.host.messages.every(({ underTls }) => underTls === (connection.verdict !== 'clear'))).toBe(true);
  });
});

test('POL-04 each use says whose exception it is, why, until when, and what was wrong', async () => {
  const { deliver } = await scene({ policy: except() });
  const { connection } = await deliver();
  for (const word of ['tlsa-mismatch', 'another key', 'x1', 'Jan of ICT', '2027-01-31T00:00:00.000Z', 'DNS late']) {
    expect(connection.reason).toContain(word);
  }
  expect(connection.overlooked).toEqual({ code: 'tlsa-mismatch', detail: 'another key', grant: exception });
});

test('a connection made under a grant is for nobody else, and the other way round', async () => {
  const { deliver, host } = await scene({ policy: except(), deliverer: { pool: { idleMs: 60_000 } } });
  expect(told(await deliver())).toMatch(/^delivered/);
  expect(told(await deliver({ policy: wrong }))).toBe('useless tlsa-mismatch');
  await deliver({ policy: except({ grant: { ...exception, id: 'x2' } }) });
  await deliver({ policy: reporting() });
  expect(host.conversations).toHaveLength(4);
  await deliver({ policy: except() });
  expect(host.conversations).toHaveLength(4);
});

test('POL-03 a refusal before TLS does not return mail for good while failures are only reported', async () => {
  const { deliver } = await scene({ policy: reporting(), host: { greeting: '554 5.7.1 no' } });
  expect(told(await deliver())).toBe('useless greeting-refused-before-tls');
});
