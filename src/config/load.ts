/**
 * Reads the configuration: file, then environment, then defaults, and every mistake in one go.
 *
 * Nothing is started, made or asked of the network here, and nothing throws: a configuration is right, or it comes
 * back as a list of mistakes.
 */
import { hostname as machineName } from 'node:os';
import { join, resolve as toAbsolute } from 'node:path';
import type { Mistake } from '../model/mistake.ts';
import type { Ruling } from '../model/tls-policy.ts';
import { domainOf, fitsPattern, isHostName, toDomain } from '../shared/domain-name.ts';
import { harmless } from '../shared/harmless.ts';
import { expandResolver } from './checks.ts';
import type { Config, DestinationRule, DkimDomain, ResolverConfig } from './config.ts';
import { type Document, type Path, readDocument } from './document.ts';
import { CONFIG_VARIABLE, type Environment, readEnvironment } from './environment.ts';
import { type Key, ROOT } from './keys.ts';
import { MISTAKES_AT_MOST, mistake, mistakesOf, type Origin } from './mistakes.ts';
import { type NamedFiles, readNamedFiles } from './named-files.ts';
import { readTextFile } from './read-file.ts';
import { reportNotes, tooFarAhead } from './report-mode.ts';
import { schema, type Written } from './schema.ts';

/** Where the configuration is looked for when nobody names a file. */
const USUAL_FILE = 'config/relay.yaml';

export interface LoadRequest {
  /** As it was named on the command line; null to take `DANE_RELAY_CONFIG`, else config/relay.yaml if there is one. */
  readonly path: string | null;
  readonly env: Environment;
  /** Folder that the relay is started in. */
  readonly cwd?: string;
  /** Name of the machine, for where none is configured. */
  readonly machine?: string;
  /** Milliseconds since the epoch. */
  readonly now?: number;
}

export type LoadResult =
  | {
      readonly ok: true;
      readonly config: Config;
      /** The file that was read; null when there is none. */
      readonly file: string | null;
      /** What an operator should know although nothing is wrong: one sentence each. */
      readonly notes: readonly string[];
      /** Top-level keys that nobody has set. */
      readonly defaultsUsed: readonly string[];
    }
  | {
      readonly ok: false;
      readonly mistakes: readonly [Mistake, ...Mistake[]];
      /** True when it is not what the file says but that it is not there. */
      readonly missing: boolean;
    };

/** A configuration of 100,000 destinations fits. */
const OCTETS_AT_MOST = 8_388_608;

export function loadConfig(request: LoadRequest): LoadResult {
  const { path, env, cwd = process.cwd(), machine = machineName(), now = Date.now() } = request;
  const named = path ?? (env[CONFIG_VARIABLE] || null);
  const file = named ?? USUAL_FILE;
  const text = readTextFile(toAbsolute(cwd, file), OCTETS_AT_MOST);
  if (text.kind === 'absent' && named === null)
    return understand({ file: null, document: readDocument(''), env, cwd, machine, now });
  if (text.kind !== 'text') {
    const complaint = { message: `cannot be read: ${text.reason}`, expected: '' };
    return { ok: false, mistakes: [mistake({ file, place: null }, [], complaint)], missing: text.kind === 'absent' };
  }
  return understand({ file, document: readDocument(text.text), env, cwd, machine, now });
}

interface Sources {
  readonly file: string | null;
  readonly document: Document;
  readonly env: Environment;
  readonly cwd: string;
  readonly machine: string;
  readonly now: number;
}

function understand({ file, document, env, cwd, machine, now }: Sources): LoadResult {
  const { overrides, mistakes: inVariables } = readEnvironment(env);
  const inYaml = document.flaws.map(({ line, column, path, message, expected }) =>
    mistake({ file: file ?? '', place: { line, column } }, path, { message, expected }),
  );
  if (document.broken) return failed([...inYaml, ...inVariables]);

  const written = withoutEmptySections(document.value ?? {});
  const variables = new Map<string, string>();
  if (overrides.some(({ path }) => path[0] === 'resolver' && path.length > 1)) expandShorthand(written);
  for (const { path, value, variable } of overrides) {
    if (put(written, path, value)) variables.set(path.join('.'), variable);
  }
  const originOf = (path: Path, place: (path: Path) => Origin['place']): Origin => {
    for (let depth = path.length; depth > 0; depth--) {
      const variable = variables.get(path.slice(0, depth).join('.'));
      if (variable !== undefined) return { file: variable, place: null };
    }
    return { file: file ?? '', place: file === null ? null : place(path) };
  };

  const parsed = schema.safeParse(written);
  const inValues = parsed.success
    ? []
    : mistakesOf(parsed.error.issues, written, {
        ofValue: (path) => originOf(path, document.placeOf),
        ofKey: (path) => originOf(path, document.placeOfKey),
      });
  // A key that was given twice has been told; what its second value lacks is not another mistake.
  const mistakes = [...inYaml, ...inValues, ...inVariables];
  if (!parsed.success || mistakes.length > 0) return failed(mistakes);

  const folder = file === null ? cwd : join(toAbsolute(cwd, file), '..');
  const files = readNamedFiles(parsed.data, (path) => toAbsolute(folder, path));
  const late = tooFarAhead(parsed.data, now).map((each) => ({ ...each, inside: null, expected: 'an earlier date' }));
  const others = [...files.complaints, ...late];
  if (others.length > 0) {
    return failed(
      others.map(({ path, inside, ...complaint }) =>
        mistake(inside ?? originOf(path, document.placeOf), path, complaint),
      ),
    );
  }
  const rules = expand(parsed.data, files, (index): Ruling => {
    if (!Array.isArray(Object(written).destinations)) return LAST_LINE.origin;
    const path = ['destinations', index];
    const { file: from, place } = originOf(path, document.placeOf);
    return { file: from === '' ? null : from, line: place?.line ?? null, text: ruleText(written, index) };
  });
  const config = settle(parsed.data, files, rules, { folder, cwd, machine });
  const given = new Set(Object.keys(Object(written)));
  const defaultsUsed = ROOT.children.map(({ name }) => name).filter((name) => !given.has(name));
  return {
    ok: true,
    config,
    file,
    notes: [...notesOn(config, parsed.data.destinations, given.has('hostname')), ...reportNotes(parsed.data, now)],
    defaultsUsed,
  };
}

