/**
 * The decision table of docs/verdicts.md, computed by the code that decides: every row is what `decide` makes of those
 * facts, so that the page cannot say anything else than the relay does.
 */
import type { MxFacts } from '../src/model/route.ts';
import type { Grant, HostFacts, InsecureMx, TlsaFindings, TlsPolicy, TlsRule } from '../src/model/tls-policy.ts';
import { asksForTlsa, decide } from '../src/policy/decide.ts';
import { withGrant } from '../src/policy/grants.ts';

const MX: Readonly<Record<string, MxFacts>> = {
  signed: { kind: 'mx', dnssec: 'secure', expanded: null },
  'not signed': { kind: 'mx', dnssec: 'insecure', expanded: null },
  'none: the domain itself': { kind: 'implicit', dnssec: 'secure', expanded: null },
};

const HOST = 'mx.example.nl';
const found = { kind: 'found', addresses: ['192.0.2.1'] } as const;

const ADDRESS: Readonly<Record<string, HostFacts['location']>> = {
  signed: { ...found, dnssec: 'secure', bases: [HOST] },
  'signed alias into an unsigned zone': { ...found, dnssec: 'insecure', bases: [HOST] },
  'not signed': { ...found, dnssec: 'insecure', bases: [] },
  'proven to be absent': { kind: 'absent', dnssec: 'secure' },
  'lookup fails': { kind: 'failed', reason: 'SERVFAIL' },
};

const record = { usage: 3, selector: 1, matching: 1, data: Buffer.alloc(32) };
const judged = { text: '3 1 1 …', usable: true, considered: true, why: null };
const none: TlsaFindings = {
  name: `_25._tcp.${HOST}`,
  dnssec: 'secure',
  base: null,
  records: [],
  considered: [],
  failure: null,
};

const TLSA: Readonly<Record<string, TlsaFindings>> = {
  'signed, one or more usable': { ...none, base: HOST, records: [judged], considered: [record] },
  'signed, none usable': { ...none, base: HOST, records: [{ ...judged, usable: false }] },
  'not signed': { ...none, dnssec: 'insecure', records: [judged] },
  'proven to be absent': none,
  'lookup fails': { ...none, dnssec: 'error', failure: 'SERVFAIL' },
};

const RULES: readonly TlsRule[] = ['dane', 'dane-only', 'encrypt', 'verify', 'pin', 'may'];

/** Rows in Markdown. @param insecureMx the setting `delivery.insecureMx` */
export function decisionTable(insecureMx: InsecureMx): string {
  const rows = Object.entries(MX).flatMap(([mxName, mx]) =>
    Object.entries(ADDRESS).flatMap(([addressName, location]) => {
      const facts = (tls: TlsRule, tlsa: TlsaFindings | null): HostFacts => ({
        destination: { tls, pins: ['sha256/…'], nextHop: { kind: 'domain', domain: 'example.nl', port: 25 } },
        mx,
        host: { name: HOST, preference: 10, unusable: null },
        location,
        tlsa,
        sts: null,
      });
      const asks = (tls: TlsRule): boolean => asksForTlsa(insecureMx)(facts(tls, null));
      const findings = RULES.some(asks) ? Object.entries(TLSA) : [['not asked for', null] as const];
      return findings.map(([tlsaName, tlsa]) => {
        const policies = RULES.map((tls) => inWords(decide(insecureMx)(facts(tls, asks(tls) ? tlsa : null))));
        return `| ${[mxName, addressName, tlsaName, ...policies].join(' | ')} |`;
      });
    }),
  );
  return [
    `| MX | addresses of the host | TLSA | \`${RULES.join('` | `')}\` |`,
    `|${'---|'.repeat(3 + RULES.length)}`,
    ...new Set(rows),
  ].join('\n');
}

/** What the operator's exceptions and report-only make of a host with signed MX and addresses, in Markdown. */
export function grantsTable(): string {
  const exception: Grant = { kind: 'exception', id: 'x', owner: '', reason: '', until: 0, pins: [] };
  const grants: readonly Grant[] = [exception, { ...exception, pins: ['sha256/…'] }, { kind: 'report', until: 0 }];
  const rows = RULES.filter((tls) => tls !== 'may').flatMap((tls) =>
    Object.entries(TLSA).map(([tlsaName, tlsa]) => {
      const facts: HostFacts = {
        destination: { tls, pins: ['sha256/…'], nextHop: { kind: 'domain', domain: 'example.nl', port: 25 } },
        mx: { kind: 'mx', dnssec: 'secure', expanded: null },
        host: { name: HOST, preference: 10, unusable: null },
        location: { ...found, dnssec: 'secure', bases: [HOST] },
        tlsa,
        sts: null,
      };
      const strict = decide('dane')(facts);
      const cells = grants.map((grant) => {
        const policy = withGrant(strict, facts, grant);
        return 'strict' in policy ? policy.enough.map(inWords).join(' and ') : 'no difference';
      });
      return `| ${[`\`${tls}\``, tlsaName, inWords(strict), ...cells].join(' | ')} |`;
    }),
  );
  const differing = rows.filter((row) => !row.includes('| no difference | no difference | no difference |'));
  return [
    '| rule | TLSA | what must be | enough by an exception | by one with a pin | in report-only |',
    `|${'---|'.repeat(6)}`,
    ...differing,
  ].join('\n');
}

function inWords(policy: TlsPolicy): string {
  switch (policy.kind) {
    case 'dane':
      return policy.wholePath ? 'certificate must match' : 'certificate must match, proves the host only';
    case 'verify':
    case 'sts':
      return [
        'trusted certificate',
        ...(policy.dane ? ['must also match'] : []),
        ...(policy.wholePath ? [] : ['proves the host only']),
      ].join(', ');
    case 'pin':
      return policy.dane ? 'key must be a named one, certificate must also match' : 'key must be a named one';
    case 'except':
    case 'report':
      return `${inWords(policy.strict)}; else ${policy.enough.map(inWords).join(' and ')}`;
    case 'encrypt':
      return 'TLS, any certificate';
    case 'may':
      return 'TLS if offered';
    case 'skip':
      return `not dialled: \`${policy.trouble.code}\``;
  }
}
