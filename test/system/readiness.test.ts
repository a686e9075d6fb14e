import { createCarrierDrivers } from '@carillon/carriers';
import { type ReadinessPoint, READINESS_POINTS, type ReadinessReport } from '@carillon/contract';
import { type Database, defaultLimits, openDatabase, systemClock } from '@carillon/engine';
import { checkReadiness } from '@carillon/readiness';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../support/wait.ts';
import { createInstallation, type Installation, LEASE_TTL_MS, type Worker } from './support/installation.ts';
import { startCarillon } from './support/processes.ts';
import { startOwnServer } from './support/server.ts';

let here: Installation;
let db: Database;
let worker: Worker;
/** A paused run of an ordinary business, whose leads are half called: what a check on a live installation finds. */
let run_id: number;

beforeAll(async () => {
  here = await createInstallation(await startOwnServer());
  db = openDatabase({ app_url: here.env.DATABASE_URL ?? '' });
  worker = await here.worker();
  const tenant = await here.tenant({ leads: 12, lines: 3, calls_per_second: 100 });
  run_id = (await here.start(tenant, { concurrency: 3 })).run_id;
  await here.calls(tenant, 5);
  await here.ask(tenant.key, 'POST', `/api/outbound/runs/${run_id}/pause`);
  await until(async () => (await here.run(tenant, run_id)).in_progress === 0, { deadline_ms: 30_000 });
}, 120_000);
afterAll(async () => {
  await db.close();
  await here.close();
});

const LIMITS = { ...defaultLimits, lease_ttl_ms: LEASE_TTL_MS, hang_up_every_ms: 300, poll_work_ms: 100 };

/** A machine that stalls for two seconds breaks the promise of reclaim, and nothing of the installation is wrong. */
const LATE = /was taken over \d+ ms after/;
const TRIES = 3;

async function check(): Promise<ReadinessReport> {
  for (let tries = 1; ; tries++) {
    const report = await checkOnce();
    const reclaim = report.points.find(({ point }) => point === 'reclaim');
    if (tries === TRIES || reclaim?.ok !== false || !LATE.test(reclaim.sentence)) return report;
  }
}

async function checkOnce(): Promise<ReadinessReport> {
  return await checkReadiness({
    db,
    app_url: here.env.DATABASE_URL ?? '',
    drivers: createCarrierDrivers(),
    secret: Buffer.from(here.env.CARILLON_SECRET ?? '', 'base64'),
    limits: LIMITS,
    clock: systemClock,
    timeout_ms: 90_000,
    ask_carrier: false,
  });
}

const failedOf = ({ points }: ReadinessReport) => points.filter(({ ok }) => !ok).map(({ point }) => point);

/** Every row of every table; not those in which the processes show themselves alive all the time. */
async function dump(): Promise<Record<string, unknown>> {
  const tables = await here.rows<{ relname: string }>(
    `SELECT relname FROM pg_class WHERE relnamespace = 'carillon'::regnamespace AND relkind = 'r'
     AND relname NOT IN ('workers', 'witnesses') ORDER BY 1`,
  );
  const rows: Record<string, unknown> = {};
  for (const { relname } of tables)
    rows[relname] = (
      await here.rows(`SELECT json_agg(t ORDER BY t::text) AS rows FROM carillon.${relname} t`)
    )[0]?.rows;
  return rows;
}

const ledger = async (): Promise<string> => await (await fetch(`${here.simUrl}/_sim/ledger`)).text();

