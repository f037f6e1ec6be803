/**
 * Writes docs/verdicts.md from the table of reasons; `npm run docs` runs it, and a test fails when the page is stale.
 * The page has one row for each code, and no sentence of its own about any of them.
 */
import { writeFileSync } from 'node:fs';
import { REASONS, type ReasonCode, reason } from '../src/model/reasons.ts';
import { verdictOf } from '../src/model/verdict.ts';
import { decisionTable, grantsTable } from './decision-table.ts';

const CHAPTERS: readonly (readonly [string, string, (code: ReasonCode) => boolean])[] = [
  ['Mail waits', 'The message is safe in the queue and is tried again by itself.', (code) => startsWith(code, '4')],
  [
    'Mail is returned or refused',
    'The sender is told: by a bounce, or at once when the message is handed in.',
    (code) => startsWith(code, '5'),
  ],
  [
    'Mail left, or may leave',
    'What was proven, or what a host must prove before it is given mail.',
    (code) => startsWith(code, '2'),
  ],
];

function startsWith(code: ReasonCode, digit: string): boolean {
  return reason(code).status.startsWith(digit);
}

export function verdictsPage(): string {
  const codes = (Object.keys(REASONS) as ReasonCode[]).toSorted();
  const chapters = CHAPTERS.map(([title, opening, belongs]) => {
    const rows = codes.filter(belongs).map((code) => {
      const { status, rfc, whose } = reason(code);
      return `| \`${code}\` | ${status} | ${verdictOf(code, '').explanation} | ${WHOSE[whose]} | ${rfc} |`;
    });
    return [
      `## ${title}`,
      '',
      opening,
      '',
      '| code | status | what it means | who can put it right | source |',
      '|---|---|---|---|---|',
      ...rows,
      '',
    ].join('\n');
  });
  return [
    '# Verdicts',
    '',
    'Every reason that the relay gives, with the code that stands in log lines, bounces, metrics and on the command line.',
    'This page is written from `src/model/reasons.ts` by `npm run docs`.',
    '',
    'A remote host’s own status is passed on in place of the one in the table where it gave one.',
    '',
    ...chapters,
    '## What a host must prove',
    '',
    'Computed by the code that decides. Read a row from left to right, then take the column of the rule that the',
    'configuration has for the destination. "not dialled" means that the next host is tried; with none left the message',
    'waits, or goes back where the status of the code begins with 5.',
    '',
    'With `insecureMx: dane`, the default:',
    '',
    decisionTable('dane'),
    '',
    'With `insecureMx: may` only these rows differ:',
    '',
    different(decisionTable('may'), decisionTable('dane')),
    '',
    'With an MTA-STS policy that enforces, a host that DANE has not tied to the domain (`TLS if offered`, `TLS, any',
    'certificate`, and whatever proves the host only) must be listed by the policy and have a trusted certificate for its',
    'name; else it is passed over with `sts-mx-not-listed`, `webpki-not-trusted`, `webpki-expired` or',
    '`webpki-name-mismatch`, and with no host left the message waits. `may`, `pin` and `dane-only` are not changed by it. A',
    'policy that only tests changes nothing; what it would have kept back is in the log.',
    '',
    '## What the operator can let pass',
    '',
    'Nothing above is weakened but by an exception (`dane-relay exceptions`) or by report-only (`mode: report`), each with an',
    'end, and for TLS reports of this relay itself, which go out whatever becomes of TLS (RFC 8460 §3). What must be is tried first; only where that fails is this enough, and the verdict is `exception-…` or `report-…`',
    'with the code of what failed. Signed MX and addresses, no MTA-STS; where a policy of MTA-STS enforces, it has to be met',
    'in any case.',
    '',
    grantsTable(),
    '',
    '## How the connection decides',
    '',
    'Then the connection decides. `certificate must match`: by DANE-EE without regard to names and dates, by DANE-TA with',
    'both; otherwise `tlsa-mismatch`, `tlsa-name-mismatch`, `tlsa-expired` or `tlsa-not-trusted`, the next host, and with none',
    'left the message waits. `TLS, any certificate`: without STARTTLS or with a failed handshake the same. `TLS if offered`:',
    'without TLS the message goes in the clear. `trusted certificate`: from an authority of `delivery.ca` and for the name of',
    'the host, otherwise `webpki-not-trusted`, `webpki-expired` or `webpki-name-mismatch`. `key must be a named one`: otherwise',
    '`pin-mismatch`.',
    '',
  ].join('\n');
}

/** The head of a table and those of its rows that the other one does not have. */
function different(table: string, other: string): string {
  const [head = '', line = '', ...rows] = table.split('\n');
  const known = new Set(other.split('\n'));
  return [head, line, ...rows.filter((row) => !known.has(row))].join('\n');
}

const WHOSE = {
  recipient: 'recipient’s administrator',
  sender: 'sender or sender’s administrator',
  us: 'administrator of this relay',
  network: 'often passes by itself',
  nobody: '',
} as const;

if (import.meta.main) writeFileSync(new URL('verdicts.md', import.meta.url), verdictsPage());
