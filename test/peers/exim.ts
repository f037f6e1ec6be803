/** Exim, the Debian package, installed or unpacked by setup.sh, in a folder of its own: any, and one as a receiving host. */
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Identity } from '../../lab/certificates.ts';
import { userNamed } from './postfix.ts';
import { startDaemon, untilAnswers } from './support.ts';

const UNPACKED = '/var/cache/dane-relay/exim/usr/sbin/exim4';
export const EXIM = existsSync('/usr/sbin/exim4') ? '/usr/sbin/exim4' : UNPACKED;

export interface Exim {
  /** Every message that was delivered, as Exim wrote it, line ends as in files. */
  readonly mailbox: () => Promise<readonly Buffer[]>;
  readonly log: () => Promise<string>;
  readonly stop: () => Promise<void>;
}

interface EximOptions {
  readonly dir: string;
  readonly address: string;
  readonly port: number;
  readonly domain: string;
  readonly identity: Identity;
}

/** Resolves once it greets. May be called again with the same folder after it was stopped. */
export async function startExim({ domain, ...options }: EximOptions): Promise<Exim> {
  const mail = join(options.dir, 'mail', 'new');
  const { log, stop } = await runExim({
    ...options,
    folders: [join(options.dir, 'mail'), mail],
    configuration: (own) => `${own}\n${receiving(options.dir, domain)}`,
  });
  return {
    mailbox: async () => Promise.all((await readdir(mail)).map((name) => readFile(join(mail, name)))),
    log,
    stop,
  };
}

interface RunOptions {
  readonly dir: string;
  readonly address: string;
  readonly port: number;
  readonly identity: Identity;
  /** Folders that it may write to, beside its spool and its log. */
  readonly folders?: readonly string[];
  /** The whole configuration, beginning with what keeps Exim in its folder. */
  readonly configuration: (own: string) => string;
  /** Arguments beyond the configuration; a daemon in the foreground by default. */
  readonly words?: readonly string[];
  /** A command that becomes Exim, in other surroundings: `['unshare', '--mount']`. */
  readonly by?: readonly string[];
}

/** Starts Exim with a configuration of one's own. Resolves once it greets. */
export async function runExim({
  dir,
  address,
  port,
  identity,
  folders = [],
  configuration,
  words = ['-bdf'],
  by = [],
}: RunOptions): Promise<Pick<Exim, 'log' | 'stop'>> {
  const { uid, gid } = await userNamed('Debian-exim');
  for (const folder of [dir, join(dir, 'spool'), join(dir, 'log'), ...folders]) {
    await mkdir(folder, { recursive: true });
    await chown(folder, uid, gid);
  }
  await chmod(dir, 0o755);
  const [cert, key] = [join(dir, 'host.pem'), join(dir, 'host.key')];
  await writeFile(cert, identity.chain);
  await writeFile(key, identity.key, { mode: 0o600 });
  await chown(key, uid, gid);
  const config = join(dir, 'exim.conf');
  await writeFile(config, configuration(ownFolder({ dir, cert, key, listen: `[${address}]:${port}` })));

  const daemon = startDaemon([...by, EXIM, '-C', config, ...words]);
  const log = async (): Promise<string> => {
    const names = await readdir(join(dir, 'log'));
    const texts = await Promise.all(names.map((name) => readFile(join(dir, 'log', name), 'utf8')));
    return [daemon.output(), ...texts].join('\n');
  };
  try {
    await untilAnswers(address, port, daemon.output, daemon.gone);
  } catch (error) {
    await daemon.stop();
    throw new Error(`Exim does not start: ${await log()}`, { cause: error });
  }
  return { log, stop: daemon.stop };
}

function ownFolder({ dir, cert, key, listen }: Record<'dir' | 'cert' | 'key' | 'listen', string>): string {
  return `local_interfaces = <; ${listen}
exim_path = ${EXIM}
spool_directory = ${dir}/spool
log_file_path = ${dir}/log/%slog
pid_file_path = ${dir}/exim.pid
# Everything runs as Exim's own user, so that nothing has to be setuid root.
deliver_drop_privilege = true
tls_advertise_hosts = *
tls_certificate = ${cert}
tls_privatekey = ${key}
host_lookup =
rfc1413_hosts =
chunking_advertise_hosts =
dns_ipv4_lookup = *
keep_environment =
log_selector = +tls_cipher +tls_sni`;
}

function receiving(dir: string, domain: string): string {
  return `primary_hostname = mx.${domain}
domainlist ours = ${domain}
acl_smtp_rcpt = acl_rcpt
begin acl
acl_rcpt:
  accept domains = +ours
  deny
begin routers
box:
  driver = accept
  transport = folder
begin transports
folder:
  driver = appendfile
  directory = ${dir}/mail
  maildir_format
  user = Debian-exim
  group = Debian-exim
  create_directory = true
begin retry
* * F,1h,1m
begin rewrite
begin authenticators
`;
}
