import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { type Database, discover, inBusiness, openDatabase, queryGlobal, type Tx } from '../src/db/database.ts';
import { isConnectionLost, OutcomeUnknownError, type Patience, withPatience } from '../src/db/patience.ts';
import { createFixture, createTenant, type Fixture, type Tenant } from './support/fixture.ts';
import { type Gate, startGate } from './support/gate.ts';

let fixture: Fixture;
let tenant: Tenant;
let gate: Gate;
let db: Database;
beforeAll(async () => {
  fixture = await createFixture();
  tenant = await createTenant(fixture, { leads: 1 });
  gate = await startGate(fixture.appUrl);
  db = openDatabase({ app_url: gate.url(fixture.appUrl), discovery_url: gate.url(fixture.discoveryUrl) });
});
afterAll(async () => {
  await db.close();
  await gate.shut();
  await fixture.close();
});
beforeEach(async () => {
  await fixture.rows("UPDATE carillon.businesses SET name = ':' WHERE business_id = $1", [tenant.business_id]);
});

const patient: Patience = { wait_ms: 30_000, isOver: () => false, repeatable: false };

/** Each time that it is committed shows. */
const mark = async (tx: Tx) =>
  await tx.query(`UPDATE carillon.businesses SET name = name || 'x' WHERE business_id = $1`, [tx.business_id]);

async function marks(): Promise<string | undefined> {
  const [row] = await fixture.rows<{ name: string }>('SELECT name FROM carillon.businesses WHERE business_id = $1', [
    tenant.business_id,
  ]);
  return row?.name.slice(1);
}

const cut = () =>
  fixture.rows(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1`, [fixture.logins.app]);

describe('a database that can not be reached', () => {
  it('is an error at once for whoever has no patience', async () => {
    await gate.shut();
    try {
      await expect(inBusiness(db, tenant.business_id, mark)).rejects.toSatisfy(isConnectionLost);
    } finally {
      await gate.open();
    }
  });

  it('is waited for by all who have patience, in transactions and alone, and they go on by themselves', async () => {
    await gate.shut();
    let over = 0;
    const many = [
      ...Array.from({ length: 12 }, () => () => inBusiness(db, tenant.business_id, mark)),
      () => discover(db, 'SELECT count(*) FROM carillon.businesses'),
      () => queryGlobal(db, 'SELECT 1'),
    ].map((work) => withPatience(patient, work).finally(() => over++));
    // As long as several looks of those who wait.
    const since_ms = performance.now();
    await until(() => performance.now() - since_ms > 500, { deadline_ms: 10_000 });
    expect(over).toBe(0);
    await gate.open();
    await Promise.all(many);
    expect(await marks()).toBe('x'.repeat(12));
  });

  it('is an error after the time that may be waited, and at once when nobody waits any more', async () => {
    await gate.shut();
    try {
      const brief = withPatience({ ...patient, wait_ms: 50 }, () => inBusiness(db, tenant.business_id, mark));
      await expect(brief).rejects.toSatisfy(isConnectionLost);
      const left = withPatience({ ...patient, isOver: () => true }, () => inBusiness(db, tenant.business_id, mark));
      await expect(left).rejects.toSatisfy(isConnectionLost);
    } finally {
      await gate.open();
    }
    expect(await marks()).toBe('');
  });
});

describe('a connection that breaks before COMMIT is sent', () => {
  it('has done nothing, and the transaction is run again', async () => {
    let tries = 0;
    await withPatience(patient, () =>
      inBusiness(db, tenant.business_id, async (tx) => {
        await mark(tx);
        if (tries++ === 0) await cut();
        await tx.query('SELECT 1');
      }),
    );
    expect({ tries, marks: await marks() }).toEqual({ tries: 2, marks: 'x' });
  });

  it('fails a transaction whose work goes wrong by itself, as it is', async () => {
    const work = withPatience(patient, () => inBusiness(db, tenant.business_id, (tx) => tx.query('SELECT 1 / 0')));
    await expect(work).rejects.toMatchObject({ code: '22012' });
  });
});

describe('a connection that breaks between COMMIT and its answer', () => {
  it('leaves open whether it was done, and is never tried again by itself', async () => {
    const lost = gate.loseNextCommit();
    const work = withPatience(patient, () => inBusiness(db, tenant.business_id, mark));
    await expect(work).rejects.toBeInstanceOf(OutcomeUnknownError);
    expect({ lost: lost(), marks: await marks() }).toEqual({ lost: 1, marks: 'x' });
  });

  it('is tried again where doing it twice is like doing it once', async () => {
    gate.loseNextCommit();
    await withPatience({ ...patient, repeatable: true }, () => inBusiness(db, tenant.business_id, mark));
    // Which this is not: it shows that it was done twice.
    expect(await marks()).toBe('xx');
  });

  it('is the driver’s own error for whoever has no patience', async () => {
    gate.loseNextCommit();
    await expect(inBusiness(db, tenant.business_id, mark)).rejects.toSatisfy(isConnectionLost);
  });
});
