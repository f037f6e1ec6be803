/**
 * Sends the reports of the days that are over, each once: finds out where a domain wants its report, gives it to every
 * address there, and tries again for a day while nobody takes it (RFC 8460 §5.5).
 *
 *   the domain asks for no report                     unwanted
 *   an address took it                                sent: the others are not tried again (RFC 8460 §3)
 *   nobody took it, or the record is not to be had    again, with growing pauses, for 24 hours from the first attempt
 *   all mail with it came back                        again, for the addresses that take it by HTTPS
 *   there is no address that could take it            failed
 */
import { promisify } from 'node:util';
import { gzip as gzipLater } from 'node:zlib';
import type { Resolve } from '../../model/dns.ts';
import type { Logger } from '../../model/events.ts';
import { type NewMessage, TLS_REPORTER } from '../../model/message.ts';
import type { Clock } from '../../shared/clock.ts';
import { domainOf } from '../../shared/domain-name.ts';
import { messageOf } from '../../shared/message-of.ts';
import type { Claimed, Receiver, Settled } from './ledger.ts';
import type { LedgerThread } from './ledger-thread.ts';
import { reportMail } from './mail.ts';
import type { Post } from './post.ts';
import { type ReportAddress, type ReportingPolicy, readPolicy, recordName } from './record.ts';
import { type Reporter, reportOf } from './report.ts';
import { dayOf, startOf } from './tally.ts';

export interface SenderOptions extends Reporter {
  /** Sender in the header of report mail. */
  readonly from: string;
  readonly resolve: Resolve;
  readonly post: Post;
  /** Takes a message into the queue, as for a client. */
  readonly accept: (message: NewMessage, terms: { readonly expiresAt: number }) => Promise<unknown>;
  readonly newId: () => string;
  /** Whether mail from a domain is signed with DKIM when it leaves; where it is not, no report goes by mail. */
  readonly canSign: (domain: string) => boolean;
  readonly clock: Clock;
  readonly log: Logger;
  /** Hears how each attempt for a report ended. */
  readonly onEnd: (end: ReportEnd) => void;
}

export type ReportEnd = Settled['kind'];

export interface Sender {
  /**
   * Sends all that is due now, one after the other; several calls at once share it. Rejects when the ledger cannot be
   * used.
   */
  readonly sendDue: () => Promise<void>;
}

const HOUR_MS = 3_600_000;
/** For counts of the day that other processes have not written yet. */
const AFTER_MIDNIGHT_MS = 10 * 60_000;
/** RFC 8460 §5.3 lets reports come up to four hours late, so that not everybody sends at midnight. */
const SPREAD_MS = 4 * HOUR_MS;
/** RFC 8460 §5.5. */
const TRIED_FOR_MS = 24 * HOUR_MS;
const FIRST_PAUSE_MS = 5 * 60_000;
/** Longer than an attempt can take, with ten addresses that are all silent. */
const LEASE_MS = 30 * 60_000;

const gzip = promisify(gzipLater);

