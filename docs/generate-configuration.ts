/**
 * Writes config/relay.example.yaml and docs/configuration.md from the table of keys in src/config/schema.ts:
 *
 *   node docs/generate-configuration.ts
 *
 * test/config/documentation.test.ts fails when the two files are not what this makes of the table.
 */
import { writeFileSync } from 'node:fs';
import { stringify } from 'yaml';
import { variableOf } from '../src/config/environment.ts';
import { type Key, ROOT } from '../src/config/keys.ts';

/** Where the two files stand, and what must be in them. */
export function generatedFiles(): readonly { readonly path: string; readonly text: string }[] {
  return [
    { path: 'config/relay.example.yaml', text: exampleFile() },
    { path: 'docs/configuration.md', text: configurationPage() },
  ];
}

const LINE = 118;

/** Every key, explained. All values are commented out, so that the file as it stands means the defaults. */
function exampleFile(): string {
  const head = [
    ...comment(
      'The configuration of dane-relay. Copy it to config/relay.yaml and take the "#" away where a key is to be ' +
        'something else: "#" right before a key switches it off, "# " begins an explanation. As it stands every key ' +
        'has its default, and nobody may send mail.',
      '',
    ),
    '#',
    ...comment(
      'Unknown keys are errors. Durations have a unit (30s, 5m, 4h, 5d), sizes too (800kB, 50MB, 10MiB). Relative paths ' +
        'are relative to the folder of this file. Quote what begins with "*" or "[". ' +
        '"dane-relay check" tells every mistake. All of it is in docs/configuration.md as well.',
      '',
    ),
  ];
  return `${[...head, ...ROOT.children.flatMap((key) => [rule(key.name), ...exampleOf(key, '')])].join('\n')}\n`;
}

/** Parts the keys. An empty line would not do: the formatter takes it away after a section with nothing but comments. */
function rule(name: string): string {
  return `# --- ${name} `.padEnd(LINE, '-');
}

function exampleOf(key: Key, indent: string): string[] {
  if (key.kind === 'section') {
    const children = key.children.flatMap((child) => exampleOf(child, `${indent}  `));
    const unset = key.unset === undefined ? [] : comment(`Default: ${key.unset}.`, indent);
    return [...comment(key.says ?? '', indent), ...unset, `${indent}${key.name}:`, ...children];
  }
  const about = comment(`${sentence(key)} ${presetOf(key)}`, indent);
  if (key.element?.kind !== 'section')
    return [...about, `${indent}#${key.aside ? ' ' : ''}${key.name}: ${flow(key.example ?? key.default)}`];

  const items = key.element.children.flatMap((child, index) => [
    // Within what is switched off, so that taking away the first "#" of each line leaves good YAML.
    ...comment(`${sentence(child)} ${presetOf(child)}`, `${indent}#    `),
    `${indent}#${index === 0 ? '  - ' : child.aside ? '    # ' : '    '}${child.name}: ${flow(child.example ?? child.default)}`,
  ]);
  return [...about, `${indent}#${key.name}:`, ...items];
}

function sentence({ says = '', expected, kind }: Key): string {
  return kind === 'value' && expected !== undefined ? `${says} Write ${expected}.` : says;
}

function presetOf(key: Key): string {
  return key.required ? 'Needed.' : `Default: ${key.unset ?? flow(key.default)}.`;
}

/** A value on one line, as it can stand in the file. */
function flow(value: unknown): string {
  // A lone full stop would be taken for the end of a sentence.
  if (value === '.') return '"."';
  return stringify(value, { collectionStyle: 'flow', lineWidth: 0, flowCollectionPadding: true })
    .trimEnd()
    .replace(/^\[ (.*) \]$/, '[$1]');
}

function comment(text: string, indent: string): string[] {
  const width = LINE - indent.length;
  const lines: string[] = [];
  let line = '#';
  for (const word of text.split(' ')) {
    if (line.length + 1 + word.length > width) {
      lines.push(indent + line);
      line = '#';
    }
    line += ` ${word}`;
  }
  return [...lines, indent + line];
}

