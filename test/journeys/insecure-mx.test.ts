/** An unsigned domain whose mail hosts are signed (RFC 7672 §2.2.1), under each of the three settings for it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Lab } from '../../lab/lab.ts';
import { goodHost } from '../../lab/world.ts';
import { unsigned } from '../support/route-lab.ts';
import { type Follower, type Journey, startJourney, told } from './support.ts';

const STRANGER = { numbers: [3, 1, 1], of: 'stranger' } as const;
const HOSTS = [
  goodHost('office.test'),
  goodHost('right.test'),
  goodHost('wrong.test', { tlsa: [STRANGER] }),
  goodHost('forged.test', { tlsaForged: true }),
  goodHost('stripped.test', { mood: 'no-starttls' }),
  goodHost('no-tlsa.test', { tlsa: [], mood: 'no-starttls' }),
];

let journey: Journey;
let lab: Lab;
beforeAll(async () => {
  journey = await startJourney(HOSTS, () =>
    Object.fromEntries(
      ['right', 'wrong', 'forged', 'stripped', 'no-tlsa'].map((host) => [
        `at-${host}.test`,
        unsigned(`@ MX 10 mx.${host}.test.`),
      ]),
    ),
  );
  lab = journey.lab;
});
afterAll(() => journey?.end());

const OPPORTUNISTIC = 'delivered encrypted-opportunistic encrypted';
const UNAUTHENTICATED = 'delivered encrypted-unauthenticated encrypted';

describe.each([
  [
    'dane',
    {
      'at-right.test': 'delivered dane-ee host-authenticated at mx.right.test',
      'at-wrong.test': 'deferred 4.7.5 tlsa-mismatch',
      'at-forged.test': 'deferred 4.7.5 tlsa-lookup-failed',
      'at-stripped.test': 'deferred 4.7.4 starttls-not-offered',
      'at-no-tlsa.test': 'delivered clear-not-offered clear at mx.no-tlsa.test',
    },
  ],
  [
    'encrypt',
    {
      'at-right.test': `${UNAUTHENTICATED} at mx.right.test`,
      'at-wrong.test': `${UNAUTHENTICATED} at mx.wrong.test`,
      'at-forged.test': 'deferred 4.7.5 tlsa-lookup-failed',
      'at-stripped.test': 'deferred 4.7.4 starttls-not-offered',
      'at-no-tlsa.test': 'delivered clear-not-offered clear at mx.no-tlsa.test',
    },
  ],
  [
    'may',
    {
      'at-right.test': `${OPPORTUNISTIC} at mx.right.test`,
      'at-wrong.test': `${OPPORTUNISTIC} at mx.wrong.test`,
      'at-forged.test': `${OPPORTUNISTIC} at mx.forged.test`,
      'at-stripped.test': 'delivered clear-not-offered clear at mx.stripped.test',
      'at-no-tlsa.test': 'delivered clear-not-offered clear at mx.no-tlsa.test',
    },
  ],
])('MX-11 MX-12 insecureMx: %s', (insecureMx, stories) => {
  let relay: Follower;
  beforeAll(async () => {
    relay = await journey.relay({ delivery: { port: lab.port, insecureMx }, queue: { retry: ['1h'] } });
  });

  test.each(Object.entries(stories))('%s: %s', async (domain, story) => {
    await relay.mail(domain);
    const event = await relay.attempt(domain);
    expect(told(event)).toBe(story);
    expect(event.dnssec).toMatchObject({ mx: 'insecure', address: 'secure' });
    if (insecureMx === 'may') expect(event.dnssec?.tlsa).toBeNull();
  });
});
