/** Hostile chains: whatever is sent, the work is bounded. Operations are counted, not seconds. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readCertificate } from '../../../src/policy/dane/certificate.ts';
import { readDetails } from '../../../src/policy/dane/details.ts';
import { judgeChain } from '../../../src/policy/dane/match.ts';
import { priceOf } from '../../../src/policy/dane/signature.ts';
import type { Work } from '../../../src/policy/dane/trust-anchor.ts';
import { HOST, judge, rdata, type Scene } from './judge.ts';
import {
  alternativeNames,
  basicConstraints,
  type Certificate,
  ca,
  integer,
  keys,
  leaf,
  make,
  NOW,
  name,
  nameConstraints,
  oid,
  sequence,
  tlsa,
  tlv,
} from './pki.ts';

const root = ca('Root', null);

/** Judges and tells the work; the limits of the search are 200 signatures, 50,000 links and 200,000 names compared. */
function worked(scene: Scene): { readonly verdict: string; readonly work: Work } {
  const work: Work = { signatures: 0, links: 0, comparisons: 0 };
  return { verdict: judge({ ...scene, work }), work };
}

/** Certificates of one name and one key, each issued by another CA that also signs the others. */
function crossSigned(count: number, issuerNames: (index: number) => string): Certificate[] {
  const shared = keys('shared');
  const plain = {
    subjectName: name('Shared'),
    issuerName: name('Shared'),
    keys: shared,
    der: Buffer.alloc(0),
    serial: 1,
  };
  return Array.from({ length: count }, (_, index) =>
    ca('Shared', { ...plain, subjectName: name(issuerNames(index)) }, { keys: shared }),
  );
}

describe('TA-18 hundreds of certificates that sign each other', () => {
  const issuer = { ...root, keys: keys('shared'), subjectName: name('Shared') };
  const sent = leaf(HOST, issuer);

  test('500 of the same name and key, none leads to the anchor', () => {
    const chain = [sent, ...crossSigned(500, (index) => `CA ${index % 3}`)];
    const { verdict, work } = worked({ chain, records: [tlsa('2 0 1', root)] });
    expect(verdict).toBe('tlsa-mismatch');
    expect(work.signatures).toBeLessThanOrEqual(10);
  });

  test('500 that all name each other as issuer', () => {
    const chain = [sent, ...crossSigned(500, () => 'Shared')];
    const { verdict, work } = worked({ chain, records: [tlsa('2 0 1', root)] });
    expect(verdict).toBe('tlsa-mismatch');
    expect(work.signatures).toBeLessThanOrEqual(200);
    expect(work.links).toBeLessThanOrEqual(50_000);
  });

  test('the one of 500 that the record picks is found at once', () => {
    const many = crossSigned(500, (index) => `CA ${index}`);
    const { verdict, work } = worked({ chain: [sent, ...many], records: [tlsa('2 0 1', many[499] ?? root)] });
    expect(verdict).toBe('dane-ta 1');
    expect(work.signatures).toBeLessThanOrEqual(3);
  });

  test('the one of 500 that leads to the anchor is found', () => {
    const many = crossSigned(499, (index) => `CA ${index}`);
    const way = ca('Shared', root, { keys: keys('shared') });
    const chain = [sent, ...many.slice(0, 250), way, ...many.slice(250), root];
    expect(worked({ chain, records: [tlsa('2 0 1', root)] }).verdict).toBe('dane-ta 2');
  });

  test('500 of the same name with other keys, so that every signature must be tried', () => {
    const fakes = Array.from({ length: 500 }, (_, index) =>
      make({ subject: name('Shared'), keys: keys(`fake ${index % 250}`), issuer: root }),
    );
    const bare = leaf(HOST, issuer, { extensions: [alternativeNames(`dns:${HOST}`)] });
    const { verdict, work } = worked({ chain: [bare, ...fakes, root], records: [tlsa('2 0 1', root)] });
    expect(verdict).toBe('tlsa-not-trusted');
    expect(work.signatures).toBeLessThanOrEqual(200);
  });

  test('a ladder: two certificates at each of 60 steps, 2^60 ways', () => {
    const ladder: Certificate[] = [];
    let [above, beside] = [ca('Top', null), ca('Top', null)];
    for (let step = 0; step < 60; step++) {
      const own = keys(`step ${step}`);
      [above, beside] = [ca(`Step ${step}`, above, { keys: own }), ca(`Step ${step}`, beside, { keys: own })];
      ladder.push(above, beside);
    }
    const { verdict, work } = worked({ chain: [leaf(HOST, above), ...ladder], records: [tlsa('2 0 1', root)] });
    expect(verdict).toBe('tlsa-mismatch');
    expect(work.links).toBeLessThanOrEqual(2000);
  });

  test('a chain of 90 is followed, one of 150 is not', () => {
    const line: Certificate[] = [root];
    for (let step = 0; step < 150; step++)
      line.unshift(ca(`Line ${step}`, line[0] ?? root, { keys: keys(`line ${step % 5}`) }));
    const from = (depth: number): Certificate[] => {
      const part = line.slice(-depth);
      return [leaf(HOST, part[0] ?? root), ...part];
    };
    expect(worked({ chain: from(90), records: [tlsa('2 0 1', root)] }).verdict).toBe('dane-ta 90');
    expect(worked({ chain: from(150), records: [tlsa('2 0 1', root)] }).verdict).toBe('tlsa-not-trusted');
  });

  test('name constraints by the thousand fail closed', () => {
    const many = Array.from({ length: 2000 }, (_, index) => `dns:${index}.example.org`);
    const sentNames = leaf(HOST, root, { extensions: [alternativeNames(`dns:${HOST}`, ...many)] });
    expect(judge({ chain: [sentNames, root], records: [tlsa('2 0 1', root)] })).toBe('dane-ta 1');
  });
});

