import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ca, leaf, pem } from '../policy/dane/pki.ts';
import { configOf, folder, line, load, mistakesOf } from './support.ts';

const tell = (text: string): string[] => mistakesOf(load(text)).map(line);

const PIN = 'sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=';
const DURATION = 'with its unit: 30s, 5m, 4h or 5d';

describe('a mistake is told with its line, its column, what is expected and what was probably meant', () => {
  test.each<[string, string, string[]]>([
    [
      'a mistyped key',
      'hostname: relay.example.nl\nqueue:\n  lifetme: 5d\n',
      ['3:3 queue.lifetme: is not a known key | one of retry, lifetime, tlsLifetime, delayNotice, store | lifetime'],
    ],
    [
      'a mistyped section',
      'qeueu: {}\n',
      [
        '1:1 qeueu: is not a known key | one of hostname, state, listen, certificate, clients, resolver, destinations, ' +
          'delivery, queue, dkim, notices, tlsReports, intake, workers, shutdownGrace, admin, log | queue',
      ],
    ],
    [
      'a key in the wrong section',
      'delivery: { messageSize: 5MB }\n',
      [
        '1:13 delivery.messageSize: is not a known key | one of port, ca, mtaSts, mtaStsPort, minimum, mode, until, insecureMx, connections, connectionsPerHost, ' +
          'messagesPerConnection, connectTimeout, idleTimeout, timeouts | intake.messageSize',
      ],
    ],
    ['a wrong type', 'hostname: 5\n', ['1:11 hostname: is the number 5 | a full host name such as relay.example.nl']],
    ['no value', 'hostname:\n', ['1:10 hostname: has no value | a full host name such as relay.example.nl']],
    [
      'TLS reports without anybody to ask',
      'tlsReports: { organisation: Example }\n',
      ['1:13 tlsReports.contact: is missing | a mail address such as tls-reports@example.nl'],
    ],
    [
      'TLS reports by nobody, from elsewhere',
      'tlsReports: { organisation: " ", contact: "tls@example.nl", from: tls@other.nl }\n',
      [
        '1:29 tlsReports.organisation: " " is too short or too long for a name | a name of 1 to 200 characters',
        '1:67 tlsReports.from: is in another domain than contact, and receivers would not believe such reports | an address at example.nl',
      ],
    ],
    [
      'TLS reports to something that is no address',
      'tlsReports: { organisation: Example, contact: "tls reports@example.nl" }\n',
      [
        '1:47 tlsReports.contact: "tls reports@example.nl" is not a mail address | a mail address such as tls-reports@example.nl',
      ],
    ],
    [
      'a name that is none',
      'hostname: a..b\n',
      ['1:11 hostname: "a..b" is not a host name | a full host name such as relay.example.nl'],
    ],
    [
      'an address as a name',
      'hostname: 192.0.2.1\n',
      ['1:11 hostname: "192.0.2.1" is not a host name | a full host name such as relay.example.nl'],
    ],
    [
      'text for a number',
      'delivery:\n  port: smtp\n',
      ['2:9 delivery.port: is "smtp" | a whole number from 1 to 65535'],
    ],
    [
      'a port too high',
      'delivery:\n  port: 65536\n',
      ['2:9 delivery.port: is 65536, which is too much | a whole number from 1 to 65535'],
    ],
    [
      'a port of nothing',
      'delivery:\n  port: 0\n',
      ['2:9 delivery.port: is 0, which is too little | a whole number from 1 to 65535'],
    ],
    [
      'half a port',
      'delivery:\n  port: 2.5\n',
      ['2:9 delivery.port: is the number 2.5 | a whole number from 1 to 65535'],
    ],
    [
      'a list for a section',
      'queue: []\n',
      ['1:8 queue: is a list | { retry?, lifetime?, tlsLifetime?, delayNotice?, store? }'],
    ],
    ['a section for a list', 'listen: {}\n', ['1:9 listen: is a section with keys | a list of { address, port, tls }']],
    [
      'a list for everything',
      '- a\n',
      [expect.stringMatching(/^1:1 : is a list \| \{ hostname\?, /) as unknown as string],
    ],
    ['a mistyped choice', 'log: { level: inof }\n', ['1:15 log.level: is "inof" | debug, info, warn or error | info']],
    ['a choice that is none', 'log: { level: quiet }\n', ['1:15 log.level: is "quiet" | debug, info, warn or error']],
    [
      'a duration without unit',
      'queue: { lifetime: "5" }\n',
      [`1:20 queue.lifetime: "5" has no unit | a duration from 1s to 30d, ${DURATION}`],
    ],
    [
      'a duration in words',
      'queue: { lifetime: 5 days }\n',
      [`1:20 queue.lifetime: "5 days" is not a duration | a duration from 1s to 30d, ${DURATION} | 5d`],
    ],
    [
      'a duration too long',
      'queue: { lifetime: 31d }\n',
      [`1:20 queue.lifetime: "31d" is too much | a duration from 1s to 30d, ${DURATION}`],
    ],
    [
      'a size without unit',
      'intake: { messageSize: "5000000" }\n',
      ['1:24 intake.messageSize: "5000000" has no unit | a size from 64kB to 2GB, with its unit: 800kB, 50MB or 10MiB'],
    ],
    [
      'a size cut short',
      'intake: { messageSize: 50M }\n',
      [
        '1:24 intake.messageSize: "50M" is not a size | a size from 64kB to 2GB, with its unit: 800kB, 50MB or 10MiB | 50MB',
      ],
    ],
    [
      'no retries',
      'queue: { retry: [] }\n',
      ['1:17 queue.retry: is an empty list | a list of durations such as [5m, 15m, 1h]'],
    ],
    [
      'one wrong retry among right ones',
      'queue:\n  retry:\n    - 5m\n    - soon\n',
      [`4:7 queue.retry[1]: "soon" is not a duration | a duration from 100ms to 7d, ${DURATION}`],
    ],
    [
      'a lifetime that ends before the first retry',
      'queue: { retry: [2h], lifetime: 1h }\n',
      [
        '1:33 queue.lifetime: ends before the first retry, so nothing would ever be tried twice | more than the first of queue.retry',
      ],
    ],
    ['no listener', 'listen: []\n', ['1:9 listen: is an empty list | a list of { address, port, tls }']],
    [
      'a listener without a port',
      'listen:\n  - address: 127.0.0.1\n',
      ['2:5 listen[0].port: is missing | a whole number from 0 to 65535'],
    ],
    [
      'a name to listen on',
      'listen: [{ address: localhost, port: 25 }]\n',
      ['1:21 listen[0].address: "localhost" is not an IP address | an IP address such as 127.0.0.1, 0.0.0.0 or ::1'],
    ],
    [
      'the same listener twice',
      'listen:\n  - { address: ::1, port: 25 }\n  - { address: ::1, port: 25, tls: implicit }\n',
      ['3:5 listen[1]: is the same address and port as listen[0] | each only once'],
    ],
    [
      'half a certificate',
      'certificate:\n  cert: relay.pem\n',
      ['2:3 certificate.key: is missing | a path, absolute or relative to the folder of the configuration file'],
    ],
    [
      'DKIM without a key',
      'dkim:\n  - { domain: example.nl }\n',
      ['2:5 dkim[0]: has no selector and no key | selector and key, or managed: true'],
    ],
    [
      'DKIM with a key of two kinds',
      'dkim:\n  - { domain: example.nl, managed: true, key: s1.pem }\n',
      ['2:47 dkim[0].key: is for a key that is given as a file, and managed is set | one of the two'],
    ],
    [
      'DKIM for a domain that is not aligned',
      'dkim:\n  - { domain: example.nl, managed: true, senders: ["*"] }\n',
      [
        '2:52 dkim[0].senders[0]: is not example.nl or below it, and a signature of example.nl would not count for it | example.nl or "*.example.nl"',
      ],
    ],
    [
      'DKIM lines of one domain that differ',
      'dkim:\n  - { domain: a.nl, selector: s1, key: s1.pem }\n  - { domain: a.nl, selector: s1, key: s2.pem, required: false }\n',
      [
        '3:5 dkim[1]: gives the key of dkim[0] again | each only once',
        '3:58 dkim[1].required: is not as in dkim[0], which is for the same domain | the same in both',
      ],
    ],
    [
      'DKIM retireAfter without managed',
      'dkim:\n  - { domain: a.nl, selector: s1, key: s1.pem, retireAfter: 20d }\n',
      ['2:61 dkim[0].retireAfter: is for managed keys only | managed: true'],
    ],
    [
      'PostgreSQL, which comes later',
      'queue: { store: "postgres://db/queue" }\n',
      ['1:17 queue.store: a queue in PostgreSQL is not available in this version | sqlite'],
    ],
    [
      'another store',
      'queue: { store: mysql }\n',
      ['1:17 queue.store: "mysql" is not a kind of store | sqlite | sqlite'],
    ],
    [
      'an admin port without an address',
      'admin: { listen: ":8025" }\n',
      [
        '1:18 admin.listen: ":8025" is not an address and a port | an address and a port such as 127.0.0.1:8025 or [::1]:8025',
      ],
    ],
    [
      'an admin address without a port',
      'admin: { listen: 127.0.0.1 }\n',
      ['1:18 admin.listen: "127.0.0.1" has no port | an address and a port such as 127.0.0.1:8025 or [::1]:8025'],
    ],
  ])('%s', (_, text, expected) => {
    expect(tell(text)).toEqual(expected);
  });
});

describe('clients: nothing is open by mistake', () => {
  const client = (rest: string): string => `clients:\n  - name: app\n${rest}`;

  test.each<[string, string, string[]]>([
    [
      'neither networks nor pins',
      client(''),
      ['2:5 clients[0]: has neither networks nor pins and would match everybody | networks, pins or both'],
    ],
    [
      'an empty list of networks',
      client('    networks: []\n'),
      ['3:15 clients[0].networks: is an empty list | a list of networks such as [10.1.0.0/16]'],
    ],
    [
      'networks with no value',
      client('    networks:\n'),
      ['3:14 clients[0].networks: has no value | a list of networks such as [10.1.0.0/16]'],
    ],
    [
      'an empty list of pins beside networks',
      client('    networks: [10.0.0.0/8]\n    pins: []\n'),
      ['4:11 clients[0].pins: is an empty list | a list of pins such as ["sha256/…="]'],
    ],
    [
      'an empty list of senders',
      client('    networks: [10.0.0.0/8]\n    senders: []\n'),
      ['4:14 clients[0].senders: is an empty list | a list of domains such as [example.nl, "*.example.nl"]'],
    ],
    [
      'the whole internet',
      client('    networks: [0.0.0.0/0]\n'),
      [
        '3:16 clients[0].networks[0]: takes in much of the internet, and there are no pins: this would be an open relay | the networks of this client, or pins as well',
      ],
    ],
    [
      'the internet in two halves',
      client('    networks: [0.0.0.0/1, 128.0.0.0/1]\n'),
      [
        '3:16 clients[0].networks[0]: takes in much of the internet, and there are no pins: this would be an open relay | the networks of this client, or pins as well',
        '3:27 clients[0].networks[1]: takes in much of the internet, and there are no pins: this would be an open relay | the networks of this client, or pins as well',
      ],
    ],
    [
      'all of IPv6',
      client('    networks: ["::/0"]\n'),
      [
        '3:16 clients[0].networks[0]: takes in much of the internet, and there are no pins: this would be an open relay | the networks of this client, or pins as well',
      ],
    ],
    [
      'all of IPv4, in the clothes of IPv6',
      client('    networks: ["::ffff:0:0/96"]\n'),
      [
        '3:16 clients[0].networks[0]: takes in much of the internet, and there are no pins: this would be an open relay | the networks of this client, or pins as well',
      ],
    ],
    [
      'an address in a network',
      client('    networks: [10.1.2.3/16]\n'),
      [
        '3:16 clients[0].networks[0]: "10.1.2.3/16" is an address inside a network, not a network | a network such as 10.1.0.0/16 or 2001:db8::/32, or one address | 10.1.0.0/16',
      ],
    ],
    [
      'a prefix too long',
      client('    networks: [10.1.0.0/33]\n'),
      [
        '3:16 clients[0].networks[0]: "10.1.0.0/33" has a prefix length above 32 | a network such as 10.1.0.0/16 or 2001:db8::/32, or one address',
      ],
    ],
    [
      'a pin cut short',
      client('    pins: [sha256/abc]\n'),
      [
        '3:12 clients[0].pins[0]: "sha256/abc" is not the base64 of 32 octets | a pin as "dane-relay pin FILE" prints it: sha256/ and 44 characters of base64',
      ],
    ],
    [
      'a pin without its last sign',
      client(`    pins: [${PIN.slice(0, -1)}]\n`),
      [
        `3:12 clients[0].pins[0]: "${PIN.slice(0, -1)}" lacks its last "=" | a pin as "dane-relay pin FILE" prints it: sha256/ and 44 characters of base64 | ${PIN}`,
      ],
    ],
    [
      'a fingerprint for a pin',
      client(`    pins: ["${'AB:'.repeat(31)}AB"]\n`),
      [
        `3:12 clients[0].pins[0]: "${'AB:'.repeat(19)}…" is written in hexadecimal; a pin is base64 | a pin as "dane-relay pin FILE" prints it: sha256/ and 44 characters of base64`,
      ],
    ],
    [
      'pins without TLS',
      client(`    pins: ["${PIN}"]\n    tls: optional\n`),
      ['4:10 clients[0].tls: is optional, but pins can only be checked over TLS | required or optional | required'],
    ],
    [
      'the name of our own notices',
      'clients: [{ name: dane-relay, networks: [10.0.0.1] }]\n',
      [
        '1:19 clients[0].name: "dane-relay" is the name under which the relay sends its own notices | a short name of letters, digits, ".", "-" and "_"',
      ],
    ],
    [
      'a name with a line break',
      'clients: [{ name: "a\\nb", networks: [10.0.0.1] }]\n',
      ['1:19 clients[0].name: "a\\nb" is not a name for a client | a short name of letters, digits, ".", "-" and "_"'],
    ],
    [
      'the same name twice',
      'clients:\n  - { name: a, networks: [10.0.0.1] }\n  - { name: a, networks: [10.0.0.2] }\n',
      ['3:13 clients[1].name: is the name of clients[0] already | a name of its own'],
    ],
    [
      'an address as a sender',
      client('    networks: [10.0.0.1]\n    senders: [me@example.nl]\n'),
      [
        '4:15 clients[0].senders[0]: "me@example.nl" is not a domain | a domain such as example.nl, "*.example.nl" or .example.nl for every domain below it, or "*" for all | example.nl',
      ],
    ],
  ])('%s', (_, text, expected) => {
    expect(tell(text)).toEqual(expected);
  });

  test('the whole internet with a pin is somebody, not everybody', () => {
    expect(load(client(`    networks: [0.0.0.0/0, "::/0"]\n    pins: ["${PIN}"]\n`)).ok).toBe(true);
  });
});

describe('DNS-15 a resolver that is not on this machine is a mistake', () => {
  const expected = 'managed, an address such as 127.0.0.1:53, or { managed: true, … } or { address: …, … }';
  const loopback = 'a loopback address such as 127.0.0.1:53 or [::1]:53';
  const far = (text: string): string =>
    `"${text}" is not on this machine, and what it says of DNSSEC could be forged on the way (RFC 7672 §2.1.1)`;

  test.each<[string, string[]]>([
    ['resolver: 192.0.2.53:53\n', [`1:11 resolver: ${far('192.0.2.53:53')} | ${expected}`]],
    ['resolver: "[2001:db8::53]:53"\n', [`1:11 resolver: ${far('[2001:db8::53]:53')} | ${expected}`]],
    ['resolver: 0.0.0.0:53\n', [`1:11 resolver: ${far('0.0.0.0:53')} | ${expected}`]],
    ['resolver: { address: 9.9.9.9 }\n', [`1:22 resolver.address: ${far('9.9.9.9')} | ${loopback}`]],
    ['resolver: "::1"\n', [`1:11 resolver: "::1" needs brackets | ${expected} | [::1]:53`]],
    ['resolver: mannaged\n', [`1:11 resolver: "mannaged" is not an address and a port | ${expected}`]],
    ['resolver: 127.0.0.1:0\n', [`1:11 resolver: "127.0.0.1:0" has no port that could be asked | ${expected}`]],
    [
      'resolver: { managed: true, address: 127.0.0.1 }\n',
      ['1:22 resolver.managed: cannot stand beside an address | one of the two'],
    ],
    ['resolver: { managed: false }\n', ['1:22 resolver.managed: is the boolean false | true']],
    [
      'resolver: { address: 127.0.0.1, include: a.conf }\n',
      ['1:42 resolver.include: is for the managed Unbound only, and an address is given | managed: true'],
    ],
    ['resolver: { probe: { bogus: [] } }\n', ['1:29 resolver.probe.bogus: is an empty list | a list of domain names']],
    [
      'resolver: { probe: { signed: a..b } }\n',
      ['1:30 resolver.probe.signed: "a..b" is not a domain name | a domain name, or "." for the root'],
    ],
  ])('%j', (text, mistakes) => {
    expect(tell(text)).toEqual(mistakes);
  });
});

describe('destinations: rules that could never work', () => {
  const never = (other: number): string =>
    `never matches, because destinations[${other}] matches all of it first | the special rules before the general ones`;
  const viaForms = '"[192.0.2.1]:25", "[host.example]:587" (this very host) or host.example (by its MX records)';

  test.each<[string, string[]]>([
    [
      'destinations: []\n',
      [
        '1:15 destinations: is an empty list | a list of { domain, domains, tls, pins, mode, until, via, connections, rate }',
      ],
    ],
    ['destinations:\n  - { domain: "*" }\n  - { domain: a.nl }\n', [`3:5 destinations[1]: ${never(0)}`]],
    ['destinations:\n  - { domain: a.nl }\n  - { domain: A.NL. }\n', [`3:5 destinations[1]: ${never(0)}`]],
    ['destinations:\n  - { domain: "*.nl" }\n  - { domain: a.b.nl }\n', [`3:5 destinations[1]: ${never(0)}`]],
    ['destinations:\n  - { domain: "*.b.nl" }\n  - { domain: "*.a.b.nl" }\n', [`3:5 destinations[1]: ${never(0)}`]],
    ['destinations:\n  - { domain: "*" }\n  - { domain: "*" }\n', [`3:5 destinations[1]: ${never(0)}`]],
    [
      'destinations: [{ domain: a.nl, tls: dane-only, via: "[192.0.2.1]" }]\n',
      [
        '1:53 destinations[0].via: is an address, where DANE cannot apply: under dane-only nothing could ever be delivered | a host name, or another tls',
      ],
    ],
    [
      'destinations: [{ domain: a.nl, tls: verify, via: "[192.0.2.1]" }]\n',
      [
        '1:50 destinations[0].via: is an address, for which no certificate can be verified: nothing could ever be delivered | a host name, or another tls',
      ],
    ],
    [
      'destinations: [{ domain: a.nl, tls: pin }]\n',
      ['1:37 destinations[0].tls: has no pins, so nothing could ever be delivered | pins beside it'],
    ],
    [
      `destinations: [{ domain: a.nl, tls: encrypt, pins: ["sha256/${'A'.repeat(43)}="] }]\n`,
      ['1:52 destinations[0].pins: are for tls: pin only | tls: pin beside them'],
    ],
    [
      'destinations: [{ domain: a.nl, tls: pin, pins: [abc] }]\n',
      [
        '1:49 destinations[0].pins[0]: "abc" is not a pin | a pin as "dane-relay pin FILE" prints it: sha256/ and 44 characters of base64',
      ],
    ],
    [
      'destinations: [{ domain: a.nl, via: 192.0.2.1:25 }]\n',
      [`1:37 destinations[0].via: "192.0.2.1:25" lacks brackets | ${viaForms} | [192.0.2.1]:25`],
    ],
    [
      'destinations: [{ domain: a.nl, via: "[mx.b.nl]:0" }]\n',
      [`1:37 destinations[0].via: "[mx.b.nl]:0" has no port between 1 and 65535 | ${viaForms}`],
    ],
    [
      'destinations: [{ domain: a.nl, via: "mx b" }]\n',
      [`1:37 destinations[0].via: "mx b" is not a next hop | ${viaForms}`],
    ],
  ])('%j', (text, mistakes) => {
    expect(tell(text)).toEqual(mistakes);
  });

  test.each([
    'destinations:\n  - { domain: a.nl }\n  - { domain: "*.a.nl" }\n  - { domain: "*" }\n',
    'destinations:\n  - { domain: "*.b.nl" }\n  - { domain: b.nl }\n  - { domain: "*.nl" }\n',
  ])('the special before the general is right: %j', (text) => {
    expect(load(text).ok).toBe(true);
  });
});

describe('YAML that is none', () => {
  test.each<[string, string, string]>([
    [
      'a bracket that is never closed',
      'listen: [1, 2\nlog: {}\n',
      '2:1 : is not valid YAML: flow sequence in block collection must be sufficiently indented and end with a ] | ',
    ],
    ['a tab', 'log:\n\tlevel: info\n', '2:1 : is not valid YAML: tabs are not allowed as indentation | '],
    [
      'a value with a colon',
      'hostname: a: b\n',
      '1:11 : is not valid YAML: nested mappings are not allowed in compact mappings | ',
    ],
    ['quotes that do not end', 'hostname: "relay\n', '2:1 : is not valid YAML: missing closing "quote | '],
    [
      'an unquoted bracket before a port',
      'destinations:\n  - domain: a.nl\n    via: [192.0.2.1]:25\n',
      expect.stringMatching(
        /^3:\d+ : is not valid YAML: .* \| quotes around it: "\[192\.0\.2\.1\]:25"$/,
      ) as unknown as string,
    ],
    [
      'an unquoted star',
      'destinations:\n  - { domain: *, tls: dane }\n',
      expect.stringMatching(/^2:\d+ .* \| quotes .*"\*/) as unknown as string,
    ],
    [
      'an unquoted star before a domain',
      'destinations:\n  - domain: *.example.nl\n',
      '2:13 destinations[0].domain: "*.example.nl" refers to nothing | quotes if a star is meant: "*.example.nl"',
    ],
    ['a tag', 'hostname: !secret x\n', '1:11 : is not valid YAML: unresolved tag: !secret | '],
    [
      'two documents',
      'hostname: a.nl\n---\nhostname: b.nl\n',
      '2:1 : is not valid YAML: source contains multiple documents | ',
    ],
    ['a key given twice', 'hostname: a.nl\nlog: {}\nhostname: b.nl\n', '3:1 hostname: is given twice | each key once'],
    ['a key that is a list', '? [a]\n: 1\n', '1:3 : has a key that is not a word | '],
    [
      'a list that holds itself',
      'listen: &l [*l]\n',
      '1:13 listen[0][0]: "*l" refers to nothing | quotes if a star is meant: "*l"',
    ],
  ])('%s', (_, text, expected) => {
    expect(tell(text)[0]).toEqual(expected);
  });

  test('a key given twice is told beside the other mistakes', () => {
    expect(tell('hostname: a.nl\nlog: { level: x }\nhostname: b.nl\n').map((each) => each.slice(0, 12))).toEqual([
      '2:15 log.lev',
      '3:1 hostname',
    ]);
  });
});

describe('report-only: for a while, and never without an end', () => {
  const moments = 'a date such as 2027-01-31 (to its end, in UTC) or a time such as 2027-01-31T12:00:00Z';
  const inDays = (days: number): string => new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10);

  test.each([
    [
      'delivery: { mode: report }\n',
      '1:19 delivery.mode: has no end | until beside it, with a date at most 30 days ahead',
    ],
    [
      `delivery:\n  mode: report\n  until: ${inDays(32)}\n`,
      '3:10 delivery.until: is more than 30 days ahead | an earlier date',
    ],
    ['delivery: { mode: report, until: 2027-02-30 }\n', `1:34 delivery.until: "2027-02-30" is no date | ${moments}`],
    ['delivery: { mode: report, until: soon }\n', `1:34 delivery.until: "soon" is no date | ${moments}`],
    [`delivery: { until: ${inDays(3)} }\n`, '1:20 delivery.until: is for mode: report only | mode: report beside it'],
    [
      `destinations: [{ domain: a.nl, mode: report, until: ${inDays(400)} }]\n`,
      '1:53 destinations[0].until: is more than 30 days ahead | an earlier date',
    ],
    [
      `destinations: [{ domain: a.nl, tls: may, mode: report, until: ${inDays(3)} }]\n`,
      '1:48 destinations[0].mode: has nothing to report, because tls: may switches DANE off | another tls',
    ],
  ])('%j', (text, mistake) => {
    expect(tell(text)).toEqual([mistake]);
  });

  test('an end that has passed is told and enforces: nobody is kept from starting by it', () => {
    const result = load('delivery: { mode: report, until: 2026-01-31 }\n');
    expect(configOf(result).delivery.reportUntil).toBe(Date.UTC(2026, 1, 1));
    expect(result.ok && result.notes.join()).toContain('ended 2026-02-01T00:00:00.000Z: DANE is enforced');
  });

  test('one that lasts is told loudly', () => {
    const result = load(`destinations: [{ domain: a.nl, mode: report, until: ${inDays(30)} }]\n`);
    expect(result.ok && result.notes.join()).toMatch(/REPORT ONLY for a\.nl until .*mail goes on/);
  });
});

describe('destinations[].domains: a file with many', () => {
  const rule = 'destinations:\n  - { domains: many.txt, tls: dane-only }\n';
  const forms = 'a domain such as example.nl, "*.example.nl" or .example.nl for every domain below it, or "*" for all';
  const many = (text: string): void => writeFileSync(join(folder, 'many.txt'), text);

  test('each line is a rule at the place of the one that names the file, and knows its line', () => {
    many('# partners\nb.nl  # the bank\n\n  .C.nl\n*.d.nl\r\n');
    const { destinations } = configOf(load(`destinations:\n  - { domain: a.nl, tls: may }\n${rule.slice(14)}`));
    expect(destinations.map(({ domain, tls, origin }) => [domain, tls, origin.file, origin.line])).toEqual([
      ['a.nl', 'may', 'relay.yaml', 2],
      ['b.nl', 'dane-only', 'many.txt', 2],
      ['*.c.nl', 'dane-only', 'many.txt', 4],
      ['*.d.nl', 'dane-only', 'many.txt', 5],
      ['*', 'dane', null, null],
    ]);
    expect(destinations[1]?.origin.text).toBe('domains: many.txt, tls: dane-only');
  });

  test.each<[string, string, string[]]>([
    [
      'no domain at all',
      '# nothing yet\n',
      ['2:16 destinations[0].domains: names a file without any domain | one domain a line'],
    ],
    [
      'no domain in some lines',
      'a.nl\n  b c\npiet@d.nl\n',
      [
        `2:3 destinations[0].domains: "b c" is not a domain | ${forms}`,
        `3:1 destinations[0].domains: "piet@d.nl" is not a domain | ${forms} | d.nl`,
      ],
    ],
  ])('%s', (_, text, mistakes) => {
    many(text);
    expect(tell(rule)).toEqual(mistakes);
  });

  test('a file that is not there, and one that is no text', () => {
    const named = (name: string) => tell(rule.replace('many.txt', name));
    const expected = 'a file with one domain a line';
    expect(named('nowhere.txt')).toEqual([
      `2:16 destinations[0].domains: names a file that cannot be read: there is no such file | ${expected}`,
    ]);
    writeFileSync(join(folder, 'octets.txt'), Buffer.from([0x61, 0xff, 0xfe]));
    expect(named('octets.txt')).toEqual([
      `2:16 destinations[0].domains: names a file that cannot be read: it is not text in UTF-8 | ${expected}`,
    ]);
  });

  test.each([
    ['destinations: [{ tls: may }]\n', '1:16 destinations[0]: has neither domain nor domains | one of the two'],
    [
      'destinations: [{ domain: a.nl, domains: many.txt }]\n',
      '1:41 destinations[0].domains: cannot stand beside domain | one of the two',
    ],
  ])('%j', (text, mistake) => {
    many('x.nl\n');
    expect(tell(text)).toEqual([mistake]);
  });

  test('a hundred thousand', () => {
    many(Array.from({ length: 100_000 }, (_, index) => `d${index}.nl\n`).join(''));
    expect(configOf(load(rule)).destinations).toHaveLength(100_001);
  });
});

describe('delivery.ca: the file is read when the configuration is', () => {
  const expected = 'a file with certificates of authorities as PEM';
  const authority = pem('CERTIFICATE', ca('Some Root', null).der);

  test.each([
    ['absent.pem', null, 'names a file that cannot be read: there is no such file'],
    ['empty.pem', '', 'names a file without any certificate'],
    [
      'leaf.pem',
      authority + pem('CERTIFICATE', leaf('mx.test', ca('Some Root', null)).der),
      'names a file whose certificate number 2 is not that of an authority',
    ],
    [
      'broken.pem',
      pem('CERTIFICATE', Buffer.from('no certificate')),
      'names a file whose certificate number 1 is not that of an authority',
    ],
  ])('%s', (name, text, message) => {
    if (text !== null) writeFileSync(join(folder, name), text);
    expect(tell(`delivery:\n  ca: ${name}\n`)).toEqual([`2:7 delivery.ca: ${message} | ${expected}`]);
  });

  test('a good one', () => {
    writeFileSync(join(folder, 'good.pem'), `# a remark\n${authority}${authority}`);
    expect(configOf(load('delivery: { ca: good.pem }\n')).delivery.authorities).toHaveLength(2);
  });
});

test('all mistakes are told at once, in the order of the file', () => {
  const mistakes = tell(`hostnme: a.nl
listen: [{ address: here, port: 1 }]
clients:
  - { name: a }
  - { name: a, networks: [10.0.0.0/40] }
resolver: 8.8.8.8:53
destinations: [{ domain: "*" }, { domain: b.nl, tls: verfy }]
queue: { lifetime: 1m, retry: [5m], store: x }
`);
  expect(mistakes.map((each) => each.split(':').slice(0, 2).join(':'))).toEqual([
    '1:1 hostnme',
    '2:21 listen[0].address',
    '4:5 clients[0]',
    '5:13 clients[1].name',
    '5:27 clients[1].networks[0]',
    '6:11 resolver',
    '7:33 destinations[1]',
    '7:54 destinations[1].tls',
    '8:20 queue.lifetime',
    '8:44 queue.store',
  ]);
});

test('a file with thousands of mistakes tells the first hundred', () => {
  const mistakes = tell(Array.from({ length: 5_000 }, (_, index) => `key${index}: 1\n`).join(''));
  expect(mistakes).toHaveLength(100);
  expect(mistakes[99]).toMatch(/^100:1 key99: is not a known key/);
});

test('a byte order mark and CRLF do not move the columns', () => {
  expect(tell('\ufeffhostnam: a\r\nlog: { level: loud }\r\n').map((each) => each.slice(0, 16))).toEqual([
    '1:1 hostnam: is ',
    '2:15 log.level: ',
  ]);
});
