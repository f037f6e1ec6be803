/**
 * Signs a message as it leaves: reads what is stored once, and gives the fields that go on top of it.
 *
 *   head      the header section, which tells whose mail it is                     dkim-head.ts, dkim-author.ts
 *   rule      the configured domain that signs for the domain in From
 *   body      hashed as it streams by                                              dkim-canonical.ts
 *   fields    one DKIM-Signature for each key of the domain                        dkim-signature.ts
 *   once      the same fields for all copies that leave at about the same time     dkim-once.ts
 *
 * It is done at every attempt and not once at intake: mail that waits for days leaves under the keys of the day on which
 * it leaves, and what is stored stays what was accepted. Memory does not grow with the message. What must be signed and
 * cannot be is not sent: `impossible` says why.
 */
import type { Signed } from '../model/delivery.ts';
import type { StoredBody } from '../model/message.ts';
import type { Clock } from '../shared/clock.ts';
import { fitsPattern } from '../shared/domain-name.ts';
import { messageOf } from '../shared/message-of.ts';
import { authorOf } from './dkim-author.ts';
import { type Field, RelaxedBodyHash } from './dkim-canonical.ts';
import { HeadReader, valuesOf } from './dkim-head.ts';
import { type Attempted, createOnce, sameKeys } from './dkim-once.ts';
import { type SigningKey, signable, signatureField } from './dkim-signature.ts';
import { tagsOf } from './keys-record.ts';

/** What the configuration says of one signing domain. */
export interface SigningRule {
  /** `d=` of its signatures. */
  readonly domain: string;
  /** Domains in From that it signs for: itself, or domains below it; `*.example.nl` is every domain below. */
  readonly senders: readonly string[];
  /** Mail that already has a signature of this domain: left as it is, or signed besides. */
  readonly existing: 'leave' | 'add';
  /** Whether mail waits that cannot be signed; null: once the domain has had a key that signs. */
  readonly required: boolean | null;
}

/** What a domain can sign with now. */
export type DomainKeys =
  | { readonly kind: 'keys'; readonly keys: readonly [SigningKey, ...SigningKey[]] }
  /** Nothing signs yet: the first key waits for its record, or was never made. */
  | { readonly kind: 'not-yet'; readonly why: string }
  | { readonly kind: 'unusable'; readonly code: 'dkim-key-unusable' | 'dkim-key-unpublished'; readonly why: string };

export interface SignerParts {
  /** Rules for a domain in From; the one with the longest signing domain counts. */
  readonly rules: readonly SigningRule[];
  readonly keysOf: (domain: string) => DomainKeys;
  readonly clock: Clock;
}

/**
 * @param messageId  what has the same id is the same message: its copies share their signatures for a while
 * @param open       gives the octets as they are stored; a stream is read to its end, or destroyed
 * @param maySend    whether whoever handed the message in may use this domain
 */
export type Sign = (
  messageId: string,
  open: () => Promise<StoredBody>,
  maySend: (domain: string) => boolean,
) => Promise<Signed>;

export interface Signer {
  readonly sign: Sign;
  /** The rule for mail of a domain; null for none. */
  readonly ruleFor: (domain: string) => SigningRule | null;
}

const unsigned = (why: string): Signed => ({ kind: 'unsigned', why });

export function createSigner({ rules, keysOf, clock }: SignerParts): Signer {
  const ruleFor = (author: string): SigningRule | null =>
    rules
      .filter(({ senders }) => senders.some((pattern) => fitsPattern(pattern, author)))
      .toSorted((a, b) => b.domain.length - a.domain.length)[0] ?? null;

  const once = createOnce((keys) => {
    const found = keys[0] === undefined ? null : keysOf(keys[0].domain);
    return found?.kind === 'keys' && sameKeys(found.keys, keys);
  }, clock);
  const sign: Sign = (messageId, open, maySend) => once(messageId, () => attempt(open, maySend));

  const attempt = async (open: () => Promise<StoredBody>, maySend: (domain: string) => boolean): Promise<Attempted> => {
    const not = (end: Signed): Attempted => ({ end, keys: null });
    let body: StoredBody;
    try {
      body = await open();
    } catch (error) {
      return not({ kind: 'impossible', code: 'stored-message-unreadable', why: messageOf(error) });
    }
    const pieces = body.kind === 'memory' ? [body.bytes] : body.stream;
    const head = new HeadReader();
    const hash = new RelaxedBodyHash();
    let plan: Plan | null = null;
    try {
      for await (const piece of pieces as AsyncIterable<Buffer> | Buffer[]) {
        const rest = head.push(piece);
        if (head.state === 'reading') continue;
        plan ??= planFor(head, maySend);
        if (plan.kind !== 'sign') break;
        hash.update(rest);
      }
    } catch (error) {
      return not({ kind: 'impossible', code: 'stored-message-unreadable', why: messageOf(error) });
    } finally {
      if (body.kind === 'stream') body.stream.destroy();
    }
    plan ??= planFor(head, maySend);
    if (plan.kind === 'leave') return not(plan.end);
    const what = signable(plan.fields, hash.digest());
    if (what === null) return not(unsigned('it has more header fields than a signature can cover'));
    const at = clock.now();
    const header = await Promise.all(plan.keys.map((key) => signatureField(what, key, at)));
    const end: Signed = { kind: 'signed', header: Buffer.from(header.join(''), 'ascii'), by: namesOf(plan.keys) };
    return { end, keys: plan.keys };
  };

  /** What is to be done with a message whose header has been read. */
  const planFor = (head: HeadReader, maySend: (domain: string) => boolean): Plan => {
    if (head.state === 'too-long') return { kind: 'leave', end: unsigned('its header is too long') };
    const fields = head.fields();
    const author = authorOf(fields);
    if (author.kind === 'unclear') return { kind: 'leave', end: unsigned(author.why) };
    const rule = ruleFor(author.domain);
    if (!rule) return { kind: 'leave', end: { kind: 'unsigned', why: null } };
    if (!maySend(author.domain)) {
      return { kind: 'leave', end: unsigned(`its client may not send for ${author.domain}, the domain in From`) };
    }
    if (rule.existing === 'leave' && signedBy(fields).has(rule.domain)) {
      return { kind: 'leave', end: unsigned(`${rule.domain} has signed it already`) };
    }
    const found = keysOf(rule.domain);
    if (found.kind === 'keys') return { kind: 'sign', fields, keys: found.keys };
    const waits = rule.required ?? found.kind === 'unusable';
    if (!waits) return { kind: 'leave', end: unsigned(found.why) };
    const code = found.kind === 'unusable' ? found.code : 'dkim-key-unpublished';
    return { kind: 'leave', end: { kind: 'impossible', code, why: found.why } };
  };

  return { sign, ruleFor };
}

type Plan =
  | { readonly kind: 'sign'; readonly fields: readonly Field[]; readonly keys: DomainKeysFound }
  | { readonly kind: 'leave'; readonly end: Signed };

type DomainKeysFound = Extract<DomainKeys, { kind: 'keys' }>['keys'];

function namesOf([first, ...rest]: DomainKeysFound): readonly [string, ...string[]] {
  const nameOf = ({ domain, selector }: SigningKey): string => `${domain}/${selector}`;
  return [nameOf(first), ...rest.map(nameOf)];
}

/** The domains of the signatures that a message has, whatever they are worth. */
function signedBy(fields: readonly Field[]): ReadonlySet<string> {
  const domains = valuesOf(fields, 'dkim-signature').map((value) => tagsOf(value)?.get('d')?.toLowerCase() ?? '');
  return new Set(domains);
}
