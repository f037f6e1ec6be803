/**
 * Every key of the configuration, once: its type, its default, its unit, and the sentence an operator reads.
 *
 * What is checked, config/relay.example.yaml, docs/configuration.md, the names of the environment variables and the
 * guesses at mistyped keys all come from here. Defaults are written as an operator would write them.
 */
import { z } from 'zod';
import * as check from './checks.ts';
import {
  address,
  clientName,
  displayName,
  dnsName,
  domainPattern,
  duration,
  durationOrNever,
  endpoint,
  filePath,
  hostName,
  loopbackEndpoint,
  mailAddress,
  moment,
  type Notation,
  network,
  pin,
  rate,
  selector,
  size,
  store,
  via,
  workers,
} from './notation.ts';

/** What people are told of a key. */
export interface Facts {
  /** What it is for, in one or more full sentences. */
  readonly says?: string;
  /** What may be written, to stand after "expected". */
  readonly expected?: string;
  /** What holds when it is left out, where that is no fixed value. */
  readonly unset?: string;
  /** A value worth showing where there is no default or the default is not telling. */
  readonly example?: unknown;
  /** True where it cannot stand beside the other keys of the example: there it is shown as a remark. */
  readonly aside?: true;
}

export const facts: z.core.$ZodRegistry<Facts> = z.registry<Facts>();

function key<Schema extends z.ZodType>(schema: Schema, told: Facts): Schema {
  facts.add(schema, { ...facts.get(schema), ...told });
  return schema;
}

function text<Value>({ expected, read }: Notation<Value>) {
  const schema = z.string().transform((written, context): Value => {
    const reading = read(written);
    if (reading.ok) return reading.value;
    context.addIssue({ code: 'custom', message: reading.message, params: { nearest: reading.nearest } });
    return z.NEVER;
  });
  return key(schema, { expected });
}

function number(least: number, most: number) {
  return key(z.int().min(least).max(most), { expected: `a whole number from ${least} to ${most}` });
}

function choice<const Values extends readonly [string, ...string[]]>(values: Values) {
  return key(z.enum(values), { expected: `${values.slice(0, -1).join(', ')} or ${values.at(-1)}` });
}

/** A list that must not be empty where it is given. */
function list<Element extends z.ZodType>(element: Element, expected: string) {
  return key(filled(z.array(element)), { expected });
}

/** Not with `min(1)`, which takes a section that has a key called "length" for a list. */
function filled<List extends z.ZodArray>(elements: List): List {
  return elements.refine(({ length }) => length > 0, { error: 'is an empty list' });
}

/** A check that also runs when single values are wrong, so that all mistakes are told at once. */
function together(look: check.Check) {
  return z.superRefine<unknown>(
    (value, context) =>
      look(value, (path, message, params = {}) => context.addIssue({ code: 'custom', path, message, params })),
    { when: () => true },
  );
}

const listener = z.strictObject({
  address: key(text(address), {
    says: 'Address to listen on. 0.0.0.0 and :: mean every address of this machine.',
    example: '127.0.0.1',
  }),
  port: key(number(0, 65_535), {
    says: 'Port to listen on; 0 takes any free one, which the log names.',
    example: 2525,
  }),
  tls: key(choice(['starttls', 'implicit']).prefault('starttls'), {
    says: 'Whether clients begin in the clear and turn to TLS (starttls), or begin with TLS at once (implicit).',
  }),
});

