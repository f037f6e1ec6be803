/**
 * MTA-STS through the whole relay: real DNS, a real web server with the policies, real TLS. Each row is a domain with
 * what becomes of its mail; hosts that must not hear of any mail are asked at the end.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LabZone } from '../../lab/dns.ts';
import type { Lab } from '../../lab/lab.ts';
import { goodHost, goodSts, type HostEntry, type PublishedSts, type PublishedTlsa } from '../../lab/world.ts';
import { signed } from '../support/route-lab.ts';
import { arrived, type Follower, type Host, type Journey, startJourney, told, wasToldOfMail } from './support.ts';

const OWN: PublishedTlsa = { numbers: [3, 1, 1], of: 'host' };
const STRANGER: PublishedTlsa = { numbers: [3, 1, 1], of: 'stranger' };
const PKIX: PublishedTlsa = { numbers: [1, 0, 1], of: 'host' };

/** No TLSA, a certificate of the authority that everybody believes, and a policy that enforces. */
function host(
  domain: string,
  changes: Partial<HostEntry> & Pick<Host, 'dnssec'> = {},
  sts: Partial<PublishedSts> = {},
): Host {
  return { ...goodHost(domain, { certificate: 'public', tlsa: [] }), ...changes, sts: goodSts(domain, sts) };
}

const unlisted = { mx: ['mx.elsewhere.test', '*.mx.elsewhere.test'] };
const selfSigned = { certificate: 'self-signed' } as const;

const HOSTS: readonly Host[] = [
  goodHost('office.test'),
  host('good.test'),
  host('unsigned.test', { dnssec: 'unsigned' }),
  host('wildcard.test', {}, { mx: ['*.wildcard.test'] }),
  host('unlisted.test', {}, unlisted),
  host('x.two-labels.test', {}, { mx: ['*.two-labels.test'] }),
  host('self-signed.test', selfSigned),
  host('other-name.test', { certificate: 'public-other-names' }),
  host('stripped.test', { mood: 'no-starttls' }),
  host('spoilt.test', { mood: 'handshake-fails' }),
  host('testing.test', selfSigned, { mode: 'testing' }),
  host('testing-clear.test', { mood: 'no-starttls' }, { mode: 'testing', ...unlisted }),
  host('mode-none.test', selfSigned, { mode: 'none' }),
  host('missing.test', selfSigned, { serving: 'missing' }),
  host('redirects.test', selfSigned, { serving: 'redirects' }),
  host('huge.test', selfSigned, { serving: 'huge' }),
  host('page.test', selfSigned, { serving: 'page' }),
  host('spoilt-policy.test', selfSigned, { serving: 'spoilt' }),
  host('bad-web.test', selfSigned, { serving: 'self-signed' }),
  host('dane.test', { ...selfSigned, tlsa: [OWN] }, unlisted),
  host('dane-wrong.test', { tlsa: [STRANGER] }),
  host('dane-stripped.test', { tlsa: [OWN], mood: 'no-starttls' }),
  host('dane-forged.test', { tlsa: [OWN], tlsaForged: true }),
  host('unusable.test', { tlsa: [PKIX] }),
  host('unusable-self-signed.test', { ...selfSigned, tlsa: [PKIX] }),
  host('far.test', selfSigned, unlisted),
  host('known.test'),
  host('changes.test', selfSigned),
];

/** Hosts that may be dialled and must never be told of mail. */
const UNPROVEN = [
  'self-signed',
  'other-name',
  'stripped',
  'spoilt',
  'dane-wrong',
  'dane-stripped',
  'unusable-self-signed',
];
/** Hosts that must not even be dialled. */
const UNTOUCHABLE = ['mx.unlisted.test', 'mx.x.two-labels.test', 'mx.dane-forged.test'];

const announced = (web: string): readonly string[] => ['_mta-sts TXT "v=STSv1; id=1;"', `mta-sts A ${web}`];

function zonesOf({ webAddress }: Pick<Lab, 'webAddress'>): Readonly<Record<string, LabZone>> {
  return {
    'unlisted-first.test': signed('@ MX 10 mx.self-signed.test.', '@ MX 20 mx.good.test.', ...announced(webAddress)),
    // An alias of a domain that enforces, and a name below one.
    'aliases.test': signed('to-far CNAME far.test.'),
    'parent.test': signed('@ MX 10 mx.good.test.', 'sub MX 10 mx.far.test.', ...announced(webAddress)),
    'two-records.test': signed('@ MX 10 mx.far.test.', ...announced(webAddress), '_mta-sts TXT "v=STSv1; id=2;"'),
    'split-record.test': signed(
      '@ MX 10 mx.self-signed.test.',
      '_mta-sts TXT "v=STS" "v1; id" "=1;"',
      `mta-sts A ${webAddress}`,
    ),
    'record-alias.test': signed(
      '@ MX 10 mx.self-signed.test.',
      '_mta-sts CNAME _mta-sts.unlisted-first.test.',
      `mta-sts A ${webAddress}`,
    ),
  };
}

