import { escapeIdentifier } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import {
  discover,
  GuardError,
  guardErrors,
  inBusiness,
  openDatabase,
  queryGlobal,
  transactionRetries,
  type Tx,
} from '../src/db/database.ts';
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

/** Runs `work` twice at once, each behind the first statement of the other. */
async function crossed(work: (tx: Tx, mine: number, meet: () => Promise<void>) => Promise<void>): Promise<void> {
  const arrived = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  await Promise.all(
    [0, 1].map((mine) =>
      inBusiness(fixture.db, tenant.business_id, (tx) =>
        work(tx, mine, async () => {
          arrived[mine]?.resolve();
          await arrived[1 - mine]?.promise;
        }),
      ),
    ),
  );
}

describe('a transaction that is not to blame', () => {
  it('is tried again after a deadlock', async () => {
    const lists = await fixture.rows<{ list_id: string }>(
      "INSERT INTO carillon.lists (business_id, name) SELECT $1, 'deadlock' FROM generate_series(1, 2) RETURNING list_id",
      [tenant.business_id],
    );
    const counted = transactionRetries.count;
    const tries = [0, 0];
    await crossed(async (tx, mine, meet) => {
      const touch = 'UPDATE carillon.lists SET leads = leads + 1 WHERE business_id = $1 AND list_id = $2';
      // Who is tried again goes in one order, or they would meet again.
      const first = (tries[mine] ?? 0) > 0 ? 0 : mine;
      tries[mine] = (tries[mine] ?? 0) + 1;
      await tx.query(touch, [tx.business_id, lists[first]?.list_id]);
      await meet();
      await tx.query(touch, [tx.business_id, lists[1 - first]?.list_id]);
    });
    expect(transactionRetries.count).toBe(counted + 1);
    const touched = await fixture.rows("SELECT leads FROM carillon.lists WHERE name = 'deadlock'");
    expect(touched).toEqual([{ leads: 2 }, { leads: 2 }]);
  });

  it('is tried again after a serialisation failure', async () => {
    const [list] = await fixture.rows<{ list_id: string }>(
      "INSERT INTO carillon.lists (business_id, name) VALUES ($1, 'serialised') RETURNING list_id",
      [tenant.business_id],
    );
    const counted = transactionRetries.count;
    await crossed(async (tx, _mine, meet) => {
      tx.send('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
      const key = [tx.business_id, list?.list_id];
      await tx.query('SELECT leads FROM carillon.lists WHERE business_id = $1 AND list_id = $2', key);
      await meet();
      await tx.query('UPDATE carillon.lists SET leads = leads + 1 WHERE business_id = $1 AND list_id = $2', key);
    });
    expect(transactionRetries.count).toBeGreaterThan(counted);
    expect(await fixture.rows("SELECT leads FROM carillon.lists WHERE name = 'serialised'")).toEqual([{ leads: 2 }]);
  });

  it('is tried again on a fresh connection after a migration', async () => {
    const db = openDatabase({ app_url: fixture.appUrl, discovery_url: fixture.discoveryUrl, pool_connections: 1 });
    try {
      const look = () =>
        inBusiness(db, tenant.business_id, (tx) =>
          tx.query('SELECT * FROM carillon.lists WHERE business_id = $1', [tx.business_id]),
        );
      await look();
      await fixture.rows('ALTER TABLE carillon.lists ADD COLUMN later integer');
      const counted = transactionRetries.count;
      expect((await look())[0]).toHaveProperty('later');
      expect(transactionRetries.count).toBe(counted + 1);
    } finally {
      await db.close();
    }
  });

  it('is given up after five more tries', async () => {
    let tries = 0;
    const work = inBusiness(fixture.db, tenant.business_id, async (tx) => {
      tries++;
      // As a test, not to wait for ever where nobody counts.
      if (tries > 20) throw new Error('tried for ever');
      await tx.query("DO $$ BEGIN RAISE EXCEPTION 'as if' USING ERRCODE = '40001'; END $$");
    });
    await expect(work).rejects.toMatchObject({ code: '40001' });
    expect(tries).toBe(6);
  });
});

describe('a connection', () => {
  it('that was in a business: it leaves no business behind on its connection', async () => {
    const db = openDatabase({ app_url: fixture.appUrl, discovery_url: fixture.discoveryUrl, pool_connections: 1 });
    try {
      await inBusiness(db, tenant.business_id, (tx) => tx.query('SELECT 1'));
      const [row] = await queryGlobal<{ business: string | null }>(
        db,
        "SELECT nullif(current_setting('carillon.business_id', true), '') AS business",
      );
      expect(row).toEqual({ business: null });
    } finally {
      await db.close();
    }
  });

  it('takes one statement at a door without a business', async () => {
    await expect(queryGlobal(fixture.db, 'SELECT 1; SELECT 2')).rejects.toMatchObject({ code: '42601' });
    await expect(discover(fixture.db, 'SELECT 1; SELECT 2')).rejects.toMatchObject({ code: '42601' });
  });

  it('of a transaction that stands still is ended by the server', async () => {
    const [login, database] = [escapeIdentifier(fixture.logins.app), escapeIdentifier(fixture.name)];
    // Without what the login itself has set.
    await fixture.rows(`ALTER ROLE ${login} IN DATABASE ${database} SET idle_in_transaction_session_timeout = 0`);
    const db = openDatabase({
      app_url: fixture.appUrl,
      discovery_url: fixture.discoveryUrl,
      idle_in_transaction_timeout_ms: 300,
    });
    try {
      const { promise: ended, resolve: end } = Promise.withResolvers<void>();
      const still = inBusiness(db, tenant.business_id, async (tx) => {
        const [row] = await tx.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
        await until(
          async () => (await fixture.rows('SELECT 1 FROM pg_stat_activity WHERE pid = $1', [row?.pid])).length === 0,
          { deadline_ms: 20_000, what: 'the end of the connection' },
        ).finally(end);
      });
      await ended;
      await expect(still).rejects.toThrow(/terminat|closed|ECONNRESET|error/i);
    } finally {
      await db.close();
    }
  });

  it('whose answer does not come gives its connection up', async () => {
    const db = openDatabase({
      app_url: fixture.appUrl,
      discovery_url: fixture.discoveryUrl,
      query_timeout_ms: 200,
    });
    try {
      await expect(queryGlobal(db, 'SELECT pg_sleep(20)')).rejects.toThrow(/timeout/i);
    } finally {
      await fixture.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(20)%'",
      );
      await db.close();
    }
  });
});
