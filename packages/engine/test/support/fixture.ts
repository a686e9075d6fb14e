import { BusinessId, CarrierAccountId, ListId, RunId, type StartRun } from '@carillon/contract';
import pg from 'pg';
import { expect } from 'vitest';
import type { Actor } from '../../src/actor.ts';
import { createTestDatabase } from '../../../../test/support/database.ts';
import { guardStates } from '../../../../test/support/state-guard.ts';
import { guardTrail } from '../../../../test/support/trail-guard.ts';
import type { AttemptKey, Evidence } from '../../src/call/attempt.ts';
import { type ClaimedAttempt, claim } from '../../src/call/claim.ts';
import { recordEvidence } from '../../src/call/record.ts';
import { systemClock } from '../../src/clock.ts';
import { inBusiness, openDatabase } from '../../src/db/database.ts';
import { defaultLimits, type Limits } from '../../src/limits.ts';
import { createRun } from '../../src/run/create.ts';
import { type Lease, leaseRun } from '../../src/run/lease.ts';

/** A migrated database with tenants to play with. Rows are read back as the superuser, past every wall. */
export async function createFixture(limits: Partial<Limits> = {}) {
  const database = await createTestDatabase();
  await guardTrail(database.superuserUrl);
  await guardStates(database.superuserUrl);
  const db = openDatabase({ app_url: database.appUrl, discovery_url: database.discoveryUrl, pool_connections: 8 });
  const superuser = new pg.Pool({ connectionString: database.superuserUrl, max: 4 });
  superuser.on('error', () => {});
  const rows = async <Row extends pg.QueryResultRow>(sql: string, params: unknown[] = []): Promise<Row[]> =>
    (await superuser.query<Row>(sql, params)).rows;
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
export type Fixture = Awaited<ReturnType<typeof createFixture>>;

export interface Tenant {
  business_id: BusinessId;
  carrier_account_id: CarrierAccountId;
  list_id: ListId;
}

/** A business with one lane and one list of `leads` members. */
export async function createTenant(
  fixture: Fixture,
  options: { leads?: number; lines?: number; calls_per_second?: number } = {},
): Promise<Tenant> {
  const id = async (sql: string, params: unknown[] = []) =>
    Number((await fixture.rows<{ id: string }>(sql, params))[0]?.id);
  const business_id = await id(
    "INSERT INTO carillon.businesses (name) VALUES ('A business') RETURNING business_id AS id",
  );
  const account = await id(
    `INSERT INTO carillon.carrier_accounts (business_id, name, driver, base_url, account_sid, auth_token_sealed,
       from_numbers) VALUES ($1, 'main', 'twilio', 'http://127.0.0.1:1', 'AC1', '\\x00', '{+97231110000}')
     RETURNING carrier_account_id AS id`,
    [business_id],
  );
  await fixture.rows(
    'INSERT INTO carillon.lanes (business_id, carrier_account_id, concurrency_limit, calls_per_second) VALUES ($1, $2, $3, $4)',
    [business_id, account, options.lines ?? 1_000, options.calls_per_second ?? 1_000],
  );
  const list_id = await addList(fixture, business_id, options.leads ?? 10);
  return {
    business_id: BusinessId.parse(business_id),
    carrier_account_id: CarrierAccountId.parse(account),
    list_id: ListId.parse(list_id),
  };
}

/** A further carrier account of a business, with a lane like that of its first. */
export async function addAccount(fixture: Fixture, { business_id, carrier_account_id }: Tenant) {
  const [account] = await fixture.rows<{ id: string }>(
    `INSERT INTO carillon.carrier_accounts (business_id, name, driver, base_url, account_sid, auth_token_sealed,
       from_numbers) VALUES ($1, 'another', 'twilio', 'http://127.0.0.1:1', 'AC2', '\\x00', '{+97231110001}')
     RETURNING carrier_account_id AS id`,
    [business_id],
  );
  await fixture.rows(
    `INSERT INTO carillon.lanes (business_id, carrier_account_id, concurrency_limit, calls_per_second)
     SELECT business_id, $3, concurrency_limit, calls_per_second FROM carillon.lanes
     WHERE business_id = $1 AND carrier_account_id = $2`,
    [business_id, carrier_account_id, Number(account?.id)],
  );
  return CarrierAccountId.parse(Number(account?.id));
}

/** A list of `leads` new leads of a business, their numbers its own. */
export async function addList(fixture: Fixture, business_id: number, leads: number): Promise<number> {
  const [list] = await fixture.rows<{ list_id: string }>(
    'INSERT INTO carillon.lists (business_id, name, leads) VALUES ($1, $2, $3) RETURNING list_id',
    [business_id, 'a list', leads],
  );
  await fixture.rows(
    `WITH people AS (
       INSERT INTO carillon.leads (business_id, phone, name)
       SELECT $1, '+9725' || lpad(($2::bigint * 100000 + n)::text, 10, '0'), 'Lead ' || n FROM generate_series(1, $3::int) n
       RETURNING lead_id)
     INSERT INTO carillon.list_members (business_id, list_id, position, lead_id)
     SELECT $1, $2, row_number() OVER (ORDER BY lead_id), lead_id FROM people`,
    [business_id, list?.list_id, leads],
  );
  return Number(list?.list_id);
}

export const actor: Actor = { name: 'test', user_id: null };

export async function startRun(
  fixture: Fixture,
  tenant: Tenant,
  request: Partial<StartRun> = {},
  idempotency_key?: string,
): Promise<RunId> {
  const body = { ...(request.lead_ids || request.from_run ? {} : { list_id: tenant.list_id }), ...request };
  const { run } = await createRun(fixture.db, tenant.business_id, body, {
    actor,
    limits: fixture.limits,
    idempotency_key,
  });
  return RunId.parse(run.run_id);
}

export async function lease(fixture: Fixture, tenant: Tenant, run_id: RunId, worker = 'worker-1'): Promise<Lease> {
  const taken = await inBusiness(fixture.db, tenant.business_id, (tx) => leaseRun(tx, run_id, worker, fixture.limits));
  if (!taken) throw new Error('the run was not leased');
  return taken;
}

export async function claimOnce(fixture: Fixture, mine: Lease, worker = 'worker-1') {
  return await claim(fixture.db, mine, worker, systemClock, fixture.limits);
}

/** Claims again and again until `wanted` attempts are open or nothing more is to be had. */
export async function claimAll(fixture: Fixture, mine: Lease, wanted: number, worker = 'worker-1') {
  const attempts: ClaimedAttempt[] = [];
  for (;;) {
    const got = await claimOnce(fixture, mine, worker);
    attempts.push(...got.attempts);
    if (attempts.length >= wanted || got.state === 'idle' || got.state === 'lost' || got.state === 'lines')
      return attempts;
  }
}

/** A run whose first attempts are open, as many as it has lines, and the first of them. */
export async function firstAttempts(fixture: Fixture, leads = 1, lines = 1) {
  const tenant = await createTenant(fixture, { leads, lines });
  const run_id = await startRun(fixture, tenant);
  const mine = await lease(fixture, tenant, run_id);
  const [attempt, ...more] = await claimAll(fixture, mine, lines);
  if (!attempt) throw new Error('nothing was claimed');
  return { tenant, run_id, mine, attempt, more };
}

export async function record(fixture: Fixture, key: AttemptKey, evidence: Evidence) {
  const items = [{ key, evidence, actor }];
  const [recorded] = await recordEvidence(fixture.db, key.business_id, key.run_id, items, fixture.limits);
  return recorded;
}

/** The end of a call, as a carrier tells it. */
export function ended(call_id: string, outcome: 'completed' | 'busy' | 'no_answer' | 'failed' | 'cancelled'): Evidence {
  return {
    kind: 'call',
    call: { call_id, phase: 'ended', outcome, duration_s: 3, created_at_s: null, cause: null },
  };
}

/** A call that is not over. */
export function live(call_id: string, phase: 'queued' | 'ringing' | 'in_call'): Evidence {
  return { kind: 'call', call: { call_id, phase, outcome: null, duration_s: null, created_at_s: null, cause: null } };
}

/** That nobody can say, by whoever has read the attempt as it is now. */
export async function review(fixture: Fixture, { run_id, seq }: AttemptKey, cause = 'lost'): Promise<Evidence> {
  const [open] = await fixture.rows<{ heard_us: string }>(
    'SELECT heard_us FROM carillon.open_attempts WHERE run_id = $1 AND seq = $2',
    [run_id, seq],
  );
  return { kind: 'review', cause, heard_us: Number(open?.heard_us) };
}

export interface RunFacts {
  status: string;
  queued: number;
  waiting: number;
  in_progress: number;
  completed: number;
  failed: number;
  cancelled: number;
  skipped: number;
  needs_review: number;
  cursor_position: number;
  claim_cursor: number;
  filled_seq: number;
  ended_at: Date | null;
  lease_epoch: number;
  locked_by_worker: string | null;
  control_epoch: number;
  total_leads: number;
  last_error: string | null;
  reclaim_count: number;
}

export async function readRow(fixture: Fixture, run_id: RunId): Promise<RunFacts> {
  const [row] = await fixture.rows<RunFacts & pg.QueryResultRow>(
    'SELECT * FROM carillon.outbound_call_runs WHERE run_id = $1',
    [run_id],
  );
  if (!row) throw new Error('no such run');
  return row;
}

/** The run's counters next to a recount of its rows. Equal at every commit, or something is wrong. */
export async function recount(fixture: Fixture, run_id: RunId) {
  const [row] = await fixture.rows<{ kept: Record<string, number>; counted: Record<string, number> }>(
    `SELECT jsonb_build_object('queued', r.queued, 'waiting', r.waiting, 'in_progress', r.in_progress,
         'completed', r.completed, 'failed', r.failed, 'cancelled', r.cancelled, 'skipped', r.skipped, 'needs_review', r.needs_review,
         'cursor_position', r.cursor_position) AS kept,
       (SELECT jsonb_build_object('queued', count(*) FILTER (WHERE e = 'queued') + r.total_leads - count(*)
            - CASE WHEN r.status IN ('cancelling', 'cancelled', 'failed') THEN r.total_leads - count(*) ELSE 0 END,
          'waiting', count(*) FILTER (WHERE e = 'waiting'),
          'in_progress', count(*) FILTER (WHERE e = 'in_progress'), 'completed', count(*) FILTER (WHERE e = 'completed'),
          'failed', count(*) FILTER (WHERE e = 'failed'),
          'cancelled', count(*) FILTER (WHERE e = 'cancelled')
            + CASE WHEN r.status IN ('cancelling', 'cancelled', 'failed') THEN r.total_leads - count(*) ELSE 0 END,
          'skipped', count(*) FILTER (WHERE e = 'skipped'), 'needs_review', count(*) FILTER (WHERE e = 'needs_review'),
          'cursor_position', count(*) FILTER (WHERE e IN ('completed', 'failed', 'cancelled', 'skipped', 'needs_review'))
            + CASE WHEN r.status IN ('cancelling', 'cancelled', 'failed') THEN r.total_leads - count(*) ELSE 0 END)
        FROM (SELECT CASE WHEN r.status IN ('cancelling', 'cancelled', 'failed') AND j.status IN ('queued', 'waiting')
                THEN 'cancelled' ELSE j.status END AS e
              FROM carillon.outbound_call_jobs j WHERE j.business_id = r.business_id AND j.run_id = r.run_id) jobs) AS counted
     FROM carillon.outbound_call_runs r WHERE r.run_id = $1`,
    [run_id],
  );
  if (!row) throw new Error('no such run');
  return row;
}

/** The run's counters equal its rows. */
export async function expectRecounted(fixture: Fixture, run_id: RunId): Promise<void> {
  const { kept, counted } = await recount(fixture, run_id);
  expect(kept).toEqual(counted);
}
