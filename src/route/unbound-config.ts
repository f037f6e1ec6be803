/**
 * The configuration of the Unbound that the relay runs for itself: small, validating, for this machine alone.
 *
 * What it must never have: permissive mode, answers past their time, forwarders that validate in its place. What the
 * operator adds (internal zones, forwarders) comes last and by `include`.
 */

export interface UnboundSettings {
  /** Folder of its own, absolute. */
  readonly dir: string;
  /** Port on 127.0.0.1. */
  readonly port: number;
  /** Trust anchor that it keeps up to date by itself (RFC 5011); absolute. */
  readonly anchorFile: string;
  readonly ipv6: boolean;
  /** Configuration file of the operator; absolute. */
  readonly include?: string;
}

/** @throws TypeError for a path that cannot stand in a configuration file */
export function unboundConfig({ dir, port, anchorFile, ipv6, include }: UnboundSettings): string {
  return `# Written by dane-relay at every start; what you change here is lost. Use the include file for your own zones.
server:
  directory: ${quoted(dir)}
  # It runs as whoever runs the relay, in the foreground, and says what it has to say on stderr.
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  logfile: ""
  verbosity: 1
  num-threads: 1

  interface: 127.0.0.1@${String(port)}
  access-control: 0.0.0.0/0 refuse
  access-control: ::/0 refuse
  access-control: 127.0.0.0/8 allow
  # Two processes must never share the port: half of the answers would come from somebody else.
  so-reuseport: no
  do-ip6: ${ipv6 ? 'yes' : 'no'}

  module-config: "validator iterator"
  auto-trust-anchor-file: ${quoted(anchorFile)}
  val-permissive-mode: no
  ignore-cd-flag: yes
  val-clean-additional: yes
  aggressive-nsec: yes
  ede: yes
  serve-expired: no

  qname-minimisation: yes
  harden-glue: yes
  harden-dnssec-stripped: yes
  harden-below-nxdomain: yes
  harden-large-queries: yes
  harden-short-bufsize: yes
  unwanted-reply-threshold: 10000000
  edns-buffer-size: 1232
  hide-identity: yes
  hide-version: yes
  minimal-responses: yes

  # No name on the internet has its mail host here. Private networks are left alone: operators have mail hosts there.
  private-address: 0.0.0.0/8
  private-address: 127.0.0.0/8
  private-address: 169.254.0.0/16
  private-address: ::/128
  private-address: ::1/128
  private-address: ::ffff:0:0/96
  private-address: fe80::/10
remote-control:
  control-enable: no
${include === undefined ? '' : `include: ${quoted(include)}\n`}`;
}

function quoted(path: string): string {
  if (/["\n\r]/.test(path)) throw new TypeError(`this path cannot stand in a configuration of unbound: ${path}`);
  return `"${path}"`;
}
