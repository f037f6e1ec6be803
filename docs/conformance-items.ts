/**
 * What has to hold, item by item: the table behind docs/conformance.md. Test titles name these items.
 *
 * One line each: the item, where it comes from (empty for a rule of our own), what must hold, and, only where there is
 * nothing that a test could show, why not.
 */

export interface Item {
  readonly id: string;
  readonly source: string;
  readonly holds: string;
  /** Why no test can show it; null for an item that a test must name. */
  readonly untested: string | null;
}

export interface Chapter {
  readonly title: string;
  readonly items: readonly Item[];
}

const TABLE = `
# DNS answers
DNS-01 | RFC 7672 §2.1.1 | records with AD=1 from the resolver are secure
DNS-02 | RFC 7672 §2.1.1 | records without AD are insecure, which is no error
DNS-03 | RFC 7672 §2.1.1 | NXDOMAIN with AD is a proven absence, no error
DNS-04 | RFC 7672 §2.1.1 | NXDOMAIN without AD is an unproven absence, no error either
DNS-05 | RFC 7672 §2.1.1 | a name without records of the type is an absence, proven or not, no error
DNS-06 | RFC 7672 §2.1.2 | every other response code is a failed lookup
DNS-07 | RFC 7672 §2.1.2 | silence, malformed octets, wrong ids, and truncation without TCP end as a failed lookup
DNS-08 | RFC 6895 §2.3 | the upper bits of the response code, in OPT, count
DNS-09 | RFC 7672 §2.1.1 | a zone without a trust anchor is insecure; what cannot be determined is a failure
DNS-10 | RFC 8914 §4 | an extended error explains and never decides
DNS-11 | RFC 7672 §2.1.3 | one insecure link makes everything behind an alias insecure
DNS-12 | RFC 7672 §2.1.3 | aliases are followed to a limit; beyond it, or in a circle, the lookup failed
DNS-13 | RFC 7672 §2.1.3 | only records at the end of the alias chain count, strays do not
DNS-14 | RFC 7672 §2.1.3 | DNAME works through the CNAME made from it
DNS-15 | RFC 4035 §4.9.3 | AD counts only from a resolver on loopback
DNS-16 | RFC 6840 §5.7 | questions have RD and AD set and CD clear
DNS-17 | RFC 7672 §2.1.1 | the resolver must prove, at start and again and again, that it validates; until then mail waits
DNS-18 | | names are asked as they are, no search domain is appended
DNS-19 | | an option to ignore MX lookup errors excludes DANE | there is no such option
DNS-20 | RFC 2308 §5 | an answer is kept with its status and only for its time; a failure is never kept

# MX
MX-01 | RFC 5321 §5.1 | hosts in the order of preference, equal ones shuffled
MX-02 | RFC 7672 §2.1.2 | a failed MX lookup waits; no address of the domain is used instead
MX-03 | RFC 5321 §5.1 | a domain that does not exist is returned at once
MX-04 | RFC 7672 §2.2.2 | without MX the domain is its own host, judged by its addresses
MX-05 | RFC 5321 §5.1 | neither MX nor address: returned; an address lookup that failed: waits
MX-06 | RFC 7505 §4.1 | null MX is returned at once; no other question, no connection
MX-07 | RFC 7505 §3 | a dot among other MX records is dropped
MX-08 | RFC 7672 §2.2.1 | an alias at the recipient domain is followed, and its end remembered
MX-09 | RFC 7672 §2.2.2 | an alias to a domain without MX: both names are candidates for TLSA
MX-10 | RFC 7672 §2.2.1 | insecure MX: no TLSA question where it cannot matter; where DANE is demanded, mail waits
MX-11 | RFC 7672 §2.2.1 | insecure MX to a signed host with TLSA: the host is authenticated, and nothing more is claimed
MX-12 | RFC 7672 §2.2.1 | broken TLSA behind an insecure MX stops mail under \`insecureMx: dane\`, not under \`may\`
MX-13 | RFC 7672 §2.2 | an address in place of the MX host name is no host
MX-14 | RFC 5321 §2.3.5 | an MX host with an illegal name is passed over
MX-15 | RFC 7672 §2.2 | mail to an address literal: no DNS, no DANE
MX-16 | RFC 7672 §2.2.2 | \`via\`: a host in brackets without MX lookup, a bare name with it, an address without DANE
MX-17 | RFC 7672 §2.2.2 | DANE applies to a configured host
MX-18 | RFC 5321 §5.1 | we never send to ourselves or to a host of the same or a worse preference
MX-19 | | a hundred MX records are bounded work

# Addresses and aliases of the mail host
ADDR-01 | RFC 7672 §2.2.2 | addresses are asked for before TLSA
ADDR-02 | RFC 7672 §2.2.2 | no TLSA question for an unsigned host: its name servers may choke on it
ADDR-03 | RFC 7672 §2.2.2 | one failed address family does not matter when the other answers; without it the host is skipped
ADDR-04 | RFC 7672 §2.2.2 | one secure address family is enough for DANE, which then holds for all addresses
ADDR-05 | RFC 5321 §5.1 | a host without an address is passed over; if all are, mail is returned
ADDR-06 | RFC 7672 §2.2.2 | signed alias to a signed name: its end first, then the name itself
ADDR-07 | RFC 7672 §2.2.2 | signed alias into an unsigned zone: the name itself
ADDR-08 | RFC 7672 §2.2.3 | of several links only the first and the last name are candidates
ADDR-09 | RFC 7672 §2.2.2 | signed, unsigned, signed: the name itself
ADDR-10 | RFC 7672 §2.1.2 | a failed link skips the host
ADDR-11 | RFC 7672 §2.2.2 | an alias as MX host is supported
ADDR-12 | RFC 1035 §2.3.3 | names that differ in case or in a trailing dot are the same name

# TLSA lookup
TLSA-01 | RFC 7672 §2.2.3 | the name asked for has the port of the connection and the base domain
TLSA-02 | RFC 7672 §2.2.3 | records at the end of the alias rule; the name itself is not asked
TLSA-03 | RFC 7672 §2.2.3 | none at the end of the alias: the name itself is asked
TLSA-04 | RFC 7672 §2.2.3 | a failed lookup at the end of the alias skips the host, whatever the name itself has
TLSA-05 | RFC 7672 §2.2.3 | a failed lookup at the name itself skips the host too
TLSA-06 | RFC 7672 §2.2.3 | TLSA may be an alias; the base domain stays what it was
TLSA-07 | RFC 7672 §2.1.3 | a TLSA alias into an unsigned zone counts as none
TLSA-08 | RFC 7672 §2.1.3 | a TLSA alias to nothing is none; one in a circle is a failure
TLSA-09 | RFC 7672 §2.2.3 | TLSA from a wildcard works as any other
TLSA-10 | RFC 7672 §2.1.2 | a failed TLSA lookup: the host is not even dialled
TLSA-11 | RFC 7766 §5 | a truncated answer is asked for again over TCP; without TCP it is a failure
TLSA-12 | | large RRsets are processed whole, with bounded work
TLSA-13 | | one lookup serves all addresses of a host

# Acting on what was found
CONN-01 | RFC 7672 §2.2 | a certificate that matches: delivered, and the log says by which record
CONN-02 | RFC 7672 §2.2 | a certificate that matches none: no MAIL FROM, next host, then mail waits
CONN-03 | RFC 7672 §2.2 | TLS demanded and STARTTLS not offered: no mail, now or later
CONN-04 | RFC 7672 §2.2 | TLS demanded and STARTTLS refused: mail waits, also for a 5xx
CONN-05 | RFC 7672 §2.2 | TLS demanded and only HELO known: mail waits
CONN-06 | RFC 7672 §2.2 | TLS demanded and the handshake failed: never in the clear, now or later
CONN-07 | RFC 7672 §2.2 | only unusable records: TLS with any certificate
CONN-08 | RFC 7672 §2.2 | nothing demanded and STARTTLS not offered: in the clear
CONN-09 | RFC 7672 §2.2 | nothing demanded and TLS failed: in the clear on a new connection; refused: on the same one
CONN-10 | RFC 7672 §2.2 | nothing demanded: any certificate does
CONN-11 | RFC 7672 §2.2 | a connection lost after the proof: the next attempt demands the same again
CONN-12 | RFC 7672 §2.2 | no certificate presented: no mail
CONN-13 | | a kept connection is used only by mail that demands exactly what was proven on it
CONN-14 | RFC 7672 §2.2.1 | two domains with one host and different policies do not share a connection
CONN-15 | | a TLS session is never resumed, because a resumed one shows no certificate
CONN-16 | RFC 7672 §9.2 | a host that offers STARTTLS only now and then: mail waits until it does

# Which records are usable
USE-01 | RFC 7672 §3.1.3 | usages 0 and 1 are unusable
USE-02 | RFC 7672 §3.1.3 | an unusable record neither rescues nor spoils
USE-03 | RFC 6698 §4.1 | unknown usages, selectors and matching types are unusable
USE-04 | RFC 6698 §4.1 | a digest of the wrong length is unusable
USE-05 | RFC 6698 §2.1 | a record without data is unusable, and harms none of its neighbours
USE-06 | RFC 6698 §4.1 | full data that is not exactly one certificate or key is unusable
USE-07 | RFC 6698 §4.1 | full data with a key of an unsupported kind is unusable
USE-08 | RFC 7672 §2.2 | one usable record is enough; without any, TLS is demanded and nothing is checked
USE-09 | RFC 6698 §4.1 | records with a digest that policy forbids are unusable
USE-10 | | a record that is there twice changes nothing
USE-11 | RFC 6698 §2.2 | digests are compared as octets, however they are written

# DANE-EE(3)
EE-01 | RFC 7672 §3.1.1 | every selector and matching type against the first certificate
EE-02 | RFC 7672 §3.1.1 | names do not count
EE-03 | RFC 7672 §3.1.1 | dates do not count
EE-04 | RFC 7672 §3.1.1 | key usages, extensions, signatures and missing issuers do not count
EE-05 | RFC 7672 §3.1.1 | an issuing certificate is no match
EE-06 | RFC 7672 §3.1.1 | the certificate of the server is the first one that was sent
EE-07 | RFC 6698 §2.1.2 | keys are compared as they are encoded in the certificate
EE-08 | RFC 6698 §2.1.2 | a key of an unknown algorithm can still match
EE-09 | RFC 7671 §4.2 | no CRL, OCSP or transparency log is asked
EE-10 | RFC 6698 §4.1 | of the keys of a host with two, one has to match
EE-11 | | the same verdict under TLS 1.2 and TLS 1.3
EE-12 | RFC 7250 §3 | raw public keys are neither offered nor taken

# DANE-TA(2)
TA-01 | RFC 7672 §3.1.2 | an issuer above the leaf matches, and every signature up to it holds
TA-02 | RFC 7671 §5.2.2 | an anchor given as a digest must be sent; the local store does not help
TA-03 | RFC 7671 §5.2.2 | an anchor given in full in DNS need not be sent
TA-04 | RFC 7671 §5.2.3 | nor need a bare key given in full
TA-05 | RFC 7671 §5.2 | nothing above the anchor is looked at
TA-06 | RFC 7671 §5.2 | the anchor may be several certificates above the leaf
TA-07 | RFC 7671 §5.2 | the genuine anchor behind a foreign chain is no match
TA-08 | RFC 7671 §5.2 | order, strangers and duplicates do not matter
TA-09 | RFC 7671 §5.2 | of cross-signed issuers one path to the anchor is enough
TA-10 | RFC 7671 §5.2 | the leaf is not its own anchor when somebody else issued it
TA-11 | RFC 7671 §5.2 | a self-signed leaf is its own anchor only by its bare key
TA-12 | RFC 5280 §6.1 | every certificate from the leaf to the anchor must be in time
TA-13 | RFC 5280 §4.2.1.9 | issuers must be authorities
TA-14 | RFC 5280 §4.2.1.3 | issuers must be allowed to sign certificates, and as many below them
TA-15 | RFC 5280 §4.2 | extended key usage, critical extensions and name constraints hold
TA-16 | RFC 9155 §2 | MD5 and SHA-1 signatures below the anchor do not hold
TA-17 | RFC 5280 §6.1 | RSA, RSA-PSS, ECDSA and Ed25519 signatures are verified
TA-18 | | depth and number of certificates are bounded, and so is the work
TA-19 | RFC 5280 §6.1 | of issuers with one name the one that signed is found
TA-20 | RFC 7671 §4 | EE and TA records are each tried; one match is enough

# Reference names
NAME-01 | RFC 7672 §3.2.2 | secure MX: the TLSA base and the next-hop domain
NAME-02 | RFC 7672 §3.2.2 | an alias at the recipient domain adds its end
NAME-03 | RFC 7672 §3.2.2 | base at the end of the host alias: not the host name in the MX record
NAME-04 | RFC 7672 §3.2.2 | base at the host name: not the end of its alias
NAME-05 | RFC 7672 §3.2.2 | a host without MX: its base and the name it was known by
NAME-06 | RFC 7672 §3.2.2 | insecure MX: the base and nothing else
NAME-07 | RFC 7672 §3.2.2 | the worked example of the RFC, in signed zones
NAME-08 | RFC 7672 §3.2.3 | the common name counts only where there is no dNSName
NAME-09 | RFC 7672 §3.2.3 | a wildcard stands for exactly one label
NAME-10 | RFC 7672 §3.2.3 | a wildcard is the whole first label or nothing
NAME-11 | RFC 6125 §6.4 | a wildcard below a top-level domain never matches
NAME-12 | RFC 6125 §6.4 | neither case nor a trailing dot matters
NAME-13 | RFC 6125 §6.4 | names beyond ASCII are compared as A-labels
NAME-14 | RFC 7672 §3.2.3 | an underscore is an ordinary character
NAME-15 | RFC 6125 §6.4 | names with NUL or a leading dot match nothing
NAME-16 | RFC 7672 §3.2.3 | addresses match nothing

# TLS
TLS-01 | RFC 7672 §8.1 | SNI is the base domain
TLS-02 | RFC 7435 §3 | without DANE SNI is the host name, and none for an address
TLS-03 | RFC 7672 §8.1 | a host that turns our SNI down has failed; one that ignores it has not
TLS-04 | RFC 8996 | TLS 1.2 at least
TLS-05 | RFC 7672 §8.2 | suites without a certificate are never offered
TLS-06 | RFC 8996 | a key too weak for the TLS library is a failed handshake
TLS-07 | RFC 3207 §4.2 | what was said before TLS is forgotten
TLS-08 | RFC 3207 §6 | octets between the 220 and the handshake end the connection
TLS-09 | RFC 9325 §4.1 | TLS has a grade after the guidelines of the NCSC; where TLS is demanded nothing goes over TLS that is insufficient
TLS-10 | | post-quantum key exchange is offered first, and told; a host without it is reached all the same

# Several hosts
PREF-01 | RFC 7672 §2.2.1 | the better preference comes first, TLSA or not
PREF-02 | RFC 7672 §2.2.1 | after a host that failed under DANE, one without TLSA gets the mail, unless DANE is demanded
PREF-03 | RFC 7672 §2.2.1 | after a host that failed under DANE, the next one may succeed
PREF-04 | RFC 7672 §2.2.1 | no host left: mail waits, for the most telling reason
PREF-05 | RFC 5321 §5.1 | a failure at one address leads to the next of the same host
PREF-06 | RFC 5321 §4.2.1 | a refusal for good by a proven host stands; no other host is asked

# What the operator demands, and what the log says
POL-01 | RFC 7672 §6 | \`dane-only\` without DANE: mail waits, nothing is dialled, and it is returned only when its time is over
POL-02 | RFC 7671 §10.3 | \`dane-only\` with unusable records only: nothing is dialled
POL-03 | RFC 7672 §6 | report-only: failures are told in full and mail goes on, for a time that ends by itself
POL-04 | RFC 7672 §6 | exceptions by domain and by mail host, with an owner, a reason and an end; none without
POL-05 | RFC 7435 §3 | opportunistic DANE is what happens without configuration
POL-06 | RFC 7672 §2.2.1 | the log has host, policy, DNSSEC status, record and TLS of the connection that decided
POL-07 | | a configuration under which DANE is impossible is a mistake at start

# Digest agility
AGI-01 | RFC 7671 §9 | the strongest digest of a usage and selector decides
AGI-02 | RFC 7671 §9 | another selector is another group
AGI-03 | RFC 7671 §9 | each group by itself, and none of three may match by accident
AGI-04 | RFC 7671 §9 | malformed records are set aside first
AGI-05 | RFC 7671 §9 | unknown matching types are set aside first
AGI-06 | RFC 7671 §9 | full data is never excluded
AGI-07 | RFC 7671 §9 | another usage is another group
AGI-08 | RFC 7671 §9 | one of several of the strongest has to match
AGI-09 | RFC 7671 §9 | the order of strength can be another, and a digest can be left out
AGI-10 | RFC 7671 §9 | the example of the RFC

# Changing keys
ROLL-01 | RFC 7671 §8.1 | old and new key published: either will do
ROLL-02 | RFC 7671 §8 | both, with two digests each: either will do
ROLL-03 | RFC 7671 §8 | own key and issuer published: either may change
ROLL-04 | RFC 7671 §8.1 | stale records: mail waits and leaves once the new ones are seen
ROLL-05 | RFC 7671 §8.1 | only a future key published: mail waits

# Other points of RFC 7671
OPS-01 | RFC 7671 §10.2 | SNI is the base domain, for every candidate
OPS-02 | RFC 7671 §7 | aliases of hosts and of TLSA records are followed
OPS-03 | RFC 7671 §4 | PKIX-TA and PKIX-EE are never used beside the others
OPS-04 | RFC 7671 §10.3 | only unusable records: TLS without authentication, and no connection where DANE is demanded
OPS-05 | RFC 7672 §2.2 | no usable record still demands TLS, although RFC 6698 §4.1 does not
OPS-06 | RFC 7671 §10.1 | TLSA answers that exceed a datagram arrive

# Status codes
ST-01 | RFC 3463 §2 | the reply code decides; an enhanced code that contradicts it does not
ST-02 | RFC 7672 §2.2 | what fails under DANE waits and is not returned

# Transactions
TXN-01 | RFC 5321 §3.3 | each recipient has an outcome of its own
TXN-02 | RFC 5321 §4.2.1 | refusals at greeting, EHLO, MAIL and the final dot hold for everybody; 421 waits
TXN-03 | RFC 5321 §3.3 | no recipient accepted: no message is sent
TXN-04 | RFC 5321 §4.5.3.2 | a time limit for each phase; after the final dot no other host is asked
TXN-05 | RFC 5321 §4.5.3.1.10 | recipients beyond the number a host takes follow in another transaction
TXN-06 | RFC 5321 §4.2 | replies that are no replies are never guessed at, and are bounded
TXN-07 | RFC 5321 §4.5.4.1 | the schedule of attempts, the delay notice, the end of the lifetime
TXN-08 | RFC 5321 §4.2.5 | what got 250 is on disk, and is delivered at least once whatever crashes
TXN-09 | RFC 5321 §5.1 | one copy for many recipients of a domain, never one for different demands

# Loops
LOOP-01 | RFC 5321 §6.3 | a message with too many Received fields is refused
LOOP-02 | RFC 5321 §4.4 | one Received field, which tells of TLS and of no hidden recipient
LOOP-03 | RFC 5321 §4.1.1.1 | EHLO says our name; a connection to ourselves is not made

# Notices to the sender
DSN-01 | RFC 5321 §6.1 | from the null sender, and never to it
DSN-02 | RFC 3464 §2.3 | the form of a report, with all its fields
DSN-03 | RFC 3461 §4.1 | NOTIFY, RET, ENVID and ORCPT are honoured and passed on
DSN-04 | RFC 3464 §2.3 | marked as automatic; a remote’s words are made harmless
DSN-05 | RFC 6533 §3 | addresses beyond ASCII

# Content
SMUG-01 | RFC 5321 §4.1.1.4 | only CRLF.CRLF ends the data
SMUG-02 | RFC 5321 §2.3.8 | no bare CR or LF leaves; otherwise octet for octet
SMUG-03 | RFC 5321 §4.5.2 | dots at the start of a line survive, wherever the data is cut
SMUG-04 | RFC 5321 §4.5.3.1.6 | long lines pass and are counted; a command ends in CRLF
SMUG-05 | RFC 5321 §4.1.1.4 | content without a final newline gets exactly one

# Injection
INJ-01 | RFC 3207 §4.2 | nothing sent in the clear counts under TLS
INJ-02 | RFC 5321 §4.1.2 | no address can carry a line end or a second path
INJ-03 | RFC 5321 §4.1.1.11 | unknown parameters are refused

# Extensions
EXT-01 | RFC 5321 §4.1.1.1 | extensions are keywords of the last EHLO reply, not words in its greeting
EXT-02 | RFC 6152 §3 | 8-bit content goes only where it is offered
EXT-03 | RFC 6531 §3.2 | UTF-8 in address or header goes only where it is offered
EXT-04 | RFC 5321 §4.1.2 | quoted local parts go out as they came
EXT-05 | RFC 1870 §4 | SIZE is heeded, 0 is no limit, and only 354 starts the data

# Names beyond ASCII
IDN-01 | RFC 5890 §2.3 | names are A-labels in lower case wherever they are used
IDN-02 | RFC 1035 §2.3.4 | names that DNS cannot hold are refused before it is asked

# MTA-STS
STS-01 | RFC 8461 §2 | what DANE keeps back stays back, whatever the policy allows
STS-02 | RFC 8461 §2 | a host that DANE ties to the domain is judged by DANE; what MTA-STS would object to is only counted
STS-03 | RFC 8461 §5 | TLSA records of which none is usable: TLS is mandatory and MTA-STS applies as well
STS-04 | RFC 8461 §4.2 | without DANE, \`enforce\` wants a listed host with a certificate that is valid for its name, by dNSName
STS-05 | RFC 8461 §3.4 | the policy is that of the recipient domain or of the configured next hop, never of an alias or a parent
STS-06 | RFC 8461 §4.1 | a host that the policy does not list is passed over under \`enforce\`; a wildcard stands for one label
STS-07 | RFC 8461 §3.3 | the policy comes over HTTPS within its limits; what is known holds to its end, whatever fails; what failed rests for five minutes
STS-08 | RFC 8461 §3.1, §3.2 | one TXT record, strings joined; the first of a repeated key counts, unknown ones do not; \`max_age\` is a year at most
STS-09 | RFC 8689 §3 | mail for which nothing is demanded of TLS is not kept back by MTA-STS

# REQUIRETLS and TLS-Required
REQ-01 | RFC 8689 §2 | REQUIRETLS is offered and taken under TLS only, and goes with the message
REQ-02 | RFC 8689 §4.2.1 | it goes to a host that is tied to the domain, proves itself and offers REQUIRETLS; none such: returned with 5.7.30 or 5.7.10; a failed lookup waits
REQ-03 | RFC 8689 §4.2.1 | REQUIRETLS is passed on
REQ-04 | RFC 8689 §4.2.1 | encryption with TLSA records of which none is usable is no proof
REQ-05 | RFC 8689 §5 | a notice about such a message demands the same and returns the header only; a host without REQUIRETLS may have it, and it is not thrown away
REQ-06 | RFC 8689 §4.2.2 | \`TLS-Required: No\`, once and exactly: TLS is tried, what the recipient publishes is not asked for, and mail goes in the clear where TLS fails
REQ-07 | RFC 8689 §4.1 | beside REQUIRETLS the header counts for nothing
REQ-08 | | a rule of the operator that demands TLS wins over \`TLS-Required: No\`, and the verdict says so

# TLS reports
RPT-01 | RFC 8460 §3 | one record that begins v=TLSRPTv1; and its rua; what is odd in it is left out and explained
RPT-02 | RFC 8460 §4.4 | a tlsa policy has the TLSA base domain and one string for each record; without any policy no-policy-found
RPT-03 | RFC 8460 §3 | the report goes to whom the recipient domain names
RPT-04 | RFC 8460 §4.4 | DANE and MTA-STS each have their own count of the same session
RPT-05 | RFC 8460 §4.3 | every TLS session counts once, as a success or as a failure; a kept connection is not counted again
RPT-06 | RFC 8460 §4.3 | every reason code has its result type, or is named as not reported
RPT-07 | RFC 8460 §4.3.4 | what ended before TLS is not reported
RPT-08 | RFC 8460 §4.3 | mail that was delivered although its policy failed counts as a failure
RPT-10 | RFC 8460 §4.4 | the JSON has the keys of the RFC and no others
RPT-11 | RFC 8460 §5.3 | the mail is multipart/report with the compressed report, its file name and its headers
RPT-12 | RFC 8460 §3 | report mail is signed by the domain of its contact; without a key none goes by mail
RPT-13 | RFC 8460 §3 | report mail is handed over whatever becomes of TLS, is not counted itself, and makes no notice
RPT-14 | RFC 8460 §5.4 | by HTTPS: a POST of the compressed JSON; anything but 2xx is tried again for 24 hours
RPT-15 | RFC 8460 §5.5 | each report is sent once, within four hours after midnight UTC; one receiver is enough

# DKIM
DKIM-01 | RFC 6376 §3.4.4 | RSA and Ed25519 signatures hold for two independent verifiers, whatever the message looks like
DKIM-02 | RFC 6376 §3.4.2 | a message is canonicalised as it streams, the same in whatever pieces it comes
DKIM-03 | RFC 6376 §5.4.2 | what is changed or added on the way breaks the signatures; what mail hosts may do does not
DKIM-04 | RFC 6376 §8.2 | relaxed/relaxed over the whole body, never \`l=\`; From and the other identity fields oversigned
DKIM-05 | RFC 7489 §3.1.1 | the domain in From decides, aligned; unclear or several: not signed, and the log says so
DKIM-06 | | mail that its domain has signed already is signed besides or left alone, as configured
DKIM-07 | | what must be signed and cannot be waits, with a code that says why
DKIM-08 | | memory is bounded for large messages, long headers and many fields
DKIM-09 | RFC 6376 §3.6.1 | a managed key signs once DNS shows it
DKIM-10 | | the next pair of keys takes over; the old one stays published for its time
DKIM-11 | | keys whose record is gone stop signing; a DNS that cannot be asked changes nothing
DKIM-12 | | after half a year the log calls for new keys
DKIM-13 | | keys that sign cannot be retired
DKIM-14 | | keys that others could read, or that are lost, are not used
DKIM-15 | | several processes share the keys; no change is lost
DKIM-16 | RFC 8301 §3.2 | keys that are weak, encrypted, damaged or of another kind are refused with a clear message
DKIM-17 | RFC 6376 §3.6.1 | a record is written in strings of 255 octets, and compared with what DNS has
DKIM-18 | | from client to mail host: signed as it leaves, the stored message unchanged, the log says with what
DKIM-19 | | copies of a message for several domains are signed once while the same keys sign; other keys, another signature

# Traps of Node and of libraries: the chain
NODE-01 | | a chain that was built, sorted or added to is never judged
NODE-02 | | the chain is read once, first, and in the order of the wire
NODE-03 | | it can still be read when the runtime has looked first
NODE-04 | | a resumed session has no chain and is never used
NODE-05 | | what the runtime thinks of the chain does not matter
NODE-06 | | nothing is said under TLS before the chain is judged
NODE-07 | | the address dialled and the SNI are ours; the library resolves and falls back to nothing
NODE-08 | | no chain under anonymous suites; no renegotiation

# Traps of Node and of libraries: certificates
NODE-10 | | the key is a slice of the certificate, not a new encoding
NODE-11 | | \`pubkey\` of the older interface, which is no SPKI for most keys, is not used
NODE-12 | | trailing octets and PEM text are not taken for DER
NODE-13 | | an issuer is one by signature as well as by name
NODE-14 | | extensions are read from the certificate, not from the runtime’s view of it
NODE-15 | | the runtime’s name check, with partial wildcards, is not used
NODE-16 | | the DER reader works for keys of every kind
NODE-17 | | no certificate store is asked, and no program

# Traps of Node and of libraries: DNS and SMTP
NODE-20 | | the bits of a question are where RFC 6840 and RFC 6891 put them
NODE-21 | | RDATA never reaches beyond its length
NODE-22 | | only class IN exists
NODE-23 | RFC 8914 §4 | extended errors are read
NODE-24 | RFC 5452 §9.1 | an answer must come from the resolver, to our port, for our question and id
NODE-25 | RFC 7766 §8 | TCP: lengths in pieces, several messages, early ends
NODE-26 | | the resolver of Node or of the system is never asked
NODE-27 | | a deadline for a lookup as a whole, with tries in between
NODE-28 | | the SMTP server library neither waits before its greeting nor looks up names
`;

/** Throws for a line that is none, so that a slip of the pen is seen by the test. */
export const CHAPTERS: readonly Chapter[] = TABLE.trim()
  .split('\n\n')
  .map((text) => {
    const [title = '', ...lines] = text.split('\n');
    return { title: title.replace(/^# /, ''), items: lines.map(itemOf) };
  });

function itemOf(line: string): Item {
  const [id = '', source = '', holds = '', untested = null, ...rest] = line.split('|').map((cell) => cell.trim());
  if (!/^[A-Z]+-\d\d$/.test(id) || holds === '' || rest.length > 0) throw new Error(`not an item: ${line}`);
  return { id, source, holds, untested };
}
