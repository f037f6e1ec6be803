/**
 * `explain`: what delivery to a domain would do, and why. It asks the same stages as delivery, in the same order
 * (relay.ts), and only leaves the message out.
 */
import { Command } from 'commander';
import type { CertificateSummary, ConnectionFacts, VisitRequest } from '../model/delivery.ts';
import type { Dnssec, ExtendedError } from '../model/dns.ts';
import type { TlsWish } from '../model/message.ts';
import type { ReasonCode } from '../model/reasons.ts';
import type { MxFacts, Trouble } from '../model/route.ts';
import type { StsFindings } from '../model/sts.ts';
import { forWish, type HostPlan, type JudgedRecord, type Ruling, type TlsPolicy } from '../model/tls-policy.ts';
import { verdictOf } from '../model/verdict.ts';
import { addressesOf, findWay, heeding, type Lookups, mostTelling, planHost } from '../relay.ts';
import { domainOf, literalAddress, toDomain } from '../shared/domain-name.ts';
import { inWords } from './explain-words.ts';

/** Dials a host as delivery would, judges it, and hangs up before MAIL FROM. */
export type Dial = (request: Omit<VisitRequest, 'batch'>) => Promise<{
  readonly connection: ConnectionFacts;
  readonly trouble: Trouble | null;
  /** `PIPELINING`, `SIZE 10240000`: what the host offers where mail would be sent. */
  readonly extensions: readonly string[];
  /** The certificates as sent; null for one that cannot be read. */
  readonly chain: readonly (CertificateSummary | null)[];
}>;

/** One question to the resolver with its answer, in words. */
export interface Lookup {
  readonly name: string;
  readonly type: string;
  readonly dnssec: Dnssec;
  /** The records, or what was said in place of them: `does not exist`, `no such records`, a failure. */
  readonly answer: string;
  /** Extended DNS error (RFC 8914), where the resolver gave one. */
  readonly extended: ExtendedError | null;
}

export interface Explanation {
  readonly domain: string;
  /** The domain whose mail hosts get the mail, where a rule names another one; null otherwise. */
  readonly via: string | null;
  /** The line of the configuration that ruled. */
  readonly rule: Ruling;
  readonly mx: MxFacts;
  /** What the domain demands by MTA-STS; null where that does not matter. */
  readonly sts: ExplainedSts | null;
  readonly hosts: readonly ExplainedHost[];
  readonly outcome: Outcome;
  readonly status: string | null;
  readonly code: ReasonCode;
  readonly explanation: string;
  readonly rfc: string;
}

/** What `explain --json` prints. */
export interface FullExplanation extends Explanation {
  /** Every question that was asked, in order. */
  readonly lookups: readonly Lookup[];
}

export type Outcome =
  | 'authenticated'
  | 'host-authenticated'
  | 'encrypted'
  | 'opportunistic'
  | 'clear'
  | 'deferred'
  | 'bounced';

export interface ExplainedSts {
  /** Domain whose policy it is. */
  readonly domain: string;
  /** null where there is no policy that holds. */
  readonly mode: 'enforce' | 'testing' | 'none' | null;
  readonly id: string | null;
  /** RFC 3339. */
  readonly fetchedAt: string | null;
  /** Seconds since then, and how many the policy holds. */
  readonly age: number | null;
  readonly maxAge: number | null;
  readonly mx: readonly string[];
  /** Why there is no policy, or nothing newer; null when all is well. */
  readonly why: string | null;
  /** Result type of RFC 8460 §4.3 for a policy that is announced and could not be had. */
  readonly failure: ReasonCode | null;
}

export interface ExplainedHost {
  readonly name: string;
  readonly preference: number;
  readonly addresses: readonly string[];
  readonly addressDnssec: Dnssec | null;
  readonly tlsa: { readonly name: string; readonly dnssec: Dnssec; readonly records: readonly JudgedRecord[] } | null;
  readonly policy: TlsPolicy['kind'];
  readonly sni: string | null;
  readonly referenceNames: readonly string[];
  readonly code: ReasonCode;
  readonly connection: ExplainedConnection | null;
}

export type ExplainedConnection = ConnectionFacts & { readonly chain: readonly (CertificateSummary | null)[] };

const NO_RULE: Ruling = { file: null, line: null, text: 'no rule fits, so it is tls: dane' };

