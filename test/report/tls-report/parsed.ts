/**
 * A report as somebody else reads it: Python's mail parser, gzip and JSON, and the rules of RFC 8460 §4.4 written down
 * again as a list of keys with what each may hold. None of our own code is used.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export interface ParsedMail {
  readonly headers: Readonly<Record<string, string>>;
  readonly defects: readonly string[];
  readonly type: string;
  readonly reportType: string;
  readonly parts: readonly string[];
  readonly filename: string;
  readonly text: string;
  /** The report, and what is wrong with it by the rules. */
  readonly report: Readonly<Record<string, unknown>>;
  readonly mistakes: readonly string[];
}

const RULES = `
import re, datetime, ipaddress, json, gzip, sys, email, email.policy
TIME = r'\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(Z|[+-]\\d\\d:\\d\\d)'
RESULTS = ['starttls-not-supported','certificate-host-mismatch','certificate-expired','certificate-not-trusted',
  'validation-failure','tlsa-invalid','dnssec-invalid','dane-required','sts-policy-fetch-error','sts-policy-invalid',
  'sts-webpki-invalid']
def ip(x):
  try: ipaddress.ip_address(x); return True
  except ValueError: return False
text = lambda x: isinstance(x, str) and x != ''
count = lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= 0
domain = lambda x: text(x) and re.fullmatch(r'[a-z0-9_.-]+', x) is not None
texts = lambda x: isinstance(x, list) and all(text(y) for y in x)
time = lambda x: text(x) and re.fullmatch(TIME, x) is not None
def keys(x, where, required, optional, out):
  if not isinstance(x, dict): out.append(where + ': no object'); return
  for k in required:
    if k not in x: out.append(where + ': lacks ' + k)
  for k, v in x.items():
    rule = required.get(k) or optional.get(k)
    if rule is None: out.append(where + ': unknown ' + k)
    elif not rule(v): out.append(where + ': wrong ' + k)
def check(r):
  out = []
  isobj = lambda x: isinstance(x, dict)
  islist = lambda x: isinstance(x, list)
  keys(r, 'report', {'organization-name': text, 'date-range': isobj, 'contact-info': text, 'report-id': text, 'policies': islist}, {}, out)
  keys(r['date-range'], 'date-range', {'start-datetime': time, 'end-datetime': time}, {}, out)
  for p in r['policies']:
    keys(p, 'policies[]', {'policy': isobj, 'summary': isobj}, {'failure-details': islist}, out)
    keys(p['policy'], 'policy', {'policy-type': lambda x: x in ['tlsa','sts','no-policy-found'], 'policy-domain': domain}, {'policy-string': texts, 'mx-host': texts}, out)
    keys(p['summary'], 'summary', {'total-successful-session-count': count, 'total-failure-session-count': count}, {}, out)
    for f in p.get('failure-details', []):
      keys(f, 'failure-details[]', {'result-type': lambda x: x in RESULTS, 'failed-session-count': count},
        {'sending-mta-ip': ip, 'receiving-mx-hostname': domain, 'receiving-mx-helo': text, 'receiving-ip': ip,
         'additional-information': text, 'failure-reason-code': text}, out)
    if sum(f['failed-session-count'] for f in p.get('failure-details', [])) != p['summary']['total-failure-session-count']:
      out.append('policies[]: the details do not add up')
  return out
`;

const MAIL = `
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTP)
parts = list(m.iter_parts())
gz = parts[-1].get_payload(decode=True)
r = json.loads(gzip.decompress(gz))
print(json.dumps({'headers': {k.lower(): str(v) for k, v in m.items()}, 'type': m.get_content_type(),
  'reportType': m['content-type'].params.get('report-type', ''),
  'defects': [str(d) for p in [m, *parts] for d in p.defects], 'parts': [p.get_content_type() for p in parts],
  'filename': parts[-1].get_filename() or '', 'text': parts[0].get_content(), 'report': r, 'mistakes': check(r)}))
`;

const JSON_ONLY = `
raw = sys.stdin.buffer.read()
r = json.loads(gzip.decompress(raw) if raw[:2] == b'\\x1f\\x8b' else raw)
print(json.dumps({'report': r, 'mistakes': check(r)}))
`;

export function parseMail(octets: Buffer): Promise<ParsedMail> {
  return python<ParsedMail>(RULES + MAIL, octets);
}

/** @param octets the JSON, compressed or not */
export function parseReport(octets: Buffer | string): Promise<Pick<ParsedMail, 'report' | 'mistakes'>> {
  return python(RULES + JSON_ONLY, octets);
}

async function python<Result>(script: string, input: Buffer | string): Promise<Result> {
  const child = promisify(execFile)('python3', ['-c', script], { maxBuffer: 16 * 1024 * 1024 });
  child.child.stdin?.end(input);
  return JSON.parse((await child).stdout) as Result;
}
