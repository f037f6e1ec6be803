/**
 * Every reason a message can be accepted, refused, delivered, kept waiting or returned for, in one table.
 *
 * The code is stable: it stands in log lines, bounces, metrics, the command line and docs/verdicts.md. The first
 * digit of `status` decides what happens to mail (RFC 3463 §2): 2 it left, 4 it waits and is tried again, 5 it is
 * refused or returned. No second list can disagree, because there is none.
 *
 *   status  enhanced status code (RFC 3463; RFC 7505, RFC 7672 and RFC 8689 for some)
 *   says    one clause, lower case, without a full stop: what it means to an administrator
 *   whose   who can put it right: the recipient's side, the sender's, ourselves, the network in between, or nobody
 *   rfc     the section that asks for this
 *
 * The same sentences in Dutch stand in reasons-nl.ts; the compiler misses each one that is not there.
 */
interface Entry {
  readonly status: `${2 | 4 | 5}.${number}.${number}`;
  readonly says: string;
  readonly whose: Whose;
  readonly rfc: string;
}

export type Whose = 'recipient' | 'sender' | 'us' | 'network' | 'nobody';

export const REASONS = {
  // How it left
  'dane-ee': {
    status: '2.0.0',
    says: 'authenticated: a DANE-EE record matches the certificate of the server',
    whose: 'nobody',
    rfc: 'RFC 7672 §3.1.1',
  },
  'dane-ta': {
    status: '2.0.0',
    says: 'authenticated: the certificate of the server was issued under a trust anchor published by DANE',
    whose: 'nobody',
    rfc: 'RFC 7672 §3.1.2',
  },
  'webpki-matched': {
    status: '2.0.0',
    says: 'authenticated: the certificate of the server is from an authority that this relay trusts, and for its name',
    whose: 'nobody',
    rfc: 'RFC 8461 §4.2',
  },
  'pin-matched': {
    status: '2.0.0',
    says: 'authenticated: the server has a key that the configuration names',
    whose: 'nobody',
    rfc: 'RFC 7435 §3',
  },
  'encrypted-unauthenticated': {
    status: '2.0.0',
    says: 'encrypted, not authenticated: nothing usable is published to check the certificate against',
    whose: 'nobody',
    rfc: 'RFC 7672 §2.2',
  },
  'encrypted-opportunistic': {
    status: '2.0.0',
    says: 'encrypted because the host offered TLS, not authenticated',
    whose: 'nobody',
    rfc: 'RFC 7435 §3',
  },
  'clear-not-offered': {
    status: '2.0.0',
    says: 'sent in the clear: the host does not offer STARTTLS and nothing demanded it',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.2',
  },
  'clear-starttls-refused': {
    status: '2.0.0',
    says: 'sent in the clear: the host offered STARTTLS and then refused it, and nothing demanded it',
    whose: 'recipient',
    rfc: 'RFC 3207 §4',
  },
  'clear-handshake-failed': {
    status: '2.0.0',
    says: 'sent in the clear on a new connection: the TLS handshake failed and nothing demanded TLS',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.2',
  },

  // How it left although DANE failed, because the operator said so
  'exception-authenticated': {
    status: '2.0.0',
    says: 'authenticated by its key or its name; DANE failed, and an exception of the operator lets mail go',
    whose: 'recipient',
    rfc: 'RFC 7672 §6',
  },
  'exception-encrypted': {
    status: '2.0.0',
    says: 'encrypted, not authenticated; DANE failed, and an exception of the operator lets mail go',
    whose: 'recipient',
    rfc: 'RFC 7672 §6',
  },
  'report-authenticated': {
    status: '2.0.0',
    says: 'authenticated as the configuration demands; DANE failed, which is only reported for now',
    whose: 'recipient',
    rfc: 'RFC 7672 §6',
  },
  'report-encrypted': {
    status: '2.0.0',
    says: 'encrypted, not authenticated; DANE failed, which is only reported for now',
    whose: 'recipient',
    rfc: 'RFC 7672 §6',
  },
  'report-clear': {
    status: '2.0.0',
    says: 'sent in the clear; DANE failed, which is only reported for now',
    whose: 'recipient',
    rfc: 'RFC 7672 §6',
  },

  // What a host must prove, before anything is dialled
  'tlsa-usable': {
    status: '2.0.0',
    says: 'TLSA records are published: the certificate must match one of them',
    whose: 'nobody',
    rfc: 'RFC 7672 §2.2',
  },
  'tlsa-all-unusable': {
    status: '2.0.0',
    says: 'TLSA records are published but none is usable: TLS is mandatory, the certificate is not checked',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.2',
  },
  'tlsa-absent': {
    status: '2.0.0',
    says: 'no TLSA records are published: TLS is used if the host offers it',
    whose: 'nobody',
    rfc: 'RFC 7672 §2.2',
  },
  'tlsa-insecure': {
    status: '2.0.0',
    says: 'the TLSA records are not protected by DNSSEC and do not count',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.2',
  },
  'host-insecure': {
    status: '2.0.0',
    says: 'the addresses of the host are not protected by DNSSEC, so TLSA is not asked for',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.2.2',
  },
  'mx-insecure': {
    status: '2.0.0',
    says: 'the MX records are not protected by DNSSEC, so DANE does not apply',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.2.1',
  },
  'literal-address': {
    status: '2.0.0',
    says: 'the destination is an address, not a name, so DANE does not apply',
    whose: 'nobody',
    rfc: 'RFC 7672 §2.2',
  },
  'rule-may': {
    status: '2.0.0',
    says: 'the configuration asks for no more than TLS if the host offers it',
    whose: 'us',
    rfc: 'RFC 7435 §3',
  },
  'rule-encrypt': {
    status: '2.0.0',
    says: 'the configuration demands TLS for this destination',
    whose: 'us',
    rfc: 'RFC 7672 §2.2',
  },

  'rule-verify': {
    status: '2.0.0',
    says: 'the configuration demands a certificate from a trusted authority, for the name of the host',
    whose: 'us',
    rfc: 'RFC 9525 §6.3',
  },
  'rule-pin': {
    status: '2.0.0',
    says: 'the configuration demands that the server has one of the keys that it names',
    whose: 'us',
    rfc: 'RFC 7435 §3',
  },
  'rule-exception': {
    status: '2.0.0',
    says: 'an exception of the operator lets mail go where DANE fails',
    whose: 'us',
    rfc: 'RFC 7672 §6',
  },
  'rule-report': {
    status: '2.0.0',
    says: 'failures of DANE are only reported for now, and mail goes on',
    whose: 'us',
    rfc: 'RFC 7672 §6',
  },

  'rule-requiretls': {
    status: '2.0.0',
    says: 'the sender demands TLS with a server that proves its name (REQUIRETLS)',
    whose: 'nobody',
    rfc: 'RFC 8689 §4.2.1',
  },
  'rule-tls-optional': {
    status: '2.0.0',
    says: 'the message says TLS-Required: No, so TLS is tried and nothing is demanded of it',
    whose: 'nobody',
    rfc: 'RFC 8689 §4.2.2',
  },
  'sts-enforce': {
    status: '2.0.0',
    says: 'the MTA-STS policy of the domain demands a certificate from a trusted authority, for the name of the host',
    whose: 'nobody',
    rfc: 'RFC 8461 §5',
  },
  'sts-policy-fetch-error': {
    status: '2.0.0',
    says: 'the domain announces an MTA-STS policy that cannot be fetched, so only what was known of it before counts',
    whose: 'recipient',
    rfc: 'RFC 8461 §3.3',
  },
  'sts-policy-invalid': {
    status: '2.0.0',
    says: 'the domain announces an MTA-STS policy that is not valid, so only what was known of it before counts',
    whose: 'recipient',
    rfc: 'RFC 8461 §3.2',
  },
  'sts-webpki-invalid': {
    status: '2.0.0',
    says: 'the web server with the MTA-STS policy has no valid certificate, so only what was known before counts',
    whose: 'recipient',
    rfc: 'RFC 8461 §3.3',
  },

  // DNS
  'mx-lookup-failed': {
    status: '4.4.3',
    says: 'the MX records of the domain could not be looked up',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.1.2',
  },
  'address-lookup-failed': {
    status: '4.4.3',
    says: 'the addresses of the mail host could not be looked up',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.1.2',
  },
  'tlsa-lookup-failed': {
    status: '4.7.5',
    says: 'the TLSA records of the mail host could not be looked up safely, so it must not be given mail',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.1.2',
  },
  'resolver-untrusted': {
    status: '4.4.3',
    says: 'our DNS resolver cannot be reached or does not prove that it validates DNSSEC',
    whose: 'us',
    rfc: 'RFC 7672 §2.1.1',
  },
  'null-mx': {
    status: '5.1.10',
    says: 'the domain declares that it takes no mail (null MX)',
    whose: 'recipient',
    rfc: 'RFC 7505 §4.1',
  },
  'no-such-domain': { status: '5.1.2', says: 'the domain does not exist', whose: 'sender', rfc: 'RFC 5321 §5.1' },
  'no-mail-host': {
    status: '5.4.4',
    says: 'the domain has neither MX records nor an address',
    whose: 'recipient',
    rfc: 'RFC 5321 §5.1',
  },
  'invalid-domain': { status: '5.1.2', says: 'this is no domain name', whose: 'sender', rfc: 'RFC 5321 §2.3.5' },
  'host-without-address': {
    status: '5.4.4',
    says: 'the mail host has no address',
    whose: 'recipient',
    rfc: 'RFC 5321 §5.1',
  },
  'host-name-illegal': {
    status: '5.4.4',
    says: 'the name of the mail host is not a legal host name',
    whose: 'recipient',
    rfc: 'RFC 5321 §5.1',
  },
  'loop-to-self': {
    status: '5.4.6',
    says: 'the MX records lead back to this relay',
    whose: 'recipient',
    rfc: 'RFC 5321 §5.1',
  },
  'own-host': {
    status: '4.4.4',
    says: 'this relay is itself a mail host of the domain and no better host could be used',
    whose: 'recipient',
    rfc: 'RFC 5321 §5.1',
  },

  // The operator demands DANE
  'dane-only-mx-insecure': {
    status: '4.7.5',
    says: 'the configuration demands DANE and the MX records are not protected by DNSSEC',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.2.1',
  },
  'dane-only-host-insecure': {
    status: '4.7.5',
    says: 'the configuration demands DANE and the addresses of the host are not protected by DNSSEC',
    whose: 'recipient',
    rfc: 'RFC 7672 §6',
  },
  'dane-only-no-tlsa': {
    status: '4.7.5',
    says: 'the configuration demands DANE and no TLSA records protected by DNSSEC are published',
    whose: 'recipient',
    rfc: 'RFC 7672 §6',
  },
  'dane-only-unusable': {
    status: '4.7.5',
    says: 'the configuration demands DANE and no published TLSA record is usable',
    whose: 'recipient',
    rfc: 'RFC 7671 §10.3',
  },
  'dane-only-literal': {
    status: '5.7.10',
    says: 'the configuration demands DANE and the destination is an address, for which there is no DANE',
    whose: 'sender',
    rfc: 'RFC 7672 §2.2',
  },

  'verify-literal': {
    status: '5.7.10',
    says: 'the configuration demands a certificate for the name of the host and the destination is an address',
    whose: 'sender',
    rfc: 'RFC 9525 §6.3',
  },

  // Connection
  'connect-failed': {
    status: '4.4.1',
    says: 'no connection to the mail host',
    whose: 'network',
    rfc: 'RFC 5321 §4.5.4.1',
  },
  'host-busy': {
    status: '4.4.5',
    says: 'as many messages as this relay sends at once are on their way to the mail host',
    whose: 'nobody',
    rfc: 'RFC 5321 §4.5.4.1',
  },
  'connection-lost': { status: '4.4.2', says: 'the connection was lost', whose: 'network', rfc: 'RFC 5321 §4.5.4.1' },
  'remote-timeout': {
    status: '4.4.2',
    says: 'the mail host did not answer in time',
    whose: 'recipient',
    rfc: 'RFC 5321 §4.5.3.2',
  },
  'greeting-refused': {
    status: '4.3.2',
    says: 'the mail host turned the connection away',
    whose: 'recipient',
    rfc: 'RFC 5321 §3.1',
  },
  'ehlo-refused': {
    status: '4.3.2',
    says: 'the mail host refused our EHLO',
    whose: 'recipient',
    rfc: 'RFC 5321 §4.1.4',
  },
  'remote-garbage': {
    status: '4.5.0',
    says: 'the mail host answered something that is not SMTP',
    whose: 'recipient',
    rfc: 'RFC 5321 §4.2',
  },

  // TLS
  'starttls-not-offered': {
    status: '4.7.4',
    says: 'TLS is required and the mail host does not offer STARTTLS',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.2',
  },
  'starttls-refused': {
    status: '4.7.4',
    says: 'TLS is required and the mail host refused STARTTLS',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.2',
  },
  'tls-handshake-failed': {
    status: '4.7.5',
    says: 'the TLS handshake failed',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.2',
  },
  'tls-too-weak': {
    status: '4.7.5',
    says: 'TLS is required and what was negotiated is insufficient after the guidelines of the NCSC',
    whose: 'recipient',
    rfc: 'RFC 9325 §4.1',
  },
  'tls-injection': {
    status: '4.7.5',
    says: 'somebody put plaintext between STARTTLS and the handshake',
    whose: 'network',
    rfc: 'RFC 3207 §6',
  },
  'greeting-refused-before-tls': {
    status: '4.7.5',
    says: 'the mail host turned us away before TLS was proven, so its word does not count',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.2',
  },

  // What the sender demands (RFC 8689)
  'requiretls-not-offered': {
    status: '5.7.30',
    says: 'the sender demands REQUIRETLS and the mail host does not offer it',
    whose: 'recipient',
    rfc: 'RFC 8689 §4.2.1',
  },
  'requiretls-not-proven': {
    status: '5.7.10',
    says: 'the sender demands TLS with a server that proves its name (REQUIRETLS), and there is none to be had',
    whose: 'recipient',
    rfc: 'RFC 8689 §4.2.1',
  },

  // The certificate against the TLSA records
  'tlsa-mismatch': {
    status: '4.7.5',
    says: 'the certificate of the server matches none of the TLSA records',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.2',
  },
  'tlsa-name-mismatch': {
    status: '4.7.5',
    says: 'the certificate was issued under the published trust anchor, for other names',
    whose: 'recipient',
    rfc: 'RFC 7672 §3.2.3',
  },
  'tlsa-expired': {
    status: '4.7.5',
    says: 'a certificate on the way to the published trust anchor is not valid at this time',
    whose: 'recipient',
    rfc: 'RFC 7671 §5.2',
  },
  'tlsa-not-trusted': {
    status: '4.7.5',
    says: 'the certificates that the server sent do not lead to the published trust anchor',
    whose: 'recipient',
    rfc: 'RFC 7672 §3.1.2',
  },
  'tlsa-no-usable-record': {
    status: '4.7.5',
    says: 'no TLSA record is usable: TLS would be mandatory and the certificate not checked',
    whose: 'recipient',
    rfc: 'RFC 7672 §2.2',
  },
  'tlsa-bad-chain': {
    status: '4.7.5',
    says: 'the server sent no certificate, or something that is none',
    whose: 'recipient',
    rfc: 'RFC 7671 §5',
  },

  // The certificate against public authorities and pins
  'webpki-not-trusted': {
    status: '4.7.5',
    says: 'the certificate of the server does not lead to an authority that this relay trusts',
    whose: 'recipient',
    rfc: 'RFC 8461 §4.2',
  },
  'webpki-expired': {
    status: '4.7.5',
    says: 'a certificate on the way to a trusted authority is not valid at this time',
    whose: 'recipient',
    rfc: 'RFC 8461 §4.2',
  },
  'webpki-name-mismatch': {
    status: '4.7.5',
    says: 'the certificate of the server is from a trusted authority, for other names',
    whose: 'recipient',
    rfc: 'RFC 8461 §4.2',
  },
  'sts-mx-not-listed': {
    status: '4.7.5',
    says: 'the MTA-STS policy of the domain does not list this mail host, so it must not be given mail',
    whose: 'recipient',
    rfc: 'RFC 8461 §4.1',
  },
  'pin-mismatch': {
    status: '4.7.5',
    says: 'the key of the server is none of those that the operator named',
    whose: 'us',
    rfc: 'RFC 7435 §3',
  },

  // What the remote host said
  'remote-accepted': {
    status: '2.0.0',
    says: 'the mail host took the message',
    whose: 'nobody',
    rfc: 'RFC 5321 §4.2.5',
  },
  'remote-later': {
    status: '4.0.0',
    says: 'the mail host asks to try again later',
    whose: 'recipient',
    rfc: 'RFC 5321 §4.2.1',
  },
  'remote-refused': {
    status: '5.0.0',
    says: 'the mail host refused the message',
    whose: 'recipient',
    rfc: 'RFC 5321 §4.2.1',
  },
  'remote-too-many-recipients': {
    status: '4.5.3',
    says: 'the mail host takes fewer recipients at a time; the others follow',
    whose: 'nobody',
    rfc: 'RFC 5321 §4.5.3.1.10',
  },
  'size-over-remote-limit': {
    status: '5.3.4',
    says: 'the message is larger than the mail host accepts',
    whose: 'sender',
    rfc: 'RFC 1870 §6.1',
  },
  'eight-bit-unsupported': {
    status: '5.6.3',
    says: 'the message has 8-bit content and the mail host cannot take it',
    whose: 'recipient',
    rfc: 'RFC 6152 §3',
  },
  'utf8-address-unsupported': {
    status: '5.6.7',
    says: 'an address needs SMTPUTF8 and the mail host does not offer it',
    whose: 'recipient',
    rfc: 'RFC 6531 §3.2',
  },
  'utf8-header-unsupported': {
    status: '5.6.9',
    says: 'the header needs SMTPUTF8 and the mail host does not offer it',
    whose: 'recipient',
    rfc: 'RFC 6531 §3.2',
  },
  'address-unsendable': {
    status: '5.1.3',
    says: 'the address cannot be expressed in SMTP',
    whose: 'sender',
    rfc: 'RFC 5321 §4.1.2',
  },

  // The queue
  'not-tried-yet': { status: '4.0.0', says: 'accepted, not tried yet', whose: 'nobody', rfc: 'RFC 5321 §4.5.4.1' },
  'lifetime-over': {
    status: '4.4.7',
    says: 'the message could not be delivered within its lifetime',
    whose: 'nobody',
    rfc: 'RFC 5321 §4.5.4.1',
  },
  'tls-lifetime-over': {
    status: '4.4.7',
    says: 'the host did not meet the TLS policy within the time that this relay grants for that',
    whose: 'recipient',
    rfc: 'RFC 5321 §4.5.4.1',
  },
  'internal-error': {
    status: '4.3.0',
    says: 'an error in this relay stopped the attempt; the message is safe and waits',
    whose: 'us',
    rfc: 'RFC 5321 §4.2.5',
  },
  'stored-message-unreadable': {
    status: '4.3.0',
    says: 'the message cannot be read back from our disk as it was accepted; it is not sent in that state and waits',
    whose: 'us',
    rfc: 'RFC 5321 §6.1',
  },
  'dkim-key-unusable': {
    status: '4.3.5',
    says: 'the message must be signed with DKIM and a key of its domain cannot be used',
    whose: 'us',
    rfc: 'RFC 6376 §5.2',
  },
  'dkim-key-unpublished': {
    status: '4.3.5',
    says: 'the message must be signed with DKIM and DNS does not show the key, so nobody could verify the signature',
    whose: 'us',
    rfc: 'RFC 6376 §3.6.1',
  },
  'tls-setup-failed': {
    status: '4.7.0',
    says: 'TLS could not be set up on our side',
    whose: 'us',
    rfc: 'RFC 3207 §4.1',
  },

  // At the door
  'intake-accepted': { status: '2.0.0', says: 'accepted and safely stored', whose: 'nobody', rfc: 'RFC 5321 §4.2.5' },
  'client-unknown': {
    status: '5.7.1',
    says: 'this client is not named in the configuration',
    whose: 'sender',
    rfc: 'RFC 5321 §7.9',
  },
  'client-needs-tls': { status: '5.7.0', says: 'this client must use TLS', whose: 'sender', rfc: 'RFC 3207 §4' },
  'requiretls-without-tls': {
    status: '5.7.0',
    says: 'REQUIRETLS can only be asked for under TLS',
    whose: 'sender',
    rfc: 'RFC 8689 §2',
  },
  'client-certificate-missing': {
    status: '5.7.0',
    says: 'this client must present its pinned certificate',
    whose: 'sender',
    rfc: 'RFC 3207 §4',
  },
  'client-certificate-unknown': {
    status: '5.7.0',
    says: 'the certificate of this client has another pin than the configuration names',
    whose: 'sender',
    rfc: 'RFC 3207 §4',
  },
  'sender-not-allowed': {
    status: '5.7.1',
    says: 'this client may not send for that domain',
    whose: 'sender',
    rfc: 'RFC 5321 §7.9',
  },
  'too-many-connections': {
    status: '4.7.0',
    says: 'too many connections at once',
    whose: 'sender',
    rfc: 'RFC 5321 §4.5.4.1',
  },
  'too-many-messages': {
    status: '4.7.0',
    says: 'this client has sent as many messages as it may for now',
    whose: 'sender',
    rfc: 'RFC 5321 §4.2.4',
  },
  'too-many-recipients': {
    status: '4.5.3',
    says: 'too many recipients for one message',
    whose: 'sender',
    rfc: 'RFC 5321 §4.5.3.1.8',
  },
  'message-too-big': {
    status: '5.3.4',
    says: 'the message is larger than this relay accepts',
    whose: 'sender',
    rfc: 'RFC 1870 §6.1',
  },
  'message-has-nul': { status: '5.6.0', says: 'the message has a NUL octet', whose: 'sender', rfc: 'RFC 5321 §4.5.2' },
  'message-has-bare-newline': {
    status: '5.6.0',
    says: 'the message has a bare CR or a bare LF',
    whose: 'sender',
    rfc: 'RFC 5321 §2.3.8',
  },
  'message-line-too-long': {
    status: '5.6.0',
    says: 'the message has a line that is longer than this relay accepts',
    whose: 'sender',
    rfc: 'RFC 5321 §4.5.3.1.6',
  },
  'too-many-hops': {
    status: '5.4.6',
    says: 'the message has passed too many hosts already: it loops',
    whose: 'sender',
    rfc: 'RFC 5321 §6.3',
  },
  'command-unknown': { status: '5.5.2', says: 'this command is not known', whose: 'sender', rfc: 'RFC 5321 §4.2.4' },
  'command-unsupported': {
    status: '5.5.1',
    says: 'this command is not offered here',
    whose: 'sender',
    rfc: 'RFC 5321 §4.2.4',
  },
  'command-malformed': {
    status: '5.5.2',
    says: 'this is no command line',
    whose: 'sender',
    rfc: 'RFC 5321 §2.3.8',
  },
  'no-valid-recipients': {
    status: '5.5.1',
    says: 'no recipient was accepted',
    whose: 'sender',
    rfc: 'RFC 5321 §3.3',
  },
  'too-many-errors': {
    status: '4.7.0',
    says: 'too many commands that lead to nothing',
    whose: 'sender',
    rfc: 'RFC 5321 §7.8',
  },
  'wrong-protocol': {
    status: '4.7.0',
    says: 'this port speaks SMTP and begins without TLS',
    whose: 'sender',
    rfc: 'RFC 5321 §4.2.4',
  },
  'command-syntax': {
    status: '5.5.4',
    says: 'this command has a wrong argument',
    whose: 'sender',
    rfc: 'RFC 5321 §4.2.4',
  },
  'command-order': { status: '5.5.1', says: 'this command cannot come here', whose: 'sender', rfc: 'RFC 5321 §4.1.4' },
  'parameter-unknown': {
    status: '5.5.4',
    says: 'this parameter is not known',
    whose: 'sender',
    rfc: 'RFC 5321 §4.1.1.11',
  },
  'sender-address-bad': {
    status: '5.1.7',
    says: 'the sender address is not valid',
    whose: 'sender',
    rfc: 'RFC 5321 §4.1.2',
  },
  'recipient-address-bad': {
    status: '5.1.3',
    says: 'the recipient address is not valid',
    whose: 'sender',
    rfc: 'RFC 5321 §4.1.2',
  },
  'smtputf8-undeclared': {
    status: '5.6.7',
    says: 'the address has characters beyond ASCII and SMTPUTF8 was not asked for',
    whose: 'sender',
    rfc: 'RFC 6531 §3.4',
  },
  'storage-failed': {
    status: '4.3.0',
    says: 'the message could not be stored safely, so it was not accepted',
    whose: 'us',
    rfc: 'RFC 5321 §4.2.5',
  },
  'storage-full': {
    status: '4.3.1',
    says: 'there is no room to store the message',
    whose: 'us',
    rfc: 'RFC 5321 §4.2.5',
  },
  'shutting-down': { status: '4.3.2', says: 'this relay is being stopped', whose: 'us', rfc: 'RFC 5321 §3.8' },
  'client-timeout': {
    status: '4.4.2',
    says: 'the client was silent for too long',
    whose: 'sender',
    rfc: 'RFC 5321 §4.5.3.2',
  },
} as const satisfies Record<string, Entry>;

