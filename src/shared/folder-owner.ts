/** What root makes by hand in the state folder must be readable for the user that the relay runs as. */
import { chownSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/** Gives a file or folder to whoever owns the folder around it. Does nothing for anybody but root. @throws as `chown` */
export function giveToFolderOwner(path: string): void {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = statSync(dirname(path));
  chownSync(path, uid, gid);
}
