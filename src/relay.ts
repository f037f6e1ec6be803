/**
 * One attempt to deliver one message to one destination domain, read from top to bottom.
 *
 *   destination   what does the operator's table say?              design: first match wins
 *   route         which hosts take mail for the domain?            RFC 5321 §5.1, RFC 7505
 *   findSts       what does the domain demand by MTA-STS?           RFC 8461 §5.1
 *   locate        where is the host, and is that signed?           RFC 7672 §2.2.2
 *   findTlsa      what does it publish, under which name?          RFC 7672 §2.2.3
 *   decide        how must it prove itself before it gets mail?    RFC 7672 §2.2
 *   sign          with DKIM, now that there is somebody to dial    RFC 6376, RFC 8463
 *   deliver       hand the message over under that policy          RFC 5321 §3.3, RFC 3207
 *   passOver      tell whoever wants to know that a host was of no use
 *   sessionEnded  and how each try to have a TLS session ended        RFC 8460 §4.3
 *
 * The stages do not know each other. This file is the only place that knows their order, and the only place that
 * turns "this host did not work" into "try the next one". Whatever is not known stops here: a host whose records
 * could not be looked up is not dialled, and when no host is left the message waits.
 */
import type {
  ConnectionFacts,
  Outcome,
  Overlooked,
  SessionEnd,
  Signed,
  Visit,
  VisitRequest,
} from './model/delivery.ts';
import type { MailEvent } from './model/events.ts';
import { type Batch, TLS_REPORTER } from './model/message.ts';
import { type ReasonCode, whatNext } from './model/reasons.ts';
import type { Location, MailHost, MxFacts, NextHop, Route, Trouble } from './model/route.ts';
import type { StsFindings } from './model/sts.ts';
import {
  type Destination,
  forWish,
  type HostFacts,
  type HostPlan,
  type TlsaFindings,
  type TlsPolicy,
  withoutDemands,
} from './model/tls-policy.ts';
import { verdictOf } from './model/verdict.ts';

/** What has to be known of a domain before anything is dialled. */
export interface Lookups {
  readonly destination: (domain: string) => Destination;
  /** Why the resolver cannot be believed, in words; null while it proves that it validates. */
  readonly resolverDoubt: () => string | null;
  readonly route: (nextHop: NextHop) => Promise<Route>;
  /** null where it does not matter. */
  readonly findSts: (destination: Destination) => Promise<StsFindings | null>;
  readonly locate: (hostName: string) => Promise<Location>;
  /** Whether TLSA may be asked for at all, given what is known of the MX and the address answers. */
  readonly asksForTlsa: (facts: HostFacts) => boolean;
  readonly findTlsa: (bases: readonly string[], port: number) => Promise<TlsaFindings>;
  readonly decide: (facts: HostFacts) => TlsPolicy;
}

export interface Stages extends Lookups {
  readonly deliver: (request: VisitRequest) => Promise<Visit>;
  /** What goes on top of the message; asked for once in an attempt, when there is a host to dial. */
  readonly sign?: (batch: Batch) => Promise<Signed>;
  readonly passOver: (batch: Batch, trouble: Trouble, facts: Partial<MailEvent>) => void;
  /** Absent while nobody counts. Must neither take time nor throw. */
  readonly sessionEnded?: (end: SessionEnd) => void;
}

/** Addresses dialled in one attempt, over all hosts. RFC 5321 §5.1 asks for two at least. */
const VISITS_AT_MOST = 8;
/** Of them, those to each host at least; dead addresses of the first must not use up what the next ones need. */
const VISITS_PER_HOST = 2;

