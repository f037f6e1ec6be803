/** How mistakes in the configuration are printed: one line each, in the form that editors can jump to. */
import type { Mistake } from '../model/mistake.ts';

/** `config/relay.yaml:3:10: queue.lifetime: "5" has no unit (expected a duration …; did you mean 5d?)` */
export function mistakeLine({ file, line, column, path, message, expected, nearest }: Mistake): string {
  const place = line === null ? file : `${file}:${line}:${column ?? 1}`;
  const hints = [expected && `expected ${expected}`, nearest && `did you mean ${nearest}?`].filter(Boolean).join('; ');
  return `${place}: ${path === '' ? '' : `${path}: `}${message}${hints === '' ? '' : ` (${hints})`}`;
}

export function printMistakes(mistakes: readonly Mistake[]): void {
  process.stderr.write(mistakes.map((mistake) => `${mistakeLine(mistake)}\n`).join(''));
}

/** What reading the configuration came to. */
export type Loaded<Config> =
  | { readonly ok: true; readonly config: Config; readonly file: string | null; readonly notes: readonly string[] }
  /** `missing`: it is not what the file says, it is that there is none. */
  | { readonly ok: false; readonly mistakes: readonly Mistake[]; readonly missing: boolean };

/** @param path file named on the command line; null for the usual places */
export type Load<Config> = (request: {
  readonly path: string | null;
  readonly env: NodeJS.ProcessEnv;
}) => Loaded<Config>;

/** Exit status for a configuration that was not understood: wrong is 2, not there is 3. */
export function exitCodeFor({ missing }: { readonly missing: boolean }): 2 | 3 {
  return missing ? 3 : 2;
}
