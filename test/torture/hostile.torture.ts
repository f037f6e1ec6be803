/**
 * Wave after wave of hostile clients against one relay: memory that is not given back would show. HOSTILE_WAVES sets
 * how many waves; 30 take some two minutes.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hostileCrowd } from '../support/hostile-crowd.ts';
import { openRelayScene, type RelayScene, until } from '../support/relay-scene.ts';

const WAVES = Number(process.env['HOSTILE_WAVES'] ?? 30);
const MEBIBYTE = 1024 * 1024;

let scene: RelayScene;
beforeAll(async () => {
  scene = await openRelayScene({ intake: { messageSize: '2MB' } });
});
afterAll(async () => scene?.end());

test(`${WAVES} waves of 2,000 hostile clients leave nothing behind`, { timeout: WAVES * 60_000 }, async () => {
  const memory: number[] = [];
  let files = 0;
  for (let wave = 0; wave < WAVES; wave++) {
    const crowds = Array.from({ length: 20 }, (_, at) => hostileCrowd(scene.relay.port, `127.0.1.${at + 1}`, 100));
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    memory.push((await scene.usage()).memory / MEBIBYTE);
    for (const crowd of crowds) crowd.leave();
    const client = await scene.greeted();
    expect(await client.send('a@in.test', ['b@out.test'], `Subject: ${wave}\r\n\r\n`)).toMatchObject({ code: 250 });
    client.destroy();
    await until(() => scene.host.messages.length > wave);
    if (wave === 2) files = (await scene.usage()).files;
  }
  await until(async () => (await scene.usage()).files <= files + 20);
  console.info(`memory after each wave, in MiB: ${memory.map(Math.round).join(' ')}`);
  const early = Math.max(...memory.slice(0, 5));
  expect(Math.max(...memory.slice(-5))).toBeLessThan(Math.max(300, early * 1.3));
});
