/** What every store must keep, whatever it is made of. SQLite runs it now, PostgreSQL later. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Body } from '../../src/model/message.ts';
import { type Claim, type Store, StoreError } from '../../src/queue/store.ts';
import { DAY, everything, HOUR, leaves, MINUTE, MONDAY, message, octetsOf, terms, waits } from './good-day.ts';

/** @param open  opens the store in a folder of the test: one that is new, or the same one again */
export function storeContract(name: string, open: (folder: string) => Promise<Store>): void {
  describe(`the store contract: ${name}`, () => {
    let folder: string;
    let store: Store;

    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'dane-relay-store-'));
    });

    // One store for all, since opening one costs more than most tests; each finds it empty.
    beforeEach(async () => {
      store ??= await open(folder);
      const { delivering } = await store.drop({}, MONDAY + 1_000 * DAY);
      if (delivering === 0) return;
      // Claimed by an owner that lives as long as the store is open.
      await reopen();
      await store.drop({}, MONDAY + 1_000 * DAY);
    });

    afterAll(async () => {
      await store?.close();
      rmSync(folder, { recursive: true, force: true });
    });

    const claim = async (change: Partial<typeof everything> = {}): Promise<readonly Claim[]> =>
      store.claim({ ...everything, ...change });

    const claimOne = async (change: Partial<typeof everything> = {}): Promise<Claim> => {
      const [first, ...others] = await claim(change);
      if (!first || others.length > 0) throw new Error(`claimed ${String(others.length + 1)} batches, wanted one`);
      return first;
    };

    const reopen = async (): Promise<void> => {
      await store.close();
      store = await open(folder);
    };

    const fileBody = (octets: Buffer): Body & { readonly kind: 'file' } => {
      const path = join(folder, `incoming-${String(octets.length)}.eml`);
      writeFileSync(path, octets);
      return { kind: 'file', path };
    };

    describe('accept', () => {
      test('TXN-08 what was accepted is there after the store is opened again, envelope and octets', async () => {
        const octets = Buffer.from([0x00, 0x0d, 0x0a, 0x2e, 0xff, 0x80]);
        const sent = message({ body: { kind: 'memory', bytes: octets }, to: ['"a b"@x.example', 'c@[192.0.2.7]'] });
        const full = {
          ...sent,
          envelope: { ...sent.envelope, smtputf8: true, ret: 'hdrs', envid: 'QQ=1', tls: 'required' } as const,
        };
        await store.accept(full, terms);
        await reopen();
        const { recipients: _, ...envelope } = full.envelope;
        const batches = (await claim()).map(({ batch }) => batch);
        expect(batches.map(({ domain }) => domain).toSorted()).toEqual(['[192.0.2.7]', 'x.example']);
        expect(batches.find(({ domain }) => domain === 'x.example')).toEqual({
          messageId: full.id,
          receivedAt: full.receivedAt,
          expiresAt: terms.expiresAt,
          client: 'exchange',
          envelope,
          content: full.content,
          domain: 'x.example',
          recipients: [
            {
              id: expect.any(Number),
              address: '"a b"@x.example',
              notify: null,
              orcpt: null,
              attempts: 0,
              delayNoticeSent: false,
              lastCode: null,
            },
          ],
        });
        expect(await octetsOf(store, full.id)).toEqual(octets);
      });

      test('NOTIFY and ORCPT of each recipient are kept', async () => {
        const to = { address: 'a@x.example', notify: ['success', 'delay'] as const, orcpt: 'rfc822;A@x.example' };
        await store.accept(
          message({ to: [to, { ...to, address: 'b@x.example', notify: ['never'], orcpt: null }] }),
          terms,
        );
        const { batch } = await claimOne();
        expect(batch.recipients).toMatchObject([to, { address: 'b@x.example', notify: ['never'], orcpt: null }]);
      });

      test.each([
        ['an empty body', 0],
        ['a small body', 5_000],
        ['a body at the limit of the database', 262_144],
        ['a large body from memory', 3_000_000],
      ])('%s comes back as it was', async (_, size) => {
        const bytes = randomBytes(size);
        const sent = message({ body: { kind: 'memory', bytes } });
        await store.accept(sent, terms);
        await reopen();
        expect((await octetsOf(store, sent.id)).equals(bytes)).toBe(true);
        expect((await store.readHead(sent.id, 1_000)).equals(bytes.subarray(0, 1_000))).toBe(true);
        expect(bytes.byteLength).toBe(size);
      });

      test('a body in a file is taken over, and gone when its last recipient is', async () => {
        const octets = randomBytes(1_500_000);
        const body = fileBody(octets);
        const sent = message({ body });
        await store.accept(sent, terms);
        expect(existsSync(body.path)).toBe(false);
        expect((await octetsOf(store, sent.id)).equals(octets)).toBe(true);
        expect((await store.readHead(sent.id, 70_000)).equals(octets.subarray(0, 70_000))).toBe(true);
        const { lease, batch } = await claimOne();
        await store.settle(
          lease,
          batch.recipients.map(({ id }) => leaves(id)),
          [],
        );
        await expect(store.openBody(sent.id)).rejects.toThrow(StoreError);
      });

      test('an id that is in use is rejected; the message that has it stays whole and the caller keeps its file', async () => {
        const mine = randomBytes(400_000);
        const first = message({ id: 'SAME', body: fileBody(mine) });
        await store.accept(first, terms);
        const body = fileBody(randomBytes(300_000));
        await expect(store.accept(message({ id: 'SAME', body }), terms)).rejects.toThrow(StoreError);
        expect(existsSync(body.path)).toBe(true);
        expect((await octetsOf(store, 'SAME')).equals(mine)).toBe(true);
        expect(await store.list({}, MONDAY)).toHaveLength(1);
      });

      test('a body file that is not there is rejected and nothing is stored', async () => {
        const body: Body = { kind: 'file', path: join(folder, 'nowhere.eml') };
        await expect(store.accept(message({ body }), terms)).rejects.toThrow(StoreError);
        expect(await store.list({}, MONDAY)).toEqual([]);
      });

      test('many at once: one that cannot be stored does not take the others with it', async () => {
        const bad = message({ body: { kind: 'file', path: join(folder, 'nowhere.eml') } });
        const good = Array.from({ length: 40 }, () => message());
        const all = [...good.slice(0, 20), bad, ...good.slice(20)];
        const ends = await Promise.allSettled(all.map((each) => store.accept(each, terms)));
        expect(ends.map(({ status }) => status === 'fulfilled')).toEqual(all.map((each) => each !== bad));
        const listed = (await store.list({}, MONDAY)).map(({ queueId }) => queueId);
        expect(listed.toSorted()).toEqual(good.map(({ id }) => id).toSorted());
      });
    });

    describe('claim', () => {
      test('TXN-09 a batch is one message and one domain; what is claimed is not claimed again', async () => {
        const sent = message({ to: ['a@x.example', 'b@y.example', 'c@x.example'] });
        await store.accept(sent, terms);
        const claims = await claim();
        const told = claims.map(({ batch }) => [batch.domain, ...batch.recipients.map(({ address }) => address)]);
        expect(told.toSorted()).toEqual([
          ['x.example', 'a@x.example', 'c@x.example'],
          ['y.example', 'b@y.example'],
        ]);
        expect(await claim()).toEqual([]);
        expect(await claim({ owner: 'node-2' })).toEqual([]);
      });

      test('only what is due is claimed, and only those of a message that are due together', async () => {
        await store.accept(message({ to: ['a@x.example', 'b@x.example'] }), terms);
        const first = await claimOne();
        const [a, b] = first.batch.recipients;
        await store.settle(first.lease, [waits(a.id, MONDAY + 5 * MINUTE), waits(b?.id ?? 0, MONDAY + HOUR)], []);
        expect(await claim({ now: MONDAY + 5 * MINUTE - 1 })).toEqual([]);
        expect(await store.outlook(MONDAY, 10)).toEqual({ due: [], next: MONDAY + 5 * MINUTE });
        const second = await claimOne({ now: MONDAY + 5 * MINUTE });
        expect(second.batch.recipients).toMatchObject([
          { address: 'a@x.example', attempts: 1, lastCode: 'connect-failed' },
        ]);
        expect((await store.outlook(MONDAY + 5 * MINUTE, 10)).next).toBe(MONDAY + HOUR);
        expect((await claimOne({ now: MONDAY + HOUR })).batch.recipients).toMatchObject([{ address: 'b@x.example' }]);
        expect((await store.outlook(MONDAY + HOUR, 10)).next).toBeNull();
      });

      test('domains take turns: a long queue for one does not hold up the others', async () => {
        await Promise.all(Array.from({ length: 300 }, () => store.accept(message({ to: ['x@big.example'] }), terms)));
        const later = { receivedAt: MONDAY + 1 };
        await store.accept(message({ ...later, to: ['x@one.example'] }), terms);
        await store.accept(message({ ...later, to: ['x@two.example'] }), terms);
        const next = { now: MONDAY + 10, limit: 1 };
        const order: string[] = [];
        for (let turn = 0; turn < 4; turn++)
          order.push((await claimOne({ ...next, now: next.now + turn })).batch.domain);
        expect(order.toSorted()).toEqual(['big.example', 'big.example', 'one.example', 'two.example']);
        expect(order.slice(0, 3).toSorted()).toEqual(['big.example', 'one.example', 'two.example']);
      });

      test('no domain gets more than its share, with what is running counted; others are found behind it', async () => {
        await Promise.all(Array.from({ length: 30 }, () => store.accept(message({ to: ['x@big.example'] }), terms)));
        await store.accept(message({ receivedAt: MONDAY + 1, to: ['x@small.example'] }), terms);
        const request = { now: MONDAY + 10, perDomain: 5, taken: new Map([['big.example', 3]]) };
        const domains = (await claim(request)).map(({ batch }) => batch.domain).toSorted();
        expect(domains).toEqual(['big.example', 'big.example', 'small.example']);
        expect(await claim({ ...request, taken: new Map([['big.example', 5]]) })).toEqual([]);
      });

      test('no more than the limit is claimed, oldest first within a domain', async () => {
        const sent = [3, 1, 2].map((minute) => message({ receivedAt: MONDAY + minute * MINUTE }));
        for (const each of sent) await store.accept(each, terms);
        const claims = await claim({ now: MONDAY + HOUR, limit: 2 });
        expect(claims.map(({ batch }) => batch.messageId)).toEqual([sent[1]?.id, sent[2]?.id]);
      });
    });

    describe('new mail beside mail that was tried before', () => {
      const DUE = MONDAY + HOUR;

      /** One message for each, tried once and due again. */
      const triedBefore = async (domains: readonly string[]): Promise<void> => {
        for (const domain of domains) await store.accept(message({ id: `old-${domain}`, to: [`x@${domain}`] }), terms);
        for (const { lease, batch } of await claim())
          await store.settle(lease, [waits(batch.recipients[0].id, DUE)], []);
      };
      const three = ['a.example', 'b.example', 'c.example'];
      const add = (id: string, to: readonly string[], receivedAt = DUE + MINUTE): Promise<unknown> =>
        store.accept(message({ id, to, receivedAt }), terms);
      const idsOf = (claims: readonly Claim[]): readonly string[] => claims.map(({ batch }) => batch.messageId);

      test('each gets every other turn, however long the other waits', async () => {
        await triedBefore(three);
        for (const id of ['N1', 'N2', 'N3']) await add(id, ['x@new.example']);
        const now = DUE + HOUR;
        const half = idsOf(await claim({ now, limit: 4 }));
        expect(half.filter((id) => id.startsWith('N'))).toEqual(['N1', 'N2']);
        expect(idsOf(await claim({ now })).toSorted()).toEqual(['N3', 'old-c.example']);
      });

      test('also where there is room for one at a time, and for one domain', async () => {
        await triedBefore(three);
        for (const id of ['N1', 'N2', 'N3']) await add(id, ['x@a.example']);
        const order: string[] = [];
        for (let turn = 0; turn < 6; turn++) order.push(...idsOf(await claim({ now: DUE + HOUR + turn, limit: 1 })));
        const isNew = order.map((id) => id.startsWith('N'));
        expect(isNew.slice(1)).toEqual(isNew.slice(0, -1).map((each) => !each));
      });

      test('of what was tried before no more than is asked for', async () => {
        await triedBefore(three);
        await add('N1', ['x@new.example']);
        const now = DUE + HOUR;
        expect(idsOf(await claim({ now, limitAgain: 0 }))).toEqual(['N1']);
        expect(await claim({ now, limitAgain: 0 })).toEqual([]);
        expect(await claim({ now, limitAgain: 2 })).toHaveLength(2);
        expect(await claim({ now, limitAgain: 2 })).toHaveLength(1);
      });

      test('a domain has no more than its share of both together', async () => {
        await triedBefore(['a.example']);
        for (const id of ['N1', 'N2', 'N3']) await add(id, ['x@a.example']);
        expect(await claim({ now: DUE + HOUR, perDomain: 3, taken: new Map([['a.example', 1]]) })).toHaveLength(2);
      });

      test('is taken as it is accepted although other mail waits, unless that is new as well', async () => {
        await triedBefore(['a.example']);
        await add('N1', ['x@b.example']);
        const now = DUE + HOUR;
        const sent = message({ id: 'N2', to: ['x@a.example', 'x@b.example', 'y@a.example'], receivedAt: now });
        const taken = await store.accept(sent, { ...terms, take: { owner: 'node-1', now, until: now + MINUTE } });
        expect(taken.map(({ batch }) => [batch.domain, batch.recipients.length])).toEqual([['a.example', 2]]);
        expect(idsOf(await claim({ now })).toSorted()).toEqual(['N1', 'N2', 'old-a.example']);
        const last = message({ id: 'N3', to: ['x@b.example'], receivedAt: now });
        expect(
          await store.accept(last, { ...terms, take: { owner: 'node-1', now, until: now + MINUTE } }),
        ).toHaveLength(1);
      });

      test('recipients of one message that are due together go together, also when an operator held one of them', async () => {
        await store.accept(message({ id: 'ONE', to: ['a@x.example', 'b@x.example'] }), terms);
        await store.hold({ recipient: 'b@x.example' }, MONDAY);
        const { lease, batch } = await claimOne();
        await store.settle(lease, [waits(batch.recipients[0].id, DUE)], []);
        await store.release({}, MONDAY);
        const both = await claimOne({ now: DUE });
        expect(both.batch.recipients.map(({ address }) => address)).toEqual(['a@x.example', 'b@x.example']);
        expect(await store.outlook(DUE, 10)).toEqual({ due: [], next: null });
        await store.giveBack([both.lease], 0);
        expect((await store.outlook(DUE, 10)).due).toEqual(['x.example', 'x.example']);
        expect((await claimOne({ now: DUE })).batch.recipients).toHaveLength(2);
      });
    });

    describe('settle', () => {
      test('TXN-01 one delivered, one deferred, one bounced: only the deferred one is left', async () => {
        await store.accept(message({ to: ['ok@x.example', 'later@x.example', 'no@x.example'] }), terms);
        const { lease, batch } = await claimOne();
        const [ok, later, no] = batch.recipients.map(({ id }) => id);
        const end = [leaves(ok ?? 0), waits(later ?? 0, MONDAY + HOUR), leaves(no ?? 0)];
        expect(await store.settle(lease, end, [])).toBe('settled');
        expect(await store.list({}, MONDAY)).toMatchObject([
          {
            recipient: 'later@x.example',
            state: 'waiting',
            code: 'connect-failed',
            status: '4.4.1',
            explanation: 'No connection to the mail host: 192.0.2.1 port 25 refused it.',
            host: 'mx1.gemeente.example',
            attempts: 1,
            nextAttempt: MONDAY + HOUR,
          },
        ]);
        expect(await octetsOf(store, batch.messageId)).not.toHaveLength(0);
      });

      test('a notice is accepted in the same step, with its body', async () => {
        await store.accept(message({ id: 'GONE' }), terms);
        const { lease, batch } = await claimOne();
        const bytes = Buffer.from('Subject: returned\r\n\r\n');
        const notice = message({ id: 'NOTICE', sender: '', to: ['jan@rijk.example'], body: { kind: 'memory', bytes } });
        const end = batch.recipients.map(({ id }) => leaves(id));
        expect(await store.settle(lease, end, [{ message: notice, expiresAt: MONDAY + DAY }])).toBe('settled');
        expect(await store.list({}, MONDAY)).toMatchObject([
          { queueId: 'NOTICE', sender: '', expiresAt: MONDAY + DAY },
        ]);
        expect(await octetsOf(store, 'NOTICE')).toEqual(bytes);
        await expect(store.openBody('GONE')).rejects.toThrow(StoreError);
      });

      test('a notice that cannot be stored leaves everything as it was, and settling again works', async () => {
        const large = fileBody(randomBytes(300_000));
        await store.accept(message({ id: 'KEPT', body: large }), terms);
        const { lease, batch } = await claimOne();
        const end = batch.recipients.map(({ id }) => leaves(id));
        const bad = message({ id: 'KEPT', sender: '' });
        await expect(store.settle(lease, end, [{ message: bad, expiresAt: MONDAY + DAY }])).rejects.toThrow(StoreError);
        expect(await store.list({}, MONDAY)).toMatchObject([{ queueId: 'KEPT', state: 'delivering', attempts: 0 }]);
        expect(await octetsOf(store, 'KEPT')).toHaveLength(300_000);
        expect(await store.settle(lease, end, [])).toBe('settled');
        expect(await store.list({}, MONDAY)).toEqual([]);
      });

      test('the same claim cannot be settled twice, so its notice cannot be doubled', async () => {
        await store.accept(message(), terms);
        const { lease, batch } = await claimOne();
        const end = batch.recipients.map(({ id }) => leaves(id));
        const notice = (): { message: ReturnType<typeof message>; expiresAt: number } => ({
          message: message({ sender: '', to: ['jan@rijk.example'] }),
          expiresAt: MONDAY + DAY,
        });
        expect(await store.settle(lease, end, [notice()])).toBe('settled');
        expect(await store.settle(lease, end, [notice()])).toBe('lost');
        expect(await store.list({}, MONDAY)).toHaveLength(1);
      });
    });

    describe('leases', () => {
      test('another owner takes over when the lease has run out; the first one then changes nothing', async () => {
        await store.accept(message(), terms);
        const first = await claimOne();
        expect(await claim({ owner: 'node-2', now: MONDAY + MINUTE - 1 })).toEqual([]);
        const second = await claimOne({ owner: 'node-2', now: MONDAY + MINUTE });
        expect(second.batch).toEqual(first.batch);
        const end = first.batch.recipients.map(({ id }) => leaves(id));
        expect(await store.settle(first.lease, end, [])).toBe('lost');
        expect(await store.list({}, MONDAY + MINUTE)).toMatchObject([{ state: 'delivering' }]);
        expect(await store.settle(second.lease, end, [])).toBe('settled');
      });

      test('what is given back waits as before; its domain is not served before it is said, unless something new comes', async () => {
        for (const id of ['A', 'B', 'C']) await store.accept(message({ id, to: [`x@${id}.example`] }), terms);
        const leases = (await claim()).map(({ lease }) => lease);
        await store.giveBack(leases.slice(0, 2), MONDAY + MINUTE);
        await store.giveBack([...leases.slice(2), '999999'], 0);
        expect((await claim()).map(({ batch }) => batch.messageId)).toEqual(['C']);
        await store.accept(message({ id: 'A2', to: ['x@A.example'] }), terms);
        expect((await claim()).map(({ batch }) => batch.messageId)).toEqual(['A', 'A2']);
        expect((await claim({ now: MONDAY + MINUTE })).map(({ batch }) => batch.messageId)).toEqual(['B']);
      });

      test('a lease that is extended is not taken over', async () => {
        await store.accept(message(), terms);
        const { lease } = await claimOne();
        await store.extendLeases([lease, '999999'], MONDAY + HOUR);
        expect(await claim({ owner: 'node-2', now: MONDAY + HOUR - 1 })).toEqual([]);
        expect(await claim({ owner: 'node-2', now: MONDAY + HOUR })).toHaveLength(1);
      });

      test('an owner does not take over from itself, however late its clock is', async () => {
        await store.accept(message(), terms);
        const { lease, batch } = await claimOne();
        expect(await claim({ now: MONDAY + 30 * DAY })).toEqual([]);
        expect(
          await store.settle(
            lease,
            batch.recipients.map(({ id }) => leaves(id)),
            [],
          ),
        ).toBe('settled');
      });

      test('TXN-08 after a start with the same name, its claims are due again at once', async () => {
        await store.accept(message({ to: ['a@x.example', 'b@y.example'] }), terms);
        await claim();
        await reopen();
        expect(await claim()).toEqual([]);
        expect(await store.recover('node-2')).toMatchObject({ leases: 0 });
        expect(await store.recover('node-1')).toMatchObject({ leases: 2 });
        expect(await claim()).toHaveLength(2);
      });

      test('TXN-08 what a worker that died had claimed is due at once, also when nobody comes back under its name', async () => {
        await store.accept(message({ to: ['a@x.example', 'b@y.example'] }), terms);
        await claim({ owner: 'node-3/2' });
        await reopen();
        const other = await open(folder);
        await other.join('node-3/1');
        expect(await other.takeOver('node-3/2')).toMatchObject({ leases: 2 });
        // One that lives keeps what it has.
        await claim({ owner: 'node-3/1' });
        await expect(store.takeOver('node-3/1')).rejects.toThrow(/another relay that is running/);
        await expect(store.recover('node-3')).rejects.toThrow(/another relay that is running/);
        await other.close();
        expect(await store.recover('node-3')).toMatchObject({ leases: 2 });
        expect(await claim()).toHaveLength(2);
      });

      test('TXN-08 what is taken as it is accepted is as if it had been claimed, and is not lost with who took it', async () => {
        const sent = message({ to: ['a@x.example', 'b@y.example', 'c@x.example'] });
        const taken = await store.accept(sent, {
          ...terms,
          take: { owner: 'node-1', now: MONDAY, until: MONDAY + MINUTE },
        });
        expect(await store.list({}, MONDAY)).toMatchObject(new Array(3).fill({ state: 'delivering', attempts: 0 }));
        expect(await claim()).toEqual([]);
        expect(await store.outlook(MONDAY, 10)).toEqual({ due: [], next: null });
        await reopen();
        expect(await store.recover('node-1')).toMatchObject({ leases: 2 });
        const again = await claim();
        expect(again.map(({ batch }) => batch)).toEqual(taken.map(({ batch }) => batch));
        const [first] = taken;
        expect(await store.settle(first?.lease ?? '', [], [])).toBe('lost');
      });

      test('what is taken as it is accepted goes to another owner when the lease has run out', async () => {
        const [taken] = await store.accept(message(), {
          ...terms,
          take: { owner: 'node-1', now: MONDAY, until: MONDAY + MINUTE },
        });
        await reopen();
        expect(await claim({ owner: 'node-2', now: MONDAY + MINUTE - 1 })).toEqual([]);
        const [other] = await claim({ owner: 'node-2', now: MONDAY + MINUTE });
        expect(other?.batch).toEqual(taken?.batch);
      });

      test('an owner that lives keeps what it has, whatever the clock says: it may have handed the mail over already', async () => {
        const other = await open(folder);
        await store.join('node-4/1');
        await other.join('node-4/2');
        await store.accept(message(), terms);
        const { lease, batch } = await claimOne({ owner: 'node-4/1' });
        const later = MONDAY + 30 * DAY;
        expect(await other.claim({ ...everything, owner: 'node-4/2', now: later })).toEqual([]);
        expect(await claim({ owner: 'node-4/3', now: later })).toEqual([]);
        for (const desk of [store, other]) {
          expect(await desk.retry({}, later)).toMatchObject({ changed: 0, delivering: 1 });
          expect(await desk.drop({}, later)).toMatchObject({ changed: 0, delivering: 1 });
          expect(await desk.hold({}, later)).toMatchObject({ changed: 1 });
          expect(await desk.release({}, later)).toMatchObject({ changed: 1 });
        }
        const end = batch.recipients.map(({ id }) => leaves(id));
        expect(await store.settle(lease, end, [])).toBe('settled');

        await store.accept(message(), terms);
        await claimOne({ owner: 'node-4/1' });
        await store.close();
        expect(await other.claim({ ...everything, owner: 'node-4/2', now: MONDAY + MINUTE })).toHaveLength(1);
        await other.close();
        store = await open(folder);
        await store.recover('node-4');
      });

      test('a second relay with the same name is refused while the first one runs', async () => {
        await store.recover('node-1');
        const other = await open(folder);
        await expect(other.recover('node-1')).rejects.toThrow(/another relay that is running/);
        await other.close();
        await reopen();
        await store.recover('node-1');
      });
    });

    describe('the operator', () => {
      test('list shows each recipient as the contract says, the oldest message first', async () => {
        const sent = message({ to: ['a@x.example', 'b@y.example'], receivedAt: MONDAY });
        await store.accept(sent, terms);
        await claim({ limit: 1 });
        expect(await store.list({}, MONDAY)).toEqual([
          {
            queueId: sent.id,
            sender: 'jan@rijk.example',
            recipient: 'a@x.example',
            domain: 'x.example',
            state: 'delivering',
            code: 'not-tried-yet',
            status: '4.0.0',
            explanation: 'Accepted, not tried yet.',
            host: null,
            attempts: 0,
            receivedAt: MONDAY,
            nextAttempt: MONDAY,
            expiresAt: terms.expiresAt,
            size: sent.content.size,
          },
          expect.objectContaining({ recipient: 'b@y.example', state: 'waiting' }),
        ]);
        expect((await store.list({}, MONDAY + MINUTE)).map(({ state }) => state)).toEqual(['waiting', 'waiting']);
      });

      test('filters: id, domain, recipient and code, all that are given', async () => {
        await store.accept(message({ id: 'ONE', to: ['a@x.example', 'b@y.example'] }), terms);
        await store.accept(message({ id: 'TWO', to: ['A@x.example'] }), terms);
        const [first] = await claim({ limit: 1 });
        await store.settle(first?.lease ?? '', [waits(first?.batch.recipients[0].id ?? 0, MONDAY + HOUR)], []);
        const found = async (filter: Parameters<Store['list']>[0]): Promise<readonly string[]> =>
          (await store.list(filter, MONDAY)).map(({ queueId, recipient }) => `${queueId} ${recipient}`);
        expect(await found({ ids: ['TWO', 'NONE'] })).toEqual(['TWO A@x.example']);
        expect(await found({ domain: 'x.example' })).toEqual(['ONE a@x.example', 'TWO A@x.example']);
        expect(await found({ recipient: 'a@X.example' })).toEqual(['ONE a@x.example', 'TWO A@x.example']);
        expect(await found({ code: 'connect-failed' })).toEqual(['ONE a@x.example']);
        expect(await found({ code: 'not-tried-yet', domain: 'x.example' })).toEqual(['TWO A@x.example']);
        expect(await found({ ids: [] })).toEqual([]);
      });

      test('show tells a whole message, and nothing of one that is not there', async () => {
        await store.accept(message({ id: 'ONE', to: ['a@x.example', 'b@y.example'] }), terms);
        expect(await store.show('ONE', MONDAY)).toMatchObject({
          queueId: 'ONE',
          client: 'exchange',
          envelope: { sender: 'jan@rijk.example' },
          recipients: [{ recipient: 'a@x.example', notify: null, orcpt: null }, { recipient: 'b@y.example' }],
        });
        expect(await store.show('NONE', MONDAY)).toBeNull();
      });

      test('count agrees with the states in the list', async () => {
        await store.accept(message({ id: 'ONE', to: ['a@x.example', 'b@x.example'] }), terms);
        await store.accept(message({ to: ['c@y.example'], receivedAt: MONDAY + 1 }), terms);
        await store.accept(message({ to: ['d@z.example'], receivedAt: MONDAY + 1 }), terms);
        expect(await store.count(MONDAY)).toEqual({ waiting: 4, held: 0, delivering: 0 });
        await store.hold({ domain: 'z.example' }, MONDAY);
        await claim();
        expect(await store.count(MONDAY)).toEqual({ waiting: 1, held: 1, delivering: 2 });
        await store.hold({ recipient: 'a@x.example' }, MONDAY);
        expect(await store.count(MONDAY)).toEqual({ waiting: 1, held: 1, delivering: 2 });
        expect(await store.count(MONDAY + MINUTE)).toEqual({ waiting: 2, held: 2, delivering: 0 });
      });

      test('retry makes waiting mail due now and says that an operator asked, until the next attempt', async () => {
        await store.accept(message(), terms);
        const first = await claimOne();
        const [{ id }] = first.batch.recipients;
        expect(first.askedAt).toBeNull();
        await store.settle(first.lease, [waits(id, MONDAY + DAY)], []);
        expect(await store.retry({ code: 'connect-failed' }, MONDAY + 1)).toEqual({
          changed: 1,
          delivering: 0,
          held: 0,
        });
        const second = await claimOne({ now: MONDAY + 1 });
        expect(second.askedAt).toBe(MONDAY + 1);
        expect(await store.retry({}, MONDAY + 2)).toEqual({ changed: 0, delivering: 1, held: 0 });
        await store.settle(second.lease, [waits(id, MONDAY + 2)], []);
        expect((await claimOne({ now: MONDAY + 2 })).askedAt).toBeNull();
      });

      test('held mail is not claimed and not retried; released it goes on where it was', async () => {
        await store.accept(message({ to: ['a@x.example', 'b@x.example'] }), terms);
        expect(await store.hold({ recipient: 'a@x.example' }, MONDAY)).toMatchObject({ changed: 1 });
        expect((await claimOne()).batch.recipients).toMatchObject([{ address: 'b@x.example' }]);
        expect(await store.retry({ recipient: 'a@x.example' }, MONDAY)).toEqual({ changed: 0, delivering: 0, held: 1 });
        expect(await claim({ now: MONDAY + DAY })).toEqual([]);
        expect((await store.list({ recipient: 'a@x.example' }, MONDAY)).map(({ state }) => state)).toEqual(['held']);
        expect(await store.release({}, MONDAY)).toMatchObject({ changed: 2 });
        expect((await claimOne()).batch.recipients).toMatchObject([{ address: 'a@x.example' }]);
      });

      test('mail held during an attempt is held when the attempt has ended', async () => {
        await store.accept(message(), terms);
        const { lease, batch } = await claimOne();
        expect(await store.hold({}, MONDAY)).toMatchObject({ changed: 1 });
        expect(await store.list({}, MONDAY)).toMatchObject([{ state: 'delivering' }]);
        await store.settle(lease, [waits(batch.recipients[0].id, MONDAY + MINUTE)], []);
        expect(await store.list({}, MONDAY)).toMatchObject([{ state: 'held' }]);
        expect(await claim({ now: MONDAY + DAY })).toEqual([]);
      });

      test('drop removes what waits, with its body, and leaves alone what is being delivered', async () => {
        const body = fileBody(randomBytes(300_000));
        await store.accept(message({ id: 'BIG', to: ['a@x.example'], body }), terms);
        await store.accept(message({ id: 'RUNS', to: ['a@y.example'], receivedAt: MONDAY - 1 }), terms);
        await claim({ limit: 1 });
        expect(await store.drop({}, MONDAY)).toEqual({ changed: 1, delivering: 1, held: 0 });
        expect(await store.list({}, MONDAY)).toMatchObject([{ queueId: 'RUNS' }]);
        await expect(store.openBody('BIG')).rejects.toThrow(StoreError);
        expect(await store.drop({}, MONDAY + HOUR)).toMatchObject({ changed: 1, delivering: 0 });
      });

      test('an operator in another process sees the queue and moves it while the relay works on it', async () => {
        await store.accept(message(), terms);
        const desk = await open(folder);
        const [entry] = await desk.list({}, MONDAY);
        await desk.hold({ ids: [entry?.queueId ?? ''] }, MONDAY);
        expect(await claim()).toEqual([]);
        await Promise.all(Array.from({ length: 20 }, () => store.accept(message(), terms)));
        expect(await desk.release({}, MONDAY)).toMatchObject({ changed: 21 });
        await desk.close();
        expect(await claim()).toHaveLength(21);
      });
    });

    test('everything is rejected after close, which may be called twice', async () => {
      const other = await open(folder);
      await other.close();
      await other.close();
      await expect(other.accept(message(), terms)).rejects.toThrow(StoreError);
      await expect(other.claim(everything)).rejects.toThrow(StoreError);
    });
  });
}
