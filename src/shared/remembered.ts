/** Answers that depend on octets alone, remembered: mail hosts show the same certificates at every connection. */
import { hash } from 'node:crypto';

/**
 * `find` with a memory of its `most` newest answers.
 *
 * @param find  pure; the octets are not kept, only a hash of them
 */
export function remembered<Answer>(most: number, find: (octets: Buffer) => Answer): (octets: Buffer) => Answer {
  const answers = new Map<string, { readonly answer: Answer }>();
  return (octets) => {
    const key = hash('sha256', octets, 'base64');
    const known = answers.get(key) ?? { answer: find(octets) };
    answers.set(key, known);
    const [oldest] = answers.keys();
    if (answers.size > most && oldest !== undefined) answers.delete(oldest);
    return known.answer;
  };
}
