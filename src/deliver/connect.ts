/**
 * From an address to a connection on which MAIL may be said: greeting, EHLO, STARTTLS, proof, EHLO again.
 *
 *   policy    no STARTTLS        refused            handshake fails        certificate
 *   dane      starttls-not-off.  starttls-refused   tls-handshake-failed   must match a TLSA record
 *   verify    starttls-not-off.  starttls-refused   tls-handshake-failed   from a trusted authority, for the name
 *   sts       starttls-not-off.  starttls-refused   tls-handshake-failed   the same
 *   pin       starttls-not-off.  starttls-refused   tls-handshake-failed   must have a key that was named
 *   encrypt   starttls-not-off.  starttls-refused   tls-handshake-failed   any
 *   may       in the clear       in the clear       new connection, clear  any
 *   except    as what is enough without DANE; DANE is tried first
 *   report    the same
 *
 * (RFC 7672 §2.2.) Where TLSA records count beside another proof, both must hold. The certificate is judged before a
 * word is said under TLS; TLS that is insufficient (docs/tls-grades.md) does where nothing demands it, and nowhere
 * else. What the host said before TLS is forgotten with it (RFC 3207 §4.2), and where TLS is demanded
 * nothing said before it can return mail for good.
 */
import type { SecureContext } from 'node:tls';
import type {
  CertificateVerdict,
  ConnectionFacts,
  GradedTls,
  Grading,
  Opened,
  PathFinding,
  TlsFacts,
  VisitRequest,
} from '../model/delivery.ts';
import { type ReasonCode, reason, whatNext } from '../model/reasons.ts';
import type { Trouble } from '../model/route.ts';
import type { DaneProof, Grant, LenientPolicy, NameProof, TlsPolicy } from '../model/tls-policy.ts';
import { spkiPin } from '../shared/spki.ts';
import { ConnectionFailure } from './connection-failure.ts';
import type { Extensions } from './envelope.ts';
import { refusal, unexpected } from './outcomes.ts';
import { pathFinding, takeChain, tlsFacts } from './peer-certificates.ts';
import { extensionsOf, isPermanentRefusal, isPositive, isRefusal, type Reply, statusOf, textOf } from './replies.ts';
import { SmtpConnection } from './smtp-connection.ts';
import type { Timeouts } from './timeouts.ts';

export type Target = Omit<VisitRequest, 'batch'>;

/** Judges the certificates that a host sent against the records and names of the policy. */
export type Judge = (chain: readonly Buffer[], proof: DaneProof) => CertificateVerdict;

/** Judges them against names, with what was found of the way to a trusted authority. */
export type JudgeNames = (chain: readonly Buffer[], path: PathFinding, proof: NameProof) => CertificateVerdict;

/** Says how good what was negotiated is, with the certificate that the host calls its own. */
export type GradeTls = (tls: TlsFacts, leaf: Buffer | undefined) => Grading;

export interface Dialling {
  readonly hostname: string;
  readonly judge: Judge;
  readonly judgeNames: JudgeNames;
  readonly grade: GradeTls;
  readonly timeouts: Timeouts;
  readonly localAddress: string | undefined;
  readonly secureContext: SecureContext;
  /** With the authorities that this relay trusts: for policies that ask for one, and for no other. */
  readonly trustingContext: () => SecureContext;
  /** Told of every connection that is made, so that it can be cut when the relay stops. */
  readonly made: (connection: SmtpConnection) => void;
}

/** What was seen of a host, as far as it came. */
interface Seen {
  readonly facts: ConnectionFacts;
  /** DER of the certificates as the host sent them. */
  readonly chain: readonly Buffer[];
  /** Of the last EHLO reply that counts. */
  readonly extensions: Extensions;
  readonly opened: Opened;
}

export type Dialled =
  | ({ readonly kind: 'ready'; readonly connection: SmtpConnection } & Seen)
  | ({ readonly kind: 'failed'; readonly trouble: Trouble } & Seen);

/** Dials and proves. Never rejects for anything the host does. */
export async function dial(target: Target, dialling: Dialling): Promise<Dialled> {
  const first = await attempt(target, dialling, null);
  const mayBeClear = !demandsTls(target.policy) && first.kind === 'failed';
  if (!mayBeClear || first.trouble.code !== 'tls-handshake-failed') return first;
  return attempt(target, dialling, first.trouble.detail);
}