/** Resolves to exactly one outcome per recipient. Rejects only for bugs, never for a remote fault. */
export async function attempt(batch: Batch, stages: Stages): Promise<readonly Outcome[]> {
  const isReport = batch.client === TLS_REPORTER;
  const wanted = stages.destination(batch.domain);
  const destination = forWish(isReport ? withoutDemands(wanted) : wanted, batch.envelope.tls);
  const way = await findWay(destination, stages);
  // A report that were counted in the next one would never let them end (RFC 8460 §3).
  const tell = (end: Pick<SessionEnd, 'plan' | 'dialled' | 'trouble'>): void => {
    if (!isReport) stages.sessionEnded?.({ destination, mx: way.mx, ...end });
  };
  const factsOf = (plan: HostPlan | null, connection: ConnectionFacts | null): Partial<MailEvent> => ({
    ...logged(way.mx, plan, connection),
    ...(destination.wish && { tlsWish: destination.wish }),
  });
  if (way.kind === 'dead-end') {
    tell({ plan: null, dialled: null, trouble: way.trouble });
    return forEveryone(batch, way.trouble, factsOf(null, null));
  }

  const sts = await stages.findSts(destination);
  const troubles = new Map<Trouble, Partial<MailEvent>>();
  const note = (trouble: Trouble, facts: Partial<MailEvent>): void => {
    troubles.set(trouble, facts);
    stages.passOver(batch, trouble, facts);
  };
  let parcel: Parcel | null = null;
  let visits = 0;
  const perHost = Math.max(VISITS_PER_HOST, Math.floor(VISITS_AT_MOST / way.hosts.length));
  for (const host of way.hosts) {
    if (visits >= VISITS_AT_MOST) break;
    const plan = await planHost(destination, way.mx, host, sts, stages);
    const { policy } = plan;
    if (policy.kind === 'skip') {
      tell({ plan, dialled: null, trouble: policy.trouble });
      note(heeding(batch.envelope.sender, destination, policy.trouble), factsOf(plan, null));
      continue;
    }
    for (const address of addressesOf(plan).slice(0, perHost)) {
      if (visits++ >= VISITS_AT_MOST) break;
      const { nextHop } = destination;
      parcel ??= await packed(batch, stages);
      if (parcel.kind === 'impossible') return forEveryone(batch, parcel.trouble, factsOf(plan, null));
      const visit = await stages.deliver({ ...parcel.load, nextHop, host, address, port: nextHop.port, policy });
      if (visit.opened) tell({ plan, dialled: { ...visit, opened: visit.opened }, trouble: null });
      const facts = { ...factsOf(plan, visit.connection), ...parcel.facts };
      if (visit.kind === 'settled') return visit.outcomes.map((outcome) => withFacts(outcome, visit.connection, facts));
      const trouble = heeding(batch.envelope.sender, destination, { host: host.name, address, ...visit.trouble });
      // Our own limit, not a fault of the host: those after it are not asked to step in.
      if (trouble.code === 'host-busy') return forEveryone(batch, trouble, facts);
      note(trouble, facts);
    }
  }
  const trouble = mostTelling([...troubles.keys()]);
  return forEveryone(batch, trouble, troubles.get(trouble) ?? {});
}

/** The hosts for a destination, or why there are none. */
export async function findWay(destination: Destination, lookups: Lookups): Promise<Route> {
  const { nextHop, tls } = destination;
  // Where failures are only reported, this one is told with the policy of each host.
  const enforced = destination.reportUntil === undefined || destination.reportUntil === null;
  const daneCouldMatter = tls !== 'may' && nextHop.kind !== 'literal' && enforced;
  const doubt = daneCouldMatter ? lookups.resolverDoubt() : null;
  if (doubt !== null) {
    const mx: MxFacts = { kind: 'failed', dnssec: 'error', expanded: null };
    return { kind: 'dead-end', mx, trouble: { code: 'resolver-untrusted', detail: doubt } };
  }
  if (nextHop.kind === 'literal' && tls === 'dane-only' && enforced) {
    const mx: MxFacts = { kind: 'literal', dnssec: null, expanded: null };
    return { kind: 'dead-end', mx, trouble: { code: 'dane-only-literal', detail: nextHop.address } };
  }
  return lookups.route(nextHop);
}