describe('TA-15 TA-18 every CA of a chain constrains the hundreds of names of all below it', () => {
  /** A chain in which every certificate has `names` names, and every CA excludes as many others. */
  function constrained(steps: number, names: number): Certificate[] {
    const own = Array.from({ length: names }, (_, index) => `dns:${index}.example.nl`);
    const others = nameConstraints(
      [],
      Array.from({ length: names }, (_, index) => `dns:${index}.example.org`),
    );
    const chain = [root];
    for (let step = 0; step < steps; step++) {
      const extensions = [basicConstraints(true), alternativeNames(...own), others];
      chain.unshift(ca(`Constraining ${step}`, chain[0] ?? root, { keys: keys(`step ${step % 5}`), extensions }));
    }
    const sent = leaf(HOST, chain[0] ?? root, { extensions: [alternativeNames(`dns:${HOST}`, ...own)] });
    return [sent, ...chain];
  }

  test('as many as a handshake can bring are refused before all are compared', () => {
    const { verdict, work } = worked({ chain: constrained(20, 250), records: [tlsa('2 0 1', root)] });
    expect(verdict).toBe('tlsa-not-trusted');
    expect(work.comparisons).toBeLessThanOrEqual(200_000);
  });

  test('each pair is compared once, however many ways lead over it', () => {
    const [sent, first, second] = constrained(2, 20);
    if (!sent || !first || !second) throw new Error('the chain is too short');
    // The same CA again and again, by issuers that lead nowhere: each is another way over the pairs below.
    const again = Array.from({ length: 20 }, (_, index) =>
      ca('Constraining 0', ca(`Nobody ${index}`, null), { keys: keys('step 0') }),
    );
    const { verdict, work } = worked({ chain: [sent, first, ...again, second], records: [tlsa('2 0 1', root)] });
    expect(verdict).toBe('tlsa-mismatch');
    expect(work.comparisons).toBeLessThanOrEqual(3 * 23 * 20);
  });

  test('what real CAs have is no matter', () => {
    expect(worked({ chain: constrained(3, 100), records: [tlsa('2 0 1', root)] }).verdict).toBe('dane-ta 4');
  });
});

