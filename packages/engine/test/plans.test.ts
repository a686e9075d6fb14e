import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { plansJobs } from '../../../test/support/sizes.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { type Database, inBusiness, openDatabase } from '../src/db/database.ts';
import { createTenant, type Fixture } from './support/fixture.ts';
import { DOINGS, type Doing, freeRun } from './support/hot-statements.ts';
import { addOldRuns, type Big, bloat, createBigFixture, fillTenant, LIVE } from './support/million.ts';
import { explainEverything, type Plan, plansOf } from './support/plans.ts';

/**
 * The plans of every hot statement as it is sent, over a run of plansJobs jobs, whatever the planner knows of it: a
 * connection that planned while everything was small, tables that were never analysed, analysed ones, and ones full of
 * dead rows. None may read what it does not want. Bounds do not grow with the jobs.
 */

const OLD_RUNS = 1_000;
const LIMITS = {
  claim_batch_attempts: 50,
  fill_batch_jobs: 200,
  fill_ahead_jobs: 10_000_000,
  sweep_batch_jobs: 200,
  worker_runs: 1_000,
};

/** The indexes that a statement can mean, by what it says. */
function meant(table: string, text: string): string[] {
  const says = (words: string, ...indexes: string[]) => (text.includes(words) ? indexes : []);
  switch (table) {
    case 'outbound_call_jobs':
      return ['outbound_call_jobs_pkey', ...says('lead_id >= $2 AND lead_id <= $2', 'unique_run_lead')];
    case 'outbound_call_runs':
      return [
        'outbound_call_runs_pkey',
        ...says('idempotency_key = $2', 'unique_run_idempotency_key'),
        ...says("status IN ('pending', 'running')", 'runs_at_work'),
        ...says('swept_seq < total_leads', 'runs_to_sweep'),
      ];
    case 'leads':
      return [
        'leads_pkey',
        ...says('AND phone', 'unique_lead_phone'),
        ...says('AND external_id', 'leads_by_external_id'),
        ...says('AND search_name', 'leads_by_name'),
      ];
    case 'job_schedule':
      return [...says('due_us > 0', 'job_schedule_by_due'), ...says('seq', 'job_schedule_pkey')];
    case 'open_attempts':
      // Discovery looks through all open attempts: there are no more of them than lines.
      return ['open_attempts_pkey', ...says('AS errand', 'Seq Scan')];
    case 'attempts':
      return ['attempts_pkey', ...says('call_id = l.call_id', 'attempts_by_call')];
    case 'list_members':
    case 'run_leads':
      return [`${table}_pkey`];
    default:
      return [];
  }
}

interface Bounds {
  /** Rows that one statement reads and throws away. */
  removed: number;
  /** Pages that it touches. */
  blocks: number;
}
const USUAL: Bounds = { removed: 10, blocks: 1_200 };
/** Where more is in the nature of the thing, with the reason. */
const MORE: Readonly<Record<string, Partial<Bounds>>> = {
  // The business's open attempts are counted, of which there are as many as lines; the due ones are of one run.
  claim: { removed: LIVE, blocks: 2_000 },
  // One row: whoever reads all that wait to find the first reads many more pages.
  'next due': { blocks: 25 },
  // Open attempts of which nothing is wanted, twice.
  tend: { removed: 2 * LIVE + 100, blocks: 4_000 },
  reconcile: { removed: LIVE + 100 },
  counts: { removed: OLD_RUNS + 10 },
  'one lead': { removed: LIVE + OLD_RUNS, blocks: 5_000 },
  // 200 rows with two indexes and two foreign keys.
  fill: { blocks: 3_000 },
  sweep: { blocks: 3_000 },
  'create, pause, resume, stop': { blocks: 3_000 },
  // Pages of 5,000 names of attributes, and of 1,000 leads with their attempts.
  export: { blocks: 30_000 },
  // All of the earlier run, and its half that was not busy.
  'follow up': { removed: 2_600, blocks: 4_000 },
  // The one job under review among all that have ended.
  'cancel and resolve a job': { removed: 5_000 },
  lease: { removed: 100 },
  // Neighbours of those that are settled, up to 64 for each.
  settle: { removed: 50 * 64 },
};

