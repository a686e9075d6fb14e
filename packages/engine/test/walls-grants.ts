import type { Client } from 'pg';
import { appFunctions, appGrants, appUpdates, discoveryColumns } from '../src/db/access-table.ts';
import { readSequences } from './walls-catalog.ts';

export interface WallLogins {
  app: string;
  discovery: string;
}

/** Grants in the schema that access-table.ts does not say, and those that it says and that are not there. */
export async function grantOffences(client: Client, { app, discovery }: WallLogins): Promise<string[]> {
  const { rows } = await client.query<{ line: string }>(
    `SELECT g.what || ': ' || g.privilege || ' to ' || CASE WHEN g.grantee = 0 THEN 'everybody' ELSE g.grantee::regrole::text END
            || CASE WHEN g.grantable THEN ', to pass on' ELSE '' END AS line
       FROM (
         SELECT 'schema' AS what, nspowner AS owner, x.privilege_type AS privilege, x.grantee, x.is_grantable AS grantable
           FROM pg_namespace, aclexplode(nspacl) x WHERE nspname = 'carillon'
         UNION ALL
         SELECT relname, relowner, x.privilege_type, x.grantee, x.is_grantable
           FROM pg_class, aclexplode(relacl) x WHERE relnamespace = 'carillon'::regnamespace
         UNION ALL
         SELECT proname, proowner, x.privilege_type, x.grantee, x.is_grantable
           FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) x
          WHERE pronamespace = 'carillon'::regnamespace
         UNION ALL
         SELECT relname || '.' || attname, relowner, x.privilege_type, x.grantee, x.is_grantable
           FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl) x
          WHERE relnamespace = 'carillon'::regnamespace AND NOT attisdropped) g
      WHERE g.grantee <> g.owner`,
  );
  const granted = new Set(rows.map(({ line }) => line));
  const listed = new Set([
    `schema: USAGE to ${app}`,
    `schema: USAGE to ${discovery}`,
    ...(await readSequences(client)).map((sequence) => `${sequence}: USAGE to ${app}`),
    ...Object.entries(appGrants).flatMap(([table, privileges]) => privileges.map((p) => `${table}: ${p} to ${app}`)),
    ...Object.entries(appUpdates).flatMap(([table, columns]) => columns.map((c) => `${table}.${c}: UPDATE to ${app}`)),
    ...appFunctions.map((name) => `${name}: EXECUTE to ${app}`),
    ...Object.entries(discoveryColumns).flatMap(([table, columns]) =>
      columns.map((column) => `${table}.${column}: SELECT to ${discovery}`),
    ),
  ]);
  return [
    ...[...granted].filter((line) => !listed.has(line)).map((line) => `too much: ${line}`),
    ...[...listed].filter((line) => !granted.has(line)).map((line) => `missing: ${line}`),
  ];
}