describe('TA-18 keys that make a signature dear', () => {
  test('count for more than one', () => {
    const modulus = (bits: number): Buffer => Buffer.alloc(bits / 8, 0xff);
    const key = (bits: number): Buffer =>
      sequence(
        sequence(oid('1.2.840.113549.1.1.1'), Buffer.from('0500', 'hex')),
        tlv(0x03, Buffer.alloc(1), sequence(tlv(0x02, Buffer.alloc(1), modulus(bits)), integer(65_537))),
      );
    expect([2048, 3072, 4096, 8192, 16_384].map((bits) => priceOf(key(bits)))).toEqual([1, 1, 1, 4, 16]);
    expect(priceOf(keys('any').spki)).toBe(1);
  });

  test('are not tried two hundred times', () => {
    const issuer = { ...root, keys: keys('shared'), subjectName: name('Shared') };
    const bare = leaf(HOST, issuer, { extensions: [alternativeNames(`dns:${HOST}`)] });
    const fakes = Array.from({ length: 60 }, (_, index) => {
      const modulus = Buffer.alloc(2048, 0xff);
      modulus.writeUInt32BE(index, 1000);
      const spki = sequence(
        sequence(oid('1.2.840.113549.1.1.1'), Buffer.from('0500', 'hex')),
        tlv(0x03, Buffer.alloc(1), sequence(tlv(0x02, Buffer.alloc(1), modulus), integer(65_537))),
      );
      return make({ subject: name('Shared'), keys: keys('fake'), issuer: root, spki });
    });
    const { verdict, work } = worked({ chain: [bare, ...fakes, root], records: [tlsa('2 0 1', root)] });
    expect(verdict).toBe('tlsa-not-trusted');
    // Sixteen for each of the twelve that fit, and nothing for the rest.
    expect(work.signatures).toBe(192);
  });
});

describe('octets that are no certificate', () => {
  const mx = leaf(HOST, root);
  const records = [rdata(tlsa('3 1 1', mx)), rdata(tlsa('2 0 1', root))].map((octets) => ({
    usage: octets[0] ?? 0,
    selector: octets[1] ?? 0,
    matching: octets[2] ?? 0,
    data: octets.subarray(3),
  }));
  const verdict = (chain: readonly Buffer[]): string => judgeChain({ chain, records, names: [HOST], at: NOW }).code;

  test.each<[string, Buffer[], string]>([
    ['nothing', [Buffer.alloc(0)], 'tlsa-bad-chain'],
    ['one octet behind the certificate', [Buffer.concat([mx.der, Buffer.alloc(1)])], 'tlsa-bad-chain'],
    ['a certificate that is cut short', [mx.der.subarray(0, -1)], 'tlsa-bad-chain'],
    ['garbage behind a good leaf', [mx.der, Buffer.from('garbage')], 'tlsa-bad-chain'],
    ['a length of four gigabytes', [Buffer.from('3084ffffffff', 'hex')], 'tlsa-bad-chain'],
    ['an indefinite length', [Buffer.from('30800000', 'hex')], 'tlsa-bad-chain'],
    ['two thousand levels', [Buffer.from('30820fa0'.repeat(2000), 'hex')], 'tlsa-bad-chain'],
  ])('%s', (_, chain, code) => {
    expect(verdict(chain)).toBe(code);
  });

  test('a name of a megabyte', () => {
    const giant = leaf(HOST, root, { subject: name('x '.repeat(500_000)) });
    expect(judge({ chain: [giant, root], records: [tlsa('2 0 1', root)] })).toBe('dane-ta 1');
  });

  test('no octet changed in a certificate makes anything throw, or a stranger pass', () => {
    fc.assert(
      fc.property(fc.nat({ max: mx.der.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const octets = Buffer.from(mx.der);
        octets[at] = (octets[at] ?? 0) ^ change;
        const read = readCertificate(octets);
        if (read) readDetails(read);
        // The key is untouched where EE still matches; the signature is not, so TA never does.
        expect(verdict([octets, root.der])).not.toBe('dane-ta');
      }),
      { numRuns: 200 },
    );
  });

  test('random octets never throw', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 4 }), (chain) => {
        expect(verdict(chain.map((octets) => Buffer.from(octets)))).toMatch(/^tlsa-/);
      }),
    );
  });
});
