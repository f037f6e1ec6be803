/** The file of exceptions: what is put into it lasts, what cannot be read grants nothing, and two may write at once. */
import {
  chmodSync,
  chownSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import type { Exception } from '../../src/model/exception.ts';
import {
  addException,
  createExceptionBook,
  keepRechecks,
  readExceptions,
  readRechecks,
  removeException,
} from '../../src/policy/exceptions.ts';

const DAY = 86_400_000;
const start = Date.UTC(2026, 10, 22);
const root = mkdtempSync(join(tmpdir(), 'exceptions-'));
afterAll(() => rmSync(root, { recursive: true }));

let folder: string;
let now: number;
let damage: string[];
beforeEach(() => {
  folder = mkdtempSync(join(root, 'state-'));
  now = start;
  damage = [];
});

const wish = (change: Partial<Exception> = {}): Omit<Exception, 'id'> => ({
  scope: { kind: 'domain', name: 'a.nl' },
  owner: 'Jan',
  reason: 'renewal',
  since: start,
  until: start + 30 * DAY,
  pins: [],
  ...change,
});
const bookOf = () =>
  createExceptionBook(
    folder,
    () => now,
    (why) => damage.push(why),
  );
const file = () => join(folder, 'exceptions.json');

test('POL-04 there is none until one is made, and it is seen at once, by whoever looks', async () => {
  const [one, other] = [bookOf(), bookOf()];
  expect(one.forDomain('a.nl')).toBeNull();
  const { id } = await addException(folder, wish());
  for (const book of [one, other]) {
    expect(book.forDomain('a.nl')).toEqual({
      kind: 'exception',
      id,
      owner: 'Jan',
      reason: 'renewal',
      until: start + 30 * DAY,
      pins: [],
    });
    expect([book.forHost('a.nl'), book.forDomain('b.a.nl'), book.forDomain('nl')]).toEqual([null, null, null]);
  }
  expect(await removeException(folder, id)).toMatchObject({ id });
  expect([one.forDomain('a.nl'), other.forDomain('a.nl')]).toEqual([null, null]);
  expect(await removeException(folder, id)).toBeNull();
});

test('POL-04 it ends at its very time, and never later than ninety days after it was made, whatever the file says', async () => {
  await addException(folder, wish());
  await addException(folder, wish({ scope: { kind: 'host', name: 'mx.nl' }, until: start + 4_000 * DAY }));
  const book = bookOf();
  now = start + 30 * DAY - 1;
  expect(book.forDomain('a.nl')).not.toBeNull();
  now += 1;
  expect(book.forDomain('a.nl')).toBeNull();
  expect(book.forHost('mx.nl')).not.toBeNull();
  now = start + 91 * DAY;
  expect(book.forHost('mx.nl')).toBeNull();
  // Nor before it was made: a clock that went back does not bring it to life.
  now = start - 1;
  expect(book.forDomain('a.nl')).toBeNull();
});

test.each([
  ['no JSON', '{"exceptions": ['],
  ['no list', '{"version": 1}'],
  ['without an end', JSON.stringify({ exceptions: [{ id: 'x1', ...wish(), until: null }] })],
  ['without an owner', JSON.stringify({ exceptions: [{ id: 'x1', ...wish(), owner: '' }] })],
  ['with a pin that is none', JSON.stringify({ exceptions: [{ id: 'x1', ...wish(), pins: ['sha256/short'] }] })],
  ['for no domain', JSON.stringify({ exceptions: [{ id: 'x1', ...wish(), scope: { kind: 'domain', name: '*' } }] })],
])('POL-04 a file that is damaged grants nothing, is told once, and is not written over: %s', async (_, text) => {
  writeFileSync(file(), text);
  const book = bookOf();
  expect([book.forDomain('a.nl'), book.forDomain('a.nl')]).toEqual([null, null]);
  expect(damage).toHaveLength(1);
  await expect(addException(folder, wish())).rejects.toThrow();
  expect(readFileSync(file(), 'utf8')).toBe(text);
});

test('POL-04 of several for the same domain the newest counts, as long as it lasts', async () => {
  const { id: older } = await addException(folder, wish());
  const { id: newer } = await addException(folder, wish({ until: start + DAY }));
  const book = bookOf();
  expect(book.forDomain('a.nl')).toMatchObject({ id: newer });
  now = start + DAY;
  expect(book.forDomain('a.nl')).toMatchObject({ id: older });
});

test.runIf(process.getuid?.() === 0)('what root adds belongs to whoever owns the state folder', async () => {
  chownSync(folder, 4711, 4712);
  const { id } = await addException(folder, wish());
  keepRechecks(folder, new Map([[id, { at: start, repaired: true, helps: false, detail: '' }]]));
  for (const name of ['exceptions.json', 'exceptions-checked.json']) {
    expect(statSync(join(folder, name))).toMatchObject({ uid: 4711, gid: 4712 });
  }
});

test('a file that the relay may not read is looked at again when it may', async () => {
  writeFileSync(file(), 'nonsense');
  const book = bookOf();
  book.forDomain('a.nl');
  expect(damage).toHaveLength(1);
  chmodSync(file(), 0o640);
  book.forDomain('a.nl');
  expect(damage).toHaveLength(2);
});

test('twenty who write at once lose nothing, and leave nothing behind', async () => {
  const all = await Promise.all(Array.from({ length: 20 }, (_, n) => addException(folder, wish({ owner: `${n}` }))));
  expect(new Set(readExceptions(folder).map(({ id }) => id))).toEqual(new Set(all.map(({ id }) => id)));
  expect(new Set(readExceptions(folder).map(({ owner }) => owner)).size).toBe(20);
  expect(readdirSync(folder)).toEqual(['exceptions.json']);
  expect(statSync(file()).mode & 0o777).toBe(0o600);
});

test('a lock that somebody left behind does not hold for ever', async () => {
  const lock = join(folder, 'exceptions.lock');
  writeFileSync(lock, '');
  const past = Date.now() / 1000 - 60;
  utimesSync(lock, past, past);
  await addException(folder, wish());
  expect(readExceptions(folder)).toHaveLength(1);
});

test('what the last look found is kept apart, for those that are still there', async () => {
  const { id } = await addException(folder, wish());
  keepRechecks(folder, new Map([[id, { at: start, repaired: true, helps: false, detail: 'all well' }]]));
  keepRechecks(folder, new Map([['gone', { at: start, repaired: true, helps: false, detail: '' }]]));
  expect([...readRechecks(folder)]).toEqual([[id, { at: start, repaired: true, helps: false, detail: 'all well' }]]);
  writeFileSync(join(folder, 'exceptions-checked.json'), 'nonsense');
  expect([...readRechecks(folder)]).toEqual([]);
});