function configurationPage(): string {
  return `<!-- Made by docs/generate-configuration.ts from src/config/schema.ts. Do not edit. -->

# Configuration

The relay reads one YAML file: the one that \`--config\` names, else the one that \`DANE_RELAY_CONFIG\` names, else
\`config/relay.yaml\` in the folder where it is started, if there is one. Without a file everything has its default: it
listens on 127.0.0.1 port 2525, makes its own certificate, keeps its queue in \`./var\`, runs its own Unbound, and takes
mail from nobody. [config/relay.example.yaml](../config/relay.example.yaml) has every key to copy from.

\`dane-relay check\` prints every mistake at once, with line and column, what is expected and what was probably meant.
Unknown keys are mistakes. A relay does not start with a mistake in its configuration (exit status 2).

- **Durations** have a unit: \`30s\`, \`5m\`, \`4h\`, \`5d\`. **Sizes** too: \`800kB\`, \`50MB\` (50,000,000 octets), \`10MiB\`.
- **Paths** are absolute, or relative to the folder of the configuration file; without a file, to the folder where the
  relay is started.
- **Networks** are written as \`10.1.0.0/16\` or \`2001:db8::/32\`, **pins** as \`sha256/\` and 44 characters of base64
  (\`dane-relay pin\` prints them).
- Text that begins with \`*\` or \`[\` needs quotes in YAML: \`"*.example.nl"\`, \`"[192.0.2.1]:25"\`.

## From the environment

Each key below has a variable. It replaces what the file says of that key; an empty variable counts as not set. Lists and
sections are written as YAML on one line:

\`\`\`sh
DANE_RELAY_HOSTNAME=relay.example.nl
DANE_RELAY_CLIENTS='[{ name: exchange, networks: [10.1.0.0/16] }]'
\`\`\`

With \`_FILE\` at its end a variable names a file that holds the value: \`DANE_RELAY_CLIENTS_FILE=/run/secrets/clients\`.
Variables that begin with \`DANE_RELAY_\` and are none of these are mistakes.

## Keys

${ROOT.children.map((key) => sectionOf(key, key.name, '###')).join('\n')}`;
}

function sectionOf(key: Key, path: string, mark: string): string {
  const rows = rowsOf(key, path);
  const facts = key.kind === 'section' ? [] : [`- Default: ${code(key)}`];
  const written = key.kind !== 'section' && key.expected !== undefined ? [`- Write: ${prose(key.expected)}`] : [];
  const head = [
    `${mark} ${path}`,
    '',
    prose(key.says),
    '',
    ...written,
    ...facts,
    `- Variable: \`${variableOf([key.name])}\``,
    '',
  ];
  if (rows.length === 0) return head.join('\n');
  return [...head, ...table([['key', 'what it is for', 'what to write', 'default'], ...rows]), ''].join('\n');
}

/** A table with its columns aligned, as the formatter of this project leaves it. */
function table([head = [], ...rows]: readonly (readonly string[])[]): string[] {
  const widths = head.map((_, column) => Math.max(3, ...[head, ...rows].map((row) => row[column]?.length ?? 0)));
  const lines = [head, widths.map((width) => '-'.repeat(width)), ...rows];
  return lines.map((row) => `| ${row.map((text, column) => text.padEnd(widths[column] ?? 0)).join(' | ')} |`);
}

function rowsOf(key: Key, path: string): string[][] {
  const isList = key.element?.kind === 'section';
  const children = isList ? (key.element?.children ?? []) : key.children;
  const base = isList ? `${path}[]` : path;
  return children.flatMap((child) => {
    const here = `${base}.${child.name}`;
    if (child.kind === 'section') return rowsOf(child, here);
    const preset = child.required ? 'required' : code(child);
    return [[`\`${here}\``, prose(child.says), prose(child.expected), preset]];
  });
}

function code(key: Key): string {
  return key.unset === undefined ? `\`${flow(key.default)}\`` : prose(key.unset);
}

/** Text that is to look in Markdown as it is written here. */
function prose(text = ''): string {
  return text.replace(/[*_<|\\]/g, '\\$&');
}

if (import.meta.main) {
  for (const { path, text } of generatedFiles()) writeFileSync(new URL(`../${path}`, import.meta.url), text);
}
