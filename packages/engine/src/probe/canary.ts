import {
  BusinessId,
  CANARY_DRIVER,
  CarrierAccountId,
  type LeadId,
  type ListId,
  type Run,
  type RunId,
  type StoppedRun,
} from '@carillon/contract';
import { type Actor, localActor } from '../actor.ts';
import { createCarrierAccount } from '../business/carrier-accounts.ts';
import { type Database, discover, inBusiness, type Tx } from '../db/database.ts';
import { reserveId } from '../db/reserve-id.ts';
import type { Limits } from '../limits.ts';
import { createRun } from '../run/create.ts';
import { leaseRun } from '../run/lease.ts';
import { stopRun } from '../run/stop.ts';

/**
 * A business made for one check and removed after it, with an account of the driver that calls nobody. Seen by nobody
 * but the check: it has no key, and lists and counts of businesses leave it out.
 */
export interface Canary {
  business_id: BusinessId;
  carrier_account_id: CarrierAccountId;
  list_id: ListId;
  lead_ids: LeadId[];
}

/** Leads of a canary. Their numbers are of the block that is kept free for fiction: +1 202 555 0100 to 0199. */
export const CANARY_LEADS = 20;
/** Calls of a canary live at once, so that the other leads are queued. */
export const CANARY_LINES = 3;

export const READINESS_ACTOR: Actor = localActor('readiness');

/** Makes a canary. `secret_key` seals its account like every other one, so that workers open it with theirs. */
export async function createCanary(db: Database, secret_key: Buffer): Promise<Canary> {
  const business_id = await reserveId(db, 'businesses', 'business_id', BusinessId);
  const people = await inBusiness(db, business_id, (tx) => insertPeople(tx));
  try {
    const { carrier_account_id } = await createCarrierAccount(
      db,
      business_id,
      {
        name: 'canary',
        driver: CANARY_DRIVER,
        base_url: 'canary:',
        account_sid: 'canary',
        auth_token: 'canary',
        from_numbers: ['+12025550199'],
        concurrency_limit: CANARY_LINES,
        calls_per_second: 100,
      },
      secret_key,
      READINESS_ACTOR,
    );
    return { business_id, carrier_account_id: CarrierAccountId.parse(carrier_account_id), ...people };
  } catch (error) {
    await removeCanary(db, business_id);
    throw error;
  }
}

async function insertPeople(tx: Tx): Promise<{ list_id: ListId; lead_ids: LeadId[] }> {
  tx.send("INSERT INTO carillon.businesses (business_id, name, canary) VALUES ($1, 'Readiness canary', true)", [
    tx.business_id,
  ]);
  const leads = await tx.query<{ lead_id: LeadId }>(
    `INSERT INTO carillon.leads (business_id, phone)
     SELECT $1, '+1202555' || lpad((99 + n)::text, 4, '0') FROM generate_series(1, $2::int) n RETURNING lead_id`,
    [tx.business_id, CANARY_LEADS],
  );
  const lead_ids = leads.map(({ lead_id }) => lead_id);
  const [list] = await tx.query<{ list_id: ListId }>(
    "INSERT INTO carillon.lists (business_id, name, leads) VALUES ($1, 'canary', $2) RETURNING list_id",
    [tx.business_id, CANARY_LEADS],
  );
  if (!list) throw new Error('a list was inserted and has no id');
  tx.send(
    `INSERT INTO carillon.list_members (business_id, list_id, position, lead_id)
     SELECT $1, $2, m.position, m.lead_id FROM unnest($3::bigint[]) WITH ORDINALITY AS m (lead_id, position)`,
    [tx.business_id, list.list_id, lead_ids],
  );
  return { list_id: list.list_id, lead_ids };
}

/**
 * Removes a canary with everything in it. False: it was gone already. Throws for any other business (SQLSTATE 42501),
 * which stays.
 */
export async function removeCanary(db: Database, business_id: BusinessId): Promise<boolean> {
  return await inBusiness(db, business_id, async (tx) => {
    const [row] = await tx.query<{ removed: boolean }>('SELECT carillon.remove_canary($1) AS removed', [business_id]);
    return row?.removed === true;
  });
}

/** Canaries that are older than `age_ms`: the checks that made them did not live to remove them. */
export async function findCanaries(db: Database, age_ms: number): Promise<BusinessId[]> {
  const rows = await discover<{ business_id: BusinessId }>(
    db,
    `SELECT business_id FROM carillon.businesses
     WHERE canary AND created_at < now() - $1 * interval '1 ms' ORDER BY business_id LIMIT 100`,
    [age_ms],
  );
  return rows.map(({ business_id }) => business_id);
}

