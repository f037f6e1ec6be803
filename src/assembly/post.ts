/** Where a relay process stands: alone, or as one of several workers behind a supervisor. */
import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import type { DelivererOptions } from '../deliver/deliverer.ts';
import { openSqliteStore } from '../queue/sqlite.ts';
import type { Recovered, Store } from '../queue/store.ts';
import type { ReceiverOptions } from '../receive/server.ts';
import { Spool } from '../receive/spool.ts';

/** Below the state folder: messages that are being received and are too large for memory. */
const SPOOL = 'incoming';

/** What one of several has and does for the others' sake. */
export interface Colleagues {
  readonly permits: NonNullable<DelivererOptions['permits']>;
  readonly supervised: NonNullable<ReceiverOptions['supervised']>;
  /** Waits for a turn to hand over one message to a destination that is limited; false when that would take long. */
  readonly begin: (
    domain: string,
    limits: Pick<Config['destinations'][number], 'connections' | 'rate'>,
  ) => Promise<boolean>;
  readonly end: (domain: string) => void;
}

export interface Post {
  /** Names the claims of this process: unique, and the same after a restart. */
  readonly owner: string;
  readonly spoolDir: string;
  /** Opens the queue, and puts right what the last life of this process has left. */
  readonly openStore: () => Promise<Store>;
  readonly recover: (store: Store) => Promise<Recovered>;
  /** It looks after what only one process of a relay has to: keys, reports, exceptions. */
  readonly doesChores: boolean;
  /** Null for a process that is alone. */
  readonly colleagues: Colleagues | null;
}

/** One process with everything in it. It takes over from workers that were there before. */
export function alone({ hostname, state }: Config): Post {
  return {
    owner: hostname,
    spoolDir: join(state, SPOOL),
    openStore: () => openSqliteStore({ folder: state, mode: 'relay' }),
    recover: (store) => store.recover(hostname),
    doesChores: true,
    colleagues: null,
  };
}

/**
 * One worker. The first one of a relay finds nobody at work: it does what has to be done once, such as bringing the
 * schema up to date. All others find the queue in order and in use.
 */
export function oneOfSeveral(
  { hostname, state }: Config,
  number: number,
  isFirst: boolean,
  colleagues: Colleagues,
): Post {
  const owner = workerName(hostname, number);
  return {
    owner,
    spoolDir: join(state, SPOOL, String(number)),
    openStore: () => openSqliteStore({ folder: state, mode: isFirst ? 'relay' : 'visitor' }),
    recover: async (store) => {
      if (isFirst) await new Spool(join(state, SPOOL)).clear();
      const left = isFirst ? await store.recover(hostname) : { leases: 0, orphans: 0 };
      const own = await store.join(owner);
      return { leases: left.leases + own.leases, orphans: left.orphans };
    },
    doesChores: number === 1,
    colleagues,
  };
}

/** The owner name of a worker's claims. */
export function workerName(hostname: string, number: number): string {
  return `${hostname}/${String(number)}`;
}
