/** Files with certificates, and a mail host that shows them, for the tests of `tlsa` and `pin`. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { type Certificate, ca, leaf, pem } from '../policy/dane/pki.ts';
import { type HostOptions, type SmtpHost, startSmtpHost } from '../support/smtp-host.ts';

export const root = ca('Root', null);
export const mx = leaf('mx.example.nl', root);

const folder = mkdtempSync(join(tmpdir(), 'dane-certificates-'));
const hosts: SmtpHost[] = [];
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await Promise.all(hosts.map((host) => host.close()));
});

let files = 0;
export function file(content: string | Buffer): string {
  const path = join(folder, `${files++}.pem`);
  writeFileSync(path, content);
  return path;
}

export const block = ({ der }: Certificate): string => pem('CERTIFICATE', der);

/** A mail host that presents mx and root, with something changed. */
export async function mailHost(change: HostOptions = {}): Promise<SmtpHost> {
  const key = mx.keys.privateKey.export({ type: 'pkcs8', format: 'pem' });
  const host = await startSmtpHost({ tls: { cert: block(mx) + block(root), key }, ...change });
  hosts.push(host);
  return host;
}
