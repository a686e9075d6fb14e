import type { TestDatabase } from '../../../../test/support/database.ts';
import { withClient } from '../../../../test/support/test-server.ts';
import type { AdoptOptions } from '../../src/adopt/adopt.ts';
import type { Fixture } from './fixture.ts';

export const adoptActor = { name: 'adopt', user_id: null };

export function adoptOptions(fixture: Fixture, old: TestDatabase, more: Partial<AdoptOptions> = {}): AdoptOptions {
  return { from: old.ownerUrl, app_url: fixture.appUrl, actor: adoptActor, ...more };
}

const TABLES =
  "SELECT relname::text AS name FROM pg_class WHERE relnamespace = 'carillon'::regnamespace AND relkind = 'r' ORDER BY 1";

/** Every row of every table of Carillon as one sum each, and where its sequences stand. Equal: nothing was written. */
export async function sums(fixture: Fixture): Promise<Record<string, unknown>> {
  return await withClient(fixture.superuserUrl, async (client) => {
    const { rows: tables } = await client.query<{ name: string }>(TABLES);
    const all: Record<string, unknown> = {};
    for (const { name } of tables) {
      const { rows } = await client.query(
        `SELECT count(*), md5(string_agg(sum, '' ORDER BY sum)) FROM (SELECT md5(t::text) AS sum FROM carillon.${name} t) s`,
      );
      all[name] = rows[0];
    }
    const sequences = "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'carillon' ORDER BY 1";
    return { ...all, sequences: (await client.query(sequences)).rows };
  });
}

const TIME = /"(20(?!24)\d\d-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d))"/g;

/**
 * A dump without what may differ between two adoptions of the same tables: present times (the old ones are of 2024),
 * and numbers that were given out on the way.
 */
export async function comparableDump(fixture: Fixture): Promise<Record<string, string[]>> {
  const numbers = /"(event_id|carrier_account_id|adoption_id|source)": ("[^"]*"|\d+)/g;
  return await withClient(fixture.superuserUrl, async (client) => {
    const { rows: tables } = await client.query<{ name: string }>(TABLES);
    const all: Record<string, string[]> = {};
    for (const { name } of tables) {
      if (name === 'schema_migrations' || name === 'workers') continue;
      const { rows } = await client.query<{ row: string }>(`SELECT to_jsonb(t)::text AS row FROM carillon.${name} t`);
      // An account's number is also what an event is about.
      const bare = (row: string) =>
        row.includes('"subject_type": "carrier_account"') ? row.replace(/"subject_id": "\d+"/, '"subject_id": 0') : row;
      all[name] = rows.map(({ row }) => bare(row.replace(TIME, '"now"').replace(numbers, '"$1": 0'))).sort();
    }
    return all;
  });
}

/**
 * What becomes of each lead of each run, computed anew from the old tables: of the rows for one number the furthest,
 * the first of those that got equally far. `run` and `phone` together are the key.
 */
export const FURTHEST = `
WITH judged AS (
  SELECT j.id, j.run_id, r.status AS run_status, r.cancel_requested, j.lead_id,
    '+972' || substr(replace(l.phone, '-', ''), 2) AS phone,
    CASE WHEN j.status = 'completed' THEN 'completed'
         WHEN j.status = 'failed' AND j.last_error = 'Cancelled by user' THEN 'cancelled'
         WHEN j.status = 'failed' THEN 'failed'
         WHEN j.status = 'in_progress' OR j.attempts > 0 THEN 'needs_review'
         ELSE 'queued' END AS status
  FROM outbound_call_jobs j
  JOIN outbound_call_runs r ON r.id = j.run_id
  JOIN leads l ON l.id = j.lead_id
  WHERE l.phone ~ '^05[0-9]-[0-9]{7}$'),
furthest AS (
  SELECT DISTINCT ON (run_id, phone) * FROM judged
  ORDER BY run_id, phone, array_position(ARRAY['completed', 'failed', 'needs_review', 'cancelled', 'queued'], status), id)
SELECT run_id::int AS run, phone, id::int AS old_job_id,
  CASE WHEN status = 'queued' AND (run_status IN ('completed', 'cancelled', 'failed') OR cancel_requested)
       THEN 'cancelled' ELSE status END AS status
FROM furthest ORDER BY run_id, phone`;

/** The same, as Carillon has it. */
export const TAKEN = `
SELECT r.old_run_id::int AS run, l.phone, a.old_job_id::int AS old_job_id, j.status
FROM carillon.outbound_call_jobs j
JOIN carillon.adopted_runs r USING (business_id, run_id)
JOIN carillon.leads l USING (business_id, lead_id)
JOIN carillon.adopted_jobs a USING (business_id, run_id, lead_id)
ORDER BY r.old_run_id, l.phone`;

export async function askOld<Row>(old: TestDatabase, sql: string): Promise<Row[]> {
  return await withClient(old.ownerUrl, async (client) => (await client.query(sql)).rows as Row[]);
}
