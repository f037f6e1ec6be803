/**
 * Exim as a DANE relay. It takes mail into its queue and lets queue runners deliver it, which is several times as fast
 * for it as a process for every message.
 */
import { runExim } from '../../test/peers/exim.ts';
import type { Candidate, Place } from './candidate.ts';
import { withResolver } from './with-resolver.ts';

export async function startExim({ dir, port, group, surroundings }: Place): Promise<Candidate> {
  const { log, stop } = await runExim({
    dir,
    address: '127.0.0.1',
    port,
    identity: surroundings.identity,
    configuration: (own) => `${own}\n${RELAYING}`,
    words: ['-bdf', '-q5s'],
    by: [...group.enter, ...withResolver(surroundings.resolvConf)],
  });
  return {
    port,
    log,
    deferred: async (domain) =>
      (await log()).split('\n').some((line) => line.includes(` == `) && line.includes(`@${domain} `)),
    stop,
  };
}

// Addresses of loopback are its own for Exim; `self = send` lets it deliver there nevertheless.
const RELAYING = `primary_hostname = relay.office.test
acl_smtp_rcpt = acl_all
dns_dnssec_ok = 1
smtp_accept_max = 200
smtp_accept_queue_per_connection = 0
queue_only
queue_run_max = 20
remote_max_parallel = 4
split_spool_directory
begin acl
acl_all:
  accept
begin routers
out:
  driver = dnslookup
  dnssec_request_domains = *
  self = send
  transport = smtp
begin transports
smtp:
  driver = smtp
  dnssec_request_domains = *
  hosts_try_dane = *
begin retry
* * F,2h,1m
begin rewrite
begin authenticators
`;
