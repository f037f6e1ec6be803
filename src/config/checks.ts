/**
 * What no single value can be blamed for: keys that need or exclude each other, lists that contradict themselves.
 *
 * Each check also runs when other keys beside it are wrong, so that all mistakes are told at once. It may therefore
 * meet anything in place of a value that could not be read, and looks only at what it can make sense of.
 */

/** Says what is wrong at a path below the value that is looked at. */
type Complain = (
  path: (string | number)[],
  message: string,
  params?: { readonly expected?: string; readonly nearest?: string },
) => void;

export type Check = (value: unknown, complain: Complain) => void;

type Keys = Readonly<Record<string, unknown>>;

function keysOf(value: unknown): Keys {
  return typeof value === 'object' && value !== null ? (value as Keys) : {};
}

function itemsOf(value: unknown): readonly Keys[] {
  return Array.isArray(value) ? value.map(keysOf) : [];
}

/** Networks with a shorter prefix take in much of the internet, which no client of a relay owns. */
const SHORTEST_PREFIX = { ipv4: 8, ipv6: 7 } as const;

function isTooWide(network: string): boolean {
  const prefix = Number(network.split('/')[1]);
  return prefix < SHORTEST_PREFIX[network.includes(':') ? 'ipv6' : 'ipv4'];
}

export function client(value: unknown, complain: Complain): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return;
  const { networks, pins, tls } = keysOf(value);
  if (networks === undefined && pins === undefined) {
    complain([], 'has neither networks nor pins and would match everybody', {
      expected: 'networks, pins or both',
    });
  }
  if (pins !== undefined && tls === 'optional') {
    complain(['tls'], 'is optional, but pins can only be checked over TLS', { nearest: 'required' });
  }
  if (pins !== undefined) return;
  (Array.isArray(networks) ? networks : []).forEach((network: unknown, index) => {
    if (typeof network !== 'string' || !isTooWide(network)) return;
    complain(['networks', index], 'takes in much of the internet, and there are no pins: this would be an open relay', {
      expected: 'the networks of this client, or pins as well',
    });
  });
}

export function clients(value: unknown, complain: Complain): void {
  const names = new Map<unknown, number>();
  itemsOf(value).forEach(({ name }, index) => {
    if (typeof name !== 'string') return;
    const earlier = names.get(name);
    if (earlier === undefined) names.set(name, index);
    else complain([index, 'name'], `is the name of clients[${earlier}] already`, { expected: 'a name of its own' });
  });
}

export function listeners(value: unknown, complain: Complain): void {
  const taken = new Map<string, number>();
  itemsOf(value).forEach(({ address, port }, index) => {
    if (typeof address !== 'string' || typeof port !== 'number' || port === 0) return;
    const place = `${address} ${port}`;
    const earlier = taken.get(place);
    if (earlier === undefined) taken.set(place, index);
    else complain([index], `is the same address and port as listen[${earlier}]`, { expected: 'each only once' });
  });
}

/** Report-only is for a while. How far ahead its end may be is checked where the time is known. */
export function reportMode(value: unknown, complain: Complain): void {
  const { mode, until } = keysOf(value);
  if (mode === 'report' && until === undefined) {
    complain(['mode'], 'has no end', { expected: 'until beside it, with a date at most 30 days ahead' });
  }
  if (mode !== 'report' && until !== undefined)
    complain(['until'], 'is for mode: report only', { expected: 'mode: report beside it' });
}

export function destination(value: unknown, complain: Complain): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return;
  reportMode(value, complain);
  const { domain, domains, mode } = keysOf(value);
  // One that cannot be read has been told already.
  if (!('domain' in value || 'domains' in value)) {
    complain([], 'has neither domain nor domains', { expected: 'one of the two' });
  }
  if (domain !== undefined && domains !== undefined) {
    complain(['domains'], 'cannot stand beside domain', { expected: 'one of the two' });
  }
  if (mode === 'report' && keysOf(value)['tls'] === 'may') {
    complain(['mode'], 'has nothing to report, because tls: may switches DANE off', { expected: 'another tls' });
  }
  const { tls, via, pins } = keysOf(value);
  if (tls === 'pin' && pins === undefined) {
    complain(['tls'], 'has no pins, so nothing could ever be delivered', { expected: 'pins beside it' });
  }
  if (tls !== 'pin' && pins !== undefined) {
    complain(['pins'], 'are for tls: pin only', { expected: 'tls: pin beside them' });
  }
  if (tls === 'verify' && keysOf(via)['kind'] === 'literal') {
    complain(['via'], 'is an address, for which no certificate can be verified: nothing could ever be delivered', {
      expected: 'a host name, or another tls',
    });
  }
  if (tls === 'dane-only' && keysOf(via)['kind'] === 'literal') {
    complain(['via'], 'is an address, where DANE cannot apply: under dane-only nothing could ever be delivered', {
      expected: 'a host name, or another tls',
    });
  }
}

