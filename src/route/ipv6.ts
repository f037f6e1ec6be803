/** Whether this machine can reach others over IPv6 at all. */
import { networkInterfaces } from 'node:os';

/** True when an interface has an IPv6 address that is neither loopback nor link-local nor for one site only. */
export function machineHasIpv6(): boolean {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .some(({ family, internal, address }) => family === 'IPv6' && !internal && /^[23]/.test(address));
}
