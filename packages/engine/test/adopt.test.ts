import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestDatabase } from '../../../test/support/database.ts';
import { adopt } from '../src/adopt/adopt.ts';
import type { AdoptReport } from '../src/adopt/report.ts';
import { openDatabase } from '../src/db/database.ts';
import { adoptOptions, askOld, FURTHEST, sums, TAKEN } from './support/adoption.ts';
import { createFixture, type Fixture } from './support/fixture.ts';
import { createOldDatabase, crowdedInstallation, oldChecksum } from '../../../test/support/old-database.ts';

const JOBS = 100_000;
const RUNS = 20;

let fixture: Fixture;
let old: TestDatabase;
let rehearsed: AdoptReport;
let adopted: AdoptReport;
const before = { sums: {}, old: '' };
const after = { rehearsal: {}, old: '' };

beforeAll(async () => {
  fixture = await createFixture();
  old = await createOldDatabase(crowdedInstallation({ jobs: JOBS, runs: RUNS }));
  before.old = await oldChecksum(old);
  before.sums = await sums(fixture);
  // In sessions that may not write at all.
  const readOnly = (url: string) => `${url}?options=-c%20default_transaction_read_only%3Don`;
  const db = openDatabase({ app_url: readOnly(fixture.appUrl), discovery_url: readOnly(fixture.discoveryUrl) });
  rehearsed = await adopt(db, adoptOptions(fixture, old, { dry_run: true })).finally(() => db.close());
  after.rehearsal = await sums(fixture);
  adopted = await adopt(fixture.db, adoptOptions(fixture, old));
  after.old = await oldChecksum(old);
}, 600_000);
afterAll(async () => {
  await fixture.close();
  await old.drop();
});

