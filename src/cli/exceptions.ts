/**
 * `exceptions`: what the operator grants to recipients whose DANE is broken, with somebody who answers for it and an
 * end. A running relay goes by a change from the next attempt on.
 *
 * Exit status: 0 done, 1 no such exception, or (check) one that is not known to be needless, 2 wrong usage, 3 the
 * state folder cannot be used or nothing can be looked up.
 */
import { Command, InvalidArgumentError } from 'commander';
import { EXCEPTION_DAYS, type Exception, type Recheck } from '../model/exception.ts';
import { isHostName, toDomain } from '../shared/domain-name.ts';
import { harmless } from '../shared/harmless.ts';

/** The exceptions of one relay. */
export interface ExceptionsDesk {
  readonly list: () => readonly Exception[];
  readonly rechecks: () => ReadonlyMap<string, Recheck>;
  readonly add: (wish: Omit<Exception, 'id'>) => Promise<Exception>;
  readonly remove: (id: string) => Promise<Exception | null>;
  /** Looks at the recipients now, as mail would see them without any exception. */
  readonly recheck: (exceptions: readonly Exception[]) => Promise<ReadonlyMap<string, Recheck>>;
  /** Pins of the keys that the hosts have now: `sha256/BASE64=`. @throws when none can be reached under TLS */
  readonly pinsSeen: (scope: Exception['scope']) => Promise<readonly string[]>;
}

export interface ExceptionsCommandParts {
  /** What it rejects with is printed; a number in `exitCode` of the error becomes the exit status, which is 3 otherwise. */
  readonly open: (configFile?: string) => Promise<ExceptionsDesk>;
  readonly readMoment: (
    text: string,
  ) => { readonly ok: true; readonly value: number } | { readonly ok: false; readonly message: string };
  readonly readPin: (
    text: string,
  ) => { readonly ok: true; readonly value: string } | { readonly ok: false; readonly message: string };
}

interface Options {
  readonly config?: string;
  readonly json?: true;
}

interface AddOptions extends Options {
  readonly host?: true;
  readonly owner: string;
  readonly reason: string;
  readonly until: number;
  readonly pin?: readonly string[];
  readonly pinSeen?: true;
}

const DAY = 86_400_000;
/** An owner and a reason are read in log lines. */
const WORDS_AT_MOST = 200;

export function exceptionsCommand({ open, readMoment, readPin }: ExceptionsCommandParts): Command {
  const atDesk = async (options: Options, work: (desk: ExceptionsDesk) => Promise<number>): Promise<void> => {
    try {
      process.exitCode = await work(await open(options.config));
    } catch (error) {
      process.stderr.write(`dane-relay: ${harmless(error instanceof Error ? error.message : String(error))}\n`);
      process.exitCode = exitCodeOf(error);
    }
  };
  const moment = (text: string): number => {
    const reading = readMoment(text);
    if (!reading.ok) throw new InvalidArgumentError(`${reading.message}.`);
    if (reading.value <= Date.now()) throw new InvalidArgumentError('it is in the past.');
    if (reading.value > Date.now() + (EXCEPTION_DAYS + 1) * DAY) {
      throw new InvalidArgumentError(`it is more than ${EXCEPTION_DAYS} days ahead.`);
    }
    return reading.value;
  };
  const pins = (text: string, before: readonly string[] = []): readonly string[] => {
    const reading = readPin(text);
    if (!reading.ok) throw new InvalidArgumentError(`${reading.message}.`);
    return [...before, reading.value];
  };

  const list = common(
    new Command('list').description('show every exception, with its end and whether it is needed'),
  ).action((options: Options) =>
    atDesk(options, async (desk) => {
      const entries = entriesOf(desk.list(), desk.rechecks(), Date.now());
      print(options, entries, () => listText(entries));
      return 0;
    }),
  );

  const add = common(
    new Command('add').description('let mail go to a recipient although DANE fails there, for a while'),
  )
    .argument('<name>', 'recipient domain, or with --host the name of a mail host', readName)
    .option('--host', 'the name is that of a mail host, whatever domain it takes mail for')
    .option('--except <what>', 'what is let off: dane', readWhat, 'dane')
    .requiredOption('--owner <words>', 'who answers for it', readWords)
    .requiredOption('--reason <words>', 'why it is needed', readWords)
    .requiredOption('--until <date>', `its end, at most ${EXCEPTION_DAYS} days ahead: 2027-01-31`, moment)
    .option('--pin <pin>', 'the server must have this key (may be given several times)', pins)
    .option('--pin-seen', 'the server must have the key that it has now')
    .action((name: string, options: AddOptions) =>
      atDesk(options, async (desk) => {
        const { host, owner, reason, until, pin = [], pinSeen } = options;
        const scope = { kind: host ? 'host' : 'domain', name } as const;
        const seen = pinSeen ? await desk.pinsSeen(scope) : [];
        const wish = { scope, owner, reason, since: Date.now(), until, pins: [...new Set([...pin, ...seen])] };
        const added = await desk.add(wish);
        const [entry] = entriesOf([added], new Map(), Date.now());
        print(options, entry, () => `${added.id} added: ${inWords(added)}\n`);
        return 0;
      }),
    );

  const remove = common(new Command('remove').description('end an exception now'))
    .argument('<id>', 'its id, as "exceptions list" shows it')
    .action((id: string, options: Options) =>
      atDesk(options, async (desk) => {
        const removed = await desk.remove(id);
        if (removed === null) {
          process.stderr.write(`dane-relay: there is no exception ${harmless(id)}\n`);
          return 1;
        }
        print(options, removed, () => `${id} removed: ${inWords(removed)}\n`);
        return 0;
      }),
    );

  const check = common(new Command('check').description('look now whether exceptions are still needed'))
    .argument('[id...]', 'only these')
    .action((ids: readonly string[], options: Options) =>
      atDesk(options, async (desk) => {
        const now = Date.now();
        const chosen = desk.list().filter(({ id, until }) => until > now && (ids.length === 0 || ids.includes(id)));
        const missing = ids.find((id) => !chosen.some((exception) => exception.id === id));
        if (missing !== undefined) {
          process.stderr.write(`dane-relay: no exception ${harmless(missing)} is in force\n`);
          return 1;
        }
        const entries = entriesOf(chosen, await desk.recheck(chosen), Date.now());
        print(options, entries, () => listText(entries));
        return entries.some(({ needed }) => needed !== 'no') ? 1 : 0;
      }),
    );

  const exceptions = new Command('exceptions').description('let mail go where DANE fails: who, why, and until when');
  for (const command of [list, add, remove, check]) exceptions.addCommand(command);
  return exceptions;
}