const client = z
  .strictObject({
    name: key(text(clientName), { says: 'Name of the client in the log.', example: 'exchange' }),
    networks: key(list(text(network), 'a list of networks such as [10.1.0.0/16]').optional(), {
      says: 'Networks it may come from. Where networks and pins are both given, both must hold.',
      unset: 'any network; then pins must be given',
      example: ['10.1.0.0/16', '2001:db8:1::/48'],
    }),
    pins: key(list(text(pin), 'a list of pins such as ["sha256/…="]').optional(), {
      says:
        'Keys that its client certificate may have, as "dane-relay pin" prints them. Give the old one and the new one ' +
        'while a certificate is being renewed.',
      unset: 'no client certificate is asked for; then networks must be given',
      example: ['sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='],
    }),
    tls: key(choice(['required', 'optional']).prefault('required'), {
      says: 'Whether it must use TLS before it may send mail.',
    }),
    senders: key(list(text(domainPattern), 'a list of domains such as [example.nl, "*.example.nl"]').prefault(['*']), {
      says:
        'Domains that it may use in sender addresses; "*.example.nl" is every domain below example.nl, "*" is every ' +
        'domain. Mail without a sender, as bounces are, is always allowed.',
      example: ['example.nl', '*.example.nl'],
    }),
    rate: key(text(rate).optional(), {
      says:
        'Messages from it in any minute (or second, hour, day), at most. What is more is told to come again later, ' +
        'with 450 4.7.0.',
      unset: 'as many as it likes',
      example: '600/m',
    }),
  })
  .check(together(check.client));

const probe = z.strictObject({
  signed: key(text(dnsName).prefault('.'), {
    says: 'A signed name. Its answer must come back validated (with the AD bit), or the resolver is not trusted.',
  }),
  bogus: key(list(text(dnsName), 'a list of domain names').prefault(['dnssec-failed.org']), {
    says: 'Names whose signatures are broken. If one of them is answered with data, the resolver does not validate.',
  }),
});

const resolver = z.preprocess(
  check.expandResolver,
  z
    .strictObject({
      managed: key(z.literal(true).optional(), {
        says: 'The relay runs its own Unbound. The same as "resolver: managed", where more is to be said.',
        expected: 'true',
        unset: 'true unless an address is given',
        example: true,
      }),
      address: key(text(loopbackEndpoint).optional(), {
        says: 'A validating resolver on this machine. Its AD bit is believed, so it must be on a loopback address.',
        unset: 'the relay runs its own Unbound',
        example: '127.0.0.1:53',
      }),
      include: key(text(filePath).optional(), {
        says: 'More settings for the managed Unbound, for example stub zones of an internal network.',
        unset: 'nothing more',
        example: '/etc/dane-relay/unbound.conf',
      }),
      anchor: key(text(filePath).optional(), {
        says: 'Trust anchor file for the managed Unbound.',
        unset: 'the root key that came with the system',
        example: '/etc/dane-relay/root.key',
      }),
      probe: key(probe.prefault({}), {
        says: 'How the resolver has to prove, at the start and every minute, that it validates.',
      }),
    })
    .check(together(check.resolver)),
);

