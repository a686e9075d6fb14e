import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { GuardError, guardErrors, inBusiness } from '../src/db/database.ts';
import { createFixture, createTenant, type Fixture, type Tenant } from './support/fixture.ts';

let fixture: Fixture;
let tenant: Tenant;
beforeAll(async () => {
  fixture = await createFixture();
  tenant = await createTenant(fixture, { leads: 1 });
});
afterAll(async () => await fixture.close());

/** What nobody caught. Vitest's own listeners would end the run before a test could say anything. */
const unhandled: unknown[] = [];
const catchIt = (error: unknown) => void unhandled.push(error);
let listeners: NodeJS.UnhandledRejectionListener[] = [];
beforeEach(() => {
  unhandled.length = 0;
  listeners = process.listeners('unhandledRejection');
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', catchIt);
});
afterEach(() => {
  process.off('unhandledRejection', catchIt);
  for (const listener of listeners) process.on('unhandledRejection', listener);
});

const DIVIDE = 'SELECT 1 / $1::int';
const renamed = 'UPDATE carillon.businesses SET name = $2 WHERE business_id = $1';

describe('a transaction', () => {
  it('throws its first failure, not that of a statement behind it, which only says that all is aborted', async () => {
    const work = inBusiness(fixture.db, tenant.business_id, async (tx) => {
      tx.send(DIVIDE, [0]);
      return await tx.query('SELECT 1');
    });
    await expect(work).rejects.toMatchObject({ code: '22012' });
  });

  it('does so for a write whose row count is expected, and for one that nobody waits for', async () => {
    const sent = inBusiness(fixture.db, tenant.business_id, async (tx) => {
      tx.send(DIVIDE, [0], 1);
      tx.send('SELECT 1', [], 1);
    });
    await expect(sent).rejects.toMatchObject({ code: '22012' });
    const notWaitedFor = inBusiness(fixture.db, tenant.business_id, async (tx) => {
      tx.query(DIVIDE, [0]).catch(() => {});
      tx.send(renamed, [tx.business_id, 'another name']);
    });
    await expect(notWaitedFor).rejects.toMatchObject({ code: '22012' });
  });

  it('leaves no rejection unhandled while its work goes on behind a failed write', async () => {
    const work = inBusiness(fixture.db, tenant.business_id, async (tx) => {
      tx.send(DIVIDE, [0], 1);
      for (let behind = 0; behind < 20; behind++) await tx.query('SELECT 1').catch(() => {});
    });
    await expect(work).rejects.toMatchObject({ code: '22012' });
    expect(unhandled).toEqual([]);
  });

  it('is rolled back when a guard does not hold, though every statement went well', async () => {
    const work = inBusiness(fixture.db, tenant.business_id, async (tx) => {
      tx.send(renamed, [tx.business_id, 'another name'], 2);
      await tx.query('SELECT 1');
    });
    const counted = guardErrors.count;
    await expect(work).rejects.toBeInstanceOf(GuardError);
    expect(guardErrors.count).toBe(counted + 1);
    const names = await fixture.rows('SELECT name FROM carillon.businesses WHERE business_id = $1', [
      tenant.business_id,
    ]);
    expect(names).toEqual([{ name: 'A business' }]);
    expect(unhandled).toEqual([]);
  });
});
