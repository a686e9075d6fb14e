import type { CatalogRule } from './catalog-rules.ts';

/** Columns that hold another table's id and are no foreign key, with the reason. A new one gets its line here. */
const NO_FOREIGN_KEY: Readonly<Record<string, string>> = {
  'lists.import_id': 'the import that may write now; both would have to be inserted first',
  'open_attempts.carrier_account_id': 'rows that come and go would make multixacts of one account',
  'open_attempts.lead_id': 'the job has it',
  'attempts.carrier_account_id': 'history: many rows of one account',
  'attempts.lead_id': 'the job has it',
  'adopted_runs.run_id': 'noted before the run is made',
  'adopted_jobs.lead_id': 'the job that it becomes has it',
  'adopted_leads.lead_id': 'written with the lead, whose row never goes',
};

/** Tables that no foreign key ties to their business, with the reason. */
const UNTIED: Readonly<Record<string, string>> = {
  receipts:
    'the first thing that a transaction writes: before the row of a business that it makes, and behind one that it removes',
};

/** Unique constraints, and what rests on them. A new one gets its line here, so that its loss is noticed. */
const UNIQUE: Readonly<Record<string, string>> = {
  unique_lead_phone: 'a number is one lead, whichever lists name it',
  unique_list_lead: 'a list names a lead once',
  unique_import_idempotency_key: 'an upload that is sent again is the same import',
  unique_run_idempotency_key: 'a button pressed twice starts one run',
  unique_adoption: 'adopting again goes on with what was begun',
  unique_adopted_run: 'two old runs do not become one',
  unique_adopted_job: 'the jobs of an adopted run are numbered without a gap',
  unique_run_lead: 'one job per lead and run: at most one call',
};

/** `t` is each table behind the wall, `key` the columns of its primary key. */
const WALLED = `SELECT c.oid, c.relname, p.conkey, ARRAY(SELECT attname::text FROM pg_attribute
         WHERE attrelid = c.oid AND attnum = ANY (p.conkey)) AS key
    FROM pg_class c JOIN pg_attribute b ON b.attrelid = c.oid AND b.attname = 'business_id'
    LEFT JOIN pg_constraint p ON p.conrelid = c.oid AND p.contype = 'p'
   WHERE c.relnamespace = 'carillon'::regnamespace AND c.relkind IN ('r', 'p')`;

export const KEY_RULES: readonly CatalogRule[] = [
  {
    // So a row of ours can't name a row of theirs, and a foreign key that is lost is missed.
    name: 'every column that holds the id of another table is in a foreign key, or stands in the list of those that are not',
    find: `WITH t AS (${WALLED}),
           ids AS (SELECT relname AS owner, k AS name FROM t, unnest(key) k
                    WHERE cardinality(key) = 2 AND 'business_id' = ANY (key) AND k <> 'business_id'
                      AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = t.oid AND f.contype = 'f'
                                         AND f.conkey @> t.conkey))
           SELECT t.relname || '.' || a.attname AS offence
             FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND NOT a.attisdropped
             JOIN ids ON ids.name = a.attname AND ids.owner <> t.relname
            WHERE t.relname || '.' || a.attname <> ALL ($1)
              AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = t.oid AND f.contype = 'f'
                                 AND a.attnum = ANY (f.conkey) AND f.convalidated)`,
    params: [Object.keys(NO_FOREIGN_KEY)],
    offender: 'ALTER TABLE carillon.list_members DROP CONSTRAINT list_members_business_id_list_id_fkey',
  },
  {
    name: 'every table is tied to its business, by a foreign key of its own or of the tables that it refers to',
    find: `WITH RECURSIVE t AS (${WALLED}),
           tied AS (SELECT 'carillon.businesses'::regclass::oid AS oid
                    UNION SELECT f.conrelid FROM pg_constraint f JOIN tied ON f.confrelid = tied.oid
                     WHERE f.contype = 'f' AND f.convalidated AND NOT EXISTS (
                       SELECT FROM pg_attribute a WHERE a.attrelid = f.conrelid AND a.attnum = ANY (f.conkey)
                          AND NOT a.attnotnull))
           SELECT relname AS offence FROM t WHERE oid NOT IN (SELECT oid FROM tied) AND relname <> ALL ($1)`,
    params: [Object.keys(UNTIED)],
    offender: 'ALTER TABLE carillon.leads DROP CONSTRAINT leads_business_id_fkey',
  },
  {
    name: 'the unique constraints that the code counts on are there, and no others that nobody has named',
    find: `WITH there AS (SELECT conname::text AS name FROM pg_constraint
                           WHERE connamespace = 'carillon'::regnamespace AND contype = 'u' AND convalidated
                             AND NOT condeferrable
                          UNION ALL
                          SELECT relname FROM pg_index JOIN pg_class c ON c.oid = indexrelid
                           WHERE relnamespace = 'carillon'::regnamespace AND indisunique AND indisvalid
                             AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid))
           SELECT coalesce(there.name, listed) AS offence
             FROM there FULL JOIN unnest($1::text[]) listed ON listed = there.name
            WHERE there.name IS NULL OR listed IS NULL`,
    params: [Object.keys(UNIQUE)],
    offender: 'ALTER TABLE carillon.leads DROP CONSTRAINT unique_lead_phone',
  },
];
