/**
 * Where the time of a V8 CPU profile went, by the parts of the relay. Pure: a profile in, milliseconds out.
 *
 * Two views of the same samples. `self` counts a sample where it was taken: in a stage, a library, Node's own
 * JavaScript, native code or the garbage collector. `owner` counts it for the stage nearest above it on the stack, so
 * that a stage also bears what it calls; what runs under no stage at all, such as events of sockets, stays by itself.
 */

/** The format that `node --cpu-prof` writes; times are microseconds of the monotonic clock. */
export interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  readonly children?: readonly number[];
}

export interface Window {
  readonly fromUs: number;
  readonly toUs: number;
}

/** Milliseconds by part. */
export interface Times {
  readonly self: ReadonlyMap<string, number>;
  readonly owner: ReadonlyMap<string, number>;
  /** By function and place, for those who look closer. */
  readonly functions: ReadonlyMap<string, number>;
  /** All but idle time. */
  readonly busy: number;
}

export const NO_STAGE = 'no stage (events, timers, modules alone)';
export const NATIVE = 'native code without JavaScript (system calls, TLS records, events)';
export const COLLECTOR = 'garbage collection';
export const NODE = 'node internals';

/** The same times as if the thread had been busy for so many milliseconds in all. */
export function scaled({ self, owner, functions, busy }: Times, ms: number): Times {
  const scale = (map: ReadonlyMap<string, number>): ReadonlyMap<string, number> =>
    new Map([...map].map(([key, value]) => [key, busy === 0 ? 0 : (value * ms) / busy]));
  return { self: scale(self), owner: scale(owner), functions: scale(functions), busy: ms };
}

/** Counts the samples within the window. */
export function timesIn({ nodes, startTime, samples, timeDeltas }: CpuProfile, { fromUs, toUs }: Window): Times {
  const places = placesOf(nodes);
  const [self, owner, functions] = [new Map<string, number>(), new Map<string, number>(), new Map<string, number>()];
  let busy = 0;
  let at = startTime;
  for (const [index, id] of samples.entries()) {
    at += timeDeltas[index] ?? 0;
    // A sample stands for the time until the next one.
    const lasts = Math.max(0, timeDeltas[index + 1] ?? 0) / 1000;
    const place = places.get(id);
    if (!place || at < fromUs || at > toUs) continue;
    busy += lasts;
    add(self, place.self, lasts);
    add(owner, place.owner, lasts);
    add(functions, place.label, lasts);
  }
  return { self, owner, functions, busy };
}

interface PlaceOfNode {
  readonly self: string;
  readonly owner: string;
  readonly label: string;
}

/** For every node but the idle ones: where it belongs. */
function placesOf(nodes: readonly ProfileNode[]): ReadonlyMap<number, PlaceOfNode> {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const places = new Map<number, PlaceOfNode>();
  const [root] = nodes;
  if (!root) return places;
  // From the root down, so that every node knows what is above it. Stacks can be deep: no recursion.
  const todo: { id: number; above: string; stage: string | null }[] = [{ id: root.id, above: '', stage: null }];
  for (let next = todo.pop(); next; next = todo.pop()) {
    const node = byId.get(next.id);
    if (!node) continue;
    const { functionName, url, lineNumber } = node.callFrame;
    const part = partOf(url);
    const own = stageOf(url);
    // What all stages share works for the one that calls it.
    const stage = own !== null && !(COMMON.has(own) && next.stage) ? own : next.stage;
    const special = url === '' ? SPECIAL[functionName] : undefined;
    // Native code that JavaScript calls is told by its caller: SQLite's work is the library's, not Node's.
    const self = special ?? part ?? `native code for ${next.above || 'nobody'}`;
    if (special !== IDLE) {
      const name = (functionName || '(anonymous)').slice(0, 80);
      const label = url === '' ? name : `${name} ${brief(url)}:${lineNumber + 1}`;
      places.set(node.id, { self, owner: special ?? stage ?? NO_STAGE, label });
    }
    for (const id of node.children ?? []) todo.push({ id, above: part ?? next.above, stage });
  }
  return places;
}

const IDLE = 'idle';
const COMMON: ReadonlySet<string> = new Set(['shared', 'model']);
const SPECIAL: Readonly<Record<string, string>> = {
  '(root)': IDLE,
  '(idle)': IDLE,
  '(program)': NATIVE,
  '(garbage collector)': COLLECTOR,
};

/** The part of the relay that a script belongs to; null for native code. */
function partOf(url: string): string | null {
  if (url === '') return null;
  if (url.startsWith('node:')) return NODE;
  const library = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url)?.[1];
  return library === undefined ? (stageOf(url) ?? 'other scripts') : `library ${library}`;
}

/** `receive`, `queue` …; `assembly` for relay.ts and main.ts, which join the others. */
function stageOf(url: string): string | null {
  if (url.includes('/node_modules/')) return null;
  const found = /\/src\/(?:([^/]+)\/)?[^/]+$/.exec(url.replace(/(\/src\/[^/]+\/).*\//, '$1'));
  return found ? (found[1] ?? 'assembly') : null;
}

function brief(url: string): string {
  return url.replace(/^.*\/node_modules\//, '').replace(/^.*\/(src\/)/, '$1');
}

function add(map: Map<string, number>, key: string, value: number): void {
  map.set(key, (map.get(key) ?? 0) + value);
}
