/** The far side of link.test.ts, in a process of its own. */
import { writeSync } from 'node:fs';
import { createLink, type Link } from '../../src/shared/link.ts';

/** Where Node has put the channel: the first handle after those of the standard streams. */
const CHANNEL = 3;

const link: Link = createLink((packet) => process.send?.(packet), {
  echo: (value: unknown) => value,
  never: () => new Promise(() => undefined),
  /** Writes the beginning of a packet, as much as the pipe takes, and is gone. */
  dieSaying: (octets: number) => {
    writeSync(CHANNEL, `[{"kind":"answer","id":3,"value":"${'x'.repeat(octets)}`);
    process.kill(process.pid, 'SIGKILL');
  },
});

process.on('message', link.hear);
process.on('disconnect', () => process.exit(0));
