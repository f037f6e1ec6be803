/** `tlsa`: prints the TLSA records that would fit the certificates in a file or of a server, ready for a zone file. */
import { createHash } from 'node:crypto';
import { Command } from 'commander';
import { toDomain } from '../shared/domain-name.ts';
import { spkiOf } from '../shared/spki.ts';
import { certificatesIn } from './certificate-file.ts';
import { readSource, sayMissing } from './certificate-source.ts';

interface Options {
  readonly usage: string;
  readonly selector: string;
  readonly matching: string;
  readonly name?: string;
  readonly port: string;
  readonly json?: boolean;
}

interface Association {
  readonly text: string;
  /** Place of the certificate in what was read or sent, 0 the first. */
  readonly depth: number;
}

export function tlsaCommand(): Command {
  const command = new Command('tlsa')
    .description('print TLSA records for a certificate')
    .argument('<PEM|HOST:PORT>', 'a file, or a server to dial')
    .option('--usage <N>', '3: the certificate of the server itself; 2: those that issued it', '3')
    .option('--selector <N>', '1: the public key; 0: the whole certificate', '1')
    .option('--matching <N>', '1: SHA-256; 2: SHA-512; 0: in full', '1')
    .option('--name <HOST>', 'host name of the record; default: the host that is dialled')
    .option('--port <N>', 'port of the record', '25')
    .option('--json', 'print one JSON document');
  return command.action(async (argument: string, options: Options) => {
    const usage = (text: string): never => command.error(`error: ${text}`, { exitCode: 2 });
    const numbers = [options.usage, options.selector, options.matching];
    if (!/^[23]$/.test(options.usage)) return usage('--usage is 3 or 2: nothing else counts for SMTP');
    if (!/^[01]$/.test(options.selector)) return usage('--selector is 1 or 0');
    if (!/^[012]$/.test(options.matching)) return usage('--matching is 1, 2 or 0');
    const name = options.name === undefined ? null : toDomain(options.name);
    if (options.name !== undefined && name === null) return usage(`--name "${options.name}" is no host name`);
    const portGiven = command.getOptionValueSource('port') === 'cli';
    if (!/^\d{1,5}$/.test(options.port) || Number(options.port) > 65_535) return usage('--port is a number to 65535');

    const source = await readSource(argument);
    if (source === null) return;
    const certificates = certificatesIn(source.blocks);
    const associations: Association[] = [];
    for (const [depth, certificate] of chosen(certificates, options.usage)) {
      const data = certificate && associationData(certificate, options);
      if (data === null) return void sayMissing(`${argument}: number ${depth + 1} is no certificate`);
      associations.push({ text: `${numbers.join(' ')} ${data.toString('hex')}`, depth });
    }
    if (associations.length === 0) {
      return void sayMissing(
        certificates.length === 0
          ? `${argument}: there is no certificate`
          : `${argument}: there is no issuing certificate, which --usage 2 asks for`,
      );
    }
    const { endpoint } = source;
    const host = name ?? (endpoint && toDomain(endpoint.host));
    const port = endpoint && !portGiven ? endpoint.port : Number(options.port);
    const owner = host === null ? null : `_${port}._tcp.${host}`;
    const lines = associations.map(({ text }) => (owner === null ? text : `${owner}. IN TLSA ${text}`));
    const answer = { name: owner, records: associations };
    process.stdout.write(options.json ? `${JSON.stringify(answer, null, 2)}\n` : `${lines.join('\n')}\n`);
    process.exitCode = 0;
  });
}

/** For a trust anchor those above the first; a file with one certificate is taken to be that of the anchor. */
function chosen(certificates: readonly (Buffer | null)[], usage: string): readonly [number, Buffer | null][] {
  const all = [...certificates.entries()];
  if (usage === '3') return all.slice(0, 1);
  return all.length === 1 ? all : all.slice(1);
}

function associationData(certificate: Buffer, { selector, matching }: Options): Buffer | null {
  const spki = spkiOf(certificate);
  if (spki === null) return null;
  const selected = selector === '1' ? spki : certificate;
  if (matching === '0') return selected;
  return createHash(matching === '1' ? 'sha256' : 'sha512')
    .update(selected)
    .digest();
}