let journey: Journey;
let lab: Lab;
let relay: Follower;

beforeAll(async () => {
  journey = await startJourney(HOSTS, zonesOf);
  lab = journey.lab;
  for (const domain of [
    'unlisted-first.test',
    'parent.test',
    'two-records.test',
    'split-record.test',
    'record-alias.test',
  ]) {
    await lab.publishSts(domain, goodSts(domain, { mx: ['mx.good.test'] }));
  }
  const routed = { domain: 'routed.test', via: `[mx.far.test]:${lab.port}` };
  const routedToDomain = { domain: 'routed-to-domain.test', via: 'unlisted.test' };
  relay = await journey.relay({ queue: { retry: ['1h'] }, destinations: [routed, routedToDomain] });
});
afterAll(() => journey?.end());

const FREE = 'delivered encrypted-opportunistic encrypted at';

describe('what becomes of mail', () => {
  test.each([
    ['STS-04 listed, with a valid certificate', 'good.test', 'delivered webpki-matched authenticated at mx.good.test'],
    ['STS-04 without DNSSEC', 'unsigned.test', 'delivered webpki-matched authenticated at mx.unsigned.test'],
    ['STS-06 listed by a wildcard', 'wildcard.test', 'delivered webpki-matched authenticated at mx.wildcard.test'],
    ['STS-06 not listed: not dialled', 'unlisted.test', 'deferred 4.7.5 sts-mx-not-listed'],
    ['STS-06 two labels for a wildcard: not dialled', 'x.two-labels.test', 'deferred 4.7.5 sts-mx-not-listed'],
    [
      'STS-06 the first is not listed, the second is',
      'unlisted-first.test',
      'delivered webpki-matched authenticated at mx.good.test',
    ],
    ['STS-04 a certificate that signs itself', 'self-signed.test', 'deferred 4.7.5 webpki-not-trusted'],
    ['STS-04 a certificate for another name', 'other-name.test', 'deferred 4.7.5 webpki-name-mismatch'],
    ['STS-04 no STARTTLS', 'stripped.test', 'deferred 4.7.4 starttls-not-offered'],
    ['STS-04 a handshake that fails', 'spoilt.test', 'deferred 4.7.5 tls-handshake-failed'],
    ['STS-08 testing: only noted', 'testing.test', `${FREE} mx.testing.test`],
    [
      'STS-08 testing: in the clear, not listed',
      'testing-clear.test',
      'delivered clear-not-offered clear at mx.testing-clear.test',
    ],
    ['STS-08 mode none', 'mode-none.test', `${FREE} mx.mode-none.test`],
    ['STS-07 no policy where it should be', 'missing.test', `${FREE} mx.missing.test`],
    ['STS-07 a redirect', 'redirects.test', `${FREE} mx.redirects.test`],
    ['STS-07 a web server with a wrong certificate', 'bad-web.test', `${FREE} mx.bad-web.test`],
    ['STS-07 a policy of 10 MB', 'huge.test', `${FREE} mx.huge.test`],
    ['STS-07 a page in the place of a policy', 'page.test', `${FREE} mx.page.test`],
    ['STS-08 a policy with a NUL in it', 'spoilt-policy.test', `${FREE} mx.spoilt-policy.test`],
    ['STS-08 two records', 'two-records.test', `${FREE} mx.far.test`],
    ['STS-08 a record in pieces', 'split-record.test', 'deferred 4.7.5 sts-mx-not-listed'],
    ['STS-08 a record behind an alias', 'record-alias.test', 'deferred 4.7.5 sts-mx-not-listed'],
    [
      'STS-02 DANE fits, not listed, certificate signs itself',
      'dane.test',
      'delivered dane-ee authenticated at mx.dane.test',
    ],
    ['STS-01 DANE does not fit, MTA-STS would be content', 'dane-wrong.test', 'deferred 4.7.5 tlsa-mismatch'],
    ['STS-01 DANE without STARTTLS', 'dane-stripped.test', 'deferred 4.7.4 starttls-not-offered'],
    ['STS-01 a TLSA lookup that fails', 'dane-forged.test', 'deferred 4.7.5 tlsa-lookup-failed'],
    [
      'STS-03 unusable TLSA, valid certificate',
      'unusable.test',
      'delivered webpki-matched authenticated at mx.unusable.test',
    ],
    [
      'STS-03 unusable TLSA, certificate signs itself',
      'unusable-self-signed.test',
      'deferred 4.7.5 webpki-not-trusted',
    ],
    ['STS-05 an alias of a domain that enforces', 'to-far.aliases.test', `${FREE} mx.far.test`],
    ['STS-05 a name below a domain that enforces', 'sub.parent.test', `${FREE} mx.far.test`],
    ['STS-05 a route to a host: the host is the policy domain', 'routed.test', `${FREE} mx.far.test`],
    ['STS-05 a route to a domain: its policy', 'routed-to-domain.test', 'deferred 4.7.5 sts-mx-not-listed'],
  ])('%s', async (_, domain, story) => {
    await relay.mail(domain);
    const event = await relay.attempt(domain);
    expect(told(event)).toBe(story);
    expect(arrived(lab, domain)).toHaveLength(event.event === 'delivered' ? 1 : 0);
    if (event.code === 'webpki-matched') {
      expect(event).toMatchObject({ policy: 'sts', sts: { mode: 'enforce', id: '1' } });
      expect(arrived(lab, domain)[0]?.tls?.serverName).toBe(event.host);
    }
  });

  test('nobody else was told of it, and who may not be dialled was not', () => {
    for (const name of UNPROVEN) expect([name, wasToldOfMail(lab, `mx.${name}.test`)]).toEqual([name, false]);
    for (const name of UNTOUCHABLE) expect([name, lab.contacts(name)]).toEqual([name, []]);
  });

  test('STS-07 what went wrong with a policy is in the log, with its name of RFC 8460', async () => {
    expect(await relay.attempt('missing.test')).toMatchObject({
      sts: { mode: null, failure: 'sts-policy-fetch-error' },
    });
    expect(await relay.attempt('redirects.test')).toMatchObject({ sts: { failure: 'sts-policy-fetch-error' } });
    expect(await relay.attempt('bad-web.test')).toMatchObject({ sts: { failure: 'sts-webpki-invalid' } });
    expect(await relay.attempt('page.test')).toMatchObject({ sts: { failure: 'sts-policy-invalid' } });
    expect(await relay.attempt('spoilt-policy.test')).toMatchObject({ sts: { failure: 'sts-policy-invalid' } });
    expect(relay.running.output()).toMatch(/the MTA-STS policy of huge\.test cannot be had: .* is larger than 64 KiB/);
    expect(relay.running.output()).toContain('the MTA-STS policy of redirects.test cannot be had');
  });

  test('STS-08 what a policy in testing would have kept back is in the log', () => {
    const lines = relay.running.output().split('\n');
    const about = (domain: string) => lines.filter((line) => line.includes('in testing') && line.includes(domain));
    expect(about('mx.testing.test').join()).toContain('webpki-not-trusted');
    expect(about('mx.testing-clear.test').join()).toContain('sts-mx-not-listed');
  });
});

