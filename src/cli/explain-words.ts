/** What `explain` prints for people: the whole reasoning, from the first question to the outcome. */
import type { Dnssec } from '../model/dns.ts';
import type { MxFacts } from '../model/route.ts';
import { verdictOf } from '../model/verdict.ts';
import { harmless } from '../shared/harmless.ts';
import type { ExplainedConnection, ExplainedHost, ExplainedSts, FullExplanation, Outcome } from './explain.ts';

/** @param colour whether the terminal shows colours */
export function inWords(answer: FullExplanation, colour: boolean): string {
  const paint = (shade: Shade, text: string): string => (colour ? `\u001b[${SHADES[shade]}m${text}\u001b[0m` : text);
  const signed = (dnssec: Dnssec): string => paint(SIGNED[dnssec].shade, SIGNED[dnssec].says);
  const widest = Math.max(0, ...answer.lookups.map(({ name }) => name.length));
  const { file, line, text } = answer.rule;
  const lines = [
    row('rule', text, file !== null && `${file}${line === null ? '' : `:${line}`}`),
    row(
      'route',
      `${answer.via === null ? '' : 'as mail for '}${answer.via ?? answer.domain}: ${WAY[answer.mx.kind]}`,
      answer.mx.dnssec && signed(answer.mx.dnssec),
    ),
    ...(answer.mx.expanded === null ? [] : [row('', `it is an alias of ${answer.mx.expanded}`)]),
    '',
    ...answer.lookups.map(({ type, name, answer: said, dnssec, extended }, index) =>
      row(
        index === 0 ? 'asked' : '',
        `${type.padEnd(5)} ${name.padEnd(widest)}`,
        signed(dnssec),
        said,
        extended && `EDE ${extended.code}`,
      ),
    ),
    ...(answer.sts === null ? [] : ['', ...stsLines(answer.sts, paint)]),
    ...answer.hosts.flatMap((host) => ['', ...hostLines(host, signed, paint)]),
    '',
    row('outcome', paint(GOOD[answer.outcome], `${answer.outcome}${answer.status ? ` ${answer.status}` : ''}`)),
    row('', answer.explanation),
    row(
      '',
      `[${answer.code}, ${answer.rfc}] ${verdictOf(answer.code, '', answer.status ?? undefined).remedy}`.trimEnd(),
    ),
  ];
  return `${lines.join('\n')}\n`;
}

type Shade = 'good' | 'fair' | 'bad';
type Paint = (shade: Shade, text: string) => string;

const SHADES: Readonly<Record<Shade, number>> = { good: 32, fair: 33, bad: 31 };

function stsLines({ mode, domain, id, age, maxAge, mx, why }: ExplainedSts, paint: Paint): string[] {
  if (mode === null) return [row('mta-sts', 'no policy', why && `(${harmless(why)})`)];
  const shade = mode === 'enforce' ? 'good' : 'fair';
  return [
    row(
      'mta-sts',
      paint(shade, mode),
      `policy ${id} of ${domain}`,
      `fetched ${inUnits(age ?? 0)} ago, holds ${inUnits(maxAge ?? 0)}`,
    ),
    ...(mx.length === 0 ? [] : [row('', `lists ${mx.slice(0, LISTED).join(', ')}${mx.length > LISTED ? ', …' : ''}`)]),
    ...(why === null ? [] : [row('', paint('bad', 'nothing newer'), harmless(why))]),
  ];
}

/** Hosts of a policy that are shown. */
const LISTED = 8;

function inUnits(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

function hostLines(host: ExplainedHost, signed: (dnssec: Dnssec) => string, paint: Paint): string[] {
  const { tlsa, connection } = host;
  return [
    row('host', `${host.preference} ${host.name}`),
    row('address', host.addresses.join(', ') || 'none', host.addressDnssec && signed(host.addressDnssec)),
    ...(tlsa === null ? [] : [row('tlsa', tlsa.name, signed(tlsa.dnssec))]),
    ...(tlsa?.records ?? []).map(({ text, usable, considered, why }) => {
      const [shade, standing] = considered
        ? (['good', 'counts'] as const)
        : (['fair', usable ? 'set aside' : 'unusable'] as const);
      return row('', paint(shade, standing.padEnd(9)), text, why && `(${why})`);
    }),
    row('policy', paint(host.policy === 'skip' ? 'bad' : 'good', host.policy), verdictOf(host.code, '').explanation),
    ...(host.sni === null ? [] : [row('sni', host.sni)]),
    ...(host.referenceNames.length === 0 ? [] : [row('names', host.referenceNames.join(' or '))]),
    ...(connection === null ? [] : connectionLines(connection, paint)),
  ];
}

function connectionLines(
  { address, verdict, tls, record, depth, reason, code, chain }: ExplainedConnection,
  paint: Paint,
) {
  const protection =
    tls === null ? 'no TLS' : [tls.version, tls.cipher, tls.group, `(${tls.grade})`].filter(Boolean).join(' ');
  const days = (text: string | null): string => text?.slice(0, 10) ?? '?';
  return [
    row('dialled', address, protection),
    ...chain.flatMap((certificate, position) => {
      if (certificate === null) return [row(`sent ${position}`, 'no certificate that can be read')];
      const { names, issuer, notBefore, notAfter, certificateSha256, keySha256, grades } = certificate;
      return [
        row(`sent ${position}`, `for ${names}, issued by ${issuer}, valid ${days(notBefore)} to ${days(notAfter)}`),
        row('', `its key is ${grades.key}, the signature on it ${grades.signature}`),
        row('', `as a record it is  x 1 1 ${keySha256}`),
        row('', `               or  x 0 1 ${certificateSha256}`),
      ];
    }),
    ...(record === null ? [] : [row('match', record, `at depth ${depth}`)]),
    row('verdict', paint(verdict === 'failed' ? 'bad' : verdict === 'clear' ? 'fair' : 'good', verdict)),
    row('', verdictOf(code, reason).explanation),
  ];
}

/** A word on the left, facts on the right. */
function row(word: string, ...facts: readonly (string | null | false)[]): string {
  return `${word.padEnd(9)}${facts.filter(Boolean).join('  ')}`.trimEnd();
}

const SIGNED: Readonly<Record<Dnssec, { readonly says: string; readonly shade: Shade }>> = {
  secure: { says: 'signed', shade: 'good' },
  insecure: { says: 'not signed', shade: 'fair' },
  error: { says: 'FAILED', shade: 'bad' },
};

const GOOD: Readonly<Record<Outcome, Shade>> = {
  authenticated: 'good',
  'host-authenticated': 'good',
  encrypted: 'good',
  opportunistic: 'fair',
  clear: 'fair',
  deferred: 'bad',
  bounced: 'bad',
};

const WAY: Readonly<Record<MxFacts['kind'], string>> = {
  mx: 'by its MX records',
  implicit: 'no MX records: the domain itself is the mail host',
  null: 'takes no mail (null MX)',
  none: 'leads nowhere',
  literal: 'an address, no DNS',
  route: 'by a configured route',
  failed: 'could not be looked up',
};
