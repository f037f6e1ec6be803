/**
 * Two verifiers of DKIM that know nothing of ours: mailauth, and dkimpy from Debian's package python3-dkim. Each tells
 * which signatures of a message hold, given what DNS would answer.
 */
import { execFile } from 'node:child_process';
import { dkimVerify } from 'mailauth/lib/dkim/verify.js';

export interface Signed {
  /** Whole message. */
  readonly message: Buffer;
  /** Texts of the key records by their names, `s1._domainkey.example.nl`. */
  readonly records: Readonly<Record<string, string>>;
}

/** For each signature from top to bottom: `rsa-sha256 example.nl/s1 pass`. */
export type Findings = readonly string[];

export async function byMailauth({ message, records }: Signed): Promise<Findings> {
  const resolver = async (name: string): Promise<string[][]> => {
    const text = records[name];
    if (text === undefined) throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' });
    return [[text]];
  };
  const { results } = await dkimVerify(message, { resolver });
  const signatures = results.filter(({ status }) => status.result !== 'none');
  return signatures.map(
    ({ algo, signingDomain, selector, status }) =>
      `${algo} ${signingDomain}/${selector} ${status.result}${status.result === 'pass' ? '' : ` ${status.comment}`}`,
  );
}

const DKIMPY = `
import base64, json, sys, warnings
warnings.simplefilter('ignore')
import dkim
out = []
for line in sys.stdin:
    case = json.loads(line)
    message = base64.b64decode(case['message'])
    dns = lambda name, timeout=5: case['records'].get((name.decode() if isinstance(name, bytes) else name).rstrip('.'), '').encode()
    found = []
    for index in range(case['signatures']):
        verifier = None
        try:
            verifier = dkim.DKIM(message)
            verdict = 'pass' if verifier.verify(idx=index, dnsfunc=dns) else 'fail'
        except Exception as error:
            verdict = 'fail %s' % error
        field = verifier.signature_fields if verifier else {}
        text = lambda tag: field.get(tag, b'').decode()
        found.append('%s %s/%s %s' % (text(b'a'), text(b'd'), text(b's'), verdict))
    out.append(found)
print(json.dumps(out))
`;

/** All in one run of Python, which takes longer to start than to verify. */
export function byDkimpy(cases: readonly (Signed & { readonly signatures: number })[]): Promise<readonly Findings[]> {
  return new Promise((resolve, reject) => {
    const child = execFile('/usr/bin/python3', ['-c', DKIMPY], { maxBuffer: 64e6 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${error.message}\n${stderr}`));
      else resolve(JSON.parse(stdout) as Findings[]);
    });
    for (const { message, ...rest } of cases) {
      child.stdin?.write(`${JSON.stringify({ ...rest, message: message.toString('base64') })}\n`);
    }
    child.stdin?.end();
  });
}
