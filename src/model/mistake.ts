/** A mistake in the configuration, as every command prints it. */
export interface Mistake {
  /** The file as it was named, or the environment variable that the value came from. */
  readonly file: string;
  /** Counted from 1; null where there is no place to point at (a variable, a file that cannot be read). */
  readonly line: number | null;
  /** Counted from 1, in characters; null as `line` is. */
  readonly column: number | null;
  /** `clients[0].pins[1]`; empty for the file as a whole. */
  readonly path: string;
  /** What is wrong, without a full stop. */
  readonly message: string;
  /** What would be right, without a full stop; empty where the message says it all. */
  readonly expected: string;
  /** The key or value that was probably meant. */
  readonly nearest?: string;
}
