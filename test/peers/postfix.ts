/** Postfix as the Debian package installs it, in a folder of its own, under its own users, in the foreground. */
import { execFile } from 'node:child_process';
import { chmod, chown, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startDaemon, untilAnswers } from './support.ts';

const run = promisify(execFile);
export const POSTFIX = '/usr/sbin/postfix';
const MASTER = '/usr/lib/postfix/sbin/master';

export interface Postfix {
  readonly address: string;
  readonly port: number;
  readonly log: () => Promise<string>;
  readonly stop: () => Promise<void>;
}

interface PostfixOptions {
  /** Folder that everybody may look into; all of Postfix's own files go below it. */
  readonly dir: string;
  readonly address: string;
  readonly port: number;
  /** Lines of main.cf beyond what keeps it in its folder. */
  readonly settings: readonly string[];
  /** A command that becomes Postfix, in other surroundings: `['unshare', '--mount']`. */
  readonly by?: readonly string[];
}

/** Resolves once it greets. May be called again with the same folder after it was stopped. */
export async function startPostfix({ dir, address, port, settings, by = [] }: PostfixOptions): Promise<Postfix> {
  const [config, queue, data, log] = [join(dir, 'etc'), join(dir, 'queue'), join(dir, 'data'), join(dir, 'mail.log')];
  for (const folder of [dir, config, queue, data]) await mkdir(folder, { recursive: true });
  await chmod(dir, 0o755);
  const { uid, gid } = await userNamed('postfix');
  await chown(data, uid, gid);
  await writeFile(join(config, 'main.cf'), [...own({ queue, data, log }), ...settings, ''].join('\n'));
  await writeFile(join(config, 'master.cf'), services(`${address}:${port}`));
  const journal = (): Promise<string> => readFile(log, 'utf8').catch(() => '');
  await run(POSTFIX, ['-c', config, 'check']).catch(async (error: unknown) => {
    throw new Error(`Postfix finds fault with its folder: ${await journal()}`, { cause: error });
  });

  const daemon = startDaemon([...by, MASTER, '-c', config, '-d']);
  const words = async (): Promise<string> => `${daemon.output()}\n${await journal()}`;
  try {
    await untilAnswers(address, port, daemon.output, daemon.gone);
  } catch (error) {
    await daemon.stop();
    throw new Error(`Postfix does not start: ${await words()}`, { cause: error });
  }
  return { address, port, log: words, stop: daemon.stop };
}

function own({ queue, data, log }: Record<'queue' | 'data' | 'log', string>): string[] {
  return [
    'compatibility_level = 3.6',
    `queue_directory = ${queue}`,
    `data_directory = ${data}`,
    'command_directory = /usr/sbin',
    'daemon_directory = /usr/lib/postfix/sbin',
    `maillog_file = ${log}`,
    'maillog_file_prefixes = /',
    // Postfix knows only 127.0.0.1 of all loopback addresses; master.cf says where it really listens.
    'inet_interfaces = loopback-only',
    'inet_protocols = ipv4',
    'mynetworks = 127.0.0.0/8',
    'mydestination =',
    // Headers are left as they come, from neighbours too.
    'local_header_rewrite_clients =',
    'alias_maps =',
    'alias_database =',
    'local_recipient_maps =',
    'smtputf8_enable = no',
  ];
}

function services(listen: string): string {
  return `${listen} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsproxy unix - - n - 0 tlsproxy
postlog unix-dgram n - n - 1 postlogd
`;
}

/** Ids of a user of the system. */
export async function userNamed(name: string): Promise<{ readonly uid: number; readonly gid: number }> {
  const { stdout } = await run('getent', ['passwd', name]);
  const [, , uid, gid] = stdout.split(':');
  return { uid: Number(uid), gid: Number(gid) };
}
