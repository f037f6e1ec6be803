/** Turns what the schema complains about into mistakes that say what is expected and what was probably meant. */
import type { z } from 'zod';
import type { Mistake } from '../model/mistake.ts';
import type { Path, Place } from './document.ts';
import { type Key, keyAt, keysOutsideLists } from './keys.ts';
import { nearest } from './nearest.ts';
import { shown } from './notation.ts';

/** Where a value came from: a place in the file, or a variable. */
export interface Origin {
  readonly file: string;
  readonly place: Place | null;
}

export interface Origins {
  readonly ofValue: (path: Path) => Origin;
  readonly ofKey: (path: Path) => Origin;
}

/** More are not listed: nobody reads them, and a file that is no configuration at all has thousands. */
export const MISTAKES_AT_MOST = 100;

export function mistakesOf(issues: readonly z.core.$ZodIssue[], written: unknown, origins: Origins): Mistake[] {
  const mistakes: Mistake[] = [];
  for (const issue of issues) {
    if (mistakes.length >= MISTAKES_AT_MOST) break;
    const path = existing(issue.path, written);
    if (issue.code === 'unrecognized_keys') {
      const room = MISTAKES_AT_MOST - mistakes.length;
      for (const name of issue.keys.slice(0, room)) {
        mistakes.push(mistake(origins.ofKey([...path, name]), [...path, name], unknownKey(path, name)));
      }
    } else {
      mistakes.push(mistake(origins.ofValue(path), path, complaint(issue, path, written)));
    }
  }
  return mistakes;
}

type Complaint = Pick<Mistake, 'message' | 'expected' | 'nearest'>;

export function mistake({ file, place }: Origin, path: Path, { message, expected, nearest: near }: Complaint): Mistake {
  const where = { file, line: place?.line ?? null, column: place?.column ?? null, path: pathText(path) };
  return near === undefined ? { ...where, message, expected } : { ...where, message, expected, nearest: near };
}

/** `clients[0].pins[1]`; a key that is no plain word is quoted. */
function pathText(path: Path): string {
  return path
    .map((step, index) => {
      if (typeof step === 'number') return `[${step}]`;
      const word = /^[\w-]{1,60}$/.test(step) ? step : shown(step);
      return index === 0 ? word : `.${word}`;
    })
    .join('');
}

function unknownKey(parent: Path, name: string): Complaint {
  const known = keyAt(parent)?.children.map((child) => child.name) ?? [];
  const near = nearest(name, known) ?? elsewhere(name);
  const complaint = { message: 'is not a known key', expected: known.length > 0 ? `one of ${known.join(', ')}` : '' };
  return near === null ? complaint : { ...complaint, nearest: near };
}

/** The full path of a key that exists in another section. */
function elsewhere(name: string): string | null {
  const found = keysOutsideLists().find(([path]) => path.at(-1) === name && path.length > 1);
  return found ? found[0].join('.') : null;
}

function complaint(issue: z.core.$ZodIssue, path: Path, written: unknown): Complaint {
  const key = keyAt(path);
  const value = valueAt(path, written);
  const expected = key?.expected ?? (key?.kind === 'section' ? sectionText(key) : '');
  switch (issue.code) {
    case 'custom': {
      const { expected: special, nearest: near } = issue.params ?? {};
      const base = { message: issue.message, expected: typeof special === 'string' ? special : expected };
      return typeof near === 'string' ? { ...base, nearest: near } : base;
    }
    case 'invalid_value': {
      const near = typeof value === 'string' ? nearest(value, issue.values.map(String)) : null;
      const base = { message: kindText(value), expected };
      return near === null ? base : { ...base, nearest: near };
    }
    case 'too_small':
      return { message: `is ${String(value)}, which is too little`, expected };
    case 'too_big':
      return { message: `is ${String(value)}, which is too much`, expected };
    default:
      return { message: kindText(value), expected };
  }
}

function sectionText(key: Key): string {
  return `{ ${key.children.map(({ name, required }) => (required ? name : `${name}?`)).join(', ')} }`;
}

function kindText(value: unknown): string {
  if (value === undefined) return 'is missing';
  if (value === null) return 'has no value';
  if (Array.isArray(value)) return 'is a list';
  if (typeof value === 'object') return 'is a section with keys';
  if (typeof value === 'string') return `is ${shown(value)}`;
  return `is the ${typeof value} ${String(value)}`;
}

/** Cuts a path where the text has only a short form: a mistake in `resolver: 10.0.0.1` is one of `resolver`. */
function existing(path: readonly PropertyKey[], written: unknown): Path {
  const steps: (string | number)[] = [];
  let value = written;
  for (const step of path) {
    if (typeof step === 'symbol') break;
    if (typeof value !== 'object' || value === null) break;
    steps.push(step);
    value = (value as Record<string | number, unknown>)[step];
  }
  return steps;
}

function valueAt(path: Path, written: unknown): unknown {
  let value = written;
  for (const step of path) value = (value as Record<string | number, unknown> | null | undefined)?.[step];
  return value;
}
