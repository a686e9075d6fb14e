import { BusinessId, CarrierAccountId, ListId, type Policy, RunId, type StartRun } from '@carillon/contract';
import {
  claim,
  type ClaimedAttempt,
  createRun,
  defaultLimits,
  type Evidence,
  leaseRuns,
  type Lease,
  type Limits,
  localActor,
  openDatabase,
  pauseRun,
  recordEvidence,
  resumeRun,
  systemClock,
} from '@carillon/engine';
import pg from 'pg';
import { createTestDatabase } from '../../../../test/support/database.ts';
import { audit, type AuditOptions, type AuditReport } from '../../src/index.ts';

const WORKER = 'worker-1';
const actor = localActor('test');

export interface Tenant {
  business_id: BusinessId;
  carrier_account_id: CarrierAccountId;
  list_id: ListId;
}
export interface AuditedRun extends Tenant {
  run_id: RunId;
}

const id = (row: { id: string } | undefined) => Number(row?.id);

/**
 * A database in which the engine itself works, call by call, and in which everything can be broken by hand afterwards:
 * rows are written as the superuser, past every wall.
 */
export async function createWorld() {
  const database = await createTestDatabase();
  const db = openDatabase({ app_url: database.appUrl, discovery_url: database.discoveryUrl });
  const superuser = new pg.Pool({ connectionString: database.superuserUrl, max: 2 });
  superuser.on('error', () => {});
  const limits: Limits = { ...defaultLimits };
  const rows = async <Row extends pg.QueryResultRow>(sql: string, params: unknown[] = []): Promise<Row[]> =>
    (await superuser.query<Row>(sql, params)).rows;

  async function tenant(options: { leads?: number; lines?: number; calls_per_second?: number } = {}): Promise<Tenant> {
    const { leads = 10, lines = 100, calls_per_second = 1_000 } = options;
    const made = async (sql: string, params: unknown[]) => id((await rows<{ id: string }>(sql, params))[0]);
    const business = await made(
      "INSERT INTO carillon.businesses (name) VALUES ('A business') RETURNING business_id AS id",
      [],
    );
    const account = await made(
      `INSERT INTO carillon.carrier_accounts (business_id, name, driver, base_url, account_sid, auth_token_sealed,
         from_numbers) VALUES ($1, 'main', 'fake', 'http://127.0.0.1:1', $2, '\\x00', '{+97231110000}')
       RETURNING carrier_account_id AS id`,
      [business, `AC${business}`],
    );
    await rows(
      `INSERT INTO carillon.lanes (business_id, carrier_account_id, concurrency_limit, calls_per_second)
       VALUES ($1, $2, $3, $4)`,
      [business, account, lines, calls_per_second],
    );
    const list = await made(
      "INSERT INTO carillon.lists (business_id, name, leads) VALUES ($1, 'a list', $2) RETURNING list_id AS id",
      [business, leads],
    );
    await rows(
      `WITH people AS (
         INSERT INTO carillon.leads (business_id, phone)
         SELECT $1, '+9725' || lpad(($2::bigint * 100000 + n)::text, 10, '0') FROM generate_series(1, $3::int) n
         RETURNING lead_id)
       INSERT INTO carillon.list_members (business_id, list_id, position, lead_id)
       SELECT $1, $2, row_number() OVER (ORDER BY lead_id), lead_id FROM people`,
      [business, list, leads],
    );
    return {
      business_id: BusinessId.parse(business),
      carrier_account_id: CarrierAccountId.parse(account),
      list_id: ListId.parse(list),
    };
  }

  async function run(of: Tenant, request: Partial<StartRun> = {}): Promise<AuditedRun> {
    const made = await createRun(db, of.business_id, { list_id: of.list_id, ...request }, { actor, limits });
    return { ...of, run_id: RunId.parse(made.run.run_id) };
  }

  async function lease({ run_id }: AuditedRun): Promise<Lease> {
    const { taken } = await leaseRuns(db, WORKER, 0, limits, (error) => {
      throw error;
    });
    const mine = taken.find((one) => one.run_id === run_id);
    if (!mine) throw new Error(`run ${run_id} was not leased`);
    return mine;
  }

  /** Claims until `wanted` attempts are committed. */
  async function call(mine: Lease, wanted: number): Promise<ClaimedAttempt[]> {
    const attempts: ClaimedAttempt[] = [];
    while (attempts.length < wanted) {
      const got = await claim(db, mine, WORKER, systemClock, {
        ...limits,
        claim_batch_attempts: wanted - attempts.length,
      });
      if (got.state === 'lost' || (got.attempts.length === 0 && got.state === 'idle'))
        throw new Error(`${attempts.length} of ${wanted} attempts could be had: ${got.state}`);
      attempts.push(...got.attempts);
    }
    return attempts;
  }

  async function tell(attempt: ClaimedAttempt | undefined, ...evidence: Evidence[]): Promise<void> {
    if (!attempt) throw new Error('no such attempt');
    for (const one of evidence)
      await recordEvidence(db, attempt.business_id, attempt.run_id, [{ key: attempt, evidence: one, actor }], limits);
  }

  /** Nobody can say what became of it. */
  async function giveUp(attempt: ClaimedAttempt | undefined): Promise<void> {
    const [open] = await rows<{ heard_us: string }>('SELECT heard_us FROM carillon.open_attempts WHERE token = $1', [
      attempt?.token,
    ]);
    await tell(attempt, { kind: 'review', cause: 'lost', heard_us: Number(open?.heard_us) });
  }

  return {
    ...database,
    db,
    rows,
    limits,
    giveUp,
    tenant,
    run,
    lease,
    call,
    tell,
    pause: async (of: AuditedRun) => await pauseRun(db, of.business_id, of.run_id, 'drain', actor),
    resume: async (of: AuditedRun) => await resumeRun(db, of.business_id, of.run_id, limits, actor),

    async audit(options: Partial<AuditOptions> = {}): Promise<AuditReport> {
      return await audit({ app_url: database.appUrl, discovery_url: database.discoveryUrl, limits, ...options });
    },

    /** Takes away every constraint and index, so that anything can be written. Nothing works on it any more. */
    async unlock(): Promise<void> {
      const constraints = await rows<{ statement: string }>(
        `SELECT format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', conrelid::regclass, conname) AS statement
         FROM pg_constraint WHERE connamespace = 'carillon'::regnamespace AND contype IN ('c', 'f', 'u', 'p')
         ORDER BY contype = 'p'`,
      );
      for (const { statement } of constraints) await rows(statement).catch(alreadyGone);
      const columns = await rows<{ statement: string }>(
        `SELECT format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', attrelid::regclass, attname) AS statement
         FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
         WHERE relnamespace = 'carillon'::regnamespace AND relkind = 'r' AND attnum > 0 AND attnotnull
           AND attidentity = '' AND NOT attisdropped`,
      );
      for (const { statement } of columns) await rows(statement);
    },

    async close() {
      await db.close();
      await superuser.end();
      await database.drop();
    },
  };
}
export type World = Awaited<ReturnType<typeof createWorld>>;