function common(command: Command): Command {
  return command
    .option('--config <file>', 'configuration file; else DANE_RELAY_CONFIG, else config/relay.yaml if there is one')
    .option('--json', 'print one JSON document');
}

function readName(text: string): string {
  const name = toDomain(text);
  if (name === null || !isHostName(name)) throw new InvalidArgumentError('this is no domain name.');
  return name;
}

function readWhat(text: string): string {
  if (text !== 'dane') throw new InvalidArgumentError('only dane can be let off.');
  return text;
}

function readWords(text: string): string {
  const words = harmless(text).trim();
  if (words === '') throw new InvalidArgumentError('it is empty.');
  if (words.length > WORDS_AT_MOST) throw new InvalidArgumentError(`it has more than ${WORDS_AT_MOST} characters.`);
  return words;
}

/** One exception in the JSON of `exceptions list`. */
interface Entry {
  readonly id: string;
  readonly except: 'dane';
  readonly domain: string | null;
  readonly host: string | null;
  readonly owner: string;
  readonly reason: string;
  readonly since: string;
  readonly until: string;
  readonly pins: readonly string[];
  readonly state: 'in force' | 'over';
  /** `no`: mail would leave without it; `unknown`: nobody has looked, or mail waits with it as well. */
  readonly needed: 'yes' | 'no' | 'unknown';
  /** Whether mail leaves by it that would wait; null before the first look, and when no host could be reached. */
  readonly helps: boolean | null;
  readonly checkedAt: string | null;
  readonly finding: string | null;
}

function entriesOf(
  exceptions: readonly Exception[],
  rechecks: ReadonlyMap<string, Recheck>,
  now: number,
): readonly Entry[] {
  return exceptions.map(({ id, scope, owner, reason, since, until, pins }) => {
    const found = rechecks.get(id);
    return {
      id,
      except: 'dane',
      domain: scope.kind === 'domain' ? scope.name : null,
      host: scope.kind === 'host' ? scope.name : null,
      owner,
      reason,
      since: new Date(since).toISOString(),
      until: new Date(until).toISOString(),
      pins,
      state: until > now ? 'in force' : 'over',
      needed: found?.repaired ? 'no' : found?.helps ? 'yes' : 'unknown',
      helps: found?.helps ?? null,
      checkedAt: found === undefined ? null : new Date(found.at).toISOString(),
      finding: found?.detail ?? null,
    };
  });
}

function inWords({ scope, owner, until, pins }: Exception): string {
  const how = pins.length === 0 ? 'under TLS with any certificate' : `to a server with the key ${pins.join(' or ')}`;
  return `mail for ${scope.kind === 'host' ? 'the host ' : ''}${scope.name} goes ${how} where DANE fails, until ${new Date(until).toISOString()} (${owner})`;
}

function listText(entries: readonly Entry[]): string {
  if (entries.length === 0) return 'There are no exceptions.\n';
  return entries
    .map((entry) =>
      [
        `${entry.id}  ${entry.host === null ? entry.domain : `host ${entry.host}`}`,
        `  ${entry.state}, until ${entry.until}; ${needInWords(entry)}${entry.checkedAt === null ? '' : ` (${entry.checkedAt}: ${entry.finding})`}`,
        `  owner   ${entry.owner}`,
        `  reason  ${entry.reason}`,
        ...entry.pins.map((pin) => `  pin     ${pin}`),
        '',
      ].join('\n'),
    )
    .join('');
}

function needInWords({ needed, helps, checkedAt }: Entry): string {
  if (needed !== 'unknown') return needed === 'yes' ? 'still needed' : 'NO LONGER NEEDED';
  if (helps === false) return 'DOES NOT HELP, mail waits with it as well';
  return checkedAt === null ? 'not checked yet' : 'NOT KNOWN, the recipient cannot be reached';
}

function print({ json }: Options, value: unknown, text: () => string): void {
  process.stdout.write(json ? `${JSON.stringify(value, null, 2)}\n` : text());
}

function exitCodeOf(error: unknown): number {
  const { exitCode } = Object(error) as { readonly exitCode?: unknown };
  return typeof exitCode === 'number' ? exitCode : 3;
}