/** All that must be known of one host before it is dialled: its addresses first, TLSA only then (RFC 7672 §2.2.2). */
export async function planHost(
  destination: Destination,
  mx: MxFacts,
  host: MailHost,
  sts: StsFindings | null,
  { locate, asksForTlsa, findTlsa, decide }: Lookups,
): Promise<HostPlan> {
  const plan = (facts: HostFacts): HostPlan => ({ ...facts, policy: decide(facts) });
  const known: HostFacts = { destination, mx, host, location: null, tlsa: null, sts };
  if (host.unusable) return { ...known, policy: { kind: 'skip', trouble: { host: host.name, ...host.unusable } } };
  if (destination.nextHop.kind === 'literal') {
    return plan({ ...known, location: { kind: 'found', addresses: [host.name], dnssec: 'insecure', bases: [] } });
  }

  const located: HostFacts = { ...known, location: await locate(host.name) };
  if (located.location?.kind !== 'found' || !asksForTlsa(located)) return plan(located);
  return plan({ ...located, tlsa: await findTlsa(located.location.bases, destination.nextHop.port) });
}

export function addressesOf({ location }: HostPlan): readonly string[] {
  return location?.kind === 'found' ? location.addresses : [];
}

/**
 * The one trouble that says most about why nothing worked. Only when every host failed for good does the message
 * go back; one host that may work later keeps it waiting (RFC 5321 §5.1).
 */
export function mostTelling(troubles: readonly Trouble[]): Trouble {
  const temporary = troubles.filter((trouble) => !isPermanent(trouble));
  const relevant = temporary.length > 0 ? temporary : troubles;
  const [first] = relevant.toSorted((a, b) => rank(a.code) - rank(b.code));
  return first ?? { code: 'internal-error', detail: 'no host was tried and none gave a reason' };
}

function isPermanent({ code, status }: Trouble): boolean {
  return whatNext(verdictOf(code, '', status).status) === 'bounced';
}

/** From what an administrator most needs to hear to what says least. Codes that are not named come in between. */
const LOUDEST: readonly string[] = [
  'requiretls-',
  'tlsa-',
  'dane-only-',
  'webpki-',
  'pin-',
  'sts-',
  'starttls-',
  'tls-',
  'greeting-',
  'ehlo-',
  'loop-to-self',
];
const FAINTEST: readonly string[] = ['connect-failed', 'own-host', 'host-without-address'];

function rank(code: ReasonCode): number {
  const loud = LOUDEST.findIndex((start) => code.startsWith(start));
  if (loud >= 0) return loud;
  return LOUDEST.length + 1 + FAINTEST.indexOf(code);
}

/**
 * What keeps a message from a host, with what its sender asked of TLS. Who demands it hears at once that there is none to
 * be had (RFC 8689 §4.2.1); a notice waits, since nobody would hear of it. Who waives it hears why that did not count.
 *
 * @param sender empty for a notice
 */
export function heeding(sender: string, { wish, rule }: Destination, trouble: Trouble): Trouble {
  const { code, detail } = trouble;
  if (wish === 'overruled') {
    const words = `the message says TLS-Required: No, and ${rule ? `the rule "${rule.text}"` : 'a rule'} demands TLS`;
    return { ...trouble, detail: detail === '' ? words : `${detail}; ${words}` };
  }
  const askedLater = /^4/.test(trouble.reply ?? '');
  if (wish !== 'required' || !(NOT_PROVEN.has(code) || code.startsWith('requiretls-')) || askedLater) return trouble;
  const { status: _, ...rest } = trouble;
  const waits = sender === '' ? { status: '4.7.10' } : {};
  if (code.startsWith('requiretls-')) return { ...rest, ...waits };
  const seen = `${code}${detail === '' ? '' : `: ${detail}`}`;
  return { ...rest, ...waits, code: 'requiretls-not-proven', detail: seen };
}

