/**
 * How values are written in the configuration: durations, sizes, networks, pins, addresses and next hops.
 *
 * Each notation turns text into a value or says what is wrong with it, with the nearest right spelling where there is
 * one. Nothing here throws, whatever the text.
 */
import { isIP, isIPv4, isIPv6 } from 'node:net';
import { isHostName, literalAddress, toDomain } from '../shared/domain-name.ts';
import { isLoopback } from '../shared/loopback.ts';
import type { Rate } from '../shared/rate.ts';
import type { Endpoint, Via } from './config.ts';

export type Reading<Value> =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly message: string; readonly nearest?: string };

/** A way of writing: what an operator is told to write, and how it is read. */
export interface Notation<Value> {
  readonly expected: string;
  readonly read: (text: string) => Reading<Value>;
}

const right = <Value>(value: Value): Reading<Value> => ({ ok: true, value });
const wrong = (message: string, nearest?: string): Reading<never> =>
  nearest === undefined ? { ok: false, message } : { ok: false, message, nearest };

/** Text as it is shown in a mistake: quoted, on one line, not too long. */
export function shown(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}…` : text);
}

const MS_PER: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const BYTES_PER: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1_000,
  mb: 1_000_000,
  gb: 1_000_000_000,
  kib: 1_024,
  mib: 1_048_576,
  gib: 1_073_741_824,
};

/** A duration in milliseconds: `30s`, `5m`, `4h`, `5d`; `ms` as well, for tests and labs. */
export function duration(atLeast: string, atMost: string): Notation<number> {
  const expected = `a duration from ${atLeast} to ${atMost}, with its unit: 30s, 5m, 4h or 5d`;
  return { expected, read: (text) => bounded(msOf(text), msOf(atLeast), msOf(atMost), text) };
}

/** As `duration`, or null for `never`. */
export function durationOrNever(atLeast: string, atMost: string): Notation<number | null> {
  const { expected, read } = duration(atLeast, atMost);
  return { expected: `${expected}; or never`, read: (text) => (text === 'never' ? right(null) : read(text)) };
}

function msOf(text: string): Reading<number> {
  const [, digits, unit = ''] = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text) ?? [];
  if (digits !== undefined) return right(Number(digits) * (MS_PER[unit] ?? 0));
  if (/^\d+$/.test(text)) return wrong(`${shown(text)} has no unit`);
  const [, loose, word = ''] = /^(\d{1,9})\s*(ms|[smhd])[a-z]*$/i.exec(text.trim()) ?? [];
  return wrong(`${shown(text)} is not a duration`, loose && `${loose}${word.toLowerCase()}`);
}

/** So many in any second, minute, hour or day: `100/m`. */
export const rate: Notation<Rate> = {
  expected: 'a number and what it is counted in: 10/s, 100/m, 2000/h or 20000/d',
  read: (text) => {
    const [, digits, unit = ''] = /^([1-9]\d{0,8})\/(s|m|h|d)$/.exec(text) ?? [];
    const period = MS_PER[unit];
    if (digits !== undefined && period !== undefined) return right({ count: Number(digits), period });
    const [, count, word = ''] = /^([1-9]\d{0,8})\s*(?:\/|per|a)?\s*([smhd])[a-z]*$/i.exec(text.trim()) ?? [];
    return wrong(`${shown(text)} is not a rate`, count && `${count}/${word.toLowerCase()}`);
  },
};

/** A size in octets: `50MB` is 50 million, `10MiB` is ten times 1,048,576. */
export function size(atLeast: string, atMost: string): Notation<number> {
  const expected = `a size from ${atLeast} to ${atMost}, with its unit: 800kB, 50MB or 10MiB`;
  return { expected, read: (text) => bounded(bytesOf(text), bytesOf(atLeast), bytesOf(atMost), text) };
}

function bytesOf(text: string): Reading<number> {
  const [, digits, unit = ''] = /^(\d{1,12})([kmg]?i?b)$/i.exec(text) ?? [];
  const factor = BYTES_PER[unit.toLowerCase()];
  if (digits !== undefined && factor !== undefined) return right(Number(digits) * factor);
  if (/^\d+$/.test(text)) return wrong(`${shown(text)} has no unit`);
  const [, loose, prefix = ''] = /^(\d{1,12})\s*([kmg])/i.exec(text.trim()) ?? [];
  return wrong(
    `${shown(text)} is not a size`,
    loose && `${loose}${prefix.toLowerCase() === 'k' ? 'k' : prefix.toUpperCase()}B`,
  );
}

function bounded(
  reading: Reading<number>,
  least: Reading<number>,
  most: Reading<number>,
  text: string,
): Reading<number> {
  if (!reading.ok) return reading;
  if (least.ok && reading.value < least.value) return wrong(`${shown(text)} is too little`);
  if (most.ok && reading.value > most.value) return wrong(`${shown(text)} is too much`);
  return reading;
}

/** A network in CIDR notation, or one address. What is read is CIDR; IPv4 that is written as IPv6 becomes IPv4. */
export const network: Notation<string> = {
  expected: 'a network such as 10.1.0.0/16 or 2001:db8::/32, or one address',
  read: (text) => {
    const [address = '', length, ...rest] = text.split('/');
    const family = isIP(address);
    if (family === 0 || address.includes('%') || rest.length > 0) return wrong(`${shown(text)} is not a network`);
    const bits = family === 4 ? 32 : 128;
    if (length !== undefined && !/^\d{1,3}$/.test(length)) return wrong(`${shown(text)} has no proper prefix length`);
    const prefix = length === undefined ? bits : Number(length);
    if (prefix > bits) return wrong(`${shown(text)} has a prefix length above ${bits}`);

    const octets = octetsOf(address);
    const first = octets.map((octet, index) => octet & maskAt(prefix, index));
    const start = textOf(first);
    if (first.some((octet, index) => octet !== octets[index])) {
      return wrong(`${shown(text)} is an address inside a network, not a network`, `${start}/${prefix}`);
    }
    const mapped = bits === 128 && prefix >= 96 && first.slice(0, 12).join() === '0,0,0,0,0,0,0,0,0,0,255,255';
    return right(mapped ? `${textOf(first.slice(12))}/${prefix - 96}` : `${start}/${prefix}`);
  },
};

function maskAt(prefix: number, index: number): number {
  const bits = Math.min(8, Math.max(0, prefix - index * 8));
  return (0xff << (8 - bits)) & 0xff;
}

function octetsOf(address: string): number[] {
  if (isIPv4(address)) return address.split('.').map(Number);
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address);
  const [, front = '', v4] = dotted ?? [];
  const groups = v4 === undefined ? address : `${front}${groupsOf(octetsOf(v4)).join(':')}`;
  const [head = '', tail] = groups.split('::').map((half) => (half === '' ? [] : half.split(':')));
  const before = Array.isArray(head) ? head : [];
  const after = tail ?? [];
  const gap = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return [...before, ...gap, ...after].flatMap((group) => {
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

function textOf(octets: readonly number[]): string {
  // The URL parser knows the shortest way to write an IPv6 address.
  return octets.length === 4
    ? octets.join('.')
    : new URL(`http://[${groupsOf(octets).join(':')}]`).hostname.slice(1, -1);
}

