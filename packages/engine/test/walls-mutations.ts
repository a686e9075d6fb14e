import { type Client, escapeIdentifier as id } from 'pg';
import { appFunctions, appGrants, appUpdates, discoveryColumns } from '../src/db/access-table.ts';
import type { TestLogins } from '../../../test/support/test-server.ts';
import type { AnyTable } from './walls-catalog.ts';
import type { WallTable } from './walls.ts';

/** Who is to notice: the rules about the catalog, the list of grants, and what each login is seen to reach. */
export type Watcher = 'rules' | 'grants' | 'application' | 'discovery' | 'owner' | 'sequences';

/** One hole in the walls. */
export interface Mutation {
  name: string;
  sql: string;
  /** The table, or the sequence, that it is in. */
  where: string;
  /** Each of them must notice it. */
  noticed_by: Watcher[];
}

type Logins = Pick<TestLogins, 'owner' | 'app' | 'discovery'>;

/** Every policy changed and removed, and row security switched off. */
export function wallMutations(walls: readonly WallTable[], { owner }: Logins): Mutation[] {
  return walls.flatMap(({ name: where }) => {
    const table = `carillon.${where}`;
    const hole = (name: string, sql: string, noticed_by: Watcher[] = ['rules', 'application']): Mutation => ({
      name: `${where}: ${name}`,
      sql,
      where,
      noticed_by,
    });
    return [
      hole('no policy', `DROP POLICY business_wall ON ${table}`),
      hole('a policy that lets everything be read', `ALTER POLICY business_wall ON ${table} USING (true)`),
      hole('a policy that lets everything be written', `ALTER POLICY business_wall ON ${table} WITH CHECK (true)`),
      hole('a policy for the owner alone', `ALTER POLICY business_wall ON ${table} TO ${id(owner)}`),
      hole('a second policy', `CREATE POLICY more ON ${table} FOR SELECT USING (true)`),
      hole(
        'a policy that takes no setting for no business',
        `ALTER POLICY business_wall ON ${table}
           USING (business_id = coalesce(nullif(current_setting('carillon.business_id', true), '')::bigint, business_id))`,
      ),
      hole('no ENABLE', `ALTER TABLE ${table} DISABLE ROW LEVEL SECURITY`, ['rules', 'application', 'owner']),
      hole('no FORCE', `ALTER TABLE ${table} NO FORCE ROW LEVEL SECURITY`, ['rules', 'owner']),
    ];
  });
}

