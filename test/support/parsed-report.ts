/** A mail report as Python's own parser understands it, so that we do not judge our reports by our own idea of them. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export interface ParsedReport {
  /** By name in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** What the parser complains of, in the whole and in each part. */
  readonly defects: readonly string[];
  readonly parts: readonly { readonly type: string; readonly text: string }[];
}

const SCRIPT = `
import sys, json, email, email.policy
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTPUTF8)
def text(p):
  if p.get_content_maintype() == 'message': return '\\n'.join(str(x) for x in p.get_payload())
  return p.get_payload(decode=True).decode(p.get_content_charset('utf-8'))
parts = list(m.iter_parts())
print(json.dumps({'headers': {k.lower(): str(v) for k, v in m.items()}, 'defects': [str(d) for p in [m, *parts] for d in p.defects],
  'parts': [{'type': p.get_content_type(), 'text': text(p)} for p in parts]}))`;

export async function parseReport(octets: Buffer): Promise<ParsedReport> {
  const child = promisify(execFile)('python3', ['-c', SCRIPT]);
  child.child.stdin?.end(octets);
  const { parts, ...rest }: ParsedReport = JSON.parse((await child).stdout);
  return { ...rest, parts: parts.map(({ type, text }) => ({ type, text: text.replaceAll('\r\n', '\n') })) };
}
