/** What a visit tells of the connection that was made for it, which is what TLS reports count. */
import { expect, test } from 'vitest';
import { dane, other, recordFor, scene, told } from './scene.ts';

test('RPT-05 a visit over a new connection says so, and one over a kept connection does not', async () => {
  const { deliver } = await scene({ host: { greeting: '220 mx.example.test ESMTP ready' } });
  const first = await deliver();
  expect(first.opened).toMatchObject({
    localAddress: '127.0.0.1',
    greeting: expect.stringContaining('mx.example.test'),
  });
  const second = await deliver();
  expect(told(second)).toBe(told(first));
  expect(second).not.toHaveProperty('opened');
});

test('RPT-05 so does one whose host failed its proof, and one without a connection', async () => {
  const failed = await scene({ policy: { ...dane, records: [recordFor(other)] } });
  expect(await failed.deliver()).toMatchObject({
    trouble: { code: 'tlsa-mismatch' },
    opened: { localAddress: '127.0.0.1' },
  });
  const nobody = await scene();
  await nobody.host.close();
  expect(await nobody.deliver()).toMatchObject({
    trouble: { code: 'connect-failed' },
    opened: { localAddress: null, greeting: null },
  });
});