function failed(mistakes: readonly Mistake[]): LoadResult {
  const byPlace = (a: Mistake, b: Mistake): number =>
    (a.line ?? Number.POSITIVE_INFINITY) - (b.line ?? Number.POSITIVE_INFINITY) ||
    (a.column ?? 0) - (b.column ?? 0) ||
    0;
  const [first, ...rest] = mistakes.toSorted(byPlace).slice(0, MISTAKES_AT_MOST);
  const unknown = { file: '', line: null, column: null, path: '', message: 'cannot be understood', expected: '' };
  return { ok: false, mistakes: [first ?? unknown, ...rest], missing: false };
}

/** A section whose keys are all commented out is null in YAML, and means its defaults. */
function withoutEmptySections(value: unknown, sections: readonly Key[] = ROOT.children): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const keys = value as Record<string, unknown>;
  for (const { name, children } of sections.filter(({ kind }) => kind === 'section')) {
    if (keys[name] === null) delete keys[name];
    else withoutEmptySections(keys[name], children);
  }
  return value;
}

/** `resolver: managed` in the file and one of its keys in a variable: the short form makes room for the key. */
function expandShorthand(written: unknown): void {
  if (typeof written !== 'object' || written === null || !('resolver' in written)) return;
  written.resolver = expandResolver(written.resolver);
}

/** @returns false where the file has something else than a section on the way, which is a mistake told elsewhere */
function put(target: unknown, path: readonly string[], value: unknown): boolean {
  let section = target;
  for (const [index, name] of path.entries()) {
    if (typeof section !== 'object' || section === null || Array.isArray(section)) return false;
    const keys = section as Record<string, unknown>;
    if (index === path.length - 1) keys[name] = value;
    else section = keys[name] ??= {};
  }
  return true;
}

interface Surroundings {
  /** What relative paths are relative to. */
  readonly folder: string;
  readonly cwd: string;
  readonly machine: string;
}

function settle(
  written: Written,
  files: NamedFiles,
  destinations: Config['destinations'],
  { folder, cwd, machine }: Surroundings,
): Config {
  const place = (path: string): string => toAbsolute(folder, path);
  const state = written.state === undefined ? join(cwd, 'var') : place(written.state);
  const { cert, key } = written.certificate ?? { cert: join(state, 'relay.pem'), key: join(state, 'relay.key') };
  return {
    ...written,
    hostname: written.hostname ?? nameOfMachine(machine),
    state,
    listen: atLeastOne(written.listen),
    certificate: { cert: place(cert), key: place(key) },
    clients: written.clients.map(({ networks = [], pins = [], rate = null, senders, ...rest }) => ({
      ...rest,
      networks,
      pins,
      rate,
      senders: atLeastOne(senders),
    })),
    resolver: settleResolver(written.resolver, place),
    destinations,
    delivery: deliveryOf(written.delivery, files),
    dkim: settleDkim(written.dkim, written.queue.lifetime, place),
    queue: {
      ...written.queue,
      retry: atLeastOne(written.queue.retry),
      tlsLifetime: written.queue.tlsLifetime ?? null,
    },
    tlsReports: settleReports(written.tlsReports),
  };
}

function deliveryOf(
  { ca: _, mode, until, ...rest }: Written['delivery'],
  { authorities }: NamedFiles,
): Config['delivery'] {
  return { ...rest, authorities, reportUntil: reportUntil(mode, until) };
}

function reportUntil(mode: 'enforce' | 'report', until: number | undefined): number | null {
  return mode === 'report' ? (until ?? null) : null;
}

function settleReports(reports: Written['tlsReports']): Config['tlsReports'] {
  return reports === undefined ? null : { ...reports, from: reports.from ?? reports.contact };
}

