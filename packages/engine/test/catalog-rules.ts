import { discoveryColumns } from '../src/db/access-table.ts';
import { KEY_RULES } from './catalog-keys.ts';

/** Tables without a business, each with the reason why it may be one. Everything else has a business_id. */
export const GLOBAL_TABLES: Readonly<Record<string, string>> = {
  schema_migrations: 'what the runner has applied; belongs to the database',
  system_keys: 'a system administrator belongs to no business',
  workers: 'a worker serves every business, and its row tells nothing of any',
  installation_state: 'whether the whole database may have forgotten calls',
  witnesses: 'what processes that serve every business have written last',
  installation_events: 'what belongs to no business: strangers at the door, and the installation itself',
};

/** Tables whose rows are updated all the time, or come and go: vacuum must not wait for a fifth of them to be dead. */
const HOT_TABLES = ['lanes', 'outbound_call_runs', 'outbound_call_jobs', 'job_schedule', 'open_attempts', 'receipts'];
/** Of those, the ones that are updated in place: a full page has no room for a HOT update. */
const UPDATED_TABLES = ['lanes', 'outbound_call_runs', 'outbound_call_jobs', 'open_attempts'];

/**
 * A rule about everything in the schema `carillon`. `find` is a query that returns one row, with a column `offence`,
 * for each thing that breaks it; `offender` is SQL after which it must find something.
 */
export interface CatalogRule {
  name: string;
  find: string;
  params?: readonly (readonly string[])[];
  offender: string;
}

const TENANT_TABLES = `SELECT c.* FROM pg_class c
  WHERE c.relnamespace = 'carillon'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> ALL ($1)`;
const GLOBAL = [Object.keys(GLOBAL_TABLES)];
const WALL = "(business_id = (current_setting('carillon.business_id'::text))::bigint)";

const BUSINESS_FIRST: CatalogRule[] = [
  {
    name: 'every table has business_id bigint NOT NULL, or stands in the list of global ones',
    find: `SELECT t.relname AS offence FROM (${TENANT_TABLES}) t
            WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'business_id'
                                 AND a.atttypid = 'bigint'::regtype AND a.attnotnull)`,
    params: GLOBAL,
    offender: 'CREATE TABLE carillon.notes (business_id integer PRIMARY KEY)',
  },
  {
    name: 'every table has a primary key',
    find: `SELECT t.relname AS offence FROM (${TENANT_TABLES}) t
            WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indisprimary)`,
    params: GLOBAL,
    offender: 'ALTER TABLE carillon.attempts DROP CONSTRAINT attempts_pkey',
  },
  {
    // Otherwise a duplicate error tells of another business's row, and ON CONFLICT DO NOTHING loses one in silence.
    name: 'every primary key, unique constraint and unique or exclusion index starts with business_id',
    find: `SELECT i.indexrelid::regclass AS offence FROM (${TENANT_TABLES}) t JOIN pg_index i ON i.indrelid = t.oid
            WHERE (i.indisunique OR i.indisexclusion)
              AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = i.indkey[0]
                                 AND a.attname = 'business_id')`,
    params: GLOBAL,
    offender: 'CREATE UNIQUE INDEX ON carillon.leads (phone, business_id)',
  },
  {
    // A foreign key ignores row security: without the business in it, it would accept another business's row.
    name: 'every foreign key starts with business_id on both sides and stays in the schema',
    find: `SELECT f.conname AS offence FROM pg_constraint f
             JOIN pg_attribute here ON here.attrelid = f.conrelid AND here.attnum = f.conkey[1]
             JOIN pg_attribute there ON there.attrelid = f.confrelid AND there.attnum = f.confkey[1]
             JOIN pg_class target ON target.oid = f.confrelid
            WHERE f.contype = 'f' AND f.connamespace = 'carillon'::regnamespace
              AND (here.attname <> 'business_id' OR there.attname <> 'business_id'
                   OR target.relnamespace <> 'carillon'::regnamespace)`,
    offender: 'ALTER TABLE carillon.open_attempts ADD FOREIGN KEY (worker_id) REFERENCES carillon.workers NOT VALID',
  },
  {
    name: 'a second job for the same lead and run breaks the constraint unique_run_lead',
    find: `SELECT 'unique_run_lead' AS offence WHERE NOT EXISTS (
             SELECT FROM pg_constraint WHERE conname = 'unique_run_lead' AND convalidated AND NOT condeferrable
                AND conrelid = 'carillon.outbound_call_jobs'::regclass
                AND pg_get_constraintdef(oid) = 'UNIQUE (business_id, run_id, lead_id)')`,
    offender: `ALTER TABLE carillon.outbound_call_jobs DROP CONSTRAINT unique_run_lead,
                 ADD CONSTRAINT unique_run_lead UNIQUE (business_id, run_id, lead_id) DEFERRABLE`,
  },
];

