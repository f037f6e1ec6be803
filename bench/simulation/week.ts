/**
 * Runs a week of mail through the relay's own schedule, turns and backoff on a virtual clock. What is played is the
 * rest: arrival, the store (mail that is due, domain by domain), and how long an attempt takes and how it ends.
 */
import type { Outcome } from '../../src/model/delivery.ts';
import type { Batch } from '../../src/model/message.ts';
import { verdictOf } from '../../src/model/verdict.ts';
import { createBackoff } from '../../src/queue/backoff.ts';
import { createSchedule, type ScheduleSettings } from '../../src/queue/schedule.ts';
import { createTurns } from '../../src/queue/turns.ts';
import { Events } from './events.ts';
import { chance, type Destination, WEEK, type World } from './world.ts';

export interface Node {
  readonly queue: ScheduleSettings;
  /** Attempts at once, in all and for one domain. */
  readonly concurrency: number;
  readonly perDomain: number;
}

/** Figures of one hour. */
export interface Hour {
  readonly accepted: number;
  readonly delivered: number;
  /** Attempts after which the message still waits. */
  readonly deferred: number;
  /** Messages that were put off without a connection, because their destination cannot be reached. */
  readonly putOff: number;
  /** Messages in the queue when the hour ends. */
  readonly waiting: number;
}

export interface Week {
  readonly hours: readonly Hour[];
  readonly accepted: number;
  readonly delivered: number;
  readonly bounced: number;
  readonly expired: number;
  /** Delay notices that are owed to senders. */
  readonly delayed: number;
  readonly mostWaiting: number;
  /** Attempts that dialled, for each message. */
  readonly attemptsPerMessage: number;
  /** Milliseconds from acceptance to delivery, sorted; of messages to destinations that were well all the time. */
  readonly delays: Float64Array;
  /** The same for all messages. */
  readonly allDelays: Float64Array;
}

interface Message {
  readonly destination: number;
  readonly receivedAt: number;
  readonly fate: 'well' | 'refused' | 'full';
  attempts: number;
  delayNoticeSent: boolean;
}

type Event =
  | { readonly kind: 'due'; readonly message: Message }
  | { readonly kind: 'ended'; readonly message: Message; readonly startedAt: number; readonly outcome: Outcome };

const HOUR_MS = 3_600_000;
/** A refused or unknown recipient, and a mailbox that stays full. */
const REFUSED = 0.01;
const FULL = 0.001;
/** A connection to a host that does not answer (delivery.connectTimeout). */
const TIMEOUT_MS = 30_000;
/** A message over the internet, on a connection that is open already more often than not. */
const ATTEMPT_MS = { least: 60, spread: 250 };

