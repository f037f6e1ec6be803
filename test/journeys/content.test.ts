/** Content through the whole relay: a client's socket, the queue on disk, TLS, and the octets as a mail host gets them. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { comesOutAsItWentIn, large, small } from '../support/exact-content.ts';
import { openRelayScene, type RelayScene } from '../support/relay-scene.ts';
import type { SmtpClient } from '../support/smtp-client.ts';

let scene: RelayScene;
let plain: SmtpClient;
let secure: SmtpClient;

beforeAll(async () => {
  scene = await openRelayScene();
  plain = await scene.greeted();
  secure = await scene.greeted();
  await secure.startTls();
});
afterAll(async () => scene?.end());

test('SMUG-02 SMUG-03 SMUG-05 small messages come out octet for octet, wherever the network cut them', async () => {
  let number = 0;
  await fc.assert(
    fc.asyncProperty(small, (sample) => comesOutAsItWentIn(scene, number++ % 2 ? plain : secure, sample)),
    { numRuns: 60, endOnFailure: true },
  );
});

test('SMUG-02 SMUG-03 SMUG-04 large messages too, with lines up to 64 KiB', async () => {
  let number = 0;
  await fc.assert(
    fc.asyncProperty(large, (sample) => comesOutAsItWentIn(scene, number++ % 2 ? plain : secure, sample)),
    { numRuns: 8, endOnFailure: true },
  );
});

test('every octet but NUL passes, a NUL or a longer line is refused, and nothing of those leaves', async () => {
  const every = Buffer.from(Array.from({ length: 255 }, (_, at) => at + 1));
  await comesOutAsItWentIn(scene, plain, { content: Buffer.concat([every, every]), cuts: [0.5] });
  const before = scene.host.messages.length;
  for (const refused of ['x\0y\r\n', `${'x'.repeat(64 * 1024 + 1)}\r\n`, `${'x\r\n'.repeat(200_000)}\0\r\n`]) {
    expect(await plain.send('a@in.test', ['b@out.test'], refused)).toMatchObject({ code: 550, status: '5.6.0' });
  }
  await comesOutAsItWentIn(scene, plain, { content: Buffer.from('afterwards\r\n'), cuts: [] });
  expect(scene.host.messages).toHaveLength(before + 1);
});