describe('of a healthy installation', () => {
  it('every point is proven, with its evidence; nothing is left behind, and no carrier hears of it', async () => {
    const [before, calls] = [await dump(), await ledger()];
    const report = await until(
      async () => {
        const command = startCarillon(['readiness', '--json'], here.env);
        const code = await command.ended;
        const said = JSON.parse(command.stdout()) as ReadinessReport;
        console.log(said.points.map(({ point, sentence }) => `${point}: ${sentence}`).join('\n'));
        return code === 0 ? said : null;
      },
      { deadline_ms: 100_000, what: 'a report of a healthy installation' },
    );
    expect(report.ok).toBe(true);
    expect(report.scope).toBe('installation');
    expect(report.points.map(({ point }) => point)).toEqual(READINESS_POINTS);
    const evidence = Object.fromEntries(report.points.map((result) => [result.point, result.evidence]));
    expect(evidence.constraint).toMatchObject({ duplicate_refused_by: 'unique_run_lead', validated: true });
    expect(evidence.cancel).toMatchObject({ worker: worker.worker_id, attempts_after: 0, ended_at_set: true });
    expect(Number(evidence.cancel?.in_flight)).toBeGreaterThanOrEqual(1);
    // Every lead was called before the stop, or it is cancelled.
    expect(Number(evidence.cancel?.attempts_before) + Number(evidence.cancel?.cancelled)).toBe(20);
    expect(evidence.reclaim).toMatchObject({ taken_over_by: worker.worker_id, promised_ms: LEASE_TTL_MS + 2_000 });
    expect(Number(evidence.reclaim?.heartbeat_age_ms)).toBeGreaterThanOrEqual(LEASE_TTL_MS - 100);
    expect(evidence.cursor).toMatchObject({ runs_counted: 3, jobs_counted: 52, runs_left_out: 0 });
    expect(evidence.invariants).toMatchObject({ runs: 3, jobs: 52, violations: [] });
    expect(await dump()).toEqual(before);
    expect(await ledger()).toBe(calls);
  }, 120_000);

  it('two checks at once do not disturb each other, and leave nothing behind either', async () => {
    const before = await dump();
    const reports = await Promise.all([check(), check()]);
    for (const report of reports) expect(failedOf(report)).toEqual([]);
    expect(await dump()).toEqual(before);
  }, 120_000);

  it('a check that is told to stop ends soon, and removes its canaries', async () => {
    const before = await dump();
    const command = startCarillon(['readiness'], here.env);
    await until(async () => (await here.rows('SELECT 1 FROM carillon.businesses WHERE canary')).length === 2, {
      deadline_ms: 30_000,
      what: 'the canaries',
    });
    command.signal('SIGINT');
    expect(await command.ended).toBe(1);
    expect(await dump()).toEqual(before);
  }, 60_000);

  it('what a killed check has left is removed by a later one, when it is old', async () => {
    const before = await dump();
    const command = startCarillon(['readiness'], here.env);
    await until(async () => (await here.rows('SELECT 1 FROM carillon.businesses WHERE canary')).length === 2, {
      deadline_ms: 30_000,
      what: 'the canaries',
    });
    await command.kill();
    expect((await here.rows('SELECT 1 FROM carillon.businesses WHERE canary')).length).toBe(2);
    await here.rows("UPDATE carillon.businesses SET created_at = now() - interval '11 minutes' WHERE canary");
    expect(failedOf(await check())).toEqual([]);
    expect(await dump()).toEqual(before);
  }, 120_000);
});

interface Break {
  point: ReadinessPoint;
  how: string;
  break: string | (() => Promise<void>);
  mend: string | (() => Promise<void>);
  says: RegExp;
}

const CONSTRAINT = 'ADD CONSTRAINT unique_run_lead UNIQUE (business_id, run_id, lead_id)';
const DROP = 'ALTER TABLE carillon.outbound_call_jobs DROP CONSTRAINT unique_run_lead';

const meddle = (body: string) => `
  CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body} RETURN NEW; END $$;
  CREATE TRIGGER meddle BEFORE UPDATE ON carillon.outbound_call_runs FOR EACH ROW EXECUTE FUNCTION public.meddle()`;
const NO_MEDDLING = 'DROP FUNCTION public.meddle() CASCADE';