const WALLS: CatalogRule[] = [
  {
    name: 'every table has row security, enabled and forced',
    find: `SELECT t.relname AS offence FROM (${TENANT_TABLES}) t WHERE NOT (t.relrowsecurity AND t.relforcerowsecurity)`,
    params: GLOBAL,
    offender: 'ALTER TABLE carillon.leads NO FORCE ROW LEVEL SECURITY',
  },
  {
    name: 'every table has the policy business_wall: for all commands, all roles, reading and writing',
    find: `SELECT t.relname AS offence FROM (${TENANT_TABLES}) t WHERE NOT EXISTS (
             SELECT FROM pg_policy p WHERE p.polrelid = t.oid AND p.polname = 'business_wall' AND p.polcmd = '*'
                AND p.polpermissive AND p.polroles = '{0}' AND pg_get_expr(p.polqual, t.oid) = ($2::text[])[1]
                AND pg_get_expr(p.polwithcheck, t.oid) = ($2::text[])[1])`,
    params: [...GLOBAL, [WALL]],
    offender: `ALTER POLICY business_wall ON carillon.lists
                 USING (business_id = (SELECT current_setting('carillon.business_id')::bigint))`,
  },
  {
    name: 'no other policy opens a table but discovery_read, where discovery may read columns',
    find: `SELECT p.polname || ' on ' || c.relname AS offence FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
            WHERE c.relnamespace = 'carillon'::regnamespace AND p.polname <> 'business_wall'
              AND NOT (p.polname = 'discovery_read' AND p.polcmd = 'r' AND c.relname = ANY ($1))`,
    params: [Object.keys(discoveryColumns)],
    offender: 'CREATE POLICY support ON carillon.leads FOR SELECT USING (true)',
  },
  {
    name: 'no view or function sees more than whoever uses it',
    find: `SELECT relname AS offence FROM pg_class WHERE relnamespace = 'carillon'::regnamespace
              AND (relkind = 'm' OR relkind = 'v' AND NOT coalesce(reloptions @> '{security_invoker=true}', false))
           UNION ALL
           SELECT proname FROM pg_proc WHERE pronamespace = 'carillon'::regnamespace AND prosecdef
              AND proname <> ALL ($1)`,
    // Removes also what the application may only add to, of the one business that it is allowed for.
    params: [['remove_canary']],
    offender: 'CREATE VIEW carillon.all_leads AS SELECT * FROM carillon.leads',
  },
  {
    name: 'a function that runs as its owner looks nowhere for names, and is not for everybody',
    find: `SELECT proname AS offence FROM pg_proc WHERE pronamespace = 'carillon'::regnamespace AND prosecdef
              AND (NOT coalesce(proconfig @> '{"search_path=pg_catalog, pg_temp"}', false)
                   OR has_function_privilege('public', oid, 'EXECUTE'))`,
    offender: 'GRANT EXECUTE ON FUNCTION carillon.remove_canary(bigint) TO PUBLIC',
  },
  {
    name: 'no two functions share a name: grants are by name',
    find: `SELECT proname AS offence FROM pg_proc WHERE pronamespace = 'carillon'::regnamespace
            GROUP BY proname HAVING count(*) > 1`,
    offender: `CREATE FUNCTION carillon.remove_canary(text) RETURNS boolean LANGUAGE sql AS 'SELECT true'`,
  },
];

