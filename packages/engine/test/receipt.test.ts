import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { GuardError, inBusiness, type Tx } from '../src/db/database.ts';
import { withPatience, withReceipts } from '../src/db/patience.ts';
import { drawReceipt, findReceipt, leaveReceipt, type Receipt } from '../src/db/receipt.ts';
import { createFixture, createTenant, type Fixture, type Tenant } from './support/fixture.ts';

let fixture: Fixture;
let tenant: Tenant;
let other: Tenant;
beforeAll(async () => {
  fixture = await createFixture();
  tenant = await createTenant(fixture, { leads: 1 });
  other = await createTenant(fixture, { leads: 1 });
});
afterAll(() => fixture.close());
beforeEach(() => fixture.rows('DELETE FROM carillon.receipts'));

const patient = { wait_ms: 30_000, isOver: () => false, receipts: true };

/** One transaction of somebody's who has patience. */
const ask = <T>(work: (tx: Tx) => Promise<T>, receipts = true): Promise<T> =>
  withPatience({ ...patient, receipts }, () => inBusiness(fixture.db, tenant.business_id, work));
const nothing = async () => {};

const inTenant = <T>(work: (tx: Tx) => Promise<T>) => inBusiness(fixture.db, tenant.business_id, work);
const leave = (receipt: Receipt) => inTenant(async (tx) => leaveReceipt(tx, receipt));
const find = (receipt: Receipt) => inTenant((tx) => findReceipt(tx, receipt));

/** How many hours ago those of a business were drawn, the youngest first. */
async function ages({ business_id }: Tenant): Promise<number[]> {
  const rows = await fixture.rows<{ hours: number }>(
    `SELECT round(extract(epoch FROM now()) / 3600 - at_us / 3.6e9)::int AS hours FROM carillon.receipts
     WHERE business_id = $1 ORDER BY at_us DESC`,
    [business_id],
  );
  return rows.map(({ hours }) => hours);
}

/** One receipt of each of so many hours ago. */
async function haveOld({ business_id }: Tenant, hours: readonly number[]): Promise<void> {
  await fixture.rows(
    `INSERT INTO carillon.receipts (business_id, at_us, nonce)
     SELECT $1, ((extract(epoch FROM now()) - h * 3600) * 1000000)::bigint, h FROM unnest($2::int[]) h`,
    [business_id, hours],
  );
}

const upTo = (last: number, first = 25) => Array.from({ length: last - first + 1 }, (_, n) => first + n);

describe('a receipt', () => {
  it('is left by each transaction of those who leave them, and by nobody else', async () => {
    await inTenant(nothing);
    await ask(nothing, false);
    await expect(ask((tx) => tx.query('SELECT 1 / 0'))).rejects.toMatchObject({ code: '22012' });
    expect(await ages(tenant)).toEqual([]);
    await ask(nothing);
    await ask(nothing);
    expect(await ages(tenant)).toEqual([0, 0]);
  });

  it('is left by the part that writes of something that otherwise reads, and by nobody who has no patience', async () => {
    await withPatience({ ...patient, receipts: false }, () => withReceipts(() => inTenant(nothing)));
    await withReceipts(() => inTenant(nothing));
    expect(await ages(tenant)).toEqual([0]);
  });

  it('tells whether it was left before, and is left by asking', async () => {
    const receipt = drawReceipt();
    expect(await find(receipt)).toBe(false);
    expect(await find(receipt)).toBe(true);
    expect(await ages(tenant)).toEqual([0]);
  });

  it('that lies there when a transaction begins is a broken guard: nothing of it is kept', async () => {
    const receipt = drawReceipt();
    await leave(receipt);
    await expect(leave(receipt)).rejects.toBeInstanceOf(GuardError);
  });

  it('of another business is not seen, not taken for one’s own, and not removed', async () => {
    const receipt = drawReceipt();
    await leave(receipt);
    await haveOld(tenant, [30]);
    const theirs = await inBusiness(fixture.db, other.business_id, async (tx) => ({
      found: await findReceipt(tx, receipt),
      seen: await tx.query('SELECT nonce FROM carillon.receipts'),
    }));
    expect(theirs).toEqual({ found: false, seen: [{ nonce: receipt.nonce }] });
    expect(await ages(tenant)).toEqual([0, 30]);
    expect(await ages(other)).toEqual([0]);
  });
});

describe('receipts of more than a day ago', () => {
  it('go with each new one, ten at most, the oldest first; younger ones stay', async () => {
    await haveOld(tenant, [1, 23, ...upTo(49)]);
    await ask(nothing);
    expect(await ages(tenant)).toEqual([0, 1, 23, ...upTo(39)]);
    await ask(nothing);
    await ask(nothing);
    expect(await ages(tenant)).toEqual([0, 0, 0, 1, 23]);
  });

  it('that somebody else removes at this moment are left to them, and nobody waits', async () => {
    await haveOld(tenant, upTo(39));
    await ask(async () => {
      // The oldest ten are locked by now; this one is over before they are gone.
      await ask(nothing);
      expect(await ages(tenant)).toEqual([0, ...upTo(39, 30)]);
    });
    expect(await ages(tenant)).toEqual([0, 0]);
  });
});
