/** The cases as a table: what is sent, to whom, and who is measured in it. README.md says why each is there. */

/** The order in which they start; later runs begin with the next one. */
export const CANDIDATES = ['relay', 'postfix', 'postfix-tuned', 'exim'] as const;
export type CandidateName = (typeof CANDIDATES)[number];

export interface Case {
  readonly name: string;
  readonly tells: string;
  readonly messages: number;
  /** Octets of a message, header included. */
  readonly size: number;
  /** How many destinations the messages go to, in turn; each has a host of its own. */
  readonly domains: 1 | 200;
  /** Connections that the clients have at the same time. */
  readonly sessions: number;
  /** Messages that a client sends over one connection. */
  readonly perConnection: number;
  /** How long every reply of the far end waits. */
  readonly delayMs: number;
  /** Messages a second that the clients send; null for as many as are taken. */
  readonly rate: number | null;
  readonly candidates: readonly CandidateName[];
  /** Keys of the relay's configuration, beside where to listen and whom to ask. */
  readonly relay: Readonly<Record<string, unknown>>;
}

const ALL: readonly CandidateName[] = CANDIDATES;
const POSTFIXES: readonly CandidateName[] = ['relay', 'postfix', 'postfix-tuned'];

const A: Case = {
  name: 'A',
  tells: '5,000 × 4 KB to one domain',
  messages: 5000,
  size: 4096,
  domains: 1,
  sessions: 20,
  perConnection: 25,
  delayMs: 0,
  rate: null,
  candidates: ALL,
  relay: {},
};
const B: Case = { ...A, name: 'B', tells: '2,000 × 4 KB to 200 domains with own hosts', messages: 2000, domains: 200 };

export const CASES: readonly Case[] = [
  A,
  { ...A, name: 'A1', tells: 'A, one message a client connection', perConnection: 1, candidates: POSTFIXES },
  B,
  {
    ...A,
    name: 'C',
    tells: '200 × 1 MB to one domain',
    messages: 200,
    size: 1024 * 1024,
    sessions: 10,
    perConnection: 10,
  },
  { ...A, name: 'D', tells: '1,000 × 100 KB to one domain', messages: 1000, size: 100 * 1024 },
  { ...A, name: 'A20', tells: 'A, every reply 20 ms late', delayMs: 20, candidates: POSTFIXES },
  { ...B, name: 'B20', tells: 'B, every reply 20 ms late', delayMs: 20, candidates: POSTFIXES },
  {
    ...A,
    name: 'AN',
    tells: 'A, a new connection for every message',
    candidates: ['relay', 'postfix'],
    relay: { delivery: { messagesPerConnection: 1 } },
  },
  {
    ...A,
    name: 'L',
    tells: '100 messages of 4 KB a second',
    messages: 1000,
    rate: 100,
    candidates: ['relay', 'postfix'],
  },
  { ...A, name: 'M1', tells: 'A, one process', candidates: ['relay'], relay: { workers: 1 } },
  {
    ...A,
    name: 'M100',
    tells: '100 × 1 MB taken in at once',
    messages: 100,
    size: 1024 * 1024,
    sessions: 100,
    perConnection: 1,
    candidates: ['relay'],
  },
];

/** The cases of such names, in their order here. Throws a sentence for one that there is not. */
export function casesNamed(names: readonly string[]): readonly Case[] {
  const unknown = names.find((name) => !CASES.some((each) => each.name === name));
  if (unknown !== undefined) {
    throw new Error(`there is no case ${unknown}; there are ${CASES.map(({ name }) => name).join(', ')}`);
  }
  return CASES.filter(({ name }) => names.includes(name));
}

/** The same with a tenth of the messages: enough to see that it works and roughly how fast. */
export function quick(it: Case): Case {
  return { ...it, messages: Math.max(it.sessions, it.messages / 10) };
}