/** Dropped with another one already. */
function alreadyGone(error: unknown): void {
  if (!(error instanceof pg.DatabaseError && error.code === '42704')) throw error;
}

/** The end of a call, as a carrier tells it. */
export function ended(call_id: string, outcome: 'completed' | 'busy' | 'no_answer' | 'failed' | 'cancelled'): Evidence {
  return { kind: 'call', call: { call_id, phase: 'ended', outcome, duration_s: 3, created_at_s: null, cause: null } };
}

export const RETRY: Policy = { retry: { busy: { times: 2, after_s: 0 } }, review_always: false };

/** The jobs of `finishedRun`, by how they went. */
export const JOBS = {
  answered: 1,
  busy_twice: 2,
  no_answer: 3,
  refused: 4,
  absent: 5,
  not_dialed: 6,
  review: 7,
  late: 8,
  plain: 9,
  last: 10,
} as const;

/**
 * A run of ten jobs that is over, with a pause in the middle and everything that can become of an attempt: retried as
 * the policy says, refused, found absent and called again, never dialled, left for review, and taken back by late
 * evidence.
 */
export async function finishedRun(world: World, request: Partial<StartRun> = {}): Promise<AuditedRun> {
  const run = await world.run(await world.tenant(), { policy: RETRY, ...request });
  const call_id = (name: string) => `${name}${run.run_id}`;
  const first = await world.lease(run);
  const of = (attempts: ClaimedAttempt[], job: number) => attempts.find(({ seq }) => (seq as number) === job);
  const early = await world.call(first, 5);
  await world.tell(of(early, 1), { kind: 'accepted', call_id: call_id('A') }, ended(call_id('A'), 'completed'));
  await world.tell(of(early, 2), ended(call_id('B1'), 'busy'));
  await world.tell(of(early, 3), ended(call_id('C'), 'no_answer'));
  await world.tell(of(early, 4), { kind: 'rejected', code: '21211', class: 'contact' });
  await world.tell(of(early, 5), { kind: 'unknown', cause: 'lost' }, { kind: 'absent' });
  await world.pause(run);
  await world.resume(run);
  const second = await world.lease(run);
  // Those that wait come first.
  const late = await world.call(second, 7);
  await world.tell(of(late, 2), ended(call_id('B2'), 'busy'));
  await world.tell(of(late, 5), ended(call_id('E'), 'completed'));
  await world.tell(of(late, 6), { kind: 'not_dialed', cause: 'late', unreachable: false });
  await world.tell(of(late, 7), { kind: 'unknown', cause: 'lost' });
  await world.giveUp(of(late, 7));
  await world.tell(of(late, 8), { kind: 'unknown', cause: 'lost' }, { kind: 'absent' });
  // And it was there all the same.
  await world.tell(of(late, 8), { kind: 'accepted', call_id: call_id('H') }, ended(call_id('H'), 'completed'));
  await world.tell(of(late, 9), ended(call_id('I'), 'completed'));
  await world.tell(of(late, 10), ended(call_id('J'), 'completed'));
  const rest = await world.call(second, 2);
  await world.tell(of(rest, 2), ended(call_id('B3'), 'completed'));
  await world.tell(of(rest, 6), ended(call_id('F'), 'completed'));
  return run;
}

/** A run of ten jobs in the middle of its life: 1 answered, 2 waiting for its retry, 3 and 4 on the line, the rest queued. */
export async function openRun(world: World, request: Partial<StartRun> = {}): Promise<AuditedRun> {
  const policy: Policy = { retry: { busy: { times: 2, after_s: 3_600 } }, review_always: false };
  const run = await world.run(await world.tenant(), { policy, ...request });
  const [one, two, three] = await world.call(await world.lease(run), 4);
  await world.tell(one, ended(`A${run.run_id}`, 'completed'));
  await world.tell(two, ended(`B${run.run_id}`, 'busy'));
  await world.tell(three, { kind: 'accepted', call_id: `C${run.run_id}` });
  return run;
}
