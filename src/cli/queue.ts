/**
 * `queue`: looks at and moves queued mail, while the relay runs or not. It opens the store itself and never makes one.
 *
 * Exit status: 0 done, 1 nothing matched or no such message, 2 wrong usage, 3 there is no queue to open.
 */
import { Command, InvalidArgumentError } from 'commander';
import type { Moved, QueueDesk, QueuedMessage, QueueEntry, QueueFilter } from '../model/queue.ts';
import { isReasonCode, type ReasonCode } from '../model/reasons.ts';
import { literalAddress, toDomain } from '../shared/domain-name.ts';
import { harmless } from '../shared/harmless.ts';

export interface QueueCommandParts {
  /**
   * Opens the queue that the configuration names. What it rejects with is printed; a number in `exitCode` of the
   * error becomes the exit status, which is 3 otherwise.
   */
  readonly openStore: (configFile?: string) => Promise<QueueDesk>;
}

interface Options {
  readonly config?: string;
  readonly json?: true;
  readonly domain?: string;
  readonly recipient?: string;
  readonly code?: ReasonCode;
  readonly all?: true;
}

type Action = 'retry' | 'hold' | 'release' | 'drop';

const ACTIONS: Readonly<Record<Action, { readonly says: string; readonly done: string }>> = {
  retry: { says: 'make waiting mail due now', done: 'due now' },
  hold: { says: 'stop further attempts until release', done: 'held' },
  release: { says: 'let held mail go on', done: 'released' },
  drop: { says: 'remove mail for good, without telling its sender', done: 'removed' },
};

export function queueCommand({ openStore }: QueueCommandParts): Command {
  /** Runs `work` on the open queue and sets the exit status that it comes to. */
  const atDesk = async (options: Options, work: (desk: QueueDesk) => Promise<0 | 1>): Promise<void> => {
    let desk: QueueDesk | null = null;
    try {
      desk = await openStore(options.config);
      process.exitCode = await work(desk);
    } catch (error) {
      process.stderr.write(`dane-relay: ${harmless(error instanceof Error ? error.message : String(error))}\n`);
      process.exitCode = exitCodeOf(error);
    } finally {
      await desk?.close();
    }
  };

  const list = withFilters(new Command('list').description('show every recipient that waits'))
    .argument('[id...]', 'queue ids')
    .action((ids: readonly string[], options: Options) =>
      atDesk(options, async (desk) => {
        const entries = await desk.list(filterOf(ids, options), Date.now());
        print(options, entries.map(jsonEntry), () => listText(entries));
        return entries.length === 0 && isFiltered(ids, options) ? 1 : 0;
      }),
    );

  const show = withCommon(new Command('show').description('show one message and why it waits'))
    .argument('<id>', 'queue id')
    .action((id: string, options: Options) =>
      atDesk(options, async (desk) => {
        const message = await desk.show(id, Date.now());
        if (!message) {
          process.stderr.write(`dane-relay: no message ${harmless(id)} waits in the queue\n`);
          return 1;
        }
        print(options, jsonMessage(message), () => showText(message));
        return 0;
      }),
    );

  const actions = Object.entries(ACTIONS).map(([name, { says, done }]) =>
    withFilters(new Command(name).description(says))
      .argument('[id...]', 'queue ids')
      .option('--all', 'everything in the queue')
      .action((ids: readonly string[], options: Options, command: Command) => {
        if (!isFiltered(ids, options) && !options.all) {
          command.error(`say what to ${name}: queue ids, --domain, --recipient, --code, or --all`, { exitCode: 2 });
        }
        return atDesk(options, async (desk) => {
          const moved = await desk[name as Action](filterOf(ids, options), Date.now());
          print(options, moved, () => movedText(moved, done));
          return moved.changed === 0 ? 1 : 0;
        });
      }),
  );

  const queue = new Command('queue').description('look at and move queued mail');
  for (const command of [list, show, ...actions]) queue.addCommand(command);
  return queue;
}

function withCommon(command: Command): Command {
  return command
    .option('--config <file>', 'configuration file; else DANE_RELAY_CONFIG, else config/relay.yaml if there is one')
    .option('--json', 'print one JSON document');
}

function withFilters(command: Command): Command {
  return withCommon(command)
    .option('--domain <domain>', 'recipients in this domain', readDomain)
    .option('--recipient <address>', 'this recipient', readRecipient)
    .option('--code <code>', 'recipients that wait for this reason', readCode);
}

function readDomain(text: string): string {
  const domain = literalAddress(text) === null ? toDomain(text) : text;
  if (domain === null) throw new InvalidArgumentError('this is no domain name.');
  return domain;
}

/** The domain in the form that the queue has it in, the local part as it is. */
function readRecipient(text: string): string {
  const at = text.lastIndexOf('@');
  if (at < 1) throw new InvalidArgumentError('this is no mail address.');
  return `${text.slice(0, at)}@${readDomain(text.slice(at + 1))}`;
}