const destination = z
  .strictObject({
    domain: key(text(domainPattern).optional(), {
      says: 'Recipient domain; "*.partner.nl" and .partner.nl are every domain below partner.nl, "*" is every domain.',
      unset: 'those under domains',
      example: 'partner.nl',
    }),
    domains: key(text(filePath).optional(), {
      says:
        'In place of domain, a file with many: one a line, written as domain is; what follows a "#" does not count. It is ' +
        'read at the start and at each reload.',
      unset: 'the one under domain',
      example: '/etc/dane-relay/partners.txt',
      aside: true,
    }),
    tls: key(choice(['dane', 'dane-only', 'encrypt', 'verify', 'pin', 'may']).prefault('dane'), {
      says:
        'How strong TLS must be. dane: as the recipient publishes, and TLS if offered where nothing is published. ' +
        'dane-only: DANE, or the mail waits. encrypt: as dane, and TLS also where nothing is published. ' +
        'verify: as encrypt, and the certificate must come from an authority that this relay trusts (delivery.ca) and be ' +
        'for the name of the host. pin: as encrypt, and the server must have one of the keys under pins. ' +
        'may: no DANE, TLS if offered.',
    }),
    pins: key(list(text(pin), 'a list of pins such as ["sha256/…="]').optional(), {
      says:
        'For tls: pin, the keys that the server may have, as "dane-relay pin" prints them. Give the old one and the new ' +
        'one while a certificate is being renewed.',
      unset: 'none',
      example: ['sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='],
      aside: true,
    }),
    mode: key(choice(['enforce', 'report']).prefault('enforce'), {
      says:
        'With report, what fails under DANE is only told in the log for now and the mail goes on, over TLS if possible; all ' +
        'else that the rule demands still holds. It needs an end (until), and enforces from then on without a restart.',
    }),
    until: key(text(moment).optional(), {
      says: 'For mode: report, its end, at most 30 days ahead.',
      unset: 'none',
      example: '2027-01-31',
      aside: true,
    }),
    via: key(text(via).optional(), {
      says:
        'A fixed next hop. "[192.0.2.1]:25" is an address, "[host.example]:587" this very host, host.example the hosts ' +
        'in its MX records. DANE cannot apply to an address.',
      unset: 'the MX records of the domain',
      example: '[mail.partner.nl]:25',
    }),
    connections: key(number(1, 1_000).optional(), {
      says:
        'Messages on their way to the domain at the same time, at most; each has a connection to itself. For a rule ' +
        'with "*" it counts for each domain on its own.',
      unset: 'delivery.connectionsPerHost, which is never exceeded',
      example: 5,
    }),
    rate: key(text(rate).optional(), {
      says:
        'Messages to the domain in any minute (or second, hour, day), at most. The others wait. For a rule with "*" it ' +
        'counts for each domain on its own.',
      unset: 'as many as there are',
      example: '100/m',
    }),
  })
  .check(together(check.destination));

function patience(preset: string, says: string) {
  return key(text(duration('1s', '1h')).prefault(preset), { says });
}

const timeouts = z.strictObject({
  greeting: patience('5m', 'From the connection to the greeting.'),
  ehlo: patience('5m', 'For the answer to EHLO.'),
  starttls: patience('2m', 'For the answer to STARTTLS.'),
  handshake: patience('1m', 'For the TLS handshake.'),
  mail: patience('5m', 'For the answer to MAIL FROM.'),
  rcpt: patience('5m', 'For the answer to each RCPT TO.'),
  data: patience('2m', 'For the answer to DATA.'),
  block: patience('3m', 'Without any progress while the message is sent.'),
  final: patience(
    '10m',
    'For the answer to the end of the message. A host that is given up here may have the message, and gets it twice.',
  ),
  quit: patience('5s', 'For the answer to QUIT.'),
});

