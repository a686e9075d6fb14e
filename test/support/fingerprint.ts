import { withClient } from './test-server.ts';

/**
 * The schema `carillon` as its catalogs have it, one line for each fact: tables with their options, columns, defaults,
 * constraints, indexes, policies, functions, triggers, sequences, grants, the history of migrations, and the settings
 * of `roles`. Two databases with the same lines behave the same. The names of `roles` are replaced by their keys, so
 * that databases with different logins can be compared.
 */
export async function fingerprint(superuserUrl: string, roles: Readonly<Record<string, string>>): Promise<string[]> {
  return withClient(superuserUrl, async (client) => {
    await client.query('SET search_path = pg_catalog');
    const { rows } = await client.query<{ fact: string }>(FACTS, [Object.values(roles)]);
    // Longest first: one login's name begins with another's.
    const names = Object.entries(roles).sort(([, a], [, b]) => b.length - a.length);
    return rows.map(({ fact }) => names.reduce((text, [key, name]) => text.replaceAll(name, `<${key}>`), fact)).sort();
  });
}

const FACTS = `
WITH rel AS (SELECT c.* FROM pg_class c WHERE c.relnamespace = 'carillon'::regnamespace),
grants AS (
  SELECT 'schema' AS what, n.nspacl AS acl, n.nspowner AS owner FROM pg_namespace n WHERE n.nspname = 'carillon'
  UNION ALL SELECT 'relation ' || relname, relacl, relowner FROM rel WHERE relkind IN ('r', 'p', 'v', 'm', 'S')
  UNION ALL SELECT 'column ' || relname || '.' || attname, attacl, NULL
              FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid AND NOT attisdropped
  UNION ALL SELECT 'function ' || p.oid::regprocedure, proacl, proowner
              FROM pg_proc p WHERE pronamespace = 'carillon'::regnamespace)
SELECT format('relation %s kind=%s persistence=%s rls=%s forced=%s owner=%s options=%s', relname, relkind,
         relpersistence, relrowsecurity, relforcerowsecurity, relowner::regrole, reloptions::text) AS fact FROM rel
UNION ALL
SELECT format('column %s.%s %s at %s notnull=%s default=%s identity=%s generated=%s collation=%s', relname, attname,
         format_type(atttypid, atttypmod), attnum, attnotnull, pg_get_expr(d.adbin, d.adrelid), attidentity,
         attgenerated, attcollation::regcollation)
  FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid AND attnum > 0 AND NOT attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = rel.oid AND d.adnum = attnum
UNION ALL
SELECT format('constraint %s.%s %s validated=%s', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated)
  FROM pg_constraint WHERE connamespace = 'carillon'::regnamespace
UNION ALL
SELECT format('index %s valid=%s ready=%s clustered=%s', pg_get_indexdef(indexrelid), indisvalid, indisready,
         indisclustered) FROM pg_index JOIN rel ON rel.oid = indexrelid
UNION ALL
SELECT format('policy %s.%s %s permissive=%s roles=%s using=%s check=%s', relname, polname, polcmd, polpermissive,
         ARRAY(SELECT CASE WHEN o = 0 THEN 'public' ELSE o::regrole::text END FROM unnest(polroles) o ORDER BY 1),
         pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
  FROM pg_policy JOIN rel ON rel.oid = polrelid
UNION ALL
SELECT format('function %s', pg_get_functiondef(oid)) FROM pg_proc
 WHERE pronamespace = 'carillon'::regnamespace AND prokind <> 'a'
UNION ALL
SELECT format('trigger %s', pg_get_triggerdef(t.oid)) FROM pg_trigger t JOIN rel ON rel.oid = tgrelid
 WHERE NOT tgisinternal
UNION ALL
SELECT format('sequence %s %s start=%s by=%s min=%s max=%s cycle=%s', relname, seqtypid::regtype, seqstart,
         seqincrement, seqmin, seqmax, seqcycle) FROM pg_sequence JOIN rel ON rel.oid = seqrelid
UNION ALL
SELECT format('type %s %s %s', typname, typtype, ARRAY(SELECT enumlabel FROM pg_enum WHERE enumtypid = t.oid
         ORDER BY enumsortorder)) FROM pg_type t WHERE typnamespace = 'carillon'::regnamespace AND typrelid = 0
UNION ALL
SELECT format('comment %s %s %s', classoid::regclass, objsubid, description) FROM pg_description
  JOIN rel ON rel.oid = objoid AND classoid = 'pg_class'::regclass
UNION ALL
SELECT format('grant on %s: %s to %s%s', what, privilege_type,
         CASE WHEN grantee = 0 THEN 'public' ELSE grantee::regrole::text END,
         CASE WHEN is_grantable THEN ' grantable' END)
  FROM grants, aclexplode(acl) WHERE grantee IS DISTINCT FROM owner
UNION ALL
SELECT format('role %s super=%s createrole=%s createdb=%s login=%s replication=%s bypassrls=%s settings=%s', rolname,
         rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
         ARRAY(SELECT unnest(rolconfig) ORDER BY 1)) FROM pg_roles WHERE rolname = ANY($1)
UNION ALL
SELECT format('migration %s %s %s', version, name, checksum) FROM carillon.schema_migrations`;
