/**
 * What a notice says to people, in English and in Dutch. Same facts, same order; the words of remote hosts and of our
 * own details stay as they are, in English.
 */
import type { Outcome } from '../model/delivery.ts';
import type { NoticeKind } from '../model/message.ts';
import { type ReasonCode, reason, type Whose } from '../model/reasons.ts';
import { REMEDY_NL, SAYS_NL } from '../model/reasons-nl.ts';
import { verdictOf } from '../model/verdict.ts';

export type Language = 'en' | 'nl';

/** The part of an outcome that is put into words. */
type Finding = Pick<Outcome, 'code' | 'status' | 'detail'>;

export interface Words {
  /** Printable ASCII, for a header field. */
  readonly subject: Readonly<Record<NoticeKind, string>>;
  readonly opening: Readonly<Record<NoticeKind, string>>;
  readonly relay: (hostname: string) => string;
  /** The verdict: what it means, then what was seen. */
  readonly explain: (finding: Finding, reply: string | null) => string;
  /** The same, of the last attempt for mail that was given up. */
  readonly explainLast: (finding: Finding, reply: string | null) => string;
  readonly hostSaid: (reply: string) => string;
  /** @param receivedAt milliseconds since the epoch */
  readonly tried: (receivedAt: number, attempts: number) => string;
  readonly triedUntil: (expiresAt: number) => string;
  /** Who can put it right; empty where nobody needs to. */
  readonly remedy: (code: ReasonCode) => string;
  /** What the sender or the sender's administrator can do about mail that came back; may be empty. */
  readonly advice: (code: ReasonCode) => string;
  readonly reference: (code: ReasonCode, status: string) => string;
  readonly queueId: (id: string) => string;
}

const ADVICE_EN: Readonly<Record<Whose, string>> = {
  recipient: 'What you can do: let that administrator have this notice by another way; it tells all that they need.',
  sender: 'What you can do: correct this and send the message again.',
  us: 'What you can do: give the administrator of this relay the queue id below.',
  network: 'What you can do: send the message again later, and tell the administrator of this relay if it goes on.',
  nobody: '',
};

const ADVICE_NL: Readonly<Record<Whose, string>> = {
  recipient:
    'Wat u kunt doen: stuur deze melding langs een andere weg naar die beheerder; alles wat nodig is, staat erin.',
  sender: 'Wat u kunt doen: verbeter dit en verstuur het bericht opnieuw.',
  us: 'Wat u kunt doen: geef de beheerder van deze relay het wachtrijnummer hieronder door.',
  network:
    'Wat u kunt doen: verstuur het bericht later opnieuw, en waarschuw de beheerder van deze relay als het zo blijft.',
  nobody: '',
};

const ENGLISH: Words = {
  subject: {
    failed: 'Undelivered mail returned to sender',
    delayed: 'Mail is delayed, delivery is still being tried',
    relayed: 'Mail was handed over to the mail server of the recipient',
  },
  opening: {
    failed: 'Your message could not be delivered to the recipients below. It will not be tried again.',
    delayed:
      'Your message has not been delivered to the recipients below yet. It is safe in the queue and is still being tried; you need not send it again.',
    relayed: 'Your message was handed over for the recipients below. Their mail server sends no report of its own.',
  },
  relay: (hostname) => `This is the mail relay ${hostname}.`,
  explain: ({ code, detail, status }) => verdictOf(code, detail, status).explanation,
  explainLast: ({ code, detail, status }) => `At last: ${verdictOf(code, detail, status).explanation}`,
  hostSaid: (reply) => `The mail server said: ${reply}`,
  tried: (receivedAt, attempts) =>
    `It was accepted on ${dateIn('en-GB', receivedAt)} and has been tried ${attempts === 1 ? 'once' : `${attempts} times`} since.`,
  triedUntil: (expiresAt) => `It is tried until ${dateIn('en-GB', expiresAt)}.`,
  remedy: (code) => verdictOf(code, '').remedy,
  advice: (code) => ADVICE_EN[reason(code).whose],
  reference: (code, status) => `(${code}, status ${status}, ${inWords(reason(code).rfc, 'section')})`,
  queueId: (id) => `Queue id: ${id}`,
};

const DUTCH: Words = {
  subject: {
    failed: 'Onbestelbare mail terug naar afzender',
    delayed: 'Mail is vertraagd, de aflevering wordt nog geprobeerd',
    relayed: 'Mail is overgedragen aan de mailserver van de ontvanger',
  },
  opening: {
    failed:
      'Uw bericht kon niet worden afgeleverd bij de onderstaande ontvangers. De aflevering wordt niet opnieuw geprobeerd.',
    delayed:
      'Uw bericht is nog niet afgeleverd bij de onderstaande ontvangers. Het staat veilig in de wachtrij en de aflevering wordt nog steeds geprobeerd; u hoeft het niet opnieuw te versturen.',
    relayed:
      'Uw bericht is voor de onderstaande ontvangers overgedragen. Hun mailserver stuurt zelf geen leveringsbericht.',
  },
  relay: (hostname) => `Dit is de mailrelay ${hostname}.`,
  explain: ({ code, detail }, reply) => sentenceNl(SAYS_NL[code], detail, reply),
  explainLast: ({ code, detail }, reply) => `Bij de laatste poging: ${sentenceNl(SAYS_NL[code], detail, reply)}`,
  hostSaid: (reply) => `De mailserver antwoordde: ${reply}`,
  tried: (receivedAt, attempts) =>
    `Het bericht is aangenomen op ${dateIn('nl-NL', receivedAt)} en sindsdien ${attempts === 1 ? 'één keer' : `${attempts} keer`} geprobeerd.`,
  triedUntil: (expiresAt) => `Het wordt geprobeerd tot ${dateIn('nl-NL', expiresAt)}.`,
  remedy: (code) => REMEDY_NL[reason(code).whose],
  advice: (code) => ADVICE_NL[reason(code).whose],
  reference: (code, status) => `(${code}, status ${status}, ${inWords(reason(code).rfc, 'paragraaf')})`,
  queueId: (id) => `Wachtrijnummer: ${id}`,
};

export const WORDS: Readonly<Record<Language, Words>> = { en: ENGLISH, nl: DUTCH };

/** Details are in English; where they only repeat the reply of the host, which follows, they are left out. */
function sentenceNl(says: string, detail: string, reply: string | null): string {
  const sentence = `${says.charAt(0).toUpperCase()}${says.slice(1)}.`;
  const repeats = detail === '' || (reply !== null && detail.endsWith(reply));
  return repeats ? sentence : `${sentence} Details (Engels): ${detail}.`;
}

/** `22 November 2026 at 06:00 UTC`. */
function dateIn(locale: 'en-GB' | 'nl-NL', ms: number): string {
  return `${DATES[locale].format(ms)} UTC`;
}

// Made once: making one costs as much as the rest of a notice.
const DATES = { 'en-GB': datesIn('en-GB'), 'nl-NL': datesIn('nl-NL') } as const;

function datesIn(locale: string): Intl.DateTimeFormat {
  return new Intl.DateTimeFormat(locale, { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' });
}

function inWords(rfc: string, section: string): string {
  return rfc.replace('§', `${section} `);
}
