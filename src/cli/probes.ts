/** What `check` can try by itself: ports that can be opened, a state folder that can be written to. */
import { randomUUID } from 'node:crypto';
import { open, stat, unlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import type { CheckProbe, ProbeResult } from './check.ts';

/** The part of the configuration that these look at. */
interface Looked {
  readonly listen: readonly Place[];
  readonly admin: { readonly listen: Place };
  readonly state: string;
}

interface Place {
  readonly address: string;
  readonly port: number;
}

export const generalProbes: readonly CheckProbe<Looked>[] = [
  { name: 'ports', run: ({ listen, admin }) => portsFree([...listen, admin.listen]) },
  { name: 'state', run: ({ state }) => folderWritable(state) },
];

/** Opens every port and closes it again. A relay that runs already has them, which is told as such. */
async function portsFree(places: readonly Place[]): Promise<ProbeResult> {
  const troubles = (await Promise.all(places.map(tryPort))).filter((trouble) => trouble !== null);
  if (troubles.length > 0) return { ok: false, text: troubles.join('; ') };
  return { ok: true, text: `${places.map(placeText).join(', ')} can be opened` };
}

function tryPort(place: Place): Promise<string | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', ({ code = '' }: NodeJS.ErrnoException) => {
      resolve(`${placeText(place)} cannot be opened: ${PORT_TROUBLES[code] ?? code}`);
    });
    server.listen({ host: place.address, port: place.port, exclusive: true }, () => server.close(() => resolve(null)));
  });
}

const PORT_TROUBLES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something listens there already, perhaps the relay itself',
  EADDRNOTAVAIL: 'this machine has no such address',
  EACCES: 'permission denied; ports below 1024 need a privilege',
};

function placeText({ address, port }: Place): string {
  return `${address.includes(':') ? `[${address}]` : address}:${port}`;
}

/** Writes a file and removes it again; for a folder that is not there yet, in the nearest one above it. */
async function folderWritable(folder: string): Promise<ProbeResult> {
  try {
    const existing = await nearestFolder(folder);
    const path = join(existing, `.dane-relay-check-${randomUUID()}`);
    const file = await open(path, 'wx', 0o600);
    await file.close();
    await unlink(path);
    return { ok: true, text: existing === folder ? `${folder} can be written to` : `${folder} can be made` };
  } catch (error) {
    const { code = String(error) } = error as NodeJS.ErrnoException;
    return { ok: false, text: `${folder} cannot be written to: ${FOLDER_TROUBLES[code] ?? code}` };
  }
}

const FOLDER_TROUBLES: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the disk is full',
  ENOTDIR: 'it is, or is in, something that is no folder',
};

async function nearestFolder(folder: string): Promise<string> {
  try {
    if ((await stat(folder)).isDirectory()) return folder;
  } catch (error) {
    const above = dirname(folder);
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || above === folder) throw error;
    return nearestFolder(above);
  }
  throw Object.assign(new Error('no folder'), { code: 'ENOTDIR' });
}
