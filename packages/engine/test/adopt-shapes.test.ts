import { BusinessId } from '@carillon/contract';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { TestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { adopt, type AdoptOptions } from '../src/adopt/adopt.ts';
import { adoptOptions } from './support/adoption.ts';
import { createFixture, createTenant, type Fixture } from './support/fixture.ts';
import { createOldDatabase } from '../../../test/support/old-database.ts';

async function open(statements: string): Promise<{ fixture: Fixture; old: TestDatabase }> {
  const fixture = await createFixture();
  onTestFinished(() => fixture.close());
  const old = await createOldDatabase(statements);
  onTestFinished(() => old.drop());
  return { fixture, old };
}

/** Rehearses and adopts, and holds the one to the other. */
async function adoptBoth(fixture: Fixture, old: TestDatabase, more: Partial<AdoptOptions> = {}) {
  const rehearsed = await adopt(fixture.db, adoptOptions(fixture, old, { ...more, dry_run: true }));
  const report = await adopt(fixture.db, adoptOptions(fixture, old, more));
  const names = report.businesses.map(({ old_business }) => old_business);
  expect(rehearsed.businesses.map(({ old_business }) => old_business)).toEqual(names);
  expect({ ...rehearsed, businesses: 0 }).toEqual({ ...report, dry_run: true, nothing_new: false, businesses: 0 });
  return report;
}

const jobsOf = (fixture: Fixture) =>
  fixture.rows<{ old: number; status: string }>(
    `SELECT a.old_job_id::int AS old, j.status, j.last_outcome AS outcome, j.reason, l.phone
     FROM carillon.outbound_call_jobs j JOIN carillon.adopted_jobs a USING (business_id, run_id, seq)
     JOIN carillon.leads l ON l.business_id = j.business_id AND l.lead_id = j.lead_id ORDER BY 1`,
  );
const archiveOf = (fixture: Fixture) =>
  fixture.rows(
    `SELECT business_id::int AS business, kind, old_id::int AS old, reason, detail FROM carillon.adopted_rows
     ORDER BY kind, old_id`,
  );
const runsOf = (fixture: Fixture) =>
  fixture.rows(
    `SELECT a.old_run_id::int AS old, r.status, r.name, r.total_leads AS jobs, r.last_error
     FROM carillon.outbound_call_runs r JOIN carillon.adopted_runs a USING (business_id, run_id) ORDER BY 1`,
  );

const RUNS = `CREATE TABLE outbound_call_runs (id serial PRIMARY KEY, business_id integer, status text,
  cancel_requested boolean, lock_ts timestamptz);`;
const JOBS = `CREATE TABLE outbound_call_jobs (id serial PRIMARY KEY, run_id integer, lead_id integer, phone text,
  status text, last_error text, attempts integer, call_sid text, business_id integer);`;
const LEADS = `CREATE TABLE leads (id serial PRIMARY KEY, business_id integer, phone text, name text);`;

describe('the old tables may have', () => {
  it('next to no columns, no keys at all, and the numbers in the jobs', async () => {
    const { fixture, old } = await open(`
      CREATE TABLE outbound_call_runs (run_id integer);
      CREATE TABLE outbound_call_jobs (id integer, run_id integer, phone text, status text);
      INSERT INTO outbound_call_runs VALUES (3), (4);
      INSERT INTO outbound_call_jobs VALUES (1, 3, '050-1111111', 'pending'), (2, 3, '+972 50 1111111', 'completed'),
        (3, 3, '0502222222', 'pending'), (4, 4, '050-1111111', 'queued'), (5, 5, '0503333333', 'queued')`);
    const report = await adoptBoth(fixture, old);
    expect(report.missing).toEqual(
      expect.arrayContaining(['runs.status', 'runs.business', 'runs.created_at', 'leads']),
    );
    expect(report.assumed).toContain('no runs.status: every run is taken as unfinished');
    expect(report.businesses).toEqual([{ old_business: '', business_id: expect.any(Number), made: true }]);
    expect(report.leads).toMatchObject({ read: 2, made: 2, new_id: 2, kept_id: 0 });
    expect(await runsOf(fixture)).toMatchObject([
      { old: 3, status: 'paused', name: 'Run 3', jobs: 2 },
      { old: 4, status: 'paused', jobs: 1 },
    ]);
    expect(await jobsOf(fixture)).toMatchObject([
      { old: 2, status: 'completed', phone: '+972501111111' },
      { old: 3, status: 'queued', phone: '+972502222222' },
      { old: 4, status: 'queued', phone: '+972501111111' },
    ]);
    expect(await archiveOf(fixture)).toMatchObject([
      { old: 1, reason: 'duplicate', detail: 'job 2 is kept' },
      { old: 5, reason: 'no_run', detail: 'run 5' },
    ]);
  });

  it('the leads’ ids and no table of leads', async () => {
    const { fixture, old } = await open(`${RUNS}${JOBS}
      INSERT INTO outbound_call_runs (status) VALUES ('running');
      INSERT INTO outbound_call_jobs (run_id, lead_id, phone, status) VALUES (1, 70, '0501111111', 'queued'),
        (1, 71, '0501111111', 'queued'), (1, 70, '0502222222', 'queued'), (1, NULL, NULL, 'queued')`);
    const report = await adoptBoth(fixture, old);
    expect(report.jobs.archived).toEqual({ same_number: 1, no_lead: 1 });
    const leads = await fixture.rows('SELECT lead_id::int AS id, phone FROM carillon.leads ORDER BY phone');
    // One old lead with two numbers is two leads, of which one keeps its id.
    expect(leads).toEqual([
      { id: 70, phone: '+972501111111' },
      { id: expect.any(Number), phone: '+972502222222' },
    ]);
    expect(leads[1]?.id).toBeGreaterThan(70);
  });

  it('businesses with ids of any kind, each of which gets its own', async () => {
    const [a, b] = ['8f14e45f-ceea-467f-a0f3-0d1b3a1c0001', 'c9f0f895-fb98-4b91-9d0c-2c0c3a1c0002'];
    const { fixture, old } = await open(`
      CREATE TABLE outbound_call_runs (id bigint, tenant_id uuid, state text);
      CREATE TABLE outbound_call_jobs (job_id bigint, run_id bigint, lead_id bigint, state text);
      CREATE TABLE leads (lead_id bigint, tenant_id uuid, mobile text, first_name text, last_name text, city text);
      INSERT INTO outbound_call_runs VALUES (1, '${a}', 'paused'), (2, '${b}', 'paused'), (3, NULL, 'paused');
      INSERT INTO leads VALUES (1, '${a}', '0501111111', 'Dana', 'Cohen', 'Haifa'), (2, '${b}', '0501111111', NULL, NULL, NULL),
        (3, NULL, '0501111111', NULL, NULL, NULL);
      INSERT INTO outbound_call_jobs VALUES (1, 1, 1, 'queued'), (2, 2, 2, 'queued'), (3, 3, 3, 'queued')`);
    const tenant = await createTenant(fixture, { leads: 0 });
    const map_business = new Map([[a, tenant.business_id]]);
    const report = await adoptBoth(fixture, old, { map_business });
    expect(report.businesses).toEqual([
      { old_business: '', business_id: expect.any(Number), made: true },
      { old_business: a, business_id: tenant.business_id, made: false },
      { old_business: b, business_id: expect.any(Number), made: true },
    ]);
    expect(new Set(report.businesses.map(({ business_id }) => business_id)).size).toBe(3);
    const [lead] = await fixture.rows(
      'SELECT name, attributes FROM carillon.leads WHERE business_id = $1 AND lead_id = 1',
      [tenant.business_id],
    );
    expect(lead).toEqual({ name: 'Dana Cohen', attributes: { city: 'Haifa' } });
    // No business sees another's adoption, nor its mapping.
    const walls = await fixture.rows(
      'SELECT business_id::int AS id, count(*)::int AS n FROM carillon.adopted_leads GROUP BY 1',
    );
    expect(walls.map(({ n }) => n)).toEqual([1, 1, 1]);
  });

  it('statuses that nobody knows: reported, and left to a person', async () => {
    const { fixture, old } = await open(`${RUNS}${JOBS}${LEADS}
      INSERT INTO leads (phone) SELECT '05' || (50000000 + n) FROM generate_series(1, 6) n;
      INSERT INTO outbound_call_runs (status) VALUES ('escalated'), ('Completed'), ('in-progress');
      INSERT INTO outbound_call_jobs (run_id, lead_id, status) VALUES (1, 1, 'QUEUED'), (1, 2, 'snoozed'),
        (1, 3, NULL), (2, 4, 'No Answer'), (3, 5, 'Ringing'), (3, 6, 'queued')`);
    const report = await adoptBoth(fixture, old);
    expect(report.unknown_statuses).toEqual({ runs: { escalated: 1 }, jobs: { snoozed: 1, '': 1 } });
    expect(await runsOf(fixture)).toMatchObject([{ status: 'paused' }, { status: 'completed' }, { status: 'paused' }]);
    expect(await jobsOf(fixture)).toMatchObject([
      { old: 1, status: 'queued', outcome: null },
      { old: 2, status: 'needs_review', outcome: 'unknown', reason: expect.stringContaining('"snoozed"') },
      { old: 3, status: 'needs_review', outcome: 'unknown' },
      { old: 4, status: 'failed', outcome: 'no_answer' },
      { old: 5, status: 'needs_review', outcome: 'unknown', reason: expect.stringContaining('in flight') },
      { old: 6, status: 'queued', outcome: null },
    ]);
  });
});

describe('what must not be called is not', () => {
  it('a job that was queued again after a call, and a person who must not be called', async () => {
    const { fixture, old } = await open(`${RUNS}${JOBS}
      CREATE TABLE leads (id serial PRIMARY KEY, phone text, do_not_call boolean);
      INSERT INTO leads (phone, do_not_call) SELECT '05' || (50000000 + n), n = 5 FROM generate_series(1, 6) n;
      INSERT INTO outbound_call_runs (status) VALUES ('running');
      INSERT INTO outbound_call_jobs (run_id, lead_id, status, attempts, call_sid, last_error) VALUES
        (1, 1, 'queued', 1, NULL, NULL), (1, 2, 'queued', 0, 'CA1', NULL), (1, 3, 'queued', 0, NULL, NULL),
        (1, 4, 'failed', 0, NULL, 'Canceled by user '), (1, 5, 'queued', 0, NULL, NULL),
        (1, 6, 'failed', 1, 'CA2', 'busy signal')`);
    const report = await adoptBoth(fixture, old);
    expect(report.jobs.became).toEqual({ needs_review: 2, queued: 1, cancelled: 1, skipped: 1, failed: 1 });
    expect(await jobsOf(fixture)).toMatchObject([
      { status: 'needs_review', reason: expect.stringContaining('queued again after a call') },
      { status: 'needs_review' },
      { status: 'queued' },
      { status: 'cancelled', reason: 'Canceled by user' },
      { status: 'skipped', reason: 'do not call' },
      { status: 'failed', reason: 'busy signal' },
    ]);
    const [lead] = await fixture.rows('SELECT attributes FROM carillon.leads WHERE lead_id = 5');
    expect(lead?.attributes).toEqual({ do_not_call: 'true' });
  });

  it('who was left in the queue of a run that had ended, or was told to stop', async () => {
    const { fixture, old } = await open(`${RUNS}${JOBS}${LEADS}
      INSERT INTO leads (phone) SELECT '05' || (50000000 + n) FROM generate_series(1, 9) n;
      INSERT INTO outbound_call_runs (status, cancel_requested) VALUES ('completed', false), ('running', true),
        ('failed', false), ('running', false), ('pending', false);
      INSERT INTO outbound_call_jobs (run_id, lead_id, status) VALUES (1, 1, 'queued'), (1, 2, 'in_progress'),
        (2, 3, 'queued'), (2, 4, 'completed'), (3, 5, 'queued'), (4, 6, 'completed'), (4, 7, 'in_progress')`);
    await adoptBoth(fixture, old);
    expect(await runsOf(fixture)).toMatchObject([
      { old: 1, status: 'completed' },
      { old: 2, status: 'cancelled' },
      { old: 3, status: 'failed' },
      // Nobody is left to be called, so nothing would ever end them.
      { old: 4, status: 'completed' },
      { old: 5, status: 'completed', jobs: 0 },
    ]);
    expect((await jobsOf(fixture)).map(({ status }) => status)).toEqual([
      'cancelled',
      'needs_review',
      'cancelled',
      'completed',
      'cancelled',
      'completed',
      'needs_review',
    ]);
  });
});

describe('walls between the businesses of an old installation', () => {
  it('hold for rows that lead across them: each stays in the archive of its own', async () => {
    const { fixture, old } = await open(`${RUNS}${JOBS}${LEADS}
      INSERT INTO leads (business_id, phone) VALUES (1, '0501111111'), (2, '0502222222'), (1, 'nobody');
      INSERT INTO outbound_call_runs (business_id, status) VALUES (1, 'running'), (2, 'running');
      INSERT INTO outbound_call_jobs (run_id, lead_id, business_id, status) VALUES (1, 1, 1, 'queued'),
        (1, 1, 2, 'queued'), (1, 2, NULL, 'queued'), (2, 2, NULL, 'queued'), (9, 1, NULL, 'queued'), (9, NULL, NULL, 'queued'),
        (1, 3, 1, 'queued')`);
    const report = await adoptBoth(fixture, old);
    const own = (old_business: string) =>
      report.businesses.find((business) => business.old_business === old_business)?.business_id;
    expect(await archiveOf(fixture)).toEqual([
      { business: own('2'), kind: 'job', old: 2, reason: 'other_business', detail: 'run 1' },
      { business: own('1'), kind: 'job', old: 3, reason: 'lead_of_other_business', detail: 'lead 2' },
      { business: own('1'), kind: 'job', old: 5, reason: 'no_run', detail: 'run 9' },
      { business: own(''), kind: 'job', old: 6, reason: 'no_run', detail: 'run 9' },
      { business: own('1'), kind: 'job', old: 7, reason: 'bad_number', detail: 'letters' },
      { business: own('1'), kind: 'lead', old: 3, reason: 'bad_number', detail: 'letters' },
    ]);
    expect((await jobsOf(fixture)).map(({ old: id }) => id)).toEqual([1, 4]);
  });
});

describe('times', () => {
  it('are kept, those without a zone as of the one that is named, and those that are none as unknown', async () => {
    const { fixture, old } = await open(`
      CREATE TABLE outbound_call_runs (id integer, status text, created_at timestamp, started_at timestamptz, ended_at text,
        updated_at date);
      CREATE TABLE outbound_call_jobs (id integer, run_id integer, phone text, status text, updated_at timestamp);
      INSERT INTO outbound_call_runs VALUES
        (1, 'completed', '2024-07-01 08:00:00.123456', '2024-07-01 08:00Z', '2024-02-30 10:00', '2024-07-02'),
        (2, 'completed', 'infinity', NULL, 'yesterday', NULL);
      INSERT INTO outbound_call_jobs VALUES (1, 1, '0501111111', 'completed', '2024-07-01 09:00'),
        (2, 2, '0501111111', 'completed', '2024-07-03 09:00')`);
    const report = await adoptBoth(fixture, old, { time_zone: 'Asia/Jerusalem' });
    expect(report.assumed).toContain('times without a zone are those of Asia/Jerusalem');
    const times = await fixture.rows(
      `SELECT r.created_at::text AS created, r.started_at::text AS started, r.ended_at::text AS ended, j.updated_at::text AS job
       FROM carillon.outbound_call_runs r JOIN carillon.outbound_call_jobs j USING (business_id, run_id) ORDER BY run_id`,
    );
    expect(times[0]).toEqual({
      created: '2024-07-01 05:00:00.123456+00',
      started: '2024-07-01 08:00:00+00',
      ended: '2024-07-01 21:00:00+00',
      job: '2024-07-01 06:00:00+00',
    });
    expect(times[1]).toMatchObject({ started: null, ended: '2024-07-03 06:00:00+00', job: '2024-07-03 06:00:00+00' });
    expect(Date.parse(String(times[1]?.created))).toBeGreaterThan(Date.parse('2026-01-01'));
  });
});

it('may lie in a schema of the same database', async () => {
  const fixture = await createFixture();
  onTestFinished(() => fixture.close());
  await withClient(fixture.superuserUrl, (client) =>
    client.query(`CREATE SCHEMA "Old CRM"; SET search_path = "Old CRM"; ${RUNS}${JOBS}
      INSERT INTO outbound_call_runs (status) VALUES ('running');
      INSERT INTO outbound_call_jobs (run_id, lead_id, phone, status) VALUES (1, 1, '+15005550006', 'queued')`),
  );
  const options = { from: fixture.superuserUrl, app_url: fixture.appUrl, actor: { name: 'adopt', user_id: null } };
  const report = await adopt(fixture.db, { ...options, schema: 'Old CRM', country: 'US' });
  expect(report).toMatchObject({ ok: true, source: { schema: 'Old CRM' }, jobs: { taken: 1 } });
  expect(BusinessId.parse(report.businesses[0]?.business_id)).toBeGreaterThan(0);
});
