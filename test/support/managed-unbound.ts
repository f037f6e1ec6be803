/** A process that does nothing but run a managed Unbound, to be killed by a test. Prints `{ pid, port }` once it answers. */
import { startUnbound } from '../../src/route/unbound.ts';

const [dir = '', anchor = '', include = ''] = process.argv.slice(2);
const say = (): void => undefined;
const unbound = await startUnbound({ dir, anchor, include, log: { debug: say, info: say, warn: say, error: say } });
console.log(JSON.stringify({ pid: unbound.pid(), port: unbound.server.port }));
setInterval(say, 60_000);