function groupsOf(octets: readonly number[]): string[] {
  return octets.flatMap((octet, index) =>
    index % 2 === 0 ? [((octet << 8) | (octets[index + 1] ?? 0)).toString(16)] : [],
  );
}

/** The SHA-256 of a public key (SubjectPublicKeyInfo), in the form that `dane-relay pin` prints. */
export const pin: Notation<string> = {
  expected: 'a pin as "dane-relay pin FILE" prints it: sha256/ and 44 characters of base64',
  read: (text) => {
    const [, base64] = /^sha256\/(.*)$/s.exec(text) ?? [];
    if (base64 === undefined) {
      const hex = /^(?:sha256[:/]?)?((?:[0-9a-f]{2}:?){32})$/i.test(text);
      return wrong(hex ? `${shown(text)} is written in hexadecimal; a pin is base64` : `${shown(text)} is not a pin`);
    }
    const bytes = Buffer.from(base64, 'base64');
    if (bytes.length === 32 && bytes.toString('base64') === base64) return right(text);
    if (bytes.length === 32 && base64.length === 43) return wrong(`${shown(text)} lacks its last "="`, `${text}=`);
    return wrong(`${shown(text)} is not the base64 of 32 octets`);
  },
};

/** `127.0.0.1:53`, `[::1]:53`; an address alone where there is a usual port. */
export function endpoint(usualPort: number | null): Notation<Endpoint> {
  return {
    expected: 'an address and a port such as 127.0.0.1:8025 or [::1]:8025',
    read: (text) => {
      const [, v6, v4, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
      if (isIPv6(text)) return wrong(`${shown(text)} needs brackets`, `[${text}]:${usualPort ?? 8025}`);
      const address = v6 !== undefined && isIPv6(v6) ? v6.toLowerCase() : v4 !== undefined && isIPv4(v4) ? v4 : null;
      if (address === null) return wrong(`${shown(text)} is not an address and a port`);
      const port = digits === undefined ? usualPort : Number(digits);
      if (port === null) return wrong(`${shown(text)} has no port`);
      return port <= 65_535 ? right({ address, port }) : wrong(`${shown(text)} has a port above 65535`);
    },
  };
}

/** The address of a resolver. Its AD bit is believed, so nobody may stand between it and us. */
export const loopbackEndpoint: Notation<Endpoint> = {
  expected: 'a loopback address such as 127.0.0.1:53 or [::1]:53',
  read: (text) => {
    const reading = endpoint(53).read(text);
    if (!reading.ok) return reading;
    const { address, port } = reading.value;
    if (port === 0) return wrong(`${shown(text)} has no port that could be asked`);
    if (isLoopback(address)) return reading;
    return wrong(
      `${shown(text)} is not on this machine, and what it says of DNSSEC could be forged on the way (RFC 7672 §2.1.1)`,
    );
  },
};

/** One IP address, without a port. */
export const address: Notation<string> = {
  expected: 'an IP address such as 127.0.0.1, 0.0.0.0 or ::1',
  read: (text) => {
    if (isIP(text) !== 0) return right(text.toLowerCase());
    const inside = /^\[(.*)\]$/.exec(text)?.[1] ?? '';
    return isIPv6(inside) ? wrong(`${shown(text)} has brackets`, inside) : wrong(`${shown(text)} is not an IP address`);
  },
};

/** A host name in canonical form. */
export const hostName: Notation<string> = {
  expected: 'a full host name such as relay.example.nl',
  read: (text) => {
    const name = toDomain(text);
    return name !== null && isHostName(name) ? right(name) : wrong(`${shown(text)} is not a host name`);
  },
};

/** A domain name, or `.`. */
export const dnsName: Notation<string> = {
  expected: 'a domain name, or "." for the root',
  read: (text) => {
    const name = text === '.' ? text : toDomain(text);
    return name === null ? wrong(`${shown(text)} is not a domain name`) : right(name);
  },
};

/** A domain of mail, every domain below one, or all: `example.nl`, `*.example.nl`, `*`. */
export const domainPattern: Notation<string> = {
  expected: 'a domain such as example.nl, "*.example.nl" or .example.nl for every domain below it, or "*" for all',
  read: (text) => {
    if (text === '*') return right(text);
    const [start = ''] = /^\*?\./.exec(text) ?? [];
    const below = start !== '';
    const name = toDomain(text.slice(start.length));
    if (name !== null && isHostName(name)) return right(below ? `*.${name}` : name);
    const at = text.lastIndexOf('@');
    const meant = at >= 0 ? toDomain(text.slice(at + 1)) : null;
    return meant === null ? wrong(`${shown(text)} is not a domain`) : wrong(`${shown(text)} is not a domain`, meant);
  },
};

/** A fixed next hop: `host.example` (by its MX), `[host.example]:587` (this host), `[192.0.2.1]` (this address). */
export const via: Notation<Via> = {
  expected: '"[192.0.2.1]:25", "[host.example]:587" (this very host) or host.example (by its MX records)',
  read: (text) => {
    const [, inside, plain, digits] = /^(?:\[([^\]]*)\]|([^[\]:]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
    const port = digits === undefined ? null : Number(digits);
    if (port !== null && (port < 1 || port > 65_535)) return wrong(`${shown(text)} has no port between 1 and 65535`);
    if (inside !== undefined) {
      const literal = isIPv6(inside) ? inside.toLowerCase() : literalAddress(`[${inside}]`);
      if (literal !== null) return right({ kind: 'literal', address: literal, port });
    }
    const name = toDomain(inside ?? plain ?? '');
    if (name !== null && isHostName(name)) {
      return right(inside === undefined ? { kind: 'domain', domain: name, port } : { kind: 'host', host: name, port });
    }
    const suffix = port === null ? '' : `:${port}`;
    if (plain !== undefined && isIPv4(plain)) return wrong(`${shown(text)} lacks brackets`, `[${plain}]${suffix}`);
    return wrong(`${shown(text)} is not a next hop`);
  },
};

/** The name of a client: it stands in the log and in metrics. */
export const clientName: Notation<string> = {
  expected: 'a short name of letters, digits, ".", "-" and "_"',
  read: (text) => {
    if (text === 'dane-relay') return wrong(`${shown(text)} is the name under which the relay sends its own notices`);
    return /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(text)
      ? right(text)
      : wrong(`${shown(text)} is not a name for a client`);
  },
};

/** A mail address in ASCII, as it stands in headers that the relay writes; its domain in canonical form. */
export const mailAddress: Notation<string> = {
  expected: 'a mail address such as tls-reports@example.nl',
  read: (text) => {
    const at = text.lastIndexOf('@');
    const [local, domain] = [text.slice(0, at), toDomain(text.slice(at + 1))];
    const plain = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/.test(local);
    if (at < 1 || !plain || local.length > 64 || domain === null || !isHostName(domain)) {
      return wrong(`${shown(text)} is not a mail address`);
    }
    return right(`${local}@${domain}`);
  },
};

/** A name of people, for a header or a report. */
export const displayName: Notation<string> = {
  expected: 'a name of 1 to 200 characters',
  read: (text) => {
    if (text.trim() === '' || text.length > 200) return wrong(`${shown(text)} is too short or too long for a name`);
    if (/[\p{C}]/u.test(text)) return wrong(`${shown(text)} has control characters in it`);
    return right(text.trim());
  },
};

/** A moment in milliseconds since the epoch; a date alone means its end in UTC. */
export const moment: Notation<number> = {
  expected: 'a date such as 2027-01-31 (to its end, in UTC) or a time such as 2027-01-31T12:00:00Z',
  read: (text) => {
    const isDate = /^\d{4}-\d\d-\d\d$/.test(text);
    const isTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d)$/.test(text);
    const at = isDate || isTime ? Date.parse(text) : Number.NaN;
    // Date.parse moves 30 February into March.
    const real =
      !Number.isNaN(at) && new Date(`${text.slice(0, 10)}T00:00Z`).toISOString().slice(0, 10) === text.slice(0, 10);
    if (!real) return wrong(`${shown(text)} is no date`);
    return right(isDate ? at + 86_400_000 : at);
  },
};

/** The name of a DKIM key in DNS: one label or several (RFC 6376 §3.1). */
export const selector: Notation<string> = {
  expected: 'the name of a key in DNS such as s1 or 2026-nov',
  read: (text) => {
    const name = toDomain(text);
    return name !== null && name.length <= 100 ? right(name) : wrong(`${shown(text)} is not a selector`);
  },
};

/** A path as it was written; where it is relative to is settled later. */
export const filePath: Notation<string> = {
  expected: 'a path, absolute or relative to the folder of the configuration file',
  read: (text) => {
    if (text === '') return wrong('the path is empty');
    return /[\u0000-\u001f\u007f]/.test(text) ? wrong(`${shown(text)} has control characters in it`) : right(text);
  },
};

/** Where the queue is kept. */
export const store: Notation<'sqlite'> = {
  expected: 'sqlite',
  read: (text) => {
    if (text === 'sqlite') return right(text);
    if (/^postgres(ql)?:/i.test(text)) return wrong('a queue in PostgreSQL is not available in this version');
    return wrong(`${shown(text)} is not a kind of store`, 'sqlite');
  },
};

/** How many processes share the work. */
export const workers: Notation<number | 'auto'> = {
  expected: 'auto or a whole number from 1 to 64',
  read: (text) => {
    if (text === 'auto') return right(text);
    const number = /^[0-9]{1,3}$/.test(text) ? Number(text) : 0;
    return number >= 1 && number <= 64 ? right(number) : wrong(`${shown(text)} is no number of processes`, 'auto');
  },
};