export function destinations(value: unknown, complain: Complain): void {
  const exact = new Map<string, number>();
  const below = new Map<string, number>();
  let all: number | undefined;
  itemsOf(value).forEach(({ domain, domains }, index) => {
    if (typeof domain !== 'string') {
      if (typeof domains === 'string' && all !== undefined) {
        complain([index], `never matches, because destinations[${all}] matches all of it first`, {
          expected: 'the special rules before the general ones',
        });
      }
      return;
    }
    const earlier = all ?? exact.get(domain) ?? covering(domain, below);
    if (earlier !== undefined) {
      complain([index], `never matches, because destinations[${earlier}] matches all of it first`, {
        expected: 'the special rules before the general ones',
      });
    }
    if (domain === '*') all ??= index;
    else if (domain.startsWith('*.')) below.set(domain.slice(2), below.get(domain.slice(2)) ?? index);
    else exact.set(domain, exact.get(domain) ?? index);
  });
}

/** The rule that takes every domain below a parent of `domain`; `*.a.nl` covers `b.a.nl` and `*.b.a.nl`. */
function covering(domain: string, below: ReadonlyMap<string, number>): number | undefined {
  if (domain === '*') return undefined;
  const wildcard = domain.startsWith('*.');
  const labels = (wildcard ? domain.slice(2) : domain).split('.');
  for (let skip = wildcard ? 0 : 1; skip < labels.length; skip++) {
    const rule = below.get(labels.slice(skip).join('.'));
    if (rule !== undefined) return rule;
  }
  return undefined;
}

export function dkim(value: unknown, complain: Complain): void {
  const { domain, senders, selector, key, managed, retireAfter } = keysOf(value);
  if (managed !== undefined) {
    for (const [name, given] of Object.entries({ selector, key })) {
      if (given !== undefined)
        complain([name], 'is for a key that is given as a file, and managed is set', {
          expected: 'one of the two',
        });
    }
  } else if (selector === undefined || key === undefined) {
    const missing = [...(selector === undefined ? ['selector'] : []), ...(key === undefined ? ['key'] : [])];
    complain([], `has no ${missing.join(' and no ')}`, { expected: 'selector and key, or managed: true' });
  }
  if (managed === undefined && retireAfter !== undefined) {
    complain(['retireAfter'], 'is for managed keys only', { expected: 'managed: true' });
  }
  if (typeof domain !== 'string') return;
  (Array.isArray(senders) ? senders : []).forEach((pattern: unknown, index) => {
    if (typeof pattern !== 'string' || pattern === domain || pattern.endsWith(`.${domain}`)) return;
    complain(['senders', index], `is not ${domain} or below it, and a signature of ${domain} would not count for it`, {
      expected: `${domain} or "*.${domain}"`,
    });
  });
}

/** The lines of one domain are one rule: they may bring a key each, and must agree on the rest. */
export function dkimList(value: unknown, complain: Complain): void {
  const lines = itemsOf(value);
  lines.forEach((line, index) => {
    const domain = line['domain'];
    if (typeof domain !== 'string') return;
    const earlier = lines.findIndex((other) => other['domain'] === domain);
    if (earlier === index) return;
    for (const name of ['existing', 'required', 'senders']) {
      if (JSON.stringify(line[name]) === JSON.stringify(lines[earlier]?.[name])) continue;
      complain([index, name], `is not as in dkim[${earlier}], which is for the same domain`, {
        expected: 'the same in both',
      });
    }
    const same = (name: string): number =>
      lines.findIndex((other) => other['domain'] === domain && other[name] === line[name]);
    const twice = line['managed'] === undefined ? same('selector') : same('managed');
    if (twice < index) complain([index], `gives the key of dkim[${twice}] again`, { expected: 'each only once' });
  });
}

/** The short ways to write a resolver, in full. */
export function expandResolver(value: unknown): unknown {
  if (value === 'managed') return { managed: true };
  return typeof value === 'string' ? { address: value } : value;
}

export function resolver(value: unknown, complain: Complain): void {
  const { managed, address, include, anchor } = keysOf(value);
  if (address === undefined) return;
  if (managed !== undefined) {
    complain(['managed'], 'cannot stand beside an address', { expected: 'one of the two' });
  }
  for (const [name, given] of Object.entries({ include, anchor })) {
    if (given !== undefined) {
      complain([name], 'is for the managed Unbound only, and an address is given', { expected: 'managed: true' });
    }
  }
}

export function tlsReports(value: unknown, complain: Complain): void {
  const { contact, from } = keysOf(value);
  if (typeof contact !== 'string' || typeof from !== 'string') return;
  const domain = contact.slice(contact.lastIndexOf('@') + 1);
  if (from.slice(from.lastIndexOf('@') + 1) === domain) return;
  complain(['from'], 'is in another domain than contact, and receivers would not believe such reports', {
    expected: `an address at ${domain}`,
  });
}

export function queue(value: unknown, complain: Complain): void {
  const { retry, lifetime, tlsLifetime } = keysOf(value);
  if (typeof tlsLifetime === 'number' && typeof lifetime === 'number' && tlsLifetime > lifetime) {
    complain(['tlsLifetime'], 'is longer than lifetime, which ends first', { expected: 'at most queue.lifetime' });
  }
  const first: unknown = Array.isArray(retry) ? retry[0] : undefined;
  if (typeof first === 'number' && typeof lifetime === 'number' && lifetime <= first) {
    complain(['lifetime'], 'ends before the first retry, so nothing would ever be tried twice', {
      expected: 'more than the first of queue.retry',
    });
  }
}