/**
 * @param dial null to leave the hosts alone and take it that they do what is asked of them
 * @param wish what the message would ask of TLS
 */
export async function explain(
  domain: string,
  lookups: Lookups,
  dial: Dial | null,
  wish: TlsWish = 'default',
): Promise<Explanation> {
  const destination = forWish(lookups.destination(domain), wish);
  const { rule = NO_RULE, nextHop } = destination;
  const via = nextHop.kind === 'domain' && nextHop.domain !== domain ? nextHop.domain : null;
  const subject = { domain, via, rule };
  const way = await findWay(destination, lookups);
  if (way.kind === 'dead-end') return { ...subject, mx: way.mx, sts: null, hosts: [], ...ending(way.trouble) };
  const found = await lookups.findSts(destination);
  const sts = found && describeSts(found, Date.now());

  const seen = await Promise.all(
    way.hosts.map(async (host) => {
      const plan = await planHost(destination, way.mx, host, found, lookups);
      const tried = dial && plan.policy.kind !== 'skip' ? await dialInTurn(plan, plan.policy) : null;
      return { plan, tried };
    }),
  );

  async function dialInTurn(plan: HostPlan, policy: Exclude<TlsPolicy, { kind: 'skip' }>) {
    let last: Awaited<ReturnType<Dial>> | null = null;
    for (const address of addressesOf(plan)) {
      last = dial && wanting(await dial({ nextHop, host: plan.host, address, port: nextHop.port, policy }));
      if (last?.trouble === null) break;
    }
    return last;
  }

  /** REQUIRETLS must be offered where the message demands it. */
  function wanting(tried: Awaited<ReturnType<Dial>>): Awaited<ReturnType<Dial>> {
    if (tried.trouble || wish !== 'required' || tried.extensions.includes('REQUIRETLS')) return tried;
    return { ...tried, trouble: { code: 'requiretls-not-offered', detail: '' } };
  }

  const hosts = seen.map(({ plan, tried }) => describe(plan, tried && { ...tried.connection, chain: tried.chain }));
  const winner = seen.find(({ plan, tried }) => plan.policy.kind !== 'skip' && (tried === null || !tried.trouble));
  if (winner)
    return { ...subject, mx: way.mx, sts, hosts, ...success(winner.plan.policy, winner.tried?.connection ?? null) };
  const troubles = seen.flatMap(({ plan, tried }): Trouble[] => {
    if (plan.policy.kind === 'skip') return [plan.policy.trouble];
    return tried?.trouble ? [{ host: plan.host.name, ...tried.trouble }] : [];
  });
  const told = troubles.map((trouble) => heeding(SOMEBODY, destination, trouble));
  return { ...subject, mx: way.mx, sts, hosts, ...ending(mostTelling(told)) };
}

/** A sender who is no null sender. */
const SOMEBODY = 'somebody';

function describeSts(sts: StsFindings, now: number): ExplainedSts {
  const { domain, failure } = sts;
  const common = { domain, failure: failure?.type ?? null };
  if (sts.kind === 'none') {
    return { ...common, mode: null, id: null, fetchedAt: null, age: null, maxAge: null, mx: [], why: sts.why };
  }
  const { policy, id, fetchedAt } = sts;
  const age = Math.max(0, Math.round((now - fetchedAt) / 1000));
  const { mode, maxAge, mx } = policy;
  return {
    ...common,
    mode,
    id,
    fetchedAt: new Date(fetchedAt).toISOString(),
    age,
    maxAge,
    mx,
    why: failure?.detail ?? null,
  };
}

function describe(plan: HostPlan, connection: ExplainedConnection | null): ExplainedHost {
  const { host, location, tlsa, policy } = plan;
  return {
    name: host.name,
    preference: host.preference,
    addresses: addressesOf(plan),
    addressDnssec: location === null ? null : location.kind === 'failed' ? 'error' : location.dnssec,
    tlsa: tlsa && { name: tlsa.name, dnssec: tlsa.dnssec, records: tlsa.records },
    policy: policy.kind,
    sni: policy.kind === 'skip' ? null : policy.sni,
    referenceNames: namesOf(policy),
    code: policy.kind === 'skip' ? policy.trouble.code : policy.code,
    connection,
  };
}

function namesOf(policy: TlsPolicy): readonly string[] {
  switch (policy.kind) {
    case 'dane':
      return policy.referenceNames;
    case 'verify':
    case 'sts':
      return policy.names;
    case 'except':
    case 'report':
      return namesOf(policy.strict);
    case 'pin':
    case 'encrypt':
    case 'may':
    case 'skip':
      return [];
  }
}