const DISTRIBUTABLE: CatalogRule[] = [
  {
    name: 'there is no trigger but those of foreign keys, and no rule',
    find: `SELECT t.tgname AS offence FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
            WHERE c.relnamespace = 'carillon'::regnamespace AND NOT t.tgisinternal
           UNION ALL
           SELECT r.rulename FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
            WHERE c.relnamespace = 'carillon'::regnamespace AND r.rulename <> '_RETURN'`,
    offender: `CREATE TRIGGER t BEFORE UPDATE ON carillon.leads FOR EACH ROW
                 EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
  },
  {
    // Comparing enums is not leakproof, so under row security an index on one is not used.
    name: 'there is no enum type, of the schema or of a column',
    find: `SELECT typname AS offence FROM pg_type
            WHERE typtype = 'e' AND (typnamespace = 'carillon'::regnamespace OR oid IN (
                    SELECT a.atttypid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                     WHERE c.relnamespace = 'carillon'::regnamespace AND NOT a.attisdropped))`,
    offender: `CREATE TYPE public.mood AS ENUM ('calm', 'not'); ALTER TABLE carillon.leads ADD COLUMN mood public.mood`,
  },
  {
    name: 'defaults are constants or now(); what is random or precise is a parameter',
    find: `SELECT c.relname || '.' || a.attname || ': ' || pg_get_expr(d.adbin, d.adrelid) AS offence
             FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.adnum
            WHERE c.relnamespace = 'carillon'::regnamespace AND a.attgenerated = ''
              AND pg_get_expr(d.adbin, d.adrelid) !~ $re$^(now\\(\\)|true|false|-?[0-9.]+|'[^']*'::[a-z ]+(\\[\\])?)$$re$`,
    offender: 'ALTER TABLE carillon.leads ADD COLUMN token uuid DEFAULT gen_random_uuid()',
  },
  {
    name: 'identity columns are bigint, as distributed ones must be',
    find: `SELECT c.relname || '.' || a.attname AS offence FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
            WHERE c.relnamespace = 'carillon'::regnamespace AND a.attidentity <> '' AND a.atttypid <> 'bigint'::regtype`,
    offender: 'ALTER TABLE carillon.leads ADD COLUMN n integer GENERATED ALWAYS AS IDENTITY',
  },
];

const CHEAP: CatalogRule[] = [
  {
    // Every transition of a job would then write the index, and leave a dead entry for the next claim to wade through.
    name: 'no index of the jobs mentions status, in columns, expressions or predicate',
    find: `SELECT i.indexrelid::regclass AS offence FROM pg_index i
            WHERE i.indrelid = 'carillon.outbound_call_jobs'::regclass AND pg_get_indexdef(i.indexrelid) ~ '\\mstatus\\M'`,
    offender: `CREATE INDEX ON carillon.outbound_call_jobs (business_id, run_id) WHERE status = 'waiting'`,
  },
  {
    name: 'no index of a run holds a counter, a cursor or the lease, which each claim and settlement changes',
    find: `SELECT i.indexrelid::regclass AS offence FROM pg_index i
            WHERE i.indrelid = 'carillon.outbound_call_runs'::regclass AND pg_get_indexdef(i.indexrelid) ~
                  '\\m(queued|waiting|in_progress|completed|failed|skipped|needs_review|claim_cursor|swept_seq|lock_ts|updated_at)\\M[,)]'`,
    offender: 'CREATE INDEX ON carillon.outbound_call_runs (business_id, lock_ts)',
  },
  {
    name: 'the hot tables have autovacuum settings of their own',
    find: `SELECT t AS offence FROM unnest($1::text[]) t WHERE NOT EXISTS (
             SELECT FROM pg_class c, unnest(c.reloptions) o WHERE c.oid = ('carillon.' || t)::regclass
                AND o LIKE 'autovacuum_vacuum_scale_factor=%' AND split_part(o, '=', 2)::float <= 0.05)`,
    params: [HOT_TABLES],
    offender: 'ALTER TABLE carillon.open_attempts RESET (autovacuum_vacuum_scale_factor)',
  },
  {
    name: 'the tables that are updated in place have room for it in each page',
    find: `SELECT t AS offence FROM unnest($1::text[]) t WHERE NOT EXISTS (
             SELECT FROM pg_class c, unnest(c.reloptions) o WHERE c.oid = ('carillon.' || t)::regclass
                AND o LIKE 'fillfactor=%' AND split_part(o, '=', 2)::int <= 50)`,
    params: [UPDATED_TABLES],
    offender: 'ALTER TABLE carillon.outbound_call_jobs RESET (fillfactor)',
  },
  {
    // Rows that come and go all the time would make multixacts of one parent row.
    name: 'open attempts refer to their job and to nothing else',
    find: `SELECT conname AS offence FROM pg_constraint WHERE contype = 'f'
              AND conrelid IN ('carillon.open_attempts'::regclass, 'carillon.attempts'::regclass)
              AND confrelid <> 'carillon.outbound_call_jobs'::regclass`,
    offender:
      'ALTER TABLE carillon.open_attempts ADD FOREIGN KEY (business_id, run_id) REFERENCES carillon.outbound_call_runs',
  },
];

export const CATALOG_RULES: readonly CatalogRule[] = [
  ...BUSINESS_FIRST,
  ...KEY_RULES,
  ...WALLS,
  ...DISTRIBUTABLE,
  ...CHEAP,
];
