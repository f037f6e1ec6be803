/**
 * What node:crypto makes of certificates, where it is not what DANE needs. Each test pins the behaviour down, so that a
 * release of Node that changes it is noticed, and shows that the judgement here does not depend on it.
 */
import { createPublicKey, X509Certificate } from 'node:crypto';
import forge from 'node-forge';
import { expect, test } from 'vitest';
import { readCertificate } from '../../../src/policy/dane/certificate.ts';
import { readDetails } from '../../../src/policy/dane/details.ts';
import { matchesHost } from '../../../src/policy/dane/names.ts';
import { isSignedBy, readPublicKey } from '../../../src/policy/dane/signature.ts';
import { HOST, judge } from './judge.ts';
import {
  alternativeNames,
  basicConstraints,
  type Certificate,
  ca,
  keys,
  keyUsage,
  leaf,
  name,
  oid,
  sequence,
  tlsa,
  tlv,
} from './pki.ts';

const root = ca('Root', null);
const inter = ca('CA', root);
const mx = leaf(HOST, inter);
const node = ({ der }: Certificate): X509Certificate => new X509Certificate(der);
const ours = ({ der }: Certificate) => {
  const read = readCertificate(der);
  if (read === null) throw new Error('no certificate');
  return read;
};

test('NODE-10 Node encodes a key anew; here it is cut out of the certificate', () => {
  const { spki } = keys('traps', 'rsa');
  const bare = sequence(sequence(oid('1.2.840.113549.1.1.1')), tlv(0x03, spki.subarray(spki.length - 271)));
  const sent = leaf(HOST, inter, { spki: bare });
  expect(node(sent).publicKey.export({ type: 'spki', format: 'der' })).not.toEqual(bare);
  expect(readCertificate(sent.der)?.spki).toEqual(bare);
});

test('NODE-10 Node throws on a key of an unknown kind; here it is only of no use for signatures', () => {
  const strange = sequence(sequence(oid('1.3.6.1.4.1.55555.9')), tlv(0x03, Buffer.from([0, 1])));
  const sent = leaf(HOST, inter, { spki: strange });
  expect(() => node(sent).publicKey).toThrow();
  expect(readCertificate(sent.der)?.spki).toEqual(strange);
  expect(readPublicKey(strange)).toBeNull();
});

test('NODE-11 the older form of a certificate has another thing under the name of its key', () => {
  const legacy = node(mx).toLegacyObject() as unknown as { readonly pubkey?: Buffer };
  expect(legacy.pubkey?.equals(mx.keys.spki) ?? false).toBe(false);
  expect(readCertificate(mx.der)?.spki).toEqual(mx.keys.spki);
});

test('NODE-12 Node ignores octets behind a certificate or key; here they make it none', () => {
  const longer = Buffer.concat([mx.der, Buffer.from([0])]);
  const longerKey = Buffer.concat([mx.keys.spki, Buffer.from([0])]);
  expect(new X509Certificate(longer).raw).toEqual(mx.der);
  expect(() => createPublicKey({ key: longerKey, format: 'der', type: 'spki' })).not.toThrow();
  expect(readCertificate(longer)).toBeNull();
  expect(readPublicKey(longerKey)).toBeNull();
});

test('NODE-13 checkIssued looks at no signature, and verify at nothing else; a path needs both and more', () => {
  const fake = ca('CA', null, { keys: keys('fake'), extensions: [basicConstraints(true), keyUsage(5)] });
  const sent = leaf(HOST, ca('CA', root, { extensions: [basicConstraints(true)] }), {
    extensions: [alternativeNames(`dns:${HOST}`)],
  });
  expect(node(sent).checkIssued(node(fake))).toBe(true);
  expect(node(sent).verify(node(fake).publicKey)).toBe(false);
  expect(isSignedBy(ours(sent), fake.keys.spki)).toBe(false);
  expect(judge({ chain: [sent, fake], records: [tlsa('2 0 1', fake)] })).toBe('tlsa-not-trusted');

  const noCa = ca('CA', root, { extensions: [basicConstraints(false)] });
  expect(node(leaf(HOST, noCa)).verify(node(noCa).publicKey)).toBe(true);
  expect(judge({ chain: [leaf(HOST, noCa), noCa, root], records: [tlsa('2 0 1', root)] })).toBe('tlsa-not-trusted');
});

test('NODE-14 what Node calls keyUsage is the extended one, and version 1 is no CA to it; here both are read', () => {
  const old = ca('Root', null, { version: 1 });
  expect(node(old).ca).toBe(false);
  expect(judge({ chain: [leaf(HOST, old), old], records: [tlsa('2 0 1', old)] })).toBe('dane-ta 1');
  expect(node(mx).keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
  expect([...(readDetails(ours(mx)).keyUsage ?? [])]).toEqual([0, 2]);
  expect(readDetails(ours(ca('Long', null, { extensions: [basicConstraints(true, 3)] }))).pathLength).toBe(3);
  expect(node(leaf(HOST, root, { subject: name() })).subject).toBeUndefined();
});

test('NODE-15 checkHost takes partial wildcards and reads a leading dot as any subdomain; ours does not', () => {
  const wild = node(leaf(HOST, root, { extensions: [alternativeNames('dns:m*.example.nl')] }));
  expect(wild.checkHost(HOST)).toBe('m*.example.nl');
  expect(matchesHost('m*.example.nl', HOST)).toBe(false);
  expect(node(mx).checkHost('.example.nl')).toBe(HOST);
  expect(matchesHost(HOST, '.example.nl')).toBe(false);
  expect(node(mx).checkHost(`${HOST}.`)).toBeUndefined();
  expect(matchesHost(`${HOST}.`, HOST)).toBe(true);
});

test('NODE-16 node-forge cannot read a certificate with an EC key; its octets are read here without it', () => {
  const parsed = forge.asn1.fromDer(forge.util.createBuffer(mx.der.toString('binary')));
  expect(() => forge.pki.certificateFromAsn1(parsed)).toThrow(/OID is not RSA/);
  expect(readDetails(ours(mx)).subject.commonNames).toEqual([HOST]);
});

test('NODE-17 Node has no store to validate a path with: the search here never asks one', () => {
  expect('X509Store' in globalThis.process.getBuiltinModule('node:crypto')).toBe(false);
  expect(judge({ chain: [mx, inter], records: [tlsa('2 0 1', root)] })).toBe('tlsa-mismatch');
});
