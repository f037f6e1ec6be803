/**
 * `dkim`: the keys that sign, their DNS records, and the change from one pair to the next, while the relay runs or not.
 *
 * Exit status: 0 done and all is well, 1 not done or something is wrong, 2 wrong usage, 3 something needed is not there.
 */
import { Command } from 'commander';
import type { KeyChange, KeyDesk, KeyEntry, KeyState } from '../model/dkim.ts';
import { toDomain } from '../shared/domain-name.ts';
import { harmless } from '../shared/harmless.ts';
import { messageOf } from '../shared/message-of.ts';

export interface DkimCommandParts {
  /**
   * Opens the keys that the configuration names. What it rejects with is printed; a number in `exitCode` of the error
   * becomes the exit status, which is 3 otherwise.
   */
  readonly openDesk: (configFile?: string) => Promise<OpenDesk>;
}

/** To be closed when the command has ended. */
export type OpenDesk = KeyDesk & { readonly close: () => Promise<void> };

interface Options {
  readonly config?: string;
  readonly json?: true;
}

const STATES: Readonly<Record<KeyState, string>> = {
  next: 'next',
  active: 'signs',
  old: 'old',
  retired: 'retired',
  file: 'signs (file)',
};

export function dkimCommand({ openDesk }: DkimCommandParts): Command {
  const atDesk = async (options: Options, work: (desk: KeyDesk) => Promise<0 | 1>): Promise<void> => {
    let desk: OpenDesk | null = null;
    try {
      desk = await openDesk(options.config);
      process.exitCode = await work(desk);
    } catch (error) {
      process.stderr.write(`dane-relay: ${harmless(messageOf(error))}\n`);
      process.exitCode = exitCodeOf(error);
    } finally {
      await desk?.close();
    }
  };
  const command = (name: string, says: string): Command =>
    new Command(name)
      .description(says)
      .option('--config <file>', 'configuration file; else DANE_RELAY_CONFIG, else config/relay.yaml if there is one')
      .option('--json', 'print one JSON document');

  const show = (name: string, says: string, print: (entries: readonly KeyEntry[]) => string): Command =>
    command(name, says)
      .argument('[domain]', 'signing domain; default: all')
      .action((domain: string | undefined, options: Options) =>
        atDesk(options, async (desk) => {
          const wanted = domain === undefined ? null : canonical(domain);
          const entries = await (name === 'check' ? desk.check(wanted) : desk.list(wanted));
          if (options.json) process.stdout.write(`${JSON.stringify(entries.map(jsonEntry), null, 2)}\n`);
          else process.stdout.write(entries.length === 0 ? 'There are no keys.\n' : print(entries));
          const bare = desk.bare(wanted);
          for (const each of bare) {
            process.stderr.write(`dane-relay: ${each} has no keys yet: run "dane-relay dkim new ${each}"\n`);
          }
          const lacks = bare.length > 0 && (name === 'check' || wanted !== null);
          return lacks || entries.some(({ wrong }) => wrong) ? 1 : 0;
        }),
      );

  const change = (
    name: string,
    says: string,
    how: (desk: KeyDesk, domain: string, selector?: string) => Promise<KeyChange>,
  ) =>
    command(name, says)
      .argument('<domain>', 'signing domain')
      .action((domain: string, ...rest: unknown[]) => {
        const selector = typeof rest[0] === 'string' ? rest[0] : undefined;
        const options = rest.at(-2) as Options;
        return atDesk(options, async (desk) => {
          const result = await how(desk, canonical(domain), selector);
          if (options.json) {
            process.stdout.write(`${JSON.stringify({ ...result, entries: result.entries.map(jsonEntry) }, null, 2)}\n`);
          } else if (result.done) process.stdout.write(`${result.says}\n\n${recordsText(result.entries)}`);
          if (!result.done) {
            if (!options.json) process.stdout.write(result.entries.length === 0 ? '' : checkText(result.entries));
            process.stderr.write(`dane-relay: ${harmless(result.why)}\n`);
          }
          return result.done ? 0 : 1;
        });
      });

  const dkim = new Command('dkim').description('make, show and change the keys that sign with DKIM');
  dkim.addCommand(
    change('new', 'make the next keys of a managed domain and print their records', (desk, domain) =>
      desk.make(domain),
    ),
  );
  dkim.addCommand(show('dns', 'print the DNS records that must be there', recordsText));
  dkim.addCommand(show('list', 'list the keys, without asking DNS', checkText));
  dkim.addCommand(show('check', 'compare the keys with DNS, and tell what there is to do', checkText));
  dkim.addCommand(
    change('rotate', 'the next step to new keys: make them, or let them sign once DNS shows them', (desk, domain) =>
      desk.rotate(domain),
    ),
  );
  dkim.addCommand(
    change('retire', 'delete keys that do not sign any more, before their time', (desk, domain, selector) =>
      desk.retire(domain, selector ?? null),
    ).argument('[selector]', 'one of the pair; default: all that are old'),
  );
  return dkim;
}

function canonical(domain: string): string {
  const name = toDomain(domain);
  if (name !== null) return name;
  throw Object.assign(new Error(`"${domain}" is no domain name`), { exitCode: 2 });
}

function exitCodeOf(error: unknown): number {
  const code = error instanceof Error && 'exitCode' in error ? error.exitCode : null;
  return typeof code === 'number' ? code : 3;
}

/** Times as RFC 3339. */
function jsonEntry({ since, retireAt, ...entry }: KeyEntry): object {
  const time = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
  return { ...entry, since: time(since), retireAt: time(retireAt) };
}

/** What to paste: for a form of a DNS provider, and for a zone file. */
function recordsText(entries: readonly KeyEntry[]): string {
  return entries
    .filter(({ state, text }) => state !== 'retired' && text !== null)
    .map(({ name, text, zoneLine, state }) =>
      [`; ${STATES[state]}`, `name   ${name}`, 'type   TXT', `value  ${text}`, 'in a zone file:', zoneLine, ''].join(
        '\n',
      ),
    )
    .join('\n');
}

function checkText(entries: readonly KeyEntry[]): string {
  const rows = entries.map(({ wrong, selector, domain, algorithm, state, since, note }) => [
    wrong ? 'NO' : 'ok',
    domain,
    selector,
    algorithm ?? '-',
    STATES[state],
    since === null ? '-' : new Date(since).toISOString().slice(0, 10),
    harmless(note),
  ]);
  const widths = [0, 1, 2, 3, 4, 5].map((at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)));
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, at) => cell.padEnd(widths[at] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}