function offences(name: string, plans: readonly Plan[]): string[] {
  const { removed, blocks } = { ...USUAL, ...MORE[name] };
  return plans.flatMap((plan) => {
    const wrong = plan.scans.filter((scan) => {
      const [table = '', index = ''] = scan.split(': ');
      const right = meant(table, plan.text);
      return table === 'bitmap' || (right.length > 0 && !right.includes(index));
    });
    if (wrong.length === 0 && plan.removed <= removed && plan.blocks <= blocks) return [];
    const why = wrong.length > 0 ? wrong.join(', ') : `${plan.removed} rows thrown away, ${plan.blocks} pages`;
    return [`${name}: ${why}: ${plan.text.slice(0, 160)}`];
  });
}

/** Does everything once; the plans that are wrong, and how many plans there were in all. */
async function look(fixture: Fixture, db: Database, big: Big, label: string) {
  await freeRun(fixture, big);
  const doing: Doing = { db, big, limits: fixture.limits, worker_id: label };
  const wrong: string[] = [];
  const counts: Record<string, number> = {};
  for (const { name, run } of DOINGS) {
    const plans = await plansOf(() => run(doing));
    counts[name] = plans.length;
    wrong.push(...offences(name, plans));
  }
  return { wrong: [...new Set(wrong)], counts };
}

const connect = (fixture: Fixture) =>
  openDatabase({ app_url: fixture.appUrl, discovery_url: fixture.discoveryUrl, pool_connections: 1 });

const tenantOf = (fixture: Fixture) => createTenant(fixture, { leads: 0, lines: 10_000, calls_per_second: 1_000 });

/** Small businesses are there first; a connection has planned everything by then. */
async function beginSmall(fixture: Fixture): Promise<Database> {
  const early = connect(fixture);
  const small = await fillTenant(fixture, await tenantOf(fixture), 40);
  await look(fixture, early, small, 'small');
  for (let n = 0; n < 10; n++) await fillTenant(fixture, await tenantOf(fixture), 20);
  return early;
}

async function grow(fixture: Fixture, jobs: number): Promise<Big> {
  const tenant = await tenantOf(fixture);
  await addOldRuns(fixture, tenant, OLD_RUNS);
  return await fillTenant(fixture, tenant, jobs);
}

describe('the plans of the hot statements', { timeout: 300_000 }, () => {
  let fixture: Fixture;
  let early: Database;
  let big: Big;
  beforeAll(async () => {
    fixture = await createBigFixture(LIMITS);
    await explainEverything(fixture);
    early = await beginSmall(fixture);
    big = await grow(fixture, plansJobs);
  }, 600_000);
  afterAll(async () => {
    await early?.close();
    await fixture.close();
  });

  async function expectRight(db: Database, label: string): Promise<void> {
    const { wrong, counts } = await look(fixture, db, big, label);
    expect(wrong).toEqual([]);
    // Nothing was right only because nobody saw it.
    for (const { name } of DOINGS) expect([name, (counts[name] ?? 0) > 0]).toEqual([name, true]);
  }

  it('are right on a connection that made them while the tables were small', async () => {
    await expectRight(early, 'early');
  });

  it('are right on tables that were never analysed', async () => {
    const db = connect(fixture);
    await expectRight(db, 'unanalysed').finally(() => db.close());
  });

  it('are right on analysed tables', async () => {
    await fixture.rows('ANALYZE');
    const db = connect(fixture);
    await expectRight(db, 'analysed').finally(() => db.close());
  });

  it('are right when all that waited at the last ANALYZE waited for the same reason', async () => {
    // The planner then takes "another reason" for next to nothing, and what reads all of them for as cheap as the first.
    await fixture.rows('ALTER TABLE carillon.job_schedule ALTER COLUMN reason SET (n_distinct = 1)');
    await fixture.rows('ANALYZE carillon.job_schedule');
    const db = connect(fixture);
    await expectRight(db, 'one reason').finally(() => db.close());
  });

  it('are right among dead rows that nobody has vacuumed away', async () => {
    await bloat(fixture, big);
    const db = connect(fixture);
    // The first to come by marks dead entries as dead, which takes as long as there are; those after it skip them.
    await look(fixture, db, big, 'bloated, first');
    await expectRight(db, 'bloated').finally(() => db.close());
  });
});

