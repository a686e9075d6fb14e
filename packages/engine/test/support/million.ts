import { RunId } from '@carillon/contract';
import pg from 'pg';
import { createTestDatabase } from '../../../../test/support/database.ts';
import { withClient } from '../../../../test/support/test-server.ts';
import { openDatabase } from '../../src/db/database.ts';
import { defaultLimits, type Limits } from '../../src/limits.ts';
import type { Fixture, Tenant } from './fixture.ts';

/** A fixture whose rows may be made by hand: nothing watches the trail, and nothing vacuums or analyses. */
export async function createBigFixture(limits: Partial<Limits>): Promise<Fixture> {
  const database = await createTestDatabase();
  const db = openDatabase({ app_url: database.appUrl, discovery_url: database.discoveryUrl, pool_connections: 1 });
  const superuser = new pg.Pool({ connectionString: database.superuserUrl, max: 1 });
  superuser.on('error', () => {});
  const rows = async <Row extends pg.QueryResultRow>(sql: string, params: unknown[] = []): Promise<Row[]> =>
    (await superuser.query<Row>(sql, params)).rows;
  for (const table of TABLES) await rows(`ALTER TABLE carillon.${table} SET (autovacuum_enabled = off)`);
  return {
    ...database,
    db,
    rows,
    limits: { ...defaultLimits, ...limits },
    async close() {
      await db.close();
      await superuser.end();
      await database.drop();
    },
  };
}

/** A business that has been at work for years: what the plans of the hot statements are looked at with. */
export interface Big extends Tenant {
  /** Over all leads, half of them called, some thousand live, many waiting. */
  run_id: RunId;
  /** Over the same list, half of its jobs yet to be made. */
  filling: RunId;
  /** Ended; some thousand jobs with attempts. */
  ended: RunId;
  /** Stopped with half of its rows to be swept. */
  stopped: RunId;
  jobs: number;
}

const ENDED_JOBS = 5_000;
export const LIVE = 2_000;
const DUE = 1_000;

/** Tables that nothing may analyse or vacuum behind the test's back. */
const TABLES = [
  'leads',
  'list_members',
  'outbound_call_runs',
  'outbound_call_jobs',
  'job_schedule',
  'open_attempts',
  'attempts',
  'run_leads',
];