describe(`an older installation with ${JOBS} jobs`, () => {
  it('is rehearsed without a single write, and the adoption then gives the same figures', () => {
    expect(after.rehearsal).toEqual(before.sums);
    expect(rehearsed).toMatchObject({ ok: true, dry_run: true, nothing_new: false });
    expect(rehearsed.businesses.map(({ business_id, made }) => ({ business_id, made }))).toEqual([
      { business_id: null, made: true },
      { business_id: null, made: true },
    ]);
    const figures = (report: AdoptReport) => ({ ...report, dry_run: null, businesses: null });
    expect(figures(rehearsed)).toEqual(figures(adopted));
  });

  it('stays as it was, to the version of each row', () => {
    expect(after.old).toBe(before.old);
  });

  it('is accounted for row by row: the sums of the report add up', () => {
    const { sums, jobs, runs, leads, samples } = adopted;
    expect(adopted).toMatchObject({ ok: true, nothing_new: false });
    expect(sums.jobs).toEqual({ old: JOBS, taken: jobs.taken, archived: JOBS - jobs.taken, adds_up: true });
    expect(sums.runs).toEqual({ old: RUNS, taken: RUNS, adds_up: true });
    expect(runs).toMatchObject({ read: RUNS, kept_id: RUNS, new_id: 0 });
    expect(leads).toMatchObject({ made: leads.kept_id, new_id: 0 });
    expect(jobs.archived).toMatchObject({ no_run: 100, no_lead: 100, bad_number: expect.any(Number) });
    // Three in a hundred are duplicates; some of them are of leads without a number, or with another one's.
    expect(jobs.archived.duplicate).toBeGreaterThan(JOBS * 0.029);
    expect(jobs.archived.same_number).toBeGreaterThan(200);
    expect(samples.no_run).toHaveLength(5);
  });

  it('has of each number in each run the row that got furthest, and calls what a person cancelled cancelled', async () => {
    const [wanted, taken] = [await askOld<object>(old, FURTHEST), await fixture.rows(TAKEN)];
    expect(taken).toHaveLength(adopted.jobs.taken);
    expect(taken).toEqual(wanted);
  });

  it('has each old job in one place: taken, or as it was in the archive', async () => {
    const [places] = await fixture.rows<{ rows: number; ids: number; least: number; most: number }>(
      `SELECT count(*)::int AS rows, count(DISTINCT id)::int AS ids, min(id)::int AS least, max(id)::int AS most
       FROM (SELECT old_job_id AS id FROM carillon.adopted_jobs
             UNION ALL SELECT old_id FROM carillon.adopted_rows WHERE kind = 'job') places`,
    );
    expect(places).toEqual({ rows: JOBS, ids: JOBS, least: 1, most: JOBS });
    for (const [kind, table] of [
      ['job', 'outbound_call_jobs'],
      ['lead', 'leads'],
    ] as const) {
      const archived = await fixture.rows<{ id: number; row: object }>(
        "SELECT (row->>'id')::int AS id, row - 'created_at' AS row FROM carillon.adopted_rows WHERE kind = $1 ORDER BY old_id",
        [kind],
      );
      const there = await askOld<{ row: object }>(
        old,
        `SELECT to_jsonb(t) - 'created_at' AS row FROM ${table} t
         WHERE id IN (${archived.map(({ id }) => id).join(', ')}) ORDER BY id`,
      );
      expect(archived.length).toBeGreaterThan(200);
      expect(archived.map(({ row }) => row)).toEqual(there.map(({ row }) => row));
    }
  });

  it('has whole runs: counters equal rows, numbers without a gap, the cursor at the first who waits', async () => {
    const wrong = await fixture.rows(
      `SELECT r.run_id FROM carillon.outbound_call_runs r
       CROSS JOIN LATERAL (
         SELECT count(*) AS jobs, max(seq) AS highest, min(seq) FILTER (WHERE status = 'queued') AS first,
           ARRAY(SELECT count(*) FILTER (WHERE status = s)::int FROM unnest(ARRAY['queued', 'waiting', 'in_progress',
             'completed', 'failed', 'cancelled', 'skipped', 'needs_review']) s
             CROSS JOIN carillon.outbound_call_jobs k WHERE k.run_id = r.run_id GROUP BY s ORDER BY s) AS counted
         FROM carillon.outbound_call_jobs j WHERE j.business_id = r.business_id AND j.run_id = r.run_id) rows
       WHERE rows.jobs <> r.total_leads OR rows.highest <> r.total_leads OR r.filled_seq <> r.total_leads
          OR r.claim_cursor <> coalesce(rows.first, r.total_leads + 1)
          OR rows.counted <> ARRAY[r.cancelled, r.completed, r.failed, r.in_progress, r.needs_review, r.queued, r.skipped,
               r.waiting]`,
    );
    expect(wrong).toEqual([]);
    expect(adopted.runs.became).toEqual({ paused: 9, completed: 2, cancelled: 6, failed: 3 });
  });

  it('has its runs as they were, and those that were not finished paused, without their dead locks', async () => {
    const [running] = await fixture.rows(
      `SELECT business_id::int, name, status, concurrency, created_by_user_id, created_by, locked_by_worker, lock_ts,
         pause_reason, ended_at, created_at::text, started_at::text, control_epoch
       FROM carillon.outbound_call_runs WHERE run_id = 1`,
    );
    expect(running).toEqual({
      business_id: 2,
      name: 'Campaign 1',
      status: 'paused',
      concurrency: 3,
      created_by_user_id: '41',
      created_by: 'adopt',
      locked_by_worker: null,
      lock_ts: null,
      pause_reason: expect.stringContaining('adopted'),
      ended_at: null,
      created_at: '2024-03-01 09:00:00+00',
      started_at: '2024-03-01 10:00:00+00',
      control_epoch: 0,
    });
    const ended = await fixture.rows(
      `SELECT run_id::int, status, ended_at::text, last_error, cancel_requested_at IS NOT NULL AS stopped
       FROM carillon.outbound_call_runs WHERE run_id IN (3, 4, 7) ORDER BY run_id`,
    );
    expect(ended).toEqual([
      { run_id: 3, status: 'cancelled', ended_at: '2024-03-02 12:00:00+00', last_error: null, stopped: true },
      { run_id: 4, status: 'failed', ended_at: '2024-03-02 13:00:00+00', last_error: 'carrier down', stopped: true },
      { run_id: 7, status: 'completed', ended_at: '2024-03-02 16:00:00+00', last_error: null, stopped: false },
    ]);
    const [times] = await fixture.rows(
      "SELECT count(*)::int AS n FROM carillon.outbound_call_jobs WHERE updated_at < '2024-04-01'",
    );
    expect(times?.n).toBeGreaterThan(JOBS / 2);
  });

  it('leaves in the trail who made each run, and as what', async () => {
    const events = await fixture.rows<{ actor: string; action: string; status: string }>(
      `SELECT e.actor, e.action, e.after->>'status' AS status, r.status AS is FROM carillon.audit_events e
       JOIN carillon.outbound_call_runs r ON r.business_id = e.business_id AND r.run_id::text = e.subject_id
       WHERE e.subject_type = 'run' AND e.before IS NULL AND e.after->>'status' = r.status`,
    );
    expect(events).toHaveLength(RUNS);
    expect(new Set(events.map(({ actor, action }) => `${actor} ${action}`))).toEqual(new Set(['adopt run.created']));
    const personal = await fixture.rows("SELECT FROM carillon.audit_events WHERE after::text ~ 'Lead|Haifa|\\+972'");
    expect(personal).toEqual([]);
  });

  it('gives nobody an id that an old row has kept', async () => {
    const [next] = await fixture.rows<{ lead: string; run: string; business: string }>(
      `SELECT nextval('carillon.leads_lead_id_seq') AS lead, nextval('carillon.outbound_call_runs_run_id_seq') AS run,
         nextval('carillon.businesses_business_id_seq') AS business`,
    );
    expect(Number(next?.lead)).toBeGreaterThan(JOBS - 1);
    expect(Number(next?.run)).toBeGreaterThan(RUNS);
    expect(Number(next?.business)).toBeGreaterThan(2);
    expect(adopted.businesses).toEqual([
      { old_business: '1', business_id: 1, made: true },
      { old_business: '2', business_id: 2, made: true },
    ]);
  });

  it('changes nothing when it is adopted again', async () => {
    const first = await sums(fixture);
    const again = await adopt(fixture.db, adoptOptions(fixture, old));
    expect(again).toEqual({ ...adopted, nothing_new: true });
    expect(await sums(fixture)).toEqual(first);
  });
});
