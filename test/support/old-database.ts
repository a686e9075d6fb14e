import { createTestDatabase, type TestDatabase } from './database.ts';
import { withClient } from './test-server.ts';

/** The number of old lead `n`, as people write it, and as it is called. */
export const oldPhone = (n: number): string => `05${n % 5}-${String(n).padStart(7, '0')}`;
export const e164 = (n: number): string => `+9725${n % 5}${String(n).padStart(7, '0')}`;

/** An empty database of an older installation: `statements` make its tables. */
export async function createOldDatabase(statements: string): Promise<TestDatabase> {
  const old = await createTestDatabase({ migrated: false });
  await withClient(old.ownerUrl, (client) => client.query(statements));
  return old;
}

export interface OldSize {
  jobs: number;
  runs: number;
}

/**
 * An older installation as they are found: integer ids, no unique_run_lead, and of `jobs` rows three in a hundred
 * duplicates; running runs with dead locks, jobs that a person cancelled and that are called failed, jobs without a run
 * or a lead, numbers that are none. Two businesses. Everything follows from the rows' numbers, nothing from chance.
 */
export function crowdedInstallation({ jobs, runs }: OldSize): string {
  return `
CREATE TABLE outbound_call_runs (
  id serial PRIMARY KEY, business_id integer, name text, status varchar(20) NOT NULL DEFAULT 'pending',
  total_leads integer DEFAULT 0, queued integer DEFAULT 0, completed integer DEFAULT 0, failed integer DEFAULT 0,
  concurrency integer DEFAULT 3, last_error text, created_at timestamp DEFAULT now(), created_by_user_id integer,
  started_at timestamp, ended_at timestamp, cancel_requested boolean DEFAULT false, locked_by_worker text,
  lock_ts timestamptz);
CREATE TABLE outbound_call_jobs (
  id serial PRIMARY KEY, run_id integer, lead_id integer, business_id integer, status varchar(20) DEFAULT 'queued',
  last_error text, outcome text, attempts integer NOT NULL DEFAULT 0, call_sid text, created_at timestamptz DEFAULT now(),
  updated_at timestamptz);
CREATE TABLE leads (id serial PRIMARY KEY, business_id integer, phone text, name text, city text, created_at timestamptz);

INSERT INTO outbound_call_runs (id, business_id, name, status, concurrency, created_at, created_by_user_id, started_at,
    ended_at, cancel_requested, locked_by_worker, lock_ts, last_error)
  SELECT n, 1 + n % 2, 'Campaign ' || n,
    (ARRAY['completed', 'running', 'paused', 'cancelled', 'failed', 'running', 'pending'])[1 + n % 7], 2 + n % 5,
    timestamp '2024-03-01 08:00' + n * interval '1 hour', 40 + n, timestamp '2024-03-01 09:00' + n * interval '1 hour',
    CASE WHEN n % 7 IN (0, 3, 4) THEN timestamp '2024-03-02 09:00' + n * interval '1 hour' END,
    n % 7 = 5, CASE WHEN n % 7 IN (1, 5) THEN 'worker-9' END,
    CASE WHEN n % 7 IN (1, 5) THEN timestamptz '2024-03-02 10:00Z' END, CASE WHEN n % 7 = 4 THEN 'carrier down' END
  FROM generate_series(1, ${runs}) n;
SELECT setval('outbound_call_runs_id_seq', ${runs});

INSERT INTO leads (id, business_id, phone, name, city, created_at)
  SELECT n, 1 + (1 + n % ${runs}) % 2,
    CASE WHEN n % 500 = 7 THEN (ARRAY['', 'none', '12', '0501234567 / 0521234567'])[1 + n / 500 % 4]
         -- The number of the lead that stood in the same run before this one.
         WHEN n % 400 = 11 AND n > ${runs} THEN '05' || ((n - ${runs}) % 5) || '-' || lpad((n - ${runs})::text, 7, '0')
         ELSE '05' || (n % 5) || '-' || lpad(n::text, 7, '0') END,
    'Lead ' || n, 'Haifa', timestamptz '2024-01-01 00:00Z' + n * interval '1 minute'
  FROM generate_series(1, ${jobs}) n;

INSERT INTO outbound_call_jobs (run_id, lead_id, business_id, status, last_error, outcome, attempts, call_sid, updated_at)
  SELECT 1 + n % ${runs}, n, 1 + (1 + n % ${runs}) % 2, s, CASE WHEN kind = 5 THEN 'Cancelled by user' END,
    CASE WHEN kind = 4 THEN 'busy' END, CASE WHEN kind < 7 AND kind <> 5 THEN 1 ELSE 0 END,
    CASE WHEN kind < 5 THEN 'CA' || n END,
    CASE WHEN kind < 7 THEN timestamptz '2024-03-02 10:00Z' + n * interval '1 second' END
  FROM (SELECT n, n / ${runs} % 10 AS kind,
          (ARRAY['completed', 'completed', 'completed', 'completed', 'failed', 'failed', 'in_progress', 'queued',
                 'queued', 'queued'])[1 + n / ${runs} % 10] AS s
        FROM generate_series(1, ${Math.round(jobs * 0.97) - 200}) n) base;
-- Duplicates, some of which got further and some less far.
INSERT INTO outbound_call_jobs (run_id, lead_id, business_id, status, attempts, updated_at)
  SELECT 1 + n % ${runs}, n, 1 + (1 + n % ${runs}) % 2, (ARRAY['completed', 'queued', 'failed', 'in_progress'])[1 + i % 4],
    CASE WHEN i % 4 = 1 THEN 0 ELSE 1 END, timestamptz '2024-03-03 10:00Z' + i * interval '1 second'
  FROM (SELECT i, 1 + i * 31 % ${Math.round(jobs * 0.97) - 200} AS n
        FROM generate_series(1, ${jobs - Math.round(jobs * 0.97)}) i) again;
INSERT INTO outbound_call_jobs (run_id, lead_id, business_id, status)
  SELECT ${runs} + 1000 + i, i, 1 + i % 2, 'queued' FROM generate_series(1, 80) i
  UNION ALL SELECT 1 + i % ${runs}, ${jobs} + i, 1 + (1 + i % ${runs}) % 2, 'queued' FROM generate_series(1, 80) i
  UNION ALL SELECT 1 + i % ${runs}, NULL, NULL, 'completed' FROM generate_series(1, 20) i
  UNION ALL SELECT NULL, i, 1, 'queued' FROM generate_series(1, 20) i;
ANALYZE;`;
}

/** What the old tables hold, in one number. */
export async function oldChecksum(old: TestDatabase): Promise<string> {
  return await withClient(old.ownerUrl, async (client) => {
    const { rows } = await client.query<{ sum: string }>(
      `SELECT md5(string_agg(md5(t::text), '' ORDER BY t::text)) AS sum FROM (
         SELECT 'run' AS kind, to_jsonb(r)::text AS text, r.xmin::text, r.ctid::text FROM outbound_call_runs r
         UNION ALL SELECT 'job', to_jsonb(j)::text, j.xmin::text, j.ctid::text FROM outbound_call_jobs j) t`,
    );
    return String(rows[0]?.sum);
  });
}