/** Fills a tenant that has a lane and an empty list. Foreign keys are not checked row by row, which takes longest. */
export async function fillTenant(fixture: Fixture, tenant: Tenant, jobs: number): Promise<Big> {
  const { business_id, list_id, carrier_account_id } = tenant;
  const ended_jobs = Math.min(ENDED_JOBS, jobs);
  const live = Math.min(LIVE, Math.floor(jobs / 10));
  const half = Math.floor(jobs / 2);
  const waiting = Math.floor(jobs / 10);
  const due = Math.min(DUE, waiting);
  const [row] = await fixture.rows<{ id: string }>(
    'SELECT coalesce(max(run_id), 0) AS id FROM carillon.outbound_call_runs',
  );
  const first = Number(row?.id) + 1;
  const [run_id, filling, ended, stopped] = [0, 1, 2, 3].map((n) => RunId.parse(first + n)) as [
    RunId,
    RunId,
    RunId,
    RunId,
  ];
  const run = `INSERT INTO carillon.outbound_call_runs (business_id, run_id, name, status, list_id, carrier_account_id,
    concurrency, answer, policy, created_by, total_leads, filled_seq, claim_cursor, queued, waiting, in_progress,
    completed, cancelled, cancel_requested_at, swept_seq, ended_at)`;
  const base = `${business_id}, $1, 'run', $2, ${list_id}, ${carrier_account_id}, 10000, '{}', '{"retry":{}}', 'test'`;
  await fixture.rows(`SELECT setval(pg_get_serial_sequence('carillon.outbound_call_runs', 'run_id'), ${first + 10})`);
  const statements: [string, unknown[]?][] = [
    [
      `INSERT INTO carillon.leads (business_id, phone, name, external_id, attributes)
       SELECT ${business_id}, '+9725' || lpad((${business_id}::bigint % 90 * 1000000 + n)::text, 8, '0'), 'Lead ' || n,
              'crm-' || n, jsonb_build_object('city', 'c' || n % 100, 'plan', n % 3)
       FROM generate_series(1, ${jobs}) n`,
    ],
    [
      `INSERT INTO carillon.list_members (business_id, list_id, position, lead_id)
       SELECT ${business_id}, ${list_id}, row_number() OVER (ORDER BY lead_id), lead_id FROM carillon.leads
       WHERE business_id = ${business_id}`,
    ],
    [`UPDATE carillon.lists SET leads = ${jobs} WHERE list_id = ${list_id}`],
    [
      `${run} SELECT ${base}, ${jobs}, ${jobs}, ${half + live + 1}, ${jobs - half - live}, ${waiting}, ${live}, ${half - waiting}, 0, NULL, 0, NULL`,
      [run_id, 'running'],
    ],
    [`${run} SELECT ${base}, ${jobs}, ${half}, ${half + 1}, ${jobs}, 0, 0, 0, 0, NULL, 0, NULL`, [filling, 'running']],
    [
      `${run} SELECT ${base}, ${ended_jobs}, ${ended_jobs}, ${ended_jobs + 1}, 0, 0, 0, ${ended_jobs}, 0, NULL, 0, now()`,
      [ended, 'completed'],
    ],
    [
      `${run} SELECT ${base}, ${ended_jobs}, ${ended_jobs}, 1, 0, 0, 0, 0, ${ended_jobs}, now(), 10, now()`,
      [stopped, 'cancelled'],
    ],
    [
      `INSERT INTO carillon.outbound_call_jobs (business_id, run_id, seq, lead_id, status, attempts, last_outcome)
       SELECT ${business_id}, $1, position, lead_id,
              CASE WHEN position <= ${waiting} THEN 'waiting' WHEN position <= ${half} THEN 'completed'
                   WHEN position <= ${half + live} THEN 'in_progress' ELSE 'queued' END,
              (position <= ${half + live})::int, CASE WHEN position <= ${half} THEN 'completed' END
       FROM carillon.list_members WHERE business_id = ${business_id} AND list_id = ${list_id}`,
      [run_id],
    ],
    [
      `INSERT INTO carillon.outbound_call_jobs (business_id, run_id, seq, lead_id, status, attempts, last_outcome)
       SELECT ${business_id}, r.run_id, m.position, m.lead_id, r.status, 1, CASE m.position % 2 WHEN 0 THEN 'busy' END
       FROM carillon.list_members m, (VALUES ($1::bigint, 'failed'), ($2::bigint, 'queued')) r (run_id, status)
       WHERE m.business_id = ${business_id} AND m.list_id = ${list_id} AND m.position <= ${ended_jobs}`,
      [ended, stopped],
    ],
    [`UPDATE carillon.outbound_call_runs SET completed = 0, failed = total_leads WHERE run_id = $1`, [ended]],
    [
      `INSERT INTO carillon.job_schedule (business_id, run_id, seq, due_us, reason)
       SELECT ${business_id}, $1, n, CASE WHEN n <= ${due} THEN n ELSE 4000000000000000 + n END, 'retry'
       FROM generate_series(1, ${waiting}) n`,
      [run_id],
    ],
    [
      `INSERT INTO carillon.attempts (business_id, run_id, seq, attempt_no, revision, carrier_account_id, lead_id, token,
         worker_id, lease_epoch, control_epoch, from_number, intent_us, call_id, ended_us, outcome)
       SELECT business_id, run_id, seq, 1, 0, ${carrier_account_id}, lead_id, repeat('t', 22), 'w', 1, 0, '+1', seq,
              'CA' || run_id || '-' || seq, seq, 'busy'
       FROM carillon.outbound_call_jobs
       WHERE business_id = ${business_id} AND (run_id = $2 OR run_id = $1 AND seq <= ${half})`,
      [run_id, ended],
    ],
    [
      `INSERT INTO carillon.open_attempts (business_id, run_id, seq, attempt_no, carrier_account_id, lead_id, token, state,
         worker_id, lease_epoch, control_epoch, from_number, to_number, intent_us, deadline_us, call_max_ms, call_id,
         heard_us, asked_us)
       SELECT j.business_id, j.run_id, j.seq, 1, ${carrier_account_id}, j.lead_id, repeat('t', 22), 'in_call', 'w', 1, 0,
              '+1', l.phone, 0, 0, 1, 'CB' || j.seq, 4000000000000000, 4000000000000000
       FROM carillon.outbound_call_jobs j JOIN carillon.leads l USING (business_id, lead_id)
       WHERE j.business_id = ${business_id} AND j.run_id = $1 AND j.status = 'in_progress'`,
      [run_id],
    ],
  ];
  await withClient(fixture.superuserUrl, async (client) => {
    await client.query('SET session_replication_role = replica');
    for (const [sql, params] of statements) await client.query(sql, params);
  });
  return { ...tenant, run_id, filling, ended, stopped, jobs };
}

/** Runs of years past: so many that reading them all instead of one shows. */
export async function addOldRuns(fixture: Fixture, tenant: Tenant, runs: number): Promise<void> {
  await fixture.rows(
    `INSERT INTO carillon.outbound_call_runs (business_id, name, status, carrier_account_id, concurrency, answer,
       created_by, ended_at)
     SELECT $1, 'old', 'completed', $2, 1, '{}', 'test', now() FROM generate_series(1, $3::int)`,
    [tenant.business_id, tenant.carrier_account_id, runs],
  );
}

/** Updates and deletions in the mass that nobody has vacuumed away. */
export async function bloat(fixture: Fixture, { business_id, run_id }: Big): Promise<void> {
  const key = [business_id, run_id];
  for (let round = 0; round < 3; round++) {
    await fixture.rows(
      'UPDATE carillon.outbound_call_jobs SET updated_at = now() WHERE business_id = $1 AND run_id = $2 AND seq % 3 = 0',
      key,
    );
    await fixture.rows(
      'UPDATE carillon.open_attempts SET heard_us = heard_us + 1 WHERE business_id = $1 AND run_id = $2',
      key,
    );
    await fixture.rows(
      'UPDATE carillon.job_schedule SET due_us = due_us + 1 WHERE business_id = $1 AND run_id = $2',
      key,
    );
    await fixture.rows("UPDATE carillon.leads SET name = name || ' ' WHERE business_id = $1 AND lead_id % 5 = 0", [
      business_id,
    ]);
    await fixture.rows('UPDATE carillon.outbound_call_runs SET updated_at = now() WHERE business_id = $1', [
      business_id,
    ]);
  }
}
