/** The keys of the configuration as a tree, read out of the schema: for messages, variables and the documentation. */
import { z } from 'zod';
import { type Facts, facts, schema } from './schema.ts';

export interface Key extends Facts {
  /** Its own name; empty for the elements of a list. */
  readonly name: string;
  /** section: has keys below it. list: has elements. value: neither. */
  readonly kind: 'section' | 'list' | 'value';
  /** How a value is written in YAML when it comes from a variable: numbers are not text. */
  readonly type: 'text' | 'number' | 'structure';
  readonly required: boolean;
  /** As an operator would write it; undefined where there is none. */
  readonly default?: unknown;
  /** Keys of a section, or of the elements of a list of sections. */
  readonly children: readonly Key[];
  /** What the elements of a list are. */
  readonly element: Key | null;
}

/** The whole tree. */
export const ROOT: Key = describe('', schema);

/** The key at a path, as far as the schema knows it. */
export function keyAt(path: readonly PropertyKey[]): Key | null {
  let key: Key | null = ROOT;
  for (const step of path) {
    if (key === null) return null;
    if (typeof step === 'number') key = key.element;
    else key = key.children.find(({ name }) => name === step) ?? null;
  }
  return key;
}

/** Every key with its path from the top, without those inside lists. */
export function keysOutsideLists(key: Key = ROOT, path: readonly string[] = []): (readonly [readonly string[], Key])[] {
  if (key.kind !== 'section') return [];
  return key.children.flatMap((child) => {
    const here = [...path, child.name];
    return [[here, child] as const, ...keysOutsideLists(child, here)];
  });
}

/** Goes through defaults and conversions down to the type itself, collecting what is said on the way. */
function describe(name: string, start: z.core.$ZodType): Key {
  let said: Facts = {};
  let required = true;
  let preset: { readonly default?: unknown } = {};
  let inner = start;
  for (;;) {
    said = { ...facts.get(inner), ...said };
    if (inner instanceof z.ZodPrefault) {
      required = false;
      preset = { default: inner.def.defaultValue };
      inner = inner.def.innerType;
    } else if (inner instanceof z.ZodOptional) {
      required = false;
      inner = inner.def.innerType;
    } else if (inner instanceof z.ZodPipe) {
      inner = inner.def.in instanceof z.ZodTransform ? inner.def.out : inner.def.in;
    } else break;
  }
  const common = { ...said, ...preset, name, required };
  if (inner instanceof z.ZodObject) {
    const children = Object.entries<z.core.$ZodType>(inner.shape).map(([child, type]) => describe(child, type));
    return { ...common, kind: 'section', type: 'structure', children, element: null };
  }
  if (inner instanceof z.ZodArray) {
    const element = describe('', inner.element);
    return { ...common, kind: 'list', type: 'structure', children: [], element };
  }
  const type = inner instanceof z.ZodNumber ? 'number' : 'text';
  return { ...common, kind: 'value', type, children: [], element: null };
}
