/** Postfix as a DANE relay: with its defaults, and tuned as somebody would who has read its manual. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startPostfix } from '../../test/peers/postfix.ts';
import type { Candidate, Place } from './candidate.ts';
import { withResolver } from './with-resolver.ts';

/** What DANE needs, and the certificate for clients. Everything that is not said here is as Postfix comes. */
function settings(chain: string): readonly string[] {
  return [
    'myhostname = relay.office.test',
    'smtpd_tls_security_level = may',
    `smtpd_tls_chain_files = ${chain}`,
    'smtp_tls_security_level = dane',
    'smtp_dns_support_level = dnssec',
    'smtp_tls_loglevel = 1',
  ];
}

/**
 * Connections to one host: with the usual 20 a reused TLS connection waits some 40 ms for each message, because the
 * far end delays its acknowledgement as every Linux host does; many connections hide that.
 * No cache of TLS sessions: it costs Postfix a flush of the disk for every new connection, and gains nothing here.
 */
const TUNED = [
  'smtp_tls_connection_reuse = yes',
  'smtp_connection_cache_time_limit = 10s',
  'in_flow_delay = 0',
  'initial_destination_concurrency = 20',
  'default_destination_concurrency_limit = 100',
  'default_process_limit = 200',
];

export async function startPostfixCandidate(place: Place, kind: 'default' | 'tuned'): Promise<Candidate> {
  const { dir, port, group, surroundings } = place;
  const { identity, resolvConf } = surroundings;
  const chain = join(dir, 'relay.pem');
  await writeFile(chain, `${identity.key}${identity.chain}`, { mode: 0o600 });
  const { log, stop } = await startPostfix({
    dir,
    address: '127.0.0.1',
    port,
    settings: [...settings(chain), ...(kind === 'tuned' ? TUNED : [])],
    by: [...group.enter, ...withResolver(resolvConf)],
  });
  return {
    port,
    log,
    deferred: async (domain) =>
      (await log()).split('\n').some((line) => line.includes(`@${domain}>`) && line.includes('status=deferred')),
    stop,
  };
}
