/**
 * `tlsrpt`: what the relay has counted for TLS reports, and what became of those of the last days. It reads the file
 * that the relay writes, while the relay runs or not.
 *
 * Exit status: 0 printed, 1 nothing was counted for that domain, 2 wrong usage, 3 there are no counts to read.
 */
import { Command, InvalidArgumentError } from 'commander';
import { toDomain } from '../shared/domain-name.ts';
import { harmless } from '../shared/harmless.ts';
import { messageOf } from '../shared/message-of.ts';

/** The report of a day as it would be sent, and what people are shown of it. */
export interface Preview {
  /** The JSON of RFC 8460 §4.4. */
  readonly report: object;
  readonly policies: readonly {
    readonly type: string;
    readonly domain: string;
    readonly successes: number;
    readonly failures: number;
    readonly details: readonly { readonly what: string; readonly sessions: number }[];
  }[];
}

export interface ReportLine {
  /** `2026-11-22` */
  readonly day: string;
  readonly domain: string;
  readonly state: string;
  /** RFC 3339; null unless it waits. */
  readonly due: string | null;
  readonly attempts: number;
  readonly explanation: string;
  readonly receivers: readonly { readonly uri: string; readonly state: string; readonly explanation: string }[];
}

export interface ReportDesk {
  /** Null when nothing was counted for the domain on that day. */
  readonly preview: (domain: string) => Preview | null;
  readonly list: () => readonly ReportLine[];
  readonly close: () => void;
}

export interface TlsrptCommandParts {
  /**
   * Opens what the relay of this configuration has counted. What it rejects with is printed; a number in `exitCode` of
   * the error becomes the exit status, which is 3 otherwise.
   */
  readonly openDesk: (configFile?: string) => Promise<ReportDesk>;
}

interface Options {
  readonly config?: string;
  readonly json?: true;
}

export function tlsrptCommand({ openDesk }: TlsrptCommandParts): Command {
  const atDesk = async ({ config }: Options, work: (desk: ReportDesk) => 0 | 1): Promise<void> => {
    try {
      const desk = await openDesk(config);
      try {
        process.exitCode = work(desk);
      } finally {
        desk.close();
      }
    } catch (error) {
      process.stderr.write(`dane-relay: ${harmless(messageOf(error))}\n`);
      const exitCode = error instanceof Error && 'exitCode' in error ? error.exitCode : null;
      process.exitCode = typeof exitCode === 'number' ? exitCode : 3;
    }
  };

  const show = withCommon(new Command('show').description("print today's report for a domain as far as it has come"))
    .argument('<domain>', 'recipient domain', readDomain)
    .action((domain: string, options: Options) =>
      atDesk(options, (desk) => {
        const preview = desk.preview(domain);
        if (preview === null) {
          process.stderr.write(`dane-relay: no TLS session with ${domain} has been counted today\n`);
          return 1;
        }
        process.stdout.write(
          options.json ? `${JSON.stringify(preview.report, null, 2)}\n` : previewText(domain, preview),
        );
        return 0;
      }),
    );

  const list = withCommon(new Command('list').description('show the reports that wait, were sent or failed')).action(
    (options: Options) =>
      atDesk(options, (desk) => {
        const lines = desk.list();
        process.stdout.write(options.json ? `${JSON.stringify(lines, null, 2)}\n` : listText(lines));
        return 0;
      }),
  );

  const tlsrpt = new Command('tlsrpt').description('look at the reports on TLS that the relay sends to domains');
  return tlsrpt.addCommand(show).addCommand(list);
}

function withCommon(command: Command): Command {
  return command
    .option('--config <file>', 'configuration file; else DANE_RELAY_CONFIG, else config/relay.yaml if there is one')
    .option('--json', 'print one JSON document');
}

function readDomain(text: string): string {
  const domain = toDomain(text);
  if (domain === null) throw new InvalidArgumentError('this is no domain name.');
  return domain;
}

function previewText(domain: string, { policies }: Preview): string {
  const lines = policies.flatMap(({ type, domain: of, successes, failures, details }) => [
    `${type} for ${of}: ${successes} ${successes === 1 ? 'session' : 'sessions'} as it wants them, ${failures} failed`,
    ...details.map(({ what, sessions }) => `  ${sessions}  ${what}`),
  ]);
  const head = `The report for ${domain} of today (UTC), as far as it has come; a few seconds may be missing.`;
  return `${[head, ...lines].map(harmless).join('\n')}\n`;
}

function listText(lines: readonly ReportLine[]): string {
  if (lines.length === 0) return 'No report waits, and none was sent or failed in the last days.\n';
  const text = lines.flatMap(({ day, domain, state, due, explanation, receivers }) => [
    `${day}  ${domain}  ${state}${due === null ? '' : ` until ${due.slice(0, 16).replace('T', ' ')} (UTC)`}`,
    ...(explanation === '' || receivers.length > 0 ? [] : [`  ${explanation}`]),
    ...receivers.map((receiver) => `  ${receiver.uri}: ${receiver.state}: ${receiver.explanation}`),
  ]);
  return `${text.map(harmless).join('\n')}\n`;
}