describe('STS-07 what is known', () => {
  test('holds without its record, without its web page, and over a restart', async () => {
    const before = await journey.relay({ queue: { retry: ['1h'] } });
    await before.mail('known.test');
    expect(told(await before.attempt('known.test'))).toBe('delivered webpki-matched authenticated at mx.known.test');
    // Somebody in between takes the record away, and answers in the place of the host.
    await lab.publishSts('known.test', null);
    await lab.replaceCertificate('mx.known.test');
    await before.mail('known.test');
    expect(told(await before.attempt('known.test', 2))).toBe('deferred 4.7.5 webpki-not-trusted');
    await before.running.stop();
    const after = await before.running.again();
    try {
      expect((await after.command('queue', 'retry', '--domain', 'known.test')).status).toBe(0);
      const retried = await after.untilEvent(({ event, domain }) => event === 'deferred' && domain === 'known.test');
      expect(retried.code).toBe('webpki-not-trusted');
    } finally {
      await after.stop();
    }
    expect(lab.stsFetches('known.test')).toBe(1);
    expect(arrived(lab, 'known.test')).toHaveLength(1);
  });

  test('gives way to a new version at the next attempt', async () => {
    await relay.mail('changes.test');
    expect(told(await relay.attempt('changes.test'))).toBe('deferred 4.7.5 webpki-not-trusted');
    await lab.publishSts('changes.test', goodSts('changes.test', { id: '2', mode: 'testing' }));
    expect((await relay.running.command('queue', 'retry', '--domain', 'changes.test')).status).toBe(0);
    const event = await relay.attempt('changes.test', 2);
    expect(told(event)).toBe(`${FREE} mx.changes.test`);
    expect(event.sts).toEqual({ mode: 'testing', id: '2' });
    expect(lab.stsFetches('changes.test')).toBe(2);
  });
});
