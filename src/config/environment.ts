/**
 * Values from the environment: `DANE_RELAY_DELIVERY_PORT` is `delivery.port`, and with `_FILE` at its end a variable
 * names a file that the value is read from. A variable replaces what the file says of its key. An empty one counts as
 * not set, as compose files make them.
 */
import type { Mistake } from '../model/mistake.ts';
import { type Path, readDocument } from './document.ts';
import { type Key, keysOutsideLists } from './keys.ts';
import { mistake } from './mistakes.ts';
import { nearest } from './nearest.ts';
import { readTextFile } from './read-file.ts';

/** Variables are looked at when they begin like this; others belong to somebody else. */
const PREFIX = 'DANE_RELAY_';
/** Names the configuration file. */
export const CONFIG_VARIABLE = `${PREFIX}CONFIG`;

const OCTETS_AT_MOST = 1_048_576;

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Override {
  readonly variable: string;
  readonly path: readonly string[];
  readonly value: unknown;
}

export interface Overrides {
  /** Sections before their keys, so that applying them in order lets the narrower one win. */
  readonly overrides: readonly Override[];
  readonly mistakes: readonly Mistake[];
}

/** `insecureMx` of `delivery` is `DANE_RELAY_DELIVERY_INSECURE_MX`. */
export function variableOf(path: readonly string[]): string {
  return PREFIX + path.map((name) => name.replace(/[A-Z]/g, '_$&').toUpperCase()).join('_');
}

const VARIABLES: ReadonlyMap<string, readonly [readonly string[], Key]> = new Map(
  keysOutsideLists().map(([path, key]) => [variableOf(path), [path, key]]),
);

export function readEnvironment(env: Environment): Overrides {
  const overrides: Override[] = [];
  const mistakes: Mistake[] = [];
  for (const [variable, content] of Object.entries(env).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    if (!variable.startsWith(PREFIX) || variable === CONFIG_VARIABLE || content === undefined || content === '')
      continue;
    const complain = (message: string, path: Path = [], expected = '', near?: string): void => {
      const complaint = near === undefined ? { message, expected } : { message, expected, nearest: near };
      mistakes.push(mistake({ file: variable, place: null }, path, complaint));
    };

    const isFile = !VARIABLES.has(variable) && variable.endsWith('_FILE');
    const name = isFile ? variable.slice(0, -'_FILE'.length) : variable;
    const known = VARIABLES.get(name);
    if (known === undefined) {
      const near = nearest(name, VARIABLES.keys()) ?? undefined;
      complain('is not a known variable', [], `a key after ${PREFIX}, as in ${variableOf(['hostname'])}`, near);
      continue;
    }
    if (isFile && env[name]) {
      complain(`is set, and ${name} is set as well`, known[0], 'one of the two');
      continue;
    }

    const text = isFile ? readTextFile(content, OCTETS_AT_MOST) : { kind: 'text' as const, text: content };
    if (text.kind !== 'text') complain(`names a file that cannot be read: ${text.reason}`, known[0]);
    else {
      const value = parse(isFile ? text.text.replace(/\r?\n$/, '') : text.text, known[1]);
      if (value.kind === 'value') overrides.push({ variable, path: known[0], value: value.value });
      else complain(value.message, [...known[0], ...value.path], value.expected);
    }
  }
  return { overrides: overrides.toSorted((a, b) => a.path.length - b.path.length), mistakes };
}

type Parsed =
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'flaw'; readonly path: Path; readonly message: string; readonly expected: string };

function parse(text: string, key: Key): Parsed {
  if (key.type === 'text') return { kind: 'value', value: text };
  if (key.type === 'number') return { kind: 'value', value: /^\d{1,15}$/.test(text) ? Number(text) : text };
  // `[::1]:53` is no YAML, but a resolver may well be written like that.
  if (key.kind === 'section' && !text.trimStart().startsWith('{')) return { kind: 'value', value: text };

  const { value, flaws } = readDocument(text);
  const [flaw] = flaws;
  return flaw ? { kind: 'flaw', ...flaw } : { kind: 'value', value };
}
