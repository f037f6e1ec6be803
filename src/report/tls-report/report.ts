/** The report itself: the JSON of RFC 8460 §4.4, with exactly its keys. */
import type { CountedPolicy, Failure } from './count.ts';
import { startOf } from './tally.ts';

/** What was counted for one domain on one day, under one policy. */
export interface PolicyCounts {
  readonly policy: CountedPolicy;
  readonly successes: number;
  readonly failures: number;
  /** Sorted, the most frequent first. */
  readonly details: readonly { readonly failure: Failure; readonly sessions: number }[];
}

export interface Reporter {
  readonly organisation: string;
  /** Mail address; its domain is that of the reporter. */
  readonly contact: string;
}

/** Keys that are undefined are not printed. */
export interface TlsReport {
  readonly 'organization-name': string;
  readonly 'date-range': { readonly 'start-datetime': string; readonly 'end-datetime': string };
  readonly 'contact-info': string;
  readonly 'report-id': string;
  readonly policies: readonly {
    readonly policy: {
      readonly 'policy-type': string;
      readonly 'policy-string': readonly string[] | undefined;
      readonly 'policy-domain': string;
      readonly 'mx-host': readonly string[] | undefined;
    };
    readonly summary: {
      readonly 'total-successful-session-count': number;
      readonly 'total-failure-session-count': number;
    };
    readonly 'failure-details': readonly {
      readonly 'result-type': string;
      readonly 'sending-mta-ip': string | undefined;
      readonly 'receiving-mx-hostname': string | undefined;
      readonly 'receiving-mx-helo': string | undefined;
      readonly 'receiving-ip': string | undefined;
      readonly 'failed-session-count': number;
      readonly 'failure-reason-code': string;
    }[];
  }[];
}

export function reportOf(
  { organisation, contact }: Reporter,
  day: number,
  reportId: string,
  counts: readonly PolicyCounts[],
): TlsReport {
  return {
    'organization-name': organisation,
    'date-range': { 'start-datetime': isoSeconds(startOf(day)), 'end-datetime': isoSeconds(startOf(day + 1) - 1000) },
    'contact-info': contact,
    'report-id': reportId,
    policies: counts.map(({ policy, successes, failures, details }) => ({
      policy: {
        'policy-type': policy.type,
        'policy-string': policy.type === 'no-policy-found' ? undefined : policy.strings,
        'policy-domain': policy.domain,
        'mx-host': policy.type === 'sts' ? policy.mxHosts : undefined,
      },
      summary: { 'total-successful-session-count': successes, 'total-failure-session-count': failures },
      'failure-details': details.map(({ failure, sessions }) => ({
        'result-type': failure.type,
        'sending-mta-ip': failure.sendingAddress ?? undefined,
        'receiving-mx-hostname': failure.mxHost ?? undefined,
        'receiving-mx-helo': failure.greeting ?? undefined,
        'receiving-ip': failure.receivingAddress ?? undefined,
        'failed-session-count': sessions,
        'failure-reason-code': failure.code,
      })),
    })),
  };
}

function isoSeconds(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}
