/** The relay with its defaults: only where it listens, who may send and whom it asks is said. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freePort, PROJECT } from '../../lab/relay.ts';
import { startDaemon, untilAnswers } from '../../test/peers/support.ts';
import type { Candidate, Place } from './candidate.ts';

export async function startRelayCandidate(place: Place): Promise<Candidate> {
  const { dir, port, group, surroundings, relay, env } = place;
  const { identity, dns } = surroundings;
  const [config, out, cert, key] = [join(dir, 'relay.yaml'), join(dir, 'log'), join(dir, 'pem'), join(dir, 'key')];
  await writeFile(cert, identity.chain);
  await writeFile(key, identity.key, { mode: 0o600 });
  const settings = {
    hostname: 'relay.office.test',
    state: join(dir, 'state'),
    listen: [{ address: '127.0.0.1', port, tls: 'starttls' }],
    certificate: { cert, key },
    clients: [{ name: 'legacy', networks: ['127.0.0.0/8'] }],
    resolver: {
      address: `${dns.server.address}:${dns.server.port}`,
      probe: { signed: '.', bogus: ['bogus.test'] },
    },
    admin: { listen: `127.0.0.1:${await freePort()}` },
    ...relay,
  };
  // JSON is YAML too.
  await writeFile(config, JSON.stringify(settings, null, 2));
  const toFile = ['sh', '-c', 'exec "$@" >"$0" 2>&1', out];
  const words = [...group.enter, ...toFile, join(PROJECT, 'dane-relay'), 'run', '--config', config];
  const daemon = startDaemon(words, { ...process.env, ...env });
  const log = (): Promise<string> => readFile(out, 'utf8').catch(() => '');
  try {
    await untilAnswers('127.0.0.1', port, daemon.output, daemon.gone);
  } catch (error) {
    await daemon.stop();
    throw new Error(`the relay does not start: ${await log()}`, { cause: error });
  }
  return {
    port,
    log,
    deferred: async (domain) =>
      (await log()).split('\n').some((line) => line.includes('"event":"deferred"') && line.includes(`@${domain}"`)),
    stop: daemon.stop,
  };
}
