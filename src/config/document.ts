/**
 * YAML text as plain values, with the place of each.
 *
 * Whatever the text, reading it ends soon and throws nothing: aliases are followed a bounded number of times, depth
 * is bounded, and keys that are given twice are told instead of the last one winning.
 */
import {
  type Alias,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  type Document as Yaml,
} from 'yaml';
import { shown } from './notation.ts';

/** Where something stands, both counted from 1. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

export type Path = readonly (string | number)[];

/** Something wrong with the YAML itself. */
export interface Flaw extends Place {
  readonly path: Path;
  readonly message: string;
  readonly expected: string;
}

export interface Document {
  /** Maps (without a prototype), lists, text, numbers, booleans, null; undefined for a file with nothing in it. */
  readonly value: unknown;
  readonly flaws: readonly Flaw[];
  /** True when the text could not be understood far enough to look at its values. */
  readonly broken: boolean;
  /** The place of a value, or of the nearest thing above it that exists. */
  readonly placeOf: (path: Path) => Place;
  /** The place of a key itself. */
  readonly placeOfKey: (path: Path) => Place;
}

/** Values in a whole document, those behind aliases counted each time. A table of 100,000 destinations fits. */
const VALUES_AT_MOST = 500_000;
const DEPTH_AT_MOST = 20;
const FLAWS_AT_MOST = 20;
const START: Place = { line: 1, column: 1 };

type Maybe<Value> = Value | null | undefined;

export function readDocument(text: string): Document {
  const bare = text.startsWith('\ufeff') ? text.slice(1) : text;
  const lines = new LineCounter();
  const at = (offset: number | undefined): Place => {
    const { line, col } = lines.linePos(offset ?? 0);
    return line === 0 ? START : { line, column: col };
  };

  let yaml: Yaml;
  try {
    // uniqueKeys compares every key with every other; the walk below finds doubles in one go. A log level of 'silent'
    // would let a second document pass unread.
    yaml = parseDocument(bare, { prettyErrors: false, lineCounter: lines, uniqueKeys: false, logLevel: 'error' });
  } catch (error) {
    return broken([syntaxFlaw(START, error instanceof Error ? error.message : String(error), bare)]);
  }
  const troubles = [...yaml.errors, ...yaml.warnings].map(({ pos, message }) => ({ ...at(pos[0]), message }));
  if (troubles.length > 0) return broken(oneALine(troubles).map((each) => syntaxFlaw(each, each.message, bare)));

  const contents = yaml.contents as Node | null;
  const walk = new Walk(at);
  const value = contents === null ? undefined : walk.plain(contents, []);
  if (walk.tooMuch) {
    return broken([{ ...START, path: [], message: 'has too many values, or aliases that multiply', expected: '' }]);
  }
  return {
    value,
    flaws: walk.flaws,
    broken: false,
    placeOf: (path) => at(walk.find(contents, path).node?.range?.[0]),
    placeOfKey: (path) => {
      const { node, key } = walk.find(contents, path);
      return at((key ?? node)?.range?.[0]);
    },
  };
}

/** Goes through a document once, in the order of the text, and remembers where the aliases lead. */
class Walk {
  readonly flaws: Flaw[] = [];
  readonly #at: (offset: number | undefined) => Place;
  readonly #anchors = new Map<string, Node>();
  readonly #targets = new Map<Alias, Node>();
  #following: readonly Node[] = [];
  #values = 0;

  constructor(at: (offset: number | undefined) => Place) {
    this.#at = at;
  }

  get tooMuch(): boolean {
    return this.#values > VALUES_AT_MOST;
  }

