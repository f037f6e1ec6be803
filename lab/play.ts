/** `dane-relay lab`: the closed internet for people. Prints what is there and how to play, and obeys what is typed. */
import { createInterface } from 'node:readline';
import { pinOf } from './certificates.ts';
import { dkimSettings, findingInWords, judgeDkim } from './dkim.ts';
import { type Mail, MOODS, type Mood } from './host.ts';
import { type Lab, missingTools, startLab } from './lab.ts';
import { rulesFor } from './world.ts';

const HELP = [
  'Type here, and press Enter:',
  '  mail                       what has arrived, and how',
  '  mood HOST MOOD             change how a host behaves',
  '  certificate HOST           give a host another certificate (its TLSA records stay)',
  '  publish HOST               publish the 3 1 1 of the certificate that it has now',
  '  quit',
  `Moods: ${MOODS.join(', ')}`,
];

/** Resolves to the exit status when the user has ended it: 0, or 3 when the tools to start it are missing. */
export async function play({ port, json }: { readonly port: number | null; readonly json: boolean }): Promise<number> {
  const missing = missingTools();
  if (missing.length > 0) {
    process.stderr.write(`The lab needs ${missing.join(', ')}; "./setup.sh --for demo" installs what is missing.\n`);
    return 3;
  }
  const lab = await startLab(port === null ? {} : { port });
  try {
    process.stdout.write(json ? `${JSON.stringify(asJson(lab), null, 2)}\n` : `${inWords(lab).join('\n')}\n`);
    await obey(lab);
  } finally {
    await lab.stop();
  }
  return 0;
}

function asJson(lab: Lab): object {
  return {
    resolver: lab.resolver,
    anchorFile: lab.dns.anchorFile,
    port: lab.port,
    web: lab.web,
    dkim: lab.dkim,
    destinations: lab.world.map(({ domain, tells, dnssec, hosts, expect }) => ({
      domain,
      tells,
      dnssec,
      hosts: hosts.map(({ name, preference, mood }) => ({ name, preference, mood, address: lab.address(name) })),
      expect,
    })),
  };
}

function inWords(lab: Lab): string[] {
  const { world, port, resolver } = lab;
  const options = `--resolver ${resolver.address} --port ${port}`;
  const width = Math.max(...world.map(({ domain }) => domain.length));
  const END = { delivered: 'is delivered', deferred: 'waits', bounced: 'is returned' } as const;
  return [
    'A closed internet inside this machine. Nothing in it is reachable from outside, and nothing outside is asked.',
    '',
    ...world.flatMap(({ domain, tells, hosts, expect }) => [
      `${domain.padEnd(width)}  ${tells}`,
      `${' '.repeat(width)}  mail ${END[expect.event]} (${expect.code})${hosts
        .map(({ name }) => `; ${name} ${lab.address(name)}`)
        .join('')}`,
    ]),
    '',
    'In another terminal, ask what the relay would do with mail for any of them:',
    `  ./dane-relay explain dane-ee.test --connect ${options}`,
    `  ./dane-relay explain wrong-certificate.test --connect ${options}`,
    'Or let a relay of your own live in it, with this in its configuration:',
    `  resolver: ${JSON.stringify(resolver)}`,
    `  destinations: ${JSON.stringify(rulesFor((host) => pinOf(lab.identity(host))))}`,
    `  dkim: ${JSON.stringify(dkimSettings(lab.dkim))}`,
    `  delivery: { port: ${port}, ca: ${lab.web.ca}, mtaStsPort: ${lab.web.port} }`,
    '',
    ...HELP,
  ];
}

/** Reads lines until the user has had enough. Without a terminal or a pipe it waits for SIGINT or SIGTERM. */
async function obey(lab: Lab): Promise<void> {
  const lines = createInterface({ input: process.stdin });
  const ended = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
    lines.on('line', (line) => {
      const words = line.trim().split(/\s+/);
      if (words[0] === 'quit') return resolve();
      answer(lab, words).then(
        (text) => process.stderr.write(`${text}\n`),
        (error: unknown) => process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`),
      );
    });
    lines.once('close', () => {
      // End of input ends it for a person; in the background there was never any input.
      if (process.stdin.isTTY) resolve();
    });
  });
  // Signal handlers do not keep a process alive.
  const alive = setInterval(() => undefined, 1 << 30);
  await ended;
  clearInterval(alive);
  lines.close();
}

async function answer(lab: Lab, [verb = '', host = '', mood = '']: readonly string[]): Promise<string> {
  switch (verb) {
    case '':
      return '';
    case 'mail':
      return (await Promise.all(lab.mailboxes().map((mail) => describe(lab, mail)))).join('\n') || 'nothing yet';
    case 'mood':
      if (!isMood(mood)) return `moods: ${MOODS.join(', ')}`;
      await lab.setMood(host, mood);
      return `${host}: ${mood}`;
    case 'certificate':
      await lab.replaceCertificate(host);
      return `${host} has another certificate now`;
    case 'publish':
      await lab.publishTlsa(host);
      return `the key of ${host} is published`;
    default:
      return HELP.join('\n');
  }
}

async function describe({ resolver }: Lab, mail: Mail): Promise<string> {
  const { host, sender, recipients, tls, content } = mail;
  const how = tls ? tls.version : 'in the clear';
  const signatures = (await judgeDkim(content, resolver.address)).map((finding) => `\n  ${findingInWords(finding)}`);
  return `${host}: <${sender}> to ${recipients.join(', ')}, ${content.length} octets, ${how}${signatures.join('')}`;
}

function isMood(text: string): text is Mood {
  return MOODS.some((mood) => mood === text);
}