export function simulate(world: World, node: Node, seed: number): Week {
  const random = chance(seed);
  const schedule = createSchedule(node.queue, random);
  const backoff = createBackoff(schedule.backoff);
  const turns = createTurns({ perDomain: () => node.perDomain, limitsOf: () => ({ connections: null, rate: null }) });
  const events = new Events<Event>();
  const { destinations } = world;
  const pick = picker(destinations, random);
  const ready = destinations.map((): Message[] => []);
  const heads = new Uint32Array(destinations.length);
  /** Destinations that could go on if there were room for more attempts. */
  const crowded = new Set<number>();
  const delays: number[] = [];
  const wellDelays: number[] = [];
  const hours: Hour[] = [];
  const total = { accepted: 0, delivered: 0, bounced: 0, expired: 0, delayed: 0, dialled: 0 };
  let hour = { accepted: 0, delivered: 0, deferred: 0, putOff: 0 };
  let attempting = 0;
  let waiting = 0;
  let mostWaiting = 0;

  const batchOf = ({ destination, receivedAt, attempts, delayNoticeSent }: Message): Batch => ({
    messageId: '',
    receivedAt,
    expiresAt: schedule.expiresAt(receivedAt),
    client: 'lab',
    envelope: { sender: 'a@sender.example', smtputf8: false, body: '7bit', ret: null, envid: null, tls: 'default' },
    content: { size: 50_000, eightBit: false, utf8Header: false },
    domain: destinations[destination]?.domain ?? '',
    recipients: [
      { id: 1, address: 'a@b.example', notify: null, orcpt: null, attempts, delayNoticeSent, lastCode: null },
    ],
  });

  const conclude = (message: Message, outcome: Outcome, now: number, putOffUntil: number | null): void => {
    const batch = batchOf(message);
    const [recipient] = batch.recipients;
    const decision = schedule.decide(recipient, outcome, { batch, now, progress: false, putOffUntil });
    if (putOffUntil === null) message.attempts++;
    if (decision.kind === 'waits') {
      if (decision.delayed) {
        message.delayNoticeSent = true;
        total.delayed++;
      }
      if (putOffUntil === null) hour.deferred++;
      else hour.putOff++;
      events.add(decision.nextAttempt, { kind: 'due', message });
      return;
    }
    waiting--;
    total[decision.kind]++;
    if (decision.kind !== 'delivered') return;
    hour.delivered++;
    delays.push(now - message.receivedAt);
    if (destinations[message.destination]?.outages.length === 0) wellDelays.push(now - message.receivedAt);
  };

  const begin = (at: number, now: number): void => {
    const queue = ready[at] ?? [];
    for (let message = queue[heads[at] ?? 0]; message; message = queue[heads[at] ?? 0]) {
      const batch = batchOf(message);
      const refusal = backoff.refusal(batch, now, null);
      if (refusal) {
        const [outcome] = refusal.outcomes;
        if (outcome) conclude(message, outcome, now, refusal.until);
      } else {
        if (attempting >= node.concurrency) {
          crowded.add(at);
          return;
        }
        if (!turns.begin(batch.domain, now, false)) return;
        attempting++;
        total.dialled++;
        const { outcome, ms } = attemptOf(destinations[at], message, now, random);
        events.add(now + ms, { kind: 'ended', message, startedAt: now, outcome });
      }
      heads[at] = (heads[at] ?? 0) + 1;
      if (heads[at] === queue.length) {
        queue.length = 0;
        heads[at] = 0;
      }
    }
    crowded.delete(at);
  };

  const happen = (event: Event, now: number): void => {
    const { message } = event;
    const at = message.destination;
    if (event.kind === 'due') {
      ready[at]?.push(message);
    } else {
      const batch = batchOf(message);
      attempting--;
      turns.end(batch.domain);
      backoff.note(batch, [event.outcome], event.startedAt, now);
      conclude(message, event.outcome, now, null);
    }
    begin(at, now);
    for (const other of crowded) {
      if (attempting >= node.concurrency) break;
      crowded.delete(other);
      begin(other, now);
    }
  };

  const end = WEEK * HOUR_MS + node.queue.lifetime + HOUR_MS;
  for (let now = 0; now < end && (now < WEEK * HOUR_MS || waiting > 0); now += 1_000) {
    const rate = world.rateAt(now / HOUR_MS);
    for (let count = poisson(rate, random); count > 0; count--) {
      const dice = random();
      const fate = dice < REFUSED ? 'refused' : dice < REFUSED + FULL ? 'full' : 'well';
      const receivedAt = now + random() * 1_000;
      const message: Message = { destination: pick(), receivedAt, fate, attempts: 0, delayNoticeSent: false };
      events.add(receivedAt, { kind: 'due', message });
      waiting++;
      total.accepted++;
      hour.accepted++;
    }
    for (let at = events.next; at !== null && at < now + 1_000; at = events.next) {
      const event = events.take();
      if (event) happen(event, at);
    }
    mostWaiting = Math.max(mostWaiting, waiting);
    if ((now + 1_000) % HOUR_MS === 0) {
      hours.push({ ...hour, waiting });
      hour = { accepted: 0, delivered: 0, deferred: 0, putOff: 0 };
    }
  }
  hours.push({ ...hour, waiting });
  const { dialled, ...counts } = total;
  return {
    hours,
    ...counts,
    mostWaiting,
    attemptsPerMessage: dialled / Math.max(1, total.accepted),
    delays: Float64Array.from(wellDelays).sort(),
    allDelays: Float64Array.from(delays).sort(),
  };
}

function attemptOf(
  destination: Destination | undefined,
  { fate, attempts }: Message,
  now: number,
  random: () => number,
): { readonly outcome: Outcome; readonly ms: number } {
  const ms = ATTEMPT_MS.least - ATTEMPT_MS.spread * Math.log(1 - random());
  const hour = now / HOUR_MS;
  const outage = destination?.outages.find(({ from, to }) => hour >= from && hour < to);
  if (outage?.kind === 'unreachable') return { outcome: outcomeOf('connect-failed'), ms: TIMEOUT_MS };
  if (outage) return { outcome: outcomeOf('tlsa-mismatch'), ms };
  if (fate === 'refused') return { outcome: { ...outcomeOf('remote-refused'), result: 'bounced' }, ms };
  if (fate === 'full' || (destination?.greylists && attempts === 0)) return { outcome: outcomeOf('remote-later'), ms };
  return { outcome: { ...outcomeOf('dane-ee'), result: 'delivered' }, ms };
}

function outcomeOf(code: Outcome['code']): Outcome {
  const { status } = verdictOf(code, '');
  const where = { host: 'mx.example', address: '192.0.2.1', reply: null };
  return { recipientId: 1, result: 'deferred', code, status, detail: '', dsnPassedOn: false, ...where };
}

/** Draws destinations by their share, with one table look-up in the sums of the shares. */
function picker(destinations: readonly Destination[], random: () => number): () => number {
  const sums = new Float64Array(destinations.length);
  let sum = 0;
  for (const [at, { share }] of destinations.entries()) {
    sum += share;
    sums[at] = sum;
  }
  return () => {
    const dice = random() * sum;
    let [low, high] = [0, sums.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] ?? 0) < dice) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

function poisson(mean: number, random: () => number): number {
  // For many in a second the normal distribution is as good, and does not take as many draws.
  if (mean > 50) {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return Math.max(0, Math.round(mean + Math.sqrt(mean) * normal));
  }
  const limit = Math.exp(-mean);
  let count = 0;
  for (let product = random(); product > limit; product *= random()) count++;
  return count;
}
