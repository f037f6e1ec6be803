/** For programs that know no resolver but the one of the system. */

/** Words that run a command where /etc/resolv.conf is this file, and nowhere else. */
export function withResolver(resolvConf: string): readonly string[] {
  return ['unshare', '--mount', 'sh', '-c', 'mount --bind "$0" /etc/resolv.conf && exec "$@"', resolvConf];
}