type Ending = Pick<Explanation, 'outcome' | 'status' | 'code' | 'explanation' | 'rfc'>;

function ending({ code, detail, status, host }: Trouble): Ending {
  const verdict = verdictOf(code, host === undefined || detail.includes(host) ? detail : `${host}: ${detail}`, status);
  const outcome = verdict.result === 'bounced' ? 'bounced' : 'deferred';
  return { outcome, status: verdict.status, code, explanation: verdict.explanation, rfc: verdict.rfc };
}

function success(policy: TlsPolicy, connection: ConnectionFacts | null): Ending {
  if (policy.kind === 'skip') return ending(policy.trouble);
  const code = connection?.code ?? policy.code;
  const { explanation, rfc } = verdictOf(code, connection?.reason ?? '');
  return { outcome: outcomeOf(policy, connection), status: null, code, explanation, rfc };
}

function outcomeOf(policy: Exclude<TlsPolicy, { kind: 'skip' }>, connection: ConnectionFacts | null): Outcome {
  if (connection && connection.verdict !== 'failed') return connection.verdict;
  switch (policy.kind) {
    case 'dane':
    case 'verify':
    case 'sts':
      return policy.wholePath ? 'authenticated' : 'host-authenticated';
    case 'pin':
      return 'authenticated';
    case 'except':
    case 'report':
      return outcomeOf(policy.strict.kind === 'skip' ? policy.enough[0] : policy.strict, null);
    case 'encrypt':
      return 'encrypted';
    case 'may':
      return 'opportunistic';
  }
}

export interface ExplainOptions {
  readonly config?: string;
  readonly resolver?: string;
  readonly port?: string;
  readonly connect?: boolean;
  readonly requireTls?: boolean;
  readonly json?: boolean;
}

/** The stages that explain works with. `refusal` is set when the command line or the configuration is wrong. */
export type OpenExplainer = (options: ExplainOptions) => Promise<
  | {
      readonly kind: 'open';
      readonly lookups: Lookups;
      readonly dial: Dial;
      /** What was asked so far. */
      readonly asked: () => readonly Lookup[];
      readonly close: () => Promise<void>;
    }
  | { readonly kind: 'refused'; readonly exitCode: 2 | 3; readonly why: string }
>;

export function explainCommand(open: OpenExplainer): Command {
  return new Command('explain')
    .description('say what delivery to a domain would do, and why')
    .argument('<domain|address>', 'recipient domain, mail address, or [address literal]')
    .option('--connect', 'also dial the hosts, do STARTTLS and judge the certificates; no mail is sent')
    .option('--require-tls', 'for a message that demands TLS all the way (REQUIRETLS)')
    .option('--resolver <ip:port>', 'validating resolver on this machine, instead of the configured one')
    .option('--port <number>', 'port of the mail hosts, instead of the configured one')
    .option('--config <file>', 'configuration file')
    .option('--json', 'print one JSON document')
    .action(async (argument: string, options: ExplainOptions, command: Command) => {
      const text = argument.includes('@') ? domainOf(argument) : argument;
      const domain = literalAddress(text) === null ? toDomain(text) : text.toLowerCase();
      if (domain === null) command.error(`"${argument}" is no domain name and no mail address`, { exitCode: 2 });
      const explainer = await open(options);
      if (explainer.kind === 'refused') {
        process.stderr.write(`${explainer.why}\n`);
        process.exitCode = explainer.exitCode;
        return;
      }
      try {
        const answer = await explain(
          domain,
          explainer.lookups,
          options.connect ? explainer.dial : null,
          options.requireTls ? 'required' : 'default',
        );
        const full: FullExplanation = { ...answer, lookups: explainer.asked() };
        const colour = process.stdout.isTTY === true && process.env['NO_COLOR'] === undefined;
        process.stdout.write(options.json ? `${JSON.stringify(full, null, 2)}\n` : inWords(full, colour));
        process.exitCode = exitCodeOf(answer);
      } finally {
        await explainer.close();
      }
    });
}

function exitCodeOf({ outcome, code }: Explanation): number {
  if (code === 'resolver-untrusted') return 3;
  return outcome === 'deferred' || outcome === 'bounced' ? 1 : 0;
}