export type ReasonCode = keyof typeof REASONS;

/** What a code stands for. The table's own type is kept narrow for the codes; this is the wide view of an entry. */
export function reason(code: ReasonCode): Entry {
  return REASONS[code];
}

export function isReasonCode(text: string): text is ReasonCode {
  return Object.hasOwn(REASONS, text);
}

/** What the relay does with mail that ends an attempt with this status (RFC 3463 §2). */
export function whatNext(status: string): 'delivered' | 'deferred' | 'bounced' {
  if (status.startsWith('2')) return 'delivered';
  return status.startsWith('5') ? 'bounced' : 'deferred';
}

/** Whether mail waits because a host does not prove itself, or does not offer TLS, as the policy wants it. */
export function isTlsPolicyFailure(code: ReasonCode): boolean {
  return ['4.7.4', '4.7.5'].includes(REASONS[code].status);
}

const UNREACHABLE: ReadonlySet<ReasonCode> = new Set<ReasonCode>([
  'mx-lookup-failed',
  'address-lookup-failed',
  'tlsa-lookup-failed',
  'connect-failed',
  'connection-lost',
  'remote-timeout',
  'greeting-refused',
]);

/** What says that a destination cannot be reached, rather than something of one message or of how it proves itself. */
export function isUnreachable(code: ReasonCode): boolean {
  return UNREACHABLE.has(code);
}