const PRIVILEGES = ['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] as const;

/** Every privilege of the application taken away, and every one that it has not given; to everybody as well. */
export function grantMutations(tables: readonly AnyTable[], walls: readonly WallTable[], { app }: Logins): Mutation[] {
  const walled = new Set(walls.map(({ name }) => name));
  return tables.flatMap(({ name: where, columns }) => {
    const table = `carillon.${where}`;
    const noticed_by: Watcher[] = walled.has(where) ? ['grants', 'application'] : ['grants'];
    const has = (privilege: string) => appGrants[where]?.some((other) => other === privilege);
    const updates = appUpdates[where] ?? [];
    const other = columns.find((column) => !updates.includes(column)) ?? '';
    return [
      ...PRIVILEGES.map((privilege): Mutation => {
        const sql = has(privilege)
          ? `REVOKE ${privilege} ON ${table} FROM ${id(app)}`
          : `GRANT ${privilege} ON ${table} TO ${id(app)}`;
        return { name: sql, sql, where, noticed_by };
      }),
      ...[
        `GRANT REFERENCES, TRIGGER ON ${table} TO ${id(app)}`,
        `GRANT SELECT ON ${table} TO PUBLIC`,
        `GRANT SELECT ON ${table} TO ${id(app)} WITH GRANT OPTION`,
        `GRANT UPDATE (${other}) ON ${table} TO ${id(app)}`,
        ...updates.map((column) => `REVOKE UPDATE (${column}) ON ${table} FROM ${id(app)}`),
      ].map((sql): Mutation => ({ name: sql, sql, where, noticed_by: ['grants'] })),
    ];
  });
}

/** Every column of discovery taken away and every other given, every write given, its policies changed and removed. */
export function discoveryMutations(tables: readonly AnyTable[], { discovery }: Logins): Mutation[] {
  return tables.flatMap(({ name: where, columns }) => {
    const table = `carillon.${where}`;
    const listed = discoveryColumns[where] ?? [];
    const noticed_by: Watcher[] = ['grants', 'discovery'];
    const grants = [
      ...columns.map((column) =>
        listed.includes(column)
          ? `REVOKE SELECT (${column}) ON ${table} FROM ${id(discovery)}`
          : `GRANT SELECT (${column}) ON ${table} TO ${id(discovery)}`,
      ),
      ...PRIVILEGES.map((privilege) => `GRANT ${privilege} ON ${table} TO ${id(discovery)}`),
    ].map((sql): Mutation => ({ name: sql, sql, where, noticed_by }));
    if (listed.length === 0 || !columns.includes('business_id')) return grants;
    return [
      ...grants,
      {
        name: `${where}: discovery_read dropped`,
        sql: `DROP POLICY discovery_read ON ${table}`,
        where,
        noticed_by: ['discovery'],
      },
      {
        name: `${where}: discovery_read for everybody`,
        sql: `ALTER POLICY discovery_read ON ${table} TO PUBLIC`,
        where,
        noticed_by: ['application', 'owner'],
      },
      {
        name: `${where}: discovery_read for writing too`,
        sql: `DROP POLICY discovery_read ON ${table};
              CREATE POLICY discovery_read ON ${table} TO ${id(discovery)} USING (true)`,
        where,
        noticed_by: ['rules'],
      },
    ];
  });
}

export function sequenceMutations(sequences: readonly string[], { app, discovery }: Logins): Mutation[] {
  return sequences.flatMap((where) =>
    [
      `REVOKE USAGE ON SEQUENCE carillon.${where} FROM ${id(app)}`,
      `GRANT SELECT ON SEQUENCE carillon.${where} TO ${id(app)}`,
      `GRANT UPDATE ON SEQUENCE carillon.${where} TO ${id(app)}`,
      `GRANT USAGE ON SEQUENCE carillon.${where} TO ${id(discovery)}`,
    ].map((sql): Mutation => ({ name: sql, sql, where, noticed_by: ['grants', 'sequences'] })),
  );
}

export function functionMutations({ app, discovery }: Logins): Mutation[] {
  return appFunctions.flatMap((where) =>
    [
      `REVOKE EXECUTE ON FUNCTION carillon.${where} FROM ${id(app)}`,
      `GRANT EXECUTE ON FUNCTION carillon.${where} TO ${id(discovery)}`,
      `GRANT EXECUTE ON FUNCTION carillon.${where} TO PUBLIC`,
    ].map((sql): Mutation => ({ name: sql, sql, where, noticed_by: ['grants'] })),
  );
}

export function schemaMutations({ app, discovery }: Logins): Mutation[] {
  return [app, discovery].flatMap((login) =>
    [`GRANT CREATE ON SCHEMA carillon TO ${id(login)}`, `REVOKE USAGE ON SCHEMA carillon FROM ${id(login)}`].map(
      (sql): Mutation => ({ name: sql, sql, where: 'schema', noticed_by: ['grants'] }),
    ),
  );
}

interface KeyRow {
  table: string;
  name: string;
  kind: 'p' | 'u' | 'f';
  target: string | null;
  /** Without the business. */
  columns: string[];
  target_columns: string[];
  definition: string;
}

/** Every primary key, unique constraint and foreign key: removed, and without the business in it. */
export async function keyMutations(client: Client, walls: readonly WallTable[]): Promise<Mutation[]> {
  const { rows } = await client.query<KeyRow>(
    `SELECT k.conrelid::regclass::text AS "table", k.conname::text AS name, k.contype AS kind,
            nullif(k.confrelid, 0)::regclass::text AS target, pg_get_constraintdef(k.oid) AS definition,
            ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u (n, at)
                    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n
                   WHERE a.attname <> 'business_id' ORDER BY at) AS columns,
            ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u (n, at)
                    JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n
                   WHERE a.attname <> 'business_id' ORDER BY at) AS target_columns
       FROM pg_constraint k
      WHERE k.connamespace = 'carillon'::regnamespace AND k.contype IN ('p', 'u', 'f')
        AND k.conrelid::regclass::text = ANY ($1) ORDER BY 1, 2`,
    [walls.map(({ name }) => `carillon.${name}`)],
  );
  const foreign = new Map(walls.map((wall) => [wall.name, wall.foreign_keys.map(({ name }) => name)]));
  return rows.flatMap((key) => {
    const where = key.table.replace('carillon.', '');
    const hole = (name: string, sql: string, noticed_by: Watcher[]): Mutation[] => [
      { name: `${where}: ${name}`, sql, where, noticed_by },
    ];
    const reached: Watcher[] = foreign.get(where)?.includes(key.name) ? ['rules', 'application'] : ['rules'];
    const drop = `ALTER TABLE ${key.table} DROP CONSTRAINT ${id(key.name)} CASCADE`;
    // One more way to the business than is needed: the tables between lead there as well.
    const implied =
      key.kind === 'f' && key.columns.length === 0 && (foreign.get(where) ?? []).some((other) => other !== key.name);
    const removed = implied ? [] : hole(`${key.name} dropped`, drop, key.kind === 'f' ? reached : ['rules']);
    if (key.columns.length === 0) return removed;
    const bare = key.columns.map(id).join(', ');
    if (key.kind === 'f') {
      const target = key.target_columns.map(id).join(', ');
      const sql = `ALTER TABLE ${key.target} ADD UNIQUE (${target}); ${drop};
        ALTER TABLE ${key.table} ADD CONSTRAINT ${id(key.name)} FOREIGN KEY (${bare}) REFERENCES ${key.target} (${target})`;
      return [...removed, ...hole(`${key.name} without the business`, sql, reached)];
    }
    const again = (columns: string) =>
      `${drop}; ALTER TABLE ${key.table} ADD CONSTRAINT ${id(key.name)} ${key.kind === 'p' ? 'PRIMARY KEY' : 'UNIQUE'} (${columns})`;
    return [
      ...removed,
      ...hole(`${key.name} without the business`, again(bare), ['rules']),
      ...hole(`${key.name} with the business last`, again(`${bare}, business_id`), ['rules']),
    ];
  });
}
