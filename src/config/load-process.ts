/** A process that reads the configuration once, tells what it found, and ends. Without its parent it ends as well. */
import { type LoadRequest, loadConfig } from './load.ts';

process.once('message', (request: LoadRequest) => {
  process.send?.(loadConfig(request), undefined, undefined, () => process.disconnect());
});
