import { BusinessId, RunId } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomBytes } from 'node:crypto';
import { withClient } from '../../../test/support/test-server.ts';
import { inBusiness } from '../src/db/database.ts';
import { createCanary, findCanaries, removeCanary, startCanaryRun, stopCanaryRun } from '../src/probe/canary.ts';
import { claimAll, createFixture, createTenant, type Fixture, lease, record, startRun } from './support/fixture.ts';

const SECRET = randomBytes(32);
let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(() => fixture.close());

/** How many rows of each business each table has. */
async function rowsOf(): Promise<Record<string, Record<string, number>>> {
  const tables = await fixture.rows<{ relname: string }>(
    `SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE c.relnamespace = 'carillon'::regnamespace AND c.relkind = 'r' AND a.attname = 'business_id' ORDER BY 1`,
  );
  const counts: Record<string, Record<string, number>> = {};
  for (const { relname } of tables) {
    const rows = await fixture.rows<{ business_id: string; n: number }>(
      `SELECT business_id, count(*)::int AS n FROM carillon.${relname} GROUP BY 1`,
    );
    counts[relname] = Object.fromEntries(rows.map(({ business_id, n }) => [business_id, n]));
  }
  return counts;
}

describe('a canary', () => {
  it('is removed with everything in it, its history and its trail included, and nothing else is', async () => {
    const neighbour = await createTenant(fixture);
    await startRun(fixture, neighbour);
    const before = await rowsOf();
    const canary = await createCanary(fixture.db, SECRET);
    const run = await startCanaryRun(fixture.db, canary, fixture.limits);
    const mine = await lease(fixture, canary, RunId.parse(run.run_id));
    const [first] = await claimAll(fixture, mine, 2);
    if (!first) throw new Error('nothing was claimed');
    await record(fixture, first, { kind: 'rejected', code: '1', class: 'contact' });
    await stopCanaryRun(fixture.db, canary, RunId.parse(run.run_id));
    const during = await rowsOf();
    for (const table of ['leads', 'open_attempts', 'attempts', 'audit_events', 'outbound_call_jobs'])
      expect(during[table]?.[canary.business_id], table).toBeGreaterThan(0);
    expect(await removeCanary(fixture.db, canary.business_id)).toBe(true);
    expect(await rowsOf()).toEqual(before);
    expect(await removeCanary(fixture.db, canary.business_id)).toBe(false);
  });

  it('is found by the next check when nobody removed it, and only once it is old', async () => {
    const canary = await createCanary(fixture.db, SECRET);
    expect(await findCanaries(fixture.db, 600_000)).toEqual([]);
    await fixture.rows("UPDATE carillon.businesses SET created_at = now() - interval '11 minutes' WHERE canary");
    expect(await findCanaries(fixture.db, 600_000)).toEqual([canary.business_id]);
    await Promise.all([removeCanary(fixture.db, canary.business_id), removeCanary(fixture.db, canary.business_id)]);
    expect(await findCanaries(fixture.db, 0)).toEqual([]);
  });

  it('does not stay when its account can not be made', async () => {
    await expect(createCanary(fixture.db, Buffer.alloc(3))).rejects.toThrow('32 bytes');
    expect(await findCanaries(fixture.db, -60_000)).toEqual([]);
  });
});

describe('an ordinary business', () => {
  it('can not be removed, by its own transaction or by another one', async () => {
    const tenant = await createTenant(fixture);
    const before = await rowsOf();
    await expect(removeCanary(fixture.db, tenant.business_id)).rejects.toMatchObject({
      code: '42501',
      message: `business ${tenant.business_id} is no canary, and stays`,
    });
    const canary = await createCanary(fixture.db, SECRET);
    const other = inBusiness(fixture.db, canary.business_id, (tx) =>
      tx.query('SELECT carillon.remove_canary($1) AS removed', [tenant.business_id]),
    );
    expect(await other).toEqual([{ removed: false }]);
    await removeCanary(fixture.db, canary.business_id);
    expect(await rowsOf()).toEqual(before);
  });

  it('can not be turned into a canary by the application', async () => {
    const { business_id } = await createTenant(fixture);
    const turn = (sql: string) => inBusiness(fixture.db, business_id, (tx) => tx.query(sql, [business_id]));
    await expect(turn('UPDATE carillon.businesses SET canary = true WHERE business_id = $1')).rejects.toMatchObject({
      code: '42501',
    });
    await expect(turn('DELETE FROM carillon.businesses WHERE business_id = $1')).rejects.toMatchObject({
      code: '42501',
    });
    await expect(
      turn(`INSERT INTO carillon.businesses (business_id, name, canary) VALUES ($1, 'x', true)
            ON CONFLICT (business_id) DO UPDATE SET canary = true`),
    ).rejects.toMatchObject({ code: '42501' });
    await turn("UPDATE carillon.businesses SET name = 'Another name' WHERE business_id = $1");
    expect(
      await fixture.rows('SELECT name, canary FROM carillon.businesses WHERE business_id = $1', [business_id]),
    ).toEqual([{ name: 'Another name', canary: false }]);
  });

  it('is out of reach of discovery, which may not remove canaries either', async () => {
    const { business_id } = await createCanary(fixture.db, SECRET);
    await withClient(fixture.discoveryUrl, async (client) => {
      await client.query(`SET carillon.business_id = '${BusinessId.parse(business_id)}'`);
      await expect(client.query('SELECT carillon.remove_canary($1)', [business_id])).rejects.toMatchObject({
        code: '42501',
      });
    });
  });
});