export function createSender(options: SenderOptions, ledger: LedgerThread): Sender {
  const { organisation, contact, from, resolve, post, accept, newId, canSign, clock, log, onEnd } = options;
  const submitter = domainOf(contact);
  let toldOfKey = false;

  const sendDue = async (): Promise<void> => {
    const today = dayOf(clock.now());
    await ledger.closeDays(today, AFTER_MIDNIGHT_MS, SPREAD_MS);
    for (;;) {
      const [claim] = await ledger.claim(clock.now(), LEASE_MS, 1);
      if (!claim) break;
      await handle(claim);
    }
    await ledger.forget(today);
  };

  const handle = async (claim: Claimed): Promise<void> => {
    const settled = await attempt(claim).catch((error: unknown) => again(claim, messageOf(error)));
    if (!(await ledger.settle(claim, settled))) return;
    onEnd(settled.kind);
    const facts = { domain: claim.domain, day: dateOf(claim.day), reportId: claim.reportId };
    const told = `TLS report ${IN_WORDS[settled.kind]}: ${settled.explanation}`;
    if (settled.kind === 'unwanted') log.debug(told, facts);
    else if (settled.kind === 'sent') log.info(told, facts);
    else log.warn(told, facts);
  };

  const attempt = async (claim: Claimed): Promise<Settled> => {
    if (claim.accepted.length > 0) return { kind: 'sent', explanation: `${claim.accepted.join(', ')} has it` };
    const policy = await policyOf(claim.domain);
    if (typeof policy === 'string') return again(claim, policy);
    if (policy.kind === 'none') return { kind: 'unwanted', explanation: policy.why };

    const reportId = `${claim.reportId}@${submitter}`;
    const report = reportOf({ organisation, contact }, claim.day, reportId, claim.counts);
    const zipped = await gzip(JSON.stringify(report));
    const heard: Receiver[] = [];
    // One after the other: what has accepted is written down before the next is asked.
    for (const address of policy.to.filter(({ uri }) => !claim.returned.includes(uri))) {
      const { receiver, queueId } = await giveTo(address, claim, reportId, zipped);
      if (!(await ledger.heard(claim, receiver, queueId))) throw new Error('another process has taken it over');
      heard.push(receiver);
    }
    return judge(claim, heard, policy.ignored);
  };

  /** What the domain wants; in words why that could not be found out. */
  const policyOf = async (domain: string): Promise<ReportingPolicy | string> => {
    const answer = await resolve(recordName(domain), 'TXT');
    switch (answer.kind) {
      case 'failed':
        return `its TLSRPT record could not be looked up: ${answer.reason}`;
      case 'absent':
        return readPolicy([]);
      case 'found':
        return readPolicy(answer.records);
    }
  };

  const judge = (claim: Claimed, heard: readonly Receiver[], ignored: readonly string[]): Settled => {
    const words = [...heard.map(({ uri, explanation }) => `${uri} ${explanation}`), ...ignored].join('; ');
    if (heard.some(({ state }) => state !== 'failed')) return { kind: 'sent', explanation: words };
    const hopeless = heard.length === 0 || heard.every(({ explanation }) => explanation === NO_KEY);
    const nobody = claim.returned.length > 0 ? 'all mail with it came back' : 'the TLSRPT record names nobody';
    if (hopeless) return { kind: 'failed', explanation: words === '' ? nobody : words };
    return again(claim, words);
  };

  const again = (claim: Claimed, explanation: string): Settled => {
    const now = clock.now();
    const pause = Math.min(FIRST_PAUSE_MS * 2 ** Math.min(claim.attempts, 20), SPREAD_MS);
    const end = (claim.firstAttempt ?? now) + TRIED_FOR_MS;
    if (now >= end) return { kind: 'failed', explanation: `given up after a day: ${explanation}` };
    return { kind: 'retry', due: Math.min(now + pause, end), explanation };
  };

  const giveTo = async (
    address: ReportAddress,
    claim: Claimed,
    reportId: string,
    zipped: Buffer,
  ): Promise<{ readonly receiver: Receiver; readonly queueId: string | null }> => {
    const { uri } = address;
    if (address.kind === 'https') {
      const refusal = await post(address.url, zipped);
      const said = refusal === null ? 'accepted it' : refusal;
      return { receiver: { uri, state: refusal === null ? 'accepted' : 'failed', explanation: said }, queueId: null };
    }
    const queueId = await mailTo(address.address, claim, reportId, zipped);
    if (queueId === null) return { receiver: { uri, state: 'failed', explanation: NO_KEY }, queueId };
    return { receiver: { uri, state: 'queued', explanation: `is on its way as ${queueId}` }, queueId };
  };

  /** @returns the queue id; null when it would not be signed: then nobody may believe it (RFC 8460 §3) */
  const mailTo = async (to: string, claim: Claimed, reportId: string, zipped: Buffer): Promise<string | null> => {
    if (!canSign(submitter)) {
      if (!toldOfKey) log.warn(`TLS reports are not sent by mail: there is no DKIM key for ${submitter}`);
      toldOfKey = true;
      return null;
    }
    const { domain, day, counts } = claim;
    const now = clock.now();
    const successes = counts.reduce((sum, policy) => sum + policy.successes, 0);
    const failures = counts.reduce((sum, policy) => sum + policy.failures, 0);
    const sessions = { successes, failures };
    const letter = { domain, submitter, organisation, from, to, day, reportId, sessions, gzip: zipped, now };
    const bytes = reportMail(letter);
    const id = newId();
    await accept(
      {
        id,
        receivedAt: now,
        client: TLS_REPORTER,
        envelope: {
          sender: '',
          recipients: [{ address: to, notify: ['never'], orcpt: null }],
          smtputf8: false,
          body: '7bit',
          ret: null,
          envid: null,
          // As its header says (RFC 8460 §3).
          tls: 'optional',
        },
        content: { size: bytes.length, eightBit: false, utf8Header: false },
        body: { kind: 'memory', bytes },
      },
      { expiresAt: Math.min((claim.firstAttempt ?? now) + TRIED_FOR_MS, now + TRIED_FOR_MS) },
    );
    return id;
  };

  return { sendDue };
}

const NO_KEY = 'was not tried: there is no DKIM key to sign mail with';

const IN_WORDS: Readonly<Record<ReportEnd, string>> = {
  sent: 'sent',
  failed: 'not sent',
  retry: 'not sent yet',
  unwanted: 'not wanted',
};

function dateOf(day: number): string {
  return new Date(startOf(day)).toISOString().slice(0, 10);
}
