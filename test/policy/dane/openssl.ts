/**
 * The second opinion: `openssl s_client -dane_*` against `openssl s_server`, both real, on loopback. One server serves
 * one chain; each set of records is one client.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Certificate, NOW, pem } from './pki.ts';

export type Opinion =
  | { readonly kind: 'pass'; readonly usage: number; readonly depth: number }
  | { readonly kind: 'fail'; readonly why: string }
  /** No record could be used, so there was nothing to verify by. */
  | { readonly kind: 'unusable' };

export type Ask = (records: readonly string[], name: string, at?: number) => Promise<Opinion>;

const NO_STORE = ['-no-CAfile', '-no-CApath', '-no-CAstore'];

/** Serves `chain` (leaf first) as long as `use` runs. */
export async function withServer<Result>(
  chain: readonly [Certificate, ...Certificate[]],
  use: (ask: Ask) => Promise<Result>,
): Promise<Result> {
  const folder = mkdtempSync(join(tmpdir(), 'dane-oracle-'));
  const [leaf, ...others] = chain;
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const key = leaf.keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const rest =
    others.length > 0
      ? ['-cert_chain', file('rest.pem', others.map(({ der }) => pem('CERTIFICATE', der)).join(''))]
      : [];
  const server = spawn(
    'openssl',
    [
      ...['s_server', '-accept', '127.0.0.1:0', ...NO_STORE, '-cipher', 'DEFAULT@SECLEVEL=0'],
      ...['-cert', file('leaf.pem', pem('CERTIFICATE', leaf.der)), '-key', file('key.pem', key), ...rest],
    ],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  );
  const ended = once(server, 'exit');
  try {
    const port = await portOf(server);
    return await use((records, name, at = NOW) => ask(port, records, name, at));
  } finally {
    server.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  }
}

async function portOf(server: ReturnType<typeof spawn>): Promise<number> {
  let said = '';
  server.stderr?.on('data', (text) => {
    said += text;
  });
  for await (const text of server.stdout ?? []) {
    said += text;
    const port = /^ACCEPT .*:(\d+)$/m.exec(said)?.[1];
    if (port === undefined) continue;
    server.stdout?.resume();
    return Number(port);
  }
  throw new Error(`openssl s_server did not start: ${said}`);
}

function ask(port: number, records: readonly string[], name: string, at: number): Promise<Opinion> {
  const rrset = records.flatMap((record) => ['-dane_tlsa_rrdata', record]);
  const options = [
    ...['s_client', '-connect', `127.0.0.1:${port}`, '-brief', ...NO_STORE],
    ...['-dane_tlsa_domain', name, '-dane_ee_no_namechecks', '-attime', String(Math.floor(at / 1000)), ...rrset],
  ];
  return new Promise((resolve, reject) => {
    const client = execFile('openssl', options, { timeout: 120_000 }, (_error, stdout, stderr) => {
      const said = `${stdout}${stderr}`;
      const match = /^DANE TLSA (\d) .* at depth (\d+)$/m.exec(said);
      const error = /^Verification error: (.*)$/m.exec(said)?.[1];
      if (/Failed to import any TLSA records/.test(said)) resolve({ kind: 'unusable' });
      else if (error !== undefined) resolve({ kind: 'fail', why: error });
      else if (/^Verification: OK$/m.test(said) && match) {
        resolve({ kind: 'pass', usage: Number(match[1]), depth: Number(match[2]) });
      } else reject(new Error(`openssl s_client said something unexpected: ${said}`));
    });
    client.stdin?.end();
  });
}
