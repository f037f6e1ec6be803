/**
 * The command line as a whole: which commands there are, and how wrong usage ends.
 *
 * Nothing here ends the process in the middle of something. What goes wrong becomes one clear line on stderr and an
 * exit status: 2 for wrong usage.
 */
import { readFileSync } from 'node:fs';
import { type Command, CommanderError, Command as Program } from 'commander';

/** @param commands each with its description, options and action */
export function createProgram(commands: readonly Command[]): Command {
  const program = new Program('dane-relay')
    .description('A DANE-validating outbound SMTP relay')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command');
  for (const command of commands) program.addCommand(command);
  settle(program);
  return program;
}

/**
 * Runs the command that `argv` asks for. Wrong usage sets `process.exitCode` to 2; rejects only with what the command
 * itself rejects with.
 *
 * @param argv as `process.argv`: the first two are not looked at
 */
export async function runProgram(program: Command, argv: readonly string[]): Promise<void> {
  try {
    await program.parseAsync([...argv]);
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // Help and version come this way too; help that nobody asked for means that the command is missing.
    if (error.exitCode !== 0) process.exitCode = error.exitCode === 1 ? 2 : error.exitCode;
  }
}

/** Commands that are added do not take over the settings of their parent. */
function settle(command: Command): void {
  command
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({ outputError: (text, write) => write(`dane-relay: ${oneLine(text)}\n`) });
  for (const child of command.commands) settle(child);
}

function oneLine(text: string): string {
  return text
    .trim()
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .replace(/[\u0000-\u001f\u007f-\u009f]/g, '?')
    .slice(0, 500);
}

function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { readonly version: string }).version;
}