/** What makes other mail wait, and a message that demands TLS go back. Failed lookups are not among it. */
const NOT_PROVEN: ReadonlySet<ReasonCode> = new Set([
  'starttls-not-offered',
  'starttls-refused',
  'tls-handshake-failed',
  'tls-too-weak',
  'tlsa-mismatch',
  'tlsa-name-mismatch',
  'tlsa-expired',
  'tlsa-not-trusted',
  'tlsa-no-usable-record',
  'tlsa-bad-chain',
  'webpki-not-trusted',
  'webpki-expired',
  'webpki-name-mismatch',
  'pin-mismatch',
  'sts-mx-not-listed',
  'verify-literal',
]);

/** What was proven on the way counts for every recipient; for one that was delivered it is the verdict. */
function withFacts(outcome: Outcome, { code, reason }: ConnectionFacts, log: Partial<MailEvent>): Outcome {
  return outcome.result === 'delivered' ? { ...outcome, code, detail: reason, log } : { ...outcome, log };
}

function logged(mx: MxFacts, plan: HostPlan | null, connection: ConnectionFacts | null): Partial<MailEvent> {
  const location = plan?.location ?? null;
  const address = location === null ? null : location.kind === 'failed' ? 'error' : location.dnssec;
  return {
    dnssec: { mx: mx.dnssec, address, tlsa: plan?.tlsa?.dnssec ?? null },
    ...(plan && { policy: plan.policy.kind }),
    ...stsFactsOf(plan?.sts ?? null),
    ...(connection && { verdict: connection.verdict }),
    ...(connection?.tls && { tls: connection.tls }),
    ...(connection?.record && { record: connection.record }),
    ...(connection?.overlooked && overlookedIn(connection.overlooked)),
  };
}

function overlookedIn({ code, detail, grant }: Overlooked): Pick<MailEvent, 'overlooked' | 'grant'> {
  const until = new Date(grant.until).toISOString();
  return {
    overlooked: { code, explanation: verdictOf(code, detail).explanation },
    grant:
      grant.kind === 'exception'
        ? { kind: 'exception', id: grant.id, owner: grant.owner, until }
        : { kind: 'report', until },
  };
}

function stsFactsOf(sts: StsFindings | null): Pick<MailEvent, 'sts'> {
  if (sts === null || (sts.kind === 'none' && sts.failure === null)) return {};
  const failure = sts.failure && { failure: sts.failure.type };
  return { sts: sts.kind === 'none' ? { mode: null, ...failure } : { mode: sts.policy.mode, id: sts.id, ...failure } };
}

/** A message with what goes on top of it, or why it stays here. */
type Parcel =
  | {
      readonly kind: 'ready';
      readonly load: Pick<VisitRequest, 'batch' | 'header'>;
      readonly facts: Partial<MailEvent>;
    }
  | { readonly kind: 'impossible'; readonly trouble: Trouble };

async function packed(batch: Batch, { sign }: Stages): Promise<Parcel> {
  const signed: Signed = (await sign?.(batch)) ?? { kind: 'unsigned', why: null };
  switch (signed.kind) {
    case 'impossible':
      return { kind: 'impossible', trouble: { code: signed.code, detail: signed.why } };
    case 'unsigned':
      return { kind: 'ready', load: { batch }, facts: signed.why === null ? {} : { notSigned: signed.why } };
    case 'signed': {
      const { header, by } = signed;
      const content = { ...batch.content, size: batch.content.size + header.length };
      return { kind: 'ready', load: { batch: { ...batch, content }, header }, facts: { dkim: by } };
    }
  }
}

/** The same outcome for every recipient. */
export function forEveryone(batch: Batch, trouble: Trouble, log: Partial<MailEvent>): readonly Outcome[] {
  const { code, status, result } = verdictOf(trouble.code, trouble.detail, trouble.status);
  return batch.recipients.map((recipient) => ({
    recipientId: recipient.id,
    result,
    code,
    status,
    detail: trouble.detail,
    host: trouble.host ?? null,
    address: trouble.address ?? null,
    reply: trouble.reply ?? null,
    dsnPassedOn: false,
    log,
  }));
}
