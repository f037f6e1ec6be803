/**
 * The policy file of a domain: how it is read, and which mail hosts it lists (RFC 8461 §3.2, §4.1).
 *
 * Pure, and made for the files of strangers: the size is bounded by whoever fetched it, the time by its size. A key that
 * is not known is passed over; one that is known and wrong makes the whole policy invalid, and it is told which.
 */
import type { StsPolicy } from '../../model/sts.ts';
import { isAscii, isHostName, toDomain } from '../../shared/domain-name.ts';
import { withoutWhiteSpace } from './white-space.ts';

export type PolicyReading =
  | { readonly kind: 'policy'; readonly policy: StsPolicy }
  | { readonly kind: 'invalid'; readonly why: string };

/** The most that `max_age` may say, in seconds: a year. What says more is taken to say this. */
const LONGEST = 31_557_600;
/** Of an offending value, in characters, for people. */
const SHOWN = 60;

/** @param octets the body of the answer, as it came */
export function readPolicy(octets: Uint8Array): PolicyReading {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(octets);
  } catch {
    return invalid('it is not UTF-8');
  }
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  const fields = new Map<string, string>();
  const mx = new Set<string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, Math.max(0, colon));
    if (!NAME.test(name)) continue;
    const value = withoutWhiteSpace(line.slice(colon + 1));
    if (name === 'mx') {
      const pattern = patternOf(value);
      if (pattern === null) return invalid(`its mx "${value.slice(0, SHOWN)}" is no host name and no wildcard`);
      mx.add(pattern);
    } else if (!fields.has(name)) fields.set(name, value);
  }

  const version = fields.get('version');
  if (version !== 'STSv1') return invalid(`its version is ${shown(version)}, not STSv1`);
  const mode = fields.get('mode');
  if (!isMode(mode)) return invalid(`its mode is ${shown(mode)}, none of enforce, testing and none`);
  const age = fields.get('max_age') ?? '';
  if (!/^[0-9]{1,10}$/.test(age))
    return invalid(`its max_age is ${shown(fields.get('max_age'))}, no number of seconds`);
  if (mx.size === 0 && mode !== 'none') return invalid('it lists no mx');
  return { kind: 'policy', policy: { mode, mx: [...mx], maxAge: Math.min(Number(age), LONGEST), lines } };
}

/**
 * Whether the policy lists a mail host (RFC 8461 §4.1). A wildcard stands for exactly one label, the leftmost.
 *
 * @param host name in the MX record, lower-case A-labels; never the end of an alias
 */
export function lists({ mx }: StsPolicy, host: string): boolean {
  const dot = host.indexOf('.');
  const parent = dot < 0 ? null : host.slice(dot);
  return mx.some((pattern) => pattern === host || (pattern.startsWith('*.') && pattern.slice(1) === parent));
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$/;

function patternOf(value: string): string | null {
  const wildcard = value.startsWith('*.');
  const name = toDomain(wildcard ? value.slice(2) : value);
  if (name === null || !isAscii(value) || !isHostName(name)) return null;
  return wildcard ? `*.${name}` : name;
}

function isMode(text: string | undefined): text is StsPolicy['mode'] {
  return text === 'enforce' || text === 'testing' || text === 'none';
}

function shown(value: string | undefined): string {
  return value === undefined ? 'missing' : `"${value.slice(0, SHOWN)}"`;
}

function invalid(why: string): PolicyReading {
  return { kind: 'invalid', why };
}
