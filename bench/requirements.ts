/** What the harness needs of the machine. */

import { spawnSync } from 'node:child_process';
import { existsSync, statfsSync } from 'node:fs';
import { missingTools } from '../lab/lab.ts';
import { EXIM } from '../test/peers/exim.ts';
import { POSTFIX } from '../test/peers/postfix.ts';
import { groupsWork } from './group.ts';

/** As the kernel numbers file systems: one that lives in memory. */
const TMPFS = 0x01021994;

/** What is missing, each with what helps; empty when everything is there. */
export function missingFor({ peers, folder }: { readonly peers: boolean; readonly folder: string }): readonly string[] {
  const missing: string[] = [];
  const root = process.getuid?.() === 0;
  if (!root) missing.push('the rights of root (port 25, Postfix)');
  for (const tool of missingTools()) missing.push(`${tool} (./setup.sh --for bench)`);
  if (spawnSync('gcc', ['--version']).status !== 0) missing.push('gcc (Debian package gcc)');
  if (!existsSync('/usr/include/openssl/ssl.h')) missing.push("OpenSSL's headers (Debian package libssl-dev)");
  if (peers && !existsSync(POSTFIX)) missing.push('Postfix (Debian package postfix)');
  if (peers && !existsSync(EXIM)) missing.push('Exim (./setup.sh --for bench)');
  if (root && !groupsWork()) missing.push('a control group of its own (/sys/fs/cgroup must be writable)');
  if (root && spawnSync('unshare', ['--mount', 'true']).status !== 0)
    missing.push('mount namespaces (unshare --mount)');
  if (statfsSync(folder).type === TMPFS) {
    missing.push(
      `a folder on a disk: ${folder} is in memory, where nothing has to be flushed (--folder names another)`,
    );
  }
  return missing;
}
