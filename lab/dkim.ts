/**
 * DKIM as the lab sees it: keys for a domain that signs, and what a mail host makes of the signatures on its mail.
 *
 * The verifier is written from RFC 6376 and RFC 8463 alone and shares no code with the relay, so that it can disagree
 * with it. It knows what the mail of the lab needs: relaxed/relaxed, both algorithms, and no more.
 */
import { createHash, createPublicKey, generateKeyPair, type KeyObject, verify } from 'node:crypto';
import { Resolver } from 'node:dns/promises';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** A key of a signing domain. */
export interface DkimKey {
  readonly domain: string;
  readonly selector: string;
  /** File with the private key, PKCS #8 in PEM, for nobody else to read. */
  readonly key: string;
  /** Text of its record at `SELECTOR._domainkey.DOMAIN`. */
  readonly record: string;
}

/** One signature of a message and whether it holds. */
export interface DkimFinding {
  /** `a=`, `d=` and `s=` as they stand there. */
  readonly algorithm: string;
  readonly domain: string;
  readonly selector: string;
  /** Null when it holds; else why it does not. */
  readonly trouble: string | null;
}

const generate = promisify(generateKeyPair);
/** In front of the 32 octets of an Ed25519 key, to make a SubjectPublicKeyInfo of them (RFC 8410 §4). */
const ED25519_SPKI = Buffer.from('302a300506032b6570032100', 'hex');

/** Makes an RSA and an Ed25519 key for a domain (RFC 8463 §3) and writes them into a folder. */
export async function dkimKeysFor(domain: string, folder: string): Promise<readonly DkimKey[]> {
  const [rsa, ed25519] = await Promise.all([generate('rsa', { modulusLength: 2048 }), generate('ed25519')]);
  const written = async (selector: string, pair: { privateKey: KeyObject }, record: string): Promise<DkimKey> => {
    const key = join(folder, `${selector}.${domain}.pem`);
    await writeFile(key, pair.privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    return { domain, selector, key, record };
  };
  const spki = (key: KeyObject): Buffer => key.export({ type: 'spki', format: 'der' });
  return Promise.all([
    written('rsa', rsa, `v=DKIM1; k=rsa; p=${spki(rsa.publicKey).toString('base64')}`),
    written('ed', ed25519, `v=DKIM1; k=ed25519; p=${spki(ed25519.publicKey).subarray(-32).toString('base64')}`),
  ]);
}

/** What the relay's configuration says under `dkim` to sign with these keys. */
export function dkimSettings(keys: readonly DkimKey[]): readonly object[] {
  return keys.map(({ domain, selector, key }) => ({ domain, selector, key }));
}

/** Judges every signature of a message, from top to bottom, by the records that a resolver gives. */
export function judgeDkim(content: Buffer, resolver: string): Promise<readonly DkimFinding[]> {
  const dns = new Resolver({ timeout: 2_000, tries: 2 });
  dns.setServers([resolver]);
  const text = content.toString('latin1');
  const end = text.indexOf('\r\n\r\n');
  const fields = text.slice(0, end + 2).match(/[^\r\n].*\r\n(?:[ \t].*\r\n)*/g) ?? [];
  const body = text.slice(end + 4);
  const signatures = fields.filter((field) => /^dkim-signature:/i.test(field));
  return Promise.all(
    signatures.map(async (field) => {
      const tags = tagsOf(field.slice(field.indexOf(':') + 1));
      const [algorithm = '', domain = '', selector = ''] = ['a', 'd', 's'].map((name) => tags.get(name));
      const record = dns.resolveTxt(`${selector}._domainkey.${domain}`).then(
        ([strings = []]) => strings.join(''),
        () => null,
      );
      return { algorithm, domain, selector, trouble: troubleWith(field, tags, fields, body, await record) };
    }),
  );
}

/** `rsa-sha256 of office.test (s=rsa) holds`. */
export function findingInWords({ algorithm, domain, selector, trouble }: DkimFinding): string {
  return `${algorithm} of ${domain} (s=${selector}) ${trouble === null ? 'holds' : `does not hold: ${trouble}`}`;
}

type Tags = ReadonlyMap<string, string>;

function troubleWith(
  field: string,
  tags: Tags,
  fields: readonly string[],
  body: string,
  record: string | null,
): string | null {
  if (record === null) return 'DNS has no key for it';
  const of = (name: string): string => tags.get(name) ?? '';
  if (of('v') !== '1' || of('c') !== 'relaxed/relaxed' || tags.has('l'))
    return 'it is of another kind than the lab knows';
  const hash = createHash('sha256').update(relaxedBody(body), 'latin1').digest('base64');
  if (of('bh') !== hash) return 'the body was changed';

  // From the bottom up, each field once (RFC 6376 §5.4.2); a name without a field stands for nothing.
  const left = fields.toReversed();
  const lines = of('h')
    .split(':')
    .map((name) => {
      const at = left.findIndex((each) => nameOf(each) === name.toLowerCase());
      return at < 0 ? '' : `${relaxed(left.splice(at, 1)[0] ?? '')}\r\n`;
    });
  if (left.some((each) => nameOf(each) === 'from')) return 'it does not cover From';
  // Its own field without the signature comes last (RFC 6376 §3.7).
  const input = Buffer.from(`${lines.join('')}${relaxed(field.replace(/([;\s]b=)[^;]*/, '$1'))}`, 'latin1');
  const key = Buffer.from(tagsOf(record).get('p') ?? '', 'base64');
  const signature = Buffer.from(of('b'), 'base64');
  return isSigned(of('a'), input, key, signature) ? null : 'the header was changed, or another key signed it';
}

function isSigned(algorithm: string, input: Buffer, key: Buffer, signature: Buffer): boolean {
  const publicKey = (der: Buffer): KeyObject => createPublicKey({ key: der, format: 'der', type: 'spki' });
  try {
    if (algorithm === 'rsa-sha256') return verify('sha256', input, publicKey(key), signature);
    if (algorithm !== 'ed25519-sha256') return false;
    const digest = createHash('sha256').update(input).digest();
    return verify(null, digest, publicKey(Buffer.concat([ED25519_SPKI, key])), signature);
  } catch {
    // What is no key at all.
    return false;
  }
}

function nameOf(field: string): string {
  return field.slice(0, field.indexOf(':')).trim().toLowerCase();
}

/** RFC 6376 §3.4.2, without the CRLF at its end. */
function relaxed(field: string): string {
  const onOneLine = field.slice(field.indexOf(':') + 1).replace(/\r\n/g, '');
  return `${nameOf(field)}:${onOneLine.replace(/[ \t]+/g, ' ').replace(/^ | $/g, '')}`;
}

/** RFC 6376 §3.4.4. */
function relaxedBody(body: string): string {
  const lines = body.split('\r\n').map((line) => line.replace(/[ \t]+/g, ' ').replace(/ $/, ''));
  while (lines.at(-1) === '') lines.pop();
  return lines.map((line) => `${line}\r\n`).join('');
}

/** Names and values without any white space: none of those that count here has any inside. */
function tagsOf(list: string): Tags {
  const pairs = list
    .replace(/\s/g, '')
    .split(';')
    .filter((pair) => pair.includes('='));
  return new Map(pairs.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]));
}
