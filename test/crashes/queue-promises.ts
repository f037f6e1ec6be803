/** What a queue has promised by a certain moment, and whether it keeps that after a crash. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Body, NewMessage } from '../../src/model/message.ts';
import { type Engine, openEngine, type Request } from '../../src/queue/sqlite-engine.ts';
import { message } from '../queue/good-day.ts';

/** Octets that only this message has, so that it can be told whole from half and its own from another's. */
export function bodyOf(id: string, large: boolean): Buffer {
  const line = `${createHash('sha256').update(id).digest('hex')}\r\n`;
  return Buffer.from(line.repeat(large ? 4_200 : 30));
}

export function crashMessage(id: string, body: Body): NewMessage {
  return message({ id, body, receivedAt: 1_000, to: [`someone@${id.slice(-1).toLowerCase()}.example`] });
}

/** The bounce that goes with the end of a message. Its time has not come, so that nobody claims it. */
export function noticeFor(id: string): NewMessage {
  const body: Body = { kind: 'memory', bytes: bodyOf(`N${id}`, false) };
  return message({ id: `N${id}`, sender: '', receivedAt: 2_000_000, body });
}

export interface Promises {
  /** The sender has heard 250. */
  readonly accepted: ReadonlySet<string>;
  /** An attempt may have ended them: each is either still there or has its notice. */
  readonly ending: ReadonlySet<string>;
  /** The end was written: it is gone and its notice is there. */
  readonly settled: ReadonlySet<string>;
}

/** Opens what a crash left, as the relay does at its start, and tells every broken promise. */
export function brokenPromises(folder: string, { accepted, ending, settled }: Promises): readonly string[] {
  const engine = openEngine({ folder, mode: 'relay', reserveBytes: 0 });
  try {
    ask(engine, { id: 1, name: 'recover', args: ['node-1', 0] });
    const entries = ask(engine, { id: 1, name: 'list', args: [{}, 0] }) as readonly {
      queueId: string;
      state: string;
    }[];
    const ids = entries.map(({ queueId }) => queueId);
    const there = new Set(ids);
    const broken: string[] = [];
    if (there.size !== ids.length) broken.push('a message is there twice');
    for (const id of accepted) {
      if (there.has(id) && there.has(`N${id}`)) broken.push(`${id} is there with its notice`);
      if (!there.has(id) && !there.has(`N${id}`)) broken.push(`${id} is lost`);
      if (!there.has(id) && !ending.has(id)) broken.push(`${id} is gone before its end`);
    }
    for (const id of settled) if (there.has(id)) broken.push(`${id} came back`);
    for (const { queueId, state } of entries) {
      if (!isWhole(engine, queueId)) broken.push(`${queueId} is not whole`);
      if (state !== 'waiting') broken.push(`${queueId} is ${state}`);
    }
    const files = bodyFiles(folder).filter((file) => !there.has(basename(file, '.eml')));
    if (files.length > 0) broken.push(`left behind: ${files.join(' ')}`);
    const check = engine.db.pragma('integrity_check', { simple: true });
    if (check !== 'ok') broken.push(`the database: ${String(check)}`);
    return broken;
  } finally {
    engine.close();
  }
}

/** @throws Error when the engine refuses */
export function ask(engine: Engine, request: Request): unknown {
  const [reply] = engine.run([request]);
  if (!reply?.ok) throw new Error(reply?.failure.message);
  return reply.value;
}

function isWhole(engine: Engine, queueId: string): boolean {
  const place = ask(engine, { id: 1, name: 'body', args: [queueId, null] }) as
    | { kind: 'database'; octets: Uint8Array }
    | { kind: 'file'; path: string; octets: number };
  if (place.kind === 'file') return readFileSync(place.path).equals(bodyOf(queueId, true));
  return [true, false].some((large) => bodyOf(queueId, large).equals(place.octets));
}

function bodyFiles(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.startsWith('bodies') && file.endsWith('.eml'))
    .map((file) => join(folder, file));
}