/** A run over the canary's list, which any live worker takes; with `starts_at`, none before then. */
export async function startCanaryRun(db: Database, canary: Canary, limits: Limits, starts_at?: string): Promise<Run> {
  const { list_id, carrier_account_id } = canary;
  const request = { name: 'Readiness canary', list_id, carrier_account_id, concurrency: CANARY_LINES, starts_at };
  return (await createRun(db, canary.business_id, request, { actor: READINESS_ACTOR, limits })).run;
}

/** Stops a canary's run by the verb that the API uses, hanging up what is live. */
export async function stopCanaryRun(db: Database, canary: Canary, run_id: RunId): Promise<StoppedRun> {
  return await stopRun(db, canary.business_id, run_id, 'hang_up', READINESS_ACTOR);
}

/**
 * Leaves a run that starts later as a worker leaves it that died: leased in the name of `worker_id`, the last heartbeat
 * `age_ms` ago. All in one transaction, so that no live worker comes between. Returns the lease's epoch.
 */
export async function plantStaleLease(
  db: Database,
  { business_id }: Canary,
  run_id: RunId,
  worker_id: string,
  age_ms: number,
  limits: Limits,
): Promise<number> {
  return await inBusiness(db, business_id, async (tx) => {
    const key = [business_id, run_id] as const;
    tx.send('UPDATE carillon.outbound_call_runs SET starts_at = NULL WHERE business_id = $1 AND run_id = $2', [...key]);
    const lease = await leaseRun(tx, run_id, worker_id, limits);
    if (!lease) throw new Error('the canary run could not be leased');
    tx.send(
      `UPDATE carillon.outbound_call_runs SET lock_ts = now() - $3 * interval '1 ms'
       WHERE business_id = $1 AND run_id = $2`,
      [...key, age_ms],
      1,
    );
    return lease.lease_epoch;
  });
}

/** What a check looks at while it waits for a canary's run. */
export interface CanaryRun {
  status: string;
  queued: number;
  waiting: number;
  in_progress: number;
  cancelled: number;
  ended: boolean;
  swept: boolean;
  control_epoch: number;
  lease_epoch: number;
  locked_by_worker: string | null;
  reclaim_count: number;
  /** Attempts that were ever committed, and those of the present lease. */
  attempts: number;
  attempts_of_lease: number;
  /** Of the youngest one; microseconds of the database's clock. */
  last_intent_us: number | null;
  /** Jobs that effectively are queued or waiting, by their rows. */
  rows_to_call: number;
  now_us: number;
}

/** Reads the run and its attempts in one snapshot. */
export async function lookAtCanaryRun(db: Database, { business_id }: Canary, run_id: RunId): Promise<CanaryRun> {
  const [row] = await inBusiness(db, business_id, (tx) =>
    tx.query<CanaryRun>(
      `SELECT r.status, r.queued, r.waiting, r.in_progress, r.cancelled, r.ended_at IS NOT NULL AS ended,
              r.swept_seq >= r.total_leads AS swept, r.control_epoch, r.lease_epoch, r.locked_by_worker, r.reclaim_count,
              a.attempts, a.attempts_of_lease, a.last_intent_us,
              (SELECT count(*) FROM carillon.outbound_call_jobs j
               WHERE j.business_id = $1 AND j.run_id = $2 AND j.status IN ('queued', 'waiting')
                 AND r.status NOT IN ('cancelling', 'cancelled', 'failed')) AS rows_to_call,
              (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us
       FROM carillon.outbound_call_runs r
       CROSS JOIN LATERAL (
         SELECT count(*) AS attempts, count(*) FILTER (WHERE lease_epoch = r.lease_epoch) AS attempts_of_lease,
                max(intent_us) AS last_intent_us
         FROM (SELECT lease_epoch, intent_us FROM carillon.open_attempts WHERE business_id = $1 AND run_id = $2
               UNION ALL
               SELECT lease_epoch, intent_us FROM carillon.attempts
               WHERE business_id = $1 AND run_id = $2 AND revision = 0) every) a
       WHERE r.business_id = $1 AND r.run_id = $2`,
      [business_id, run_id],
    ),
  );
  if (!row) throw new Error('the canary run is gone');
  return row;
}