const BREAKS: Break[] = [
  {
    point: 'migrations',
    how: 'a migration was changed after it was applied',
    break: "UPDATE carillon.schema_migrations SET checksum = repeat('0', 64) WHERE version = 3",
    mend: `UPDATE carillon.schema_migrations m SET checksum = b.checksum FROM public.right_checksums b WHERE b.version = m.version`,
    says: /Migration 0003_lists_and_leads\.sql is not what was applied/,
  },
  {
    point: 'constraint',
    how: 'it was dropped',
    break: DROP,
    mend: `ALTER TABLE carillon.outbound_call_jobs ${CONSTRAINT}`,
    says: /there is no constraint unique_run_lead.*a second job for the same lead and run was taken/,
  },
  {
    point: 'constraint',
    how: 'an index of its name that is not unique stands in its place',
    break: `${DROP}; CREATE INDEX unique_run_lead ON carillon.outbound_call_jobs (business_id, run_id, lead_id)`,
    mend: `DROP INDEX carillon.unique_run_lead; ALTER TABLE carillon.outbound_call_jobs ${CONSTRAINT}`,
    says: /there is no constraint unique_run_lead/,
  },
  {
    point: 'constraint',
    how: 'it may be deferred',
    break: `${DROP}; ALTER TABLE carillon.outbound_call_jobs ${CONSTRAINT} DEFERRABLE`,
    mend: `${DROP}; ALTER TABLE carillon.outbound_call_jobs ${CONSTRAINT}`,
    says: /unique_run_lead can be deferred/,
  },
  {
    point: 'cancel',
    how: 'a stop forgets ended_at',
    break: `ALTER TABLE carillon.outbound_call_runs DROP CONSTRAINT ended_when_final;
      ${meddle("IF NEW.status = 'cancelled' THEN NEW.ended_at := NULL; END IF;")}`,
    mend: `${NO_MEDDLING}; ALTER TABLE carillon.outbound_call_runs ADD CONSTRAINT ended_when_final CHECK
      ((ended_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled')))`,
    says: /ended_at is not set on the cancelled run/,
  },
  {
    point: 'cancel',
    how: 'a stop is swallowed',
    break: meddle(
      'IF NEW.cancel_requested_at IS NOT NULL AND OLD.cancel_requested_at IS NULL THEN RETURN OLD; END IF;',
    ),
    mend: NO_MEDDLING,
    says: /the answer to the stop says that the run is running.*calls begun after the stop had answered: \d+/,
  },
  {
    point: 'isolation',
    how: 'row security of a table is off',
    break: 'ALTER TABLE carillon.leads DISABLE ROW LEVEL SECURITY',
    mend: 'ALTER TABLE carillon.leads ENABLE ROW LEVEL SECURITY',
    says: /leads: its row security is off.*leads: read a row of another business/,
  },
  {
    point: 'isolation',
    how: 'a second policy opens a table',
    break: 'CREATE POLICY support ON carillon.outbound_call_jobs FOR SELECT USING (true)',
    mend: 'DROP POLICY support ON carillon.outbound_call_jobs',
    says: /outbound_call_jobs: read a row of another business/,
  },
  {
    point: 'isolation',
    how: 'the application is a member of discovery',
    break: 'GRANT carillon_app_discovery TO carillon_app',
    mend: 'REVOKE carillon_app_discovery FROM carillon_app',
    says: /is a member of \w+_discovery.*: read a row of another business/,
  },
  {
    point: 'cursor',
    how: 'a counter was changed by hand',
    break: `ALTER TABLE carillon.outbound_call_runs DROP CONSTRAINT counters_add_up;
      UPDATE carillon.outbound_call_runs SET completed = completed + 1 WHERE status = 'paused'`,
    mend: `UPDATE carillon.outbound_call_runs SET completed = completed - 1 WHERE status = 'paused';
      ALTER TABLE carillon.outbound_call_runs ADD CONSTRAINT counters_add_up CHECK
        (queued + waiting + in_progress + completed + failed + cancelled + skipped + needs_review = total_leads)`,
    says: /run \d+ \(completed \d+, counted \d+, cursor_position \d+, counted \d+\)/,
  },
  {
    point: 'invariants',
    how: 'what happened to a run is gone from the trail',
    break: `CREATE TABLE public.kept AS SELECT * FROM carillon.audit_events WHERE subject_type = 'run';
      DELETE FROM carillon.audit_events WHERE subject_type = 'run'`,
    mend: 'INSERT INTO carillon.audit_events OVERRIDING SYSTEM VALUE SELECT * FROM public.kept; DROP TABLE public.kept',
    says: /the trail tells of none of its changes \(invariant 8\)/,
  },
  {
    point: 'reclaim',
    how: 'the only worker is stopped dead',
    break: async () => worker.signal('SIGSTOP'),
    mend: async () => {
      worker.signal('SIGCONT');
      await until(async () => (await aliveWorkers()) === 1, { deadline_ms: 30_000, what: 'the worker awake' });
    },
    says: /A dead worker's run was not taken over/,
  },
  {
    point: 'reclaim',
    how: 'no worker is there',
    break: async () => void (await worker.stop()),
    mend: async () => {
      worker = await here.worker();
      await until(async () => (await aliveWorkers()) === 1, { deadline_ms: 30_000, what: 'a worker' });
    },
    says: /A dead worker's run was not taken over: no worker is alive/,
  },
];

async function aliveWorkers(): Promise<number> {
  const rows = await here.rows("SELECT 1 FROM carillon.workers WHERE seen_at > now() - interval '1 second'");
  return rows.length;
}

const apply = async (change: Break['break']) =>
  typeof change === 'string' ? void (await here.rows(change)) : await change();

describe('each point broken on purpose', () => {
  beforeAll(async () => {
    await here.rows('CREATE TABLE public.right_checksums AS SELECT version, checksum FROM carillon.schema_migrations');
  });

  it('covers the seven', () => {
    expect(new Set(BREAKS.map(({ point }) => point))).toEqual(new Set(READINESS_POINTS));
  });

  it.each(BREAKS.map((one) => [one.point, one.how, one] as const))(
    '%s fails when %s, and the others hold',
    async (point, _, { break: damage, mend, says }) => {
      await apply(damage);
      let report: ReadinessReport;
      try {
        report = await check();
      } finally {
        await apply(mend);
      }
      const result = report.points.find((one) => one.point === point);
      console.log(`${point}: ${result?.sentence}`);
      expect(failedOf(report)).toEqual([point]);
      expect(report.ok).toBe(false);
      expect(result?.sentence).toMatch(says);
      expect(await here.rows('SELECT 1 FROM carillon.businesses WHERE canary')).toEqual([]);
    },
    90_000,
  );

  it('is whole again afterwards', async () => {
    expect(failedOf(await check())).toEqual([]);
  }, 60_000);
});
