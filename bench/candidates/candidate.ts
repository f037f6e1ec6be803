/** What every candidate is for the harness: a mail server on a port, with a log. */
import type { CandidateName, Case } from '../cases.ts';
import type { Group } from '../group.ts';
import type { Surroundings } from '../surroundings.ts';
import { startExim } from './exim.ts';
import { startPostfixCandidate } from './postfix.ts';
import { startRelayCandidate } from './relay.ts';

export interface Candidate {
  readonly port: number;
  /** Whether its log says that mail to this domain waits. */
  readonly deferred: (domain: string) => Promise<boolean>;
  /** Everything that it said, for people who look for what went wrong. */
  readonly log: () => Promise<string>;
  readonly stop: () => Promise<void>;
}

export interface Place {
  /** A new folder of its own. */
  readonly dir: string;
  readonly port: number;
  readonly group: Group;
  readonly surroundings: Surroundings;
  /** As in `Case`; other candidates have no such wishes. */
  readonly relay: Case['relay'];
  /** Environment variables beside those of this process. */
  readonly env: Readonly<Record<string, string>>;
}

/** Starts it with an empty queue. Resolves once it greets. */
export function startCandidate(name: CandidateName, place: Place): Promise<Candidate> {
  switch (name) {
    case 'relay':
      return startRelayCandidate(place);
    case 'postfix':
      return startPostfixCandidate(place, 'default');
    case 'postfix-tuned':
      return startPostfixCandidate(place, 'tuned');
    case 'exim':
      return startExim(place);
  }
}
