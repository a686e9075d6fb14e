import { appFunctions, appGrants, appUpdates, discoveryColumns } from './access-table.ts';

export interface LoginNames {
  app: string;
  discovery: string;
}

/** One thing that somebody is allowed: on the schema, a sequence, a function, a table, or one column of a table. */
export interface Grant {
  kind: 'SCHEMA' | 'SEQUENCE' | 'FUNCTION' | 'TABLE';
  object: string;
  column: string | null;
  /** Null: PUBLIC. */
  grantee: string | null;
  privilege: string;
}

export function grantKey(g: Grant): string {
  return JSON.stringify([g.kind, g.object, g.column, g.grantee, g.privilege]);
}

/** What there is in the schema to be granted. */
export interface Grantable {
  tables: readonly string[];
  sequences: readonly string[];
  functions: readonly string[];
}

/** One row, of Grantable. */
export const GRANTABLE = `
  SELECT coalesce(array_agg(relname::text ORDER BY relname) FILTER (WHERE relkind IN ('r', 'p')), '{}') AS tables,
         coalesce(array_agg(relname::text ORDER BY relname) FILTER (WHERE relkind = 'S'), '{}') AS sequences,
         ARRAY(SELECT proname::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                WHERE n.nspname = 'carillon') AS functions
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'carillon'`;

/** What access-table.ts gives the two logins, of what there is. */
export function wantedGrants(logins: LoginNames, { tables, sequences, functions }: Grantable): Grant[] {
  const { app, discovery } = logins;
  const grant = (kind: Grant['kind'], object: string, grantee: string, privilege: string, column?: string): Grant => ({
    kind,
    object,
    column: column ?? null,
    grantee,
    privilege,
  });
  return [
    ...[app, discovery].map((login) => grant('SCHEMA', 'carillon', login, 'USAGE')),
    ...sequences.map((sequence) => grant('SEQUENCE', sequence, app, 'USAGE')),
    ...functions.filter((name) => appFunctions.includes(name)).map((name) => grant('FUNCTION', name, app, 'EXECUTE')),
    ...tables.flatMap((table) => [
      ...(appGrants[table] ?? []).map((privilege) => grant('TABLE', table, app, privilege)),
      ...(appUpdates[table] ?? []).map((column) => grant('TABLE', table, app, 'UPDATE', column)),
      ...(discoveryColumns[table] ?? []).map((column) => grant('TABLE', table, discovery, 'SELECT', column)),
    ]),
  ];
}

const GRANTED = `
  granted AS (
    SELECT 'SCHEMA' AS kind, n.nspname AS object, NULL AS "column", x.grantee, x.privilege_type
      FROM pg_namespace n, aclexplode(n.nspacl) x WHERE n.nspname = 'carillon'
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.relname, NULL, x.grantee, x.privilege_type
      FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid, aclexplode(c.relacl) x
     WHERE n.nspname = 'carillon'
    UNION ALL
    -- A function that nobody has spoken of may be called by everybody.
    SELECT 'FUNCTION', p.proname, NULL, x.grantee, x.privilege_type
      FROM pg_namespace n JOIN pg_proc p ON p.pronamespace = n.oid,
           aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
     WHERE n.nspname = 'carillon'
    UNION ALL
    SELECT 'TABLE', c.relname, a.attname, x.grantee, x.privilege_type
      FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid JOIN pg_attribute a ON a.attrelid = c.oid,
           aclexplode(a.attacl) x
     WHERE n.nspname = 'carillon' AND NOT a.attisdropped)`;

/** What is granted to the logins $1 and $2 by name, and to everybody: rows of Grant. */
export const GRANTS_BY_NAME = `
  WITH ${GRANTED}
  SELECT g.kind, g.object::text, g."column"::text, r.rolname::text AS grantee, g.privilege_type AS privilege
    FROM granted g LEFT JOIN pg_roles r ON r.oid = g.grantee
   WHERE g.grantee = 0 OR r.rolname IN ($1, $2)`;

/** A grant that reaches a login; `via` is the role through which, where it is not its own: null where it is. */
export interface ReachingGrant extends Grant {
  via: string | null;
}

/** What the logins $1 and $2 may do by whatever way, or could after SET ROLE: rows of ReachingGrant. */
export const GRANTS_IN_REACH = `
  WITH ${GRANTED}
  SELECT g.kind, g.object::text, g."column"::text, l.rolname::text AS grantee, g.privilege_type AS privilege,
         CASE WHEN g.grantee = 0 THEN 'PUBLIC' WHEN g.grantee <> l.oid THEN r.rolname::text END AS via
    FROM granted g JOIN pg_roles l ON l.rolname IN ($1, $2) LEFT JOIN pg_roles r ON r.oid = g.grantee
   WHERE g.grantee = 0 OR pg_has_role(l.oid, g.grantee, 'MEMBER')`;
