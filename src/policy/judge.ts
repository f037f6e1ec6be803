/**
 * What one host must prove for one message: the decision for ordinary mail, and on top of it what the message demands or
 * what the operator grants. A message that demands TLS all the way is granted nothing.
 */
import type { Grant, HostFacts, InsecureMx, StrictPolicy, TlsPolicy } from '../model/tls-policy.ts';
import { decide } from './decide.ts';
import { withGrant } from './grants.ts';
import { requiringTls } from './require-tls.ts';

export interface JudgeOptions {
  readonly insecureMx: InsecureMx;
  /** Why the resolver cannot be believed, in words; null while it proves that it validates. */
  readonly resolverDoubt: () => string | null;
  /** The operator's exception for a mail host. */
  readonly forHost: (host: string) => Grant | null;
}

export function createJudge({ insecureMx, resolverDoubt, forHost }: JudgeOptions): (facts: HostFacts) => TlsPolicy {
  const judge = decide(insecureMx);
  const strictly = (facts: HostFacts): StrictPolicy => {
    const doubt = facts.destination.tls === 'may' || facts.mx.kind === 'literal' ? null : resolverDoubt();
    // What was found out while the resolver was losing its proof decides nothing.
    return doubt === null ? judge(facts) : { kind: 'skip', trouble: { code: 'resolver-untrusted', detail: doubt } };
  };
  /** While failures are only reported no exception is needed. */
  const grantFor = ({ destination, host }: HostFacts): Grant | null => {
    const { reportUntil, exception } = destination;
    if (reportUntil) return { kind: 'report', until: reportUntil };
    return exception ?? forHost(host.name);
  };
  return (facts) =>
    facts.destination.wish === 'required'
      ? requiringTls(strictly(facts), facts)
      : withGrant(strictly(facts), facts, grantFor(facts));
}
