import type { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { appFunctions, appGrants, appUpdates, discoveryColumns } from '../src/db/access-table.ts';
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
  const asApp = <T>(work: (client: Client) => Promise<T>) => withClient(db.appUrl, work);

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

  it('without a business gets an error from every table, and so it does when the setting is empty', async () => {
    const answers: Record<string, string> = {};
    await asApp(async (client) => {
      for (const table of tenantTables())
        answers[table] = await client.query(`SELECT * FROM carillon.${table}`).then(
          ({ rows }) => `${rows.length} rows`,
          (error: { code: string }) => error.code,
        );
    });
    // 42704: an unknown setting.
    expect(answers).toEqual(Object.fromEntries(tenantTables().map((table) => [table, '42704'])));
    await asApp(async (client) => {
      // After a transaction that set it, an earlier one of the same session, the setting is an empty text.
      await client.query("BEGIN; SET LOCAL carillon.business_id = '1'; COMMIT");
      for (const table of tenantTables())
        await expect(client.query(`SELECT * FROM carillon.${table}`), table).rejects.toMatchObject({ code: '22P02' });
    });
  });

  it('sees the rows of its business in every table, and no other', async () => {
    const seen: Record<string, unknown> = {};
    await asApp(async (client) => {
      await client.query("BEGIN; SET LOCAL carillon.business_id = '1'");
      for (const table of tenantTables()) {
        const { rows } = await client.query(`SELECT DISTINCT business_id::int FROM carillon.${table}`);
        seen[table] = rows;
      }
    });
    expect(seen).toEqual(Object.fromEntries(tenantTables().map((table) => [table, [{ business_id: 1 }]])));
  });

  it('neither changes nor deletes nor adopts rows of another business', async () => {
    const touched: Record<string, (number | string | null)[]> = {};
    await asApp(async (client) => {
      await client.query("BEGIN; SET LOCAL carillon.business_id = '1'");
      for (const table of tenantTables()) {
        touched[table] = [];
        for (const sql of [
          `UPDATE carillon.${table} SET business_id = business_id WHERE business_id = 2`,
          `DELETE FROM carillon.${table} WHERE business_id = 2`,
          `UPDATE carillon.${table} SET business_id = 2`,
          `INSERT INTO carillon.${table} SELECT (jsonb_populate_record(t, '{"business_id": 2}')).* FROM carillon.${table} t`,
        ]) {
          await client.query('SAVEPOINT one');
          const answer = await client.query(sql).then(
            ({ rowCount }) => rowCount,
            (error: { code: string; message: string }) => `${error.code} ${error.message.split(' ', 4).join(' ')}`,
          );
          touched[table].push(answer);
          await client.query('ROLLBACK TO one');
        }
      }
    });
    const denied = expect.stringMatching(/^42501 permission denied for/);
    const wall = expect.stringMatching(/^(42501 new row violates|428C9 )/);
    for (const [table, answers] of Object.entries(touched)) {
      const may = (privilege: 'UPDATE' | 'DELETE') => appGrants[table]?.includes(privilege);
      expect([table, ...answers]).toEqual([
        table,
        may('UPDATE') ? 0 : denied,
        may('DELETE') ? 0 : denied,
        may('UPDATE') ? wall : denied,
        wall,
      ]);
    }
  });

  it('writes history and never changes it', async () => {
    await asApp(async (client) => {
      await client.query("SET carillon.business_id = '1'");
      for (const sql of [
        'UPDATE carillon.attempts SET cause = NULL',
        'DELETE FROM carillon.attempts',
        'TRUNCATE carillon.attempts',
        'UPDATE carillon.schema_migrations SET version = 0',
      ])
        await expect(client.query(sql), sql).rejects.toMatchObject({ code: '42501' });
      expect((await client.query('SELECT FROM carillon.attempts')).rowCount).toBe(1);
    });
  });

  it('has exactly the privileges of the list', async () => {
    const { rows } = await withClient(db.superuserUrl, (client) =>
      client.query<{ grant: string }>(
        `SELECT c.relname || ' ' || p AS "grant"
           FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p
          WHERE c.relnamespace = 'carillon'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
            AND has_table_privilege($1, c.oid, p)`,
        [db.logins.app],
      ),
    );
    const listed = Object.entries(appGrants).flatMap(([table, privileges]) => privileges.map((p) => `${table} ${p}`));
    expect(rows.map((row) => row.grant).sort()).toEqual(listed.sort());
  });

  it('may update, by column, what the list says and no other column of those tables', async () => {
    const { rows } = await withClient(db.superuserUrl, (client) =>
      client.query<{ may: string }>(
        `SELECT c.relname || '.' || a.attname AS may FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
          WHERE c.relnamespace = 'carillon'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0
            AND NOT a.attisdropped AND NOT has_table_privilege($1, c.oid, 'UPDATE')
            AND has_column_privilege($1, c.oid, a.attnum, 'UPDATE')`,
        [db.logins.app],
      ),
    );
    const listed = Object.entries(appUpdates).flatMap(([table, columns]) => columns.map((c) => `${table}.${c}`));
    expect(rows.map(({ may }) => may).sort()).toEqual(listed.sort());
  });

  it('may call the functions of the list, and discovery none', async () => {
    const { rows } = await withClient(db.superuserUrl, (client) =>
      client.query<{ proname: string; app: boolean; discovery: boolean }>(
        `SELECT proname, has_function_privilege($1, oid, 'EXECUTE') AS app,
                has_function_privilege($2, oid, 'EXECUTE') AS discovery
           FROM pg_proc WHERE pronamespace = 'carillon'::regnamespace ORDER BY 1`,
        [db.logins.app, db.logins.discovery],
      ),
    );
    expect(rows).toEqual(appFunctions.map((proname) => ({ proname, app: true, discovery: false })));
  });
});

describe('the discovery login', () => {
  it('reads the listed columns of all businesses, and nothing else', async () => {
    const { rows } = await withClient(db.superuserUrl, (client) =>
      client.query<{ readable: string }>(
        `SELECT c.relname || '.' || a.attname AS readable FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
          WHERE c.relnamespace = 'carillon'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT a.attisdropped
            AND has_column_privilege($1, c.oid, a.attnum, 'SELECT')`,
        [db.logins.discovery],
      ),
    );
    const listed = Object.entries(discoveryColumns).flatMap(([table, columns]) => columns.map((c) => `${table}.${c}`));
    expect(rows.map(({ readable }) => readable).sort()).toEqual(listed.sort());
    await withClient(db.discoveryUrl, async (client) => {
      for (const [table, columns] of Object.entries(discoveryColumns)) {
        const { rows: found } = await client.query(`SELECT ${columns.join(', ')} FROM carillon.${table}`);
        expect(found.map(({ business_id }) => business_id).sort(), table).toEqual(['1', '2']);
        await expect(client.query(`SELECT * FROM carillon.${table}`)).rejects.toMatchObject({ code: '42501' });
      }
    });
  });

  it('writes nothing', async () => {
    const { rows } = await withClient(db.superuserUrl, (client) =>
      client.query(
        `SELECT c.relname, p FROM pg_class c, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p
          WHERE c.relnamespace = 'carillon'::regnamespace AND c.relkind IN ('r', 'p', 'v')
            AND (has_table_privilege($1, c.oid, p) OR p <> 'DELETE' AND p <> 'TRUNCATE'
                 AND has_any_column_privilege($1, c.oid, p))`,
        [db.logins.discovery],
      ),
    );
    expect(rows).toEqual([]);
  });
});