/** @param clearBecause why TLS is not tried at all; null when it is */
async function attempt(target: Target, dialling: Dialling, clearBecause: string | null): Promise<Dialled> {
  const { address, port, policy } = target;
  const { hostname, localAddress, timeouts } = dialling;
  const secureContext = needsAuthority(policy) ? dialling.trustingContext() : dialling.secureContext;
  const options = { address, port, hostname, localAddress, secureContext, timeouts, sni: policy.sni };
  const connection = new SmtpConnection(options);
  dialling.made(connection);
  const approach = new Approach(connection, target, dialling);
  try {
    const way = await approach.walk(clearBecause);
    const facts: ConnectionFacts = { address, tls: approach.tls, record: null, depth: null, ...way };
    const { chain, extensions, opened } = approach;
    return { kind: 'ready', connection, facts, chain, extensions, opened };
  } catch (error) {
    const trouble = troubleOf(error);
    const { tls, chain, extensions, opened } = approach;
    const { code, detail } = trouble;
    const facts: ConnectionFacts = { address, verdict: 'failed', record: null, depth: null, tls, code, reason: detail };
    // Politely where the host is merely not good enough; a failed connection is gone already.
    void connection.quit();
    return { kind: 'failed', trouble, facts, chain, extensions, opened };
  }
}

type Policy = Target['policy'];

/** Whether a name proof is among what may be asked of the certificate. */
function needsAuthority(policy: TlsPolicy): boolean {
  if (policy.kind === 'except' || policy.kind === 'report') {
    return [policy.strict, ...policy.enough].some(needsAuthority);
  }
  return policy.kind === 'verify' || policy.kind === 'sts';
}

function isLenient(policy: Policy): policy is LenientPolicy {
  return policy.kind === 'except' || policy.kind === 'report';
}

function demandsTls(policy: Policy): boolean {
  if (policy.kind === 'except' || policy.kind === 'report') return policy.enough[0].kind !== 'may';
  return policy.kind !== 'may';
}

function troubleOf(error: unknown): Trouble {
  if (error instanceof ConnectionFailure) return error.trouble;
  return { code: 'internal-error', detail: error instanceof Error ? error.message : String(error) };
}

type Way = Pick<ConnectionFacts, 'verdict' | 'code' | 'reason'> &
  Partial<Pick<ConnectionFacts, 'record' | 'depth' | 'overlooked'>>;

/** The steps towards one host, with what was learned on the way even when it ends early. */
class Approach {
  tls: GradedTls | null = null;
  #grading: Grading = { grade: 'insufficient', because: [] };
  chain: readonly Buffer[] = [];
  extensions: Extensions = new Map();
  #path: PathFinding = { kind: 'not-trusted', why: 'nobody looked' };
  readonly #connection: SmtpConnection;
  readonly #target: Target;
  readonly #dialling: Dialling;
  #greeting: string | null = null;

  constructor(connection: SmtpConnection, target: Target, dialling: Dialling) {
    this.#connection = connection;
    this.#target = target;
    this.#dialling = dialling;
  }

