/** Another program locks the database of a relay that runs. SQLite waits ten seconds for it, and so does this test, twice. */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { offer, PROVEN, type Scene, startScene, untilArrived, untilNotReady, untilReady } from '../faults/support.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => scene?.end());

test('another program locks the database: a stall is told, nothing is lost, and it goes on', async () => {
  const relay = await scene.relay({});
  const other = new Database(join(relay.config, '..', 'state', 'queue.db'));
  other.exec('BEGIN IMMEDIATE');
  const waiting = offer(relay, PROVEN, 'behind-the-lock');
  await untilNotReady(relay, /^503 .*(?:database is locked|has not answered)/);
  expect(await waiting).toMatch(/451 4\.3\.0/);
  other.exec('ROLLBACK');
  other.close();
  await untilReady(relay);
  expect(await offer(relay, PROVEN, 'after-the-lock')).toMatch(/^250 /);
  await untilArrived(scene.lab, 'after-the-lock');
  await relay.stop();
});
