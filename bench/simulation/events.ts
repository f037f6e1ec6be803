/** What happens next: a binary heap by time; what was put in first comes first among equals. */
export class Events<Event> {
  readonly #heap: { readonly at: number; readonly order: number; readonly event: Event }[] = [];
  #order = 0;

  get next(): number | null {
    return this.#heap[0]?.at ?? null;
  }

  add(at: number, event: Event): void {
    const heap = this.#heap;
    const entry = { at, order: this.#order++, event };
    let place = heap.push(entry) - 1;
    while (place > 0) {
      const above = (place - 1) >> 1;
      const parent = heap[above];
      if (!parent || !isBefore(entry, parent)) break;
      heap[place] = parent;
      place = above;
    }
    heap[place] = entry;
  }

  take(): Event | null {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (!first || !last) return null;
    if (heap.length > 0) this.#sink(last);
    return first.event;
  }

  #sink(entry: { readonly at: number; readonly order: number; readonly event: Event }): void {
    const heap = this.#heap;
    let place = 0;
    for (;;) {
      const left = heap[2 * place + 1];
      const right = heap[2 * place + 2];
      if (!left) break;
      const [child, at] = right && isBefore(right, left) ? [right, 2 * place + 2] : [left, 2 * place + 1];
      if (!isBefore(child, entry)) break;
      heap[place] = child;
      place = at;
    }
    heap[place] = entry;
  }
}

function isBefore(one: { at: number; order: number }, other: { at: number; order: number }): boolean {
  return one.at < other.at || (one.at === other.at && one.order < other.order);
}