  plain(node: Maybe<Node>, path: Path): unknown {
    this.#values += 1;
    if (this.tooMuch) return undefined;
    if (path.length > DEPTH_AT_MOST) return this.#flaw(node, path.slice(0, 3), 'is nested too deeply');
    if (isAlias(node)) return this.#behind(node, path);
    if ((isScalar(node) || isSeq(node) || isMap(node)) && node.anchor !== undefined && this.#following.length === 0) {
      this.#anchors.set(node.anchor, node);
    }
    if (isScalar(node)) return node.value;
    if (isSeq<Node>(node)) return node.items.map((item, index) => this.plain(item, [...path, index]));
    if (!isMap<Node, Node>(node)) return null;

    // Without a prototype, so that a key named __proto__ is a key like any other.
    const map: Record<string, unknown> = Object.create(null);
    for (const pair of node.items) {
      const name = nameOf(pair);
      if (name === null) this.#flaw(pair.key, path, 'has a key that is not a word');
      else if (name in map) this.#flaw(pair.key, [...path, name], 'is given twice', 'each key once');
      else map[name] = this.plain(pair.value, [...path, name]);
    }
    return map;
  }

  /** The node at a path and the key that names it, or the last on the way that exists. */
  find(contents: Node | null, path: Path): { readonly node: Maybe<Node>; readonly key: Node | null } {
    let found: { readonly node: Maybe<Node>; readonly key: Node | null } = { node: contents, key: null };
    for (const step of path) {
      const parent: Maybe<Node> = isAlias(found.node) ? this.#targets.get(found.node) : found.node;
      if (isMap<Node, Node>(parent)) {
        const pair: Pair<Node, Node> | undefined = parent.items.find((each) => nameOf(each) === String(step));
        if (!pair) break;
        found = { node: pair.value ?? pair.key, key: pair.key };
      } else if (isSeq<Node>(parent) && typeof step === 'number' && parent.items[step] !== undefined) {
        found = { node: parent.items[step], key: null };
      } else break;
    }
    return found;
  }

  #behind(alias: Alias, path: Path): unknown {
    const target = this.#targets.get(alias) ?? this.#anchors.get(alias.source);
    if (target === undefined || this.#following.includes(target)) {
      const star = `*${alias.source}`;
      return this.#flaw(alias, path, `${shown(star)} refers to nothing`, `quotes if a star is meant: ${shown(star)}`);
    }
    this.#targets.set(alias, target);
    const before = this.#following;
    this.#following = [...before, target];
    const value = this.plain(target, path);
    this.#following = before;
    return value;
  }

  #flaw(node: Maybe<Node>, path: Path, message: string, expected = ''): undefined {
    if (this.flaws.length < FLAWS_AT_MOST) {
      this.flaws.push({ ...this.#at(node?.range?.[0]), path, message, expected });
    }
    return undefined;
  }
}

function broken(flaws: readonly Flaw[]): Document {
  return { value: undefined, flaws, broken: true, placeOf: () => START, placeOfKey: () => START };
}

function nameOf({ key }: Pair<Node, Node>): string | null {
  return isScalar(key) && key.value !== null ? String(key.value) : null;
}

/** One broken bracket makes many errors: the first of each line says it. */
function oneALine<Trouble extends Place>(troubles: readonly Trouble[]): Trouble[] {
  const sorted = troubles.toSorted((a, b) => a.line - b.line || a.column - b.column);
  return sorted.filter(({ line }, index) => sorted[index - 1]?.line !== line).slice(0, FLAWS_AT_MOST);
}

function syntaxFlaw({ line: row, column }: Place, message: string, text: string): Flaw {
  const line = text.split('\n', row).at(-1)?.slice(0, 1_000) ?? '';
  // What the YAML library says of these two is right and helps nobody.
  const bracket = /[:-] +(\[[^[\]]*\]:\d+)/.exec(line)?.[1];
  const star = /alias/i.test(message) ? /(?:^|[ :[{,-])(\*[\w.-]*)/.exec(line)?.[1] : undefined;
  const unquoted = bracket ?? star;
  const reason = `${message.charAt(0).toLowerCase()}${message.slice(1)}`.replace(/;.*|\n.*/s, '').slice(0, 300);
  return {
    line: row,
    column,
    path: [],
    message: `is not valid YAML: ${reason}`,
    expected: unquoted === undefined ? '' : `quotes around it: "${unquoted}"`,
  };
}