  get opened(): Opened {
    return { localAddress: this.#connection.localAddress, greeting: this.#greeting, chain: this.chain };
  }

  /** @throws ConnectionFailure when the host cannot be used */
  async walk(clearBecause: string | null): Promise<Way> {
    const { policy } = this.#target;
    await this.#greet();
    await this.#hello('before-tls');
    if (clearBecause !== null) {
      return this.#clear('clear-handshake-failed', { code: 'tls-handshake-failed', detail: clearBecause });
    }

    const mustEncrypt = demandsTls(policy);
    if (!this.extensions.has('STARTTLS')) {
      if (!mustEncrypt) return this.#clear('clear-not-offered', { code: 'starttls-not-offered', detail: '' });
      throw new ConnectionFailure({ code: 'starttls-not-offered', detail: 'STARTTLS is not in its answer to EHLO' });
    }
    const starttls = await this.#connection.command({ line: 'STARTTLS', phase: 'starttls' });
    if (starttls.code === 421 && !mustEncrypt) throw new ConnectionFailure(refusal(starttls, 'STARTTLS'));
    if (isRefusal(starttls)) {
      const said = refusal(starttls, 'STARTTLS');
      if (!mustEncrypt) return this.#clear('clear-starttls-refused', { code: 'starttls-refused', detail: said.detail });
      throw new ConnectionFailure({ code: 'starttls-refused', detail: said.detail, reply: textOf(starttls) });
    }
    if (starttls.code !== 220) throw new ConnectionFailure(unexpected(starttls, 'STARTTLS'));

    // RFC 3207 §4.2: whatever was learned so far may be an attacker's.
    this.extensions = new Map();
    await this.#connection.startTls();
    const socket = this.#connection.tlsSocket;
    this.chain = takeChain(socket);
    const negotiated = tlsFacts(socket);
    this.#grading = this.#dialling.grade(negotiated, this.chain[0]);
    this.tls = { ...negotiated, grade: this.#grading.grade };
    if (needsAuthority(policy)) this.#path = pathFinding(socket);
    const way = this.#prove(policy);
    await this.#hello('under-tls');
    return way;
  }

  async #greet(): Promise<void> {
    const greeting = await this.#connection.open();
    this.#greeting = textOf(greeting);
    if (greeting.code === 220) return;
    if (!isRefusal(greeting)) throw new ConnectionFailure(unexpected(greeting, 'our connection'));
    throw new ConnectionFailure(this.#turnedAway('greeting-refused', greeting));
  }

  async #hello(stage: 'before-tls' | 'under-tls'): Promise<void> {
    const { hostname } = this.#dialling;
    const ehlo = await this.#connection.command({ line: `EHLO ${hostname}`, phase: 'ehlo' });
    if (isPositive(ehlo)) {
      this.extensions = extensionsOf(ehlo);
      return;
    }
    if (!isRefusal(ehlo)) throw new ConnectionFailure(unexpected(ehlo, 'EHLO'));
    if (!isPermanentRefusal(ehlo)) throw new ConnectionFailure(this.#turnedAway('ehlo-refused', ehlo));
    if (demandsTls(this.#target.policy) && stage === 'before-tls') {
      // HELO could not lead to TLS (RFC 3207 §4).
      if (!COMMAND_UNKNOWN.has(ehlo.code)) throw new ConnectionFailure(this.#turnedAway('ehlo-refused', ehlo));
      const detail = `it does not know EHLO: ${textOf(ehlo)}`;
      throw new ConnectionFailure({ code: 'starttls-not-offered', detail, reply: textOf(ehlo) });
    }
    const helo = await this.#connection.command({ line: `HELO ${hostname}`, phase: 'ehlo' });
    if (isPositive(helo)) return;
    if (!isRefusal(helo)) throw new ConnectionFailure(unexpected(helo, 'HELO'));
    throw new ConnectionFailure(this.#turnedAway('ehlo-refused', helo));
  }

  /** A refusal of the whole connection. Only `may` lets it count for good: elsewhere nobody has proven who spoke. */
  #turnedAway(code: 'greeting-refused' | 'ehlo-refused', reply: Reply): Trouble {
    const { detail, reply: text = '' } = refusal(reply, code === 'greeting-refused' ? 'our connection' : 'EHLO');
    const status = statusOf(reply);
    if (this.#target.policy.kind === 'may' || !isPermanentRefusal(reply)) return { code, detail, status, reply: text };
    if (this.tls !== null) return { code, detail, reply: text };
    return { code: 'greeting-refused-before-tls', detail, reply: text };
  }

  /** What the handshake is worth under the policy. @throws ConnectionFailure where it is worth nothing */
  #prove(policy: Policy): Way {
    if (isLenient(policy)) return this.#proveLeniently(policy);
    const way = this.#proof(policy);
    if (policy.kind !== 'may') this.#strongEnough();
    return way;
  }

  #proof(policy: Exclude<Policy, LenientPolicy>): Way {
    switch (policy.kind) {
      case 'may':
        return { verdict: 'encrypted', code: 'encrypted-opportunistic', reason: reason(policy.code).says };
      case 'encrypt':
        return { verdict: 'encrypted', code: 'encrypted-unauthenticated', reason: reason(policy.code).says };
      case 'dane':
        return this.#proveDane(policy);
      case 'verify':
      case 'sts':
        return this.#besides(policy.dane, () => this.#proveNames(policy));
      case 'pin':
        return this.#besides(policy.dane, () => this.#provePin(policy.pins));
    }
  }

  /** Where TLS is demanded it must be TLS that protects. @throws ConnectionFailure */
  #strongEnough(): void {
    const { grade, because } = this.#grading;
    if (grade !== 'insufficient') return;
    const { version, cipher } = this.tls ?? { version: 'unknown', cipher: 'unknown' };
    throw new ConnectionFailure({ code: 'tls-too-weak', detail: `${version} with ${cipher}: ${because.join(', ')}` });
  }

  /** Ordinary mail's proof first: a grant is used only where that fails. */
  #proveLeniently({ strict, enough, grant }: LenientPolicy): Way {
    let failed: Trouble;
    if (strict.kind === 'skip') failed = strict.trouble;
    else {
      try {
        return this.#prove(strict);
      } catch (error) {
        if (!(error instanceof ConnectionFailure)) throw error;
        failed = error.trouble;
      }
    }
    return enough.map((policy) => overlook(this.#prove(policy), failed, grant)).reduce((_, last) => last);
  }

  /** No TLS, where nothing demands it; under a grant that is a failure which is overlooked. */
  #clear(code: ReasonCode, why: Trouble): Way {
    const { policy } = this.#target;
    const way: Way = { verdict: 'clear', code, reason: why.detail };
    if (policy.kind !== 'except' && policy.kind !== 'report') return way;
    return overlook(way, policy.strict.kind === 'skip' ? policy.strict.trouble : why, policy.grant);
  }

  #proveDane(proof: DaneProof): Way {
    return proven(this.#dialling.judge(this.#certificates(), proof), proof.wholePath, 'tlsa-mismatch');
  }

  #proveNames(proof: NameProof): Way {
    const verdict = this.#dialling.judgeNames(this.#certificates(), this.#path, proof);
    return proven(verdict, proof.wholePath, 'webpki-not-trusted');
  }

  #provePin(pins: readonly string[]): Way {
    const pin = spkiPin(this.#certificates()[0]) ?? 'no key that can be read';
    if (pins.includes(pin)) return { verdict: 'authenticated', code: 'pin-matched', reason: `it has the key ${pin}` };
    throw new ConnectionFailure({ code: 'pin-mismatch', detail: `it has ${pin}` });
  }

  /** Another proof, with that of DANE where there is one: what a domain publishes is never set aside. */
  #besides(dane: DaneProof | null, prove: () => Way): Way {
    if (dane === null) return prove();
    const { record, depth, reason: matched } = this.#proveDane(dane);
    const way = prove();
    return { ...way, record: record ?? null, depth: depth ?? null, reason: `${way.reason}; ${matched}` };
  }

