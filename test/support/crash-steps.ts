/** The named steps of a message's life at which the relay is killed, and who sees them happen. */
import type { Moment } from '../../lab/host.ts';

/** Seen from within the main thread: receiving, and the reply. */
export const SPOOL_STEPS = [
  'spool: file made',
  'spool: part written',
  'spool: before fsync',
  'spool: after fsync',
  'reply: before 250 is sent',
] as const;

/** Seen from within the storage thread, around its calls to the database and the file system. */
export const STORE_STEPS = [
  'accept: before the body file is moved',
  'accept: body file moved',
  'accept: before commit',
  'accept: after commit',
  'claim: before commit',
  'claim: after commit',
  'settle: before commit',
  'settle: after commit',
  'deferral: before commit',
  'deferral: after commit',
  'bounce: before commit',
  'bounce: after commit',
  'settle: before the body file is removed',
  'settle: body file removed',
  'start: before leases are taken back',
  'start: leases taken back',
] as const;

/** Seen by the client that hands mail in. */
export const CLIENT_STEPS = [
  'client: MAIL answered',
  'client: half of the content sent',
  'client: final dot sent',
  'client: 250 read',
] as const;

/** Seen by a mail host, which has not answered yet. */
export const HOST_STEPS = {
  'host: connected': 'connected',
  'host: EHLO came': 'EHLO',
  'host: STARTTLS came': 'STARTTLS',
  'host: MAIL came': 'MAIL',
  'host: RCPT came': 'RCPT',
  'host: DATA came': 'DATA',
  'host: part of the content came': 'content',
  'host: final dot came': 'dot',
  'host: message kept': 'kept',
  'host: its 250 has left': 'answered',
} as const satisfies Readonly<Record<string, Moment>>;

export type SpoolStep = (typeof SPOOL_STEPS)[number];
export type StoreStep = (typeof STORE_STEPS)[number];
export type ClientStep = (typeof CLIENT_STEPS)[number];
export type HostStep = keyof typeof HOST_STEPS;
/** `drain`: after SIGTERM, while mail is being taken and handed over. */
export type Step = SpoolStep | StoreStep | ClientStep | HostStep | 'drain';

export const STEPS: readonly Step[] = [
  ...SPOOL_STEPS,
  ...STORE_STEPS,
  ...CLIENT_STEPS,
  ...(Object.keys(HOST_STEPS) as HostStep[]),
  'drain',
];

/** What the relay is told to die of, in the file that CRASH_PLAN names. */
export interface CrashPlan {
  /** Null for none: only the diary is kept. */
  readonly step: Step | null;
  /** At which time that the step is reached, from 1. */
  readonly occurrence: number;
  /** `thread`: the storage thread dies alone. */
  readonly dies: 'process' | 'thread';
  /** Where to write what was done to the disk: one `DiskDeed` a line. */
  readonly diary: string;
}

/** What was done to the disk, as far as it matters for what is left after a power cut. Paths are absolute. */
export type DiskDeed =
  /** The name is there now. */
  | { readonly did: 'made'; readonly path: string }
  /** All octets of the file so far are on the disk. */
  | { readonly did: 'synced'; readonly path: string }
  | { readonly did: 'renamed'; readonly from: string; readonly path: string }
  /** `kept` is another name of the same file, outside of the relay's folders. */
  | { readonly did: 'removed'; readonly path: string; readonly kept: string }
  /** All names in the folder are on the disk as they are. */
  | { readonly did: 'folder-synced'; readonly path: string }
  /** A commit with a flush to disk has returned. */
  | { readonly did: 'committed'; readonly frontier: WalFrontier }
  /** The step was reached. */
  | { readonly did: 'died'; readonly step: Step };

/** How far a write-ahead log is valid: the generation that its salts name, and its frames. */
export interface WalFrontier {
  readonly salts: string;
  readonly frames: number;
}
