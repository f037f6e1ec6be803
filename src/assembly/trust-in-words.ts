/** The state of the resolver, said the same way in the log, on the readiness page and by the commands. */
import type { TrustState } from '../route/trust.ts';

/** What is known of the resolver, in a clause for log and people. */
export function trustInWords(state: TrustState): string {
  switch (state.kind) {
    case 'proven':
      return 'the resolver proves that it validates DNSSEC';
    case 'untested':
      return 'the resolver has not been tested yet';
    case 'unreachable':
      return `the resolver cannot be reached or has lost its trust anchor: ${state.reason}`;
    case 'not-validating':
      return `the resolver does not validate DNSSEC: ${state.reason}`;
  }
}
