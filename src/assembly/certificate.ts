/** Where the relay's own certificate is, or is to be made. */
import type { Config } from '../config/config.ts';
import type { CertificatePlace } from '../receive/own-certificate.ts';

export function certificatePlace({ certificate, state, hostname }: Config): CertificatePlace {
  return { certPath: certificate.cert, keyPath: certificate.key, dir: state, hostname };
}
