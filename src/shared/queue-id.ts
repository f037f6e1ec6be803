/** Queue ids: short enough to read over the telephone, and never the same twice. */
import { randomBytes } from 'node:crypto';

/** No vowels and nothing that looks like another: no id spells a word. */
const ALPHABET = '0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz';
const RANDOM_LENGTH = 6;

let last = 0;

/** Time in microseconds, which only ever grows in a process, and six random characters: ids sort by age. */
export function newQueueId(): string {
  last = Math.max(last + 1, Math.floor((performance.timeOrigin + performance.now()) * 1000));
  let time = '';
  for (let rest = last; rest > 0; rest = Math.floor(rest / ALPHABET.length)) {
    time = (ALPHABET[rest % ALPHABET.length] ?? '') + time;
  }
  // 52 values out of 256 each: a slight lean does no harm to something that only has to be unique.
  const random = Array.from(randomBytes(RANDOM_LENGTH), (octet) => ALPHABET[octet % ALPHABET.length]);
  return time + random.join('');
}
