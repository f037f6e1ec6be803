import { afterEach, expect, test } from 'vitest';
import type { Reply } from '../support/smtp-client.ts';
import { ANYBODY, type Fixture, start } from './fixture.ts';

let fixture: Fixture | null = null;
afterEach(() => fixture?.stop());

const RATE = { count: 3, period: 60_000 };

test('so many messages a minute from one client, over all its connections; more are told to come later', async () => {
  let now = Date.UTC(2026, 10, 2, 8);
  const clock = { now: () => now, sleep: () => Promise.resolve() };
  fixture = await start({ clients: [{ ...ANYBODY, name: 'exchange', rate: RATE }], clock });
  const replies: Reply[] = [];
  for (let connection = 0; connection < 2; connection++) {
    const client = await fixture.greeted();
    for (let at = 0; at < 2; at++) {
      replies.push(await client.one('MAIL FROM:<a@b.test>'));
      await client.one('RSET');
    }
  }
  expect(replies.map(({ code }) => code)).toEqual([250, 250, 250, 450]);
  expect(replies[3]?.text).toContain(
    '4.7.0 this client has sent as many messages as it may for now: exchange may send 3 in a minute',
  );
  expect(fixture.events.at(-1)).toMatchObject({ event: 'refused', code: 'too-many-messages', client: 'exchange' });
  now += 62_000;
  const client = await fixture.greeted();
  expect((await client.one('MAIL FROM:<a@b.test>')).code).toBe(250);
});

test('being told to come later is not a mistake: the connection stays, and mail of others goes on', async () => {
  fixture = await start({
    clients: [
      { ...ANYBODY, name: 'few', senders: ['few.test'], rate: RATE },
      { ...ANYBODY, name: 'many', senders: ['many.test'] },
    ],
  });
  const client = await fixture.greeted();
  const codes: number[] = [];
  for (let at = 0; at < 40; at++) {
    codes.push((await client.one('MAIL FROM:<a@few.test>')).code);
    if (at < 3) await client.one('RSET');
  }
  expect(codes).toEqual([...new Array(3).fill(250), ...new Array(37).fill(450)]);
  expect((await client.one('MAIL FROM:<a@many.test>')).code).toBe(250);
});