  #certificates(): readonly [Buffer, ...Buffer[]] {
    const [leaf, ...others] = this.chain;
    if (leaf === undefined) throw new ConnectionFailure({ code: 'tlsa-bad-chain', detail: 'no certificate' });
    return [leaf, ...others];
  }
}

/** Replies to a command that a host does not know (RFC 5321 §4.2.4): 502 for most, 500 and 504 are met. */
const COMMAND_UNKNOWN: ReadonlySet<number> = new Set([500, 501, 502, 504]);

/** @throws ConnectionFailure where the certificates were not good enough */
function proven(
  { verdict, code, detail, record, depth }: CertificateVerdict,
  wholePath: boolean,
  otherwise: ReasonCode,
): Way {
  if (verdict === 'authenticated') {
    return { verdict: wholePath ? 'authenticated' : 'host-authenticated', code, record, depth, reason: detail };
  }
  // Whatever the judge calls it, a failed proof makes mail wait (RFC 7672 §2.2).
  const waits = whatNext(reason(code).status) === 'deferred';
  throw new ConnectionFailure({ code: waits ? code : otherwise, detail });
}

const GRANTED = {
  exception: {
    authenticated: 'exception-authenticated',
    'host-authenticated': 'exception-authenticated',
    encrypted: 'exception-encrypted',
    // Never: an exception lets nothing out in the clear.
    clear: 'internal-error',
    failed: 'internal-error',
  },
  report: {
    authenticated: 'report-authenticated',
    'host-authenticated': 'report-authenticated',
    encrypted: 'report-encrypted',
    clear: 'report-clear',
    failed: 'internal-error',
  },
} as const satisfies Record<string, Record<Way['verdict'], ReasonCode>>;

/** What is told of a connection over which mail goes although `failed`: who lets it, until when, and what was wrong. */
function overlook(way: Way, failed: Trouble, grant: Grant): Way {
  const until = new Date(grant.until).toISOString();
  const who =
    grant.kind === 'exception'
      ? `exception ${grant.id} of ${grant.owner} until ${until} (${grant.reason})`
      : `only reported until ${until}`;
  const { code, detail } = failed;
  const reasonOf = [`${code}${detail === '' ? '' : `: ${detail}`}`, who].join('; ');
  return { ...way, code: GRANTED[grant.kind][way.verdict], reason: reasonOf, overlooked: { code, detail, grant } };
}