/** How long the old key stays, beyond the time for which mail may be on its way. */
const RETIRE_MARGIN_MS = 9 * 86_400_000;

function settleDkim(lines: Written['dkim'], lifetime: number, place: (path: string) => string): DkimDomain[] {
  return [...new Set(lines.map(({ domain }) => domain))].flatMap((domain) => {
    const same = lines.filter((line) => line.domain === domain);
    const managed = same.find((line) => line.managed);
    const [first] = same;
    if (!first) return [];
    return {
      domain,
      senders: first.senders ?? [domain],
      files: same.flatMap(({ selector, key }) => (selector && key ? [{ selector, path: place(key) }] : [])),
      managed: managed ? { retireAfter: managed.retireAfter ?? lifetime + RETIRE_MARGIN_MS } : null,
      existing: first.existing,
      required: first.required ?? null,
    };
  });
}

function settleResolver(
  { address, include, anchor, probe }: Written['resolver'],
  place: (path: string) => string,
): ResolverConfig {
  if (address !== undefined) return { kind: 'external', endpoint: address, probe };
  const absolute = (path: string | undefined): string | null => (path === undefined ? null : place(path));
  return { kind: 'managed', include: absolute(include), anchor: absolute(anchor), probe };
}

/**
 * One rule for each domain, in the order of the table; those in a file stand where the rule that names it stands.
 * Whatever no rule matches is under DANE: a table without a last line opens no hole.
 */
function expand(
  { destinations }: Written,
  files: NamedFiles,
  originOf: (index: number) => Ruling,
): Config['destinations'] {
  const rules = destinations.flatMap((written, index): DestinationRule[] => {
    const { domain, domains: _, mode, until, pins = [], via = null, connections = null, rate = null, tls } = written;
    const origin = originOf(index);
    const rule = { tls, pins, via, connections, rate, origin, reportUntil: reportUntil(mode, until) };
    if (domain !== undefined) return [{ ...rule, domain }];
    const { file = '', entries = [] } = files.domains.get(index) ?? {};
    return entries.map((entry) => ({ ...rule, domain: entry.domain, origin: { ...origin, file, line: entry.line } }));
  });
  const [first, ...rest] = rules;
  if (!first) return [LAST_LINE];
  return destinations.at(-1)?.domain === '*' ? [first, ...rest] : [first, ...rest, LAST_LINE];
}

const LAST_LINE: DestinationRule = {
  domain: '*',
  tls: 'dane',
  pins: [],
  origin: { file: null, line: null, text: 'no rule fits, so it is tls: dane' },
  reportUntil: null,
  via: null,
  connections: null,
  rate: null,
};

/** A rule as it was written, on one line. */
function ruleText(written: unknown, index: number): string {
  const { destinations = [] } = Object(written) as { readonly destinations?: readonly unknown[] };
  const keys = Object.entries(Object(destinations[index]) as Record<string, unknown>);
  const words = keys.map(([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return harmless(words.join(', ')).slice(0, 300);
}

/** The schema has made sure that the list is not empty; this tells the compiler, and stops where it is wrong. */
function atLeastOne<Item>([first, ...rest]: readonly Item[]): readonly [Item, ...Item[]] {
  if (first === undefined) throw new TypeError('a list that must not be empty is empty');
  return [first, ...rest];
}

function nameOfMachine(machine: string): string {
  const name = toDomain(machine);
  return name !== null && isHostName(name) ? name : 'localhost';
}

function notesOn(
  { hostname, clients, queue, admin, dkim, tlsReports }: Config,
  destinations: Written['destinations'],
  hostnameGiven: boolean,
): string[] {
  const notes: string[] = [];
  const reporter = tlsReports === null ? null : domainOf(tlsReports.contact);
  if (reporter !== null && !dkim.some(({ senders }) => senders.some((pattern) => fitsPattern(pattern, reporter)))) {
    notes.push(
      `TLS reports go by HTTPS only: nothing under "dkim" signs for ${reporter}, and mail would not be believed.`,
    );
  }
  if (clients.length === 0) {
    notes.push('Nobody may send mail through this relay yet: no client is named under "clients".');
  }
  if (!hostname.includes('.')) {
    const origin = hostnameGiven ? 'The hostname' : 'The name of this machine';
    notes.push(`${origin}, ${hostname}, is not a full name, and some mail hosts refuse that: set "hostname".`);
  }
  destinations.forEach(({ domain, domains, tls, via }) => {
    if (via?.kind !== 'literal' || tls === 'may' || tls === 'pin') return;
    notes.push(
      `The rule for ${domain ?? domains} sends to the address ${via.address}, where DANE cannot apply: its tls: ${tls} cannot prove the host.`,
    );
  });
  if (queue.delayNotice !== null && queue.delayNotice >= queue.lifetime) {
    notes.push('Nobody is told of a late message: "queue.delayNotice" is not before the end of "queue.lifetime".');
  }
  if (!admin.listen.address.startsWith('127.') && admin.listen.address !== '::1') {
    notes.push(`Everybody who can reach ${admin.listen.address} can read the metrics: "admin.listen" has no password.`);
  }
  return notes;
}