function readCode(text: string): ReasonCode {
  if (!isReasonCode(text)) throw new InvalidArgumentError('there is no such code; docs/verdicts.md lists them.');
  return text;
}

function isFiltered(ids: readonly string[], { domain, recipient, code }: Options): boolean {
  return ids.length > 0 || domain !== undefined || recipient !== undefined || code !== undefined;
}

function filterOf(ids: readonly string[], { domain, recipient, code }: Options): QueueFilter {
  return {
    ...(ids.length > 0 && { ids }),
    ...(domain !== undefined && { domain }),
    ...(recipient !== undefined && { recipient }),
    ...(code !== undefined && { code }),
  };
}

function exitCodeOf(error: unknown): number {
  const exitCode = error instanceof Error && 'exitCode' in error ? error.exitCode : null;
  return typeof exitCode === 'number' ? exitCode : 3;
}

// What is printed

function print({ json }: Options, document: unknown, text: () => string): void {
  process.stdout.write(json ? `${JSON.stringify(document, null, 2)}\n` : text());
}

/** Times as RFC 3339 in UTC, as docs and scripts know them. */
function jsonEntry<Entry extends QueueEntry>(entry: Entry) {
  const { receivedAt, nextAttempt, expiresAt } = entry;
  return {
    ...entry,
    receivedAt: rfc3339(receivedAt),
    nextAttempt: rfc3339(nextAttempt),
    expiresAt: rfc3339(expiresAt),
  };
}

function jsonMessage(message: QueuedMessage) {
  return {
    ...message,
    receivedAt: rfc3339(message.receivedAt),
    expiresAt: rfc3339(message.expiresAt),
    recipients: message.recipients.map(jsonEntry),
  };
}

function rfc3339(time: number): string {
  return new Date(time).toISOString();
}

function listText(entries: readonly QueueEntry[]): string {
  if (entries.length === 0) return 'Nothing waits.\n';
  const rows = entries.map((entry) => [
    entry.queueId,
    entry.state,
    size(entry.size),
    String(entry.attempts),
    entry.state === 'waiting' ? minute(entry.nextAttempt) : '-',
    entry.recipient,
    entry.code,
  ]);
  const messages = new Set(entries.map(({ queueId }) => queueId)).size;
  const sum = `${plural(entries.length, 'recipient')} in ${plural(messages, 'message')}; "queue show ID" says why.`;
  return `${table([['QUEUE ID', 'STATE', 'SIZE', 'TRIES', 'NEXT TRY (UTC)', 'RECIPIENT', 'REASON'], ...rows])}\n${sum}\n`;
}

function showText(message: QueuedMessage): string {
  const { envelope } = message;
  const facts = table([
    ['message', message.queueId],
    ['from', `<${envelope.sender}> by way of ${message.client}`],
    ['size', size(message.size)],
    ['received', minute(message.receivedAt)],
    ['given up', minute(message.expiresAt)],
  ]);
  const recipients = message.recipients.map((entry) => {
    const what = entry.state === 'waiting' ? `waiting, next try ${minute(entry.nextAttempt)}` : entry.state;
    const lines = table([
      ['to', entry.recipient],
      ['state', `${what}, ${plural(entry.attempts, 'try', 'tries')} so far`],
      ['reason', `${entry.code} (${entry.status})`],
      ...(entry.host === null ? [] : [['host', entry.host]]),
      ['', entry.explanation],
    ]);
    return `\n${lines}`;
  });
  return `${facts}${recipients.join('')}`;
}

function movedText({ changed, delivering, held }: Moved, done: string): string {
  const lines = [`${plural(changed, 'recipient')} ${done}.`];
  if (delivering > 0) lines.push(`${plural(delivering, 'recipient')} left alone: an attempt is running.`);
  if (held > 0) lines.push(`${plural(held, 'recipient')} left alone: held, use "queue release".`);
  return `${lines.join('\n')}\n`;
}

/** Columns as wide as they must be; the last one runs free. */
function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, harmless(cell).length);
  }
  const line = (row: readonly string[]): string =>
    row.map((cell, at) => (at === row.length - 1 ? harmless(cell) : harmless(cell).padEnd(widths[at] ?? 0))).join('  ');
  return rows.map((row) => `${line(row).trimEnd()}\n`).join('');
}

function minute(time: number): string {
  return rfc3339(time).slice(0, 16).replace('T', ' ');
}

function size(octets: number): string {
  if (octets < 1_000) return `${String(octets)} B`;
  if (octets < 1_000_000) return `${(octets / 1_000).toFixed(1)} kB`;
  return `${(octets / 1_000_000).toFixed(1)} MB`;
}

function plural(count: number, one: string, many = `${one}s`): string {
  return `${String(count)} ${count === 1 ? one : many}`;
}