/** What keeps them right, and how each is taken away. */
const PROTECTIONS: readonly { name: string; settings?: Record<string, string>; sql?: string; stale?: boolean }[] = [
  { name: 'plans for any business and run', settings: { plan_cache_mode: 'force_custom_plan' }, stale: true },
  { name: 'no sequential scans', settings: { enable_seqscan: 'on' } },
  { name: 'no bitmap scans', settings: { enable_bitmapscan: 'on' } },
  {
    name: 'a primary key of jobs that is younger than the other key',
    sql: `ALTER TABLE carillon.outbound_call_jobs DROP CONSTRAINT unique_run_lead,
            ADD CONSTRAINT unique_run_lead UNIQUE (business_id, run_id, lead_id)`,
  },
  {
    name: 'a schedule by due time for those alone who ask for it',
    sql: 'CREATE INDEX whole_schedule ON carillon.job_schedule (business_id, run_id, due_us, seq)',
  },
  {
    name: 'an idempotency key that is no key of runs without one',
    sql: 'CREATE INDEX whole_idempotency ON carillon.outbound_call_runs (business_id, idempotency_key)',
  },
];

describe('without', { timeout: 300_000 }, () => {
  it.each(PROTECTIONS)('$name some plan is wrong', async ({ settings, sql, stale }) => {
    const fixture = await createBigFixture(LIMITS);
    const open: Database[] = [];
    try {
      await explainEverything(fixture, settings);
      if (sql) await withClient(fixture.superuserUrl, (client) => client.query(sql));
      open.push(await beginSmall(fixture));
      if (stale) await fixture.rows('ANALYZE');
      const big = await grow(fixture, 10_000);
      // What was planned while all was small, what is planned from statistics that don't know this business, and from
      // none that are out of date.
      open.push(connect(fixture));
      const wrong = [];
      for (const db of open) wrong.push(...(await look(fixture, db, big, 'taken away')).wrong);
      await fixture.rows('ANALYZE');
      const last = connect(fixture);
      open.push(last);
      wrong.push(...(await look(fixture, last, big, 'analysed')).wrong);
      expect(wrong).not.toEqual([]);
    } finally {
      for (const db of open) await db.close();
      await fixture.close();
    }
  });
});

it('a look-up of many jobs at once, as claims made it before, is found to read a whole run', {
  timeout: 120_000,
}, async () => {
  const fixture = await createBigFixture(LIMITS);
  const early = connect(fixture);
  try {
    await explainEverything(fixture);
    const small = await fillTenant(fixture, await tenantOf(fixture), 300);
    const touch = ({ business_id, run_id }: Big) =>
      inBusiness(early, business_id, (tx) =>
        tx.query(
          `UPDATE carillon.outbound_call_jobs SET updated_at = now()
           WHERE business_id = $1 AND run_id = $2 AND seq = ANY ($3) AND status IN ('queued', 'waiting')`,
          [business_id, run_id, [1, 2, 3]],
        ),
      );
    await touch(small);
    const big = await grow(fixture, 10_000);
    expect(offences('claim', await plansOf(() => touch(big)))).toEqual([
      expect.stringContaining('outbound_call_jobs: unique_run_lead'),
    ]);
  } finally {
    await early.close();
    await fixture.close();
  }
});