const delivery = z
  .strictObject({
    port: key(number(1, 65_535).prefault(25), { says: 'Port of mail hosts, where a rule does not name another.' }),
    ca: key(text(filePath).optional(), {
      says:
        'Certificate authorities, as PEM, that tls: verify and MTA-STS trust, in place of the public ones. DANE does not ask ' +
        'them.',
      unset: 'the public ones that come with Node.js (the list of Mozilla)',
      example: '/etc/ssl/certs/ca-certificates.crt',
    }),
    mtaSts: key(choice(['on', 'off']).prefault('on'), {
      says:
        'Whether the MTA-STS policies of recipient domains are looked up and obeyed where DANE does not tie a host to its ' +
        'domain. Policies are kept in the folder sts of the state.',
    }),
    mtaStsPort: key(number(1, 65_535).prefault(443), {
      says: 'Port of the web servers with MTA-STS policies. On the internet it is always 443; another is for closed test networks.',
    }),
    minimum: key(choice(['may', 'dane', 'encrypt']).prefault('may'), {
      says:
        'What every rule amounts to at least. dane: no rule switches DANE off. encrypt: mail never leaves in the clear to ' +
        'anybody, whatever a rule says, not even the TLS reports that RFC 8460 §3 would send so.',
    }),
    mode: key(choice(['enforce', 'report']).prefault('enforce'), {
      says:
        'With report, what fails under DANE is only told for now, for all destinations, as "mode" of a rule does it for ' +
        'one. Meant for the first weeks.',
    }),
    until: key(text(moment).optional(), {
      says: 'For mode: report, its end, at most 30 days ahead.',
      unset: 'none',
      example: '2027-01-31',
      aside: true,
    }),
    insecureMx: key(choice(['dane', 'encrypt', 'may']).prefault('dane'), {
      says:
        'What to do with a mail host that has TLSA records while the MX record that names it is not signed. dane: it must ' +
        'match them. encrypt: it must do TLS. may: TLS if offered (RFC 7672 §2.2.1).',
    }),
    connections: key(number(1, 10_000).prefault(500), { says: 'Connections to all mail hosts together, at most.' }),
    connectionsPerHost: key(number(1, 1_000).prefault(20), {
      says: 'Connections to one mail host at the same time, at most.',
    }),
    messagesPerConnection: key(number(1, 100_000).prefault(100), {
      says: 'Messages over one connection, at most.',
    }),
    connectTimeout: key(text(duration('1s', '5m')).prefault('30s'), {
      says: 'How long a mail host may take to accept a connection.',
    }),
    idleTimeout: key(text(duration('1s', '5m')).prefault('5s'), {
      says: 'How long a connection is kept open after a message for the next one to the same host.',
    }),
    timeouts: key(timeouts.prefault({}), {
      says: 'How long a mail host may take for each answer. RFC 5321 §4.5.3.2 asks for no less than these defaults.',
    }),
  })
  .check(together(check.reportMode));

const queue = z
  .strictObject({
    retry: key(
      list(text(duration('100ms', '7d')), 'a list of durations such as [5m, 15m, 1h]').prefault([
        '5m',
        '15m',
        '30m',
        '1h',
        '2h',
      ]),
      { says: 'Waits before the second attempt, the third and so on. The last one repeats.' },
    ),
    lifetime: key(text(duration('1s', '30d')).prefault('5d'), {
      says: 'How long a message is tried before it is returned to its sender.',
    }),
    tlsLifetime: key(text(duration('1s', '30d')).optional(), {
      says:
        'How long a message is tried while its hosts do not prove themselves, or do not offer TLS, as the policy wants ' +
        'it. Such a fault seldom passes by itself, and its sender may want to hear of it sooner.',
      unset: 'as lifetime',
      example: '2d',
    }),
    delayNotice: key(text(durationOrNever('1s', '30d')).prefault('4h'), {
      says: 'After how long the sender is told that a message is late.',
    }),
    store: key(text(store).prefault('sqlite'), {
      says: 'Where the queue is kept. sqlite: in a file in the state folder.',
    }),
  })
  .check(together(check.queue));

