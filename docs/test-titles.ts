/**
 * Reads the titles of tests out of their source, as text: nothing is run. Titles are where a test says which items of
 * docs/conformance.md it proves.
 *
 * A title is what `test`, `it` or `describe` is given first, and any other string of the file that begins with an item:
 * that is how tables of tests are written, however their rows get to `test.each`. Comments never count, nor does code.
 */

/** An item as titles name it. Names of character sets that look alike are none. */
const ITEM = /\b(?!UTF-)[A-Z]{2,4}-\d\d\b/g;

/** Code that a title follows: `test(`, `test.each<Row>(table)(`, `describe.skipIf(condition)(`. */
const CALL = /(?<![\w.])(?:test|it|describe)(?:\.\w+|<[^;]*>|\([^;{]*\))*\s*\($/;

/** @returns the items that the titles of a test file name, each once, in their order there */
export function itemsIn(source: string): readonly string[] {
  const named = literalsIn(source).flatMap(({ text, before }) => {
    const items = [...text.matchAll(ITEM)];
    const isTitle = items[0]?.index === 0 || CALL.test(before);
    return isTitle ? items.map(([item]) => item) : [];
  });
  return [...new Set(named)];
}

interface Literal {
  /** What is between the quotes; `…` stands for each `${}` of a template. */
  readonly text: string;
  /** The end of the code before it, without comments, and with other literals left out. */
  readonly before: string;
}

const TOKEN = new RegExp(
  [
    /\/\/[^\n]*|\/\*[\s\S]*?\*\//, // comments
    /'(?:[^'\\\n]|\\[\s\S])*'|"(?:[^"\\\n]|\\[\s\S])*"/, // strings
    /(?<=(?:^|[=(,:[!&|?;{}>]|\breturn)\s*)\/(?![*/])(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/, // regular expressions
    /`|\$\{|[{}]/, // what begins and ends templates
    /[\s\S]/,
  ]
    .map(({ source }) => `(${source})`)
    .join('|'),
  'gy',
);
const CODE_KEPT = 400;

function literalsIn(source: string): readonly Literal[] {
  const literals: Literal[] = [];
  /** Templates that are open, each with its text so far and the depth of the braces in its `${}`; null in its text. */
  const open: { text: string; before: string; braces: number | null }[] = [];
  let code = '';
  for (let at = 0; at < source.length; ) {
    const template = open.at(-1);
    if (template && template.braces === null) {
      const [piece = ''] = /(?:[^`\\$]|\\[\s\S]|\$(?!\{))*/y.exec(source.slice(at)) ?? [];
      template.text += piece;
      at += piece.length;
      if (source[at] === '`') {
        literals.push(template);
        open.pop();
        code += '``';
        at += 1;
      } else {
        template.text += '…';
        template.braces = 0;
        at += 2;
      }
      continue;
    }
    TOKEN.lastIndex = at;
    const [token = '', comment, string, regex] = TOKEN.exec(source) ?? [];
    at += Math.max(1, token.length);
    if (comment !== undefined) continue;
    if (string !== undefined) literals.push({ text: token.slice(1, -1), before: code.slice(-CODE_KEPT).trimEnd() });
    if (token === '`') open.push({ text: '', before: code.slice(-CODE_KEPT).trimEnd(), braces: null });
    else if (template && template.braces !== null) {
      if (token === '{') template.braces += 1;
      else if (token === '}' && template.braces-- === 0) {
        template.braces = null;
        continue;
      }
    }
    code += string !== undefined ? "''" : regex !== undefined ? '/r/' : token === '`' ? '' : token;
  }
  return literals;
}
