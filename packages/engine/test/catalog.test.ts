import type { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { appGrants, discoveryColumns } from '../src/db/access-table.ts';
import { CATALOG_RULES, type CatalogRule, GLOBAL_TABLES } from './catalog-rules.ts';
import { SEED } from './catalog-seed.ts';

let db: TestDatabase;
let tables: string[];
beforeAll(async () => {
  db = await createTestDatabase();
  tables = await withClient(db.superuserUrl, async (client) => {
    await client.query(SEED);
    const { rows } = await client.query<{ relname: string }>(
      "SELECT relname FROM pg_class WHERE relnamespace = 'carillon'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1",
    );
    // Sorted here, because the server's order depends on its locale.
    return rows.map(({ relname }) => relname).sort();
  });
});
afterAll(() => db.drop());

const tenantTables = () => tables.filter((table) => !(table in GLOBAL_TABLES));

async function offences(client: Client, rule: CatalogRule): Promise<string[]> {
  const { rows } = await client.query<{ offence: string }>(rule.find, rule.params as unknown[] | undefined);
  return rows.map(({ offence }) => String(offence));
}

describe('every table that will ever be added', () => {
  it.each(CATALOG_RULES.map((rule) => [rule.name, rule] as const))('%s', async (_, rule) => {
    await withClient(db.superuserUrl, async (client) => {
      expect(await offences(client, rule)).toEqual([]);
      // The rule itself can fail.
      await client.query('BEGIN');
      await client.query(rule.offender);
      expect(await offences(client, rule)).not.toEqual([]);
      await client.query('ROLLBACK');
    });
  });

  it('is in the list of grants, and the lists name nothing that is not there', async () => {
    expect(Object.keys(appGrants).sort()).toEqual(tables);
    expect(tables).toEqual(expect.arrayContaining(Object.keys(GLOBAL_TABLES)));
    expect(tenantTables()).toEqual(expect.arrayContaining(Object.keys(discoveryColumns)));
  });

  it('has rows of two businesses in the seed of this test', async () => {
    const counted = await withClient(db.superuserUrl, async (client) => {
      const counts: Record<string, number> = {};
      for (const table of tenantTables()) {
        const { rows } = await client.query(`SELECT count(DISTINCT business_id)::int AS n FROM carillon.${table}`);
        counts[table] = rows[0].n;
      }
      return counts;
    });
    expect(counted).toEqual(Object.fromEntries(tenantTables().map((table) => [table, 2])));
  });
});

describe('the application login', () => {
  it('owns nothing, is no member of discovery, and bypasses nothing', async () => {
    const { rows } = await withClient(db.superuserUrl, (client) =>
      client.query(
        `SELECT rolsuper, rolbypassrls, rolcreaterole, rolreplication, pg_has_role(r.oid, $2, 'MEMBER') AS member,
                (SELECT count(*)::int FROM pg_shdepend s WHERE s.refobjid = r.oid AND s.deptype = 'o') AS owned
           FROM pg_roles r WHERE rolname = $1`,
        [db.logins.app, db.logins.discovery],
      ),
    );
    expect(rows).toEqual([
      { rolsuper: false, rolbypassrls: false, rolcreaterole: false, rolreplication: false, member: false, owned: 0 },
    ]);
  });

  it('writes history and never changes it', async () => {
    await withClient(db.appUrl, async (client) => {
      await client.query("SET carillon.business_id = '1'");
      for (const sql of [
        'UPDATE carillon.attempts SET cause = NULL',
        'UPDATE carillon.audit_events SET at = now()',
        'UPDATE carillon.installation_events SET at = now()',
        ...['attempts', 'audit_events', 'installation_events'].flatMap((table) => [
          `DELETE FROM carillon.${table}`,
          `TRUNCATE carillon.${table}`,
        ]),
        'UPDATE carillon.schema_migrations SET version = 0',
      ])
        await expect(client.query(sql), sql).rejects.toMatchObject({ code: '42501' });
      expect((await client.query('SELECT FROM carillon.attempts')).rowCount).toBe(1);
    });
  });
});