const dkim = z
  .strictObject({
    domain: key(text(hostName), {
      says: 'Domain that signs (d=). Its DNS must show the keys.',
      example: 'example.nl',
    }),
    senders: key(list(text(domainPattern), 'a list of domains such as [example.nl, "*.example.nl"]').optional(), {
      says:
        'Domains in From that it signs for: the domain itself or domains below it. Where several lines fit, the longest ' +
        'signing domain counts.',
      unset: 'the domain itself',
      example: ['example.nl', '*.example.nl'],
    }),
    selector: key(text(selector).optional(), {
      says: 'Name of the key in DNS, for a key that is given as a file: s1 is looked up at s1._domainkey.example.nl.',
      unset: 'then managed must be given',
      example: 's1',
    }),
    key: key(text(filePath).optional(), {
      says:
        'Private key as PEM: RSA with 2048 to 4096 bits, or Ed25519, without a password, and not readable by others. ' +
        'For both kinds give two lines with the same domain.',
      unset: 'then managed must be given',
      example: '/etc/dane-relay/s1.pem',
    }),
    managed: key(z.literal(true).optional(), {
      says:
        'The relay keeps the keys itself, RSA and Ed25519 together, in the state folder; "dane-relay dkim" makes them, ' +
        'prints their records and changes them. A key signs once DNS shows it.',
      expected: 'true',
      unset: 'a key is given as a file',
      example: true,
    }),
    retireAfter: key(text(duration('1d', '365d')).optional(), {
      says: 'For managed keys: how long the old one stays in DNS after the new one has begun to sign.',
      unset: 'queue.lifetime and 9 days',
      example: '14d',
    }),
    existing: key(choice(['add', 'leave']).prefault('add'), {
      says: 'What becomes of mail that has a signature of this domain already. add: it is signed besides. leave: it stays as it is.',
    }),
    required: key(z.boolean().optional(), {
      says:
        'Whether mail waits that cannot be signed, because a key cannot be read or DNS does not show it. false: it leaves ' +
        'without a signature.',
      expected: 'true or false',
      unset: 'true, but a managed domain without a key that ever signed leaves its mail unsigned',
      example: true,
    }),
  })
  .check(together(check.dkim));

const notices = z.strictObject({
  language: key(choice(['en', 'nl']).prefault('en'), {
    says:
      'Language of bounces, delay notices and success reports: English or Dutch. What machines read in them, the log ' +
      'and the command line stay English.',
  }),
});

const intake = z.strictObject({
  messageSize: key(text(size('64kB', '2GB')).prefault('50MB'), { says: 'Size of a message, at most.' }),
  recipients: key(number(100, 50_000).prefault(1_000), {
    says: 'Recipients of one message, at most. Others are asked to come again (RFC 5321 §4.5.3.1.8).',
  }),
  connections: key(number(1, 50_000).prefault(500), { says: 'Connections from all clients together, at most.' }),
  connectionsPerClient: key(number(1, 50_000).prefault(100), { says: 'Connections from one client address, at most.' }),
  hops: key(number(50, 100).prefault(100), {
    says: 'Received lines in a message, at most. One with more is taken to go round in circles (RFC 5321 §6.3).',
  }),
  bareNewlines: key(choice(['normalize', 'reject']).prefault('normalize'), {
    says:
      'What becomes of a message with line ends that are not CRLF. normalize: they are made CRLF before anything else ' +
      'is done. reject: the message is refused.',
  }),
  longLines: key(choice(['pass', 'reject']).prefault('pass'), {
    says: 'What becomes of a message with lines above 998 octets. pass: taken as they are, up to 64 KiB. reject: refused.',
  }),
});

const tlsReports = z
  .strictObject({
    organisation: key(text(displayName), {
      says: 'Who sends the reports, for people.',
      example: 'Example Municipality',
    }),
    contact: key(text(mailAddress), {
      says:
        'Where the receiver of a report can ask. Its domain is the one that reports are sent in the name of, and for ' +
        'which the relay must have a DKIM key: without one no report goes by mail.',
      example: 'tls-reports@example.nl',
    }),
    from: key(text(mailAddress).optional(), {
      says: 'Sender in the header of the reports, in the domain of contact.',
      unset: 'as contact',
      example: 'noreply-tls@example.nl',
    }),
  })
  .check(together(check.tlsReports));

