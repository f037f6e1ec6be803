/**
 * `verify`: judges a certificate chain against TLSA records without a network, with the code that judges servers.
 * Exit status 0 only for `authenticated`.
 */
import { Command } from 'commander';
import type { CertificateVerdict } from '../model/delivery.ts';
import type { ReasonCode } from '../model/reasons.ts';
import type { JudgedRecord, TlsaRecord } from '../model/tls-policy.ts';
import { verdictOf } from '../model/verdict.ts';
import { toDomain } from '../shared/domain-name.ts';
import { certificatesIn, readBlocks } from './certificate-file.ts';

type Digest = 'sha256' | 'sha512';

/** What this command needs of policy/. */
export interface VerifyParts {
  readonly parseTlsa: (text: string) => { readonly rdata: Buffer } | { readonly mistake: string };
  readonly judgeRecords: (
    rrset: readonly Buffer[],
    digests: readonly Digest[],
  ) => { readonly records: readonly JudgedRecord[]; readonly considered: readonly TlsaRecord[] };
  readonly judgeChain: (evidence: {
    readonly chain: readonly Buffer[];
    readonly records: readonly TlsaRecord[];
    readonly names: readonly string[];
    readonly at: number;
  }) => CertificateVerdict;
}

interface Options {
  readonly chain?: string;
  readonly tlsa: readonly string[];
  readonly name: readonly string[];
  readonly at?: string;
  readonly preferDigest: string;
  readonly json?: boolean;
}

/** What `--json` prints; the shape is fixed. */
interface Answer {
  readonly verdict: CertificateVerdict['verdict'];
  readonly reason: string;
  readonly record: string | null;
  readonly depth: number | null;
  readonly records: readonly JudgedRecord[];
  readonly explanation: string;
  readonly rfc: string;
}

const REASON: Readonly<Partial<Record<ReasonCode, string>>> = {
  'dane-ee': 'dane-ee',
  'dane-ta': 'dane-ta',
  'tlsa-mismatch': 'no-match',
  'tlsa-name-mismatch': 'name-mismatch',
  'tlsa-expired': 'expired',
  'tlsa-not-trusted': 'not-trusted',
  'tlsa-no-usable-record': 'no-usable-record',
  'tlsa-bad-chain': 'bad-chain',
};

export function verifyCommand(parts: VerifyParts): Command {
  const command = new Command('verify')
    .description('judge a certificate chain against TLSA records, without network')
    .option('--chain <PEM>', 'file with the chain: the certificate of the server first, in the order sent')
    .option('--tlsa <RECORD>', 'a TLSA record, "3 1 1 ab12…"; once for each record', append, [])
    .option('--name <NAME>', 'a name that the certificate may be for; once for each name', append, [])
    .option('--at <TIME>', 'judge as of this time, 2026-11-22T12:00:00Z; default: now')
    .option('--prefer-digest <DIGEST>', 'digest that sets the other aside: sha256 or sha512', 'sha512')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nWithout --name only DANE-EE records (usage 3) can authenticate the server.');
  return command.action((options: Options) => {
    const usage = (text: string): never => command.error(`error: ${text}`, { exitCode: 2 });
    if (options.chain === undefined)
      return usage('--chain is missing: a PEM file, the certificate of the server first');
    if (options.tlsa.length === 0) return usage('--tlsa is missing: a record such as "3 1 1 ab12…"');
    if (options.preferDigest !== 'sha256' && options.preferDigest !== 'sha512') {
      return usage(`--prefer-digest is sha256 or sha512, not ${options.preferDigest}`);
    }
    const digests: readonly Digest[] = options.preferDigest === 'sha256' ? ['sha256', 'sha512'] : ['sha512', 'sha256'];
    const rrset = options.tlsa.map((text) => {
      const parsed = parts.parseTlsa(text);
      return 'rdata' in parsed ? parsed.rdata : usage(`--tlsa "${text.slice(0, 60)}": ${parsed.mistake}`);
    });
    const at = options.at === undefined ? Date.now() : timeOf(options.at);
    if (at === null) return usage(`--at "${options.at}": a time is written as 2026-11-22T12:00:00Z`);
    // What is no domain name stays as it is: it matches nothing, and the explanation shows it.
    const names = options.name.map((name) => toDomain(name) ?? name);

    let chain: readonly (Buffer | null)[];
    try {
      chain = certificatesIn(readBlocks(options.chain));
    } catch (error) {
      process.stderr.write(`dane-relay: ${options.chain}: ${error instanceof Error ? error.message : error}\n`);
      process.exitCode = 3;
      return;
    }
    const { records, considered } = parts.judgeRecords(rrset, digests);
    const octets = chain.map((certificate) => certificate ?? Buffer.alloc(0));
    const verdict = parts.judgeChain({ chain: octets, records: considered, names, at });
    const answer = answerOf(verdict, records);
    process.stdout.write(options.json ? `${JSON.stringify(answer, null, 2)}\n` : textOf(answer));
    process.exitCode = answer.verdict === 'authenticated' ? 0 : 1;
  });
}

function append(value: string, previous: readonly string[]): readonly string[] {
  return [...previous, value];
}

/** RFC 3339 §5.6, in milliseconds since the epoch; null for anything else. */
function timeOf(text: string): number | null {
  const wellFormed = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/i.test(text);
  const time = wellFormed ? Date.parse(text.replace(' ', 'T').toUpperCase()) : Number.NaN;
  return Number.isNaN(time) ? null : time;
}

function answerOf(
  { verdict, code, record, depth, detail }: CertificateVerdict,
  records: readonly JudgedRecord[],
): Answer {
  const { explanation, rfc } = verdictOf(code, detail);
  return { verdict, reason: REASON[code] ?? code, record, depth, records, explanation, rfc };
}

function textOf({ verdict, reason, record, depth, records, explanation, rfc }: Answer): string {
  const lines = records.map(
    ({ text, considered, why }) => `  ${considered ? ' ' : '-'} ${text}${why ? `\n      ${why}` : ''}`,
  );
  const matched =
    record === null ? [] : [`matched    ${record.slice(0, 60)}${record.length > 60 ? '…' : ''} at depth ${depth}`];
  return `${[`verdict    ${verdict} (${reason})`, ...matched, 'records', ...lines, explanation, rfc].join('\n')}\n`;
}
