/** Where `tlsa` and `pin` get their certificates: `HOST:PORT` is dialled, everything else is a file. */
import { existsSync } from 'node:fs';
import type { PemBlock } from './certificate-file.ts';
import { readBlocks } from './certificate-file.ts';
import { type Endpoint, fetchChain, parseEndpoint } from './dial.ts';

export interface Source {
  /** null for a file. */
  readonly endpoint: Endpoint | null;
  readonly blocks: readonly PemBlock[];
}

/** @returns null after saying on stderr what is missing; the exit status is then 3 */
export async function readSource(text: string): Promise<Source | null> {
  const endpoint = existsSync(text) ? null : parseEndpoint(text);
  try {
    if (endpoint === null) return { endpoint, blocks: readBlocks(text) };
    const chain = await fetchChain(endpoint);
    return { endpoint, blocks: chain.map((octets) => ({ label: 'CERTIFICATE', octets })) };
  } catch (error) {
    return sayMissing(`${text}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Says on stderr what is needed and not there; the exit status is then 3. */
export function sayMissing(what: string): null {
  process.stderr.write(`dane-relay: ${what.replace(/[\r\n]+/g, ' ')}\n`);
  process.exitCode = 3;
  return null;
}