export const schema = z.strictObject({
  hostname: key(text(hostName).optional(), {
    says: 'Name of the relay, in EHLO, Received lines and its certificate. It should resolve to the address that mail leaves from.',
    unset: 'the name of this machine',
    example: 'relay.example.nl',
  }),
  state: key(text(filePath).optional(), {
    says: 'Folder for the queue, the keys and all that must last. Back it up; it is made when it is not there.',
    unset: 'the folder var where the relay is started',
    example: '/var/lib/dane-relay',
  }),
  listen: key(
    filled(z.array(listener))
      .check(together(check.listeners))
      .prefault([{ address: '127.0.0.1', port: 2525, tls: 'starttls' }]),
    { says: 'Where clients can send mail to the relay.', expected: 'a list of { address, port, tls }' },
  ),
  certificate: key(
    z
      .strictObject({
        cert: key(text(filePath), {
          says: 'Certificate, and the chain after it, as PEM.',
          example: '/etc/dane-relay/relay.pem',
        }),
        key: key(text(filePath), { says: 'Its private key, as PEM.', example: '/etc/dane-relay/relay.key' }),
      })
      .optional(),
    {
      says:
        'The certificate that clients see and pin. Files that are not there are made at the first start: a self-signed ' +
        'certificate, long-lived, whose pin the log shows.',
      unset: 'relay.pem and relay.key in the state folder',
    },
  ),
  clients: key(z.array(client).check(together(check.clients)).prefault([]), {
    says: 'Who may send mail through the relay. Nobody may until named here; the first client that fits is taken.',
    expected: 'a list of { name, networks, pins, tls, senders, rate }',
  }),
  resolver: key(resolver.prefault('managed'), {
    says:
      'The DNSSEC-validating resolver: "managed" (the relay runs its own Unbound), an address on this machine such as ' +
      '127.0.0.1:53, or the keys below.',
    expected: 'managed, an address such as 127.0.0.1:53, or { managed: true, … } or { address: …, … }',
  }),
  destinations: key(
    filled(z.array(destination))
      .check(together(check.destinations))
      .prefault([{ domain: '*', tls: 'dane' }]),
    {
      says: 'Rules for recipient domains. The first one that matches wins; without a line for "*" all others are as tls: dane.',
      expected: 'a list of { domain, domains, tls, pins, mode, until, via, connections, rate }',
    },
  ),
  delivery: key(delivery.prefault({}), { says: 'How mail leaves.' }),
  queue: key(queue.prefault({}), { says: 'How mail waits.' }),
  dkim: key(z.array(dkim).check(together(check.dkimList)).prefault([]), {
    says:
      'Domains whose mail the relay signs with DKIM. The domain in From decides; mail with no From, or several, is left ' +
      'as it is.',
    expected: 'a list of { domain, selector, key } or { domain, managed: true }',
  }),
  notices: key(notices.prefault({}), { says: 'What the relay writes to senders.' }),
  tlsReports: key(tlsReports.optional(), {
    says:
      'Tells domains that ask for it, once a day, how TLS with their mail hosts went (RFC 8460). Give organisation and ' +
      'contact to switch it on.',
    unset: 'no reports are sent',
  }),
  intake: key(intake.prefault({}), { says: 'What is taken from clients.' }),
  workers: key(
    z
      .preprocess((written) => (typeof written === 'number' ? String(written) : written), text(workers))
      .prefault('auto'),
    {
      says:
        'Processes that share the work, all behind the same ports and with the same queue. auto: one less than there ' +
        'are cores, 1 at least and 8 at most. 1: one process with everything in it.',
    },
  ),
  shutdownGrace: key(text(duration('1s', '1h')).prefault('30s'), {
    says: 'How long a stop waits for messages that are being taken in or handed over. What is not done then is done later.',
  }),
  admin: key(
    z
      .strictObject({
        listen: key(text(endpoint(null)).prefault('127.0.0.1:8025'), {
          says: 'Where /healthz, /readyz and /metrics are served, without a password. Port 0 takes any free one.',
        }),
      })
      .prefault({}),
    { says: 'For monitoring.' },
  ),
  log: key(
    z
      .strictObject({
        level: key(choice(['debug', 'info', 'warn', 'error']).prefault('info'), {
          says: 'The least that is worth a line in the log, which goes to stdout as one JSON object a line. Mail events are info.',
        }),
      })
      .prefault({}),
    { says: 'What is logged.' },
  ),
});

export type Written = z.output<typeof schema>;
