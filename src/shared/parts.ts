/** Opens things in order and closes them in the opposite order, and does nothing else. */

/** Closes what was opened last first. Calling it again does nothing; an error of one does not keep the others open. */
export type CloseAll = () => Promise<readonly unknown[]>;

export interface Parts {
  /** Remembers how to close what was just opened, and gives it back. */
  readonly opened: <Part>(part: Part, close: (part: Part) => void | Promise<void>) => Part;
  /** Resolves to the errors of those that could not be closed cleanly. */
  readonly closeAll: CloseAll;
}

export function createParts(): Parts {
  const closers: (() => void | Promise<void>)[] = [];
  return {
    opened: (part, close) => {
      closers.push(() => close(part));
      return part;
    },
    closeAll: async () => {
      const errors: unknown[] = [];
      for (const close of closers.splice(0).reverse()) {
        try {
          await close();
        } catch (error) {
          errors.push(error);
        }
      }
      return errors;
    },
  };
}
