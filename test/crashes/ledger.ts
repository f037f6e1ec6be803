/** What was promised to clients and what arrived in the end, and whether the one follows from the other. */
import type { Mail } from '../../lab/host.ts';
import type { LogEvent } from '../../lab/relay.ts';
import { type Letter, REFUSING, SENDER } from './letters.ts';

/** A letter that was begun. */
export interface Handed {
  readonly letter: Letter;
  /** The final dot was sent: it may be in the queue, whether or not a 250 was heard. */
  complete: boolean;
  /** A 250 was heard. */
  promised: boolean;
}

/** One copy that arrived, in the so-and-so-manieth life of the relay. */
export interface Copy {
  readonly mail: Mail;
  readonly life: number;
}

export interface Account {
  readonly handed: ReadonlyMap<string, Handed>;
  readonly copies: readonly Copy[];
  /** How many of several workers have died in each life of their relay; none for those that are not here. */
  readonly deadWorkers: ReadonlyMap<number, number>;
  /** Events of each life in which the relay told that a recipient got its mail. */
  readonly told: readonly { readonly event: LogEvent; readonly life: number }[];
}

/** One recipient of a letter got it, or its sender got the bounce. */
interface Arrival {
  readonly name: string;
  readonly recipient: string;
  readonly kind: 'letter' | 'bounce';
  readonly queueId: string;
  readonly life: number;
}

/** What clients may still wait for: `name recipient`. */
export function owed({ handed, copies }: Account): readonly string[] {
  const arrived = new Set(copies.flatMap(arrivalsOf).map(keyOf));
  return [...handed.values()]
    .filter(({ promised }) => promised)
    .flatMap(({ letter }) => letter.recipients.map((recipient) => `${letter.name} ${recipient}`))
    .filter((each) => !arrived.has(each));
}

/** All that is wrong with what arrived, one sentence each. What did not arrive is for `owed`. */
export function wrongs({ handed, copies, deadWorkers, told }: Account): readonly string[] {
  const wrong: string[] = [];
  for (const { mail } of copies) {
    if (mail.sender !== '' && mail.sender !== SENDER) wrong.push(`mail of a stranger: ${mail.sender}`);
    if (arrivalsOf({ mail, life: 0 }).length === 0)
      wrong.push(`unknown mail: ${mail.content.toString('latin1', 0, 500)}`);
    const letter = mail.sender === '' ? undefined : handed.get(nameOf(mail))?.letter;
    if (letter && !isWhole(mail.content, letter)) wrong.push(`${letter.name} is not what was handed in`);
    if (mail.sender === '' && !/^Subject: life/m.test(mail.content.toString('latin1')))
      wrong.push('a bounce without the header of the letter');
    if (mail.sender === '' && !/\r\n--\S+--\r\n$/.test(mail.content.toString('latin1')))
      wrong.push('a bounce without its end');
  }
  const arrivals = copies.flatMap(arrivalsOf);
  const seen = new Map<string, number>();
  const toldIn = new Map(told.map(({ event, life }) => [`${event.queueId ?? ''} ${event.recipient ?? ''}`, life]));
  for (const arrival of arrivals) {
    const { name, recipient, kind, queueId, life } = arrival;
    const known = handed.get(name);
    if (!known?.complete) wrong.push(`${name} arrived and was never handed in`);
    if (!known?.letter.recipients.includes(recipient))
      wrong.push(`${name} arrived at ${recipient}, who is none of its`);
    if ((kind === 'bounce') !== recipient.endsWith(`@${REFUSING}`))
      wrong.push(`${name} ended as ${kind} for ${recipient}`);
    const inLife = `${keyOf(arrival)} ${queueId} ${String(life)}`;
    const before = seen.get(inLife) ?? 0;
    if (before > (deadWorkers.get(life) ?? 0)) wrong.push(`${keyOf(arrival)} arrived twice without a crash in between`);
    seen.set(inLife, before + 1);
    const ended = toldIn.get(`${queueId} ${recipient}`);
    if (kind === 'letter' && ended !== undefined && ended < life)
      wrong.push(`${keyOf(arrival)} was sent again after the log had told its delivery`);
  }
  const deliveries = new Set<string>();
  for (const { event } of told) {
    const key = `${event.queueId ?? ''} ${event.recipient ?? ''}`;
    if (deliveries.has(key)) wrong.push(`the log told twice that ${key} was delivered`);
    deliveries.add(key);
  }
  return wrong;
}

/** Recipients who got a letter more than once, or senders a bounce, with the life in which an earlier copy arrived. */
export function doubles({ copies }: Account): readonly { readonly key: string; readonly life: number }[] {
  const first = new Map<string, number>();
  const found: { key: string; life: number }[] = [];
  for (const arrival of copies.flatMap(arrivalsOf)) {
    const key = keyOf(arrival);
    const before = first.get(key);
    if (before !== undefined) found.push({ key, life: before });
    first.set(key, arrival.life);
  }
  return found;
}

/** Letters that arrived although the client had not heard a 250: it will hand them in again. */
export function unheard({ handed, copies }: Account): number {
  const names = new Set(copies.flatMap(arrivalsOf).map(({ name }) => name));
  return [...names].filter((name) => handed.get(name)?.promised === false).length;
}

function keyOf({ name, recipient }: Pick<Arrival, 'name' | 'recipient'>): string {
  return `${name} ${recipient}`;
}

function arrivalsOf({ mail, life }: Copy): readonly Arrival[] {
  const text = mail.content.toString('latin1');
  if (mail.sender !== '') {
    const queueId = /^Received: [^\r]*(?:\r\n[ \t][^\r]*)*?\bid (\w+)/.exec(text)?.[1] ?? '';
    return mail.recipients.map((recipient) => ({ name: nameOf(mail), recipient, kind: 'letter', queueId, life }));
  }
  const queueId = /^Queue id: (\S+)/m.exec(text)?.[1] ?? '';
  return [...text.matchAll(/^Final-Recipient: rfc822; ?(\S+)/gim)].map(([, recipient = '']) => ({
    // The name stands in the address: the letter itself need not be in its bounce.
    name: recipient.replace(/-\d+@.*$/, ''),
    recipient,
    kind: 'bounce',
    queueId,
    life,
  }));
}

function nameOf({ content }: Mail): string {
  return /^Subject: (\S+)\r$/m.exec(content.toString('latin1', 0, 2_000))?.[1] ?? '';
}

/** Our Received header and then every octet of the letter. */
function isWhole(content: Buffer, letter: Letter): boolean {
  const header = content.subarray(0, content.length - letter.content.length).toString('latin1');
  return (
    /^Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*$/.test(header) &&
    content.subarray(header.length).equals(letter.content)
  );
}
