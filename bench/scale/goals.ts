/** What is wanted of a long queue, and the table for docs/performance.md. */

export interface Figure {
  readonly what: string;
  /** One for each length of the queue, or what the words say. */
  readonly values: readonly number[];
  readonly least?: number;
  readonly most?: number;
}

/** Whether all its values are within what is wanted; null when nothing is. */
export function holds({ values, least, most }: Figure): boolean | null {
  if (least === undefined && most === undefined) return null;
  return values.every(
    (value) => value >= (least ?? Number.NEGATIVE_INFINITY) && value <= (most ?? Number.POSITIVE_INFINITY),
  );
}

export function table(figures: readonly Figure[]): string {
  const rows = figures.map((figure) => {
    const held = holds(figure);
    const verdict = held === null ? '' : held ? 'yes' : '**no**';
    return `| ${figure.what} | ${figure.values.map(inWords).join(' / ')} | ${wanted(figure)} | ${verdict} |`;
  });
  return ['| figure | measured | wanted | holds |', '|---|---|---|---|', ...rows].join('\n');
}

function wanted({ least, most }: Figure): string {
  if (least !== undefined && least === most) return String(least);
  const bounds = [...(least === undefined ? [] : [`≥ ${least}`]), ...(most === undefined ? [] : [`≤ ${most}`])];
  return bounds.join(', ');
}

function inWords(value: number): string {
  return Number.isInteger(value) || Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2);
}
