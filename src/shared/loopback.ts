import { isIPv4, isIPv6 } from 'node:net';

/** Whether an address is of this machine only, so that nobody on the way can set the AD bit (RFC 6840 §5.8). */
export function isLoopback(address: string): boolean {
  if (isIPv4(address)) return address.startsWith('127.');
  if (!isIPv6(address) || address.includes('%')) return false;
  const host = new URL(`http://[${address}]`).hostname;
  return host === '[::1]' || /^\[::ffff:7f[0-9a-f]{2}:/.test(host);
}
