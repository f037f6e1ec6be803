/** What was done beside the database inside a transaction, so that a rollback can undo it and a commit can finish it. */

export interface Deed {
  /** Takes the deed back after a rollback. */
  readonly undo?: () => void;
  /** What may only be done once the transaction is durable. */
  readonly afterCommit?: () => void;
}

export interface Deeds {
  readonly did: (deed: Deed) => void;
  /** How many there are so far, to roll back to. */
  readonly mark: () => number;
  /** Undoes those after `mark`, the last one first. What cannot be undone is left for `recover`. */
  readonly undoTo: (mark: number) => void;
  readonly committed: () => void;
}

export function createDeeds(): Deeds {
  const deeds: Deed[] = [];
  /** A file that cannot be moved or deleted is an orphan, which the next start removes; it must not fail the request. */
  const attempt = (step: (() => void) | undefined): void => {
    try {
      step?.();
    } catch {
      // see above
    }
  };
  return {
    did: (deed) => void deeds.push(deed),
    mark: () => deeds.length,
    undoTo(mark) {
      for (const deed of deeds.splice(mark).reverse()) attempt(deed.undo);
    },
    committed() {
      for (const deed of deeds.splice(0)) attempt(deed.afterCommit);
    },
  };
}
